"""Video files through PyAV: an index of their frames, and decoding."""
import contextlib
import itertools
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from gi.errors import InputError
from gi.media import io
from gi.media.sample_tables import check_tables

# No other format is tried: some of FFmpeg's are playlists, which open other files.
_FORMATS = {"format_whitelist": "mov,matroska,avi,mpegts"}
# One packet is one shown frame. Elsewhere (VP8, AVI, transport streams) packets may be invisible, empty or split.
_ONE_TO_ONE = ("h264", "hevc", "vp9", "av1", "libdav1d", "mpeg4", "mjpeg", "prores", "dnxhd", "ffv1", "png", "rawvideo",
               "qtrle", "huffyuv", "ffvhuff", "utvideo", "cfhd", "v210")
MAX_PIXELS = 2**26  # of a frame, 8192 x 8192: a decoder holds several of them
_LOOK = 16  # frames at the beginning that are decoded to check the packets' timestamps


@dataclass(frozen=True)
class Index:
    """times: int64 (count,), timestamps of the frames in the order they are shown. exact: whether frames carry them."""

    times: np.ndarray
    time_base: Fraction
    exact: bool

    def __len__(self) -> int:
        return len(self.times)


def open_file(path: Path) -> av.container.InputContainer:
    """Opens a file of a known format; by its absolute path, since `http:x` alone would not be taken for a file.

    Raises InputError as `check_tables`.
    """
    check_tables(path)
    return av.open(str(path.absolute()), options=_FORMATS)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    """The file and its first video stream that is no cover picture. Raises InputError if none can be decoded."""
    try:
        file = open_file(path)
    except (av.FFmpegError, OSError) as error:
        raise InputError(f"{path}: not a video, or cannot open this one: {io.reason(error)}; expected mp4, mov, mkv, "
                         "webm, avi or ts, or a folder of images") from error
    with file:
        cover = av.stream.Disposition.attached_pic
        stream = next((s for s in file.streams.video if not s.disposition & cover), None)
        if stream is None:
            raise InputError(f"{path}: no video in this file")
        decoder = stream.codec_context
        if decoder is None:
            raise InputError(f"{path}: PyAV cannot decode this kind of video, or its header is damaged")
        if decoder.width * decoder.height > MAX_PIXELS:
            size = f"{decoder.width}x{decoder.height}"
            raise InputError(f"{path}: {size} is more than the allowed {MAX_PIXELS} pixels")
        # Frames may be larger than the header says. Twice as many, as decoders round sides up to whole blocks.
        decoder.options = {"max_pixels": str(2 * MAX_PIXELS)}
        stream.thread_type = "SLICE"  # threads that work on different frames take memory and misplace errors
        yield file, stream


def read_index(path: Path) -> Index:
    """The index of a file, from its packets, or by decoding where these do not suffice. Raises InputError if there is
    no frame, or damage.
    """
    with opened(path) as (file, stream):
        base = Fraction(stream.time_base)
        plain = stream.codec_context.name in _ONE_TO_ONE and file.format.name not in ("avi", "mpegts")
        times: list[int | None] = []
        try:
            for packet in file.demux([stream, *file.streams.audio]):
                if packet.is_corrupt and times:
                    raise InputError(f"{path}: damaged or cut off after {len(times)} frames")
                if packet.stream.index != stream.index or not packet.size:
                    continue
                # What comes after the first keyframe, but is shown before it, needs frames that were cut away.
                plain = (plain and packet.pts is not None and not packet.is_discard
                         and (packet.pts > times[0] if times else packet.is_keyframe))
                times.append(packet.pts)
        except av.FFmpegError as error:
            raise InputError(f"{path}: damaged after {len(times)} frames: {io.reason(error)}") from error
    if plain:
        times.sort()
        plain = _begins(path, times)
    if not plain and times:
        with opened(path) as (file, stream):
            times = [picture.pts for picture in decode(path, file, stream)]
    if not times:
        raise InputError(f"{path}: no frame in this video")
    exact = None not in times and all(before < after for before, after in itertools.pairwise(times))
    return Index(np.array(times if exact else np.arange(len(times)), np.int64), base, exact)


def origin(file: av.container.InputContainer) -> Fraction:
    """The time in seconds that becomes 0: timestamps of transport streams begin anywhere."""
    known = file.format.name == "mpegts" and file.start_time is not None
    return Fraction(file.start_time, av.time_base) if known else Fraction(0)


def _begins(path: Path, times: list[int]) -> bool:
    """Whether the first decoded frames have the timestamps of `times`: two fields may be two packets, for example."""
    with opened(path) as (file, stream):
        try:
            first = [picture.pts for picture in itertools.islice(decode(path, file, stream), _LOOK)]
        except InputError:  # is reported when the frame is read
            return True
    return first == times[:_LOOK]


def decode(path: Path, file: av.container.InputContainer, stream: av.VideoStream,
           index: Index | None = None) -> Iterator[av.VideoFrame]:
    """Decodes from the current position of `file`. A transport stream may begin anywhere: what precedes its first
    decodable picture is skipped. Raises InputError, naming the frame that is damaged.
    """
    done = 0

    def number(time: int | None) -> int:
        known = index and index.exact and time is not None
        return int(np.searchsorted(index.times, time)) if known else done

    def pictures_of(packet: av.Packet) -> list[av.VideoFrame]:
        try:
            return packet.decode()
        except av.InvalidDataError:
            if file.format.name != "mpegts" or done:
                raise
            return []

    time, begun = None, file.format.name != "mpegts"
    try:
        for packet in file.demux(stream):
            begun = begun or packet.is_keyframe
            if not begun:
                continue
            time = packet.pts
            for picture in pictures_of(packet):
                if picture.is_corrupt:
                    raise InputError(f"{path}: frame {number(picture.pts)} is damaged")
                if picture.width * picture.height > MAX_PIXELS:
                    raise InputError(f"{path}: frame {done} has more than the allowed {MAX_PIXELS} pixels")
                yield picture
                done += 1
            time = None
    except av.ArgumentError as error:
        raise InputError(f"{path}: frame {number(time)} cannot be decoded: it is damaged, or has more than the allowed "
                         f"{MAX_PIXELS} pixels") from error
    except av.FFmpegError as error:
        raise InputError(f"{path}: frame {number(time)} cannot be decoded: {io.reason(error)}") from error


def pictures(path: Path, index: Index, first: int) -> Generator[av.VideoFrame, None, None]:
    """The pictures of a file from number `first` to its end, exactly as many as the index promises. Decoding starts at
    the preceding keyframe, if timestamps prove that this leads to the right picture; else at the beginning.
    """
    decoded = _from_keyframe(path, index, first) if first and index.exact else None
    if decoded is None:
        decoded = itertools.islice(_from(path, index), first, None)
    number = first
    for picture in decoded:
        if number == len(index):
            raise InputError(f"{path}: more than the {number} frames its index has")
        if index.exact and picture.pts is not None and picture.pts != index.times[number]:
            raise InputError(f"{path}: frame {number} is missing: another one is decoded in its place")
        yield picture
        number += 1
    if number < len(index):
        raise InputError(f"{path}: frame {number} is missing: {len(index)} frames are in its index")


def _from(path: Path, index: Index, time: int | None = None) -> Iterator[av.VideoFrame]:
    """All pictures from the keyframe at `time` or before it on; from the beginning without one."""
    with opened(path) as (file, stream):
        if time is not None:
            file.seek(time, stream=stream)
        yield from decode(path, file, stream, index)


def _from_keyframe(path: Path, index: Index, first: int) -> Iterator[av.VideoFrame] | None:
    """Pictures from `first` on; None where seeking does not lead there. Pictures shown before a keyframe, but stored
    after it, need the keyframe before that one: the second attempt.
    """
    time = int(index.times[first])
    for earlier in (0, 20):
        decoded = _from(path, index, int(index.times[max(first - earlier, 0)]))
        later = (picture for picture in decoded if picture.pts is None or picture.pts >= time)
        with contextlib.suppress(InputError, av.FFmpegError):  # damage is reported by decoding from the beginning
            picture = next(later, None)
            if picture is not None and picture.pts == time:
                return itertools.chain([picture], later)
        decoded.close()
    return None
