"""Tiny videos for tests, made with PyAV directly."""
import struct
from fractions import Fraction

import av
import cv2
import numpy as np

from gi.media import io
from gi.media.files import open_video
from gi.media.masks import open_masks
from gi.video.job import VideoJob

# The nine numbers of display matrices: (a, b, c, d) of shown x = a x + c y, shown y = b x + d y.
TURNS = {
    "clockwise": (0, 1, -1, 0),
    "upside_down": (-1, 0, 0, -1),
    "counterclockwise": (0, -1, 1, 0),
    "mirrored": (-1, 0, 0, 1),
    "flipped": (1, 0, 0, -1),
    "transposed": (0, 1, 1, 0),
}


def matrix_of(turn: str) -> list[int]:
    a, b, c, d = (number << 16 for number in TURNS[turn])
    return [a, b, 0, c, d, 0, 0, 0, 1 << 30]


def moving_pictures(count: int = 12, height: int = 48, width: int = 64) -> np.ndarray:
    """uint8 (count, H, W, 3): smooth colours that move, with a top left corner unlike the others."""
    y, x = np.mgrid[:height, :width] / 1.0
    frames = []
    for number in range(count):
        red = 128 + 90 * np.sin((x + 3 * number) / 9)
        green = 128 + 90 * np.cos((y - 2 * number) / 11)
        frame = np.stack([red, green, 90 + 6 * number + 0 * x], axis=-1)
        frame[: height // 4, : width // 4] = (230, 60, 60)
        frames.append(cv2.GaussianBlur(frame, (0, 0), 1.5))
    return np.clip(np.round(frames), 0, 255).astype(np.uint8)


def write_video(path, frames, *, codec="libx264", form="yuv420p", rate=25, times=None, unit=None, aspect=None,
                matrix=1, full=False, tag=True, sound=None, options=None, container=None):
    """times: of the frames, in `unit` seconds. matrix: 1 is BT.709, 5 BT.601. sound: codec of one second of a tone."""
    rate = Fraction(rate)
    unit = unit or 1 / rate
    with av.open(str(path), "w", format=container) as file:
        stream = file.add_stream(codec, rate=rate)
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], form
        context = stream.codec_context
        context.options = options or ({"crf": "4", "bf": "2", "g": "6"} if codec == "libx264" else {})
        context.time_base = stream.time_base = unit
        if aspect:
            context.sample_aspect_ratio = aspect
        if tag:
            context.colorspace, context.color_primaries, context.color_trc = matrix, matrix, matrix
            context.color_range = 2 if full else 1
        if sound:
            audio = file.add_stream(sound, rate=48000)
            audio.layout = "stereo"
        for number, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24").reformat(
                format=form, src_colorspace=matrix, dst_colorspace=matrix, src_color_range=2,
                dst_color_range=2 if full else 1, interpolation=0x4 | 0x2000 | 0x4000 | 0x40000)
            picture.pts, picture.time_base = (times[number] if times else number), unit
            if tag:
                picture.colorspace, picture.color_range = matrix, 2 if full else 1
            file.mux(stream.encode(picture))
        file.mux(stream.encode(None))
        if sound:
            tone = (8000 * np.sin(np.arange(48000) * 0.05)).astype(np.int16)
            for start in range(0, 48000, 960):
                block = av.AudioFrame.from_ndarray(np.repeat(tone[start : start + 960], 2)[None], format="s16",
                                                   layout="stereo")
                block.sample_rate, block.pts, block.time_base = 48000, start, Fraction(1, 48000)
                file.mux(audio.encode(block))
            file.mux(audio.encode(None))


def set_turn(path, turn: str) -> None:
    """Writes a display matrix into the header of the first track of an mp4 or mov file."""
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 4 + 40  # behind times, number, duration, layer and volume (version 0)
    assert struct.unpack_from(">9i", data, start)[0] == 1 << 16
    struct.pack_into(">9i", data, start, *matrix_of(turn))
    path.write_bytes(data)


def set_edit(path, skip: float, length: float) -> None:
    """Makes the edit lists of all tracks of an mp4 file show `length` seconds after the first `skip` seconds."""
    data, at = bytearray(path.read_bytes()), 0
    while (at := data.find(b"elst", at + 1)) > 0:
        header = data.index(b"mdhd", at)  # of the same track
        scale, = struct.unpack_from(">I", data, header + 16)
        start, = struct.unpack_from(">i", data, at + 16)
        struct.pack_into(">Ii", data, at + 12, round(length * 1000), start + round(skip * scale))
    path.write_bytes(data)


def cut_at_keyframe(source, target, number: int) -> None:
    """Copies the packets of the pictures from keyframe `number` on, as players' cutting tools do."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        keyframes = 0
        for packet in old.demux(video=0):
            keyframes += packet.is_keyframe
            if keyframes > number and packet.dts is not None:
                packet.stream = stream
                new.mux(packet)


def stored_frames(path) -> list:
    """Pictures in the way PyAV hands them out, not turned."""
    with av.open(str(path)) as file:
        return [picture.to_ndarray(format="rgb24") for picture in file.decode(video=0)]


def packets(path) -> list[bytes]:
    """Of the pictures, in the order of the file."""
    with av.open(str(path)) as file:
        return [bytes(packet) for packet in file.demux(video=0) if packet.size]


def times_of(path) -> list[Fraction]:
    with av.open(str(path)) as file:
        return [picture.pts * picture.time_base for picture in file.decode(video=0)]


def sound_packets(path) -> tuple[str, list[tuple[Fraction, bytes]]]:
    with av.open(str(path)) as file:
        stream = file.streams.audio[0]
        packets = [(p.pts * p.time_base, bytes(p)) for p in file.demux(stream) if p.size]
        return stream.codec.canonical_name, packets


def decoded_sound(path) -> np.ndarray:
    with av.open(str(path)) as file:
        return np.concatenate([block.to_ndarray() for block in file.decode(audio=0)], axis=-1)


def write_folders(root, pairs):
    """`root`/frames and `root`/masks as PNG, of (frame, mask of 0 and 1) pairs; returns root."""
    for number, (frame, mask) in enumerate(pairs):
        io.write_image(root / "frames" / f"{number:05d}.png", frame)
        io.write_image(root / "masks" / f"{number:05d}.png", 255 * mask)
    return root


def pictures(folder, reader=io.read_image):
    """The PNG files of a folder, in order, in one array."""
    return np.stack([reader(path) for path in sorted(folder.glob("*.png"))])


def video_job(method, video, out, masks="masks", **options):
    """Of folders as `write_folders` makes them."""
    source = open_video(video / "frames")
    return VideoJob(method, source, open_masks(video / masks, source, dilate=0), out, **options)
