"""A first guess of what is missing, which a decoder then changes. Ours, not the paper's."""
import torch.nn.functional as F


def smooth_start(target, pixel_write=None, sources=None, flows=None, flow_errors=None):
    """The target (B, 4, H, W) with its hole filled, (B, 3, H, W) float32, and how much of it is a guess, (B, 1, H, W).

    Keyframes, unless None, enter where `pixel_write` trusts them. What is known, or trusted, is then continued
    smoothly. A guess is what is neither: 0 where known, 1 where it is all continuation.
    """
    colours, mask = target[:, :3].float(), target[:, 3:].float()
    colours, share = colours * (1 - mask), 1 - mask
    if sources is not None:
        alone = soft_fill(colours, share)
        seen, trust = pixel_write.trusted(alone, target, sources, flows, flow_errors)
        colours, share = colours + mask * seen, share + mask * trust
    return soft_fill(colours, share), 1 - share


def soft_fill(colours, share):
    """Fills (N, C, H, W) where its `share` (N, 1, H, W) in [0, 1] is below 1, smoothly from around.

    `colours` come multiplied by their share, and the rest is a mean over ever larger squares of what is there, as in
    `gi.flow.unseen.smooth_fill`, which this is for shares of 0 and 1. Gradients reach both.
    """
    if min(colours.shape[-2:]) == 1 or len(colours) == 0 or share.min() >= 1:
        return colours
    there = F.avg_pool2d(share, 2, ceil_mode=True)
    coarse_share = (4 * there).clamp(max=1)  # one pixel of four is enough
    coarse = F.avg_pool2d(colours, 2, ceil_mode=True) / there.clamp(min=1e-6) * coarse_share
    coarse = soft_fill(coarse, coarse_share)
    smooth = F.interpolate(coarse, size=colours.shape[-2:], mode="bilinear", align_corners=False)
    return colours + (1 - share) * smooth
