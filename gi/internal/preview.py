"""Pictures of a network's progress: frames of the video with their holes, and filled."""
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from gi.compositing import composite, pixels_of_tensor, tensor_of_pixels
from gi.internal.shot import Shot
from gi.report.pictures import hatch, to_uint8


@torch.no_grad()
def fill_frame(network: nn.Module, frame: np.ndarray, mask: np.ndarray, prior: np.ndarray | None = None) -> np.ndarray:
    """`frame`, uint8 (H, W, 3), with the hole of `mask` (H, W) filled; uint8, known pixels as they are. prior: as
    `frame`, for a network that has one.
    """
    device = next(network.parameters()).device
    image, *priors = (tensor_of_pixels(np.ascontiguousarray(x), device)[None] for x in (frame, prior) if x is not None)
    hole = torch.from_numpy(np.ascontiguousarray(mask)).to(device)[None, None].float()
    filled = composite(network(image, hole, *priors)[-1].float(), image, hole)
    return pixels_of_tensor(filled[0])


def strip(network: nn.Module, shot: Shot, *, columns: int = 5) -> np.ndarray:
    """uint8 (rows, columns, 3): frames spread over those with a hole, hatched there, above the same filled."""
    numbers = shot.holes if len(shot.holes) else np.arange(len(shot))
    chosen = numbers[np.linspace(0, len(numbers) - 1, min(columns, len(numbers))).round().astype(int)]
    above = [hatch(shot.frames[i] / 255, shot.masks[i]) for i in chosen]
    below = [fill_frame(network, shot.frames[i], shot.masks[i]) for i in chosen]
    return rows_of(above, below)


def rows_of(*rows: Sequence[np.ndarray]) -> np.ndarray:
    """Rows of as many pictures, uint8 (H, W, 3) all, in one picture."""
    joined = [np.concatenate(row, axis=1) for row in rows]
    gap = to_uint8(np.ones((2, joined[0].shape[1], 3)))
    return np.concatenate([part for row in joined for part in (gap, row)][1:])
