"""Optical flow estimators: `estimator(first, second) -> flow`. To add one, derive a class from `Estimator`.

`gi.weights.pretrained.FLOWS` has those that command lines know by a short name; a configuration takes any class.
"""
import re
from typing import Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gi.errors import InputError, expect_at_least
from gi.flow.raft import laid_out, refine, replace_norms
from gi.flow.threads import on_threads
from gi.weights.files import Frozen, WeightsFile, load_strict, read_weights

# torchvision's file has the weights of the original's under other names; either will do.
RAFT_THINGS = WeightsFile(
    name="raft",
    path="checkpoints/flow/raft/raft-things.pth",
    origin="raft-things.pth of github.com/princeton-vl/RAFT, or torchvision's raft_large_C_T_V1-22a6c225.pth, the same "
           "weights",
    url="https://download.pytorch.org/models/raft_large_C_T_V1-22a6c225.pth",
    licence="BSD 3-Clause",
    sha256="22a6c225",
    only=False,
)


class Estimator(Frozen):
    """The contract of an optical flow estimator; a subclass writes `forward` and ends its constructor with `freeze`."""

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Flow (N,2,H,W), float32 in pixels, from `first` to `second`, (N,3,H,W) in [0,1], of any size; N may be 0.

        The N pairs do not influence each other. Raises InputError for other shapes, see `check_pair`.
        """
        raise NotImplementedError(f"{type(self).__name__} has no forward(first, second)")

    def between(self, images: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """Flow (N,2,H,W) from `images[first]` to `images[second]`, given images (M,3,H,W) and N indices for each end.

        Overridden where what depends on one image alone can be computed once for all of its pairs.
        """
        return self(images[first], images[second])


class PairEstimator(Estimator):
    """An estimator whose subclasses implement `between` instead of `forward`."""

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        check_pair(first, second)
        number = torch.arange(len(first), device=first.device)
        return self.between(torch.cat([first, second]), number, len(first) + number)


class RAFT(PairEstimator):
    """RAFT (Teed & Deng, 2020), torchvision's `raft_large`, frozen; the paper's estimator.

    Args:
        weights: file with the original's weights (raft-things.pth, the paper's choice) or torchvision's; None leaves
            the network untrained, for tests. sha256: of that file, or its first digits.
        iterations: updates of the flow.
    """

    file = RAFT_THINGS

    def __init__(self, *, weights: str | None = RAFT_THINGS.path, sha256: str | None = None, iterations: int = 20):
        from torchvision.models.optical_flow import raft_large  # takes a second, and few runs use it
        super().__init__()
        expect_at_least(1, iterations=iterations)
        self.iterations = iterations
        self.network = raft_large(weights=None)
        if weights is not None:
            state = read_weights(weights, file=RAFT_THINGS, sha256=sha256)
            load_strict(self.network, torchvision_names(state), weights)
        replace_norms(self.network.feature_encoder)
        self.freeze()

    @torch.no_grad()  # not inference_mode: generators keep flow for their gradients
    def between(self, images: Tensor, first: Tensor, second: Tensor) -> Tensor:
        if len(first) == 0:
            return zero_flow(images[:0])
        height, width = images.shape[-2:]
        # The network halves the size three times, and then matches at four scales: it needs multiples of 8 from 128 on.
        vertical, horizontal = (max(128, -(-size // 8) * 8) - size for size in (height, width))
        top, left = vertical // 2, horizontal // 2
        padding = (left, horizontal - left, top, vertical - top)
        with torch.autocast(images.device.type, enabled=False):
            images = laid_out(F.pad(2 * images.float() - 1, padding, mode="replicate"))
            features, context = self.network.feature_encoder(images), self.network.context_encoder(images)
            flow = refine(self.network, features[first], features[second], context[first], self.iterations)
        return flow[..., top:top + height, left:left + width]


# Names in the original's raft-things.pth -> names in torchvision's network.
_RAFT_NAMES = [
    (r"^module\.", ""),
    (r"^fnet\.", "feature_encoder."),
    (r"^cnet\.", "context_encoder."),
    (r"_encoder\.conv1\.", "_encoder.convnormrelu.0."),
    (r"_encoder\.norm1\.", "_encoder.convnormrelu.1."),
    (r"_encoder\.conv2\.", "_encoder.conv."),
    (r"(layer\d\.\d)\.conv(\d)\.", r"\1.convnormrelu\2.0."),
    (r"(layer\d\.\d)\.norm(\d)\.", r"\1.convnormrelu\2.1."),
    (r"\.encoder\.convc(\d)\.", r".motion_encoder.convcorr\1.0."),
    (r"\.encoder\.convf(\d)\.", r".motion_encoder.convflow\1.0."),
    (r"\.encoder\.conv\.", ".motion_encoder.conv.0."),
    (r"\.gru\.conv([zrq])(\d)\.", r".recurrent_block.convgru\2.conv\1."),
    (r"^update_block\.mask\.0\.", "mask_predictor.convrelu.0."),
    (r"^update_block\.mask\.2\.", "mask_predictor.conv."),
]


def torchvision_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """RAFT's weights under torchvision's names, from these or from the original's, with or without "module."."""
    renamed = {}
    for name, value in state.items():
        # A layer the original stores twice; the other name is downsample.1. Instance norms have nothing to load.
        if not re.search(r"cnet\.layer\d\.\d\.norm3\.", name):
            for pattern, replacement in _RAFT_NAMES:
                name = re.sub(pattern, replacement, name)
            renamed[name] = value
    return renamed


class DIS(PairEstimator):
    """Dense inverse search (Kroeger et al., 2016), OpenCV's: no weights, on the CPU, 5 ms for a pair of 256 x 256.

    Args:
        preset: the faster, the coarser.
    """

    def __init__(self, *, preset: Literal["ultrafast", "fast", "medium"] = "medium"):
        super().__init__()
        presets = {
            "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
            "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
            "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
        }
        if preset not in presets:
            raise InputError(f"preset of DIS: expected one of {', '.join(presets)}, got {preset!r}")
        self.preset = presets[preset]

    @torch.no_grad()
    def between(self, images: Tensor, first: Tensor, second: Tensor) -> Tensor:
        if len(first) == 0:
            return zero_flow(images[:0])
        grey = to_grey(images)
        flows = on_threads(self._estimate, grey[first.tolist()], grey[second.tolist()])
        return torch.from_numpy(np.stack(flows)).permute(0, 3, 1, 2).contiguous().to(images.device)

    def _estimate(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        height, width = first.shape
        # OpenCV fails, up to a segmentation fault, on images that are small or much longer than wide.
        side = max(32, max(height, width) // 16)
        padding = ((0, max(0, side - height)), (0, max(0, side - width)))
        first, second = (np.pad(image, padding, mode="edge") for image in (first, second))
        flow = cv2.DISOpticalFlow_create(self.preset).calc(first, second, None)
        return flow[:height, :width]


class ZeroFlow(Estimator):
    """Zero flow everywhere; for models without alignment and for ablations."""

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        check_pair(first, second)
        return zero_flow(first)


def check_pair(first: Tensor, second: Tensor) -> None:
    """Raises InputError unless both are (N,3,H,W) of one shape."""
    if first.shape != second.shape or first.ndim != 4 or first.shape[1] != 3:
        raise InputError(f"optical flow: expected two images of one shape (N, 3, H, W), got {tuple(first.shape)} "
                         f"and {tuple(second.shape)}")


def zero_flow(image: Tensor) -> Tensor:
    """(N,2,H,W) float32 zeros for an image (N,3,H,W)."""
    return torch.zeros(len(image), 2, *image.shape[-2:], device=image.device)


def to_grey(image: Tensor) -> np.ndarray:
    """Images (N,3,H,W) in [0,1] -> (N,H,W) uint8."""
    grey = image.new_empty(len(image), *image.shape[-2:], dtype=torch.uint8)
    for i, colours in enumerate(image):  # one after the other: a fraction of the memory
        red, green, blue = colours.float().clamp(0, 1)
        grey[i] = (255 * (0.299 * red + 0.587 * green + 0.114 * blue)).round()
    return grey.cpu().numpy()
