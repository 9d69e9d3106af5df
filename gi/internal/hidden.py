"""Training samples: known pixels of a frame, hidden by the hole of another one that is moved to a random place."""
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from gi.data.masks import MaskKind
from gi.data.sample import Sample, make_sample
from gi.errors import InputError, expect_at_least, expect_within
from gi.internal.shot import Shot
from gi.media.crop import Box


class HiddenSample(Sample):
    """`image`, `mask`: a frame i with its own hole; `sources`, `source_masks`: one other frame t, with its own."""

    moved: torch.Tensor  # uint8 (1, H, W), the hole of frame t, moved: it hides known pixels of `image`


class Translations:
    """Where holes are moved to: uniformly (cyclic, so that all places are alike), or more often near the frame's own
    hole.

    factor, band: the paper's boundary-aware sampling for large frames has factor 5 and band 1/12. A translation that
    puts the moved hole's centre within `band` of height and width from the border of the bounding box of the frame's
    own hole is `factor` times as likely as others.
    shared: one translation for all samples of a batch, as in the release, instead of one each. Batches must then be of
        samples in order, which those of `InternalData` are not.
    """

    def __init__(self, *, factor: float = 1.0, band: float = 1 / 12, shared: bool = False):
        expect_at_least(0, factor=factor)
        expect_within(0, 1, band=band)
        self.factor, self.band, self.shared = factor, band, shared

    def draw(self, rng: np.random.Generator, moved: np.ndarray, own: np.ndarray) -> tuple[int, int]:
        """(down, right) for the hole `moved`, in a frame with the hole `own`, both (H, W)."""
        if self.factor == 1 or not own.any():
            return int(rng.integers(own.shape[0])), int(rng.integers(own.shape[1]))
        (row, column), (middle, centre) = self.centre(rng, own), centre_of(moved)
        return row - middle, column - centre

    def centre(self, rng: np.random.Generator, own: np.ndarray, part: tuple[int, int] | None = None) -> tuple[int, int]:
        """Row and column of a moved hole's centre in a frame with the hole `own` (H, W); the band is that share of
        `part`, (height, width) of what a network sees, if it does not see whole frames.
        """
        if self.factor == 1 or not own.any():
            return int(rng.integers(own.shape[0])), int(rng.integers(own.shape[1]))
        near = self._near(own, part or own.shape)
        share = near.mean()
        share = self.factor * share / (self.factor * share + 1 - share)
        places = np.flatnonzero(near if rng.random() < share else ~near)
        row, column = divmod(int(rng.choice(places)), own.shape[1])
        return row, column

    def _near(self, own, part):
        """Centres, (H, W) bool, that are in the band around the box of the hole `own`."""
        near = np.zeros(own.shape, bool)
        top, left, bottom, right = Box.around(own)
        rows, columns = round(self.band * part[0]), round(self.band * part[1])
        near[max(0, top - rows):bottom + rows, max(0, left - columns):right + columns] = True
        near[top + rows:max(top + rows, bottom - rows), left + columns:max(left + columns, right - columns)] = False
        return near


class HiddenPixels(Dataset):
    """Random samples of a shot.

    Args:
        length: samples of an epoch.
        seed: what is drawn follows from it, the epoch and the index.
        translations: see `Translations`.
        holes: of another kind, drawn anew for each sample, in place of moved ones (the paper's ablation: blurry).
        batch_size: for translations that a batch shares.

    Raises InputError if no frame has a hole that could be moved.
    """

    def __init__(self, shot: Shot, *, length: int, seed: int = 0, translations: Translations | None = None,
                 holes: MaskKind | None = None, batch_size: int = 1):
        self.shot, self.length, self.seed, self.holes, self.batch_size = shot, length, seed, holes, batch_size
        self.translations = translations or Translations()
        if not len(shot.holes) and holes is None:
            raise InputError("the masks are empty, or whole frames: there is no hole to move")

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, key: int | tuple[int, int]) -> HiddenSample:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        rng = np.random.default_rng((self.seed, epoch, index))
        shot = self.shot
        own, other = (int(rng.choice(numbers)) for numbers in
                      (shot.known, shot.known if self.holes else shot.holes))
        mask, moved = shot.masks[own], shot.masks[other]
        if self.holes is not None:
            moved = self.holes(rng, *shot.size)
        else:
            random = np.random.default_rng((self.seed, epoch, index // self.batch_size, 1)) \
                if self.translations.shared else rng
            moved = np.roll(moved, self.translations.draw(random, moved, mask), axis=(0, 1))
        sample: Any = make_sample([shot.frames[own], shot.frames[other]], [mask, shot.masks[other]], f"{epoch}/{index}")
        shot.release()
        return sample | {"moved": torch.from_numpy(moved)[None]}


def centre_of(mask: np.ndarray) -> tuple[int, int]:
    """Row and column of the middle of the box around the hole of a mask (H, W)."""
    top, left, bottom, right = Box.around(mask)
    return (top + bottom) // 2, (left + right) // 2
