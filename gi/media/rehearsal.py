"""A dry run of writing the result, so that its errors show before hours of work."""
import copy
import logging
import shutil
import tempfile
from pathlib import Path
from typing import Any

import av

from gi.media.source import VideoSource
from gi.media.writer import check_output, is_file, open_writer

log = logging.getLogger(__name__)
_FRAMES = 8


def rehearse(path: Path, video: VideoSource, folder: Path, *, reserved: int = 0, **options: Any) -> None:
    """Writes the first frames of `video` with all of its sound, as `open_writer` would to `path`, below `folder`, and
    deletes them. `folder` is to be on the file system of `path`.

    Raises what `open_writer` raises (codecs, sound that cannot be written, names that are too long, rights that are
    missing), and OSError where the disk certainly cannot hold the result: images that need more than twice the free
    space by these first ones, or a video whose sound alone fills it. Where the disk is only likely to be too small, for
    frames that take as much as the first ones and at most `reserved` bytes of other files until then, a warning says
    so.
    """
    check_output(path, video, **options)
    start = copy.copy(video)
    start.count = min(video.count, _FRAMES)
    with tempfile.TemporaryDirectory(prefix="rehearsal-", dir=folder) as place:
        with open_writer(Path(place, path.name), start, **options) as writer:
            for frame in start.frames():
                writer.write(frame)
        size = sum(file.stat().st_size for file in Path(place).rglob("*") if file.is_file())
        pictures = _size_of_pictures(Path(place, path.name)) if is_file(path) else size
    needed = size if is_file(path) else size / start.count * video.count / 2
    if (free := shutil.disk_usage(folder).free) < needed:
        raise OSError(f"{path}: needs more than {_mib(needed)}, but the disk has {_mib(free)} left")
    estimated_size = size + pictures * (video.count / start.count - 1)
    if free < estimated_size + reserved:
        log.warning("%s: may need about %s, and up to %s for chunks until it is written, but the disk has %s left",
                    path, _mib(estimated_size), _mib(reserved), _mib(free))


def _size_of_pictures(path):
    with av.open(str(path)) as file:
        return sum(packet.size for packet in file.demux(video=0))


def _mib(size):
    return f"{size / 2**20:.3g} MiB"
