"""Writes a folder of PNG images under a temporary name and renames it when it is complete."""
import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from gi.errors import InputError
from gi.media import io
from gi.media.photos import read_photo, write_photo
from gi.media.source import VideoSource

_LIST = ".written"  # names of the images, so that a later run knows what it may replace


def check_folder(path: Path) -> None:
    """Raises InputError if there is anything but a folder that is empty or has only what `write_folder` wrote."""
    if path.exists() and not path.is_dir():
        raise InputError(f"{path}: this is a file, expected the name of a folder, or of a mp4, mov, mkv or webm file")
    if path.exists() and (foreign := _foreign(path)):
        raise InputError(f"{path}: the folder holds {foreign[0]}, expected an empty folder or a new name")


@contextlib.contextmanager
def write_folder(path: Path, video: VideoSource, _quality: int,
                 workplace: Path | None) -> Iterator[Callable[[int, np.ndarray], None]]:
    """Gives a function that writes frame `number`; what it wrote becomes `path` on leaving without an error."""
    path = path.resolve()  # if it is a link, the folder it points to is replaced
    names = _names(video)
    with _errors_named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        hidden = io.hidden_name(path, f".{secrets.token_hex(4)}.tmp")
        if workplace and workplace.resolve().parent == path.parent:
            hidden = workplace / f"{secrets.token_hex(4)}.tmp"
        hidden.mkdir()
    try:
        def put(number: int, frame: np.ndarray) -> None:
            with _errors_named(path):
                if getattr(video, "rich", False):
                    _write_rich(hidden / names[number], frame, video.files[number])
                else:
                    io.write_image(hidden / names[number], frame)

        yield put
        with _errors_named(path):
            (hidden / _LIST).write_text("".join(f"{name}\n" for name in names), encoding="utf-8",
                                         errors="surrogateescape")
            _put_in_place(hidden, path)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def _write_rich(path: Path, frame: np.ndarray, source: Path) -> None:
    """Pixels that are as `io.read_image` reads them from `source` stay as they are there: depth, alpha, profile."""
    photo = read_photo(source)
    pixels, changed = photo.pixels.copy(), (frame != io.read_image(source)).any(axis=2)
    filled = frame[changed].astype(np.float64)
    if pixels.ndim == 2:
        filled = filled @ (0.299, 0.587, 0.114)
    elif pixels.shape[2] == 4:
        filled = np.column_stack([filled, np.full(len(filled), 255)])  # filled pixels are opaque
    pixels[changed] = np.round(filled * (257 if pixels.dtype == np.uint16 else 1))
    write_photo(path, pixels, photo.profile)


def _put_in_place(hidden: Path, path: Path) -> None:
    backup = hidden.with_name(f".{secrets.token_hex(4)}.old")
    try:
        os.replace(path, backup)
    except FileNotFoundError:
        backup = None
    try:
        os.replace(hidden, path)
    except BaseException as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            _put_in_place(hidden, path)  # another process has just put its result there
        else:
            if backup:
                os.replace(backup, path)
            raise
    if backup:
        try:
            for name in _foreign(backup):  # files added after the check, as the work may have taken hours
                if not (path / name).exists():
                    os.replace(backup / name, path / name)
        finally:
            if _foreign(backup):
                os.replace(backup, io.hidden_name(path, f".{secrets.token_hex(4)}.old"))
            else:
                shutil.rmtree(backup, ignore_errors=True)


def _foreign(path: Path) -> list[str]:
    names = {item.name for item in path.iterdir()}
    try:
        ours = set((path / _LIST).read_text(encoding="utf-8", errors="surrogateescape").splitlines()) | {_LIST}
    except OSError:
        ours = set()
    return sorted(name for name in names if name not in ours or not (path / name).is_file())


def _names(video: VideoSource) -> list[str]:
    names = [f"{file.stem}.png" for file in getattr(video, "files", ())]
    if len({name.lower() for name in names}) < video.count:  # none of its own, or a.jpg beside a.png
        names = [f"frame_{number:06d}.png" for number in range(video.count)]
    return names


@contextlib.contextmanager
def _errors_named(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OSError(f"{path}: cannot write this folder: {error.strerror or error}") from error
