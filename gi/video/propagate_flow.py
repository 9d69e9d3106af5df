"""Following an object from annotated frames: the interface of such methods, and the one along optical flow."""
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torchvision.transforms.functional import gaussian_blur

from gi.compositing import tensor_of_pixels
from gi.errors import expect_within
from gi.flow.align import surely_known
from gi.flow.estimate import DIS, Estimator
from gi.flow.warp import warp
from gi.media.masks import grow
from gi.media.scale import video_pixels
from gi.video.identity import network_checksum
from gi.video.outline import Core, core_of, cut_out

BACK = 1, 4, 16  # how many frames ago masks vote from: near frames are exact, far ones bridge occlusions
CONSISTENT = 0.7  # standard deviation of the forward-backward error, in pixels
ALIKE = 0.06  # standard deviation of differences of colours in [0, 1]
SURE = 0.3  # share of one frame's weight below which no frame shows what is at a pixel
NEAR = 10  # pixels at 432 x 240 from the object: uncertain pixels farther away are background


class Annotated(NamedTuple):
    """A frame, uint8 (h, w, 3), with its mask, uint8 (h, w), 1 = object."""

    frame: np.ndarray
    mask: np.ndarray


class Follower(ABC):
    """Finds in the frames of a video the object that some of them are annotated with.

    alone: whether an object is found in a frame by that frame alone, whatever was found in others.
    """

    alone = False

    def fit(self, annotated: Mapping[int, Annotated], folder: Path) -> Iterator[tuple[int, int]]:
        """Learns from the annotated frames, by their number; yields (done, total). State belongs into `folder`."""
        return iter(())

    def core(self, annotated: Annotated) -> Core:
        """The object of an annotation that is to be found in other frames, without the margin around it."""
        return Core(annotated.mask, 0.0)

    @abstractmethod
    def find(self, past: Sequence[Annotated], frame: np.ndarray) -> np.ndarray:
        """The mask of `frame`, given the frames before it (or after it, in a pass backwards), the nearest last, with
        the cores that were found there. Up to `max(BACK)` of them are given, at least one.
        """

    @abstractmethod
    def settings(self) -> Mapping[str, object]:
        """All that results depend on besides video, annotations and code, fit for JSON."""


class FlowFollower(Follower):
    """Earlier frames vote, along optical flow, where the object is; its outline is then moved to edges of the image.

    A vote counts where flow passes a forward-backward check and colours match: otherwise background that the object
    uncovers would seem to come from it, and trail behind it. Small errors of flow, which add up over a video, are
    undone by the edges.

    threshold: share of the votes that makes a pixel the object's.
    """

    def __init__(self, *, threshold: float = 0.5, estimator: Estimator | None = None):
        expect_within(0, 1, threshold=threshold)
        self.threshold, self.estimator = threshold, estimator or DIS()

    def settings(self) -> dict[str, object]:
        return {"threshold": self.threshold, "flow": network_checksum(self.estimator)}

    def core(self, annotated: Annotated) -> Core:
        return core_of(*annotated)

    def find(self, past: Sequence[Annotated], frame: np.ndarray) -> np.ndarray:
        if not any(mask.any() for _, mask in past):
            return np.zeros(frame.shape[:2], np.uint8)
        share, weight = self.votes(past, frame)
        return decide(frame, share, weight, self.threshold)

    @torch.no_grad()
    def votes(self, past: Sequence[Annotated], frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Share of earlier frames that saw the object at each pixel, and the weight of all that saw it: (h, w) each."""
        chosen = [past[-back] for back in BACK if back <= len(past)]
        images = tensor_of_pixels(np.stack([frame, *(frame for frame, _ in chosen)]))
        earlier = torch.arange(1, len(images))
        flows = self.estimator.between(images, torch.cat([0 * earlier, earlier]), torch.cat([earlier, 0 * earlier]))
        forward, back = flows.chunk(2)
        missed = (forward + warp(back, forward)).norm(dim=1, keepdim=True)
        masks = torch.from_numpy(np.stack([mask for _, mask in chosen]))[:, None].float()
        images = gaussian_blur(images, [5, 5])
        layers = torch.cat([images[1:], masks, torch.ones_like(masks)], dim=1)
        moved, warped_masks, inside = warp(layers, forward).split((3, 1, 1), dim=1)
        differ = (moved - images[:1]).square().mean(dim=1, keepdim=True)
        weights = (-(missed / CONSISTENT) ** 2 / 2 - differ / (2 * ALIKE**2)).exp() * surely_known(inside)
        weight = weights.sum(dim=0)[0]
        share = (weights * warped_masks).sum(dim=0)[0] / (weight + 0.05 * SURE)
        return share.numpy(), weight.numpy()


def decide(frame: np.ndarray, share: np.ndarray, weight: np.ndarray, threshold: float = 0.5) -> np.ndarray:
    """The mask, uint8 (H, W), of a frame, uint8 (H, W, 3), from votes on it, whose edges decide where those are unsure.

    share (H, W) in [0, 1], weight (H, W): see `FlowFollower.votes`.
    """
    mask = (share >= threshold).astype(np.uint8)
    unsure = (weight < SURE) | (np.abs(share - threshold) < 0.5 * min(threshold, 1 - threshold))
    return cut_out(frame, mask, unsure & (grow(mask, round(video_pixels(NEAR, mask.shape))) > 0))
