"""Fills a clip of frames at the working size: prepares the network's input, and composites its result."""
import contextlib
from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

from gi.diffusion.network import KeyframeDiffusion
from gi.diffusion.sampler import View, begin, denoise, guidance_scales, sigmas
from gi.errors import memory_named


class ClipFiller:
    """Fills clips of any size and length; frames without a hole are its keyframes.

    Args:
        network: on its device, in eval mode.
        steps: calls of the network for each clip.
        guidance: lowest and highest, see `guidance_scales`.
        ids: fps − 1, motion bucket, strength of noise on the conditions.
        soften: see `fade_seam`.
        seed: of the noise, which is drawn for each frame, whatever else is in a clip.
    """

    def __init__(self, network: KeyframeDiffusion, *, steps: int, guidance: tuple[float, float],
                 ids: tuple[float, float, float], soften: int, seed: int):
        self.network, self.guidance, self.soften, self.seed = network, guidance, soften, seed
        self.device = next(network.parameters()).device
        self.levels = sigmas(steps, network.sigma_max)
        self.ids = torch.tensor([ids], device=self.device)
        # Each further size of the UNet is half of the one before; others would be interpolated on the way up.
        self.multiple = network.codec.factor * 2 ** (len(network.unet.config.block_out_channels) - 1)

    @property
    def count(self) -> int:
        """The number of sampling steps of a clip."""
        return len(self.levels) - 1

    def steps(self, frames: np.ndarray, holes: np.ndarray, numbers: Sequence[int]) -> Iterator[Tensor]:
        """Yields the latents after each step, for `decode` in the end.

        frames: uint8 (F, H, W, 3), of which holes have no influence; holes: bool (F, H, W); numbers: of the frames.
        Raises InputError if memory is not enough or what comes out is not finite.
        """
        with enough_memory(frames.shape):
            yield from self.denoise(self.noise(numbers, frames.shape), [self.view(frames, holes)])

    def denoise(self, latents: Tensor, views: Sequence[View], start: int = 0) -> Iterator[Tensor]:
        """As `gi.diffusion.sampler.denoise`, with these noise levels and ids."""
        return denoise(self.network, latents.to(self.device), views, self.ids, self.levels, start=start)

    @torch.no_grad()
    def view(self, frames: np.ndarray, holes: np.ndarray, start: int = 0) -> View:
        """The network's input for a clip that begins at `start` in the latents."""
        pixels = self._padded(frames).permute(0, 3, 1, 2)[None].float() / 255
        masks = self._padded(holes)[None, :, None].float()
        conditions = self.network.conditions(pixels, masks)
        scales = guidance_scales([not hole.any() for hole in holes], *self.guidance)
        return View(start, start + len(frames), conditions, scales)

    def noise(self, numbers: Sequence[int], shape: Sequence[int]) -> Tensor:
        """(1, F, c, h, w) of the highest level, on the CPU; shape: of the frames, (F, H, W, 3)."""
        codec = self.network.codec
        size = [(length + padding) // codec.factor for length, (_, padding) in self._padding(shape)]
        return begin(torch.stack([frame_noise(self.seed, number, (codec.channels, *size)) for number in numbers])[None],
                     self.levels)

    @torch.no_grad()
    def decode(self, latents: Tensor, frames: np.ndarray, holes: np.ndarray) -> np.ndarray:
        """`frames` with the holes filled, uint8 (F, H, W, 3); known pixels are as they were."""
        with enough_memory(frames.shape):
            codec = self.network.codec
            pixels = codec.decode(latents.to(self.device) / codec.scale)[0, ..., :frames.shape[1], :frames.shape[2]]
            decoded = 255 * pixels.float().clamp(0, 1).permute(0, 2, 3, 1).cpu().numpy()
        result = frames.copy()
        for picture, content, hole in zip(result, decoded, holes, strict=True):
            if hole.any():
                picture[hole] = fade_seam(content, picture, hole, self.soften)[hole].round().clip(0, 255)
        return result

    def _padding(self, shape):
        """(length, how much to add at its end) of height and width."""
        return [(length, (0, -length % self.multiple)) for length in shape[1:3]]

    def _padded(self, array):
        padding = [(0, 0), *(padding for _, padding in self._padding(array.shape)), *[(0, 0)] * (array.ndim - 3)]
        return torch.from_numpy(np.pad(array, padding, mode="edge")).to(self.device)


def frame_noise(seed: int, number: int, shape: Sequence[int]) -> Tensor:
    """N(0, 1) of one frame of a video, the same on every device."""
    words = np.random.SeedSequence((seed, number)).generate_state(2)
    generator = torch.Generator().manual_seed(int(words[0]) << 31 | int(words[1]) >> 1)
    return torch.randn(tuple(shape), generator=generator)


def fade_seam(content: np.ndarray, frame: np.ndarray, hole: np.ndarray, width: int) -> np.ndarray:
    """Removes the step of brightness at a hole's border.

    The difference of the nearest known pixel from `content`, which is decoded there as well, is added, and fades out
    over `width` pixels into the hole. content, frame: (H, W, 3) in [0, 255]; hole: bool (H, W), any. The result is
    undefined at known pixels.
    """
    if not width or hole.all():
        return content
    distances, labels = cv2.distanceTransformWithLabels(hole.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5,
                                                        labelType=cv2.DIST_LABEL_PIXEL)
    known = np.flatnonzero(~hole)
    nearest = np.zeros(labels.max() + 1, int)
    nearest[labels.flat[known]] = known
    difference = (frame.astype(np.float32) - content).reshape(-1, 3)[nearest[labels]]
    return content + difference * np.clip(1 - distances / (width + 1), 0, 1)[..., None]


def enough_memory(shape: Sequence[int]) -> contextlib.AbstractContextManager[None]:
    """`memory_named` for frames of this shape, (F, H, W, …), with a message that says what helps."""
    return memory_named(f"not enough memory for {shape[0]} frames of {shape[2]}x{shape[1]} at once; a smaller "
                        "max_side=N or frames=N helps, or guidance=1")
