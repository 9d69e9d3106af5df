"""The sound of a video, carried over into another file."""
import contextlib
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av

from gi.errors import InputError
from gi.media import container, io

# What is copied into which format; mkv takes whatever it can hold.
_COPIED = {
    "mp4": ("aac", "mp3", "ac3", "eac3", "opus", "flac", "alac"),
    "mov": ("aac", "mp3", "ac3", "eac3", "alac", "pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_f32le"),
    "webm": ("opus", "vorbis"),
}
_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)


@contextlib.contextmanager
def carry_sound(source: Path, output: av.container.OutputContainer,
                path: Path) -> Iterator[Callable[[Fraction | None], None]]:
    """Adds all sound tracks of the file `source` to `output`, which becomes `path`, as they are where its format takes
    them. Others become AAC, in webm Opus. A track PyAV has no name for (spatial audio of phones) is left out.

    Gives a function that writes what is to be heard up to a time in seconds; all that is left, if that is None.

    Raises InputError if a track can neither be copied nor converted.
    """
    if not source.is_file():
        yield lambda until: None
        return
    with container.open_file(source) as file:
        streams = [stream for stream in file.streams.audio if stream.codec_context is not None]
        tracks = {stream.index: _add(stream, output, path) for stream in streams}
        packets, waiting = iter(file.demux(streams) if streams else ()), None

        def send(until: Fraction | None) -> None:
            nonlocal waiting
            try:
                while (packet := waiting or next(packets, None)) is not None:
                    waiting = packet
                    if until is not None and packet.dts is not None and packet.dts * packet.time_base > until:
                        return
                    waiting = None
                    output.mux(_converted(packet, *tracks[packet.stream.index]))
                if until is None:
                    for track, copied in tracks.values():
                        output.mux([] if copied else track.encode(None))
            except av.InvalidDataError as error:
                raise InputError(f"{source}: the sound cannot be read: {io.reason(error)}") from error

        yield send


def _add(stream: av.AudioStream, output: av.container.OutputContainer, path: Path) -> tuple[av.AudioStream, bool]:
    """The track of the output, and whether packets are copied into it."""
    name, form = stream.codec.canonical_name, output.format.name
    if name in _COPIED.get(form, output.supported_codecs):
        return output.add_stream_from_template(stream), True
    encoder = "libopus" if form == "webm" else "aac"
    try:
        track = output.add_stream(encoder, rate=stream.rate if encoder == "aac" and stream.rate in _RATES else 48000)
        track.layout = stream.layout.name
        track.codec_context.open()
    except (av.FFmpegError, ValueError) as error:
        hint = "write mkv, which holds any sound"
        raise InputError(f"{path}: cannot turn the sound ({name}) into {encoder}, {hint}") from error
    return track, False


def _converted(packet: av.Packet, track: av.AudioStream, copied: bool) -> list[av.Packet]:
    if not copied:
        return [new for frame in packet.decode() for new in track.encode(frame)]
    if packet.dts is None:  # the empty packet at the end
        return []
    packet.stream = track
    return [packet]
