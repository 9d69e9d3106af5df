"""Pixel write: colours of aligned keyframes enter the output at the image's own resolution. Ours, not the paper's.

The deformable write brings keyframes in at the resolution of the features, and the decoder draws anew what is finer.
Here every keyframe is warped to the target as an image, and the output is a weighted mean of them and of the drawing.
"""
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gi.errors import expect_at_least
from gi.flow.align import align
from gi.flow.warp import resize


class PixelWrite(nn.Module):
    """out = w_0 decoded + sum over keyframes of w_k warped_k, w the softmax over the logits of these 1 + T images.

    The decoded image's logit is 0. A keyframe's comes from convolutions that all keyframes share and that see, beside
    the colours, what tells whether to trust it: flow error, agreement with the target where that is known (here and
    around here), with the other keyframes, with the decoder. Where a keyframe is not visible its weight is exactly 0.
    """

    POOLING = (8, 4, 4)  # agreement is averaged over 8, 32, 128 pixels: the middle of a hole is far from what is known

    def __init__(self, width: int = 24):
        super().__init__()
        expect_at_least(1, width=width)
        conv: dict[str, Any] = dict(kernel_size=3, padding=1, padding_mode="reflect")
        last = nn.Conv2d(width, 1, **conv)
        self.head = nn.Sequential(
            nn.Conv2d(15 + 2 * len(self.POOLING), width, **conv), nn.ReLU(),
            nn.Conv2d(width, width, **conv), nn.ReLU(), last)
        self.error_scale = nn.Parameter(torch.tensor(2.0))
        for layer in self.head[:3:2]:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
        nn.init.normal_(last.weight, std=0.02)
        nn.init.constant_(last.bias, 2.0)

    def forward(self, decoded: Tensor, target: Tensor, sources: Sequence[Tensor], flows: Tensor,
                flow_errors: Tensor) -> Tensor:
        """`decoded` (B, 3, H, W) in [0, 1]; `sources` are T frames (B, 4, H, W), the rest as in
        `TwoStreamGenerator.forward`. Returns (B, 3, H, W) float32.
        """
        colours, share = self.trusted(decoded, target, sources, flows, flow_errors)
        return colours + (1 - share) * decoded.float()

    def trusted(self, decoded: Tensor, target: Tensor, sources: Sequence[Tensor], flows: Tensor,
                flow_errors: Tensor) -> tuple[Tensor, Tensor]:
        """What keyframes contribute, each times its weight (B, 3, H, W), and their joint weight (B, 1, H, W)."""
        decoded, known = decoded.float(), 1 - target[:, 3:]
        errors = flow_errors.float().clamp(min=0).log1p().unbind(1)
        aligned = [align(source[:, :3], source[:, 3:], flow)
                   for source, flow in zip(sources, flows.unbind(1), strict=True)]
        total, count = (sum(parts) for parts in zip(*aligned, strict=True)) if aligned else (0, 0)
        logits = []
        for (colour, seen), error in zip(aligned, errors, strict=True):
            others = (count - seen).clamp(max=1) * seen  # 1 where another keyframe shows this pixel as well
            consensus = (total - colour) / (count - seen).clamp(min=1)
            both = known * seen
            mismatch = _distance(colour, target[:, :3]) * both
            clues = [colour, seen, error, decoded, (colour - decoded) * seen, 1 - known, mismatch]
            clues += [_distance(colour, consensus) * others, others, *self._around(mismatch, both)]
            logit = self.head(torch.cat(clues, dim=1)).float() - self.error_scale * error
            logits.append(logit.masked_fill(seen == 0, -torch.inf))
        own = torch.zeros_like(known, dtype=torch.float32)
        weights = torch.stack([own, *logits], dim=1).softmax(dim=1)
        parts = (weight * colour for weight, (colour, _) in zip(weights[:, 1:].unbind(1), aligned, strict=True))
        written = sum(parts, torch.zeros_like(decoded))
        return written, 1 - weights[:, 0]

    def _around(self, mismatch, both):
        """For each scale the mean mismatch of the pixels where target and keyframe are known, and their share."""
        size = both.shape[-2:]
        for step in self.POOLING:
            mismatch, both = (F.avg_pool2d(x, step, ceil_mode=True, count_include_pad=False)
                              for x in (mismatch, both))
            share = resize(both, size)
            yield resize(mismatch, size) / (share + 1e-4)
            yield share


def _distance(a, b):
    return (a - b).abs().mean(dim=1, keepdim=True)
