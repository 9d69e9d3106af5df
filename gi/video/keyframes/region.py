"""The crop of a frame and its guides that a generator sees where little is left to be filled. Ours, not the paper's."""
import cv2
import torch
from torch import Tensor

from gi.media.crop import Box
from gi.media.scale import video_pixels

THIN = 3.0  # pixels at 432 x 240 from what is known: nearer, a generator adds nothing to a continuation
LEAST = 128  # pixels on a side, the smallest size that networks are trained at
MARGIN = 32  # pixels at 432 x 240 around what is missing and around where flow leads from there
STEP = 16  # borders are multiples, so that feature maps of all scales coincide with those of the whole frame
WORTH = 0.6  # share of the frame above which all of it is used, as its guides' streams are cached


def is_thin(mask: Tensor) -> bool:
    """Whether nothing of the hole `mask` (1,1,H,W) is farther from what is known than `THIN`."""
    depth = cv2.distanceTransform((mask[0, 0] > 0.5).byte().cpu().numpy(), cv2.DIST_L2, cv2.DIST_MASK_5)
    return bool(depth.max() <= video_pixels(THIN, mask.shape[-2:]))


def region(mask: Tensor, flows: Tensor) -> Box | None:
    """A rectangle with the hole `mask` (1,1,H,W), not empty, and the places in its guides that `flows` (1,T,2,H,W) lead
    to from there; None: the whole frame.
    """
    size = mask.shape[-2:]
    hole = mask[0, 0] > 0.5
    start = torch.stack(torch.where(hole)).float()  # 2, N: rows, columns
    end = start + flows[0].flip(1)[:, :, hole]  # T, 2, N
    limits = start.new_tensor(size)[:, None] - 1
    inside = ((end >= 0) & (end <= limits)).all(dim=1)
    points = torch.cat([start, end.transpose(0, 1)[:, inside]], dim=1)
    margin, sides = video_pixels(MARGIN, size), []
    for low, high, length in zip(points.amin(dim=1).tolist(), points.amax(dim=1).tolist(), size, strict=True):
        spare = max(margin, (LEAST - (high - low)) / 2)
        first = max(0, min(low - spare, length - LEAST)) // STEP * STEP
        sides.append((int(first), min(length, int(-(-max(high + spare, first + LEAST) // STEP) * STEP))))
    (top, bottom), (left, right) = sides
    box = Box(top, left, bottom, right)
    return box if box.size[0] * box.size[1] < WORTH * size[0] * size[1] else None
