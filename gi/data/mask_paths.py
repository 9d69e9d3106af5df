"""Holes of clips: a random mask that moves, grows, turns and deforms over the frames, and frames that are whole.

Masks come from `gi.data.masks`, know nothing of what the clip shows, and are uint8 (F, H, W), 1 = missing. The patterns
are those of VideoRepainter's supplement (full, grid, scribble, square, inversion, and changes over time); their numbers
are ours, as it gives none. All that is random follows from the generator that is passed in.
"""
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np

from gi.data import masks
from gi.errors import InputError, expect_at_least, expect_within


class MaskPath(Protocol):
    """Draws the masks of a clip, uint8 (frames, height, width), 1 = missing; with more `growth`, larger holes."""

    def __call__(self, rng: np.random.Generator, frames: int, height: int, width: int,
                 growth: float = 1.0) -> np.ndarray: ...


def bezier(control_points: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Points (N, K) of the cubic Bézier curve with four control points (4, K), at N times in [0, 1]."""
    t = np.asarray(times, np.float64)[:, None]
    weights = np.concatenate([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3], axis=1)
    return weights @ control_points


@dataclass(frozen=True, kw_only=True)
class Motion:
    """How something changes over the frames of a clip; each number is the most that two frames can differ in one way.

    Position, size, angle and deformation follow one cubic Bézier curve, whose control points are drawn evenly; a random
    frame is as it was drawn. With probability `still` nothing changes.

    shift: down and to the right, a share of the shorter side. growth: factor of size. rotation: degrees. deformation:
    displacement by a smooth field, approximately, a share of the shorter side.
    """

    still: float = 0.5
    shift: float = 1.0
    growth: float = 2.0
    rotation: float = 90.0
    deformation: float = 0.1

    def __post_init__(self):
        expect_within(0, 1, still=self.still, deformation=self.deformation)
        expect_within(0, 10, shift=self.shift)
        expect_within(1, 10, growth=self.growth)
        expect_within(0, 360, rotation=self.rotation)

    def sample(self, rng: np.random.Generator, frames: int, height: int, width: int,
               centre: tuple[float, float] | None = None) -> np.ndarray | None:
        """Maps float32 (frames, 2, height, width): where each pixel of a frame lies (x, y) in the still picture.

        centre: (x, y) of turns and growth, the middle if None. Returns None if nothing changes.
        """
        side = min(height, width)
        limits = np.array([*[self.shift * side] * 2, np.log(self.growth), np.radians(self.rotation),
                           *[self.deformation * side] * 2])
        control_points = rng.uniform(-0.5, 0.5, (4, len(limits))) * limits
        fields = rng.uniform(-1, 1, (2, 4, 4, 2)).astype(np.float32)
        reference = rng.integers(frames)
        if rng.random() < self.still or not limits.any():
            return None
        curve = bezier(control_points, np.linspace(0, 1, frames))
        curve -= curve[reference]
        x0, y0 = ((width - 1) / 2, (height - 1) / 2) if centre is None else centre
        x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
        smooth = [cv2.resize(field, (width, height), interpolation=cv2.INTER_CUBIC).transpose(2, 0, 1)
                  for field in fields]
        maps = np.empty((frames, 2, height, width), np.float32)
        for number, (dx, dy, scale, angle, first, second) in enumerate(curve.tolist()):
            cos, sin = math.cos(angle) / math.exp(scale), math.sin(angle) / math.exp(scale)
            right, down = x - (x0 + dx), y - (y0 + dy)
            maps[number] = cos * right + sin * down + x0, cos * down - sin * right + y0
            if self.deformation:
                maps[number] += first * smooth[0] + second * smooth[1]
        return maps


class MovingMask:
    """A mask of a `kind` of `gi.data.masks` on a path; what moves in from outside the frame is known.

    motion: `Motion()` if None. inversion: probability of exchanging holes and known pixels of the whole clip.
    """

    def __init__(self, *, kind: masks.MaskKind, motion: Motion | None = None, inversion: float = 0.0):
        expect_within(0, 1, inversion=inversion)
        self.kind, self.motion, self.inversion = kind, motion or Motion(), inversion

    def __call__(self, rng: np.random.Generator, frames: int, height: int, width: int,
                 growth: float = 1.0) -> np.ndarray:
        mask = np.ascontiguousarray(self.kind(rng, height, width, growth))
        maps = self.motion.sample(rng, frames, height, width, centre_of(mask))
        if maps is None:
            path = np.repeat(mask[None], frames, axis=0)
        else:
            path = np.stack([cv2.remap(mask, x, y, cv2.INTER_NEAREST, borderValue=0) for x, y in maps])
        return 1 - path if rng.random() < self.inversion else path


class MixedPath:
    """One of several `paths`, by probabilities that add up to 1 (equal if None).

    By default full 0.1, grid 0.15, scribble 0.4 and square 0.35; the last two move, and one in ten of them is inverted.
    """

    def __init__(self, *, paths: Sequence | None = None, probabilities: list[float] | None = None):
        if paths is None:
            still = Motion(still=1)
            paths = [MovingMask(kind=masks.Full(), motion=still), MovingMask(kind=masks.Grid(), motion=still),
                     MovingMask(kind=masks.Strokes(), inversion=0.1), MovingMask(kind=masks.Boxes(), inversion=0.1)]
            probabilities = probabilities or [0.1, 0.15, 0.4, 0.35]
        self.paths, self.probabilities = list(paths), masks.shares(probabilities, len(paths), "paths of masks")

    def __call__(self, rng: np.random.Generator, frames: int, height: int, width: int,
                 growth: float = 1.0) -> np.ndarray:
        return self.paths[rng.choice(len(self.paths), p=self.probabilities)](rng, frames, height, width, growth)


@dataclass(frozen=True, kw_only=True)
class Keyframes:
    """Which frames of a clip are keyframes, without a hole, by the weight of each pattern; the paper leaves this open.

    none; first: the first frame; one: one anywhere; several: 2 to `most`, but not all frames, spread evenly with both
    ends among them. Few are likelier than many: the logarithm of their number is uniform.
    """

    none: float = 0.1
    first: float = 0.3
    one: float = 0.3
    several: float = 0.3
    most: int = 4

    def __post_init__(self):
        weights = self.none, self.first, self.one, self.several
        if min(weights) < 0 or not sum(weights):
            raise InputError(f"keyframes: expected weights of at least 0, and one above it, got {weights}")
        expect_at_least(2, most=self.most)

    def sample(self, rng: np.random.Generator, frames: int) -> list[int]:
        """Numbers of the keyframes of a clip of `frames`, in order; at least one frame is not a keyframe."""
        weights = np.array([self.none, self.first, self.one, self.several])
        pattern = rng.choice(4, p=weights / weights.sum())
        most = max(2, min(self.most, frames - 1))
        anywhere, count = int(rng.integers(frames)), int(2 * ((most + 1) / 2) ** rng.random())
        if pattern == 0 or frames == 1:
            return []
        if pattern == 3 and frames > 2:
            return np.linspace(0, frames - 1, count).round().astype(int).tolist()
        return [0 if pattern == 1 else anywhere]


def centre_of(mask: np.ndarray) -> tuple[float, float] | None:
    """(x, y) of the middle of what is not 0 in a mask (H, W), None if nothing is."""
    moments = cv2.moments(mask, binaryImage=True)
    return (moments["m10"] / moments["m00"], moments["m01"] / moments["m00"]) if moments["m00"] else None
