"""Following points along optical flow through a video until something known is found.

Positions are carried as coordinates and the frame that is reached is sampled once: a colour is interpolated once,
however many frames lie between. The code behind the paper's video results (supplement A) was never published: these are
our own rules for the one sentence it has.
"""
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from gi.flow.align import surely_known
from gi.flow.morphology import dilate
from gi.flow.unseen import soft_fill
from gi.flow.warp import sample
from gi.media.scale import video_pixels
from gi.models.classical import opencv_inpaint
from gi.video.keyframes.trust import Witnesses, smooth_error, trust

SEAM = 2  # pixels around a hole where copied colours are compared with those of the frame


class Step(NamedTuple):
    """What leads from a frame to its neighbour."""

    flow: Tensor  # 1, 2, H, W: to the neighbour, pixels
    back: Tensor  # 1, 2, H, W: from the neighbour, pixels
    frame: Tensor  # 1, 3, H, W: the neighbour, in [0, 1]
    known: Tensor  # 1, 1, H, W: 1 where the neighbour's colours may be taken
    gain: Tensor  # 3: factors that make the neighbour's colours as bright as the frame's


class Traced(NamedTuple):
    """Where N points led to; of those that led nowhere, `steps` is 0."""

    colour: Tensor  # N, 3: as bright as the frame that the points belong to
    error: Tensor  # N: forward-backward errors summed along the way, in pixels at 432 x 240
    steps: Tensor  # N: frames passed, 0 = nothing found


def trace(points: Tensor, steps: int, step: Callable[[int], Step], *, tolerance: float,
          witnesses: Witnesses | None = None) -> Traced:
    """Follows `points` (N, 2), x and y in pixels, through up to `steps` neighbours, `step(0)` being the first one.

    A point stops at the first neighbour that knows its place, and is given up where it leaves the frame or where the
    errors along its way, mean of x and y, add up to more than `tolerance` pixels at 432 x 240, see `video_pixels`.
    `witnesses` are followed at the same time, also past known pixels, for as many steps.
    """
    number = len(points)
    if witnesses is not None:
        points = torch.cat([points, witnesses.points])
    colour = points.new_zeros(number, 3)
    error, length = points.new_zeros(number), points.new_zeros(number)
    active, position, accumulated = (torch.arange(len(points), device=points.device), points,
                                     points.new_zeros(len(points)))
    gain = points.new_ones(3)
    for i in range(steps):
        if not (active < number).any():
            break
        neighbour = step(i)
        height, width = neighbour.flow.shape[-2:]
        gain = gain * neighbour.gain
        flow = sample(neighbour.flow, position)
        position = position + flow
        missed = (flow + sample(neighbour.back, position)).abs().mean(dim=1)  # where does the way back lead?
        accumulated = accumulated + missed / video_pixels(1.0, (height, width))
        inside = ((position >= 0) & (position <= position.new_tensor([width - 1, height - 1]))).all(dim=1)
        alive = inside & (accumulated <= tolerance)
        active, position, accumulated = active[alive], position[alive], accumulated[alive]
        known = surely_known(sample(neighbour.known, position)[:, 0])
        if witnesses is not None:
            observed = known & (active >= number)
            witnesses.note(active[observed] - number, gain * sample(neighbour.frame, position[observed]))
        arrived = known & (active < number)
        colour[active[arrived]] = gain * sample(neighbour.frame, position[arrived])
        error[active[arrived]] = accumulated[arrived]
        length[active[arrived]] = i + 1
        active, position, accumulated = active[~arrived], position[~arrived], accumulated[~arrived]
    return Traced(colour, error, length)


def hole_points(mask: Tensor) -> Tensor:
    """`x` and `y` (N, 2), float32, of the pixels where `mask` (1, 1, H, W) is 1, row by row."""
    return mask[0, 0].nonzero().flip(1).float()


def propagate(image: Tensor, mask: Tensor, directions: list[tuple[int, Callable[[int], Step]]], *, tolerance: float,
              adapt: bool = False, doubtful: float = 0.0, follow: Callable[..., Traced] = trace
              ) -> tuple[Tensor, Tensor]:
    """Fills the hole of `image` (1,3,H,W) where `mask` (1,1,H,W) is 1 with the colours that flow leads to.

    directions: number of steps and the steps of each direction; `tolerance` and these as in `trace`. Returns the image,
    and what is missing still. The less colours can be trusted, the more of `opencv_inpaint` is mixed in.
    doubtful: trust up to which colours are discarded, see `trust`.
    adapt: some colours were generated; they are shifted, smoothly over the hole, to match those around it.
    follow: called in place of `trace`, once for each direction that has steps, if anything is missing.
    """
    points = hole_points(dilate(mask, SEAM) if adapt else mask)
    colour, reached, doubt = _average(points, directions, tolerance, image, mask, follow)
    propagated, share = scatter(image, points[reached], colour[reached])
    expected, _ = scatter(mask, points[reached], doubt[reached, None])
    if adapt:
        seam = share * (1 - mask)
        propagated = propagated + soft_fill((image - propagated) * seam, seam, relax=True)
    if not (share * mask).any():
        return image, mask
    believed = trust(expected, smooth_error(image, mask), generated=adapt) * share * mask
    share = (believed > doubtful).float()
    smooth = opencv_inpaint(image, mask)
    return torch.where(share > 0, smooth + believed * (propagated.clamp(0, 1) - smooth), image), mask - share


def scatter(image: Tensor, points: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """(1, C, H, W) of the size of `image`, 0 but for `values` (N, C) at `points` (N, 2), and where: (1, 1, H, W)."""
    x, y = points.long().unbind(1)
    share = torch.zeros_like(image[:, :1])
    scattered = share.repeat(1, values.shape[1], 1, 1)
    scattered[0, :, y, x] = values.T
    share[0, 0, y, x] = 1
    return scattered, share


def _average(points, directions, tolerance, image, mask, follow):
    """Colours (N, 3) that the directions lead to, whether (N,) any does, and the squared errors (N,) to expect.

    Where several found something, they are averaged with weights exp(-error) / steps / squared error to expect: the
    closer, the more consistent and the better confirmed, the more it counts.
    """
    traces, doubts = [], []
    for steps, step in directions:
        if steps > 0 and len(points):
            witnesses = Witnesses(image, mask)
            traces.append(follow(points, steps, step, tolerance=tolerance, witnesses=witnesses))
            doubts.append(witnesses.expected(points, traces[-1].steps.clamp(min=1)))
    if not traces:
        return points.new_zeros(len(points), 3), torch.zeros_like(points[:, 0], dtype=torch.bool), points[:, 0]
    doubt = torch.stack(doubts)
    weights = torch.stack([(f.steps > 0) * torch.exp(-f.error) / f.steps.clamp(min=1) for f in traces]) / doubt
    total = weights.sum(dim=0)
    weights = weights / total.clamp(min=1e-20)
    return ((weights[..., None] * torch.stack([f.colour for f in traces])).sum(dim=0), total > 0,
            (weights * doubt).sum(0))
