"""Checks how many samples the tables of an mp4 or mov file claim, before FFmpeg allocates memory for them: some 35
bytes for each, while it takes four bytes in the file to claim any number.
"""
import contextlib
import functools
import re
import struct
import zlib
from collections import Counter
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np

from gi.errors import InputError

_OF_BOXES = (b"moov", b"cmov", b"trak", b"edts", b"mdia", b"minf", b"stbl", b"moof", b"traf", b"dinf", b"udta", b"mvex",
             b"wave", b"tref", b"sinf", b"schi", b"ilst")  # containers of other boxes; for FFmpeg, of any
_DEEPEST = 10  # boxes in boxes; FFmpeg goes no further
_WIDTHS = {b"elst": 12, b"stts": 8, b"ctts": 8, b"stsc": 12, b"stco": 4, b"co64": 8}  # bytes of an entry
_TABLES = (*_WIDTHS, b"stsz", b"stz2")
_TABLE, _HANDLER = re.compile(b"|".join(_TABLES)), re.compile(b"(?:.{4})*?hdlr", re.DOTALL)
_ALWAYS_ALLOWED = 2**22  # samples that any file may claim
_LONGEST = 2**26  # bytes of a compressed header
_OF_DATA = {b"alis", b"url ", b"rsrc"}  # handlers that tell where data are, not their kind


class _Track:
    """Numbers of entries of a track's tables, and what else determines how many entries FFmpeg allocates."""

    def __init__(self):
        self.counts: Counter[bytes] = Counter()
        self.handlers: set[bytes] = set()
        self.in_a_chunk, self.every_unit = 0, True

    def take(self, kind: bytes, file: BinaryIO, size: int) -> None:
        """A box, with `file` at its content. Raises ValueError if that claims more entries than `size` bytes hold."""
        head = file.read(16).ljust(16, b"\0")
        _, first, second, third = struct.unpack(">4I", head)
        count = second if kind in (b"stsz", b"stz2") else first
        if count * _WIDTHS.get(kind, 0) > size:
            raise ValueError(f"its table {kind.decode()} claims {count} entries")
        if kind == b"hdlr":
            self.handlers.add(head[8:12])
        elif kind == b"trun":  # of a fragment; counts add up over the fragments
            self.counts[kind] += count
        elif kind in _TABLES:
            self.counts[kind] = max(self.counts[kind], count)
        if kind == b"stts":
            self.every_unit &= count == third == 1
        elif kind == b"stsc":
            entries = (head[8:] + file.read(12 * count))[: 12 * count]
            numbers = np.frombuffer(entries[: len(entries) // 4 * 4], ">u4")  # first chunk, samples in each, kind; …
            self.in_a_chunk = max(self.in_a_chunk, int(numbers[1::3].max(initial=0)))

    @property
    def kept(self) -> int:
        """Entries that FFmpeg allocates: samples times edits. Of sound whose samples are single values, 160 or more
        share one.
        """
        counts = self.counts
        samples = max(counts[b"stsz"], counts[b"stz2"])
        if counts[b"stts"] and self.every_unit and self.handlers - _OF_DATA == {b"soun"} and not counts[b"ctts"]:
            samples = max(samples, self.in_a_chunk * max(counts[b"stco"], counts[b"co64"])) // 160
        return samples * max(1, counts[b"elst"]) + counts[b"trun"]


def check_tables(path: Path) -> None:
    """Raises InputError, naming the file, if a table has more entries, or all tracks together more samples, than the
    file has bytes for. Files of other formats, and unknown boxes, pass.
    """
    facts = path.stat()
    _check(path, facts.st_size, facts.st_mtime_ns)


@functools.lru_cache  # a video is opened many times, and a long one may have a fragment a frame
def _check(path: Path, size: int, changed: int) -> None:
    tracks = [_Track()]
    try:
        with open(path, "rb") as opened:
            for kind, file in _walk(opened, 0, size):
                if kind == b"trak":
                    tracks.append(_Track())
                else:
                    tracks[-1].take(kind, file, size)
        if (samples := sum(track.kept for track in tracks)) > max(_ALWAYS_ALLOWED, size):
            raise ValueError(f"its tables claim {samples} samples")
    except ValueError as error:
        raise InputError(f"{path}: not a video that can be opened: {error}, which {size} bytes cannot hold") from None


def _walk(file: BinaryIO, start: int, end: int, depth: int = 0) -> Iterator[tuple[bytes, BinaryIO]]:
    """The boxes from `start` on, and after each those that are in it, with the file at the content."""
    while start + 8 <= end and depth <= _DEEPEST:
        file.seek(start)
        length, kind = int.from_bytes(file.read(4), "big"), file.read(4)
        if length == 1:
            length = int.from_bytes(file.read(8), "big")
        content, stop = file.tell(), min(start + length, end) if length else end
        if stop < content:
            return
        yield kind, file
        if kind == b"cmvd":
            file.seek(content)
            yield from _compressed(file, stop - content, depth)
        elif kind in _OF_BOXES:
            yield from _walk(file, content, stop, depth + 1)
        elif kind == b"meta":  # with or without a version first: FFmpeg begins with the handler
            file.seek(content)
            handler = _HANDLER.match(file.read(min(stop - content, _LONGEST)))
            yield from _walk(file, content + max(0, handler.end() - 8 if handler else 0), stop, depth + 1)
        elif kind == b"stsd":  # its tables follow fields that depend on the format
            file.seek(content)
            for table in _TABLE.finditer(file.read(min(stop - content, _LONGEST))):
                file.seek(content + table.end())
                yield table[0], file
        start = stop


def _compressed(file: BinaryIO, length: int, depth: int) -> Iterator[tuple[bytes, BinaryIO]]:
    """As `_walk`, for the boxes in the compressed content at `file`."""
    claimed = int.from_bytes(file.read(4), "big")
    if claimed > _LONGEST:
        raise ValueError(f"its compressed header claims {claimed} bytes")
    with contextlib.suppress(zlib.error):  # FFmpeg cannot read it, either
        header = zlib.decompressobj().decompress(file.read(min(length, _LONGEST)), max(1, claimed))
        yield from _walk(BytesIO(header), 0, len(header), depth + 1)
