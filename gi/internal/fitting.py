"""Fits a network to a shot within a budget of time or steps; its state is kept in a folder, so that it can be resumed.
"""
import copy
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, default_collate

from gi.data.masks import MaskKind
from gi.errors import InputError, expect_at_least, memory_named
from gi.internal.hidden import HiddenPixels
from gi.internal.layers import even_out
from gi.internal.objective import TwoPhases, prepare
from gi.internal.preview import strip
from gi.internal.shot import Shot
from gi.media.io import write_image
from gi.metrics.functional import MOST_PSNR, psnr
from gi.models.classical import opencv_inpaint
from gi.training.optimizer import adam
from gi.weights.files import load_strict, write_state
from gi.weights.unpickle import read_checkpoint

LOOK = 30.0  # seconds between two looks: evaluations that score the network and save its state
LOOK_SHARE = 0.05  # of the time is spent on looks at most
SCORED = 8  # hidden places that are scored
RISE = 0.05  # dB that count as rising
PATIENCE = 6  # looks without a rise, at least, and a third of all looks
USEFUL_STEPS = 100  # steps below which no network is of use
LOWEST_RATE = 1e-12  # of learning


class Recipe(NamedTuple):
    """How a network is fitted; times are shares of the budget."""

    batch_size: int
    learning_rate: float
    warmup: int = 20  # steps
    decay: float = 0.3  # at the end, the rate falls along a cosine
    average_decay: float = 0.99
    regularise: float = 0.25  # at the end, with the regularisers, if there are any
    bf16: bool = False  # compute in bfloat16 where that is safe; weights stay float32


def expect_budget(minutes: float | None, steps: int | None) -> tuple[float | None, int | None]:
    """One of minutes and steps, the other None; 10 minutes if both are. Raises InputError if both are given,
    or one is below 0.
    """
    expect_at_least(0, minutes=minutes or 0, steps=steps or 0)
    if minutes is not None and steps is not None:
        raise InputError("minutes and steps: expected one of them")
    return (10.0 if minutes is None and steps is None else minutes), steps


class Fit(ABC):
    """A network, its optimiser and the running average of its weights, which is what counts.

    A subclass says what a step learns from, and how what was reached is scored and shown.

    Args:
        folder: holds state.pt, written every half minute and when the work is interrupted, and preview.png. An existing
            state is resumed.
        minutes, steps: the budget, one of them; the time of earlier runs counts.
        early_stop: end when the score no longer rises, after the decay of the rate. Not with `steps`, as the clock
            decides when scores are taken.
        say: called with a line of text at every look.
    """

    helps = "max_side=N or batch_size=N"  # options that save memory, for messages

    def __init__(self, network: nn.Module, recipe: Recipe, *, folder: Path, size: tuple[int, int],
                 minutes: float | None = None, steps: int | None = None, early_stop: bool = True, seed: int = 0,
                 say: Callable[[str], None] = print):
        self.network, self.recipe, self.size = network, recipe, size
        self.device = next(network.parameters()).device
        self.folder, self.early_stop, self.seed, self.say = folder, early_stop and steps is None, seed, say
        self.average = copy.deepcopy(network).requires_grad_(False)
        self.optimizer = adam(network.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.999), scaled=False)
        self.total = 60 * minutes if steps is None else steps
        self.timed = steps is None
        self.step, self.seconds, self.end = 0, 0.0, float(self.total)
        self.scores: list[list[float]] = []  # [step, seconds, score]
        self._regularised_from: int | None = None
        self._look_cost = self._last_look = self._last_save = 0.0
        self._whole = True  # whether network, optimiser and average are those of the same step
        if self._state.is_file():
            self._load()

    @property
    def _state(self) -> Path:
        return self.folder / "state.pt"

    @property
    def progress(self) -> float:
        """Share of the budget, shortened or not, that is spent."""
        return min(1.0, (self.seconds if self.timed else self.step) / self.end) if self.end else 1.0

    @property
    def regularises(self) -> bool:
        """Whether there is a second phase, with other terms, for which Adam is reset."""
        return False

    @abstractmethod
    def loss(self, numbers: range) -> Tensor:
        """The loss of the training samples of these numbers, a scalar."""

    @abstractmethod
    def score(self) -> float:
        """The score of the averaged network, always on the same samples; larger is better."""

    @abstractmethod
    def picture(self) -> np.ndarray:
        """Results of the averaged network as a picture, uint8 (H, W, 3)."""

    @abstractmethod
    def verdict(self, score: float) -> str:
        """A score in words."""

    def run(self) -> Iterator[tuple[int, int]]:
        """Fits, and yields (done, total) in seconds or steps. Raises InputError, naming what helps, if memory
        is short or the weights become infinite.
        """
        total = max(1, round(self.total))
        yield self._done(total)
        self._last_look = self._last_save = time.monotonic()
        try:
            while self.progress < 1:
                start = time.monotonic()
                self._train()
                now = time.monotonic()
                self.seconds += now - start
                if now - self._last_look > max(LOOK, self._look_cost / LOOK_SHARE):
                    self._look()
                elif now - self._last_save > LOOK:  # looks at large frames are minutes apart
                    self._save()
                yield self._done(total)
        except BaseException:
            if self._whole:
                self._save()
            raise
        if self.total and (not self.scores or self.scores[-1][0] != self.step):
            self._look()
            if self.step < USEFUL_STEPS:
                count = "one step" if self.step == 1 else f"{self.step} steps"
                self.say(f"only {count}: expect little below some hundreds; give it more time")
        yield total, total

    def _done(self, total):
        return min(total - 1, int(self.seconds if self.timed else self.step)), total

    def _train(self):
        size, progress = self.recipe.batch_size, self.progress
        if self.regularises and self._regularised_from is None and progress >= 1 - self.recipe.regularise:
            self.optimizer.state.clear()  # first: interrupted between the two, it is cleared again
            self._regularised_from = self.step
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.learning_rate * self._rate(progress)
        height, width = self.size
        with memory_named(f"not enough memory to fit {size} frame(s) of {width}x{height} at once; a smaller "
                          f"{self.helps} helps"):
            # Entered for each step: autocast's cache of weights must not outlive it, nor come from code without
            # gradients.
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.bf16):
                loss = self.loss(range(self.step * size, (self.step + 1) * size))
            self.optimizer.zero_grad()
            loss.backward()
            self._whole = False
            self.optimizer.step()
        self.step += 1
        decay = min(self.recipe.average_decay, self.step / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.network.parameters()), 1 - decay)
        self._whole = True

    def _rate(self, progress):
        """The factor of the learning rate: up at the start, down along a cosine at the end."""
        left = min(1.0, (1 - progress) / self.recipe.decay)
        return min(1.0, (self.step + 1) / self.recipe.warmup) * (0.02 + 0.98 * 0.5 * (1 - math.cos(math.pi * left)))

    def _look(self):
        """Scores the network, writes a picture and the state, and reports the score."""
        start = time.monotonic()
        self.scores.append([self.step, self.seconds, self.score()])
        picture = self.folder / "preview.png"
        write_image(picture, self.picture())
        self.say(f"{self.step} steps, {self.verdict(self.scores[-1][2])}: {picture}")
        if self.early_stop and self._is_flat() and self.progress < 1 - self.recipe.decay:
            spent = self.seconds if self.timed else self.step
            self.end = min(self.end, spent / (1 - self.recipe.decay / 2))
            self.say("the score no longer rises: finishing early")
        self._last_look = time.monotonic()
        self._look_cost = self._last_look - start
        self.seconds += self._look_cost
        self._save()

    def _is_flat(self):
        values = [score for _, _, score in self.scores]
        patience = max(PATIENCE, len(values) // 3)
        return len(values) > patience and max(values[-patience:]) < max(values[:-patience]) + RISE

    def _save(self):
        if not all(p.isfinite().all() for p in self.network.parameters()):  # so that a good state is never overwritten
            raise InputError(f"the fit diverged before step {self.step}; a learning_rate below "
                             f"{self.recipe.learning_rate:g} helps")
        state = {"network": self.network.state_dict(), "average": self.average.state_dict(),
                 "optimizer": self.optimizer.state_dict(), "step": self.step, "seconds": self.seconds,
                 "end": self.end, "scores": self.scores, "regularised_from": self._regularised_from}
        write_state(self._state, state, durable=True)
        self._last_save = time.monotonic()

    def _load(self):
        state = read_checkpoint(self._state, map_location=self.device)
        load_strict(self.network, state["network"], self._state)
        load_strict(self.average, state["average"], self._state)
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds, self.end = state["step"], state["seconds"], state["end"]
        self.scores, self._regularised_from = state["scores"], state["regularised_from"]


class Fitting(Fit):
    """Fits a network that fills the holes of a shot.

    holes: of another kind than the shot's, moved, see `HiddenPixels`. options: of `Fit`; the score is that at hidden
    known pixels.
    """

    def __init__(self, network: nn.Module, shot: Shot, objective: TwoPhases, recipe: Recipe, *,
                 holes: MaskKind | None = None, **options: Any):
        self.shot, self.objective, self.holes, self.batch_size = shot, objective, holes, recipe.batch_size
        self.device, seed = next(network.parameters()).device, options.get("seed", 0)
        self.samples = self.hidden(2**62, seed)
        self._places = self._batch(self.hidden(SCORED, seed + 1), range(SCORED))
        batch = prepare(self._places, network, step=0)
        even_out(network, *(x[:1] for x in inputs(batch)))
        self._inpainted: float | None = None
        super().__init__(network, recipe, size=tuple(batch["image"].shape[-2:]), **options)

    def hidden(self, length: int, seed: int) -> Dataset:
        """The samples for fitting, and others for scoring."""
        return HiddenPixels(self.shot, length=length, seed=seed, holes=self.holes, batch_size=self.batch_size)

    @property
    def regularises(self) -> bool:
        return self.objective.regularisers is not None

    def loss(self, numbers: range) -> Tensor:
        never = 2**62
        self.objective.regularise_from = never if self._regularised_from is None else self._regularised_from
        batch = prepare(self._batch(self.samples, numbers), self.network, step=self.step, seed=self.seed)
        terms = self.objective.generator(self.network(*inputs(batch)), batch)
        return torch.stack(list(terms.values())).sum()

    def score(self) -> float:
        """Mean PSNR in dB of the averaged network at known pixels that are hidden from it, always the same.

        It has learned from these frames, so this tells how the fit advances, and is more than real holes will have.
        """
        return self.score_of(lambda batch: self.average(*inputs(batch))[-1])

    @torch.no_grad()
    def score_of(self, fill: Callable[[dict], Tensor]) -> float:
        """The score of `fill`, applied to one sample after the other, so that it takes no more memory than filling. nan
        if no place hides anything.
        """
        scores = []
        for i in range(SCORED):
            batch = prepare({name: value[i:i + 1] for name, value in self._places.items()}, self.average, step=0)
            scores.append(psnr(fill(batch), batch["image"], batch["hidden"]))
        return float(torch.cat(scores).clamp(max=MOST_PSNR).nanmean())  # nan: the place hides nothing

    def picture(self) -> np.ndarray:
        return strip(self.average, self.shot)

    def verdict(self, score: float) -> str:
        return f"{score:.2f} dB at hidden pixels it has learned from (cv2.inpaint {self._of_opencv():.2f})"

    def _of_opencv(self):
        if self._inpainted is None:
            self._inpainted = self.score_of(lambda batch: opencv_inpaint(batch["image"], batch["hole"]))
        return self._inpainted

    def _batch(self, samples, numbers):
        batch = default_collate([samples[number] for number in numbers])
        return {name: value.to(self.device) for name, value in batch.items() if name != "name"}


def inputs(batch: dict) -> list[Tensor]:
    """The network's inputs from a batch of `prepare`: images, holes, and priors if there are any."""
    return [batch[name] for name in ("image", "hole", "prior") if name in batch]
