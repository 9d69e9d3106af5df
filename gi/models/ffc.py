"""Fast Fourier convolutions (Chi et al. 2020) as LaMa uses them (Suvorov et al. 2021), and their residual block."""
from typing import Any

import torch
from torch import Tensor, nn

from gi.errors import InputError
from gi.models.blocks import Residual


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
    # Half precision overflows in the sums of an FFT and is not available for every size, hence float32.
    spectrum = torch.view_as_real(torch.fft.rfft2(x.float(), norm="ortho"))
    return spectrum.permute(0, 1, 4, 2, 3).flatten(1, 2)


def from_spectrum(spectrum: Tensor, like: Tensor) -> Tensor:
    """Inverse of `to_spectrum`; size and dtype are those of `like`."""
    spectrum = spectrum.float().unflatten(1, (-1, 2)).permute(0, 1, 3, 4, 2).contiguous()
    return torch.fft.irfft2(torch.view_as_complex(spectrum), s=like.shape[-2:], norm="ortho").to(like.dtype)


class SpectralTransform(nn.Module):
    """The global-to-global path: halve the channels, add the Fourier unit's output, widen. No local Fourier unit."""

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
    Raises InputError if the number of global channels is odd, as the spectral transform halves it.
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
        y = 0 if self.from_local is None else self.from_local(x_local)
        paths = [path(x_global) for path in (self.global_to_local, self.global_to_global) if path is not None]
        return self.norm(y + torch.cat(paths, dim=1) if paths else y).relu_()


def ffc_block(channels: int, share: float = 0.75) -> Residual:
    """`x + FFC(FFC(x))`, LaMa's residual block. Input and output (N, channels, h, w)."""
    return Residual(FFC(channels=channels, share=share), FFC(channels=channels, share=share))
