"""The global stream: read from the local map into latents, attention among latents, write back (section 3.2, 3.3)."""
import functools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gi.flow.warp import resize
from gi.models.blocks import mlp


class PatchSoftmax(nn.Module):
    """Softmax over the pixels of each of the m x m equal patches of a map (N, heads, h, w), h and w multiples of m.

    A module of its own so that a forward hook on it yields the read maps.
    """

    def __init__(self, m: int):
        super().__init__()
        self.m = m

    def forward(self, scores: Tensor) -> Tensor:
        patches = to_patches(scores, self.m).transpose(3, 4)
        return patches.flatten(4).softmax(dim=-1).view(patches.shape).transpose(3, 4).reshape(scores.shape)


class Read(nn.Module):
    """Equation 1: latent j gets, per head, the sum of patch j's values weighted by the softmax of its scores.

    Input local map (N, channels, h, w) and latents (N, m*m, width); output latents.
    """

    def __init__(self, *, channels: int, width: int, m: int, heads: int = 8):
        super().__init__()
        self.m, self.heads = m, heads
        self.scores = nn.Conv2d(channels, heads, 1)
        self.values = nn.Conv2d(channels, width, 1)
        self.softmax = PatchSoftmax(m)
        self.norm1 = nn.LayerNorm(width)
        self.project = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = mlp(width)

    def forward(self, local: Tensor, latents: Tensor) -> Tensor:
        size = divisible_size(local.shape[-2:], self.m)
        weights = self.softmax(resize(self.scores(local), size))
        # The values are linear in the map and the weights of a patch add up to one, so the sum may come first: as many
        # values as latents are then made, not as pixels.
        pooled = patch_pixels(weights, self.m).transpose(2, 3) @ patch_pixels(resize(local, size), self.m)
        weight = self.values.weight.flatten(1).unflatten(0, (self.heads, -1))  # heads, width/heads, channels
        read = pooled.transpose(1, 2) @ weight.transpose(1, 2)  # n, heads, m*m, width/heads
        read = read.transpose(1, 2).flatten(2) + self.values.bias  # n, m*m, width
        latents = latents + self.project(self.norm1(read))
        return latents + self.mlp(self.norm2(latents))


class Write(nn.Module):
    """Equation 2: every pixel of patch j gets, per head, sigmoid(score) times the value of latent j.

    The paper writes "layer norm"; the original release uses BatchNorm here, and its checkpoints need it.
    Input local map (N, channels, h, w) and latents (N, m*m, width); output local map.
    """

    def __init__(self, *, channels: int, width: int, m: int, heads: int = 8):
        super().__init__()
        self.m, self.heads = m, heads
        self.scores = nn.Conv2d(channels, heads, 1)
        self.gate = nn.Sigmoid()  # hook here for the write maps
        self.values = nn.Linear(width, channels)
        self.norm1 = nn.BatchNorm2d(channels)
        self.project = nn.Conv2d(channels, channels, 1)
        self.norm2 = nn.BatchNorm2d(channels)
        self.mlp = mlp(channels, functools.partial(nn.Conv2d, kernel_size=1))

    def forward(self, local: Tensor, latents: Tensor) -> Tensor:
        height, width = divisible_size(local.shape[-2:], self.m)
        gates = to_patches(self.gate(resize(self.scores(local), (height, width))), self.m)  # n, heads, m, ph, m, pw
        values = self.values(latents).transpose(1, 2).unflatten(1, (self.heads, -1)).unflatten(3, (self.m, self.m))
        written = gates[:, :, None] * values[:, :, :, :, None, :, None]  # n, heads, channels/heads, m, ph, m, pw
        # Only the scores were resized; the product goes back to the map's own size (original release).
        written = resize(written.flatten(1, 2).reshape(len(local), -1, height, width), local.shape[-2:])
        local = local + self.project(self.norm1(written))
        return local + self.mlp(self.norm2(local))


class Attention(nn.Module):
    """Pre-norm multi-head attention and MLP, both with a residual connection, over latents (N, L, width).

    `memory` is the (keys, values) of other frames, each (N, K, width), appended to the frame's own: the cross-frame
    attention A(g_tgt, g_src) of section 3.3. Returns the latents and the frame's own (keys, values).
    """

    def __init__(self, *, width: int, heads: int = 8):
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.project = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = mlp(width)

    def forward(self, latents: Tensor, memory: tuple[Tensor, Tensor] | None = None) -> tuple[
            Tensor, tuple[Tensor, Tensor]]:
        x = self.norm1(latents)
        own = self.key(x), self.value(x)
        keys, values = own if memory is None else (torch.cat(pair, dim=1) for pair in zip(own, memory, strict=True))
        split = [t.unflatten(2, (self.heads, -1)).transpose(1, 2) for t in (self.query(x), keys, values)]
        attended = F.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2)
        latents = latents + self.project(attended)
        return latents + self.mlp(self.norm2(latents)), own


def divisible_size(size: Sequence[int], m: int) -> tuple[int, int]:
    """The multiple of m closest to each side, as the original rounds (half to even), but never 0."""
    height, width = (m * max(1, round(side / m)) for side in size)
    return height, width


def to_patches(x: Tensor, m: int) -> Tensor:
    """(..., h, w) -> (..., m, h/m, m, w/m)."""
    h, w = x.shape[-2:]
    return x.unflatten(-1, (m, w // m)).unflatten(-3, (m, h // m))


def patch_pixels(x: Tensor, m: int) -> Tensor:
    """(N, C, h, w) -> (N, m * m, pixels of a patch, C)."""
    return to_patches(x, m).permute(0, 2, 4, 3, 5, 1).flatten(3, 4).flatten(1, 2)
