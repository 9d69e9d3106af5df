"""Geometric distortions as maps of coordinates, so that any number of them costs one resampling of the image.

A step takes the coordinates (x, y) of OUTPUT pixels, float32 arrays that can be broadcast with each other, and returns
where each of them lies in its INPUT image, including the step's rule for what lies outside. Pixel centres have integer
coordinates. Steps round alike on every machine. The distributions are those of the original release.
"""
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from gi.errors import expect_within

Step = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Perspective:
    """Stretches a quadrilateral of the image to its full size; the border is replicated.

    `corners` (4, 2): x, y of top left, top right, bottom right and bottom left; edges of the image are at 0 and `size`.
    """

    corners: np.ndarray
    size: int

    def __call__(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        # In closed form: solving equations for the coefficients rounds differently on other machines.
        (x0, y0), (x1, y1), (x2, y2), (x3, y3) = np.asarray(self.corners).tolist()
        ax, ay, bx, by, sx, sy = x1 - x2, y1 - y2, x3 - x2, y3 - y2, x0 - x1 + x2 - x3, y0 - y1 + y2 - y3
        g, h = (sx * by - bx * sy) / (ax * by - bx * ay), (ax * sy - sx * ay) / (ax * by - bx * ay)
        u, v = (x + 0.5) / self.size, (y + 0.5) / self.size  # of edges, which lie half a pixel from pixel centres
        w = g * u + h * v + 1
        x = ((x1 - x0 + g * x1) * u + (x3 - x0 + h * x3) * v + x0) / w
        y = ((y1 - y0 + g * y1) * u + (y3 - y0 + h * y3) * v + y0) / w
        return np.clip(x - 0.5, 0, self.size - 1), np.clip(y - 0.5, 0, self.size - 1)


@dataclass(frozen=True)
class Affine:
    """Scales, shears and rotates the image about its centre, in this order; the border is mirrored.

    Scales above 1 enlarge. Angles are in radians and turn x towards y, which is clockwise as one sees it.
    """

    scale_x: float
    scale_y: float
    rotation: float
    shear: float
    size: int

    def __call__(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        cos, sin, centre = np.cos(self.rotation), np.sin(self.rotation), (self.size - 1) / 2
        shear = np.array([[1, -np.tan(self.shear)], [0, 1]])
        matrix = np.array([[cos, -sin], [sin, cos]]) @ shear @ np.diag([self.scale_x, self.scale_y])
        (a, b), (c, d) = np.linalg.inv(matrix).tolist()  # from output to input, both relative to the centre
        x, y = x - centre, y - centre
        return mirror(a * x + b * y + centre, self.size), mirror(c * x + d * y + centre, self.size)


@dataclass(frozen=True)
class Radial:
    """OpenCV's radial lens model with k1 = k2 = `k` and a focal length of one image width; the border is mirrored."""

    k: float
    size: int

    def __call__(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        centre = (self.size - 1) / 2
        x, y = x - centre, y - centre
        squared = (x * x + y * y) / float(self.size**2)
        factor = 1 + self.k * squared + self.k * squared * squared
        return mirror(x * factor + centre, self.size), mirror(y * factor + centre, self.size)


@dataclass(frozen=True)
class Crop:
    """Cuts out a window whose first pixel is (left, top)."""

    left: int
    top: int

    def __call__(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return x + self.left, y + self.top


@dataclass(frozen=True, kw_only=True)
class FrameGeometry:
    """Draws the distortion of one frame: perspective, affine and radial, each with `probability`, then a crop.

    `perspective` is the largest sigma of the corners' inward shifts, |N(0, sigma)| of the image size; `scale` the
    largest change of size per axis; `rotation` and `shear` the largest angles in degrees; `radial` the largest k.
    """

    probability: float = 0.5
    perspective: float = 0.06
    scale: float = 0.3
    rotation: float = 40.0
    shear: float = 0.1
    radial: float = 0.05

    def __post_init__(self):  # beyond these an image can fold over itself
        limits = {"probability": 1, "perspective": 0.1, "scale": 0.9, "rotation": 180, "shear": 45, "radial": 0.5}
        for name, highest in limits.items():
            expect_within(0, highest, **{name: getattr(self, name)})

    def sample(self, rng: np.random.Generator, *, view: int, size: int) -> list[Step]:
        """Steps from a square image of `view` pixels to one of `size` pixels, in the order they apply to images."""
        steps: list[Step] = []
        if rng.random() < self.probability:
            sigma = rng.uniform(0, self.perspective)
            # Limited, as a quadrilateral must stay convex; 0.3 is five standard deviations.
            inwards = np.minimum(np.abs(rng.normal(0, sigma, (4, 2))), 0.3)
            outer = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
            steps.append(Perspective(corners=(outer + inwards * (1 - 2 * outer)) * view, size=view))
        if rng.random() < self.probability:
            scale_x, scale_y = rng.uniform(1 - self.scale, 1 + self.scale, 2)
            rotation, shear = np.radians(rng.uniform(-1, 1, 2) * [self.rotation, self.shear])
            steps.append(Affine(scale_x=scale_x, scale_y=scale_y, rotation=rotation, shear=shear, size=view))
        if rng.random() < self.probability:
            steps.append(Radial(k=rng.uniform(-self.radial, self.radial), size=view))
        left, top = rng.integers(view - size + 1, size=2)
        return [*steps, Crop(left=int(left), top=int(top))]


def compose(steps: Sequence[Step], *, size: int) -> np.ndarray:
    """One map for all steps: float32 (2, size, size), for every output pixel its x and y in the first input image."""
    x = np.arange(size, dtype=np.float32)[None]
    y = x.T
    for step in reversed(steps):
        x, y = step(x, y)
    return np.stack(np.broadcast_arrays(x, y)).astype(np.float32, copy=False)


def resample(image: np.ndarray, coordinates: np.ndarray) -> np.ndarray:
    """Reads an image at float32 coordinates (2, H, W), x first, bilinearly. OpenCV is faster with four channels."""
    return cv2.remap(image, coordinates[0], coordinates[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def mirror(coordinate: np.ndarray, size: int) -> np.ndarray:
    """Folds coordinates into [0, size - 1], as if the image went on mirrored at its outermost pixel centres."""
    last = max(1, size - 1)
    one_fold = -last <= coordinate.min() and coordinate.max() <= 2 * last  # which is several times faster
    folded = np.abs(coordinate) if one_fold else np.mod(coordinate, 2 * last)
    return np.subtract(last, np.abs(np.subtract(last, folded, out=folded), out=folded), out=folded)
