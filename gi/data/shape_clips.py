"""Synthetic clips of shapes that move over textures, made without any files; a keyframe determines the other frames.

Colours and stripes of a shape are random, so only a frame that shows it reveals them. Small networks learn within
minutes to copy them from there; with photographs under a moving camera, that takes far longer.
"""
import cv2
import numpy as np

from gi.data.mask_paths import Motion
from gi.data.photo_clips import PhotoClips
from gi.data.sources import ImageSource

_STRIPES = 0.7  # probability of stripes
_PERIOD = 0.25, 0.6  # of stripes, shares of the shorter side


class ShapeClips(PhotoClips):
    """A `ClipSource` like `PhotoClips`, with textures instead of photographs, and small motion.

    Args:
        count: number of clips; each is drawn anew every time.
        others: as there.
    """

    def __init__(self, *, count: int = 1000, frames: int = 8, height: int = 32, width: int = 32,
                 camera: Motion | None = None, objects: float = 0.8, object_motion: Motion | None = None,
                 object_size: tuple[float, float] = (0.2, 0.35), fps: float = 7.0):
        still = Motion(still=0.3, shift=0.15, growth=1.05, rotation=5, deformation=0)
        slow = Motion(still=0.1, shift=0.4, growth=1.2, rotation=30, deformation=0)
        names = ImageSource("", [f"shapes_{number:06d}" for number in range(count)])
        super().__init__(images=names, frames=frames, height=height, width=width, camera=camera or still,
                         objects=objects, object_motion=object_motion or slow, object_size=object_size, fps=fps)

    def _photograph(self, rng, index):
        """A smooth field of two colours, in most cases with stripes of a third."""
        height, width = (round(self.detail * n) for n in self.size)
        colours = rng.integers(0, 256, (3, 3)).astype(np.float32)
        field = cv2.resize(rng.random((3, 3), np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
        texture = colours[0] + field.clip(0, 1)[..., None] * (colours[1] - colours[0])
        if rng.random() < _STRIPES:
            angle, phase = rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi)
            wave = 2 * np.pi / (rng.uniform(*_PERIOD) * min(self.size))
            y, x = np.mgrid[:height, :width].astype(np.float32)
            stripes = np.cos(wave * (np.cos(angle) * x + np.sin(angle) * y) + phase)
            share = (0.5 + 1.5 * stripes).clip(0, 1)[..., None].astype(np.float32)
            texture += share * (colours[2] - texture)
        return texture.round().astype(np.uint8)
