"""Crops of each keyframe that show the surroundings of the target's hole, and the guidance computed on them."""
import functools
from collections.abc import Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gi.flow.aligned import find_plane
from gi.flow.guidance import Guidance
from gi.flow.keypoints import match
from gi.media.crop import MIN_SIDE, Box, limited, resize_known
from gi.media.io import to_rgb

COARSE_SIDE = 256  # pixels of the longer side for locating a crop by flow, and ...
KEYPOINT_SIDE = 512  # ... for detecting keypoints, once per picture
_POINTS = 10_000  # of a hole are moved to measure a shift

Picture = tuple[np.ndarray, np.ndarray]  # (H, W, 3) or as in `gi.media.photos.Photo`, and its hole (H, W), bool


class Parts:
    """Crops of a target and its keyframes that show the same part of the scene, resized to one size.

    pictures: the target and its keyframes, of one size.
    """

    def __init__(self, pictures: Sequence[Picture], box: Box, size: tuple[int, int], guidance: Guidance,
                 device: torch.device):
        self.pictures, self.box, self.size, self.guidance, self.device = pictures, box, size, guidance, device
        self.hole = pictures[0][1]
        self.whole = Box(0, 0, *self.hole.shape)

    def guided(self) -> tuple[tuple[Tensor, Tensor, Tensor, Tensor], Tensor, Tensor]:
        """Image, mask, sources and source masks as a `Guidance` takes them, then the flow and the errors it gives."""
        boxes = [self.box, *self._same()]
        views = self._views(boxes, self.size)
        return views, *self._guide(views, boxes)

    def _same(self):
        """Where each keyframe shows what the target shows in the box: boxes of the same size, inside the keyframe."""
        box, number = self.box, len(self.pictures) - 1
        if box == self.whole or not number or not self.hole.any():
            return [box] * number
        limits = [length - side for length, side in zip(self.whole.size, box.size, strict=True)]
        corners = (np.round(np.array(box[:2]) + shift[::-1]).clip(0, limits).astype(int).tolist()
                   for shift in self._shifts())
        return [Box(top, left, top + box.size[0], left + box.size[1]) for top, left in corners]

    def _shifts(self):
        """Median displacement (2,) of the hole's pixels in each keyframe, x and y, in pixels."""
        size = limited(self.whole.size, KEYPOINT_SIDE)
        target, *sources = self._keypoints or [None]
        planes = [find_plane(*match(target, keypoints)[0], size) for keypoints in sources]
        if planes and all(plane is not None for plane in planes):
            places = np.argwhere(self.hole)[:, ::-1]
            places = places[:: 1 + len(places) // _POINTS] * self._ratio(size)
            moved = (cv2.perspectiveTransform(places[None], plane)[0] for plane in planes)
            return [np.median(destinations - places, axis=0) / self._ratio(size) for destinations in moved]
        size, boxes = limited(self.whole.size, COARSE_SIDE), [self.whole] * len(self.pictures)
        views = self._views(boxes, size)
        flows, _ = self._guide(views, boxes)
        inside = views[1][0, 0] > 0
        return [flow[:, inside].median(dim=1).values.cpu().numpy() / self._ratio(size) for flow in flows[0]]

    @functools.cached_property
    def _keypoints(self):
        """Keypoints of the whole pictures, or None: detected once, and cached for keyframes, as the hole does not
        matter there.
        """
        if self.box == self.whole or len(self.pictures) == 1:
            return None
        return self.guidance.keypoints(*self._views([self.whole] * len(self.pictures),
                                                    limited(self.whole.size, KEYPOINT_SIDE)))

    def _guide(self, views, boxes):
        if self._keypoints is None:
            return self.guidance(*views)
        size, ratio = views[0].shape[-2:], self._ratio(limited(self.whole.size, KEYPOINT_SIDE))
        moved = [keypoints.inside(ratio * (box.left, box.top), np.array(size[::-1]) / (ratio * box.size[::-1]), size)
                 for keypoints, box in zip(self._keypoints, boxes, strict=True)]
        return self.guidance(*views, keypoints=moved)

    def _ratio(self, size):
        """Scale factors along x and y of whole pictures that are resized to `size`."""
        return np.array(size[::-1]) / self.whole.size[::-1]

    def _views(self, boxes, size):
        views = []
        for (image, mask), box in zip(self.pictures, boxes, strict=True):
            pixels, missing = resize_known(to_rgb(box.of(image)), box.of(mask), size)
            values = pixels.astype(np.float32) / np.iinfo(pixels.dtype).max
            views.append(np.dstack([values * ~missing[..., None], missing]).astype(np.float32))
        views = torch.from_numpy(np.stack(views)).permute(0, 3, 1, 2)
        padding = (0, max(0, MIN_SIDE - size[1]), 0, max(0, MIN_SIDE - size[0]))
        images, masks = F.pad(views, padding, mode="replicate").to(self.device)[:, None].split([3, 1], dim=2)
        return images[0], masks[0], images[1:, 0][None], masks[1:, 0][None]
