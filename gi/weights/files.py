"""Files with the weights of frozen helper networks: where to find them, whether they are intact, whether they fit.

`checkpoints/README.md` describes the same files for readers.
"""
import hashlib
import logging
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from gi import resources
from gi.errors import InputError, MissingFile, one_line
from gi.media.io import atomic_write
from gi.weights.unpickle import read_checkpoint

log = logging.getLogger(__name__)
MOST_NAMES = 40  # in a message: a network of another kind differs in hundreds


@dataclass(frozen=True)
class WeightsFile:
    """A file with weights from elsewhere, declared beside the network that reads it."""

    name: str  # for `gi fetch`
    path: str  # where it is expected, relative to the working folder, or else to `resources.home()`
    origin: str  # file and project, in words
    url: str
    licence: str  # of the project
    sha256: str | None = None  # of the file at `url`, or its first digits; None: its project publishes none
    only: bool = True  # whether only that file is accepted
    hub: bool = False  # whether it is also read from torch.hub's cache

    @property
    def cached(self) -> Path:
        """Where torch.hub keeps the file."""
        return Path(torch.hub.get_dir()) / "checkpoints" / Path(self.path).name

    def find(self) -> Path:
        """Where the file is; its usual place if it is nowhere."""
        candidates = [Path(self.path), resources.home() / self.path, *([self.cached] if self.hub else [])]
        return next((candidate for candidate in candidates if candidate.is_file()), candidates[0])


def of_torchvision(name: str, file: str, sha256: str, *, folder: str) -> WeightsFile:
    """A file of torchvision's models, expected in checkpoints/`folder`/."""
    return WeightsFile(name=name, path=f"checkpoints/{folder}/{file}", origin=f"{file} of torchvision's models",
                       url=f"https://download.pytorch.org/models/{file}", licence="BSD 3-Clause", sha256=sha256,
                       hub=True)


def read_weights(path: str | Path, *, file: WeightsFile, sha256: str | None = None) -> dict[str, Tensor]:
    """{name: tensor} from the file at `path`, or where `find` finds it if that is its usual place.

    sha256: the expected SHA-256 in hexadecimal, or its first 8 digits or more; None: that of `file`, or of the name's
    end, as torchvision names its files. The digest is logged in any case. Raises MissingFile that says how to get the
    file, InputError for one with another digest or without weights.
    """
    path, known = file.find() if str(path) == file.path else Path(path), file.sha256 if file.only else None
    if not path.is_file():
        digest = f" (SHA-256 {known})" if known else ""
        raise MissingFile(f"{path}: no such file; gi fetch {file.name} gets it, or get {file.origin}{digest}, and "
                          f"put it at {file.path} or name its place in the config; see checkpoints/README.md")
    digest = file_sha256(path)
    log.info("%s: SHA-256 %s", path, digest)
    in_name = re.search(r"-([0-9a-f]{8,64})\.pth$", path.name)
    expected = sha256 or known or (in_name and in_name[1])
    if expected:
        check_digest_form(expected, path)
        if not digest.startswith(expected.lower()):
            raise InputError(f"{path}: its SHA-256 is {digest}, expected {expected.lower()}; download the file again")
    state = read_checkpoint(path)
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f"{path}: expected a dictionary of weights, names to tensors")
    return dict(state)


def check_digest_form(sha256: object, path: str | Path) -> None:
    """Raises InputError unless a configuration's digest for the file at `path` is one, or the first digits of one."""
    if not re.fullmatch(r"[0-9a-fA-F]{8,64}", str(sha256)):
        raise InputError(f"sha256 of {path}: expected 8 to 64 hexadecimal digits, got {sha256!r}")


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file in 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def write_state(path: str | Path, state: Mapping[str, object], *, durable: bool = False) -> None:
    """`torch.save`, completely or not at all, see `atomic_write`. Raises OSError, naming the file, if it cannot be
    written: torch reports a full disk as a RuntimeError.
    """
    with atomic_write(path, durable=durable) as temporary:
        try:
            torch.save(state, temporary)
        except RuntimeError as error:
            raise OSError(f"{path}: cannot be written, is the disk full? ({one_line(error)})") from error


def load_strict(module: nn.Module, state: dict[str, Tensor], path: str | Path, *,
                names: dict[str, str] | None = None, part: Collection[str] | None = None) -> None:
    """Copies `state` into `module`, raising one InputError with all missing, unexpected and misshapen names.

    names: what the file at `path` calls them, if it does so differently; the message then gives both. part: the names
    that are to be loaded; None: all.
    """
    state = expect_fit(module, state, path, names=names, part=part)
    module.load_state_dict(state, strict=part is None)


def expect_fit(module: nn.Module, state: dict[str, Tensor], path: str | Path, *,
               names: dict[str, str] | None = None, part: Collection[str] | None = None) -> dict[str, Tensor]:
    """What `load_strict` copies; raises InputError as that does. The module may be on the meta device."""
    def known(name):
        return f"{name} ({names[name]})" if names and name in names else name

    own = {name: value for name, value in module.state_dict().items() if part is None or name in part}
    # Files of 2018 lack BatchNorm's counter, which nothing frozen uses.
    state = {name: own[name] for name in own if name.endswith("num_batches_tracked")} | state
    problems = {
        "missing": [known(name) for name in own if name not in state],
        "unexpected": [known(name) for name in state if name not in own],
        "misshapen": [f"{known(name)} {tuple(state[name].shape)} instead of {tuple(own[name].shape)}"
                      for name in own if name in state and state[name].shape != own[name].shape],
    }
    if any(problems.values()):
        lists = (f"{len(entries)} {kind}: {', '.join(entries[:MOST_NAMES])}"
                 + (f" and {len(entries) - MOST_NAMES} more" if len(entries) > MOST_NAMES else "")
                 for kind, entries in problems.items() if entries)
        raise InputError(f"{path} does not fit {type(module).__name__}: {'; '.join(lists)}")
    return state


class Frozen(nn.Module):
    """A helper network that is used and never trained: always in eval mode, whatever the module around it does.

    Its constructor ends with `self.freeze()`. Gradients flow through it to its input, unless it says otherwise. `file`
    is what it reads, if anything, at the place that its parameter `weights` says.
    """

    file: WeightsFile | None = None

    @classmethod
    def file_of(cls, params: Mapping) -> WeightsFile | None:
        """The file that is read by a network with these params of a configuration."""
        return cls.file

    def freeze(self) -> None:
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "Frozen":
        return super().train(False)
