"""Fast Fourier convolutions (Chi et al. 2020) as LaMa uses them (Suvorov et al. 2021), and their residual block."""
import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gi.errors import InputError
from gi.flow import winograd
from gi.models.blocks import Residual

PIXELS_OF_A_PRODUCT = 100


class FourierUnit(nn.Module):
    """A 1x1 convolution, BatchNorm and ReLU on the spectrum: each output pixel depends on the whole image.

    Input and output (N, channels, h, w). Real and imaginary parts are interleaved as channels.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(2 * channels, 2 * channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(2 * channels)

    def forward(self, x: Tensor) -> Tensor:
        return from_spectrum(self.norm(self.conv(to_spectrum(x))).relu_(), x)


def to_spectrum(x: Tensor) -> Tensor:
    """rfft2 of (N, C, h, w) as (N, 2C, h, w // 2 + 1) real channels: re, im of channel 0, re, im of channel 1, ..."""
    if _few(x, x):
        return (x.flatten(2) @ _fourier(*x.shape[-2:])[0]).view(len(x), -1, x.shape[-2], x.shape[-1] // 2 + 1)
    # Half precision overflows in the sums of an FFT and is not available for every size, so float32 it is.
    spectrum = torch.view_as_real(torch.fft.rfft2(x.float(), norm="ortho"))
    return spectrum.permute(0, 1, 4, 2, 3).flatten(1, 2)


def from_spectrum(spectrum: Tensor, like: Tensor) -> Tensor:
    """Inverse of `to_spectrum`; size and dtype are those of `like`."""
    if _few(spectrum, like):
        parts = spectrum.unflatten(1, (-1, 2)).flatten(2)
        return (parts @ _fourier(*like.shape[-2:])[1]).unflatten(2, like.shape[-2:])
    spectrum = spectrum.float().unflatten(1, (-1, 2)).permute(0, 1, 3, 4, 2).contiguous()
    return torch.fft.irfft2(torch.view_as_complex(spectrum), s=like.shape[-2:], norm="ortho").to(like.dtype)


def _few(x, like):
    """Whether a matrix product is the faster transform: of few pixels on a CPU, whose FFT has more to prepare."""
    single = x.dtype == like.dtype == torch.float32 and x.device.type == "cpu"
    return (single and like.shape[-2] * like.shape[-1] <= PIXELS_OF_A_PRODUCT
            and not torch.is_autocast_enabled("cpu") and not torch.compiler.is_compiling())


@functools.cache
def _fourier(height, width):
    """Matrices (pixels, 2 * frequencies) and back, of maps whose transforms have first all real, then all imaginary
    parts.
    """
    pixels, half = height * width, width // 2 + 1
    basis = torch.eye(pixels, dtype=torch.float64).view(-1, height, width)
    there = torch.view_as_real(torch.fft.rfft2(basis, norm="ortho")).permute(0, 3, 1, 2).flatten(1)
    basis = torch.eye(2 * height * half, dtype=torch.float64).view(-1, 2, height, half)
    back = torch.fft.irfft2(torch.complex(basis[:, 0], basis[:, 1]), s=(height, width), norm="ortho").flatten(1)
    return there.float(), back.float()


class SpectralTransform(nn.Module):
    """The global-to-global path: halve the channels, add the Fourier unit's answer, widen. No local Fourier unit."""

    def __init__(self, channels: int):
        super().__init__()
        self.reduce = nn.Sequential(nn.Conv2d(channels, channels // 2, 1, bias=False), nn.BatchNorm2d(channels // 2),
                                    nn.ReLU(inplace=True))
        self.fourier = FourierUnit(channels // 2)
        self.expand = nn.Conv2d(channels // 2, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.reduce(x)
        return self.expand(x + self.fourier(x))


class FFC(nn.Module):
    """One FFC layer with its BatchNorm and ReLU. Input and output (N, channels, h, w), the local channels first.

    `share` of the channels are global. Of the four paths of the original, local-to-local and local-to-global read the
    same input and are one convolution here (`from_local`); the two BatchNorms are one for the same reason.
    Raises InputError if the global channels are no even number (the spectral transform halves it).
    """

    def __init__(self, *, channels: int, share: float = 0.75):
        super().__init__()
        n_global = int(channels * share)
        if n_global % 2 or not 0 <= share <= 1:
            raise InputError(f"ffc_share {share} of {channels} channels: expected between 0 and 1, giving an even "
                             "number of channels")
        self.split = n_local, n_global = channels - n_global, n_global
        conv: dict[str, Any] = dict(kernel_size=3, padding=1, padding_mode="reflect", bias=False)
        self.from_local = nn.Conv2d(n_local, channels, **conv) if n_local else None
        self.global_to_local = nn.Conv2d(n_global, n_local, **conv) if n_local and n_global else None
        self.global_to_global = SpectralTransform(n_global) if n_global else None
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        x_local, x_global = x.split(self.split, dim=1)
        y = 0 if self.from_local is None else convolve(self.from_local, x_local)
        paths = [] if self.global_to_local is None else [convolve(self.global_to_local, x_global)]
        if self.global_to_global is not None:
            paths.append(self.global_to_global(x_global))
        return self.norm(y + torch.cat(paths, dim=1) if paths else y).relu_()


def convolve(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """`conv(x)`, for one of stride 1 with reflected borders and without bias."""
    if not winograd.pays(x, conv.weight):
        return conv(x)
    x = F.pad(x, conv._reversed_padding_repeated_twice, mode="reflect")
    return winograd.convolve(x, winograd.transformed(conv.weight), conv.kernel_size)


def ffc_block(channels: int, share: float = 0.75) -> Residual:
    """`x + FFC(FFC(x))`, LaMa's residual block. Input and output (N, channels, h, w)."""
    return Residual(FFC(channels=channels, share=share), FFC(channels=channels, share=share))
