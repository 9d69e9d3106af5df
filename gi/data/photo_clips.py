"""Synthetic clips, where there are no videos: a camera moves over a photograph, and an object cut out of another one
moves through the view.
"""
from collections.abc import Sequence

import cv2
import numpy as np

from gi.data.clips import Clip
from gi.data.mask_paths import Motion
from gi.data.sources import ImageSource
from gi.errors import InputError, expect_at_least, expect_within
from gi.media import io
from gi.media.crop import resize


class PhotoClips:
    """A `ClipSource`: one clip a photograph.

    Args:
        images: a source of `gi.data.sources`.
        frames, height, width: of the clips, in pixels.
        detail: shorter side of the photographs, which are reduced to it, as a multiple of the frames' longer one.
        camera: motion of the view, which begins anywhere on the photograph; beyond its edges that is mirrored.
        objects: probability of an object: a part of another photograph with a smooth outline of random shape.
        object_motion: motion of the object, relative to the frame.
        object_size: smallest and largest radius, as shares of the shorter side.
        flip: probability of mirroring left to right, for each photograph.
        fps: the rate that clips state.
        cache: MiB of reduced photographs that each process keeps, so that these are decoded once.
    """

    def __init__(self, *, images: ImageSource, frames: int = 8, height: int = 64, width: int = 64, detail: float = 1.5,
                 camera: Motion | None = None, objects: float = 0.5, object_motion: Motion | None = None,
                 object_size: Sequence[float] = (0.12, 0.28), flip: float = 0.5, fps: float = 7.0, cache: int = 256):
        expect_at_least(1, frames=frames, height=height, width=width, detail=detail, fps=fps)
        expect_at_least(0, cache=cache)
        expect_within(0, 1, objects=objects, flip=flip)
        if len(object_size) != 2 or not 0 < object_size[0] <= object_size[1]:
            raise InputError(f"object_size: expected the smallest and the largest radius, got {object_size}")
        self.images, self.frames, self.size = images, frames, (height, width)
        self.detail, self.objects, self.object_size, self.flip, self.fps = detail, objects, object_size, flip, fps
        self.camera = camera or Motion(still=0, shift=0.5, growth=1.5, rotation=20, deformation=0)
        self.object_motion = object_motion or Motion(still=0, shift=0.8, growth=1.5, rotation=60, deformation=0.04)
        self._cache: dict[int, np.ndarray] = {}
        self._room = cache * 2**20

    def __len__(self) -> int:
        return len(self.images)

    def name(self, index: int) -> str:
        return self.images.name(index)

    def clip(self, rng: np.random.Generator, index: int) -> Clip:
        background = self._photograph(rng, index)
        frames = self._view(rng, background, self.camera.sample(rng, self.frames, *self.size))
        object_index = int(rng.integers(len(self.images)))
        if rng.random() >= self.objects:
            return Clip(frames, self.fps)
        height, width = self.size
        centre = rng.uniform(0.2, 0.8) * width, rng.uniform(0.2, 0.8) * height
        maps = self._maps(self.object_motion.sample(rng, self.frames, *self.size, centre))
        alpha = self._outline(rng, maps, centre)
        content = self._view(rng, self._photograph(rng, object_index), maps)
        frames = np.round(frames + alpha[..., None] * (content.astype(np.float32) - frames)).astype(np.uint8)
        return Clip(frames, self.fps, (alpha > 0).astype(np.uint8))

    def _photograph(self, rng, index):
        photograph = self._cache.get(index)
        if photograph is None:
            photograph = io.read_image(self.images.path(index))
            height, width = photograph.shape[:2]
            scale = self.detail * max(self.size) / min(height, width)
            size = max(1, round(scale * height)), max(1, round(scale * width))
            photograph = resize(photograph, size, cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
            if photograph.nbytes <= self._room:
                self._cache[index] = photograph
                self._room -= photograph.nbytes
        return photograph[:, ::-1] if rng.random() < self.flip else photograph

    def _maps(self, maps):
        """The maps of `Motion.sample`, also where nothing moves."""
        if maps is not None:
            return maps
        still = np.stack(np.meshgrid(*(np.arange(n, dtype=np.float32) for n in self.size[::-1])))
        return np.repeat(still[None], self.frames, axis=0)

    def _view(self, rng, photograph, maps):
        """Frames of a random part of a photograph, seen through maps."""
        photograph = np.ascontiguousarray(photograph)
        room = [big - small for big, small in zip(photograph.shape[1::-1], self.size[::-1], strict=True)]
        corner = rng.uniform(0, 1, 2) * room
        maps = self._maps(maps) + corner.astype(np.float32)[:, None, None]
        return np.stack([cv2.remap(photograph, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
                         for x, y in maps])

    def _outline(self, rng, maps, centre):
        """How much of each pixel (F, H, W) an object covers whose radius varies smoothly with the angle."""
        radius = rng.uniform(*self.object_size) * min(self.size)
        waves = np.arange(2, 5)
        strength, phase = rng.uniform(0, 0.35, 3) / waves, rng.uniform(0, 2 * np.pi, 3)
        x, y = maps[:, 0] - np.float32(centre[0]), maps[:, 1] - np.float32(centre[1])
        angle = np.arctan2(y, x)
        outline = 1 + sum(np.float32(s) * np.cos(np.float32(w) * angle + np.float32(p))
                          for s, w, p in zip(strength, waves, phase, strict=True))
        return np.clip(np.float32(radius) * outline - np.hypot(x, y) + 0.5, 0, 1)
