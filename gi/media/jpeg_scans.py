"""Limits the scans of a JPEG file: decoders pass over the whole picture for each, even if it has only a few bytes."""
import mmap
import re
from pathlib import Path

from PIL.JpegImagePlugin import JpegImageFile

from gi.errors import InputError

MOST = 100  # encoders make 10, or a few more in search of the smallest file
_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")  # those left out belong to the data of a scan
_START, _END, _SCAN, _ALONE = 0xD8, 0xD9, 0xDA, 0x01


def check_scans(image: JpegImageFile, path: str | Path) -> None:
    """Raises InputError, naming the file, if it has more than `MOST` scans. `image`: the same, opened, not decoded."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        scans, position = 0, 0
        while (marker := _MARKER.search(data, position)) and (kind := marker[1][0]) != _END:
            position = marker.end()
            if kind == _SCAN:
                if not image.info.get("progressive") and data[position + 2] == image.layers:
                    return  # all channels are in one scan; decoders read no other
                scans += 1
                if scans > MOST:
                    raise InputError(f"{path}: has more than {MOST} scans, which would take long to decode")
            if kind not in (_START, _ALONE):
                position += int.from_bytes(data[position : position + 2], "big")
