"""The working folder: all that the page reads and writes lies in it, its own files in gi-app/."""
import contextlib
import os
import re
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex

from gi.app.safety import is_plain, safe_name
from gi.errors import InputError
from gi.media import io

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

OWN = "gi-app"
ID = r"[0-9a-f]{16}"  # of an upload
LISTED = 2000  # entries of a folder at most
SPARE = 200 * 2**20  # bytes that stay free on the disk


class Problem(Exception):
    """An answer other than 200, with the HTTP status and one line for the user."""

    def __init__(self, message: str, status: int = 400):
        super().__init__(message)
        self.status = status


class Folder:
    """A working folder. Raises InputError if it cannot be made or written to, or another server works in it."""

    def __init__(self, path: str | Path):
        self.path, self._lock = Path(path).absolute(), None
        try:
            for name in "uploads", "projects", "jobs":
                (self.path / OWN / name).mkdir(parents=True, exist_ok=True)
            self.path = self.path.resolve()
            self._lock = open(self.own / "lock", "a+")
        except OSError as error:
            raise InputError(f"{path}: cannot be written to: {io.reason(error)}; name another working folder") from None
        parts = [self.own / name for name in ("", "uploads", "projects", "jobs")]
        if any(not part.resolve().is_relative_to(self.path) for part in parts):
            raise InputError(f"{self.own}: is a link that leads out of the working folder")
        for place in (*self.own.glob("*/*"), *self.own.glob("*/*/*")):
            if place.is_symlink():  # made by somebody else, and would redirect what is written there
                raise InputError(f"{place}: is a link, expected none in the page's own folder; delete it")
        if fcntl is not None:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise InputError(f"{path}: another gi app works in this folder; open its page, or name another folder"
                                 ) from None

    @property
    def own(self) -> Path:
        return self.path / OWN

    def close(self) -> None:
        """Releases the lock, so that another server can work here."""
        self._lock.close()

    def resolve(self, relative: str) -> Path:
        """A file or folder of the user's by its path in the working folder. Raises Problem if that leads out of it, by
        '..', a link or any other way, to a hidden file or to the page's own, or if nothing is there.
        """
        try:
            path = self.path if relative in ("", ".") else io.resolve_inside(self.path, relative)
            inside = is_plain(relative) and not path.is_relative_to(self.own.resolve()) and is_plain(
                path.relative_to(self.path).as_posix())
        except (InputError, OSError, ValueError):  # such as a name that is too long
            inside = False
        if not inside:
            raise Problem("this path leads out of the working folder", 403)
        if not path.exists():
            raise Problem(f"{relative}: no such file or folder", 404)
        return path

    def shorten(self, text: str) -> str:
        """A message with the paths in it as the user knows them: those of uploads by their names alone."""
        text = re.sub(re.escape(f"{self.own}{os.sep}") + r"\w+[/\\]\w+[/\\]", "", text)
        text = re.sub(re.escape(f"{self.own}{os.sep}") + r"uploads[/\\]\w+", "the pictures", text)
        return text.replace(f"{self.path}{os.sep}", "")

    def listing(self, relative: str) -> dict:
        """Folders, videos and pictures of a folder; links that lead out of the working folder are left out."""
        folder = self.resolve(relative)
        if not folder.is_dir():
            raise Problem(f"{relative}: is no folder", 404)
        entries: list[dict] = []
        for item in sorted(folder.iterdir(), key=lambda item: item.name.lower()):
            place = item.relative_to(self.path).as_posix()
            with contextlib.suppress(Problem, OSError, UnicodeError):
                self.resolve(place)
                place.encode()
                if kind := kind_of(item):
                    pictures = {"images": count_images(item)} if kind == "folder" else {}
                    entries.append({"name": item.name, "path": place, "kind": kind,
                                    "bytes": item.stat().st_size if kind != "folder" else None, **pictures})
            if len(entries) >= LISTED:
                break
        place = folder.relative_to(self.path).as_posix()
        return {"folder": "" if place == "." else place, "entries": entries,
                "parent": None if place == "." else folder.parent.relative_to(self.path).as_posix().removeprefix(".")}

    def check_links(self, path: Path) -> None:
        """Raises Problem if a folder of pictures holds links that lead out of the working folder."""
        for item in path.iterdir() if path.is_dir() else ():
            if not io.resolved(item).is_relative_to(self.path):
                raise Problem(f"{item.name}: leads out of the working folder", 403)

    def expect_room(self, size: int) -> None:
        """Raises Problem if the disk has not that many bytes, and some to spare."""
        if shutil.disk_usage(self.own).free < size + SPARE:
            raise Problem("the disk of this machine is full", 507)


class Uploads:
    """Files that browsers have sent, a folder each; what is in them is never run."""

    def __init__(self, folder: Folder, limit: int):
        self.folder, self.root, self.limit = folder, folder.own / "uploads", limit
        self._lock = threading.Lock()

    def all(self) -> list[str]:
        """The ids of all uploads."""
        return [place.name for place in self.root.iterdir() if re.fullmatch(ID, place.name)]

    def place(self, upload: str) -> Path:
        """The folder of an upload. Raises Problem if there is none of this name."""
        path = self.root / upload
        if not re.fullmatch(ID, upload) or not path.is_dir():
            raise Problem("there is no such upload", 404)
        return path

    def path(self, upload: str) -> Path:
        """What was uploaded: the only file, or the folder of several."""
        place = self.place(upload)
        files = [item for item in place.iterdir() if item.name[0] != "."]
        if not files:
            raise Problem("this upload is empty", 404)
        return files[0] if len(files) == 1 else place

    def size(self, upload: str) -> int:
        """Bytes that are there already."""
        return sum(item.stat().st_size for item in self.place(upload).iterdir())

    @contextlib.contextmanager
    def receive(self, name: str, into: str | None) -> Iterator[tuple[str, Path, Path]]:
        """Gives the upload's id, a file to write to, and the place it is to be moved to, which no other upload has."""
        upload = into or token_hex(8)
        if into is None:
            (self.root / upload).mkdir()
        place = self.place(upload)
        temporary, name = place / f".{token_hex(4)}.part", safe_name(name)
        final, reserved = place / name, False
        try:
            with self._lock:
                if final.exists():
                    raise Problem(f"{name}: is in this upload already", 409)
                final.touch()
                reserved = True
            yield upload, temporary, final
        except BaseException:
            with contextlib.suppress(OSError):
                if reserved and final.stat().st_size == 0:
                    final.unlink()
            raise
        finally:
            temporary.unlink(missing_ok=True)
            if into is None and not any(place.iterdir()):
                place.rmdir()

    def check(self, upload: str, file: Path) -> dict:
        """A description of an uploaded file for the page. Raises Problem, and deletes the file, unless it can be read
        as a video or picture, by its content, or together with what the upload has as pictures.
        """
        try:
            siblings = [item for item in self.place(upload).iterdir() if item.name[0] != "." and item != file]
            kind = kind_by_content(file)
            if siblings and {kind, kind_by_content(siblings[0])} != {"image"}:
                raise Problem("several files at once can only be pictures, the frames of one video", 415)
        except BaseException:
            file.unlink()
            raise
        return {"upload": upload, "kind": "folder" if siblings else kind, "name": file.name,
                "bytes": self.size(upload), "files": len(siblings) + 1}

    def delete(self, upload: str) -> None:
        """Deletes an upload."""
        shutil.rmtree(self.place(upload), ignore_errors=True)

    def clean(self) -> None:
        """Deletes uploads that no project and no job names, and files that came in part; for the start of a server.

        Records are searched as text, so that uploads named by records that this version cannot read are kept.
        """
        records = [*self.folder.own.glob("projects/*/project.json"), *self.folder.own.glob("jobs/*/job.json")]
        named = "".join(file.read_text(encoding="utf-8", errors="replace") for file in records)
        for upload in self.all():
            if upload not in named:
                self.delete(upload)
        for part in self.root.glob("*/.*.part"):
            part.unlink()


def kind_by_content(path: Path) -> str:
    """The kind of a file by its content, video or image. Raises Problem for anything else."""
    from gi.media import container  # PyAV takes 20 MB, which a page that only lists runs does not need
    with contextlib.suppress(InputError):
        io.read_size(path)
        return "image"
    with contextlib.suppress(InputError), container.opened(path):
        return "video"
    raise Problem(f"{path.name}: this is no video or picture that can be read here", 415)


def kind_of(path: Path) -> str | None:
    """folder, video or image, of files by the suffix; None for anything else."""
    if path.is_dir():
        return "folder"
    suffix = path.suffix.lower() if path.is_file() else ""
    return "video" if suffix in io.VIDEO_SUFFIXES else "image" if suffix in io.SUFFIXES else None


def count_images(folder: Path) -> int:
    """Pictures directly in a folder."""
    with contextlib.suppress(OSError):
        return sum(name.lower().endswith(io.SUFFIXES) for name in os.listdir(folder))
    return 0


def now() -> float:
    """Unix seconds, rounded as they are written."""
    return round(time.time(), 3)
