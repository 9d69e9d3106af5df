"""Cached features of keyframes, and the two methods of a generator that can reuse them.

A generator whose keyframe stream does not depend on the target offers, beside `forward`,

- `encode_keyframes(sources) -> Keyframes`: the stream for sources (B, T, 4, H, W), T >= 0,
- `predict(target, keyframes, flows, flow_errors)`: the rest, flows and errors being those of `keyframes` in order,

so that a frame that guides several targets is encoded once; `join` makes one stream of frames encoded alone. Together
they do what `forward` does, up to rounding, but check no shapes.
"""
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class KeyframeFeatures(NamedTuple):
    """The features of keyframes that one cross-frame block uses, T frames per sample; None for those it does not use.
    """

    keys: Tensor | None = None  # B, T, latents, width: of the first attention
    values: Tensor | None = None  # B, T, latents, width
    detail: tuple[Tensor, ...] | None = None  # T of (B, 2C, h, w): what the deformable write warps


class Keyframes(NamedTuple):
    """The keyframe stream: features of each cross-frame block, and the frames themselves if `predict` needs them."""

    blocks: tuple[KeyframeFeatures, ...] = ()  # empty without keyframes
    sources: tuple[Tensor, ...] | None = None  # T of (B, 4, H, W)


def join(streams: Sequence[Keyframes]) -> Keyframes:
    """One stream of all the frames of `streams` (B alike), in order, sharing their maps; without any, the stream for T
    = 0.
    """
    if not streams:
        return Keyframes()
    blocks, sources = zip(*streams, strict=True)
    return Keyframes(tuple(KeyframeFeatures(*map(_cat, zip(*block, strict=True)))
                           for block in zip(*blocks, strict=True)), _cat(sources))


def _cat(parts):
    if parts[0] is None:
        return None
    return sum(parts, ()) if isinstance(parts[0], tuple) else torch.cat(parts, dim=1)
