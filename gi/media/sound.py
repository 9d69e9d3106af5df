"""The sound of a video, carried over into another file."""
from fractions import Fraction
from pathlib import Path

import av

from gi.errors import InputError
from gi.media import container

# What is copied into which format; mkv takes whatever it can hold.
_COPIED = {
    "mp4": ("aac", "mp3", "ac3", "eac3", "opus", "flac", "alac"),
    "mov": ("aac", "mp3", "ac3", "eac3", "alac", "pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_f32le"),
    "webm": ("opus", "vorbis"),
}
_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)


class Sound:
    """All sound tracks of the video file `source`, as they are where the format of `output` takes them.

    Others become AAC, in webm Opus. A track PyAV has no name for (spatial audio of phones) is left out.

    Raises:
        InputError: if a track can neither be copied nor converted.
    """

    def __init__(self, source: Path, output: av.container.OutputContainer, path: Path):
        self._source, self._output, self._path = source, output, path
        self._file, self._tracks, self._waiting = None, {}, None
        if not source.is_file():
            return
        self._file = container.open_file(source)
        try:
            for stream in self._file.streams.audio:
                if stream.codec_context is not None:
                    self._tracks[stream.index] = self._add(stream)
        except BaseException:
            self.close()
            raise
        self._packets = self._file.demux([s for s in self._file.streams.audio if s.index in self._tracks])

    def send(self, until: Fraction | None = None) -> None:
        """Writes what is to be heard up to `until`, in seconds; all that is left, if that is None."""
        if not self._tracks:
            return
        try:
            while (packet := self._waiting or next(self._packets, None)) is not None:
                self._waiting = packet
                if until is not None and packet.dts is not None and packet.dts * packet.time_base > until:
                    return
                self._waiting = None
                self._output.mux(self._converted(packet))
            if until is None:
                for track, copied in self._tracks.values():
                    self._output.mux([] if copied else track.encode(None))
        except av.InvalidDataError as error:
            raise InputError(f"{self._source}: the sound cannot be read: {container.reason(error)}") from error

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _add(self, stream: av.AudioStream) -> tuple[av.AudioStream, bool]:
        """The track of the output, and whether packets are copied into it."""
        name, form = stream.codec.canonical_name, self._output.format.name
        if name in _COPIED.get(form, self._output.supported_codecs):
            return self._output.add_stream_from_template(stream), True
        encoder, rate = ("libopus" if form == "webm" else "aac"), 48000
        if encoder == "aac" and stream.rate in _RATES:
            rate = stream.rate
        try:
            track = self._output.add_stream(encoder, rate=rate)
            track.layout = stream.layout.name
            track.codec_context.open()
        except (av.FFmpegError, ValueError) as error:
            hint = "write mkv, which holds any sound"
            raise InputError(f"{self._path}: cannot turn the sound ({name}) into {encoder}, {hint}") from error
        return track, False

    def _converted(self, packet: av.Packet) -> list[av.Packet]:
        track, copied = self._tracks[packet.stream.index]
        if not copied:
            return [new for frame in packet.decode() for new in track.encode(frame)]
        if packet.dts is None:  # the empty packet at the end
            return []
        packet.stream = track
        return [packet]
