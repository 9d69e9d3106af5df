"""Training samples of large frames: parts of them, with known pixels hidden by parts of other frames' holes."""
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from gi.data.sample import make_sample
from gi.errors import InputError
from gi.internal.grid import cells
from gi.internal.hidden import HiddenSample, Translations, centre_of
from gi.internal.shot import Shot
from gi.media.crop import Box

LEAST = 1000 / (960 * 540)  # share of a part that a hole covers, to be used: the paper's 1,000 pixels
COARSE = 8  # pixels: resolution at which places around a hole are drawn


class PatchSample(HiddenSample):
    """A sample of parts of frames."""

    prior: torch.Tensor  # uint8 (3, h, w): the earlier stages' output there


class HiddenPatches(Dataset):
    """Random samples of parts of `size` = (height, width) of a shot.

    The paper's "grid mask set" are the holes of all frames, cut along a grid of parts, without those that are nearly
    empty. One of them, moved cyclically within the part, hides pixels at a place that is drawn five times as often near
    the frame's own hole, and the part is any that contains that place.

    Args:
        shots: the shot at the sizes of all stages, the last of which is sampled.
        length, seed: as in `gi.internal.hidden.HiddenPixels`.
        prior: (moved, number, box) to what is drawn in that box of that frame, see `PatchSample`, while the moved hole
            (h, w) is missing there, too.
    """

    def __init__(self, shots: Sequence[Shot], size: tuple[int, int], *, length: int, seed: int = 0,
                 prior: Callable[[np.ndarray, int, Box], np.ndarray]):
        self.shots, self.shot, self.length, self.seed, self.prior = shots, shots[-1], length, seed, prior
        self.translations = Translations(factor=5)
        self.size = tuple(min(sides) for sides in zip(size, self.shot.size, strict=True))
        self.step = 2 ** (len(shots) - 1)  # at whose multiples parts begin, in whole pixels of all stages
        pieces = [(share, int(number), box) for number, mask in self.shot.each_mask()
                  for box, _ in cells(self.shot.size, size) if (share := box.of(mask).mean()) > 0]
        self.pieces = [piece for piece in pieces if piece[0] >= LEAST] or pieces
        if not self.pieces:
            raise InputError("the masks are empty, or whole frames: there is no hole to move")

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> PatchSample:
        rng = np.random.default_rng((self.seed, index))
        shot = self.shot
        own = int(rng.choice(shot.known))
        _, other, piece = self.pieces[rng.integers(len(self.pieces))]
        row, column = self._place(rng, shot.masks[own])
        box = self._around(rng, row, column)
        moved = np.array(piece.of(shot.masks[other]))
        middle = centre_of(moved)
        moved = np.roll(moved, (row - box.top - middle[0], column - box.left - middle[1]), axis=(0, 1))
        sample: Any = make_sample([box.of(shot.frames[own]), piece.of(shot.frames[other])],
                                  [box.of(shot.masks[own]), piece.of(shot.masks[other])], f"{index}")
        sample["moved"] = torch.from_numpy(moved)[None]
        sample["prior"] = torch.from_numpy(self.prior(moved, own, box)).permute(2, 0, 1).contiguous()
        for each in self.shots:
            each.release()
        return sample

    def _place(self, rng, own):
        """Row and column of a hole's centre."""
        coarse = self.translations.centre(rng, own[::COARSE, ::COARSE], part=tuple(-(-side // COARSE)
                                                                                  for side in self.size))
        return (min(COARSE * place + int(rng.integers(COARSE)), side - 1)
                for place, side in zip(coarse, own.shape, strict=True))

    def _around(self, rng, *place):
        """A random part that contains a place."""
        starts = []
        for at, side, length in zip(place, self.size, self.shot.size, strict=True):
            first, last = (min(max(start, 0), length - side) for start in (at - side + 1, at))
            start = int(rng.integers(first, last + 1))
            starts.append(start // self.step * self.step)
        return Box(*starts, *(start + side for start, side in zip(starts, self.size, strict=True)))
