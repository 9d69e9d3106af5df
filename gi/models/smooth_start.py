"""A first guess of what is missing, which a decoder then changes. Ours, not the paper's."""
from gi.flow.unseen import soft_fill


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
