"""Aligned keyframes where a small network trusts them, a smooth continuation elsewhere. Ours, not the paper's."""
from torch import nn

from gi.models.blocks import check_inputs
from gi.models.pixel_write import PixelWrite
from gi.models.smooth_start import smooth_start


class TrustedCopy(nn.Module):
    """What `TwoStreamGenerator` with `pixel_write` and `smooth_start` begins with, before its streams change it.

    Of a few thousand parameters and trained in minutes. Shows how far copying gets that knows what to trust; its
    `pixel_write` serves such a network as it is.
    """

    def __init__(self, *, pixel_width: int = 16):
        super().__init__()
        self.pixel_write = PixelWrite(pixel_width)

    def forward(self, target, sources, flows, flow_errors):
        """RGB (B, 3, H, W) in [0, 1]; inputs as in `TwoStreamGenerator.forward`."""
        check_inputs(target, sources, flows, flow_errors)
        guides = (sources.unbind(1), flows, flow_errors) if sources.shape[1] else ()
        return smooth_start(target, self.pixel_write, *guides)[0]
