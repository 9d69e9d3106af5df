"""From noise to latents: Euler steps along the noise levels, with guidance; several windows at once if they overlap.

diffusers' pipeline makes noise for its own numbers of channels only, so the loop is ours. With its network and noise it
gives its latents, bit for bit.
"""
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gi.diffusion.denoiser import estimate
from gi.diffusion.network import Conditions, KeyframeDiffusion
from gi.errors import expect_at_least, expect_finite

SIGMA_MIN, RHO = 0.002, 7


class View(NamedTuple):
    """What the network sees at once: frames start … stop - 1 of the latents, their conditions, and guidance (F,)."""

    start: int
    stop: int
    conditions: Conditions
    scales: Tensor


def sigmas(steps: int, sigma_max: float) -> Tensor:
    """(steps + 1,) float32 noise levels from `sigma_max` to SIGMA_MIN, even in their 7th root (Karras et al.), and 0.
    """
    expect_at_least(1, steps=steps)
    first, last = (sigma ** (1 / RHO) for sigma in (sigma_max, SIGMA_MIN))
    levels = (first + np.linspace(0, 1, steps) * (last - first)) ** RHO
    return torch.from_numpy(np.append(levels, 0)).float()


def guidance_scales(whole: Sequence[bool], lowest: float, highest: float) -> Tensor:
    """(F,): from `lowest` at keyframes linearly to `highest` at the clip's length from the nearest one, and everywhere
    without any. With the first frame as the only keyframe, that is SVD's.

    whole: which frames are keyframes.
    """
    places = torch.arange(len(whole))
    keyframes = places[torch.tensor(whole, dtype=torch.bool)]
    if not len(keyframes):
        return torch.full((len(whole),), float(highest))
    return torch.linspace(lowest, highest, len(whole))[(places[:, None] - keyframes).abs().amin(dim=1)]


def begin(noise: Tensor, levels: Tensor) -> Tensor:
    """Latents (B, F, c, h, w) of the highest level from noise of unit variance."""
    return noise * (levels[0] ** 2 + 1) ** 0.5


@torch.no_grad()
def denoise(network: KeyframeDiffusion, latents: Tensor, views: Sequence[View], ids: Tensor, levels: Tensor, *,
            start: int = 0) -> Iterator[Tensor]:
    """Yields the latents after each step, from step `start` on; the last are z_0.

    latents: (B, N, c, h, w) at level `levels[start]`; ids: (B, 3). One view of all frames is plain sampling; of
    several, which together show all, estimates are averaged where they overlap (temporal MultiDiffusion, Bar-Tal et al.
    2023).
    The network is called once per step and view, with both branches of guidance in one batch. Raises InputError if a
    result is not finite.
    """
    levels = levels.to(latents.device)
    for level, following in zip(levels[start:-1], levels[start + 1:], strict=True):
        total, count = torch.zeros_like(latents), latents.new_zeros(latents.shape[1], 1, 1, 1)
        for view in views:
            view_latents = latents[:, view.start:view.stop]
            total[:, view.start:view.stop] += estimate(_output(network, view_latents, level, view, ids), view_latents,
                                                       level)
            count[view.start:view.stop] += 1
        latents = expect_finite(latents + (latents - total / count) / level * (following - level))
        yield latents


def _output(network, latents, level, view, ids):
    """F with guidance, float32. The unconditional branch is given nothing but ids."""
    conditioning = Conditions(*(part.to(latents.device) for part in view.conditions))
    if (view.scales == 1).all():
        return network(latents, level, conditioning, ids).float()
    both = Conditions(*(torch.cat(parts) for parts in zip(conditioning.dropped(), conditioning, strict=True)))
    without, conditional = network(torch.cat([latents, latents]), level, both, ids.repeat(2, 1)).float().chunk(2)
    return without + view.scales.to(latents.device)[:, None, None, None] * (conditional - without)
