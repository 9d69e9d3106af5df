"""Pictures of how far a network is: frames of the video with their holes, and filled."""
import numpy as np
import torch
from torch import nn

from gi.compositing import composite
from gi.internal.shot import Shot
from gi.report.pictures import hatch, to_uint8


@torch.no_grad()
def fill_frame(network: nn.Module, frame: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """`frame`, uint8 (H, W, 3), with the hole of `mask` (H, W) filled; uint8, known pixels as they are."""
    device = next(network.parameters()).device
    image = torch.from_numpy(np.ascontiguousarray(frame)).to(device).permute(2, 0, 1)[None].float() / 255
    hole = torch.from_numpy(np.ascontiguousarray(mask)).to(device)[None, None].float()
    filled = composite(network(image, hole)[-1].float(), image, hole)
    return (255 * filled[0]).round().byte().permute(1, 2, 0).cpu().numpy()


def strip(network: nn.Module, shot: Shot, *, columns: int = 5) -> np.ndarray:
    """uint8 picture: frames spread over those with a hole, hatched there, above the same filled."""
    numbers = shot.holes if len(shot.holes) else np.arange(len(shot))
    chosen = numbers[np.linspace(0, len(numbers) - 1, min(columns, len(numbers))).round().astype(int)]
    above = [hatch(shot.frames[i] / 255, shot.masks[i]) for i in chosen]
    below = [fill_frame(network, shot.frames[i], shot.masks[i]) for i in chosen]
    gap = to_uint8(np.ones((2, len(chosen) * shot.size[1], 3)))
    return np.concatenate([np.concatenate(above, axis=1), gap, np.concatenate(below, axis=1)])
