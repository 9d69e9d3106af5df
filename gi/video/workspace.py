"""The folder in which a job keeps its finished parts: who is using it, and when it may go.

Everyone who works in it holds a shared lock (flock) on its file `lock`, which the system releases when the process
ends, however that happens; only a process that gets the lock for itself alone removes the folder. NFS (from version 4,
or with its lock service) and SMB pass such locks on between machines. Where the system says that there are no locks,
nothing is removed. Windows has no flock, but renames no folder in which a file is open, which comes to the same.
"""
import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, NamedTuple

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

from gi.errors import InputError
from gi.media import io

_LOCK, _DESCRIPTION = "lock", "about.json"


class Leftover(NamedTuple):
    """A folder of another job. busy: some process is working in it."""

    folder: Path
    busy: bool


class Workspace:
    """`folder`, named by the checksum of all that the parts in it depend on.

    description: what the job is, for people who come across the folder; "video" and "out" are absolute paths.
    """

    def __init__(self, folder: Path, description: Mapping[str, str]):
        self.folder, self._description = folder, {**description, "begun": time.strftime("%Y-%m-%d %H:%M:%S")}
        self._lock: IO | None = None
        self._locked = False

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        """While it is entered, no other process removes the folder. What is empty at the end is removed."""
        self._enter()
        try:
            if not (self.folder / _DESCRIPTION).exists():
                with io.atomic_write(self.folder / _DESCRIPTION) as temporary:
                    temporary.write_text(json.dumps(self._description, indent=1), encoding="utf-8")
            yield
        finally:
            if self._lock and not any(
                    path.is_file() and path.suffix != f".{_LOCK}" and path.name not in (_LOCK, _DESCRIPTION)
                    for path in self.folder.rglob("*")):
                self.remove()
            if self._lock:
                self._lock.close()
                self._lock = None

    def remove(self) -> bool:
        """Removes the folder from within `used`, at its end; returns whether nobody else was using it."""
        lock, self._lock = self._lock, None
        try:
            if fcntl is None:
                lock.close()
            elif not self._locked:
                return False
            else:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            away = self.folder.with_suffix(".finished")  # so that nobody enters a folder that is half deleted
            shutil.rmtree(away, ignore_errors=True)  # of a process that was killed here
            self.folder.rename(away)
            shutil.rmtree(away, ignore_errors=True)
        except OSError:  # in use
            return False
        finally:
            lock.close()
        return True

    @contextlib.contextmanager
    def alone(self, name: str, *, wait: bool = False) -> Iterator[None]:
        """A lock for what only one process may do at a time. Raises InputError if another holds it, unless it is to
        `wait`.
        """
        with open(self.folder / f"{name}.{_LOCK}", "a") as lock:
            if fcntl is not None and self._locked:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
                except OSError as error:
                    raise InputError(f"{self.folder / name}: another run is at work on this; start this one again when "
                                     "that has finished it") from error
            yield

    def leftovers(self, keys: Mapping[str, str]) -> list[Leftover]:
        """Folders of other jobs beside this one that agree in one of `keys` of their descriptions."""
        folders = []
        for folder in sorted(self.folder.parent.glob(f"*{self.folder.suffix}")):
            with contextlib.suppress(OSError, ValueError):
                description = json.loads((folder / _DESCRIPTION).read_text(encoding="utf-8"))
                known = description.items() if isinstance(description, dict) else ()
                if folder != self.folder and not keys.items().isdisjoint(known):
                    folders.append(Leftover(folder, _busy(folder)))
        return folders

    def _enter(self):
        while True:
            with io.errors_named(self.folder.parent):
                self.folder.mkdir(parents=True, exist_ok=True)
            try:
                lock = open(self.folder / _LOCK, "a+")  # NFS: to be read for a shared lock, written for another
            except FileNotFoundError:  # removed since
                continue
            try:
                if fcntl is not None:
                    fcntl.flock(lock, fcntl.LOCK_SH)  # waits only while another removes the folder
                self._locked = True
            except OSError:
                self._locked = False
            except BaseException:
                lock.close()
                raise
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(lock.fileno()), os.stat(self.folder / _LOCK)):
                    self._lock = lock
                    return
            lock.close()  # it was that of a folder that is gone


def _busy(folder: Path) -> bool:
    if fcntl is None:
        return False
    try:
        with open(folder / _LOCK, "r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False
