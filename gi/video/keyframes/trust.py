"""How far colours that flow leads to can be trusted: measured where the truth is known, around the hole. Ours.

Flow around a hole is completed as it is inside. So the pixels of this ring, followed as those of the hole are, tell what
comes of it, frame by frame and place by place: waves that changed, a figure that passed, a motion that was not the
hole's. What a smooth continuation from the hole's border would cost instead is how fast colours change with distance.
"""
import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gi.flow.unseen import GROWTH, grow_hole, soft_fill
from gi.media.scale import video_pixels

CELL = 8  # pixels at 432 x 240 whose errors are averaged
EVERY_OTHER = 2  # of the ring's pixels is followed
_POOLED = 0.01  # weight that a step's errors give to those of all steps together
_NOISE = 1e-5  # squared error of colours that are as good as equal


class Witnesses:
    """Pixels around the hole `mask` (1,1,H,W) of `image` (1,3,H,W), and what became of them step by step."""

    def __init__(self, image: Tensor, mask: Tensor):
        self.size = mask.shape[-2:]
        ring = grow_hole(mask, round(video_pixels(GROWTH, self.size))) * (1 - mask)
        self.points = ring[0, 0].nonzero().flip(1)[::EVERY_OTHER]
        x, y = self.points.unbind(1)
        self.colours = image[0, :, y, x].T
        self.points = self.points.float()
        self.cell = video_pixels(CELL, self.size)
        self.rows, self.columns = (int(length / self.cell) + 1 for length in self.size)
        self.place = (y / self.cell).long() * self.columns + (x / self.cell).long()
        self.steps: list[Tensor] = []  # (2, cells) each: squared errors and numbers

    def note(self, index: Tensor, colours: Tensor) -> None:
        """In the next step, the pixels of this `index` (M) came upon `colours` (M, 3)."""
        error = (colours - self.colours[index]).square().mean(dim=1)
        sums = error.new_zeros(2, self.rows * self.columns)
        self.steps.append(sums.index_add_(1, self.place[index], torch.stack([error, torch.ones_like(error)])))

    def expected(self, points: Tensor, steps: Tensor) -> Tensor:
        """Expected squared errors (N) of colours found after `steps` (N), 1 or more, for `points` (N, 2)."""
        sums = torch.stack(self.steps)
        sums = (sums + _POOLED * sums.mean(dim=0)).view(-1, 2, self.rows, self.columns)
        errors, number = sums.split(1, dim=1)
        share = number / (number + 1)
        errors = soft_fill(errors / number.clamp(min=1e-6) * share, share)[:, 0]
        size = points.new_tensor([self.columns, self.rows, len(errors)])
        place = torch.cat([points / self.cell - 0.5, steps[:, None] - 1], dim=1)
        grid = 2 * place / (size - 1).clamp(min=1) - 1
        return F.grid_sample(errors[None, None], grid[None, None, None], mode="bilinear", padding_mode="border",
                             align_corners=True)[0, 0, 0, 0] + _NOISE


def smooth_error(image: Tensor, mask: Tensor) -> Tensor:
    """Expected squared error (1,1,H,W) of a smooth continuation into the hole `mask` (1,1,H,W) of `image` (1,3,H,W).

    By the distance from the hole's border, the mean squared difference of known pixels so far apart, near the hole.
    """
    colours, hole = image[0].permute(1, 2, 0).cpu().numpy(), (mask[0, 0] > 0.5).cpu().numpy()
    distance = cv2.distanceTransform(np.pad(hole.astype(np.uint8), 1, mode="edge"), cv2.DIST_L2, 5)[1:-1, 1:-1] * hole
    margin = round(video_pixels(20, hole.shape))
    near = cv2.dilate(hole.astype(np.uint8), np.ones((2 * margin + 1, 2 * margin + 1))).astype(bool) & ~hole
    spans, costs = [0], [0.0]
    for span in 2 ** np.arange(12):
        pairs = [(near[:, span:] & near[:, :-span], colours[:, span:] - colours[:, :-span]),
                 (near[span:] & near[:-span], colours[span:] - colours[:-span])]
        values = np.concatenate([difference[both] for both, difference in pairs])
        if len(values) == 0:
            break
        spans.append(span)
        costs.append(float((values**2).mean()))
        if span >= distance.max() or span >= margin:
            break
    if len(spans) == 1:  # nothing is known: whatever is found is better
        return torch.ones_like(mask)
    return torch.from_numpy(np.interp(distance, spans, costs).astype(np.float32))[None, None].to(mask.device) + _NOISE
