"""Filling holes with what other frames show, by following optical flow forward and backward (paper, supplement A).

The code behind the paper's video results was never published: these are our own rules for the one sentence it has.
"""
from collections.abc import Callable

import torch
from torch import Tensor

from gi.video.keyframes.trace import Step, hole_points, trace

Steps = Callable[[int], Step]  # 0, 1, 2, …: what leads from the frame at hand to its first, second, … neighbour


def propagate(image: Tensor, mask: Tensor, directions: list[tuple[int, Steps]], *, tolerance: float,
              ) -> tuple[Tensor, Tensor]:
    """Fills the hole of `image` (1,3,H,W) where `mask` (1,1,H,W) is 1 with the colours that flow leads to.

    directions: number of steps and the steps of each direction; `tolerance` and these as in `trace`. Returns the image,
    and what is missing still. Where several directions found something, they are averaged with weights exp(-error) /
    steps: the closer and the more consistent, the more it counts.
    """
    points = hole_points(mask)
    found = [trace(points, steps, step, tolerance=tolerance) for steps, step in directions if steps > 0 and len(points)]
    if not found:
        return image, mask
    weights = torch.stack([(f.steps > 0) * torch.exp(-f.error) / f.steps.clamp(min=1) for f in found])
    total = weights.sum(dim=0)
    colour = (weights[..., None] * torch.stack([f.colour for f in found])).sum(dim=0)
    colour, known = colour / total.clamp(min=1e-20)[:, None], total > 0
    x, y = points[known].long().unbind(1)
    image, mask = image.clone(), mask.clone()
    image[0, :, y, x] = colour[known].clamp(0, 1).T
    mask[0, 0, y, x] = 0
    return image, mask
