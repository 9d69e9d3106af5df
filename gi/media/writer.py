"""Writes a video with the properties of its source, completely or not at all: as a file or as a folder of PNG images.
"""
import contextlib
import mimetypes
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import cv2
import numpy as np
from PIL import Image

from gi.errors import InputError
from gi.media import container, io
from gi.media.bit_depth import keep_samples
from gi.media.frame_folder import check_folder, write_folder
from gi.media.sound import carry_sound
from gi.media.source import VideoSource

QUALITY = 16
# Suffix -> format and encoder. AVI cannot keep times of frames, webm holds no H.264.
_FILES = {
    ".mp4": ("mp4", "libx264"), ".m4v": ("mp4", "libx264"), ".mov": ("mov", "libx264"),
    ".mkv": ("matroska", "libx264"), ".webm": ("webm", "libvpx-vp9"),
}
_OTHER_SUFFIXES = (".heic", ".heif", ".psd", ".dng", ".ogm", ".m2p", ".divx", ".rmvb", ".txt", ".json", ".pdf", ".zip",
                   ".npz")
_AHEAD = 21_000_000  # pixels of the frames that x264 looks ahead at, by default 40: each takes some 4 bytes a pixel
_AVX_512 = 13  # CV_CPU_AVX_512F of OpenCV's interface.h
_CAN_TURN = hasattr(av.VideoStream, "set_display_matrix")  # from PyAV 18 on; before, pictures are stored upright


def is_file(path: Path) -> bool:
    """Whether a video of this name is written as a file; otherwise it is a folder."""
    return path.suffix.lower() in _FILES


class Writer:
    """Takes the frames of a video one by one; see `open_writer`."""

    def __init__(self, path: Path, video: VideoSource, put: Callable[[int, np.ndarray], None]):
        self._path, self._video, self._put = path, video, put
        self.written = 0

    def write(self, frame: np.ndarray) -> None:
        """The next frame, uint8 (H, W, 3) RGB of the video's size, upright.

        Raises InputError if it is something else or one too many, OSError if it cannot be written (a full disk).
        """
        expected = (self._video.height, self._video.width, 3)
        if frame.dtype != np.uint8 or frame.shape != expected:
            raise InputError(f"{self._path}: cannot write {frame.dtype} {frame.shape}, expected uint8 {expected}")
        if self.written == self._video.count:
            raise InputError(f"{self._path}: more than the {self.written} frames of {self._video.path}")
        self._put(self.written, frame)
        self.written += 1


@contextlib.contextmanager
def open_writer(path: str | Path, video: VideoSource, *, quality: int = QUALITY,
                workplace: Path | None = None) -> Iterator[Writer]:
    """`with open_writer("out.mp4", video) as out: out.write(frame)`, once for each frame of `video`.

    A name ending with .mp4, .m4v, .mov or .mkv becomes H.264, .webm VP9, with times of frames, size, pixel aspect,
    rotation, colour matrix and range, and sound of `video`; `quality` is the encoder's constant rate factor, smaller
    is better. Pictures are 4:2:0; H.264 of odd width or height is 4:4:4, and of more than 8 bits has 10. Any other name
    becomes a folder of PNG images named as those of `video`, or frame_000000.png and so on, with the depth, alpha and
    profile of those of `video` where nothing was changed. After an error, also with frames missing, nothing is at
    `path` but what was there before. workplace: a folder beside `path` for what is unfinished, which a killed process
    leaves there; otherwise it has a hidden name beside `path`.

    Raises InputError as `check_output`, and on leaving, if frames are missing; OSError as `Writer.write`.
    """
    path = Path(path)
    check_output(path, video, quality=quality)
    write = _write_file if is_file(path) else write_folder
    with write(path, video, quality, workplace) as put:
        writer = Writer(path, video, put)
        yield writer
        if writer.written != video.count:
            raise InputError(f"{path}: {writer.written} frames were written, {video.path} has {video.count}")


def check_output(path: str | Path, *sources: VideoSource, quality: int = QUALITY) -> None:
    """Checks, before the work, that the first of `sources` can be written to `path`.

    Raises InputError if `path` is one of the sources or inside one, is a folder with files of other origin, has a
    suffix that is not supported, or cannot hold the video; if PyAV lacks the encoder, or the encoder such a `quality`.
    """
    path, suffix = Path(path), Path(path).suffix.lower()
    try:
        path.exists()
    except OSError as error:
        raise InputError(f"{path}: cannot be the name of the output: {io.reason(error)}") from error
    for source in sources:
        target, origin = path.resolve(), source.path.resolve()
        if target == origin or origin in target.parents or io.same_file(path, source.path):
            raise InputError(f"{path}: the output would overwrite the input or be inside it, {source.path}")
    if suffix not in _FILES:
        if _is_of_files(suffix) and not path.is_dir():
            raise InputError(f"{path}: cannot write {suffix}, expected {', '.join(_FILES)} or the name of a folder")
        check_folder(path)
        return
    if path.is_dir():
        raise InputError(f"{path}: this is a folder, expected a name for a video file")
    encoder = _FILES[suffix][1]
    largest = 63 if encoder == "libvpx-vp9" else 51
    if not 0 <= quality <= largest:
        raise InputError(f"{path}: quality {quality} does not exist, expected 0 (best) … {largest}")
    if sources and sources[0].colour.hdr and encoder != "libx264":
        raise InputError(f"{path}: HDR needs 10 bits, which cannot be written as webm here, write mp4, mov or mkv")
    try:
        av.codec.Codec(encoder, "w")
    except (av.FFmpegError, ValueError) as error:
        hint = "install PyAV from its wheels, or write a folder of images"
        raise InputError(f"{path}: this PyAV lacks the encoder {encoder}: {hint}") from error
    if suffix == ".webm" and sources and sources[0].aspect != 1:
        shape = f"{sources[0].aspect.numerator}:{sources[0].aspect.denominator}"
        raise InputError(f"{path}: webm cannot keep pixels of shape {shape} here, write mp4, mov or mkv")


def _is_of_files(suffix: str) -> bool:
    """Whether Pillow, FFmpeg or the registry of MIME types knows this suffix for images, videos or sound. A folder may
    be called `clip.v2`, but `clip.m2ts` is not meant as one.
    """
    kind, _ = mimetypes.guess_type(f"x{suffix}")
    return (suffix in (*io.SUFFIXES, *_OTHER_SUFFIXES) or suffix in Image.registered_extensions()
            or (kind or "").startswith(("image/", "video/", "audio/"))
            or any(suffix[1:] in _extensions(form) for form in av.formats_available))


def _extensions(form: str) -> set[str]:
    """The suffixes, without dot, of a format that FFmpeg writes or reads."""
    suffixes: set[str] = set()
    for mode in "rw":
        with contextlib.suppress(ValueError):
            suffixes |= av.format.ContainerFormat(form, mode).extensions  # type: ignore[arg-type]
    return suffixes


def remarks(path: str | Path, video: VideoSource) -> list[str]:
    """What the result at `path` does not keep of `video`, a line each."""
    lines, file = list(video.remarks), is_file(Path(path))
    if getattr(video, "rich", False) and file:
        lines.append("frames of more than 8 bits, transparency or colour profiles are only kept in a folder")
    if video.colour.bits > 8:
        kept = file and Path(path).suffix.lower() != ".webm"
        fewer = f"{video.colour.bits} bits become 10" if video.colour.bits > 10 else "the rest is kept with 10"
        lines.append(f"holes are filled with 8 bits, {fewer}" if kept else f"{video.colour.bits} bits become 8")
    if video.colour.hdr and not file:
        lines.append("images have HDR values (PQ or HLG), but no tag that says so")
    return [f"{video.path}: {remark}" for remark in lines]


@contextlib.contextmanager
def _write_file(path: Path, video: VideoSource, quality: int,
                workplace: Path | None) -> Iterator[Callable[[int, np.ndarray], None]]:
    kind, encoder = _FILES[path.suffix.lower()]
    with _unfinished(path, workplace) as temporary, _plain_errors(path):
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(av.open(str(temporary.absolute()), "w", format=kind))
            stream, stored = _picture_stream(file, encoder, video, quality)
            send_sound = stack.enter_context(carry_sound(video, file, path))
            form = stream.codec_context.pix_fmt
            deep = video.colour.bits > 8 and form.endswith("10le")
            keep = stack.enter_context(keep_samples(video, form)) if deep else lambda pixels, picture: None
            file.start_encoding()

            def send(packets: list[av.Packet]) -> None:
                for packet in packets:
                    until = packet.dts * packet.time_base  # muxing changes both
                    file.mux(packet)
                    send_sound(until)

            def put(number: int, frame: np.ndarray) -> None:
                pixels = stored(frame)
                picture = video.colour.from_rgb(pixels, form)
                keep(pixels, picture)
                picture.pts, picture.time_base = video.times[number], video.time_base
                with _plain_errors(path):
                    send(stream.encode(picture))

            yield put
            send(stream.encode(None))
            send_sound(None)
        try:  # not every muxer reports that its last bytes did not reach the disk
            frame_count = len(container.read_index(temporary))
        except InputError:
            frame_count = 0
        if frame_count != video.count:
            raise OSError(f"{path}: only {frame_count} of {video.count} frames arrived in the file, is the disk full?")


@contextlib.contextmanager
def _unfinished(path: Path, workplace: Path | None) -> Iterator[Path]:
    """The name of a file that becomes `path` on leaving without an error."""
    if workplace is None:
        with io.atomic_write(path) as temporary:
            yield temporary
        return
    with tempfile.TemporaryDirectory(prefix="result-", dir=workplace) as folder:
        yield (temporary := Path(folder, f"result{path.suffix}"))
        os.replace(temporary, path)


def _picture_stream(file, encoder: str, video: VideoSource, quality: int):
    """The stream, and a function from upright pixels to those it stores."""
    orientation, width, height, aspect = video.orientation, video.width, video.height, video.aspect
    stream = file.add_stream(encoder, rate=video.rate)
    if orientation.matrix and _CAN_TURN:
        stream.set_display_matrix(orientation.matrix)
        stored = orientation.undo
        if orientation.swap:
            width, height, aspect = height, width, 1 / aspect
    else:
        stored = np.asarray
    context = stream.codec_context
    whole = encoder != "libx264" or (width % 2 == 0 and height % 2 == 0)
    depth_suffix = "10le" if encoder == "libx264" and (video.colour.bits > 8 or video.colour.hdr) else ""
    stream.width, stream.height, stream.pix_fmt = width, height, ("yuv420p" if whole else "yuv444p") + depth_suffix
    fast = {"deadline": "good", "cpu-used": "4", "row-mt": "1"} if encoder == "libvpx-vp9" else {}
    lossless = depth_suffix and quality == 0  # H.264's scale reaches below 0 there
    context.options = {"qp": "0"} if lossless else {"crf": str(quality)} | fast
    if encoder == "libx264":
        context.options |= {"rc-lookahead": str(min(40, max(10, _AHEAD // (width * height))))}
        if cv2.checkHardwareSupport(_AVX_512):
            # AVX-512 code (in mbtree) makes files differ in bits from run to run, depending on memory.
            context.options |= {"x264-params": "asm=avx2"}
    context.bit_rate, context.sample_aspect_ratio = 0, aspect
    context.time_base = stream.time_base = video.time_base
    video.colour.label(context)
    return stream, stored


@contextlib.contextmanager
def _plain_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except av.FFmpegError as error:
        raise OSError(f"{path}: cannot write this video: {io.reason(error)}") from error
