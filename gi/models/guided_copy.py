"""Copies from keyframes around any generator, which then only draws what none of them shows. Ours, not the paper's."""
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gi.errors import InputError
from gi.flow.unseen import soft_fill
from gi.flow.window import window_around
from gi.models.blocks import check_inputs
from gi.models.keyframes import Keyframes
from gi.models.pixel_write import PixelWrite


class GuidedCopy(nn.Module):
    """Called as the generator inside it, with the keyframes' own pixels in the result where `PixelWrite` trusts them.

    With `smooth_start`, they enter before: the network sees frames whose holes are filled, see `smooth_start`, and a
    blend of this start and of what it draws comes out; without a network the start itself. Without `smooth_start`, the
    network sees what it would see by itself, and the keyframes enter what it draws. `pixel_width` are channels of
    `PixelWrite`. `encode_keyframes` and `predict` are the two parts of `forward`, see `gi.models.keyframes`.
    """

    def __init__(self, *, network: nn.Module | None = None, pixel_width: int = 16, smooth_start: bool = True):
        super().__init__()
        if network is None and not smooth_start:
            raise InputError("smooth_start false: expected a network, as nothing else fills what no keyframe shows")
        self.network, self.pixel_write, self.smooth_start = network, PixelWrite(pixel_width), smooth_start
        self.blend = Blend() if network is not None and smooth_start else None
        self.seeded = self.blend is not None  # training needs `seeds`
        self._has_stream = hasattr(network, "encode_keyframes")

    def forward(self, target: Tensor, sources: Tensor, flows: Tensor, flow_errors: Tensor,
                seeds: Tensor | None = None) -> Tensor:
        """RGB (B, 3, H, W) in [0, 1]; inputs as in `TwoStreamGenerator.forward`.

        seeds: (B,) random whole numbers, one a sample, for the choice that `Blend` makes in training.
        """
        check_inputs(target, sources, flows, flow_errors)
        return self.predict(target, self.encode_keyframes(sources), flows, flow_errors, seeds)

    def encode_keyframes(self, sources: Tensor) -> Keyframes:
        """The keyframe stream of sources (B, T, 4, H, W): that of the network, if it has one, and the frames."""
        if not sources.shape[1]:
            return Keyframes()
        blocks = self.network.encode_keyframes(self._seen(sources)).blocks if self._has_stream else ()
        return Keyframes(blocks, sources.unbind(1))

    def predict(self, target: Tensor, keyframes: Keyframes, flows: Tensor, flow_errors: Tensor,
                seeds: Tensor | None = None) -> Tensor:
        """Fills the target (B, 4, H, W), given what `encode_keyframes` returned; the rest as in `forward`."""
        sources, seen = keyframes.sources or (), target
        if self.smooth_start:
            start, guessed = smooth_start(target, self.pixel_write, sources, flows, flow_errors)
            if self.network is None:
                return start
            seen = torch.cat([start, guessed], dim=1).detach()
        if self._has_stream:
            drawn = self.network.predict(seen, keyframes, flows, flow_errors)
        else:
            frames = torch.stack(sources, dim=1) if sources else target[:, None][:, :0]
            drawn = self.network(seen, self._seen(frames), flows, flow_errors)
        if self.smooth_start:
            if self.training and seeds is None:
                raise InputError("seeds: GuidedCopy needs a random number for each sample in training; "
                                 "expected samples with a 'seed', see gi.data.sample")
            return self.blend(drawn, start, guessed, seeds % 2 == 0 if self.training else None)
        return self.pixel_write(drawn, target, sources, flows, flow_errors)

    def _seen(self, sources):
        """What the network sees of keyframes (B, T, 4, H, W)."""
        if not self.smooth_start or not sources.shape[1]:
            return sources
        return torch.cat(smooth_start(sources.flatten(0, 1)), dim=1).unflatten(0, sources.shape[:2])


def smooth_start(target: Tensor, pixel_write: PixelWrite | None = None, sources: Sequence[Tensor] = (),
                 flows: Tensor | None = None, flow_errors: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The target (B, 4, H, W) with its hole filled, (B, 3, H, W) float32, and how much of it is a guess, (B, 1, H, W).

    `sources`, T frames (B, 4, H, W), enter where `pixel_write` trusts them. What is known, or trusted, is then
    continued smoothly. A guess is what is neither: 0 where known, 1 where it is all continuation.
    """
    colours, mask = target[:, :3].float(), target[:, 3:].float()
    colours, share = colours * (1 - mask), 1 - mask
    if sources:
        alone = soft_fill(colours, share, relax=True)
        part = window_around(mask > 0, margin=pixel_write.MARGIN)
        seen, trust = pixel_write.trusted(alone, target, sources, flows, flow_errors, part)
        colours, share = colours + mask * seen, share + mask * trust
    return soft_fill(colours, share, relax=True), 1 - share


class Blend(nn.Module):
    """Between the first guess and what a network drew, pixel by pixel, as far as the first guess is one.

    In training half of the samples are the drawing alone: a decoder that only had to improve on a guess would learn to
    do nothing.
    """

    MARGIN = 2  # pixels around each that its weight depends on

    def __init__(self, width: int = 16):
        super().__init__()
        conv: dict[str, Any] = dict(kernel_size=3, padding=1, padding_mode="reflect")
        last = nn.Conv2d(width, 1, **conv)
        self.head = nn.Sequential(nn.Conv2d(10, width, **conv), nn.ReLU(), last)
        nn.init.constant_(last.bias, -2.0)

    def forward(self, drawn: Tensor, start: Tensor, guessed: Tensor, alone: Tensor | None = None) -> Tensor:
        """drawn, start (B, 3, H, W) in [0, 1], guessed (B, 1, H, W); alone (B,), or None: true for nothing else."""
        change = drawn.float() - start
        clues = torch.cat([drawn.float(), start, guessed, change.abs()], dim=1).detach()
        part = ..., *window_around(guessed > 0, margin=self.MARGIN)
        weight = torch.zeros_like(guessed)
        weight[part] = guessed[part] * self.head(clues[part]).float().sigmoid()
        if alone is not None:
            weight = torch.where(alone.view(-1, 1, 1, 1), 1, weight)
        return start + weight * change
