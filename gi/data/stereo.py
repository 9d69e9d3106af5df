"""A real pair of photographs of one scene: the stereo pair that is installed together with scikit-image."""
import functools

import cv2
import numpy as np
from torch.utils.data import Dataset

from gi.data.masks import MaskKind, MixedMask
from gi.data.sample import Sample, make_sample
from gi.data.sources import BundledPhotographs
from gi.errors import InputError, expect_at_least
from gi.media import io


class StereoPair(Dataset):
    """Windows of the motorcycle of Middlebury 2014: the left view is the target, the right view the one keyframe.

    Sample `index` is a square window of the left view and the same window of the right one, both brought to
    `size x size` pixels by averaging areas. Nothing is aligned: what moves between the two is the scene's parallax, up
    to 60 of the pair's 741 x 500 pixels, with real occlusions. Windows and holes follow from (seed, index) alone; each
    of the two views has a hole of its own.

    Args:
        size, length: side of a sample in pixels, and number of samples.
        min_window, max_window: the window's side, in pixels of the pair (which is 500 high), drawn uniformly.
        mask: a kind of `gi.data.masks`; half strokes, half boxes if None.
        seed: of windows and holes.
    """

    NAMES = ["motorcycle_left.png", "motorcycle_right.png"]

    def __init__(self, *, size: int = 64, length: int = 32, min_window: int = 250, max_window: int = 500,
                 mask: MaskKind | None = None, seed: int = 0):
        views = BundledPhotographs(names=self.NAMES)
        self.paths = [views.path(0), views.path(1)]
        side = min(_read(self.paths[0]).shape[:2])
        expect_at_least(1, length=length)
        expect_at_least(0, seed=seed)
        if not 1 <= size <= min_window <= max_window <= side:
            raise InputError(f"max_window: expected 1 <= size <= min_window <= max_window <= {side}, "
                             f"got {size}, {min_window} and {max_window}")
        self.size, self.length, self.min_window, self.max_window = size, length, min_window, max_window
        self.mask, self.seed = mask or MixedMask(), seed

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self.length:
            raise IndexError(f"sample {index} of {self.length}")
        streams = np.random.SeedSequence((self.seed, index)).spawn(3)
        place_rng, *hole_rngs = (np.random.default_rng(stream) for stream in streams)
        views = [_read(path) for path in self.paths]
        side = int(place_rng.integers(self.min_window, self.max_window + 1))
        top, left = (int(place_rng.integers(extent - side + 1)) for extent in views[0].shape[:2])
        frames = [cv2.resize(view[top:top + side, left:left + side], (self.size, self.size),
                             interpolation=cv2.INTER_AREA) for view in views]
        masks = [self.mask(rng, self.size, self.size) for rng in hole_rngs]
        return make_sample(frames, masks, f"{index:06d}")


_read = functools.lru_cache(maxsize=2)(io.read_image)  # two views serve every sample of a process
