"""Prepares trained generators for inference: the same function, up to rounding, in less time.

A BatchNorm with fixed statistics is folded into the convolution beside it. Maps have their channels innermost
("channels last"), where a 1x1 convolution is one matrix product, also of some of the channels, and where a spectrum's
real and imaginary parts, interleaved as channels, are what a complex number is.
"""
import copy
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm  # also the synchronised one
from torch.nn.utils.fusion import fuse_conv_bn_eval

from gi.flow.warp import resize
from gi.models.attention import Write, divisible_size, patch_pixels
from gi.models.blocks import Decoder
from gi.models.ffc import FFC, FourierUnit


def prepare_for_inference(generator: nn.Module) -> nn.Module:
    """A copy of a generator, of any family, for inference alone: in eval mode, channels last, without gradients.

    Parameters have other names and shapes, so it is not for checkpoints. A generator that is already prepared is
    returned as it is.
    """
    if getattr(generator, "prepared", False):
        return generator
    prepared: Any = copy.deepcopy(generator).eval().requires_grad_(False)
    _fold(prepared)
    prepared.prepared = True
    return prepared.requires_grad_(False).to(memory_format=torch.channels_last)


def _fold(module):
    for name, child in module.named_children():
        _fold(child)
        if make := _FOLDED.get(type(child)):
            setattr(module, name, make(child))


def fold_sequence(layers: nn.Sequential) -> nn.Sequential:
    """The layers, with each BatchNorm folded into the convolution, transposed or not, that it follows."""
    folded = []
    for layer in layers:
        if isinstance(layer, _BatchNorm) and folded and isinstance(folded[-1], nn.Conv2d | nn.ConvTranspose2d):
            folded[-1] = fuse_conv_bn_eval(folded[-1], layer, isinstance(folded[-1], nn.ConvTranspose2d))
        else:
            folded.append(layer)
    return nn.Sequential(*folded)


class FoldedFFC(nn.Module):
    """An FFC layer whose paths add to one map in place."""

    def __init__(self, layer: FFC):
        super().__init__()
        n_local, _ = self.split = layer.split
        scale, shift = scale_and_shift(layer.norm)
        self.from_local = scaled(layer.from_local, scale, shift)
        self.global_to_local = scaled(layer.global_to_local, scale[:n_local])
        self.reduce = layer.global_to_global.reduce[0]
        self.fourier = layer.global_to_global.fourier
        self.expand = scaled(layer.global_to_global.expand, scale[n_local:])

    def forward(self, x: Tensor) -> Tensor:
        x_local, x_global = x.split(self.split, dim=1)
        y = self.from_local(x_local)
        y_local, y_global = y.split(self.split, dim=1)
        y_local += self.global_to_local(x_global)
        reduced = pointwise(self.reduce, x_global).relu_()
        reduced += self.fourier(reduced)
        y_global += pointwise(self.expand, reduced)
        return y.relu_()


class FoldedFourierUnit(nn.Module):
    """Input and output (N, channels, h, w), channels last, as are the spectra in between."""

    def __init__(self, unit: FourierUnit):
        super().__init__()
        self.conv = fuse_conv_bn_eval(unit.conv, unit.norm)

    def forward(self, x: Tensor) -> Tensor:
        pixels = x.permute(0, 2, 3, 1)
        spectrum = torch.view_as_real(torch.fft.rfft2(pixels.float(), dim=(1, 2), norm="ortho")).flatten(3)
        spectrum = F.linear(spectrum.to(x.dtype), self.conv.weight.flatten(1), self.conv.bias).relu_().float()
        spectrum = torch.view_as_complex(spectrum.unflatten(3, (-1, 2)))
        pixels = torch.fft.irfft2(spectrum, s=x.shape[-2:], dim=(1, 2), norm="ortho")
        return pixels.permute(0, 3, 1, 2).to(x.dtype)


class FoldedWrite(nn.Module):
    """A write that applies the first 1x1 convolution to the values of latents, which are fewer than pixels."""

    def __init__(self, write: Write):
        super().__init__()
        self.m, self.heads = write.m, write.heads
        self.scores, self.gate, self.values = write.scores, write.gate, write.values
        project = after_norm(write.norm1, write.project)
        self.weight = nn.Parameter(project.weight.flatten(1).unflatten(1, (self.heads, -1)).permute(1, 2, 0))
        # The projection's bias reaches the output as it is and through the MLP.
        first, self.narrow = cast(nn.Conv2d, write.mlp[0]), cast(nn.Conv2d, write.mlp[2])
        self.widen = after_norm(write.norm2, first, project.bias)
        self.narrow.bias = nn.Parameter(self.narrow.bias + project.bias)

    def forward(self, local: Tensor, latents: Tensor) -> Tensor:
        height, width = divisible_size(local.shape[-2:], self.m)
        gates = patch_pixels(self.gate(resize(self.scores(local), (height, width))), self.m)  # n, m*m, pixels, heads
        values = self.values(latents).unflatten(2, (self.heads, -1)).transpose(1, 2) @ self.weight
        written = gates @ values.transpose(1, 2).to(gates.dtype)  # n, m*m, pixels, channels
        written = resize(from_patches(written, self.m, height, width), local.shape[-2:]).to(local.dtype)
        written += local
        return pointwise(self.narrow, F.gelu(pointwise(self.widen, written))).add_(written)


def from_patches(x: Tensor, m: int, height: int, width: int) -> Tensor:
    """Inverse of `patch_pixels`: (N, m * m, pixels of a patch, C) -> (N, C, height, width), channels last."""
    x = x.unflatten(2, (height // m, width // m)).unflatten(1, (m, m)).transpose(2, 3)
    return x.reshape(len(x), height, width, -1).permute(0, 3, 1, 2)


def fold_decoder(decoder: Decoder) -> Decoder:
    """Replaces the decoder's last convolution by a `QuadConv`; the rest is folded as any sequence."""
    decoder.to_rgb = QuadConv(decoder.to_rgb)  # type: ignore[assignment]
    return decoder


class QuadConv(nn.Module):
    """A convolution of stride 1 with reflected borders, for maps of even sides, as one of stride 2 and a shuffle.

    It computes 2 x 2 pixels at a time, as convolutions to 3 channels alone are slow.
    """

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        out, channels, height, width = conv.weight.shape
        weight = conv.weight.new_zeros(out, 2, 2, channels, height + 1, width + 1)
        for i in range(2):
            for j in range(2):
                weight[:, i, j, :, i : i + height, j : j + width] = conv.weight
        self.weight = nn.Parameter(weight.flatten(0, 2))
        self.bias = nn.Parameter(conv.bias.repeat_interleave(4))
        self.padding: list[Any] = [conv.padding[1]] * 2 + [conv.padding[0]] * 2

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, self.padding, mode="reflect")
        return F.pixel_shuffle(F.conv2d(x, self.weight, self.bias, stride=2), 2)


def pointwise(conv: Any, x: Tensor) -> Tensor:
    """A 1x1 convolution of x (N,C,H,W) as a matrix product; of channels last maps also if `x` has only some of their
    channels.
    """
    return F.linear(x.permute(0, 2, 3, 1), conv.weight.flatten(1), conv.bias).permute(0, 3, 1, 2)


def scale_and_shift(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """The factor and offset of each channel of a BatchNorm with fixed statistics, (C,) each."""
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return scale, norm.bias - norm.running_mean * scale


def scaled(conv: nn.Conv2d, scale: Tensor, shift: Tensor | None = None) -> nn.Conv2d:
    """A convolution without bias, its output times `scale` plus `shift`, (C,) each."""
    conv.weight = nn.Parameter(conv.weight * scale[:, None, None, None])
    conv.bias = None if shift is None else nn.Parameter(shift)
    return conv


def after_norm(norm: nn.BatchNorm2d, conv: nn.Conv2d, offset: Tensor | float = 0) -> nn.Conv2d:
    """A 1x1 convolution that follows a BatchNorm, and the BatchNorm, as one; `offset`, a number or (C,), is added to
    its input, too.
    """
    scale, shift = scale_and_shift(norm)
    conv.bias = nn.Parameter(conv.bias + conv.weight.flatten(1) @ (shift + scale * offset))
    conv.weight = nn.Parameter(conv.weight * scale[:, None, None])
    return conv


def fold_ffc(layer: FFC) -> nn.Module:
    """The folded layer; one without local or without global channels, which no published network has, stays as it is.
    """
    return layer if layer.from_local is None or layer.global_to_global is None else FoldedFFC(layer)


_FOLDED = {nn.Sequential: fold_sequence, FFC: fold_ffc, FourierUnit: FoldedFourierUnit, Write: FoldedWrite,
           Decoder: fold_decoder}
