"""What the values of masks mean, for pictures, videos, evaluation sets and arrays alike; in words: docs/masks.md.

A mask is first converted to `Levels`, whatever it was stored as. A `MaskRule` then looks at the levels of a picture, or
of all frames of a video, and decides once for all of them: a dark frame alone does not show how it is meant.
"""
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageOps

from gi.errors import InputError

HALF = 128  # of 255
MOSTLY_MISSING = 0.8  # share of missing pixels above which a mask may be inverted
_MAX_LABELS = 32  # more different values below half are shades, not labels


class Levels(NamedTuple):
    """values: uint16 (H, W), the brightest channel, or the index of a coloured palette; 0 where nothing is painted.
    visible: bool (H, W), false at transparent pixels; None if there are none. labels: every value but 0 means missing,
    as in palettes. lossy: small values may come from compression.
    """

    values: np.ndarray
    visible: np.ndarray | None = None
    labels: bool = False
    lossy: bool = False


def levels_of_image(image: Image.Image, name: str = "mask") -> Levels:
    """Of a PIL image of any mode, turned as its EXIF orientation says. Raises InputError as `levels_of_array`."""
    lossy = image.format in ("JPEG", "MPO") or (image.format == "WEBP" and not _lossless_webp(image))
    image = ImageOps.exif_transpose(image)
    if image.mode in ("P", "PA"):
        colours = np.asarray(image.convert("RGBA"))
        if (colours[..., :1] != colours[..., :3]).any():
            indices = np.asarray(image.getchannel(0) if image.mode == "PA" else image).astype(np.uint16)
            black = (colours[..., :3] == 0).all(axis=2)
            known = black if black.any() else indices == 0
            return _visible_levels(np.where(known, 0, np.maximum(indices, 1)), colours[..., 3] >= HALF, labels=True)
        return levels_of_array(colours, name)._replace(lossy=lossy)
    if image.mode in ("LA", "La", "RGBa") or ("transparency" in image.info and image.mode in ("1", "L", "RGB")):
        image = image.convert("RGBA")
    elif image.mode not in ("1", "L", "RGB", "RGBA", "F") and not image.mode.startswith("I"):
        image = image.convert("RGB")
    return levels_of_array(np.asarray(image), name)._replace(lossy=lossy)


def levels_of_array(mask: ArrayLike, name: str) -> Levels:
    """Of an array or tensor of numbers: (H, W), (H, W, channels), (1, H, W) or (channels, H, W), the last of 2 or 4
    channels alpha. Floating point numbers up to 1 are shares of white.

    Raises InputError, naming it, for other shapes and types, for negative values and those above 65535, and for NaN.
    """
    array = _plain(mask)
    while array.ndim > 3 and len(array) == 1:
        array = array[0]
    if array.ndim == 3 and array.shape[2] > 4 and array.shape[0] <= 4:
        array = np.moveaxis(array, 0, 2)
    if array.ndim not in (2, 3) or array.dtype.kind not in "buif" or (array.ndim == 3 and not 1 <= array.shape[2] <= 4):
        raise InputError(f"{name}: is {array.dtype} {array.shape}, expected numbers of shape (H, W), or a PIL image")
    if array.size and not (array.min() >= 0 and array.max() <= 65535):
        raise InputError(f"{name}: has values below 0, above 65535 or nan, expected 0 (known) to 1 or 255 (missing)")
    if array.dtype.kind == "f":
        array = np.rint(array * 255 if array.max(initial=0) <= 1 else array)
    values = array.astype(np.uint16) * np.uint16(255 if array.dtype.kind == "b" else 1)
    if values.ndim == 2:
        return Levels(values)
    if values.shape[2] in (2, 4):
        alpha = values[..., -1]
        top = alpha.max(initial=0)
        return _visible_levels(values[..., :-1].max(axis=2),
                               alpha >= (1 if top <= 1 else HALF if top <= 255 else 32768))
    return Levels(values.max(axis=2))


class MaskRule:
    """Decides which values mean missing, from all masks given to `look`.

    total: number of masks; empty, full: how many of them have no missing pixel, or only missing ones.
    """

    def __init__(self):
        self._pixels, self._flat = (np.zeros(65536, np.int64) for _ in range(2))  # per value: pixels; those in areas
        self._ranges: list[tuple[int, int]] = []  # values of each mask
        self._visibility: list[tuple[int, int]] = []  # whether all and any pixels of each mask are visible
        self._visible = 0
        self._lossy = self._palette = False

    def look(self, levels: Levels) -> bool:
        """Takes one more mask into account. Returns whether it changes how earlier masks have to be read."""
        values, visible = levels.values, levels.visible
        before, threshold, by_alpha, painted = self._pixels.copy(), self.threshold, self._by_alpha, self._visible > 0
        counts = _counts(values)
        self._pixels += counts
        if np.count_nonzero(counts) > 2:
            self._flat += _counts(values[_in_an_area(values)])
        self._ranges.append((int(values.min(initial=65535)), int(values.max(initial=0))))
        self._visibility.append((1, 1) if visible is None else (int(visible.all()), int(visible.any())))
        self._visible += values.size if visible is None else int(visible.sum())
        self._lossy |= levels.lossy
        self._palette |= levels.labels
        low, high = sorted((threshold, self.threshold))
        return bool(before[low:high].any() or painted and by_alpha != self._by_alpha)

    def read(self, levels: Levels) -> np.ndarray:
        """uint8 (H, W), 1 = missing."""
        if self._by_alpha:
            visible = levels.visible
            return np.ones(levels.values.shape, np.uint8) if visible is None else visible.astype(np.uint8)
        return (levels.values >= self.threshold).astype(np.uint8)

    @property
    def top(self) -> int:
        """The largest value."""
        return max((largest for _, largest in self._ranges), default=0)

    @property
    def threshold(self) -> int:
        """The smallest value that is missing: half of 255, or of the largest if that is above; 1 of labels."""
        return 1 if self.labels else self._half

    @property
    def labels(self) -> bool:
        """Whether any value but 0 is missing: none reaches half of 255, or the dark ones fill areas."""
        if self._palette or 0 < self.top < HALF:
            return self._palette or self._pixels[0] > 0 or self.top <= _MAX_LABELS
        pixels, flat = self._pixels[1 : self._half], self._flat[1 : self._half]
        few_values = 0 < np.count_nonzero(pixels) <= _MAX_LABELS
        return bool(few_values and not self._lossy and self._pixels[0] and 2 * flat.sum() > pixels.sum())

    @property
    def unclear(self) -> str | None:
        """Why the masks cannot be understood, if so."""
        if self._lossy and not self._palette and 0 < self.top < HALF:
            return f"the brightest mask pixel is {self.top}, expected 255 where pixels are missing"
        return None

    @property
    def total(self) -> int:
        return len(self._ranges)

    @property
    def empty(self) -> int:
        if self._by_alpha:
            return sum(not most for _, most in self._visibility)
        return sum(most < self.threshold for _, most in self._ranges)

    @property
    def full(self) -> int:
        if self._by_alpha:
            return sum(least for least, _ in self._visibility)
        return sum(least >= self.threshold for least, _ in self._ranges)

    @property
    def remark(self) -> str:
        """What was read, such as "12 % missing, labels 1 and 2"."""
        pixels = max(1, int(self._pixels.sum()))
        share = (self._visible if self._by_alpha else int(self._pixels[self.threshold :].sum())) / pixels
        if self._by_alpha:
            return f"{_percent(share)}, where it is opaque"
        return _percent(share) + self._labels_named() + self._doubt(share)

    def _doubt(self, share):
        """A question to the user where this may be no mask, or an inverted one."""
        low, high = self.top // 5, self.top - self.top // 5
        if not self.labels and self._pixels[low + 1 : high].sum() > 0.25 * self._pixels.sum():
            return "; much of it is neither dark nor bright, is this a mask?"
        return "; is it inverted? bright is what is missing" if MOSTLY_MISSING < share < 1 else ""

    def _labels_named(self) -> str:
        """Names the labels; "" for masks of black and white."""
        values = [str(value) for value in np.flatnonzero(self._pixels[1:]) + 1]
        if not self.labels or not values:
            return ""
        if len(values) > 8:
            return f", {len(values)} labels from {values[0]} to {values[-1]}"
        return f", label {values[0]}" if len(values) == 1 else f", labels {', '.join(values[:-1])} and {values[-1]}"

    @property
    def _half(self) -> int:
        return max(HALF, (self.top + 1) // 2)

    @property
    def _by_alpha(self) -> bool:
        """Whether all visible pixels are black and the rest is transparent, so that alpha alone tells what was painted.
        """
        return self.top == 0 and any(not whole for whole, _ in self._visibility) and self._visible > 0


def read_one(levels: Levels, name: str) -> tuple[np.ndarray, str]:
    """A mask, uint8 (H, W), 1 = missing, by itself, and a remark on what was read ("12 % missing, labels 1 and 2").
    Raises InputError, naming it, if it cannot be understood.
    """
    rule = MaskRule()
    rule.look(levels)
    if rule.unclear:
        raise InputError(f"{name}: {rule.unclear}")
    return rule.read(levels), rule.remark


def _percent(share: float) -> str:
    """"12 % missing"; that nothing or everything is missing only if that is exact."""
    if share in (0, 1):
        return "everything is missing" if share else "nothing is missing"
    number = 100 * share
    return f"{number:.0f} % missing" if 9.5 <= number < 99.5 else f"{min(max(number, 0.01), 99.99):.2f} % missing"


def _visible_levels(values: np.ndarray, visible: np.ndarray, *, labels: bool = False) -> Levels:
    if visible.all():
        return Levels(values.astype(np.uint16), labels=labels)
    return Levels((values * visible).astype(np.uint16), visible, labels=labels)


def _counts(values: np.ndarray) -> np.ndarray:
    """Histogram of 16-bit values; counted in parts, as `bincount` converts its input to int64."""
    values = values.ravel()
    parts = (values[start : start + 2**20] for start in range(0, values.size, 2**20))
    return sum((np.bincount(part, minlength=65536) for part in parts), np.zeros(65536, np.int64))


def _in_an_area(values: np.ndarray) -> np.ndarray:
    """Whether a pixel has a neighbour of the same value at its side and another one above or below it: bool (H, W).
    Along a soft edge, values change across it.
    """
    horizontal, vertical = np.zeros(values.shape, bool), np.zeros(values.shape, bool)
    for has_neighbour, alike in ((horizontal, values[:, 1:] == values[:, :-1]),
                                 (vertical.T, (values[1:] == values[:-1]).T)):
        has_neighbour[:, 1:] |= alike
        has_neighbour[:, :-1] |= alike
    return horizontal & vertical


def _plain(mask) -> np.ndarray:
    if hasattr(mask, "detach"):  # a tensor, also of a GPU or with a gradient
        mask = mask.detach().cpu()
        mask = mask.float() if mask.dtype.is_floating_point else mask
    return np.asarray(mask)


def _lossless_webp(image: Image.Image) -> bool:
    """By the first kind of picture data in the file (RIFF container specification of WebP)."""
    if image.fp is None:  # the file of a picture that was decoded earlier is closed
        return False
    position = image.fp.tell()
    image.fp.seek(0)
    start = image.fp.read(4096)
    image.fp.seek(position)
    return b"VP8L" in start
