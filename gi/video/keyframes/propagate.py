"""Filling holes with what other frames show, by following optical flow forward and backward (paper, supplement A).

The code behind the paper's video results was never published: these are our own rules for the one sentence it has.
"""
from collections.abc import Callable

import torch
from torch import Tensor

from gi.video.keyframes.trace import Found, Step, hole_points, trace

Steps = Callable[[int], Step]  # 0, 1, 2, …: what leads from the frame at hand to its first, second, … neighbour


def propagate(image: Tensor, mask: Tensor, directions: list[tuple[int, Steps]], *, tolerance: float,
              ) -> tuple[Tensor, Tensor]:
    """Fills the hole of `image` (1,3,H,W) where `mask` (1,1,H,W) is 1 with the colours that flow leads to.

    Args:
        directions: number of steps and the steps of each direction, see `trace`.
        tolerance: pixels at 432 x 240; a way whose forward-backward errors add up to more is not trusted.

    Returns:
        The image, and what is missing still. Where several directions found something, they are averaged with weights
        exp(-error) / steps: the closer and the more consistent, the more it counts.
    """
    points = hole_points(mask)
    if not len(points):
        return image, mask
    found = [trace(points, steps, step, tolerance=tolerance) for steps, step in directions if steps > 0]
    if not found:
        return image, mask
    colour, known = blend(found)
    x, y = points.long().unbind(1)
    x, y = x[known], y[known]
    image, mask = image.clone(), mask.clone()
    image[0, :, y, x] = colour[known].clamp(0, 1).T
    mask[0, 0, y, x] = 0
    return image, mask


def blend(found: list[Found]) -> tuple[Tensor, Tensor]:
    """Colours (N, 3) of the points, and (N,) whether anything was found; see `propagate`."""
    weights = torch.stack([(f.steps > 0) * torch.exp(-f.error) / f.steps.clamp(min=1) for f in found])
    total = weights.sum(dim=0)
    colours = (weights[..., None] * torch.stack([f.colour for f in found])).sum(dim=0)
    return colours / total.clamp(min=1e-20)[:, None], total > 0
