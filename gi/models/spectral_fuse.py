"""LaMa + SpectralFuse: LaMa whose first blocks fuse keyframe features in the Fourier domain (section 4).

The paper has one sentence on this baseline and no code. Our interpretation: the aggregation of the deformable write (a
softmax over keyframes of a query, times a value), applied to spectra instead of warped maps, without any flow. As in
LaMa's FFC, only the global channels have a spectrum.
"""
import torch
from torch import Tensor, nn

from gi.errors import InputError, expect_within
from gi.models.blocks import check_inputs, crop_like
from gi.models.ffc import from_spectrum, to_spectrum
from gi.models.lama import LaMaGenerator


class SpectralFuse(nn.Module):
    """Adds the keyframes' spectra to the target's, weighted by a softmax over keyframes per frequency and channel."""

    def __init__(self, channels: int):
        super().__init__()
        self.query = nn.Conv2d(4 * channels, 2 * channels, 1)
        self.value = nn.Conv2d(2 * channels, 2 * channels, 1)

    def forward(self, target: Tensor, sources: Tensor) -> Tensor:
        """`target` (B, C, h, w), sources (B, T, C, h, w); returns (B, C, h, w)."""
        b, t = sources.shape[:2]
        spectrum = to_spectrum(target)
        source_spectra = to_spectrum(sources.flatten(0, 1))
        repeated = spectrum[:, None].expand(-1, t, -1, -1, -1).flatten(0, 1)
        query = self.query(torch.cat([source_spectra, repeated], dim=1)).unflatten(0, (b, t))
        value = self.value(source_spectra).unflatten(0, (b, t))
        return target + from_spectrum((query.softmax(dim=1) * value).sum(dim=1), target)


class SpectralFuseGenerator(LaMaGenerator):
    """LaMa with a SpectralFuse after each of the first `n_cross` blocks. With T = 0 it is LaMa."""

    def __init__(self, *, ngf: int = 64, n_down: int = 3, n_blocks: int = 6, n_cross: int = 2, ffc_share: float = 0.75):
        super().__init__(ngf=ngf, n_down=n_down, n_blocks=n_blocks, ffc_share=ffc_share)
        expect_within(0, n_blocks, n_cross=n_cross)
        self.split = self.blocks[0].layers[0].split  # local and global channels
        if n_cross and not self.split[1]:
            raise InputError("ffc_share 0 leaves no global channels for SpectralFuse: expected more, or n_cross 0")
        self.fuse = nn.ModuleList(SpectralFuse(self.split[1]) for _ in range(n_cross))

    def forward(self, target: Tensor, sources: Tensor, flows: Tensor, flow_errors: Tensor) -> Tensor:
        """RGB (B, 3, H, W) in [0, 1]; inputs as in `TwoStreamGenerator.forward`."""
        check_inputs(target, sources, flows, flow_errors)
        b, t = sources.shape[:2]
        keyframes = self.encoder(sources.flatten(0, 1)) if t and len(self.fuse) else None
        x = self.encoder(target)
        for i, block in enumerate(self.blocks):
            x = block(x)
            if keyframes is not None and i < len(self.fuse):
                keyframes = block(keyframes)
                x_local, x_global = x.split(self.split, dim=1)
                keyframes_global = keyframes[:, self.split[0] :].unflatten(0, (b, t))
                x = torch.cat([x_local, self.fuse[i](x_global, keyframes_global)], dim=1)
        return crop_like(self.decoder(x), target)
