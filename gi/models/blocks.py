"""The parts every generator shares: encoder, decoder, positions, MLPs, initial weights."""
import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gi.errors import InputError, expect_at_least


class Encoder(nn.Module):
    """7x7 convolution, then `n_down` 3x3 ones of stride 2, each without bias, with BatchNorm and ReLU (section 3.1).

    Input (N, in_channels, H, W), output (N, out_channels, h, w) where h is H halved `n_down` times, rounding up. Widths
    double from `ngf` at every step, up to `max_channels`.
    """

    def __init__(self, *, in_channels: int = 4, ngf: int = 64, n_down: int = 3, max_channels: int | None = None):
        super().__init__()
        expect_at_least(1, ngf=ngf)
        expect_at_least(0, n_down=n_down)
        widths = [min(ngf * 2**i, max_channels or math.inf) for i in range(n_down + 1)]
        self.n_down, self.out_channels = n_down, widths[-1]
        self.layers = nn.Sequential(
            conv_norm_relu(in_channels, widths[0], kernel_size=7),
            *(conv_norm_relu(a, b, kernel_size=3, stride=2) for a, b in zip(widths, widths[1:], strict=False)),
        )

    def forward(self, x: Tensor) -> Tensor:
        if min(x.shape[-2:]) <= 2**self.n_down:  # a 1-pixel feature map cannot be padded by reflection
            raise InputError(f"image of {x.shape[-1]}x{x.shape[-2]} pixels is too small: more than {2**self.n_down} "
                             "are needed")
        return self.layers(x)


class Decoder(nn.Module):
    """The encoder's mirror: transposed 3x3 convolutions of stride 2, BatchNorm, ReLU; a 7x7 convolution; sigmoid.

    Input (N, in_channels, h, w), output RGB (N, 3, h * 2^n_down, w * 2^n_down) in [0, 1].
    """

    def __init__(self, *, in_channels: int, ngf: int = 64, n_down: int = 3, max_channels: int | None = None):
        super().__init__()
        widths = [in_channels] + [min(ngf * 2**i, max_channels or math.inf) for i in reversed(range(n_down))]
        layers = []
        for a, b in zip(widths, widths[1:], strict=False):
            upsample = nn.ConvTranspose2d(a, b, 3, stride=2, padding=1, output_padding=1)
            layers += [upsample, nn.BatchNorm2d(b), nn.ReLU(inplace=True)]
        self.upsample = nn.Sequential(*layers)
        self.to_rgb = nn.Conv2d(widths[-1], 3, 7, padding=3, padding_mode="reflect")

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.to_rgb(self.upsample(x)))


def conv_norm_relu(in_channels: int, out_channels: int, *, kernel_size: int, stride: int = 1,
                   groups: int = 1) -> nn.Sequential:
    """Convolution with reflected borders and no bias, BatchNorm, ReLU."""
    options: dict[str, Any] = dict(padding=kernel_size // 2, groups=groups, bias=False, padding_mode="reflect")
    convolution = nn.Conv2d(in_channels, out_channels, kernel_size, stride, **options)
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))


class FourierPositions(nn.Module):
    """Appends Fourier features of the position to a map (N, in_channels, h, w) and projects to `out_channels`.

    Positions run linearly from -1 to 1 along each axis. Features, in order: y, x, sin(pi f y), sin(pi f x), cos(pi f
    y), cos(pi f x) for `n_frequencies` frequencies f, linear from 1 to `max_frequency`.
    """

    def __init__(self, *, in_channels: int, out_channels: int, n_frequencies: int = 64, max_frequency: float = 16.0):
        super().__init__()
        self.n_frequencies, self.max_frequency = n_frequencies, max_frequency
        self.project = nn.Conv2d(in_channels + 2 + 4 * n_frequencies, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        features = self.features(x.shape[-2], x.shape[-1], x.device).to(x.dtype)
        # The projection of both, without repeating the features for every sample.
        of_x, of_features = self.project.weight.split([x.shape[1], features.shape[1]], dim=1)
        return F.conv2d(x, of_x) + F.conv2d(features, of_features, self.project.bias)

    def features(self, height: int, width: int, device: torch.device | None = None) -> Tensor:
        """(1, 2 + 4 * n_frequencies, height, width), float32."""
        y = torch.linspace(-1, 1, height, device=device)
        x = torch.linspace(-1, 1, width, device=device)
        position = torch.stack(torch.meshgrid(y, x, indexing="ij"))  # 2, h, w
        frequencies = torch.linspace(1, self.max_frequency, self.n_frequencies, device=device)
        phase = math.pi * position[:, None] * frequencies[:, None, None]  # 2, f, h, w
        return torch.cat([position, phase.sin().flatten(0, 1), phase.cos().flatten(0, 1)])[None]


class Residual(nn.Module):
    """x plus the output of the layers, applied in sequence."""

    def __init__(self, *layers: nn.Module):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


def grouped_block(channels: int, groups: int) -> Residual:
    """`x + ReLU(BN(3x3 grouped convolution))`: the local block of "ours w/o FFC"."""
    return Residual(*conv_norm_relu(channels, channels, kernel_size=3, groups=groups))


def mlp(width: int, layer: Callable[[int, int], nn.Module] = nn.Linear) -> nn.Sequential:
    """Two layers and exact GELU, all of one width (the release does not widen in between)."""
    return nn.Sequential(layer(width, width), nn.GELU(), layer(width, width))


def initialise(network: nn.Module) -> None:
    """Linear and Conv2d weights from N(0, 0.02), biases 0, as in the original release; the rest as torch does."""
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def crop_like(prediction: Tensor, image: Tensor) -> Tensor:
    """Cuts off what the decoder adds to a prediction (N,C,H,W) at the right and bottom when a side of `image` (N,C,H,W)
    is not a multiple of the stride.
    """
    return prediction[..., :image.shape[-2], :image.shape[-1]]


def check_inputs(target: Tensor, sources: Tensor, flows: Tensor, flow_errors: Tensor) -> None:
    """Raises InputError, naming tensor and expected shape, unless the inputs of a generator fit together."""
    b, _, h, w = target.shape if target.ndim == 4 else (0, 0, 0, 0)
    t = sources.shape[1] if sources.ndim == 5 else 0
    expected = {"target": (target, (b, 4, h, w)), "sources": (sources, (b, t, 4, h, w)),
                "flows": (flows, (b, t, 2, h, w)), "flow_errors": (flow_errors, (b, t, 1, h, w))}
    for name, (tensor, shape) in expected.items():
        if tuple(tensor.shape) != shape:
            axes = "(B, 4, H, W)" if name == "target" else f"{shape} like the target"
            raise InputError(f"{name}: shape {tuple(tensor.shape)}, expected {axes}")
