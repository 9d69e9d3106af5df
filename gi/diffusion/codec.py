"""From pixels to the latents in which diffusion takes place, and back."""
from abc import abstractmethod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gi.diffusion.plan import overlapping
from gi.errors import InputError, expect_at_least, expect_within
from gi.weights.files import Frozen


class Codec(nn.Module):
    """Encodes each frame by itself; decoding may look at neighbouring frames.

    channels: of the latents. factor: by which they are smaller than the pixels, in height and width. scale: what the
    latents of clips are multiplied by to have about unit variance, z_0 = scale · encode(pixels). The latents of
    *conditions* are not multiplied, and `decode` takes z_0 / scale.
    """

    channels: int
    factor: int
    scale: float

    @abstractmethod
    def encode(self, pixels: Tensor) -> Tensor:
        """(B, F, 3, H, W) in [0, 1] -> (B, F, c, H/factor, W/factor), not scaled, always the same for the same pixels.
        """

    @abstractmethod
    def decode(self, latents: Tensor) -> Tensor:
        """(B, F, c, h, w), not scaled -> (B, F, 3, h·factor, w·factor), about in [0, 1], not clamped."""

    @abstractmethod
    def settings(self) -> dict[str, object]:
        """The constructor's arguments, as a configuration gives them."""


class PixelShuffle(Codec):
    """No network, and lossless: squares of factor² pixels become channels. For small models, trained from scratch."""

    def __init__(self, *, factor: int = 4):
        super().__init__()
        expect_at_least(1, factor=factor)
        self.channels, self.factor, self.scale = 3 * factor**2, factor, 2.0

    def encode(self, pixels: Tensor) -> Tensor:
        return F.pixel_unshuffle(2 * pixels - 1, self.factor)

    def decode(self, latents: Tensor) -> Tensor:
        return (F.pixel_shuffle(latents, self.factor) + 1) / 2

    def settings(self) -> dict[str, object]:
        return {"factor": self.factor}


class VideoAutoencoder(Frozen, Codec):
    """SVD's autoencoder: encodes frames, decodes clips, so that neighbouring frames agree. In float32 or bfloat16.

    vae: diffusers' `AutoencoderKLTemporalDecoder`. chunk: frames that are encoded or decoded at once, which bounds
    memory. overlap: how many of them two neighbouring chunks share; there one fades into the other. The decoder
    looks at all frames of a chunk, so chunks without overlap leave a seam.
    """

    def __init__(self, vae: Any, *, chunk: int = 8, overlap: int = 3):
        super().__init__()
        expect_at_least(1, chunk=chunk)
        expect_within(0, chunk - 1, overlap=overlap)
        self.vae: Any = vae
        self.chunk, self.overlap = chunk, overlap
        self.channels, self.scale = vae.config.latent_channels, vae.config.scaling_factor
        self.factor = 2 ** (len(vae.config.block_out_channels) - 1)
        self.freeze()

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Tensor:
        """The mode of the posterior. Raises InputError in float16, in which this network overflows."""
        with self._own_precision(pixels):
            frames = (2 * pixels - 1).to(self.vae.dtype).flatten(0, 1)
            latents = torch.cat([self.vae.encode(some).latent_dist.mode() for some in frames.split(self.chunk)])
        return latents.to(pixels.dtype).unflatten(0, pixels.shape[:2])

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Clip by clip, chunk by chunk. Raises InputError as `encode` does."""
        with self._own_precision(latents):
            return torch.stack([self._decode_clip(clip) for clip in latents])

    def _decode_clip(self, latents):
        count, channels, height, width = latents.shape
        decoded = latents.new_zeros(count, 3, height * self.factor, width * self.factor)
        for start, weights in chunks(count, self.chunk, self.overlap):
            part = latents[start:start + len(weights)].to(self.vae.dtype)
            pixels = self.vae.decode(part, num_frames=len(part)).sample.to(latents.dtype)
            decoded[start:start + len(part)] += pixels * torch.tensor(weights).to(pixels).view(-1, 1, 1, 1)
        return (decoded + 1) / 2

    def _own_precision(self, tensor):
        if self.vae.dtype == torch.float16:
            raise InputError("the video autoencoder overflows in float16, expected bfloat16 or float32")
        return torch.autocast(tensor.device.type, enabled=False)

    def settings(self) -> dict[str, object]:
        raise InputError("VideoAutoencoder: made from a network, a configuration cannot name it")


def chunks(count: int, length: int, overlap: int) -> list[tuple[int, list[float]]]:
    """Where chunks of `length` frames begin that cover `count`, and the weight of each frame in them.

    Neighbours share `overlap` frames or more, in which one fades into the other; the weights of a frame add up to 1.
    """
    length = min(length, count)
    starts = [window.start for window in overlapping(count, length, length - overlap)]
    # A frame's error grows by half and more from each to the next towards the end of a chunk; a steep fade hides that.
    slopes = [min(place + 1, length - place, overlap + 1) ** 3 for place in range(length)]
    total = [0.0] * count
    for start in starts:
        for place, slope in enumerate(slopes):
            total[start + place] += slope
    return [(start, [slope / total[start + place] for place, slope in enumerate(slopes)]) for start in starts]
