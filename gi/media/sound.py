"""The sound of a video, carried over into another file."""
import contextlib
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av

from gi.errors import InputError
from gi.media import container, io
from gi.media.source import VideoSource

# Codecs that are copied into a format; mkv takes all that it can hold.
_COPIED = {
    "mp4": ("aac", "mp3", "ac3", "eac3", "opus", "flac", "alac"),
    "mov": ("aac", "mp3", "ac3", "eac3", "alac", "pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_f32le"),
    "webm": ("opus", "vorbis"),
}
_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)


# Codecs whose packets need the one before to be decoded in full.
_OVERLAPPING = ("aac", "mp3", "ac3", "eac3", "opus", "vorbis")


@contextlib.contextmanager
def carry_sound(video: VideoSource, output: av.container.OutputContainer,
                path: Path) -> Iterator[Callable[[Fraction | None], None]]:
    """Adds all sound tracks of the file of `video` to `output`, which becomes `path`, as they are where its format
    takes them. Others become AAC, in webm Opus. A track PyAV has no name for (spatial audio of phones) is left out.

    Yields a function that writes the sound up to a time in seconds, or for None all that is left.

    Raises InputError if a track can neither be copied nor converted.
    """
    source, length = video.path, (video.times[-1] - video.times[0]) * video.time_base + 1 / video.rate
    length = min(length, Fraction(max(_Copied.LONGEST, len(video.times))))  # longer times for so few frames are damage
    if not source.is_file():
        yield lambda until: None
        return
    with container.open_file(source) as file:
        streams = [stream for stream in file.streams.audio if stream.codec_context is not None]
        tracks = {stream.index: _track(stream, output, path, length) for stream in streams}
        packets, waiting, start = iter(file.demux(streams) if streams else ()), None, container.origin(file)

        def send(until: Fraction | None) -> None:
            nonlocal waiting
            try:
                while (packet := waiting or next(packets, None)) is not None:
                    if packet is not waiting and start and packet.dts is not None:
                        shift = round(start / packet.time_base)
                        packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                    waiting = packet
                    if until is not None and packet.dts is not None and packet.dts * packet.time_base > until:
                        return
                    waiting = None
                    for ready in tracks[packet.stream.index].packets(packet):
                        output.mux(ready)
                if until is None:
                    for track in tracks.values():
                        output.mux(track.rest())
            except av.InvalidDataError as error:
                raise InputError(f"{source}: the sound cannot be read: {io.reason(error)}") from error

        yield send


class _Copied:
    """A track copied without decoding. What an edit list hides stays inaudible: at the beginning, mp4 and mov hide it
    again; elsewhere it is left out, except for one packet that the first audible one needs. Gaps in uncompressed sound
    become silence in mov, which counts samples, so that later sound would play early. All silence together is at most
    as long as the video.
    """

    SHORTEST, LONGEST = 0.02, 3600  # seconds of a gap: shorter ones are rounded times, longer ones damage
    FASTEST = 192_000  # samples a second assumed at most when silence is limited

    def __init__(self, stream: av.AudioStream, output: av.container.OutputContainer, length: Fraction):
        self.stream, self._hides = output.add_stream_from_template(stream), output.format.name in ("mp4", "mov")
        name = stream.codec.canonical_name
        self._overlaps = name in _OVERLAPPING
        self._before: list[av.Packet] = []
        self._begun = False
        counted = output.format.name == "mov" and name.startswith("pcm_")
        self._bytes = int(name[5:7]) // 8 * stream.layout.nb_channels if counted else 0  # of a sample, say of pcm_s24le
        self._start, self._samples = Fraction(0), 0
        self._room = round(length * min(stream.rate, self.FASTEST))  # samples of silence, in all gaps together

    def packets(self, packet: av.Packet) -> Iterator[av.Packet]:
        if packet.dts is None:  # the empty packet at the end
            return
        packet.stream = self.stream
        if not packet.is_discard:
            yield from self._before
            if self._bytes:
                yield from self._silence_before(packet)
            yield packet
            self._before, self._begun = [], True
        elif self._hides and not self._begun:
            yield packet
        elif not self._begun:
            self._before = [packet] if self._overlaps else []

    def _silence_before(self, packet):
        """Packets of silence for the gap before `packet`, if there is one; counts its samples."""
        time, rate = packet.dts * packet.time_base, self.stream.rate
        if not self._begun:
            self._start = time
        end = round((time - self._start) * rate)
        longest = min(self._room, self.LONGEST * min(rate, self.FASTEST))
        if self.SHORTEST * rate < end - self._samples <= longest:
            self._room -= end - self._samples
            piece = min(rate, self.FASTEST)
            for first in range(self._samples, end, piece):
                silence = av.Packet(bytes(min(piece, end - first) * self._bytes))
                silence.stream, silence.time_base = self.stream, Fraction(1, rate)
                silence.pts = silence.dts = first + round(self._start * rate)
                yield silence
            self._samples = end
        self._samples += packet.size // self._bytes

    def rest(self) -> list[av.Packet]:
        return []


class _Converted:
    def __init__(self, stream: av.AudioStream, output: av.container.OutputContainer, encoder: str, rate: int,
                 layout: str):
        if _is_unnamed(stream.layout.name):
            stream.codec_context.layout = _usual(stream.layout)
        self.stream = output.add_stream(encoder, rate=rate)
        self.stream.layout = layout
        self.stream.codec_context.open()

    def packets(self, packet: av.Packet) -> list[av.Packet]:
        return [encoded for frame in packet.decode() for encoded in self.stream.encode(frame)]  # type: ignore[arg-type]

    def rest(self) -> list[av.Packet]:
        return self.stream.encode(None)


def _track(stream: av.AudioStream, output: av.container.OutputContainer, path: Path,
           length: Fraction) -> _Copied | _Converted:
    track = _carried(stream, output, path, length)
    if "language" in stream.metadata:
        track.stream.metadata["language"] = stream.metadata["language"]
    with contextlib.suppress(AttributeError):  # PyAV before 18 cannot say which track is the default, forced, a comment
        track.stream.disposition = stream.disposition
    return track


def _carried(stream, output, path, length):
    name, form = stream.codec.canonical_name, output.format.name
    if name in _COPIED.get(form, output.supported_codecs):
        return _Copied(stream, output, length)
    encoder = "libopus" if form == "webm" else "aac"
    rate = stream.rate if encoder == "aac" and stream.rate in _RATES else 48000
    try:
        # Encoders know some layouts only: 5.1 with speakers at the side becomes the usual 5.1, others stereo.
        named = [] if _is_unnamed(stream.layout.name) else [stream.layout.name]
        layouts = [*named, _usual(stream.layout), "stereo"]
        layout = next(layout for layout in layouts if layout == "stereo" or _takes(encoder, rate, layout))
        return _Converted(stream, output, encoder, rate, layout)
    except (av.FFmpegError, ValueError) as error:
        hint = "write mkv, which holds any sound"
        raise InputError(f"{path}: cannot turn the sound ({name}) into {encoder}, {hint}") from error


def _is_unnamed(layout: str) -> bool:
    """Whether a layout has only a number of channels, as in many cameras' files."""
    return not layout or "channel" in layout


def _usual(layout: av.AudioLayout) -> str:
    """FFmpeg's default layout for this number of channels: mono, stereo, 2.1, 4.0, 5.0, 5.1, 6.1, 7.1."""
    try:
        return av.AudioLayout(f"{layout.nb_channels}c").name
    except ValueError:
        return "stereo"


def _takes(encoder: str, rate: int, layout: str) -> bool:
    context = av.CodecContext.create(encoder, "w")
    context.sample_rate, context.format = rate, "fltp" if encoder == "aac" else "flt"
    try:
        context.layout = layout
        context.open()
    except (av.FFmpegError, ValueError):
        return False
    return True
