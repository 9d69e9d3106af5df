"""Candidates for a hole's content: what flow leads to, a network's drawing, a smooth continuation.

They come with clues, features that tell how good each is, so that a small network can choose for each pixel.
"""
from collections.abc import Mapping
from typing import NamedTuple

import cv2
import torch
import torch.nn.functional as F
from torch import Tensor

from gi.flow.morphology import dilate
from gi.flow.unseen import soft_fill
from gi.media.scale import video_pixels
from gi.video.keyframes import plan
from gi.video.keyframes.chunk import ChunkFiller
from gi.video.keyframes.pipeline import VideoInpainter
from gi.video.keyframes.trace import Traced, hole_points, scatter, trace
from gi.video.keyframes.window import Window
from gi.video.method import VideoMethod

CANDIDATES = "flow alone", "adapted", "drawing", "smooth"
CLUES, GUESSED = 20, 15  # number of clues, see `describe`; index of the one for pixels that no frame shows
RING = 4  # pixels at 432 x 240 around a hole, where candidates are compared with what is known
NEAR = 3  # differences of candidates are also averaged over squares that reach so many pixels to each side
DEEP = 10  # pixels at 432 x 240 from the border of a hole, where its depth counts one half


class Followed(NamedTuple):
    """A frame as flow alone fills it, with the intermediate results. Pictures are float32 (…, 3, h, w) in [0, 1]."""

    image: Tensor  # 1, 3, h, w: what flow alone gives
    mask: Tensor  # 1, 1, h, w: 1 = missing, what edits show excepted
    guessed: Tensor  # 1, 1, h, w: 1 = missing, and no frame shows it
    around: Tensor  # 1, 1, h, w: the hole and a ring around it, beyond which the following are 0
    propagated: Tensor  # 3, 3, h, w: where flow leads to: forward and backward averaged, forward, backward
    reached: Tensor  # 3, 1, h, w: 1 = it leads to a known pixel
    error: Tensor  # 2, 1, h, w: forward-backward errors along each way, in pixels at 432 x 240
    steps: Tensor  # 2, 1, h, w: frames passed on each way


class FollowingFiller(ChunkFiller):
    """Fills as flow alone does, and keeps the intermediate results: its frames are `Followed`."""

    def __init__(self, settings: VideoMethod, window: Window):
        super().__init__(settings, window)
        self._kept: dict[int, Followed] = {}

    @torch.inference_mode()
    def __call__(self, chunk: plan.Chunk) -> Mapping[int, Followed]:  # type: ignore[override]
        super().__call__(chunk)
        kept = self._kept
        self._kept = {number: followed for number, followed in kept.items() if number >= chunk.last}
        return {number: kept[number] for number in chunk.frames if number in kept}

    def _propagate(self, number, image, mask, spans, content, *, only=None, **options):
        traced = []  # the result for the hole's pixels in each direction

        def follow(*args, **named):
            traced.append(trace(*args, **named))
            return traced[-1]

        result = super()._propagate(number, image, mask, spans, content, only=only, follow=follow, **options)
        around = dilate(mask, round(video_pixels(RING, mask.shape[-2:])))
        hole, ring = hole_points(mask), hole_points(around * (1 - mask))
        points, each = torch.cat([hole, ring]), []
        for length, direction in spans:
            step = self._steps(number, direction, content, only)
            inside = traced.pop(0) if length > 0 and len(hole) else trace(hole, 0, step, tolerance=0)
            beside = trace(ring, length, step, tolerance=self.settings.tolerance)
            each.append(Traced(*map(torch.cat, zip(inside, beside, strict=True))))
        backward, forward = each
        weights = torch.stack([(track.steps > 0) * torch.exp(-track.error) / track.steps.clamp(min=1)
                               for track in (forward, backward)])
        weights = (weights / weights.sum(dim=0).clamp(min=1e-20))[..., None]
        both = (weights * torch.stack([forward.colour, backward.colour])).sum(dim=0)
        reached = [torch.maximum(forward.steps, backward.steps) > 0, forward.steps > 0, backward.steps > 0]

        def maps(values):  # of (N, C) each
            return torch.cat([scatter(image, points, x)[0] for x in values])

        self._kept[number] = Followed(
            image, mask, mask, around, maps([both, forward.colour, backward.colour]),
            maps([x[:, None].float() for x in reached]), *(maps([x[:, None] for x in values]) for values in (
                (forward.error, backward.error), (forward.steps, backward.steps))))
        return result

    def _generate(self, number, image, mask, guides, kind, content):
        filled = super()._generate(number, image, mask, guides, kind, content)
        self._kept[number] = self._kept[number]._replace(image=filled.image, guessed=filled.guessed)
        return filled


class Following(VideoInpainter):
    """Flow alone, whose `fill` yields `Followed` instead of pictures."""

    filler = FollowingFiller


def describe(followed: Followed, drawing: Tensor) -> tuple[Tensor, Tensor]:
    """Candidates (P, K, 3) in [0, 1] for each pixel of a frame's hole, row by row, in the order of `CANDIDATES`, and
    clues (P, C).

    `drawing` (1, 3, h, w) is one of them, shifted to meet the colours around the hole; "adapted" is what flow leads to,
    shifted in the same way, or what flow alone gives where that is nothing. Clues are of the order of 1, and none tells
    where in the frame a pixel is. Each direction of flow is a source of clues, but not a candidate: that brought
    nothing, see docs/internal.md.
    """
    unit = video_pixels(1.0, followed.mask.shape[-2:])
    place = _box(followed.around, round(2 * RING * unit))
    image, mask, guessed, around, propagated, reached, error, steps, drawing = (x[place] for x in (*followed, drawing))
    ring, seam = around * (1 - mask), reached * (1 - mask)
    misfit = torch.cat([image - propagated, image - drawing]) * torch.cat([seam, ring])
    offset = soft_fill(misfit, torch.cat([seam, ring]), relax=True)
    distrust = soft_fill(misfit[:3].abs().mean(dim=1, keepdim=True), seam)
    adapted = torch.where(reached[:1] > 0, propagated[:1] + offset[:1], image)
    directions = torch.where(reached[1:] > 0, propagated[1:], image)  # each direction by itself
    smooth = soft_fill(image * (1 - mask), 1 - mask, relax=True)
    colours = torch.cat([image, adapted, drawing + offset[3:], smooth]).clamp(0, 1)
    colours = torch.where(mask > 0, colours, image)

    def averaged(x):
        radius = round(NEAR * unit)
        return F.avg_pool2d(x, 2 * radius + 1, stride=1, padding=radius, count_include_pad=False)

    difference = (colours[1:] - colours[:1]).abs().mean(dim=1, keepdim=True)
    grey, led = colours[[0, 2]].mean(dim=1, keepdim=True), reached[1:]
    contrast = averaged((grey - averaged(grey)).abs())
    inside = cv2.distanceTransform(mask[0, 0].byte().cpu().numpy(), cv2.DIST_L2, 3)
    depth = torch.from_numpy(inside).to(mask)[None, None] / unit
    clues = torch.cat([
        8 * difference, 8 * averaged(difference), led, led * torch.exp(-error), led / steps.clamp(min=1), distrust,
        guessed, depth / (depth + DEEP), 4 * (directions[:1] - directions[1:]).abs().mean(dim=1, keepdim=True),
        8 * contrast])
    hole = mask[0, 0] > 0
    return colours[:, :, hole].permute(2, 0, 1), clues[:, 0, hole].T


def _box(mask, margin):
    """Index of the rectangle around what `mask` (1, 1, h, w), not empty, holds, and `margin` pixels more."""
    places = [mask[0, 0].any(dim=dim).nonzero() for dim in (1, 0)]
    return (..., *(slice(max(0, int(indices[0]) - margin), int(indices[-1]) + margin + 1) for indices in places))
