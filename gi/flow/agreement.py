"""Which parts of a keyframe, warped to the target, agree with it: those are used, the rest is not. Ours.

A wrong alignment is worse than none, as patches of other places are copied into the hole. Evidence comes from pixels
that both images show, and counts more near the hole: flow must pass a forward-backward check, and the warped keyframe
must predict the target better than a blur of the target does, which is about what a hole is filled with otherwise.
"""
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from gi.flow.align import align
from gi.flow.exposure import cell_side, match_exposure, scatter, spread
from gi.media.scale import video_pixels

_CONSISTENT = 1.0  # largest forward-backward error, in pixels at 432 x 240, see `video_pixels`
_MEETS = 0.3  # share of pixels whose flow must be consistent, else it is a guess
_WORSE = 0.9  # times the squared error of a blur: a keyframe that differs more shows something else
_MOSTLY = 0.4  # share of the pixels both images show around the hole that must agree
_NOISE = 0.02  # smaller differences are no evidence
_NEAR = 0.5  # of a hole's side: at this distance evidence has a third of the weight
_WINDOW = 5  # cells of `scatter` along the side of the window that evidence is summed over, and ...
_ENOUGH = 1.0  # ... cells of known pixels in it that a verdict needs
_WHOLE, _NOTHING = 0.95, 0.005  # shares of a hole that count as all of it, and as none of it


class Verdict(NamedTuple):
    """What became of a keyframe. `str` has it in words."""

    aligned: bool  # otherwise the keyframe was ignored
    share: float  # of the hole's pixels that it may fill

    def __str__(self):
        if not self.aligned:
            return "could not be aligned, ignored"
        if self.share < _NOTHING:
            return "aligned, but shows nothing of the hole that can be used"
        return "used" if self.share >= _WHOLE else f"used in part, for {100 * self.share:.0f} % of the hole"


class Fitted(NamedTuple):
    """The T' <= T keyframes that are of use, as a generator should see them, and T verdicts."""

    sources: Tensor  # B, T', 3, H, W: with the target's exposure
    source_masks: Tensor  # B, T', 1, H, W: also missing is what disagrees with the target
    flows: Tensor  # B, T', 2, H, W
    errors: Tensor  # B, T', 1, H, W
    verdicts: list[Verdict]


@torch.no_grad()
def fit_keyframes(image: Tensor, mask: Tensor, sources: Tensor, source_masks: Tensor, flows: Tensor,
                  errors: Tensor) -> Fitted:
    """Judges the keyframes of one target (B = 1) and gives them its exposure, see `match_exposure`.

    The arguments are those of a `Guidance` and what it returned.
    """
    kept, verdicts = [], []
    for source, hole, flow, error in zip(*(x.unbind(1) for x in (sources, source_masks, flows, errors)), strict=True):
        source = match_exposure(image, mask, source, hole, flow)
        hole, verdict = judge(image, mask, source, hole, flow, error)
        verdicts.append(verdict)
        if verdict.aligned:
            kept.append((source, hole, flow, error))
    if not kept:
        return Fitted(sources[:, :0], source_masks[:, :0], flows[:, :0], errors[:, :0], verdicts)
    sources, source_masks, flows, errors = (torch.stack(parts, dim=1) for parts in zip(*kept, strict=True))
    return Fitted(sources, source_masks, flows, errors, verdicts)


def judge(image: Tensor, mask: Tensor, source: Tensor, source_mask: Tensor, flow: Tensor,
          error: Tensor) -> tuple[Tensor, Verdict]:
    """The hole of a keyframe with what disagrees with the target added, (1,1,H,W), and the verdict on it.

    `image` and `source` (1,3,H,W) of one exposure, their holes (1,1,H,W), `flow` (1,2,H,W) and its error (1,1,H,W).
    """
    size = image.shape[-2:]
    warped, visible = align(source, source_mask, flow)
    both = visible * (1 - mask)
    consistent = (error < video_pixels(_CONSISTENT, size)).float()
    differs, blurred = (((image - other) ** 2).mean(dim=1, keepdim=True) for other in (warped, _blur(image, 1 - mask)))
    # In a clear sky flow is arbitrary, and does no harm.
    informative = (torch.maximum(differs, blurred) > _NOISE**2).float()
    evidence = both * torch.cat([torch.ones_like(both), informative, informative * consistent, differs,
                                 blurred + _NOISE**2], dim=1)
    gathered = F.avg_pool2d(scatter(evidence, flow), _WINDOW, stride=1, padding=_WINDOW // 2) * _WINDOW**2
    judged = gathered[:, :1] > _ENOUGH * cell_side(size) ** 2
    doubtful = spread((judged & ~_agrees(gathered)).float(), size, cell_side(size)) > 0.5
    usable = torch.maximum(source_mask, doubtful.float())

    near = both * _nearness(mask)
    still_visible = align(source, usable, flow)[1]
    agreeing = (near * still_visible).sum() >= _MOSTLY * near.sum()
    meets = (near * informative * consistent).sum() >= _MEETS * (near * informative).sum()
    aligned = bool(near.any() & agreeing & meets)
    share = ((still_visible * mask).sum() / mask.sum()).item() if mask.any() else 1.0
    return usable, Verdict(aligned, share if aligned else 0.0)


def _agrees(evidence):
    _, informative, consistent, differs, blurred = evidence.split(1, dim=1)
    return (consistent >= _MEETS * informative) & (differs <= _WORSE * blurred)


def _nearness(mask):
    """Weights (1,1,H,W) that fall with the distance from the hole, computed on blocks of half its side."""
    side = max(1, round(_NEAR * mask.sum().sqrt().item()))
    coarse = F.max_pool2d(mask, side, ceil_mode=True)
    weight, reached = coarse, coarse
    for step in range(1, 5):
        grown = F.max_pool2d(reached, 3, stride=1, padding=1)
        weight, reached = weight + (grown - reached) * 3.0**-step, grown
    weight = weight + (1 - reached) * 3.0**-5
    return F.interpolate(weight, size=mask.shape[-2:], mode="bilinear", align_corners=False)


def _blur(image, known):
    """`image` averaged over the known pixels of squares of three cells."""
    side, size = cell_side(image.shape[-2:]), image.shape[-2:]
    layers = F.avg_pool2d(torch.cat([image * known, known], dim=1), side, ceil_mode=True)
    layers = F.avg_pool2d(layers, 3, stride=1, padding=1)
    return F.interpolate(layers[:, :3] / layers[:, 3:].clamp(min=1e-3), size=size, mode="bilinear", align_corners=False)
