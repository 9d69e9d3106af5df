"""Masks from annotated frames by a network that is fitted to them: the paper's method, and one that corrects flow."""
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate

from gi.compositing import pixels_of_tensor, tensor_of_pixels
from gi.config.device import find_device
from gi.errors import InputError, expect_at_least, expect_within
from gi.internal.fitting import LOWEST_RATE, Fit, Recipe, expect_budget
from gi.internal.layers import even_out
from gi.internal.mask_networks import MaskBase, MaskLarge, mask_loss
from gi.internal.mask_samples import PastedObjects
from gi.video.mask_output import laid_over
from gi.video.method import say
from gi.video.outline import Core
from gi.video.propagate_flow import Annotated, FlowFollower, Follower, decide

SCORED = 8  # pasted objects that are scored
LEARNED = 50  # percent of overlap, below which a network has not learned the object
LARGE_RATE = 1e-4  # the release's, of its U-Net


class MaskFit(Fit):
    """Fits a network that finds pasted objects; the score is its overlap (IoU) with some of them, in percent."""

    def __init__(self, network: MaskBase | MaskLarge, annotated: Sequence[Annotated], recipe: Recipe, *, alpha: float,
                 threshold: float, seed: int, **options: Any):
        frames, masks = ([pair[i] for pair in annotated] for i in (0, 1))
        self.alpha, self.threshold = alpha, threshold
        self.samples = PastedObjects(frames, masks, length=2**62, seed=seed, prior=network.prior)
        self.device = next(network.parameters()).device
        self._scored = self._batch(range(2**61, 2**61 + SCORED))  # numbers that no fit reaches
        if isinstance(network, MaskBase):
            even_out(network, self._scored["image"], self._scored["prior"])
        super().__init__(network, recipe, size=frames[0].shape[:2], seed=seed, **options)

    def loss(self, numbers: range) -> Tensor:
        batch = self._batch(numbers)
        return mask_loss(self.network(batch["image"], batch["prior"]), batch["target"], batch["excluded"],
                         alpha=self.alpha)

    @torch.no_grad()
    def score(self) -> float:
        predicted, target = self._predict() * (1 - self._scored["excluded"]), self._scored["target"]
        target = target * (1 - self._scored["excluded"])
        either = torch.maximum(predicted, target).sum(dim=(1, 2, 3))
        return float(100 * ((predicted * target).sum(dim=(1, 2, 3)) / either.clamp(min=1)).mean())

    @torch.no_grad()
    def picture(self) -> np.ndarray:
        images = pixels_of_tensor(self._scored["image"])
        masks = self._predict()[:, 0].byte().cpu().numpy()
        return np.concatenate([np.concatenate(images[:4], axis=1), np.concatenate(
            [laid_over(image, mask) for image, mask in zip(images[:4], masks[:4], strict=True)], axis=1)])

    def _is_flat(self):
        return max(score for _, _, score in self.scores) >= LEARNED and super()._is_flat()

    def verdict(self, score: float) -> str:
        return f"{score:.1f} % overlap with pasted objects"

    def _predict(self):
        pairs = zip(self._scored["image"].split(1), self._scored["prior"].split(1), strict=True)
        return torch.cat([(self.average(*pair) >= self.threshold).float() for pair in pairs])

    def _batch(self, numbers):
        batch = default_collate([self.samples[number] for number in numbers])
        batch["image"] = batch["image"].float() / 255
        return {name: value.to(self.device) for name, value in batch.items()}


class NetworkFollower(Follower):
    """The paper's method: a network learns from annotated frames what the object looks like; every frame is segmented
    by itself.

    Args:
        minutes, steps: how long it is fitted, one of them (default: 10 minutes; the paper: 6,000 steps).
        threshold: probability from which a pixel is the object's.
        network: "base", the paper's, or "unet", the release's, 19 times as large.
        alpha: weight of false positives in the loss.
        batch_size, learning_rate, bf16: of the fit; by default 2e-3, and for the U-Net the release's 1e-4.
        early_stop: end before `minutes` are over if pasted objects are found no better.
        seed: of all that is random.
    """

    alone = True
    prior = False

    def __init__(self, *, minutes: float | None = None, steps: int | None = None, threshold: float = 0.5,
                 network: Literal["base", "unet"] = "base", alpha: float = 0.8, batch_size: int = 4,
                 learning_rate: float | None = None, bf16: bool = False, early_stop: bool = True,
                 device: str | torch.device = "auto", seed: int = 0):
        self.minutes, self.steps = expect_budget(minutes, steps)
        if not (self.minutes or self.steps):
            raise InputError("a network that is not fitted finds nothing; expected more than 0 minutes or steps")
        expect_at_least(0, seed=seed, alpha=alpha)
        expect_at_least(1, batch_size=batch_size)
        expect_within(0, 1, threshold=threshold)
        self.network_name, self.threshold, self.alpha, self.seed = network, threshold, alpha, seed
        self.early_stop, self.device = early_stop, find_device(device)
        rate = (2e-3 if network == "base" else LARGE_RATE) if learning_rate is None else learning_rate
        expect_at_least(LOWEST_RATE, learning_rate=rate)
        self.recipe = Recipe(batch_size=batch_size, learning_rate=rate, bf16=bf16)
        self.network: torch.nn.Module | None = None
        self.overlap = 1.0  # with pasted objects, after the fit

    def settings(self) -> dict[str, object]:
        return {"minutes": self.minutes, "steps": self.steps, "network": self.network_name, "alpha": self.alpha,
                "threshold": self.threshold, "recipe": list(self.recipe), "early_stop": self.early_stop,
                "seed": self.seed}

    def fit(self, annotated: Mapping[int, Annotated], folder: Path) -> Iterator[tuple[int, int]]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            network = MaskBase(prior=self.prior) if self.network_name == "base" else MaskLarge()
        pairs = [Annotated(pair.frame, self.core(pair).mask) for pair in annotated.values()]
        fit = MaskFit(network.to(self.device), pairs, self.recipe, alpha=self.alpha, threshold=self.threshold,
                      seed=self.seed, folder=folder, minutes=self.minutes, steps=self.steps,
                      early_stop=self.early_stop, say=say)
        yield from fit.run()
        self.network, self.overlap = fit.average.eval(), fit.score() / 100
        if 100 * self.overlap < LEARNED:
            say(f"the network has not learned the object ({fit.verdict(100 * self.overlap)}); another seed=N, lower "
                "learning_rate or more time may help")

    def find(self, past: Sequence[Annotated], frame: np.ndarray) -> np.ndarray:
        return (self.probability(frame, np.zeros(frame.shape[:2], np.uint8)) >= self.threshold).astype(np.uint8)

    @torch.no_grad()
    def probability(self, frame: np.ndarray, prior: np.ndarray) -> np.ndarray:
        """(h, w), for a frame (h, w, 3) and a guess of its mask (h, w), which is used if the network has one."""
        if self.network is None:
            raise InputError("the network is not fitted to annotated frames yet: expected a call of fit before")
        image = tensor_of_pixels(frame, self.device)[None]
        guess = torch.from_numpy(prior).to(self.device)[None, None].float()
        return self.network(image, guess)[0, 0].float().cpu().numpy()


class CorrectedFlow(NetworkFollower):
    """Flow, corrected by a network that is fitted to the annotated frames and also sees the flow's mask. Ours.

    weight: of the network, in votes of a frame along flow. Other arguments as in `NetworkFollower`.
    """

    alone = False
    prior = True

    def __init__(self, *, weight: float = 1.0, minutes: float | None = None, steps: int | None = None,
                 threshold: float = 0.5, alpha: float = 0.8, batch_size: int = 4, learning_rate: float | None = None,
                 bf16: bool = False, early_stop: bool = True, device: str | torch.device = "auto", seed: int = 0):
        super().__init__(minutes=minutes, steps=steps, threshold=threshold, alpha=alpha, batch_size=batch_size,
                         learning_rate=learning_rate, bf16=bf16, early_stop=early_stop, device=device, seed=seed)
        expect_at_least(0, weight=weight)
        self.weight, self.flow = weight, FlowFollower(threshold=threshold)

    def settings(self) -> dict[str, object]:
        return super().settings() | {"weight": self.weight} | self.flow.settings()

    def core(self, annotated: Annotated) -> Core:
        return self.flow.core(annotated)

    def find(self, past: Sequence[Annotated], frame: np.ndarray) -> np.ndarray:
        if not any(mask.any() for _, mask in past):
            return np.zeros(frame.shape[:2], np.uint8)
        share, weight = self.flow.votes(past, frame)
        probability = self.probability(frame, decide(frame, share, weight, self.threshold))
        trust = self.weight * max(0.0, 2 * self.overlap - 1)  # one that has not learned the object has no vote
        together = weight + trust
        share = (share * weight + probability * trust) / np.maximum(together, 1e-6)
        return decide(frame, share, together, self.threshold)
