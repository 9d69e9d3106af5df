"""RAFT's forward pass, cheaper than torchvision's and with the same result up to rounding.

An image's encoding serves all of its pairs; the context's contribution to the recurrent units is convolved once; two
gates with the same input are one convolution; only the last flow is upsampled. On CPUs everything is in the memory
format channels_last, in which convolutions are faster there, and Winograd's method saves multiplications.
"""
import functools
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gi.flow import winograd


def refine(network: nn.Module, first: Tensor, second: Tensor, context: Tensor, iterations: int) -> Tensor:
    """Flow (N,2,8h,8w) in pixels from N first images to second ones, without gradients.

    `network` is torchvision's RAFT, the rest what its encoders give: features of the two images, and context of the
    first, (N,C,h,w) each.
    """
    number, _, height, width = first.shape
    lookup = _Lookup(first, second, network.corr_block)
    update = network.update_block
    motion_encoder = _MotionEncoder(update.motion_encoder)
    head, widen = update.flow_head, _layer(update.flow_head.conv1)
    hidden, context = context.split([update.hidden_state_size, context.shape[1] - update.hidden_state_size], dim=1)
    hidden, context = hidden.tanh(), context.relu()
    recurrent = update.recurrent_block
    units = [_Unit(unit, context) for unit in (recurrent.convgru1, recurrent.convgru2)]

    rows, columns = (torch.arange(size, device=first.device, dtype=first.dtype) for size in (height, width))
    pixel = torch.stack(torch.meshgrid(columns, rows, indexing="xy"))
    flow = first.new_zeros(number, 2, height, width)
    for _ in range(iterations):
        motion = motion_encoder(laid_out(flow), lookup(pixel + flow))
        for unit in units:
            hidden = unit(hidden, motion)
        flow = flow + head.conv2(widen(hidden).relu_())
    return _upsample(flow, network.mask_predictor(hidden))


class InstanceNorm(nn.InstanceNorm2d):
    """On CPUs, without leaving channels_last; overwrites its input there."""

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu":
            return super().forward(x)
        x -= x.mean(dim=(2, 3), keepdim=True)
        x *= (x.square().mean(dim=(2, 3), keepdim=True) + self.eps).rsqrt_()
        return x


def replace_norms(encoder: nn.Module) -> None:
    """Puts our InstanceNorm in the place of torch's."""
    for module in encoder.modules():
        for name, child in module.named_children():
            if type(child) is nn.InstanceNorm2d:
                setattr(module, name, InstanceNorm(child.num_features, eps=child.eps))


class _Lookup:
    """Correlation of every pixel of one image with windows of the other, at several scales."""

    def __init__(self, first, second, block):
        channels = first.shape[1]
        volume = first.flatten(2).transpose(1, 2) @ second.flatten(2) / channels**0.5
        volume = volume.view(-1, 1, *second.shape[-2:])
        self.levels = [volume]
        for _ in range(block.num_levels - 1):
            self.levels.append(F.avg_pool2d(self.levels[-1], kernel_size=2))
        steps = torch.arange(-block.radius, block.radius + 1, device=first.device, dtype=first.dtype)
        self.square = torch.stack(torch.meshgrid(steps, steps, indexing="ij"), dim=-1)  # x varies along the rows
        # Half the length of each level's axes, x first, made on the device to avoid a blocking copy.
        self.halves = [torch.stack([steps.new_full((), (length - 1) / 2) for length in level.shape[:1:-1]])
                       for level in self.levels]

    def __call__(self, position):
        """Position (N,2,h,w) in the second image -> (N, levels * (2 * radius + 1)^2, h, w)."""
        number, _, height, width = position.shape
        position = position.permute(0, 2, 3, 1).reshape(-1, 1, 1, 2)
        sampled = []
        for level, half in zip(self.levels, self.halves, strict=True):
            grid = (position / half - 1) + self.square / half
            sampled.append(F.grid_sample(level, grid, align_corners=True).flatten(1))
            position = position / 2
        return laid_out(torch.cat(sampled, dim=1).view(number, height, width, -1).permute(0, 3, 1, 2))


class _MotionEncoder:
    """Torchvision's motion encoder, with our `convolution` for its layers, each of which a ReLU follows."""

    def __init__(self, encoder):
        layers = encoder.convcorr1, encoder.convcorr2, encoder.convflow1, encoder.convflow2, encoder.conv
        self.layers = [_layer(layer[0]) for layer in layers]

    def __call__(self, flow, correlation):
        correlation1, correlation2, flow1, flow2, both = self.layers
        correlation_features = correlation2(correlation1(correlation).relu_()).relu_()
        flow_features = flow2(flow1(flow).relu_()).relu_()
        return torch.cat([both(torch.cat([correlation_features, flow_features], dim=1)).relu_(), flow], dim=1)


class _Unit:
    """A convolutional GRU with inputs [hidden, context, motion], of which the context is constant."""

    def __init__(self, unit, context):
        hidden = unit.convz.out_channels
        gates = unit.convz, unit.convr, unit.convq
        constant = slice(hidden, hidden + context.shape[1])
        weight, bias = torch.cat([gate.weight for gate in gates]), torch.cat([gate.bias for gate in gates])
        padding = unit.convz.padding
        always = F.conv2d(context, weight[:, constant], bias, padding=padding)
        weight = torch.cat([weight[:, :constant.start], weight[:, constant.stop:]], dim=1)
        self.parts = [convolution(part, None, padding) for part in weight.split([2 * hidden, hidden])]
        self.always = [laid_out(part) for part in always.split([2 * hidden, hidden], dim=1)]

    def __call__(self, hidden, motion):
        update, reset = self._part(0, hidden, motion).sigmoid_().chunk(2, dim=1)
        proposal = self._part(1, reset * hidden, motion).tanh_()
        return torch.lerp(hidden, proposal, update)

    def _part(self, i, hidden, motion):
        joined = torch.cat([hidden, motion], dim=1)
        return self.parts[i](joined).add_(self.always[i])


def _upsample(flow, mask):
    """Flow (N,2,h,w) at eight times the size: each pixel a convex combination, by `mask`, of nine vectors."""
    number, _, height, width = flow.shape
    weights = mask.contiguous().view(number, 1, 9, 8, 8, height, width).softmax(dim=2)
    vectors = F.unfold(8 * flow, kernel_size=3, padding=1).view(number, 2, 9, 1, 1, height, width)
    return (weights * vectors).sum(dim=2).permute(0, 1, 4, 2, 5, 3).reshape(number, 2, 8 * height, 8 * width)


def convolution(weight: Tensor, bias: Tensor | None, padding: Sequence[int]) -> Callable[[Tensor], Tensor]:
    """A convolution of stride 1 that keeps the size of its maps."""
    if not winograd.is_faster(weight):
        return functools.partial(F.conv2d, weight=weight, bias=bias, padding=padding)
    kernels, size, (vertical, horizontal) = winograd.transformed(weight), weight.shape[2:], padding
    offset = 0 if bias is None else bias[:, None, None]
    return lambda x: winograd.convolve(F.pad(x, (horizontal, horizontal, vertical, vertical)), kernels, size) + offset


def _layer(conv):
    return convolution(conv.weight, conv.bias, conv.padding)


def laid_out(x: Tensor) -> Tensor:
    """Maps (N,C,H,W) in the memory format in which convolutions are fastest."""
    return x.contiguous(memory_format=torch.channels_last if x.device.type == "cpu" else torch.contiguous_format)
