"""Frames of a video as its metrics see them, with intermediate results that several metrics share."""
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gi.compositing import tensor_of_pixels
from gi.errors import InputError
from gi.metrics.video import WINDOW, composite, pvcs, video_feature


@dataclass(frozen=True)
class Frames:
    """Some frames in a row: truth and composite (n,H,W,3) uint8, hole (n,H,W) bool, 1 = missing."""

    truth: np.ndarray
    hole: np.ndarray
    composite: np.ndarray
    networks: Mapping[str, nn.Module]  # by name, on one device
    device: torch.device
    batch_size: int  # windows that `i3d` looks at together

    def __len__(self) -> int:
        return len(self.hole)

    def last(self, count: int) -> "Frames":
        """The last `count` frames, or as many as there are."""
        return self._map(lambda x: x[max(0, len(x) - count):].copy())

    def held(self, count: int) -> "Frames":
        """The frames, padded to at least `count` by repeating the last one."""
        return self._map(lambda x: np.concatenate([x, *[x[-1:]] * (count - len(x))]))

    def __add__(self, other: "Frames") -> "Frames":
        return self._map(lambda x, y: np.concatenate([x, y]), other)

    def _map(self, function: Callable, *others: "Frames") -> "Frames":
        return replace(self, **{name: function(*(getattr(frames, name) for frames in (self, *others)))
                                for name in ("truth", "hole", "composite")})

    @cached_property
    def images(self) -> Tensor:
        """(2,n,3,H,W) float32 in [0,1]: truth and composite."""
        return tensor_of_pixels(np.stack([self.truth, self.composite]), self.device)

    @cached_property
    def masks(self) -> Tensor:
        """(n,1,H,W) float32, 1 = missing."""
        return torch.from_numpy(self.hole).to(self.device)[:, None].float()

    @cached_property
    def flows(self) -> tuple[Tensor, Tensor]:
        """(n-1,2,H,W) of the truth from every frame to the next one, and back, by the network `estimator`."""
        number = torch.arange(len(self), device=self.device)
        first, second = number[:-1], number[1:]
        ends = torch.cat([first, second]), torch.cat([second, first])
        return self.networks["estimator"].between(self.images[0], *ends).chunk(2)

    @cached_property
    def windows(self) -> tuple[Tensor, Tensor]:
        """Of every 10 frames in a row, by the network `i3d`: features (2,m,1024), and `video.pvcs` (m,)."""
        starts, features, distances = range(len(self) - WINDOW + 1), [], []
        for first in starts[::self.batch_size]:
            clips = torch.stack([self.images[:, start:start + WINDOW]
                                 for start in starts[first:first + self.batch_size]], dim=1)
            activations = self.networks["i3d"](clips.flatten(0, 1))
            truth, composite = ({name: value.chunk(2)[side] for name, value in activations.items()} for side in (0, 1))
            features.append(torch.stack([video_feature(truth), video_feature(composite)]))
            distances.append(pvcs(truth, composite))
        return torch.cat(features, dim=1), torch.cat(distances)


def read_frames(rows: Iterable, size: int, **options: Any) -> Iterator[Frames]:
    """`size` frames at a time of rows (truth, mask, prediction). Raises InputError, naming the frame, for wrong shapes
    and types.
    """
    rows = _checked(rows)
    while columns := list(zip(*itertools.islice(rows, size), strict=True)):
        truth, mask, prediction = map(np.stack, columns)
        del columns  # so that the single frames are freed before the next are read
        yield Frames(truth, mask != 0, composite(truth, mask, prediction), **options)


def _checked(rows: Iterable) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    shape = None
    for number, row in enumerate(rows):
        truth, mask, prediction = map(np.asarray, row)
        shape = shape or truth.shape
        for role, x in ("truth", truth), ("prediction", prediction):
            if x.dtype != np.uint8 or x.ndim != 3 or x.shape[2] != 3 or x.size == 0:
                raise InputError(f"frame {number}: expected {role} (H, W, 3) uint8, got {x.shape} {x.dtype}")
            if x.shape != shape:
                raise InputError(f"frame {number}: expected {role} of shape {shape} as the first frame, got {x.shape}")
        if mask.shape != shape[:2] or mask.dtype not in (np.uint8, np.bool_):
            raise InputError(f"frame {number}: expected a mask {shape[:2]} of uint8 or bool, "
                             f"got {mask.shape} {mask.dtype}")
        yield truth, mask, prediction
