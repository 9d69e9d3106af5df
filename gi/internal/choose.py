"""A small network that chooses among the candidates for each missing pixel, fitted to known pixels that moved holes
hide.
"""
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from gi.internal.candidates import CANDIDATES, CLUES, GUESSED
from gi.metrics.functional import MOST_PSNR

STEPS, BATCH, RATE, DECAY = 300, 4096, 5e-3, 1e-3
LEAST, WORST = 0.1, -0.1  # dB: mean and smallest gain over flow alone, without which it is not used


class Pixels(NamedTuple):
    """Pixels whose truth is known, P of them."""

    colours: Tensor  # P, K, 3
    clues: Tensor  # P, C
    truth: Tensor  # P, 3
    frame: Tensor  # P, int64: number of the frame that it is from


class Chooser(nn.Module):
    """Moves each pixel from the result of flow alone towards a mixture of the other candidates.

    How far is the tanh of a number that is zero before the network is fitted: then the result is that of flow alone,
    bit for bit, and the gradient is not zero. The mixture's weights are a softmax.
    """

    def __init__(self, *, width: int = 32):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(CLUES, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.head = nn.Linear(width, len(CANDIDATES))
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, colours: Tensor, clues: Tensor, *, cautious: bool = False) -> Tensor:
        """Candidates (P, K, 3), flow alone first, and clues (P, C) -> colours (P, 3).

        cautious: go half as far where no frame shows the place. Content that no frame shows is often unlike the pixels
        that were learned from, and the mean of two guesses is safer.
        """
        strength, logits = self.head(self.layers(clues)).split([1, len(CANDIDATES) - 1], dim=1)
        strength = strength.tanh()
        if cautious:
            strength = strength * (1 - clues[:, GUESSED, None] / 2)
        return colours[:, 0] + strength * (logits.softmax(dim=1)[..., None]
                                           * (colours[:, 1:] - colours[:, :1])).sum(dim=1)


def fit(pixels: Sequence[Pixels], *, seed: int = 0) -> Chooser:
    """A chooser fitted to these pixels by their squared errors, which PSNR measures."""
    colours, clues, truth = (torch.cat(part) for part in list(zip(*pixels, strict=True))[:3])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        chooser = Chooser()
        optimizer = torch.optim.AdamW(chooser.parameters(), lr=RATE, weight_decay=DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=STEPS, pct_start=0.1)
        for _ in range(STEPS):
            some = torch.randint(len(colours), (BATCH,))
            loss = 100 * (chooser(colours[some], clues[some]) - truth[some]).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return chooser.requires_grad_(False)


def score(chooser: Chooser | None, pixels: Pixels) -> float:
    """Mean over frames of the PSNR in dB at these pixels, each `MOST_PSNR` at most; None: of flow alone."""
    filled = pixels.colours[:, 0] if chooser is None else chooser(pixels.colours, pixels.clues, cautious=True)
    errors = (filled.clamp(0, 1) - pixels.truth).square().mean(dim=1)
    sums, counts = (torch.zeros(int(pixels.frame.max()) + 1).index_add_(0, pixels.frame, values)
                    for values in (errors, torch.ones_like(errors)))
    return float((-10 * (sums / counts)[counts > 0].log10()).clamp(max=MOST_PSNR).mean())


def gains(places: Sequence[Pixels], *, seed: int = 0) -> Iterator[float]:
    """For each place that holes were moved to, what a chooser that was fitted to the others gains there, in dB."""
    for number, place in enumerate(places):
        remaining = [*places[:number], *places[number + 1:]]
        yield score(fit(remaining, seed=seed), place) - score(None, place)


def improves(gains: Sequence[float]) -> bool:
    """Whether a chooser with these gains is worth using: at no place it may lose more than a little."""
    return len(gains) > 1 and min(gains) > WORST and float(np.mean(gains)) > LEAST
