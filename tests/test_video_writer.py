import os
import subprocess
import sys
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

from gi.errors import InputError
from gi.media import io, writer
from gi.media.files import open_video
from gi.media.masks import open_masks
from gi.media.writer import check_output, open_writer
from tests.video_helpers import (
    decoded_sound,
    moving_pictures,
    set_edit,
    set_turn,
    sound_packets,
    stored_frames,
    times_of,
    write_video,
)

UNEVEN = [0, 10, 13, 19, 40, 41, 60, 64, 70, 80, 90, 95]


@pytest.fixture(scope="module")
def pictures():
    return moving_pictures()


@pytest.fixture
def source(tmp_path, pictures):
    write_video(tmp_path / "source.mp4", pictures)
    return open_video(tmp_path / "source.mp4")


@pytest.fixture
def folder(tmp_path, pictures):
    for number, frame in enumerate(pictures):
        io.write_image(tmp_path / "frames" / f"shot_{number}.png", frame)
    return open_video(tmp_path / "frames")


def _copy(path, video, **settings):
    with open_writer(path, video, **settings) as out:
        for frame in video.frames():
            out.write(frame)
    return open_video(path)


def _distance(video, other):
    return np.abs(np.stack(list(video.frames())).astype(int) - np.stack(list(other.frames()))).mean()


@pytest.mark.parametrize("suffix, codec", [("mp4", "h264"), ("m4v", "h264"), ("mov", "h264"), ("mkv", "h264"),
                                           ("webm", "vp9")])
def test_file_like_its_source(tmp_path, pictures, suffix, codec):
    aspect = Fraction(1 if suffix == "webm" else Fraction(16, 11))
    write_video(tmp_path / "a.mp4", pictures, rate=Fraction(30000, 1001), aspect=aspect, matrix=5, full=True)
    video = open_video(tmp_path / "a.mp4")
    copy = _copy(tmp_path / f"b.{suffix}", video, quality=4)
    assert (copy.count, copy.width, copy.height, copy.aspect) == (12, 64, 48, aspect)
    assert abs(copy.rate / video.rate - 1) < 0.02 and copy.colour == video.colour
    assert _distance(copy, video) < 2
    with av.open(str(copy.path)) as file:
        stream = file.streams.video[0]
        next(file.decode(stream))
        context = stream.codec_context
        assert stream.codec.canonical_name == codec and context.pix_fmt in ("yuv420p", "yuvj420p")
        assert (context.color_range, context.colorspace, context.color_primaries, context.color_trc) == (2, 5, 5, 5)


def test_the_same_frames_become_the_same_file(tmp_path):
    """x264 with AVX-512 gave another file every other time."""
    write_video(tmp_path / "clip.mp4", moving_pictures(12), rate=12)
    video, files = open_video(tmp_path / "clip.mp4"), set()
    for number in range(20):
        with open_writer(tmp_path / f"{number}.mp4", video) as output:
            for frame in video.frames():
                output.write(frame)
        files.add((tmp_path / f"{number}.mp4").read_bytes())
    assert len(files) == 1


@pytest.mark.parametrize("width, height, ahead", [(64, 48, 40), (1280, 720, 22), (1920, 1080, 10)])
def test_the_encoder_keeps_fewer_of_larger_frames(tmp_path, width, height, ahead):
    write_video(tmp_path / "clip.mp4", np.full((1, height, width, 3), 90, np.uint8))
    video = open_video(tmp_path / "clip.mp4")
    _copy(tmp_path / "copy.mp4", video)
    assert f"rc_lookahead={ahead} ".encode() in (tmp_path / "copy.mp4").read_bytes()  # x264 notes its settings there


def test_colours_do_not_drift(tmp_path, pictures):
    for settings in ({"matrix": 1}, {"matrix": 5, "tag": False}, {"matrix": 1, "full": True}):
        write_video(tmp_path / "a.mp4", pictures, **settings)
        video = open_video(tmp_path / "a.mp4")
        once = _copy(tmp_path / "b.mp4", video, quality=0)  # the encoder itself loses nothing then
        difference = np.stack(list(once.frames())).astype(int) - np.stack(list(video.frames()))
        assert np.abs(difference).mean() < 0.5 and np.abs(difference.mean(axis=(0, 1, 2))).max() < 0.1
        assert _distance(_copy(tmp_path / "c.mp4", once, quality=0), once) < 0.1


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "webm"])
@pytest.mark.parametrize("start", [0, 100])
def test_times_of_frames_stay(tmp_path, pictures, suffix, start):
    times = [start + time for time in UNEVEN]
    write_video(tmp_path / "a.mkv", pictures, times=times, unit=Fraction(1, 100))
    _copy(tmp_path / f"b.{suffix}", open_video(tmp_path / "a.mkv"))
    assert times_of(tmp_path / f"b.{suffix}") == [Fraction(time, 100) for time in times]


def test_odd_sizes(tmp_path):
    for number, frame in enumerate(moving_pictures(3, 47, 63)):
        io.write_image(tmp_path / "odd" / f"{number}.png", frame)
    video = open_video(tmp_path / "odd")
    for name in ("a.mp4", "a.webm"):
        copy = _copy(tmp_path / name, video, quality=4)
        assert (copy.width, copy.height) == (63, 47) and _distance(copy, video) < 2.5


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize("turn", ["clockwise", "upside_down", "transposed"])
def test_turned_sources_look_the_same(tmp_path, pictures, monkeypatch, turn, new):
    """With a display matrix where PyAV can write one, otherwise stored upright."""
    can = hasattr(av.VideoStream, "set_display_matrix")
    if new and not can:
        pytest.skip("this PyAV cannot write display matrices")
    write_video(tmp_path / "a.mp4", pictures, aspect=Fraction(4, 3))
    set_turn(tmp_path / "a.mp4", turn)
    video = open_video(tmp_path / "a.mp4")
    if not new:
        monkeypatch.setattr(writer, "_CAN_TURN", False)
    for name in ("b.mp4", "b.mov", "b.mkv"):
        copy = _copy(tmp_path / name, video, quality=4)
        assert (copy.width, copy.height, copy.aspect) == (video.width, video.height, video.aspect)
        assert _distance(copy, video) < 2
        stored = stored_frames(tmp_path / name)[0].shape[:2]
        assert stored == ((48, 64) if new or turn == "upside_down" else (64, 48))


@pytest.mark.parametrize("source, target, codec", [
    ("aac.mp4", "mp4", "aac"), ("aac.mp4", "mov", "aac"), ("aac.mp4", "mkv", "aac"), ("aac.mp4", "webm", "opus"),
    ("libopus.webm", "webm", "opus"), ("libopus.webm", "mov", "aac"), ("pcm_s16le.mov", "mp4", "aac"),
    ("pcm_s16le.mov", "mov", "pcm_s16le"), ("flac.mkv", "mp4", "flac"),
])
def test_sound(tmp_path, source, target, codec):
    kind = {"codec": "libvpx-vp9"} if source.endswith("webm") else {}
    write_video(tmp_path / source, moving_pictures(25, 32, 32), sound=source.split(".")[0], **kind)
    _copy(tmp_path / f"out.{target}", open_video(tmp_path / source))
    name, packets = sound_packets(tmp_path / f"out.{target}")
    before, old = sound_packets(tmp_path / source)
    assert name == codec
    if before == codec:
        assert [data for _, data in packets] == [data for _, data in old]
        shift = [new - was for (new, _), (was, _) in zip(packets, old, strict=True)]
        pictures = times_of(tmp_path / f"out.{target}")[0] - times_of(tmp_path / source)[0]
        assert max(abs(time - pictures) for time in shift) <= Fraction(1, 1000)  # in step with the pictures
    tone, truth = decoded_sound(tmp_path / f"out.{target}"), decoded_sound(tmp_path / source)
    assert tone.size == pytest.approx(96000, rel=0.03)
    loudness = [np.abs(sound / np.abs(sound).max()).mean() for sound in (tone.astype(float), truth.astype(float))]
    assert loudness[0] == pytest.approx(loudness[1], rel=0.1)


def test_sound_longer_and_shorter_than_the_pictures(tmp_path):
    for count in (5, 60):
        write_video(tmp_path / "a.mp4", moving_pictures(count, 32, 32), sound="aac")
        _copy(tmp_path / "b.mp4", open_video(tmp_path / "a.mp4"))
        assert sound_packets(tmp_path / "b.mp4") == sound_packets(tmp_path / "a.mp4")


def _deep_video(path, transfer, form="yuv420p10le", full=False):
    """Eight pictures of 10 bits with all values in between those that 8 bits have; their planes."""
    y, x = np.mgrid[:48, :64]
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, form
        context = stream.codec_context
        context.options, context.color_range = {"qp": "0"}, 2 if full else 1
        context.color_trc, context.color_primaries, context.colorspace = transfer, 9, 9
        for number in range(8):
            picture = av.VideoFrame(64, 48, form)
            for plane, values in zip(picture.planes, (200 + 5 * x + 3 * y + number, 480 + x, 530 + y), strict=True):
                rows = np.zeros((plane.height, plane.line_size // 2), np.uint16)
                rows[:, : plane.width] = values[: plane.height, : plane.width]
                plane.update(rows.tobytes())
            picture.pts, picture.time_base = number, Fraction(1, 25)
            file.mux(stream.encode(picture))
        file.mux(stream.encode(None))


def _samples(path):
    """The first planes of each picture, and what the stream says of itself."""
    with av.open(str(path)) as file:
        context = file.streams.video[0].codec_context
        luma = [np.frombuffer(picture.planes[0], np.uint16).reshape(picture.height, -1)[:, : picture.width]
                for picture in file.decode(video=0)]
        return np.stack(luma), (context.pix_fmt, context.color_trc, context.color_primaries, context.colorspace,
                                context.color_range)


@pytest.mark.parametrize("transfer, form, full", [(16, "yuv420p10le", False), (18, "yuv420p10le", True),
                                                  (16, "yuv422p10le", False), (1, "yuv420p10le", False)])
def test_ten_bits_stay_ten_bits(tmp_path, transfer, form, full):
    """Known samples bit for bit in a lossless file; HDR is never written with 8."""
    _deep_video(tmp_path / "a.mkv", transfer, form, full)
    video = open_video(tmp_path / "a.mkv")
    truth, tags = _samples(tmp_path / "a.mkv")
    for suffix in ("mp4", "mov", "mkv"):
        with open_writer(tmp_path / f"b.{suffix}", video, quality=0) as out:
            for frame in video.frames():
                frame[16:32, 20:40] = (90, 60, 50)
                out.write(frame)
        result, same = _samples(tmp_path / f"b.{suffix}")
        assert same == ("yuv420p10le", *tags[1:])
        known = np.ones((48, 64), bool)
        known[16:32, 20:40] = False
        assert np.array_equal(result[:, known], truth[:, known]) and len(np.unique(result[0, known] % 4)) == 4
        filled = np.stack(list(open_video(tmp_path / f"b.{suffix}").frames()))[:, 18:30, 23:37]
        assert np.abs(filled.reshape(-1, 3).mean(0) - (90, 60, 50)).max() < 1
    remarked = [" ".join(writer.remarks(tmp_path / name, video)) for name in ("b.mp4", "b.webm", "b")]
    assert ["8 bits, the rest is kept with 10" in remarked[0], "10 bits become 8" in remarked[1],
            "PQ or HLG" in remarked[2]] == [True, True, transfer > 1]
    if transfer > 1:
        with pytest.raises(InputError, match="HDR needs 10 bits"):
            check_output(tmp_path / "b.webm", video)


@pytest.mark.parametrize("kind", ["rgb16", "rgba16", "grey16", "rgba", "profile"])
def test_frames_keep_depth_transparency_and_profile(tmp_path, kind):
    rng = np.random.default_rng(0)
    deep = kind.endswith("16")
    shape = {"grey16": (20, 30), "rgb16": (20, 30, 3), "profile": (20, 30, 3)}.get(kind, (20, 30, 4))
    pixels = [rng.integers(0, 2**16 if deep else 2**8, shape).astype(np.uint16 if deep else np.uint8) for _ in range(3)]
    (tmp_path / "frames").mkdir()
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for number, frame in enumerate(pixels):
        name = tmp_path / "frames" / f"{number}.png"
        if deep:
            cv2.imwrite(str(name), frame)
        else:
            Image.fromarray(frame).save(name, icc_profile=profile if kind == "profile" else None)
    video = open_video(tmp_path / "frames")
    with open_writer(tmp_path / "out", video) as out:
        for frame in video.frames():
            frame = frame.copy()
            frame[5:10, 5:10] = (200, 100, 50)
            out.write(frame)
    for number, frame in enumerate(pixels):
        name = tmp_path / "out" / f"{number}.png"
        result = cv2.imread(str(name), cv2.IMREAD_UNCHANGED) if deep else np.asarray(Image.open(name))
        known = np.ones(shape[:2], bool)
        known[5:10, 5:10] = False
        assert result.dtype == frame.dtype and np.array_equal(result[known], frame[known])
        colour = {"grey16": [124], "rgb16": [50, 100, 200], "rgba16": [50, 100, 200, 255],
                  "rgba": [200, 100, 50, 255]}.get(kind, [200, 100, 50])
        wanted = np.array(colour) * (257 if deep else 1)
        assert np.abs(result[5:10, 5:10].reshape(25, -1).astype(int) - wanted).max() <= (130 if kind == "grey16" else 0)
        assert Image.open(name).info.get("icc_profile") == (profile if kind == "profile" else None)
    assert "only kept in a folder" in writer.remarks(tmp_path / "out.mp4", video)[0]
    assert not writer.remarks(tmp_path / "out", video)


def test_what_is_lost_is_said(tmp_path, pictures):
    write_video(tmp_path / "a.mp4", pictures, options={"x264-params": "tff=1"})
    write_video(tmp_path / "b.mkv", pictures, codec="ffv1", form="bgra", tag=False)
    (tmp_path / "c.srt").write_text("1\n00:00:00,000 --> 00:00:00,300\nHello\n")
    with av.open(str(tmp_path / "c.mkv"), "w") as file, av.open(str(tmp_path / "c.srt")) as words, \
            av.open(str(tmp_path / "a.mp4")) as film:
        for source in (film.streams.video[0], words.streams[0]):
            stream = file.add_stream_from_template(source)
            source.metadata["to"] = str(stream.index)
        for source, container in ((film.streams.video[0], film), (words.streams[0], words)):
            for packet in container.demux(source):
                if packet.dts is not None:
                    packet.stream = file.streams[int(source.metadata["to"])]
                    file.mux(packet)
    for name, form in ("d.mkv", "gray16le"), ("e.mkv", "gbrp16le"):
        write_video(tmp_path / name, pictures, codec="ffv1", form=form, tag=False)
    write_video(tmp_path / "f.mkv", pictures, codec="ffv1", form="yuv420p12le")
    with av.open(str(tmp_path / "g.mp4"), "w") as file, av.open(str(tmp_path / "a.mp4")) as film:
        stream, cover = file.add_stream_from_template(film.streams.video[0]), file.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 32, 32, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        for packet in film.demux(film.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                file.mux(packet)
        file.mux([*cover.encode(av.VideoFrame(32, 32, "yuvj420p")), *cover.encode(None)])
    words = {"f.mkv": "12 bits become 10", "g.mp4": "not kept: cover pictures",
             "a.mp4": "interlaced", "b.mkv": "transparency", "c.mkv": "subtitles",
             "d.mkv": "16 bits become 8",
             "e.mkv": "16 bits become 8"}
    for name, said in words.items():
        assert said in writer.remarks("out.mp4", open_video(tmp_path / name))[-1]


def _onsets(path) -> list[float]:
    """When the sound of `_clicks` begins again, in seconds after the first picture."""
    with av.open(str(path)) as file:
        blocks = list(file.decode(audio=0))
    loud = [(block.pts * block.time_base + Fraction(int(index), block.sample_rate))
            for block in blocks for index in np.flatnonzero(np.abs(_mono(block)) > 0.2)]
    starts = [time for before, time in zip([-1, *loud], loud, strict=False) if time - before > Fraction(1, 10)]
    return [float(start - times_of(path)[0]) for start in starts]


def _mono(block: av.AudioFrame) -> np.ndarray:
    samples = block.to_ndarray().astype(np.float64)
    samples = samples[0] if block.format.is_planar else samples[0, :: block.layout.nb_channels]
    return samples / (1 if block.format.name.startswith("flt") else 32768)


def _clicks(path, codec, layout, rate=48000, parts=((0, 1),), **kind):
    """A second of pictures with short tones at 0.1, 0.5 and 0.8 s; the sound has these parts, in seconds."""
    time = np.arange(rate) / rate
    tone = sum(((time >= at) & (time < at + 0.03)) * np.sin(6283 * time) for at in (0.1, 0.5, 0.8))
    with av.open(str(path), "w") as file:
        stream = file.add_stream(kind.get("video", "mjpeg"), rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 32, kind.get("form", "yuvj420p")
        sound = file.add_stream(codec, rate=rate)
        sound.layout = layout
        for number, frame in enumerate(moving_pictures(25, 32, 32)):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format=stream.pix_fmt)
            picture.pts, picture.time_base = number, Fraction(1, 25)
            file.mux(stream.encode(picture))
        file.mux(stream.encode(None))
        channels = av.AudioLayout(layout).nb_channels
        samples = np.repeat((20000 * tone).astype(np.int16), channels)[None]
        for start, end in (np.array(part) * rate for part in parts):
            part = np.ascontiguousarray(samples[:, int(start) * channels : int(end) * channels])
            block = av.AudioFrame.from_ndarray(part, format="s16", layout=layout)
            block.sample_rate, block.pts, block.time_base = rate, int(start), Fraction(1, rate)
            file.mux(sound.encode(block))
        file.mux(sound.encode(None))


@pytest.mark.parametrize("suffix", ["mov", "mp4", "mkv"])
def test_sound_after_a_gap_is_not_early(tmp_path, suffix):
    _clicks(tmp_path / "a.mkv", "pcm_s16le", "stereo", parts=((0, 0.2), (0.45, 1)))
    _copy(tmp_path / f"b.{suffix}", open_video(tmp_path / "a.mkv"))
    assert _onsets(tmp_path / f"b.{suffix}") == pytest.approx([0.1, 0.5, 0.8], abs=0.003)


def _gaps(path, frames):
    """A video with four sounds of 0.1 s, every half second."""
    with av.open(str(path), "w") as file:
        picture, sound = file.add_stream("mjpeg", rate=25), file.add_stream("pcm_s16le", rate=8000)
        picture.width, picture.height, picture.pix_fmt, sound.layout = 32, 32, "yuvj420p", "mono"
        for _ in range(frames):
            file.mux(picture.encode(av.VideoFrame(32, 32, "yuvj420p")))
        for number in range(4):
            block = av.AudioFrame.from_ndarray(np.ones((1, 800), np.int16), format="s16", layout="mono")
            block.sample_rate, block.pts, block.time_base = 8000, number * 4000, Fraction(1, 8000)
            file.mux(sound.encode(block))


def test_silence_is_no_longer_than_the_video(tmp_path):
    """Three times a gap of 0.4 s would be filled in a second of pictures."""
    _gaps(tmp_path / "a.mkv", frames=25)
    _copy(tmp_path / "b.mov", open_video(tmp_path / "a.mkv"))
    heard = decoded_sound(tmp_path / "b.mov")[0]
    assert (heard == 1).sum() == 4 * 800 and (heard == 0).sum() == 2 * 3200


def test_gaps_are_bounded_one_by_one(tmp_path, monkeypatch):
    """A recording of hours may pause for longer in all than a gap can be."""
    monkeypatch.setattr("gi.media.sound._Copied.LONGEST", 0.5)
    _gaps(tmp_path / "a.mkv", frames=50)
    _copy(tmp_path / "b.mov", open_video(tmp_path / "a.mkv"))
    assert (decoded_sound(tmp_path / "b.mov")[0] == 0).sum() == 3 * 3200


@pytest.mark.parametrize("layout, channels", [("mono", 1), ("stereo", 2), ("5.1(side)", 6)])
def test_sound_whose_channels_have_no_names(tmp_path, layout, channels):
    """As cameras write it; also a layout that Opus does not know by its name."""
    _clicks(tmp_path / "a.avi", "pcm_s16le", layout)
    video = open_video(tmp_path / "a.avi")
    for suffix in ("mp4", "mov", "mkv", "webm"):
        _copy(tmp_path / f"b.{suffix}", video)
        with av.open(str(tmp_path / f"b.{suffix}")) as file:
            assert file.streams.audio[0].layout.nb_channels == channels
        assert _onsets(tmp_path / f"b.{suffix}") == pytest.approx([0.1, 0.5, 0.8], abs=0.003)


@pytest.mark.parametrize("skip, length, onsets", [(0.3, 0.7, [0.2, 0.5]), (0, 0.6, [0.1, 0.5]), (0.3, 0.4, [0.2])])
def test_sound_that_was_cut_away_stays_away(tmp_path, skip, length, onsets):
    _clicks(tmp_path / "a.mp4", "aac", "mono", video="libx264", form="yuv420p")
    set_edit(tmp_path / "a.mp4", skip, length)
    assert _onsets(tmp_path / "a.mp4") == pytest.approx(onsets, abs=0.03)  # by its own reader
    video = open_video(tmp_path / "a.mp4")
    for suffix in ("mp4", "mov", "mkv", "webm"):
        _copy(tmp_path / f"b.{suffix}", video)
        assert _onsets(tmp_path / f"b.{suffix}") == pytest.approx(_onsets(tmp_path / "a.mp4"), abs=0.01)
        assert 0 <= times_of(tmp_path / f"b.{suffix}")[0] < 0.05


@pytest.mark.parametrize("codec, video, form", [("aac", "libx264", "yuv420p"), ("mp2", "mpeg2video", "yuv420p")])
def test_transport_streams(tmp_path, codec, video, form):
    """They begin at any time of day; results begin at once, pictures and sound in step."""
    _clicks(tmp_path / "a.ts", codec, "stereo", video=video, form=form)
    before = times_of(tmp_path / "a.ts")
    for suffix in ("mp4", "mkv", "webm"):
        _copy(tmp_path / f"b.{suffix}", open_video(tmp_path / "a.ts"))
        times = times_of(tmp_path / f"b.{suffix}")
        assert len(times) == 25 and max(abs(new - times[0] - old + before[0])
                                        for new, old in zip(times, before, strict=True)) < Fraction(1, 500)
        assert times[0] < 0.1 and _onsets(tmp_path / f"b.{suffix}") == pytest.approx([0.1, 0.5, 0.8], abs=0.005)


def test_folder_of_images(tmp_path, source, folder, pictures):
    copy = _copy(tmp_path / "out", folder)
    np.testing.assert_array_equal(list(copy.frames()), pictures)
    assert [file.name for file in copy.files] == [file.name for file in folder.files]
    copy = _copy(tmp_path / "new" / "out", source)
    np.testing.assert_array_equal(list(copy.frames()), list(source.frames()))
    assert [file.name for file in copy.files] == [f"frame_{number:06d}.png" for number in range(12)]
    io.write_image(tmp_path / "frames" / "SHOT_3.bmp", pictures[0])
    copy = _copy(tmp_path / "numbered", open_video(tmp_path / "frames"))
    assert copy.count == 13 and copy.files[0].name == "frame_000000.png"
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_folders_of_others_are_left_alone(tmp_path, source, folder):
    (tmp_path / "empty").mkdir()
    _copy(tmp_path / "empty", source)
    _copy(tmp_path / "empty", folder)  # replaces what was written before
    assert sorted(path.name for path in (tmp_path / "empty").glob("*")) == sorted(
        [".written", *(file.name for file in folder.files)])
    (tmp_path / "empty" / "notes.txt").write_text("mine")
    (tmp_path / "other").mkdir()
    io.write_image(tmp_path / "other" / "frame_000000.png", next(source.frames()))
    for name in ("empty", "other"):
        before = sorted((tmp_path / name).iterdir())
        with pytest.raises(InputError, match=name), open_writer(tmp_path / name, source):
            pytest.fail("should be refused before the work")
        assert sorted((tmp_path / name).iterdir()) == before


def test_what_appears_during_the_work_is_kept(tmp_path, source):
    _copy(tmp_path / "out", source)
    with open_writer(tmp_path / "out", source) as out:
        (tmp_path / "out" / "notes.txt").write_text("mine")
        for frame in source.frames():
            out.write(frame)
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine" and open_video(tmp_path / "out").count == 12
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("name", ["old.mp4", "old.webm", "old"])
def test_all_or_nothing(tmp_path, source, name):
    before = _copy(tmp_path / name, source).fingerprint()
    frame = next(source.frames())
    bad = [RuntimeError, KeyboardInterrupt, "short", "long", frame[:-1], frame / 255]
    for trouble in bad:
        with pytest.raises(trouble if isinstance(trouble, type) else InputError) as caught:
            with open_writer(tmp_path / name, source) as out:
                for _ in range(12 if isinstance(trouble, str) and trouble == "long" else 7):
                    out.write(255 - frame)
                if isinstance(trouble, type):
                    raise trouble
                if not isinstance(trouble, str) or trouble == "long":
                    out.write(frame if isinstance(trouble, str) else trouble)
        assert "\n" not in str(caught.value)
        assert open_video(tmp_path / name).fingerprint() == before
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "source.mp4"])


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="limits the size of files as only POSIX can")
def test_full_disk(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (8, 64, 64, 3)).astype(np.uint8)
    for number, frame in enumerate(noise):
        io.write_image(tmp_path / "frames" / f"{number}.png", frame)
    names = ["out.mp4", "out.mkv", "out.webm", "out"]
    program = f"""
import resource
from gi.media.files import open_video
from gi.media.writer import open_writer
video = open_video("frames")
resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))
for name in {names}:
    try:
        with open_writer(name, video) as out:
            for frame in video.frames():
                out.write(frame)
    except OSError as error:
        print(error)
"""
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=os.environ | {"PYTHONPATH": root},
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    for name, line in zip(names, done.stdout.splitlines(), strict=True):
        assert line.startswith((f"{name}:", f"{tmp_path / name}:")) and ("too large" in line or "arrived" in line)
    assert [path.name for path in tmp_path.iterdir()] == ["frames"]


def test_refused_before_the_work(tmp_path, source, folder, monkeypatch):
    io.write_image(tmp_path / "mask.png", np.ones((48, 64), np.uint8) * 255)
    masks = open_masks(tmp_path / "mask.png", source)
    os.link(source.path, tmp_path / "linked.mp4")
    (tmp_path / "taken.mp4").mkdir()
    (tmp_path / "file").write_text("mine")
    for name, video in (("source.mp4", source), ("linked.mp4", source), ("frames", folder), ("frames/out", folder),
                        ("frames/sub/out.mp4", folder), ("out.avi", source), ("out.gif", source), ("out.png", source),
                        ("mask.png", source), ("taken.mp4", source), ("file", source), ("../" * 99, source)):
        with pytest.raises(InputError) as caught:
            check_output(tmp_path / name, video, masks)
        assert "\n" not in str(caught.value)
    for suffix in ("m2ts", "mts", "mxf", "mpg", "tiff", "jfif", "heic", "y4m", "TS"):
        with pytest.raises(InputError, match=f"cannot write .{suffix.lower()}, expected .mp4, .m4v"):
            check_output(tmp_path / f"new.{suffix}", source)
    for quality in (-1, 52):
        with pytest.raises(InputError, match="quality"), open_writer(tmp_path / "out.mp4", source, quality=quality):
            pass
    write_video(tmp_path / "wide.mp4", list(source.frames()), aspect=Fraction(4, 3))
    with pytest.raises(InputError, match="webm cannot keep"):
        check_output(tmp_path / "out.webm", open_video(tmp_path / "wide.mp4"))
    for name in ("v1.5", "clip.v2", "clip.final", "clip.old"):
        check_output(tmp_path / name, source, masks)

    def missing(name, mode):
        raise av.codec.codec.UnknownCodecError(name)

    monkeypatch.setattr(av.codec, "Codec", missing)
    with pytest.raises(InputError, match="lacks the encoder libx264"):
        check_output(tmp_path / "out.mp4", source)
    check_output(tmp_path / "out", source)


@pytest.mark.parametrize("ending", ["mkv", "mp4", "webm"])
def test_languages_and_roles_of_sound_are_kept(ending, tmp_path):
    roles = av.stream.Disposition.comment, av.stream.Disposition.default
    with av.open(str(tmp_path / "in.mkv"), "w") as file:
        picture = file.add_stream("libx264", rate=25)
        picture.width, picture.height, picture.pix_fmt = 32, 32, "yuv420p"
        tracks = [file.add_stream("aac", rate=48000) for _ in range(2)]
        for track, language, role in zip(tracks, ("eng", "fra"), roles, strict=True):
            track.layout, track.metadata["language"] = "mono", language
            if hasattr(av.VideoStream, "set_display_matrix"):  # PyAV 18
                track.disposition = role
        file.mux(picture.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")))
        file.mux(picture.encode(None))
        for track in tracks:
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            silence.sample_rate, silence.pts = 48000, 0
            file.mux([*track.encode(silence), *track.encode(None)])
    with open_writer(tmp_path / f"out.{ending}", open_video(tmp_path / "in.mkv")) as out:
        out.write(np.zeros((32, 32, 3), np.uint8))
    with av.open(str(tmp_path / f"out.{ending}")) as file:
        assert [track.metadata.get("language") for track in file.streams.audio] == ["eng", "fra"]
        if hasattr(av.VideoStream, "set_display_matrix"):
            assert [track.disposition & av.stream.Disposition.default for track in file.streams.audio] == [0, 1]
