"""The regulariser against flicker: a slightly changed frame should be filled with the same content, changed likewise.
"""
import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms.functional import gaussian_blur

from gi.flow.warp import warp


class Ranges(NamedTuple):
    """Of the random changes, in both directions."""

    shift: float  # pixels
    rotation: float  # degrees
    zoom: float  # of a factor around 1
    shear: float  # degrees
    intensity: float  # of a factor around 1
    blur: tuple[int, ...]  # sizes of the Gaussian window, each as likely; 1 for none


RANGES = {"paper": Ranges(3, 2, 0.05, 1, 0.05, (3, 5)), "release": Ranges(2, 1, 0.03, 1, 0, (1,))}


class Stabilisation(nn.Module):
    """`weight` * sum over stages of the mean of |(f(g(x)) - f(x)) - (g(x) - x)|, 0 in the hole before and after g.

    f fills a frame x, g moves it, and in the paper also makes it brighter or darker and blurs it. Colours are in [-1,
    1]. Pixels that g takes from outside the frame, or partly from the hole, count as hole.

    ranges: the paper's, or the release's, which leaves the paper further: its fixed point is off the centre, as height
    and width are exchanged; what comes from outside the frame counts as known; masks move by the nearest pixel.
    """

    def __init__(self, *, weight: float = 0.2, ranges: Literal["paper", "release"] = "paper"):
        super().__init__()
        self.weight, self.release, self.ranges = weight, ranges == "release", RANGES[ranges]

    def forward(self, prediction: Sequence[Tensor], batch: dict, discriminated: object = None) -> Tensor:
        """`prediction`: stages (B,3,H,W) in [0,1]. Of the batch: "image"; "mask" and "hole" (B,1,H,W), the video's own
        and with the moved one; "fill", the network as a function of image and hole; "random", a generator on the CPU.
        A scalar >= 0, whose gradients go through both fillings.
        """
        image, mask, hole, random = (batch[name] for name in ("image", "mask", "hole", "random"))
        height, width = image.shape[-2:]
        matrix = self.draw(len(image), (height, width), random).to(image.device)
        moved = move(image - 0.5, matrix) + 0.5  # grey from outside
        moved_mask, moved_hole = self.move_masks(torch.stack([mask, hole]), matrix)
        moved, reach = self.recolour(moved, random)
        if reach:
            moved_mask, moved_hole = (F.max_pool2d(x, 2 * reach + 1, 1, reach) for x in (moved_mask, moved_hole))
        again = batch["fill"](moved, moved_hole)
        excluded = torch.maximum(mask, moved_mask)
        return self.weight * sum(unsteadiness(after, before, moved, image, excluded)  # type: ignore[return-value]
                                 for after, before in zip(again, prediction, strict=True))

    def draw(self, count: int, size: tuple[int, int], random: torch.Generator) -> Tensor:
        """`count` random changes of images of `size` = (height, width), as `matrices` (count, 2, 3)."""
        shift, rotation, zoom, shear, *_ = self.ranges
        values = (2 * torch.rand(6, count, generator=random) - 1) * torch.tensor(
            [shift, shift, rotation, zoom, shear, shear])[:, None]
        height, width = size
        return matrices(values[0], values[1], values[2], 1 + values[3], values[4], values[5],
                        size=(height, width) if self.release else (width, height))

    def move_masks(self, masks: Tensor, matrix: Tensor) -> Tensor:
        """Masks (N, B, 1, H, W) under `matrix`, 0 and 1."""
        if self.release:
            return torch.stack([move(mask, matrix, nearest=True) for mask in masks]).round()
        known = torch.stack([move(1 - mask, matrix) for mask in masks])
        return (known < 1 - 1e-3).to(masks.dtype)  # except for rounding, any part of a hole or of the outside counts

    def recolour(self, image: Tensor, random: torch.Generator) -> tuple[Tensor, int]:
        """Other intensities and blur for (B,3,H,W), and how many pixels the blur reaches."""
        if self.ranges.intensity:
            factors = 1 + self.ranges.intensity * (2 * torch.rand(len(image), 1, 1, 1, generator=random) - 1)
            image = (image * factors.to(image.device)).clamp(max=1)
        sizes = [self.ranges.blur[int(torch.randint(len(self.ranges.blur), (), generator=random))] for _ in image]
        if max(sizes) == 1:
            return image, 0
        return torch.stack([gaussian_blur(x, size) for x, size in zip(image, sizes, strict=True)]), max(sizes) // 2


def matrices(shift_x: Tensor, shift_y: Tensor, rotation: Tensor, zoom: Tensor, shear_x: Tensor, shear_y: Tensor, *,
             size: tuple[float, float]) -> Tensor:
    """Affine maps (B, 2, 3) from a pixel (x, y, 1) of the moved image to where it is taken from.

    shifts in pixels, rotation and shears in degrees, each (B,); size: twice the fixed point (x, y).
    """
    rotation, shear_x, shear_y = (angle * (math.pi / 180) for angle in (rotation, shear_x, shear_y))
    a, b = zoom * torch.cos(shear_x - rotation) / shear_x.cos(), zoom * torch.sin(shear_x - rotation) / shear_x.cos()
    d, e = zoom * torch.sin(shear_y + rotation) / shear_y.cos(), zoom * torch.cos(shear_y + rotation) / shear_y.cos()
    x, y = size[0] / 2, size[1] / 2
    c = x - a * (x - shift_x) - b * (y - shift_y)
    f = y - d * (x - shift_x) - e * (y - shift_y)
    return torch.stack([a, b, c, d, e, f], dim=1).view(-1, 2, 3)


def move(image: Tensor, matrix: Tensor, *, nearest: bool = False) -> Tensor:
    """(B,C,H,W) under `matrices` (B,2,3), 0 from outside; bilinear, or the nearest pixel."""
    height, width = image.shape[-2:]
    row, column = torch.meshgrid(*(torch.arange(size, device=image.device, dtype=torch.float32)
                                   for size in (height, width)), indexing="ij")
    pixel = torch.stack([column, row])
    places = torch.einsum("bij,jhw->bihw", matrix[:, :, :2], pixel) + matrix[:, :, 2, None, None]
    return warp(image, (places.round() if nearest else places) - pixel)


def unsteadiness(after: Tensor, before: Tensor, moved: Tensor, image: Tensor, excluded: Tensor) -> Tensor:
    """How much the change between two fills differs from that between the images, all (B,3,H,W) in [0,1]; excluded:
    (B,1,H,W). A scalar.
    """
    return 2 * (((after - before) - (moved - image)).abs() * (1 - excluded)).mean()
