import contextlib
import shutil
import struct
import tracemalloc
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from gi.errors import InputError
from gi.media import container, io
from gi.media.colour import HD, Colour
from gi.media.files import natural_order, open_video, parse_rate
from tests.video_helpers import (
    TURNS,
    cut_at_keyframe,
    moving_pictures,
    packets,
    set_edit,
    set_turn,
    stored_frames,
    times_of,
    write_video,
)

CODECS = {
    "h264.mp4": {"options": {"crf": "10", "bf": "3", "g": "7", "x264-params": "open-gop=1"}},
    "h264.mkv": {"options": {"crf": "10", "bf": "3", "g": "7"}},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"g": "6", "cpu-used": "8"}},
    "vp8.webm": {"codec": "libvpx", "options": {"g": "6", "auto-alt-ref": "1", "lag-in-frames": "8"}},
    "mpeg4.avi": {"codec": "mpeg4"},
    "mjpeg.mov": {"codec": "mjpeg", "form": "yuvj420p", "full": True},
}


@pytest.fixture(scope="module")
def pictures():
    return moving_pictures()


@pytest.fixture
def folder(tmp_path, pictures):
    for number, frame in enumerate(pictures):
        io.write_image(tmp_path / "frames" / f"frame_{number}.png", frame)
    return tmp_path / "frames"


def _distance(frames, others):
    return np.abs(np.stack(list(frames)).astype(int) - np.stack(list(others))).mean()


@pytest.mark.parametrize("name", CODECS)
def test_every_start_gives_the_same_frames(tmp_path, name):
    write_video(tmp_path / name, moving_pictures(20), **CODECS[name])
    video = open_video(tmp_path / name)
    stored = stored_frames(tmp_path / name)
    frames = list(video.frames())
    assert len(stored) == len(frames) == video.count == 20 and frames[0].dtype == np.uint8
    assert (video.width, video.height, video.rate, video.aspect) == (64, 48, 25, 1)
    for start in range(21):
        np.testing.assert_array_equal(list(video.frames(start, start + 2)), frames[start : start + 2])
    assert len(list(video.frames(15))) == 5
    side, other = video.frames(), video.frames(3)  # at the same time
    np.testing.assert_array_equal([next(side), next(other), next(side)], [frames[0], frames[3], frames[1]])


def test_a_late_start_does_not_decode_from_the_beginning(tmp_path, monkeypatch):
    write_video(tmp_path / "a.mp4", moving_pictures(40), options={"g": "5", "bf": "0"})
    video, decoded = open_video(tmp_path / "a.mp4"), []
    decode = container.decode
    monkeypatch.setattr(container, "decode", lambda *given: (decoded.append(p) or p for p in decode(*given)))
    assert len(list(video.frames(37, 39))) == 2 and len(decoded) < 6


@pytest.mark.parametrize("matrix, full", [(1, False), (1, True), (5, False), (5, True), (9, False)])
@pytest.mark.parametrize("deep", [False, True])
def test_colours_follow_the_standards(matrix, full, deep):
    red, blue = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 9: (0.2627, 0.0593)}[matrix]  # Kr and Kb of the standards
    rgb = np.random.default_rng(0).integers(0, 256, (16, 64, 3)).astype(np.float64)
    luma = red * rgb[..., 0] + (1 - red - blue) * rgb[..., 1] + blue * rgb[..., 2]
    chroma = [(rgb[..., 2] - luma) / (2 - 2 * blue) / 255, (rgb[..., 0] - luma) / (2 - 2 * red) / 255]
    steps = 4 if deep else 1
    if full:
        top = 1023 if deep else 255
        planes = [luma / 255 * top, *(part * top + 128 * steps for part in chroma)]
    else:
        planes = [(16 + luma / 255 * 219) * steps, *((128 + part * 224) * steps for part in chroma)]
    planes = np.round(planes)
    colour = Colour(matrix, full, matrix, matrix, matrix)
    picture = av.VideoFrame(64, 16, "yuv444p10le" if deep else "yuv444p")
    for plane, values in zip(picture.planes, planes, strict=True):
        padded = np.zeros((16, plane.line_size // (1 + deep)), np.uint16 if deep else np.uint8)
        padded[:, :64] = np.minimum(values, 1023 if deep else 255)
        plane.update(padded.tobytes())
    error = colour.to_rgb(picture) - rgb
    assert np.abs(error).max() <= 3 and np.abs(error.mean(axis=(0, 1))).max() < 0.1
    if not deep:
        stored = colour.from_rgb(rgb.astype(np.uint8), "yuv444p").to_ndarray()
        assert np.abs(stored - planes).max() <= 1 and (stored == np.minimum(planes, 255)).mean() > 0.99


@pytest.mark.parametrize("full", [False, True])
def test_colours_stay_when_they_go_through_once_more(pictures, full):
    colour = Colour(1, full, 1, 1, 1)
    once = colour.to_rgb(colour.from_rgb(pictures[0], "yuv420p"))
    again = colour.to_rgb(colour.from_rgb(once, "yuv420p"))
    assert np.abs(again.astype(int) - once).mean() < 0.05 and abs(again.mean() - once.mean()) < 0.02


OPEN = {
    "libx264": {"crf": "10", "x264-params": "keyint=8:min-keyint=8:open-gop=1:bframes=3:b-adapt=0:scenecut=0"},
    "libx265": {"x265-params": "log-level=none:crf=10:keyint=8:min-keyint=8:bframes=3:b-adapt=0:scenecut=0:pools=1"},
}


@pytest.mark.parametrize("form", ["yuv420p", "yuv420p10le"])
def test_colours_take_little_memory(form):
    pixels = np.zeros((1024, 512, 3), np.uint8)
    picture = HD.from_rgb(pixels, form)
    for convert in (lambda: HD.to_rgb(picture), lambda: HD.from_rgb(pixels, form)):
        tracemalloc.start()
        convert()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 16 * 1024 * 512  # bytes


@pytest.mark.parametrize("codec", OPEN)
def test_pictures_that_cannot_be_decoded_are_no_frames(tmp_path, codec):
    """Of streams cut at a keyframe, those shown before it; of transport streams, those before the first keyframe."""
    write_video(tmp_path / "a.mkv", moving_pictures(27), codec=codec, options=OPEN[codec])
    write_video(tmp_path / "a.ts", moving_pictures(27), codec=codec, options=OPEN[codec])
    data = (tmp_path / "a.ts").read_bytes()
    (tmp_path / "cut.ts").write_bytes(data[:3 * 188] + data[len(data) // 564 * 188:])
    for name in ("mkv", "mp4", "mov"):
        cut_at_keyframe(tmp_path / "a.mkv", tmp_path / f"cut.{name}", 1)
    for name, most in (("a.mkv", 27), ("a.ts", 27), ("cut.ts", 26), ("cut.mkv", 19), ("cut.mp4", 19), ("cut.mov", 19)):
        truth = []
        with av.open(str(tmp_path / name)) as file:
            for packet in file.demux(video=0):
                with contextlib.suppress(av.InvalidDataError):
                    truth += [picture.pts * picture.time_base for picture in packet.decode()]
        video = open_video(tmp_path / name)
        frames = list(video.frames())
        assert video.count == len(frames) == len(truth) <= most
        assert [time * video.time_base - video.times[0] * video.time_base for time in video.times] == \
            [time - truth[0] for time in truth]
        for start in (1, 9, video.count - 1):
            np.testing.assert_array_equal(next(video.frames(start)), frames[start])


def test_an_index_that_packets_do_not_tell(tmp_path, monkeypatch):
    """Two packets a picture, as of fields, are seen at the beginning; what differs later is named where it is."""
    write_video(tmp_path / "a.mp4", moving_pictures(20), options={"bf": "0"})
    real = container._begins
    monkeypatch.setattr(container, "_begins", lambda path, times: real(path, sorted(times + [t + 1 for t in times])))
    assert open_video(tmp_path / "a.mp4").count == 20 and not container._begins(tmp_path / "a.mp4", [0])
    video = open_video(tmp_path / "a.mp4")
    video._index.times[17] += 1
    with pytest.raises(InputError, match="a.mp4: frame 17 is missing"):
        list(video.frames())


def test_edit_lists(tmp_path):
    """What they cut away at either end is no frame."""
    write_video(tmp_path / "a.mp4", moving_pictures(25))
    set_edit(tmp_path / "a.mp4", skip=0.2, length=0.6)
    truth = stored_frames(tmp_path / "a.mp4")
    video = open_video(tmp_path / "a.mp4")
    assert video.count == len(truth) == len(list(video.frames())) == 15


def test_colours_of_files(tmp_path, pictures):
    """Also where the file says nothing: small pictures are BT.601."""
    for settings in ({"matrix": 1}, {"matrix": 5}, {"matrix": 5, "tag": False}, {"matrix": 1, "full": True}):
        write_video(tmp_path / "a.mp4", pictures, form="yuv444p", options={"crf": "1"}, **settings)
        assert _distance(open_video(tmp_path / "a.mp4").frames(), pictures) < 1.5
    for form in ("bgr0", "gray"):
        write_video(tmp_path / "a.mkv", pictures, codec="ffv1", form=form, tag=False)
        grey = stored_frames(tmp_path / "a.mkv") if form == "gray" else pictures
        assert _distance(open_video(tmp_path / "a.mkv").frames(), grey) == 0
    ten = {"codec": "libx265", "form": "yuv420p10le", "options": {"x265-params": "log-level=none:crf=4"}}
    write_video(tmp_path / "ten.mp4", pictures, **ten)
    assert _distance(open_video(tmp_path / "ten.mp4").frames(), pictures) < 2


@pytest.mark.parametrize("turn", TURNS)
def test_frames_are_upright(tmp_path, pictures, turn):
    write_video(tmp_path / "a.mp4", pictures, aspect=Fraction(4, 3))
    stored = list(open_video(tmp_path / "a.mp4").frames())
    set_turn(tmp_path / "a.mp4", turn)
    video = open_video(tmp_path / "a.mp4")
    shown = next(video.frames())
    assert shown.flags.c_contiguous and shown.shape[:2] == (video.height, video.width)
    with av.open(str(tmp_path / "a.mp4")) as file:
        degrees = next(file.decode(video=0)).rotation  # counterclockwise, as FFmpeg understands the matrix
    truth = {
        "mirrored": np.fliplr(stored[0]), "flipped": np.flipud(stored[0]), "transposed": stored[0].swapaxes(0, 1)
    }.get(turn, np.rot90(stored[0], round(degrees / 90)))
    np.testing.assert_array_equal(shown, truth)
    assert video.aspect == (Fraction(3, 4) if shown.shape[0] > shown.shape[1] else Fraction(4, 3))


def test_times(tmp_path, pictures):
    times = [5, 15, 18, 24, 45, 46, 65, 69, 75, 85, 95, 100]
    for name in ("a.mp4", "a.mkv"):
        write_video(tmp_path / name, pictures, times=times, unit=Fraction(1, 100))
        video = open_video(tmp_path / name)
        assert [time * video.time_base for time in video.times] == [Fraction(time, 100) for time in times]
        assert times_of(tmp_path / name) == [Fraction(time, 100) for time in times]


def test_folder(folder, pictures):
    (folder / "notes.txt").write_text("no frame")
    (folder / ".hidden.png").write_text("no frame")
    video = open_video(folder)
    assert (video.count, video.width, video.height, video.rate, video.aspect) == (12, 64, 48, 25, 1)
    assert [file.name for file in video.files[:3]] == ["frame_0.png", "frame_1.png", "frame_2.png"]
    np.testing.assert_array_equal(list(video.frames()), pictures)  # frame_10 after frame_9
    np.testing.assert_array_equal(list(video.frames(9, 11)), pictures[9:11])
    names = ["b1", "a_2.png", "a_10.png", "a_02.png", "a.png", "1.png"]
    assert sorted(names, key=natural_order) == ["1.png", "a.png", "a_02.png", "a_2.png", "a_10.png", "b1"]


@pytest.mark.parametrize("text, rate", [("24", 24), ("29.97", Fraction(30000, 1001)), ("12.5", Fraction(25, 2)),
                                        ("23.976", Fraction(24000, 1001)), ("30000/1001", Fraction(30000, 1001))])
def test_rate_of_a_folder(tmp_path, folder, text, rate):
    from gi.media.writer import open_writer
    video = open_video(folder, rate=parse_rate(text))
    with open_writer(tmp_path / "a.mkv", video) as out:
        for frame in video.frames():
            out.write(frame)
    assert video.rate == rate and abs(times_of(tmp_path / "a.mkv")[-1] - 11 / rate) < Fraction(1, 500)
    with pytest.raises(InputError, match="a.mkv: has its own"):
        open_video(tmp_path / "a.mkv", rate=rate)
    assert parse_rate(None) is parse_rate("") is None
    for wrong in ("0", "-5", "a", "nan", "1/0", "1e9", "1e9999999", "²5"):
        with pytest.raises(InputError, match="frames per second"):
            parse_rate(wrong)


def test_folder_of_turned_photographs(tmp_path, pictures):
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ("1.jpg", "2.jpg"):
        Image.fromarray(pictures[0]).save(tmp_path / name, exif=exif)
    video = open_video(tmp_path)
    assert (video.width, video.height) == (48, 64) and next(video.frames()).shape == (64, 48, 3)


def test_fingerprint(tmp_path, folder, pictures):
    """Of the content, in its order, whatever files are called."""
    write_video(tmp_path / "a.mp4", pictures)
    shutil.copy(tmp_path / "a.mp4", tmp_path / "b.mp4")
    first = open_video(tmp_path / "a.mp4").fingerprint()
    assert open_video(tmp_path / "b.mp4").fingerprint() == first
    write_video(tmp_path / "a.mp4", pictures[::-1])
    assert open_video(tmp_path / "a.mp4").fingerprint() != first
    seen = [open_video(folder).fingerprint()]
    for old, new in ("frame_3", "frame_3b"), ("frame_3b", "frame_99"):
        (folder / f"{old}.png").rename(folder / f"{new}.png")
        seen.append(open_video(folder).fingerprint())
    io.write_image(folder / "frame_99.png", pictures[0])
    seen.append(open_video(folder).fingerprint())
    assert seen[0] == seen[1] and len(set(seen)) == 3


def _complaint(path):
    with pytest.raises(InputError) as caught:
        list(open_video(path).frames())
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    return str(caught.value).removeprefix(str(path))


def test_what_is_no_video(tmp_path, folder, pictures):
    assert "no such file" in _complaint(tmp_path / "nowhere.mp4")
    (tmp_path / "empty").mkdir()
    assert "no image" in _complaint(tmp_path / "empty")
    write_video(tmp_path / "real.mp4", pictures)
    playlists = ("#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nreal.mp4\n#EXT-X-ENDLIST\n",
                 "ffconcat version 1.0\nfile real.mp4\n")
    for content in ("", "only text", *playlists):
        (tmp_path / "text.mp4").write_text(content)
        assert "not a video" in _complaint(tmp_path / "text.mp4")
    (tmp_path / "junk.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(range(256)))
    assert "cannot open" in _complaint(tmp_path / "junk.mp4")
    with av.open(str(tmp_path / "sound.mp4"), "w") as file:
        stream = file.add_stream("aac", rate=48000)
        block = av.AudioFrame.from_ndarray(np.zeros((1, 2048), np.int16), format="s16", layout="stereo")
        block.sample_rate = 48000
        file.mux(stream.encode(block))
        file.mux(stream.encode(None))
    assert "no video" in _complaint(tmp_path / "sound.mp4")
    io.write_image(folder / "frame_5.png", pictures[0][:-1])
    with pytest.raises(InputError, match=r"frame_5\.png.*64x47.*expected 64x48 as frame_0\.png"):
        open_video(folder)


def test_huge_frames_are_refused_before_decoding(tmp_path, folder, pictures, monkeypatch):
    write_video(tmp_path / "a.mp4", pictures)
    monkeypatch.setattr(container, "MAX_PIXELS", 64 * 48 - 1)
    monkeypatch.setattr(container, "decode", None)
    assert "64x48 is more than" in _complaint(tmp_path / "a.mp4")


@pytest.mark.parametrize("size, message", [
    ((360, 270), "frame 3 has more than the allowed 76800 pixels"),
    ((640, 480), "frame 3 cannot be decoded: it is damaged, or has more than the allowed 76800 pixels")])
def test_a_frame_that_is_larger_than_the_header_says_is_refused(tmp_path, monkeypatch, size, message):
    *pictures, last = moving_pictures(4, 320, 240)
    with av.open(str(tmp_path / "a.avi"), "w") as file:
        stream = file.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuvj420p"
        for picture in pictures:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        large = tmp_path / "large.jpg"
        Image.fromarray(last).resize(size).save(large)
        packet = av.Packet(large.read_bytes())
        packet.stream, packet.time_base, packet.pts, packet.dts = stream, Fraction(1, 10), 3, 3
        file.mux(packet)
    monkeypatch.setattr(container, "MAX_PIXELS", 320 * 240)
    assert message in _complaint(tmp_path / "a.avi")


def test_the_limit_counts_the_pixels_that_are_shown(tmp_path, monkeypatch):
    write_video(tmp_path / "a.mp4", moving_pictures(6, 62, 46))  # stored as 64x48
    monkeypatch.setattr(container, "MAX_PIXELS", 62 * 46)
    assert len(list(open_video(tmp_path / "a.mp4").frames())) == 6


def test_damage_names_the_frame(tmp_path, folder, pictures):
    h264 = {"options": {"bf": "0", "crf": "4"}}
    for name, settings in {"a.mp4": h264, "a.mkv": h264, "a.mov": CODECS["mjpeg.mov"]}.items():
        path = tmp_path / name
        write_video(path, moving_pictures(20), **settings)
        packet = packets(path)[13]
        damaged = b"\xff" * 4 + packet[4:] if settings is h264 else bytes(len(packet))  # H.264: the length of its data
        assert path.read_bytes().count(packet) == 1
        path.write_bytes(path.read_bytes().replace(packet, damaged))
        video, seen = open_video(path), []
        with pytest.raises(InputError, match=f"{name}: frame 13 "):
            seen.extend(video.frames())
        with pytest.raises(InputError, match=f"{name}: frame 13 "):
            list(video.frames(12))
        assert len(list(video.frames(0, 13))) == 13
    (folder / "frame_7.png").write_bytes((folder / "frame_7.png").read_bytes()[:200])
    with pytest.raises(InputError, match=r"frame_7\.png"):
        list(open_video(folder).frames())


def test_files_that_are_cut_off(tmp_path):
    """A header at the start promises frames that are not there."""
    path = tmp_path / "a.mp4"
    write_video(path, moving_pictures(20))
    data = path.read_bytes()
    moov, mdat = data.index(b"moov") - 4, data.index(b"mdat") - 4
    header = bytearray(data[moov:])
    table = header.index(b"stco") + 8
    count, = struct.unpack_from(">I", header, table)
    for entry in range(count):
        offset, = struct.unpack_from(">I", header, table + 4 + 4 * entry)
        struct.pack_into(">I", header, table + 4 + 4 * entry, offset + len(header))
    early = data[:mdat] + bytes(header) + data[mdat:moov]
    path.write_bytes(early)
    assert len(list(open_video(path).frames())) == 20
    for keep in range(len(data[:mdat]) + len(header) + 9, len(early) - 1, 500):
        path.write_bytes(early[:keep])
        with pytest.raises(InputError, match=r"a\.mp4"):
            open_video(path)
    path.write_bytes(data[: moov + 40])
    with pytest.raises(InputError, match=r"a\.mp4"):
        open_video(path)


def test_count_that_differs_from_what_is_decoded(tmp_path, pictures, monkeypatch):
    write_video(tmp_path / "a.mp4", pictures)
    video = open_video(tmp_path / "a.mp4")
    index = video._index
    video._index = container.Index(np.append(index.times, index.times[-1] + 512), index.time_base, True)
    video.count = 13
    with pytest.raises(InputError, match=r"a\.mp4: frame 12 is missing: 13 frames"):
        list(video.frames())
    video._index, video.count = container.Index(index.times[:-1], index.time_base, True), 11
    with pytest.raises(InputError, match=r"more than the 11 frames"):
        list(video.frames())
