"""Training with Lightning: `python gi/main.py --base configs/diffusion/small.yaml`."""
import sys
from typing import Any, cast

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Timer
from pytorch_lightning.utilities import rank_zero_info
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from gi.diffusion import denoiser
from gi.diffusion.latents import LatentCache
from gi.diffusion.network import Conditions, KeyframeDiffusion
from gi.errors import InputError, expect_at_least, expect_kind, expect_within
from gi.flow.estimate import ZeroFlow
from gi.flow.guidance import FlowGuidance
from gi.losses.objective import Objective
from gi.training.module import GuidedInpainting
from gi.training.optimizer import adam
from gi.training.schedule import warmup_cosine


class Denoising(nn.Module):
    """`weight` * mean (F − v)² over all clips, all of their frames and pixels, hole and known (the paper's)."""

    def __init__(self, *, weight: float = 1.0):
        super().__init__()
        self.weight = weight

    def forward(self, prediction: Tensor, batch: dict, discriminated: object = None) -> Tensor:
        return self.weight * denoiser.loss(prediction, batch["z_0"], batch["noise"], batch["sigma"]).mean()


class DiffusionTraining(GuidedInpainting):
    """The training of `GuidedInpainting` for a network that denoises the latents of clips.

    Batches are of `gi.data.sample.ClipSample`. Validation and test score, with `metrics`, the estimate of the first
    step, from noise alone: the mean of all results that the network considers possible. Frames without a hole do not
    count.

    Args:
        generator: the network.
        objective: terms in addition to, or instead of, `Denoising`, which is the only one if None.
        learning_rate: of AdamW, whatever the size of the batches; linear warm-up over `warmup_steps`, then constant, or
            with `decay` a cosine that ends with the training, by the Trainer's `max_steps` or `max_time`.
        sigma_mean, sigma_deviation: of ln σ in training.
        drop_token, drop_conditions: probabilities of dropping a clip's token, and all of its conditions.
        condition_noise: mean and deviation of ln s, for noise of strength s on the pixels that conditions are made of,
            SVD's are -3 and 0.5; None for no noise.
        motion_bucket: the second of SVD's three numbers; the first is the clips' rate − 1, the third s.
        checkpointing: keeps less for the backward pass and computes blocks again.
        latents: caches the codec's latents of the clips on disk; not with `condition_noise`, which never repeats.
        seed: of noise and what is dropped, which follow from it, the step and the process.
        others: as there.
    """

    sharded = True  # may be trained by FSDP

    def __init__(self, *, generator: KeyframeDiffusion, objective: Objective | None = None,
                 metrics: nn.Module | None = None, learning_rate: float = 5e-5,
                 betas: tuple[float, float] | None = None, weight_decay: float = 0.01, warmup_steps: int = 500,
                 decay: bool = False, sigma_mean: float = 0.7, sigma_deviation: float = 1.6,
                 drop_token: float = 0.1, drop_conditions: float = 0.1,
                 condition_noise: tuple[float, float] | None = None, motion_bucket: float = 127.0,
                 checkpointing: bool = False, latents: LatentCache | None = None, accumulate_grad_batches: int = 1,
                 gradient_clip_val: float | None = None, average_decay: float | None = None, average_every: int = 1,
                 average_start: int = 0, seed: int = 0):
        super().__init__(
            generator=expect_kind(generator, KeyframeDiffusion, "generator"),
            objective=objective or Objective(terms={"denoising": Denoising()}), metrics=metrics, betas=betas,
            warmup_steps=warmup_steps, accumulate_grad_batches=accumulate_grad_batches,
            gradient_clip_val=gradient_clip_val, average_decay=average_decay, average_every=average_every,
            average_start=average_start, channels_last=False,
            guidance=FlowGuidance(estimator=ZeroFlow(), inpaint=False))
        expect_at_least(0, learning_rate=learning_rate, weight_decay=weight_decay, sigma_deviation=sigma_deviation,
                        seed=seed)
        expect_within(0, 1, drop_token=drop_token, drop_conditions=drop_conditions,
                      drop_token_and_drop_conditions=drop_token + drop_conditions)
        if latents is not None and condition_noise is not None:
            raise InputError("latents and condition_noise: expected one of them, as noisy conditions never come again")
        self.learning_rate, self.weight_decay, self.decay = learning_rate, weight_decay, decay
        self.warmup_steps, self._multiplier = warmup_steps, self._rate
        self.sigma = sigma_mean, sigma_deviation
        self.drop_token, self.drop_conditions, self.condition_noise = drop_token, drop_conditions, condition_noise
        self.motion_bucket, self.checkpointing, self.latents, self.seed = motion_bucket, checkpointing, latents, seed
        self._frozen = {name for name, parameter in generator.named_parameters() if not parameter.requires_grad}

    # The batch --------------------------------------------------------------------------------------------------------

    def prepare(self, batch: dict, with_sources: bool = True, network: KeyframeDiffusion | None = None) -> dict:
        """A batch as floats, with all that a step needs: pixels, masks, z_0, conditions, ids, sigma, noise, z_sigma."""
        network = network or cast(KeyframeDiffusion, self.generator)
        pixels, masks = batch["pixels"].float() / 255, batch["masks"].float()
        training = self.training
        host, device = self._random(self.device if training else None)
        ids = torch.stack([batch["fps"].float() - 1, torch.full_like(batch["fps"], self.motion_bucket),
                           torch.zeros_like(batch["fps"])], dim=1)
        condition_pixels = pixels
        if training and self.condition_noise is not None:
            strength = denoiser.draw_sigma(len(pixels), *self.condition_noise, host).to(pixels)
            ids[:, 2] = strength
            noise = torch.randn(pixels.shape, generator=device, device=pixels.device)
            condition_pixels = pixels + noise * denoiser.over(strength / 2, pixels)  # s is of pixels in [-1, 1]
        if self.latents is None:
            latents, condition = network.codec.encode(pixels), network.condition(condition_pixels, masks, network.codec)
        else:
            latents, condition = self.latents.encode(network, pixels, masks)
        conditions = Conditions(condition, network.token(pixels, masks))  # without noise, as SVD's
        z_0 = network.codec.scale * latents
        noise = torch.randn(z_0.shape, generator=device, device=z_0.device)
        if training:
            sigma = denoiser.draw_sigma(len(z_0), *self.sigma, host).to(z_0)
            conditions = self._drop(conditions, torch.rand(len(z_0), generator=host).to(z_0))
            z_sigma = z_0 + denoiser.over(sigma, z_0) * noise
        else:
            sigma = z_0.new_full((len(z_0),), network.sigma_max)
            z_sigma = noise * (network.sigma_max**2 + 1) ** 0.5  # as sampling begins
        return {"pixels": pixels, "masks": masks, "z_0": z_0, "conditions": conditions, "ids": ids, "sigma": sigma,
                "noise": noise, "z_sigma": z_sigma}

    def _random(self, device):
        """Generators on the CPU and on the device, of this step in training, always the same in evaluation."""
        key = (self.seed,)
        if device is not None:
            key = self.seed, self.global_step, self.turn, self.global_rank
        # A seed each: with the same one, noise levels and noise would be the same numbers where the device is the CPU.
        noise, levels = np.random.SeedSequence(key).generate_state(2).tolist()
        return torch.Generator().manual_seed(levels), torch.Generator(device or self.device).manual_seed(noise)

    def _drop(self, conditions, chance):
        latents = (chance >= self.drop_conditions).float()
        token = (chance >= self.drop_conditions + self.drop_token).float()
        return Conditions(conditions.latents * denoiser.over(latents, conditions.latents),
                          conditions.token * denoiser.over(token, conditions.token))

    def predict(self, prepared: dict, generator: nn.Module) -> Tensor:
        """F of the network, (B, F, c, h, w)."""
        return generator(prepared["z_sigma"], prepared["sigma"], prepared["conditions"], prepared["ids"]).float()

    # Training ---------------------------------------------------------------------------------------------------------

    def setup(self, stage) -> None:
        if self.trainer.precision == "16-mixed":
            raise InputError("lightning.trainer.precision: 16-mixed makes SVD's autoencoder overflow, expected "
                             "bf16-mixed or 32-true")
        super().setup(stage)
        self.strict_loading = not self.fully_sharded()  # frozen weights are in no checkpoint, see `on_load_checkpoint`
        if stage == "fit":
            self.generator.checkpointing(self.checkpointing)
            if licence := self.generator.licence():
                rank_zero_info(licence)
            numbers = [sum(p.numel() for p in parameters) for parameters in
                       (self.generator.trainable_parameters(), self.generator.parameters())]
            rank_zero_info(f"{numbers[0]:,} of {numbers[1]:,} parameters are trained; learning rate "
                           f"{self.learning_rate:g}")

    def learning_rates(self) -> list[float]:
        return [self.learning_rate]

    def configure_optimizers(self) -> tuple[list[torch.optim.Adam], list[LambdaLR]]:
        optimizer = adam(self.generator.trainable_parameters(), lr=self.learning_rate, betas=self.betas, scaled=False,
                         weight_decay=self.weight_decay)
        return [optimizer], [LambdaLR(optimizer, self._multiplier)]

    def _rate(self, step):
        """Multiplier of the learning rate."""
        end = float(sys.maxsize)
        if self.decay:
            end = self.trainer.max_steps if self.trainer.max_steps > 0 else end
            for timer in self.trainer.callbacks:
                if isinstance(timer, Timer):
                    # One clock for all processes: rates that differ would let their weights drift apart.
                    spent, left = self.trainer.strategy.broadcast((timer.time_elapsed("train"),
                                                                   timer.time_remaining("train") or 0))
                    end = min(end, step * (spent + left) / spent) if spent else end
        return warmup_cosine(step, warmup=self.warmup_steps, end=int(end))

    def on_before_optimizer_step(self, optimizer) -> None:
        if self.fully_sharded() and self.gradient_clip_val is not None:  # gradients are spread over the processes
            return self.trainer.strategy.model.clip_grad_norm_(self.gradient_clip_val)
        return super().on_before_optimizer_step(optimizer)

    def fully_sharded(self) -> bool:
        """Whether each process holds only a part of the weights."""
        return isinstance(self.trainer.strategy, pl.strategies.FSDPStrategy)

    # Checkpoints: what is frozen comes from the backbone's files again ------------------------------------------------

    def on_save_checkpoint(self, checkpoint) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["state_dict"] = {key: value for key, value in checkpoint["state_dict"].items()
                                    if not self._is_frozen(key)}
        checkpoint["backbone"] = dict(self.generator.backbone())

    def on_load_checkpoint(self, checkpoint) -> None:
        self.generator.expect_backbone(checkpoint.get("backbone", {}), "checkpoint")
        if "state_dict" in checkpoint:  # FSDP has loaded it
            own = {key: value for key, value in self.state_dict().items() if self._is_frozen(key)}
            checkpoint["state_dict"] = own | checkpoint["state_dict"]
            super().on_load_checkpoint(checkpoint)

    def _is_frozen(self, key):
        return key.removeprefix("average.module.").removeprefix("generator.") in self._frozen

    # Evaluation -------------------------------------------------------------------------------------------------------

    def for_evaluation(self, generator: nn.Module) -> nn.Module:
        """The network itself: a copy would take as much memory again."""
        return generator

    def forward(self, batch: dict) -> Tensor:
        """The estimate of the first step, (B, F, 3, H, W) in [0, 1], of a batch as a dataset gives it."""
        network = cast(KeyframeDiffusion, self.best_generator())
        return self._estimate(self.prepare(batch, network=network), network)

    def _estimate(self, data, network):
        latents = denoiser.estimate(self.predict(data, network), data["z_sigma"], data["sigma"])
        return network.codec.decode(latents / network.codec.scale).float().clamp(0, 1)

    def _evaluate(self, batch, name):
        network: Any = self.best_generator()
        data = self.prepare(batch, network=network)
        prediction = self._estimate(data, network)
        with_hole = data["masks"].flatten(2).amax(dim=2) > 0
        if name in self._metrics and with_hole.any():
            names = [f"{batch['name'][clip]}/{frame:03d}" for clip, frame in with_hole.nonzero().tolist()]
            self._metrics[name].update(*(x[with_hole] for x in (prediction, data["pixels"], data["masks"])), names)
        return {"prediction": prediction, "data": data}
