"""The end of the work, tried at its beginning."""
import copy
import shutil
import tempfile
from pathlib import Path
from typing import Any

from gi.media.source import VideoSource
from gi.media.writer import check_output, is_file, open_writer

_FRAMES = 8


def rehearse(path: Path, video: VideoSource, folder: Path, **options: Any) -> None:
    """Writes the first frames of `video` with all of its sound, as `open_writer` would to `path`, below `folder`, and
    deletes them. `folder` is to be on the file system of `path`.

    Raises what `open_writer` raises (codecs, sound that cannot be written, names that are too long, rights that are
    missing), and OSError where the disk certainly cannot hold the result: images that need more than twice the free
    space by these first ones, or a video whose sound alone fills it.
    """
    check_output(path, video, **options)
    start = copy.copy(video)
    start.count = min(video.count, _FRAMES)
    with tempfile.TemporaryDirectory(prefix="rehearsal-", dir=folder) as place:
        with open_writer(Path(place, path.name), start, **options) as writer:
            for frame in start.frames():
                writer.write(frame)
        size = sum(file.stat().st_size for file in Path(place).rglob("*") if file.is_file())
    needed = size if is_file(path) else size / start.count * video.count / 2
    if (free := shutil.disk_usage(folder).free) < needed:
        needed, free = (f"{size / 2**20:.3g} MiB" for size in (needed, free))
        raise OSError(f"{path}: needs more than {needed}, but the disk has {free} left")
