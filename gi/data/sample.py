"""What data sets yield, pictures with keyframes or clips, and what it becomes in a batch."""
import typing
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypedDict

import cv2
import numpy as np
import torch
from torch import Tensor

from gi.errors import InputError


class Sample(TypedDict):
    """A target with its hole, and T keyframes with theirs; T may be 0. A data set's `__getitem__` returns one.

    H, W and T may differ from sample to sample, but not within a batch.
    """

    image: Annotated[Tensor, torch.uint8, (3, "H", "W")]  # RGB, complete: also what is in the hole
    mask: Annotated[Tensor, torch.uint8, (1, "H", "W")]  # 1 = missing, 0 = known
    sources: Annotated[Tensor, torch.uint8, ("T", 3, "H", "W")]
    source_masks: Annotated[Tensor, torch.uint8, ("T", 1, "H", "W")]
    name: str  # unique in its set and epoch


class SyntheticSample(Sample, total=False):
    """What samples made from single photographs have in addition.

    Their motion is known, so they may have its exact flow, from the target to keyframes and back: see `gi.flow.exact`.
    """

    seed: Annotated[Tensor, torch.int64, ()]  # the sample's own, for what is random in a training step
    flows: Annotated[Tensor, torch.float32, (2, "T", 2, "H", "W")]  # pixels, x first
    flows_valid: Annotated[Tensor, torch.uint8, (2, "T", 1, "H", "W")]  # 1 = both frames show the place


class ClipSample(TypedDict):
    """A clip with its holes; frames without one are keyframes."""

    pixels: Annotated[Tensor, torch.uint8, ("F", 3, "H", "W")]  # RGB, complete: also what is in the holes
    masks: Annotated[Tensor, torch.uint8, ("F", 1, "H", "W")]  # 1 = missing, 0 = known
    fps: Annotated[Tensor, torch.float32, ()]  # frames a second
    name: str  # unique in its set and epoch


Batch = dict[str, Any]  # samples stacked by `gi.data.datamodule.collate`: B in front of each entry, names in a list


def make_sample(frames: Sequence[np.ndarray], masks: Sequence[np.ndarray], name: str) -> Sample:
    """From uint8 frames (H, W, 3) and masks (H, W), 1 = missing: of the target first, then of each keyframe."""
    images = torch.from_numpy(np.stack([cv2.split(frame) for frame in frames]))  # faster than a transpose
    holes = torch.from_numpy(np.stack(masks))[:, None]
    return {"image": images[0], "mask": holes[0], "sources": images[1:], "source_masks": holes[1:], "name": name}


_KINDS = {kind: typing.get_type_hints(kind, include_extras=True) for kind in (SyntheticSample, ClipSample)}


def check_sample(sample: Mapping[str, Any], set_name: str) -> None:
    """Raises InputError, naming the set `set_name` and the key, unless `sample` is a `Sample`, a `SyntheticSample`
    or, with "pixels" in it, a `ClipSample`.
    """
    if not isinstance(sample, Mapping):
        raise InputError(f"{set_name}: a sample is a {type(sample).__name__}, expected a dictionary")
    kind: Any = ClipSample if "pixels" in sample else SyntheticSample
    lengths: dict[str, int] = {}
    for key, hint in _KINDS[kind].items():
        if key not in sample:
            if key in kind.__required_keys__:
                raise InputError(f"{set_name}: a sample has no {key!r}, only {', '.join(map(repr, sample))}")
            continue
        value = sample[key]
        if hint is str:
            if not isinstance(value, str) or not value:
                raise InputError(f"{set_name}: {key!r} is {value!r}, expected a text")
            continue
        dtype, shape = hint.__metadata__
        actual = f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        fits = isinstance(value, Tensor) and value.dtype == dtype and value.ndim == len(shape) and all(
            length == (lengths.setdefault(axis, length) if isinstance(axis, str) else axis)
            for axis, length in zip(shape, value.shape, strict=True))
        if not fits:
            known = ", ".join(f"{axis} = {lengths[axis]}" for axis in shape if axis in lengths)
            raise InputError(f"{set_name}: {key!r} is {actual}, expected {dtype} ({', '.join(map(str, shape))})"
                             + (f" with {known}" if known else ""))
        if key in ("mask", "source_masks", "flows_valid", "masks") and value.numel() and value.max() > 1:
            raise InputError(f"{set_name}: {key!r} has values up to {value.max()}, expected 0 and 1")
