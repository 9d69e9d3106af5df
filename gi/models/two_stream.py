"""The paper's generator: a local stream (LIF) of convolutions and a global stream (GIF) of attention over latents."""
import contextlib
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from gi.errors import InputError, expect_at_least, expect_within
from gi.models.aggregate import DeformableWrite
from gi.models.attention import Attention, Read, Write
from gi.models.blocks import Decoder, Encoder, FourierPositions, check_inputs, crop_like, grouped_block, initialise
from gi.models.ffc import ffc_block
from gi.models.keyframes import KeyframeFeatures, Keyframes


class TwoStreamBlock(nn.Module):
    """read -> attention 1 (the cross-frame one) -> attention 2 -> two local blocks -> write (section 3.2, figure 2)."""

    def __init__(self, *, channels: int, width: int, m: int, heads: int, local_blocks: list[nn.Module]):
        super().__init__()
        self.read = Read(channels=channels, width=width, m=m, heads=heads)
        self.attention1 = Attention(width=width, heads=heads)
        self.attention2 = Attention(width=width, heads=heads)
        self.local = nn.Sequential(*local_blocks)
        self.write = Write(channels=channels, width=width, m=m, heads=heads)

    def forward(self, local: Tensor, latents: Tensor, memory: tuple[Tensor, Tensor] | None = None
                ) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        """Returns the local map, the latents, and the frame's own (keys, values) of attention 1."""
        latents = self.read(local, latents)
        latents, own = self.attention1(latents, memory)
        latents, _ = self.attention2(latents)
        return self.write(self.local(local), latents), latents, own


class TwoStreamGenerator(nn.Module):
    """ours (4 blocks), ours big (12 blocks), ours w/o FFC (6 blocks, local_block="grouped_conv").

    `n_cross` of the blocks, counted from the first, use keyframes: by attention if `cross_attention`, by aligned detail
    if `deformable_write`. `n_latents` must be a square number. Defaults are those of table 2 of the paper.
    `checkpoint_blocks` computes the blocks a second time in the backward pass instead of keeping their activations.
    `encode_keyframes` and `predict` are the two parts of `forward`, see `gi.models.keyframes`.
    """

    def __init__(self, *, ngf: int = 64, n_down: int = 3, n_blocks: int = 4, n_cross: int = 2,
                 cross_attention: bool = True, deformable_write: bool = True,
                 local_block: Literal["ffc", "grouped_conv"] = "ffc", ffc_share: float = 0.75, groups: int = 4,
                 heads: int = 8, n_latents: int = 256, latent_width: int = 512, checkpoint_blocks: bool = False):
        super().__init__()
        expect_at_least(1, heads=heads, n_latents=n_latents, latent_width=latent_width, groups=groups)
        self.encoder = Encoder(ngf=ngf, n_down=n_down)
        channels = self.encoder.out_channels
        m = round(n_latents**0.5)
        if m * m != n_latents:
            raise InputError(f"n_latents {n_latents}: expected a square number")
        expect_within(0, n_blocks, n_cross=n_cross)
        if channels % heads or latent_width % heads:
            raise InputError(f"heads {heads}: expected a divisor of {channels} local channels and latent_width "
                             f"{latent_width}")

        def local():
            if local_block == "ffc":
                return ffc_block(channels, ffc_share)
            return grouped_block(channels, groups)

        self.positions = FourierPositions(in_channels=channels, out_channels=channels)
        self.latents = nn.Parameter(torch.empty(n_latents, latent_width))
        self.blocks = nn.ModuleList(
            TwoStreamBlock(channels=channels, width=latent_width, m=m, heads=heads, local_blocks=[local(), local()])
            for _ in range(n_blocks)
        )
        self.checkpoint_blocks, self.cross_attention = checkpoint_blocks, cross_attention
        self.n_cross = n_cross if cross_attention or deformable_write else 0
        writes = n_cross if deformable_write else 0
        self.deformable_writes = nn.ModuleList(DeformableWrite(channels) for _ in range(writes))
        self.decoder = Decoder(in_channels=channels, ngf=ngf, n_down=n_down)
        initialise(self)
        nn.init.normal_(self.latents, std=0.02)

    def forward(self, target: Tensor, sources: Tensor, flows: Tensor, flow_errors: Tensor) -> Tensor:
        """RGB (B, 3, H, W) in [0, 1] of the whole target image.

        target (B, 4, H, W) and sources (B, T, 4, H, W): RGB in [0, 1], zero where missing, and the mask (1 = missing).
        flows (B, T, 2, H, W): from target to each keyframe, pixels. flow_errors (B, T, 1, H, W): their
        forward-backward error, pixels. T may be 0. Raises InputError if the shapes do not fit together.
        """
        check_inputs(target, sources, flows, flow_errors)
        return self.predict(target, self.encode_keyframes(sources), flows, flow_errors)

    def encode_keyframes(self, sources: Tensor) -> Keyframes:
        """The keyframe stream of sources (B, T, 4, H, W)."""
        b, t = sources.shape[:2]
        if t == 0 or self.n_cross == 0:
            return Keyframes()
        blocks = []
        local, latents = self._start(sources.flatten(0, 1))
        for i, block in enumerate(self.blocks[: self.n_cross]):
            local, latents, own = self._run(block, local, latents)
            keys, values = (x.unflatten(0, (b, t)) for x in own) if self.cross_attention else (None, None)
            detail = None
            if self.deformable_writes:
                detail = self.deformable_writes[i].project(local.unflatten(0, (b, t))).unbind(1)
            blocks.append(KeyframeFeatures(keys, values, detail))
        return Keyframes(tuple(blocks))

    def predict(self, target: Tensor, keyframes: Keyframes, flows: Tensor, flow_errors: Tensor) -> Tensor:
        """Fills the target (B, 4, H, W), given what `encode_keyframes` returned; flows and errors as in `forward`."""
        local, latents = self._start(target)
        for i, block in enumerate(self.blocks):
            if i >= len(keyframes.blocks):
                local, latents, _ = self._run(block, local, latents)
                continue
            keys, values, detail = keyframes.blocks[i]
            memory = (keys.flatten(1, 2), values.flatten(1, 2)) if self.cross_attention else None
            local, latents, _ = self._run(block, local, latents, memory)
            if self.deformable_writes:
                local = self.deformable_writes[i].write(local, detail, flows, flow_errors)
        return crop_like(self.decoder(local), target)

    def _start(self, frames):
        return self.positions(self.encoder(frames)), self.latents.expand(len(frames), -1, -1)

    def _run(self, block, *inputs):
        return recomputed(block, *inputs) if self.checkpoint_blocks and torch.is_grad_enabled() else block(*inputs)


def recomputed(module: nn.Module, *inputs: Tensor | tuple[Tensor, Tensor] | None) -> Any:
    """`module(*inputs)`, computed again in the backward pass: less memory for more time, with the same result."""
    return checkpoint(module, *inputs, use_reentrant=False, preserve_rng_state=False,  # nothing here is random
                      context_fn=lambda: (contextlib.nullcontext(), _without_statistics(module)))


@contextlib.contextmanager
def _without_statistics(module):
    """BatchNorms normalise as they did, but do not count the batch a second time."""
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm)]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, norm.num_batches_tracked.clone()
    try:
        yield
    finally:
        for norm, values in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = values
