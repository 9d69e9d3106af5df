"""Training samples for masks from a few annotated frames: the object, pasted a second time somewhere else."""
from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from gi.errors import InputError

SHIFT, TURN, ZOOM = 0.1, 8.0, 0.1  # of a prior: in sizes of the object, degrees, around 1
ROUGH = 0.1  # of its outline, in sizes of the object
EMPTY = 0.1  # share of priors that are empty


class PastedObjects(Dataset):
    """Samples of "image" (3, H, W) uint8; "target", "excluded" and "prior" (1, H, W), float32 of 0 and 1.

    The paper's: the object of a frame, moved cyclically, is pasted into it; the copy is the target, and the pixels of
    the object itself are excluded from the loss. The prior, for networks that have one, is ours: the mask of the copy,
    moved and deformed a little, as tracking would have it. In every second sample with a prior, the object itself is
    the target.

    Args:
        frames, masks: uint8 (H, W, 3); uint8 (H, W), 1 = object. Those without an object are left out.
        length: samples of an epoch. seed: what is drawn follows from it and the index.
        prior: whether there is one; otherwise it is 0.

    Raises InputError if no frame has an object.
    """

    def __init__(self, frames: Sequence[np.ndarray], masks: Sequence[np.ndarray], *, length: int, seed: int = 0,
                 prior: bool = False):
        self.pairs = [pair for pair in zip(frames, masks, strict=True) if pair[1].any()]
        if not self.pairs:
            raise InputError("none of the masks has an object to learn from")
        self.length, self.seed, self.prior = length, seed, prior

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        rng = np.random.default_rng((self.seed, index))
        frame, mask = self.pairs[rng.integers(len(self.pairs))]
        if self.prior and index % 2:
            image, target, excluded = frame, mask, np.zeros_like(mask)
        else:
            image, target = paste(frame, mask, int(rng.integers(mask.shape[0])), int(rng.integers(mask.shape[1])))
            excluded = mask
        prior = deformed(target, rng) if self.prior and rng.random() >= EMPTY else np.zeros_like(mask)
        layers = {"target": target, "excluded": excluded, "prior": prior}
        return {"image": torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))),
                **{name: torch.from_numpy(layer[None].astype(np.float32)) for name, layer in layers.items()}}


def paste(frame: np.ndarray, mask: np.ndarray, down: int, right: int) -> tuple[np.ndarray, np.ndarray]:
    """A frame (H, W, 3) with what its mask (H, W) marks pasted a second time, moved cyclically, and the copy's mask."""
    moved, copy = (np.roll(layer, (down, right), axis=(0, 1)) for layer in (mask, frame))
    return np.where(moved[..., None] > 0, copy, frame), moved


def deformed(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A mask (H, W), moved, turned, enlarged and with another outline, each a little and at random."""
    rows, columns = np.nonzero(mask)
    size, (height, width) = np.sqrt(len(rows)), mask.shape
    centre = float(columns.mean()), float(rows.mean())
    matrix = cv2.getRotationMatrix2D(centre, rng.uniform(-TURN, TURN), rng.uniform(1 - ZOOM, 1 + ZOOM))
    matrix[:, 2] += rng.uniform(-SHIFT, SHIFT, 2) * size
    moved = cv2.warpAffine(mask, matrix, (width, height), flags=cv2.INTER_NEAREST)
    inside, outside = (cv2.distanceTransform(part, cv2.DIST_L2, 5) for part in (moved, 1 - moved))
    noise = cv2.resize(rng.normal(size=(6, 10)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    return (inside - outside + rng.uniform(0, ROUGH) * size * noise > 0).astype(np.uint8)
