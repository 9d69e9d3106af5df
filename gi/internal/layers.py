"""Gated convolutions, and stacks of them that a table of their numbers describes."""
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gi.errors import InputError

Padding = Literal["zeros", "reflect", "symmetric"]
Upsampling = Literal["nearest", "bilinear"]


class Layer(NamedTuple):
    """A line of the paper's tables."""

    channels: int  # before the gate, which halves them
    kernel: int = 3
    stride: int = 1
    dilation: int = 1
    up: bool = False  # whether the input is enlarged to twice its size first
    activation: Literal["elu", "relu"] | None = "elu"  # None: neither activation nor gate, as in last layers


class GatedConv(nn.Conv2d):
    """A convolution whose first half of channels, activated, is multiplied by the sigmoid of the second half.

    padding: "zeros" is TensorFlow's "same": an odd pixel of padding goes to the right and the bottom, so that a stride
    of 2 on an even size pads nothing on the left. The others, "reflect" (the paper's) and "symmetric" (the edge pixel
    is repeated as well), pad both sides alike.
    """

    def __init__(self, inputs: int, layer: Layer, *, padding: Padding = "zeros", upsampling: Upsampling = "nearest"):
        super().__init__(inputs, layer.channels, layer.kernel, layer.stride, dilation=layer.dilation)
        self.layer, self.padding_kind, self.upsampling = layer, padding, upsampling
        nn.init.xavier_uniform_(self.weight)  # Glorot's, with the channels before the gate
        nn.init.zeros_(self.bias)

    @property
    def outputs(self) -> int:
        """Channels of the result."""
        return self.out_channels // (2 if self.layer.activation else 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, outputs, h, w), h = ceil(H / stride)."""
        if self.layer.up:
            x = F.interpolate(x, scale_factor=2, mode=self.upsampling)
        x = self._convolve(x)
        if self.layer.activation is None:
            return x
        features, gate = x.chunk(2, dim=1)
        features = F.elu(features) if self.layer.activation == "elu" else F.relu(features)
        return features * torch.sigmoid(gate)

    def _convolve(self, x):
        _, kernel, stride, dilation, *_ = self.layer
        extent = dilation * (kernel - 1)
        if self.padding_kind != "zeros":
            return self._conv_forward(_pad(x, extent // 2, self.padding_kind), self.weight, self.bias)
        totals = [max((-(-size // stride) - 1) * stride + extent + 1 - size, 0) for size in x.shape[-2:]]
        if totals == [extent, extent] and extent % 2 == 0:  # padded inside the convolution, which is faster
            return F.conv2d(x, self.weight, self.bias, stride, extent // 2, dilation)
        (top, left), (height, width) = (total // 2 for total in totals), totals
        return self._conv_forward(F.pad(x, (left, width - left, top, height - top)), self.weight, self.bias)


def _pad(x, pixels, kind):
    least = pixels + (kind == "reflect")
    if min(x.shape[-2:]) < least:
        raise InputError(f"padding {kind}: the network's features are {x.shape[-1]}x{x.shape[-2]} here, and {least} "
                         "are needed on both sides; zeros as padding, or larger frames, help")
    if kind == "reflect":
        return F.pad(x, (pixels,) * 4, mode="reflect")
    for axis in (-2, -1):  # which torch has no mode for
        before, after = (part.flip(axis) for part in (x.narrow(axis, 0, pixels),
                                                      x.narrow(axis, x.shape[axis] - pixels, pixels)))
        x = torch.cat([before, x, after], dim=axis)
    return x


class Stack(nn.Sequential):
    """Gated convolutions one after the other, by the names of `layers`. Arguments as in `GatedConv`."""

    def __init__(self, inputs: int, layers: dict[str, Layer], *, padding: Padding = "zeros",
                 upsampling: Upsampling = "nearest"):
        super().__init__()
        for name, layer in layers.items():
            conv = GatedConv(inputs, layer, padding=padding, upsampling=upsampling)
            self.add_module(name, conv)
            inputs = conv.outputs
        self.outputs = inputs


@torch.no_grad()
def even_out(network: nn.Module, *inputs: Tensor, rounds: int = 5) -> None:
    """Scales the weights of every gated convolution so that its result has variance 1 on these images.

    A network that was trained, whose biases are no longer 0, is left as it is.

    With Glorot's weights alone a gate halves a signal at least, so that nothing of the image is left after 17 layers,
    and the network learns slowly at first. The idea is that of Mishkin and Matas, "All you need is a good init" (2016).

    inputs: as the network takes them.
    """
    convs = [part for part in network.modules() if isinstance(part, GatedConv)]
    if any(conv.bias.any() for conv in convs):
        return

    def even(conv, args, output):
        for _ in range(rounds):  # the result is not quite proportional to the weights
            conv.weight /= conv.forward(*args).std().clamp(min=1e-6)
        return conv.forward(*args)

    hooks = [conv.register_forward_hook(even) for conv in convs if conv.layer.activation is not None]
    network(*inputs)
    for hook in hooks:
        hook.remove()
