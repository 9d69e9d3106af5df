"""Pixel write: colours of aligned keyframes enter the output at the image's own resolution. Ours, not the paper's.

The deformable write brings keyframes in at the resolution of the features, and the decoder has to generate finer
detail. Here every keyframe is warped to the target as an image, and the output is a weighted mean of them and of the
decoded image. Weights come from bilinear samples of keyframes; what is written is sampled cubically, which is sharper.
"""
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gi.errors import expect_at_least
from gi.flow.align import align, lost_detail
from gi.flow.warp import resize
from gi.flow.window import EVERYWHERE, Window, corner


class PixelWrite(nn.Module):
    """out = w_0 decoded + sum over keyframes of w_k warped_k, w the softmax over the logits of these 1 + T images.

    The decoded image's logit is 0. A keyframe's comes from convolutions that all keyframes share and that see, beside
    the colours, evidence whether to trust it: flow error, agreement with the target where that is known (at the pixel
    and around it), with the other keyframes, with the decoded image. Where a keyframe is not visible its weight is
    exactly 0.
    """

    POOLING = (8, 4, 4)  # agreement is averaged over 8, 32, 128 pixels: the middle of a hole is far from what is known
    MARGIN = 3  # pixels around each that its weight depends on, apart from these averages

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
                flow_errors: Tensor, part: Window = EVERYWHERE) -> tuple[Tensor, Tensor]:
        """Sum of the keyframes, each times its weight (B, 3, H, W), and their joint weight (B, 1, H, W); 0 outside of
        `part`, in whose outermost `MARGIN` pixels the weights are not those of the whole image.
        """
        known, inside = 1 - target[:, 3:], (..., *part)
        aligned = [align(source[:, :3], source[:, 3:], flow)
                   for source, flow in zip(sources, flows.unbind(1), strict=True)]
        around = []
        for colour, visible in aligned:
            both = known * visible
            mismatch = _distance(colour, target[:, :3]) * both
            around.append([mismatch[inside], *self._around(mismatch, both, inside)])

        # The rest depends on few pixels around each, so it is computed for the part only.
        missing, known, drawn = target[inside][:, 3:], known[inside], decoded.float()[inside]
        aligned = [(colour[inside], visible[inside]) for colour, visible in aligned]
        errors = flow_errors[inside].float().clamp(min=0).log1p().unbind(1)
        total, count = (sum(parts) for parts in zip(*aligned, strict=True)) if aligned else (0, 0)
        logits = []
        for (colour, visible), error, (mismatch, *further) in zip(aligned, errors, around, strict=True):
            also_visible = (count - visible).clamp(max=1) * visible  # 1 where another keyframe shows this pixel as well
            consensus = (total - colour) / (count - visible).clamp(min=1)
            clues = [colour, visible, error, drawn, (colour - drawn) * visible, missing, mismatch]
            clues += [_distance(colour, consensus) * also_visible, also_visible, *further]
            logit = self.head(torch.cat(clues, dim=1)).float() - self.error_scale * error
            logits.append(logit.masked_fill(visible == 0, -torch.inf))
        own = torch.zeros_like(known, dtype=torch.float32)
        weights = torch.stack([own, *logits], dim=1).softmax(dim=1)
        details = (lost_detail(source[:, :3], source[:, 3:], flow[inside], corner(part))
                   for source, flow in zip(sources, flows.unbind(1), strict=True))
        parts = (weight * (colour + visible * detail).clamp(0, 1) for weight, (colour, visible), detail
                 in zip(weights[:, 1:].unbind(1), aligned, details, strict=True))
        written, share = sum(parts, torch.zeros_like(drawn)), 1 - weights[:, 0]
        if share.shape[-2:] == target.shape[-2:]:
            return written, share
        whole = written.new_zeros(len(target), 4, *target.shape[-2:])
        whole[inside] = torch.cat([written, share], dim=1)
        return whole[:, :3], whole[:, 3:]

    def _around(self, mismatch, both, inside):
        """For each scale the mean mismatch of the pixels where target and keyframe are known, and their share, both
        inside a part.
        """
        size = both.shape[-2:]
        for step in self.POOLING:
            mismatch, both = (F.avg_pool2d(x, step, ceil_mode=True, count_include_pad=False)
                              for x in (mismatch, both))
            share = resize(both, size)[inside]
            yield resize(mismatch, size)[inside] / (share + 1e-4)
            yield share


def _distance(a, b):
    return (a - b).abs().mean(dim=1, keepdim=True)
