"""Callbacks that write pictures of clips, and the network as a file of its own."""
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from gi.compositing import composite
from gi.diffusion.network import Conditions, KeyframeDiffusion
from gi.diffusion.sampler import View, begin, denoise, sigmas
from gi.errors import expect_at_least
from gi.report.pictures import hatch, to_uint8
from gi.training.callbacks import FirstBatch, write_picture


class ClipPictures(FirstBatch):
    """The first clips of each set at every validation and test, to TensorBoard and to images/<set>/.

    Rows of each: the clip, with its holes, a sample of `steps` steps, and the estimate of the first step; samples and
    estimates with known pixels in place.
    """

    def __init__(self, *, n_samples: int = 4, steps: int = 8):
        expect_at_least(1, n_samples=n_samples, steps=steps)
        self.n_samples, self.steps = n_samples, steps

    @torch.no_grad()
    def _write(self, trainer, pl_module, name, outputs):
        data, count, network = outputs["data"], self.n_samples, pl_module.best_generator()
        with trainer.precision_plugin.val_step_context():
            latents = sample(network, Conditions(*(part[:count] for part in data["conditions"])), data["ids"][:count],
                             data["noise"][:count], steps=self.steps)
            sampled = network.codec.decode(latents / network.codec.scale).float().clamp(0, 1)
        if not trainer.is_global_zero:  # they all sample, as FSDP needs
            return
        picture = clip_rows(data["pixels"][:count], data["masks"][:count],
                            [sampled, outputs["prediction"][:count]])
        write_picture(trainer, name, picture)


class SaveNetwork(pl.Callback):
    """Keeps checkpoints/network.safetensors, the file of `save_pretrained` that videos are filled with, of the averaged
    weights once there are any. It is written at each validation and at the end, but not under FSDP.

    half: matrices and kernels in 16 bits.
    """

    def __init__(self, *, half: bool = False):
        self.half = half

    def on_validation_end(self, trainer, pl_module) -> None:
        if not trainer.sanity_checking and trainer.training:
            self._save(trainer, pl_module)

    def on_train_end(self, trainer, pl_module) -> None:
        self._save(trainer, pl_module)

    def _save(self, trainer, pl_module):
        if trainer.is_global_zero and not pl_module.fully_sharded():
            pl_module.best_generator().save_pretrained(
                Path(trainer.default_root_dir) / "checkpoints" / "network.safetensors", half=self.half)


def sample(network: KeyframeDiffusion, conditions: Conditions, ids: Tensor, noise: Tensor, *, steps: int) -> Tensor:
    """z_0 from noise of unit variance (B, F, c, h, w), without guidance."""
    levels = sigmas(steps, network.sigma_max)
    view = View(0, noise.shape[1], conditions, torch.ones(noise.shape[1]))
    *_, z_0 = denoise(network, begin(noise, levels), [view], ids, levels)
    return z_0


def clip_rows(pixels: Tensor, masks: Tensor, filled: Sequence[Tensor]) -> np.ndarray:
    """uint8 (rows, columns, 3): for each clip its frames side by side, these with their holes striped, and each of
    `filled` with known pixels in place.

    pixels and each of filled: (B, F, 3, H, W) in [0, 1]; masks: (B, F, 1, H, W), 1 = missing.
    """
    composites = [composite(x, pixels, masks) for x in filled]
    arrays = [x.float().cpu().permute(0, 1, 3, 4, 2).numpy() for x in (pixels, *composites)]
    holes, gap = masks.float().cpu().numpy()[:, :, 0], 2
    rows = []
    for clip in range(len(pixels)):
        first, *results = ([to_uint8(frame) for frame in frames[clip]] for frames in arrays)
        striped = [hatch(frame, hole) for frame, hole in zip(arrays[0][clip], holes[clip], strict=True)]
        for number, frames in enumerate((first, striped, *results)):
            padded = [np.pad(frame, ((gap * (2 if number == 0 else 1), 0), (gap, 0), (0, 0)), constant_values=255)
                      for frame in frames]
            rows.append(np.concatenate(padded, axis=1))
    return np.concatenate(rows)
