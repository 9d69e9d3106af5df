"""How far colours along flow can be trusted, measured around the hole, where ground truth is known. Ours.

Flow in a ring around a hole is completed in the same way as inside. So following the ring's known pixels shows the
errors to expect, frame by frame and place by place: from waves that changed, a figure that passed, a motion that was
not the hole's. The error of a smooth continuation from the hole's border is estimated from how fast colours change with
distance.
"""
import cv2
import numpy as np
import torch
from torch import Tensor

from gi.flow.unseen import GROWTH, grow_hole, soft_fill
from gi.flow.warp import sample
from gi.media.scale import video_pixels

CELL = 8  # pixels at 432 x 240 whose errors are averaged
EVERY = 2  # of the ring's pixels, one is followed
NEAR = 20  # pixels at 432 x 240 around a hole that tell how fast colours change
SHARPER = 2.0  # times the squared error of a smooth continuation, at which the trust in a copy is one half
GENERATED = 0.5  # added to that ratio for colours that a network generated, for its own error
_POOLED = 0.01  # weight of the errors of all steps together beside those of one step
_NOISE = 1e-5  # squared error of colours that are as good as equal


def trust(expected: Tensor, alternative: Tensor, *, generated: bool = False) -> Tensor:
    """How much copied colours count beside a smooth continuation, in [0, 1]: by the squared errors to expect of both.

    Errors are of colours in [0, 1] and above 0, in shapes that broadcast. The square makes the better one count nearly
    alone where they differ much.
    """
    return 1 / (1 + (expected / (SHARPER * alternative) + (GENERATED if generated else 0)) ** 2)


class Witnesses:
    """Known pixels around the hole `mask` (1,1,H,W) of `image` (1,3,H,W), and their errors along flow, step by step."""

    def __init__(self, image: Tensor, mask: Tensor):
        size = mask.shape[-2:]
        ring = grow_hole(mask, round(video_pixels(GROWTH, size))) * (1 - mask)
        x, y = ring[0, 0].nonzero().flip(1)[::EVERY].unbind(1)
        self.points, self._colours = torch.stack([x, y], dim=1).float(), image[0, :, y, x].T
        self._cell = video_pixels(CELL, size)
        self._rows, self._columns = (int(length / self._cell) + 1 for length in size)
        self._place = (y / self._cell).long() * self._columns + (x / self._cell).long()
        self._steps: list[Tensor] = []  # (2, cells) each: sums of squared errors, and how many

    def note(self, index: Tensor, colours: Tensor) -> None:
        """Records that in the next step the pixels of this `index` (M) led to `colours` (M, 3)."""
        error = (colours - self._colours[index]).square().mean(dim=1)
        sums = error.new_zeros(2, self._rows * self._columns)
        self._steps.append(sums.index_add_(1, self._place[index], torch.stack([error, torch.ones_like(error)])))

    def expected(self, points: Tensor, steps: Tensor) -> Tensor:
        """Squared errors (N) to expect of the colours that `points` (N, 2) led to after `steps` (N), at least 1.

        They are those of the witnesses around them after as many steps; almost 0 where there are none at all.
        """
        sums = torch.stack(self._steps)
        sums = (sums + _POOLED * sums.mean(dim=0)).view(-1, 2, self._rows, self._columns)
        errors, number = sums.split(1, dim=1)
        share = number / (number + 1)
        errors = soft_fill(errors / number.clamp(min=1e-6) * share, share)[:, 0]
        around = sample(errors[None], points / self._cell - 0.5)
        return around.gather(1, steps.long()[:, None] - 1)[:, 0] + _NOISE


def smooth_error(image: Tensor, mask: Tensor) -> Tensor:
    """Squared error (1,1,H,W) to expect of a smooth continuation into the hole `mask` (1,1,H,W) of `image` (1,3,H,W).

    By the distance from the hole's border, the mean squared difference of known pixels so far apart, near the hole.
    """
    colours, hole = image[0].permute(1, 2, 0).cpu().numpy(), (mask[0, 0] > 0.5).cpu().numpy()
    border = np.pad(hole.astype(np.uint8), 1, mode="edge")  # what lies beyond the frame is not known
    distance = cv2.distanceTransform(border, cv2.DIST_L2, 5)[1:-1, 1:-1] * hole
    margin = round(video_pixels(NEAR, hole.shape))
    near = cv2.dilate(hole.astype(np.uint8), np.ones((2 * margin + 1,) * 2)).astype(bool) & ~hole
    spans, costs = [0.0], [0.0]
    for span in 2 ** np.arange(12):
        across = (colours[:, span:] - colours[:, :-span])[near[:, span:] & near[:, :-span]]
        down = (colours[span:] - colours[:-span])[near[span:] & near[:-span]]
        if len(across) + len(down) == 0:
            break
        spans.append(float(span))
        costs.append(float(np.square(np.concatenate([across, down])).mean()))
        if span >= min(distance.max(), margin):
            break
    if len(spans) == 1:  # nothing is known: any colour is better than none
        return torch.ones_like(mask)
    return torch.from_numpy(np.interp(distance, spans, costs)).float().to(mask.device)[None, None] + _NOISE
