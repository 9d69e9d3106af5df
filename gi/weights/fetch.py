"""Downloads the weights of helper networks: verified, resumable, from their projects or from a mirror.

Neither `torch.hub` nor pooch resumes a partial download, or stops before the disk is full.
"""
import http.client
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gi.config import load_config
from gi.config.load import plain
from gi.config.schema import find_target, is_node, parameters
from gi.errors import InputError, MissingFile
from gi.weights.files import WeightsFile, check_digest_form, file_sha256
from gi.weights.unpickle import read_checkpoint

MAX_BYTES = 2**31  # no file is near this; a mirror must not fill the disk
ATTEMPTS = 4
TIMEOUT = 30  # seconds without any data

Progress = Callable[[int, int | None], None]


class FetchError(Exception):
    """A file could not be fetched; the message, one line, says why and what to do."""


@dataclass(frozen=True)
class RequiredFile:
    """A file and its destination, relative to the working directory unless absolute."""

    file: WeightsFile
    path: str
    sha256: str | None

    @classmethod
    def at_default(cls, file: WeightsFile) -> "RequiredFile":
        return cls(file, file.path, file.sha256)

    @property
    def missing(self) -> bool:
        """Whether the file is in none of the places where networks look for it."""
        return not (self.file.find() if self.path == self.file.path else Path(self.path)).is_file()


def required_by_config(path: str | Path) -> list[RequiredFile]:
    """The weights files that the networks of a configuration read. Raises InputError, also for a digest in it that
    cannot be one.
    """
    config = plain(load_config(path), str(path))
    return required_by({section: config.get(section) for section in ("model", "data")}, str(path))


def required_by(node: dict, path: str) -> list[RequiredFile]:
    """The same for plain containers with nodes of a configuration; `path` is for messages."""
    required: dict[str, RequiredFile] = {}
    for network, params in _networks(node, path):
        file = network.file_of(params) if hasattr(network, "file_of") else None
        destination = params.get("weights", parameters(network)[0]["weights"][1].default) if file else None
        if destination is None:
            continue
        destination, sha256 = file.path if destination == "torchvision" else str(destination), params.get("sha256")
        if sha256:
            check_digest_form(sha256, destination)
        required.setdefault(destination, RequiredFile(file, destination, sha256 or file.sha256))
    return list(required.values())


def expect_weights(node: dict, path: str) -> None:
    """Raises MissingFile with all files that the networks of `node` lack, if there are several: building the networks
    would name the first one alone.
    """
    missing = [item for item in required_by(node, path) if item.missing]
    if len(missing) > 1:
        files = ", ".join(f"{item.path} ({item.file.name})" for item in missing)
        raise MissingFile(f"{len(missing)} files with weights are missing: {files}; gi fetch --config CONFIG gets "
                          "them, checkpoints/README.md says where they come from")


def _networks(value: Any, path: str) -> Iterator[tuple[Callable, dict]]:
    """Class and params of every node in a configuration, and of those that a node implies."""
    if is_node(value):
        network, params = find_target(value["target"], path), value.get("params") or {}
        yield network, params
        yield from _networks(network.implied(params) if hasattr(network, "implied") else [], path)
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _networks(item, path)


def fetch(
    item: RequiredFile, root: str | Path, *, mirror: str | None = None, progress: Progress = lambda done, total: None
) -> str:
    """Downloads a file to its place below `root`, unless it is there; returns what was done, in a few words.

    A part that was downloaded stays beside it, as `<name>.part`, and the next call goes on from there. Nothing appears
    under its own name before its SHA-256 is right, or, where none is known, before it reads as weights. mirror: a base
    URL or a folder that has the file, under its own name or under its place (checkpoints/…). progress: called with the
    bytes done, and all of them if known. Raises FetchError if the file cannot be had or another one is in its place.
    """
    file, destination = item.file, Path(root) / item.path
    if destination.is_file():
        if reason := _fault(destination, _digest(item, destination.name)):
            raise FetchError(f"{destination}: {reason}; move it away to download it again")
        return f"there already, SHA-256 {file_sha256(destination)}"
    if file.hub and item.path == file.path and file.cached.is_file() and not _fault(file.cached, item.sha256):
        return f"there already, in torch.hub's cache ({file.cached})"
    part = destination.with_name(destination.name + ".part")
    manually = f"name another --mirror, or put the file at {destination} yourself: {file.origin}"
    source = destination.parent
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        for source in _sources(item, mirror):
            expected = _digest(item, str(source).rpartition("/")[2])
            resumed = _size(part) > 0
            if not _get(source, part, progress):
                continue
            while reason := _fault(part, expected):
                part.unlink()
                if not resumed:
                    raise FetchError(f"{source}: {reason}; {manually}")
                resumed = False  # the partial download may have been of another file
                _get(source, part, progress)
            part.replace(destination)
            note = "" if expected else "; its project publishes none, so compare it with one you trust"
            return f"fetched from {source}, SHA-256 {file_sha256(destination)}{note}"
    except OSError as error:
        raise FetchError(f"{source}: {_reason(error)}; run this again to go on, {manually}") from error
    raise FetchError(f"{source}: not there; {manually}")


def _size(part):
    return part.stat().st_size if part.is_file() else 0


def _digest(item: RequiredFile, name: str) -> str | None:
    """The SHA-256 expected of a file of this name; None for an alternative to the one at `url`."""
    alternative = not item.file.only and item.sha256 == item.file.sha256 and name != item.file.url.rpartition("/")[2]
    return None if alternative else item.sha256


def _sources(item: RequiredFile, mirror: str | None) -> list[str | Path]:
    if mirror is None:
        return [item.file.url]
    names = dict.fromkeys([item.file.url.rpartition("/")[2], Path(item.path).name, item.file.path])
    if mirror.startswith(("http://", "https://")):
        return [f"{mirror.rstrip('/')}/{urllib.parse.quote(name)}" for name in names]
    if "://" in mirror or not Path(mirror).is_dir():
        raise InputError(f"--mirror {mirror}: expected an address starting with http:// or https://, or a folder")
    return [Path(mirror) / name for name in names]


def _fault(path: Path, sha256: str | None) -> str | None:
    """What is wrong with a complete file, or None."""
    if sha256:
        digest = file_sha256(path)
        return None if digest.startswith(sha256.lower()) else f"its SHA-256 is {digest}, expected {sha256.lower()}"
    try:
        read_checkpoint(path)
    except InputError:
        return "this is no file with weights"
    return None


class _Redirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, request, answer, code, message, headers, url):
        if request.type == "https" and not url.lower().startswith("https:"):
            raise urllib.error.URLError(f"redirected to {url}, which is not encrypted")
        return super().redirect_request(request, answer, code, message, headers, url)


def _get(source: str | Path, part: Path, progress: Progress) -> bool:
    """Downloads `source` to `part`, continuing a partial download; False if there is no such file."""
    if isinstance(source, Path):
        if source.is_file():
            shutil.copyfile(source, part)
            progress(part.stat().st_size, part.stat().st_size)
        return source.is_file()
    attempt = 0
    while True:
        attempt, before = attempt + 1, _size(part)
        try:
            _download(source, part, before, progress)
            return True
        except OSError as error:
            code = getattr(error, "code", None)  # of an HTTPError
            if code in (404, 410):
                return False
            beyond = code == 416 and before
            if beyond and error.headers.get("Content-Range", "").strip() == f"bytes */{before}":
                return True
            if beyond:
                part.unlink()  # longer than the file, so it is of another one
            if attempt == ATTEMPTS or code and code < 500 and not beyond:
                raise
            if not beyond:
                time.sleep(2**attempt / 4)


def _download(url: str, part: Path, start: int, progress: Progress) -> None:
    headers = {"User-Agent": "gi", "Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    opener = urllib.request.build_opener(_Redirects)  # and the proxies of the environment
    try:
        with opener.open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT) as response:
            if not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
                start = 0  # the server sends everything
            length = response.headers.get("Content-Length", "")
            done, total = start, start + int(length) if length.isdigit() else None
            with open(part, "r+b" if start else "wb") as file:
                file.seek(start)
                while data := response.read(1 << 18):
                    done += len(data)
                    if max(done, total or 0) > MAX_BYTES:
                        raise FetchError(f"{url}: more than {MAX_BYTES} bytes, which no weights here have")
                    file.write(data)
                    progress(done, total)
    except (http.client.HTTPException, ValueError) as error:
        raise ConnectionError(f"no proper answer ({type(error).__name__})") from error
    if total is not None and done < total:
        raise ConnectionError(f"the connection ended after {done} of {total} bytes")


def _reason(error: OSError) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answered {error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError):
        return f"cannot be reached ({getattr(error.reason, 'strerror', None) or error.reason})"
    return " ".join(str(error).split()) or type(error).__name__
