"""Wraps any generator with copying from keyframes: it only generates what none of them shows. Ours, not the paper's."""
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gi.errors import InputError, expect_at_least
from gi.flow.unseen import soft_fill
from gi.flow.warp import area_means, resize_flow
from gi.flow.window import window_around
from gi.media.crop import limited
from gi.models.blocks import check_inputs
from gi.models.keyframes import Keyframes
from gi.models.pixel_write import PixelWrite


class GuidedCopy(nn.Module):
    """Called as the generator inside it, with the keyframes' own pixels in the result where `PixelWrite` trusts them.

    With `smooth_start`, they are copied before: the network sees frames whose holes are filled, see the function
    `smooth_start`, and its output replaces what was guessed; without a network the guess remains. Without
    `smooth_start`, the network sees its usual input, and the keyframes are blended into its output.

    With `side`, the network predicts a *residual* of the filled frames, at low resolution: it sees them reduced to at
    most `side` pixels along their longer side, their known colours normalised to mean 0 and standard deviation 1. An
    output of 0.5 means no change, and is the initial output. What is learned at one contrast then holds for all.

    `pixel_width` is the number of channels of `PixelWrite`. `encode_keyframes` and `predict` are the two parts of
    `forward`, see `gi.models.keyframes`.
    """

    LARGEST_CHANGE = 4.0  # in standard deviations of the known colours
    SHORTEST = 18  # pixels of the shorter side that are left of long, narrow pictures: networks reduce them further

    def __init__(self, *, network: nn.Module | None = None, pixel_width: int = 16, smooth_start: bool = True,
                 side: int | None = None):
        super().__init__()
        if network is None and not smooth_start:
            raise InputError("smooth_start false: expected a network, as nothing else fills what no keyframe shows")
        if side is not None and not smooth_start:
            raise InputError(f"side {side}: expected smooth_start, which gives what the network changes")
        expect_at_least(self.SHORTEST, side=self.SHORTEST if side is None else side)
        self.network, self.pixel_write = network, PixelWrite(pixel_width)
        self.smooth_start, self.side = smooth_start, side
        if side is not None:  # a random initial residual is so far off that the decoder's ReLUs die
            for parameter in network.decoder.to_rgb.parameters():
                nn.init.zeros_(parameter)
        self._has_stream = hasattr(network, "encode_keyframes")
        self._is_guided = getattr(network, "n_cross", None) != 0

    def forward(self, target: Tensor, sources: Tensor, flows: Tensor, flow_errors: Tensor) -> Tensor:
        """RGB (B, 3, H, W) in [0, 1]; inputs as in `TwoStreamGenerator.forward`."""
        check_inputs(target, sources, flows, flow_errors)
        return self.predict(target, self.encode_keyframes(sources), flows, flow_errors)

    def encode_keyframes(self, sources: Tensor) -> Keyframes:
        """The keyframe stream of sources (B, T, 4, H, W): that of the network, if it has one, and the frames."""
        if not sources.shape[1]:
            return Keyframes()
        streams = self._has_stream and self._is_guided
        blocks = self.network.encode_keyframes(self._keyframe_inputs(sources)).blocks if streams else ()
        return Keyframes(blocks, sources.unbind(1))

    def predict(self, target: Tensor, keyframes: Keyframes, flows: Tensor, flow_errors: Tensor) -> Tensor:
        """Fills the target (B, 4, H, W), given what `encode_keyframes` returned; the rest as in `forward`."""
        sources = keyframes.sources or ()
        if not self.smooth_start:
            generated = self._draw(target, keyframes, flows, flow_errors)
            return self.pixel_write(generated, target, sources, flows, flow_errors)
        start, guessed = smooth_start(target, self.pixel_write, sources, flows, flow_errors)
        if self.network is None:
            return start
        network_input, deviation = self._network_input(start, guessed)
        generated = self._draw(network_input.detach(), keyframes, flows, flow_errors).float()
        if self.side is None:
            return start + guessed * (generated - start)
        change = self.LARGEST_CHANGE * deviation * (2 * generated - 1)
        change = F.interpolate(change, size=start.shape[-2:], mode="bilinear", align_corners=False)
        return (start + guessed * change).clamp(0, 1)

    def _draw(self, network_input, keyframes, flows, flow_errors):
        """The network's output for a target (B, 4, h, w), as `_network_input` gives it."""
        sources = (keyframes.sources or ()) if self._is_guided else ()
        flows, flow_errors = _resized(network_input.shape[-2:], flows, flow_errors, len(sources))
        if self._has_stream:
            return self.network.predict(network_input, keyframes, flows, flow_errors)
        frames = (torch.stack(sources, dim=1) if sources else
                  network_input.new_zeros(len(network_input), 0, *network_input.shape[1:]))
        return self.network(network_input, self._keyframe_inputs(frames), flows, flow_errors)

    def _keyframe_inputs(self, sources):
        """The network's input for keyframes (B, T, 4, H, W)."""
        if not self.smooth_start or not sources.shape[1]:
            return sources
        return self._network_input(*smooth_start(sources.flatten(0, 1)))[0].unflatten(0, sources.shape[:2])

    def _network_input(self, filled, guessed):
        """The network's input (N, 4, h, w) for a filled frame, and the standard deviation (N, 1, 1, 1) of its known
        colours.
        """
        joined = torch.cat([filled, guessed], dim=1)
        if self.side is None:
            return joined, 1.0
        size = [max(reduced, min(full, self.SHORTEST))
                for reduced, full in zip(limited(joined.shape[-2:], self.side), joined.shape[-2:], strict=True)]
        colours, guessed = area_means(joined, size).split([3, 1], dim=1)
        known = 1 - guessed
        count = 3 * known.sum(dim=(1, 2, 3), keepdim=True) + 1
        colours = colours - (known * colours).sum(dim=(1, 2, 3), keepdim=True) / count
        deviation = ((known * colours).square().sum(dim=(1, 2, 3), keepdim=True) / count).sqrt() + 0.02
        return torch.cat([colours / deviation, guessed], dim=1), deviation


def smooth_start(target: Tensor, pixel_write: PixelWrite | None = None, sources: Sequence[Tensor] = (),
                 flows: Tensor | None = None, flow_errors: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The target (B, 4, H, W) with its hole filled, (B, 3, H, W) float32, and how much of it is a guess, (B, 1, H, W).

    `sources`, T frames (B, 4, H, W), enter where `pixel_write` trusts them. Known and trusted pixels are then continued
    smoothly. The guess is 0 where a pixel is known, 1 where it is all continuation.
    """
    colours, mask = target[:, :3].float(), target[:, 3:].float()
    colours, share = colours * (1 - mask), 1 - mask
    if sources:
        continued = soft_fill(colours, share, relax=True)
        part = window_around(mask > 0, margin=pixel_write.MARGIN)
        copied, trust = pixel_write.trusted(continued, target, sources, flows, flow_errors, part)
        colours, share = colours + mask * copied, share + mask * trust
    return soft_fill(colours, share, relax=True), 1 - share


def _resized(size, flows, flow_errors, number):
    """Flow to the first `number` keyframes, and its error, in the pixels of frames of `size`."""
    flows, flow_errors = flows[:, :number], flow_errors[:, :number]
    if flows.shape[-2:] == size:
        return flows, flow_errors
    if number == 0:
        return tuple(x.new_zeros(*x.shape[:-2], *size) for x in (flows, flow_errors))
    small_errors = area_means(flow_errors.flatten(0, 1), size) * size[1] / flows.shape[-1]
    return tuple(x.unflatten(0, flows.shape[:2]) for x in (resize_flow(flows.flatten(0, 1), size), small_errors))
