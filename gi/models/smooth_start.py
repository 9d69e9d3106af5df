"""A first guess of what is missing, which a network then looks at and improves on. Ours, not the paper's."""
import torch
from torch import nn

from gi.flow.unseen import soft_fill


def smooth_start(target, pixel_write=None, sources=None, flows=None, flow_errors=None):
    """The target (B, 4, H, W) with its hole filled, (B, 3, H, W) float32, and how much of it is a guess, (B, 1, H, W).

    `sources`, T frames (B, 4, H, W), unless None, enter where `pixel_write` trusts them. What is known, or trusted, is
    then continued smoothly. A guess is what is neither: 0 where known, 1 where it is all continuation.
    """
    colours, mask = target[:, :3].float(), target[:, 3:].float()
    colours, share = colours * (1 - mask), 1 - mask
    if sources is not None:
        alone = soft_fill(colours, share, relax=True)
        seen, trust = pixel_write.trusted(alone, target, sources, flows, flow_errors)
        colours, share = colours + mask * seen, share + mask * trust
    return soft_fill(colours, share, relax=True), 1 - share


class Blend(nn.Module):
    """Between the first guess and what a decoder drew, pixel by pixel, as far as the first guess is one.

    In training half of the samples, drawn by chance, are the drawing alone: a decoder that only had to improve on a
    guess would learn to do nothing, as anything else is worse at first.
    """

    def __init__(self, width: int = 16):
        super().__init__()
        conv = dict(kernel_size=3, padding=1, padding_mode="reflect")
        self.head = nn.Sequential(nn.Conv2d(10, width, **conv), nn.ReLU(), nn.Conv2d(width, 1, **conv))
        nn.init.constant_(self.head[-1].bias, -2.0)

    def forward(self, decoded, start, share):
        """decoded, start (B, 3, H, W) in [0, 1], share (B, 1, H, W): see `smooth_start`. (B, 3, H, W) float32."""
        change = decoded.float() - start
        clues = torch.cat([decoded.float(), start, share, change.abs()], dim=1).detach()
        weight = share * self.head(clues).float().sigmoid()
        if self.training:
            alone = torch.rand(len(weight), 1, 1, 1, device=weight.device) < 0.5
            weight = torch.where(alone, 1, weight)
        return start + weight * change
