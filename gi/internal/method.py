"""The video method `internal`: a network is fitted to the video at hand, then fills every frame by itself."""
import functools
import logging
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn

from gi.config.device import find_device
from gi.errors import InputError, expect_at_least
from gi.internal.fitting import LOWEST_RATE, Fitting, Recipe, expect_budget
from gi.internal.networks import Base, CoarseToFine, Progressive, Stacked
from gi.internal.objective import TwoPhases
from gi.internal.progressive import STAGE_BUDGET, StageFitting, Stages, pyramid, stage_shots, stage_sizes
from gi.internal.reconstruction import Reconstruction
from gi.internal.shot import BUDGET, Shot
from gi.media.crop import working_size
from gi.video.method import Part, Pictures, VideoMethod, pieces, say
from gi.weights.checkpoint import load_generator_weights
from gi.weights.files import file_sha256, load_strict, write_state
from gi.weights.unpickle import read_checkpoint

log = logging.getLogger(__name__)
NETWORKS = {"base": Base, "stacked": Stacked, "coarse_to_fine": CoarseToFine}


class Internal(VideoMethod):
    """Learns from the known pixels of the video what its holes may show.

    Args:
        minutes, steps: how long it is fitted, one of them (default: 10 minutes). An interrupted fit goes on, and the
            time it has had counts. 0 only with `start_from`.
        network: base, stacked or coarse_to_fine (the paper's choice). The larger ones need two to three times as long a
            step, and draw better after long fits.
        max_side, resize: the size at which it learns and draws: bounded (default: 216), or (width, height). Time grows
            with its area.
        stage_side: larger sizes are reached in stages, from no more than this on (default: 480). Each doubles the
            size: a network learns from parts of the frames, and from what the stage before draws. null: in one.
        shares: of the budget, for each stage (default: 2, 3, 4 …, the paper's).
        batch_size, learning_rate: of the fit.
        bf16: fit in bfloat16, which GPUs and newer CPUs do faster; weights stay float32.
        regularise: fit the last quarter with the terms against blur, if VGG-19 is there, and flicker.
        early_stop: end before `minutes` are over if the score at hidden known pixels no longer rises.
        keep_network: a file for the fitted weights, *.pt.
        start_from: such a file, or a checkpoint of a training with Lightning, whose weights are the start.
        seed: of all that is random.
    """

    def __init__(self, *, minutes: float | None = None, steps: int | None = None,
                 network: Literal["base", "stacked", "coarse_to_fine"] = "base", max_side: int = 216,
                 resize: Sequence[int] | None = None, stage_side: int | None = 480,
                 shares: Sequence[float] | None = None, batch_size: int = 1, learning_rate: float = 2e-3,
                 bf16: bool = False, regularise: bool = False, early_stop: bool = True,
                 keep_network: str | Path | None = None, start_from: str | Path | None = None,
                 device: str | torch.device = "auto", seed: int = 0):
        expect_at_least(0, seed=seed)
        expect_at_least(1, batch_size=batch_size)
        expect_at_least(LOWEST_RATE, learning_rate=learning_rate)
        expect_at_least(8, max_side=max_side)
        expect_at_least(32, stage_side=32 if stage_side is None else stage_side)
        if shares is not None and not (len(shares) and 0 <= min(shares) and 0 < sum(shares) < math.inf):
            raise InputError(f"shares: expected a number for each stage, not all 0, got {list(shares)}")
        if shares is not None and not shares[0] and start_from is None:
            raise InputError(f"shares: expected more than 0 for the first stage, got {list(shares)}: a network that is "
                             "not fitted draws noise")
        self.minutes, self.steps = expect_budget(minutes, steps)
        if not (self.minutes or self.steps) and start_from is None:
            raise InputError(f"{'minutes' if steps is None else 'steps'}: a network that is not fitted draws noise; "
                             "expected more than 0, or start_from")
        if keep_network is not None and Path(keep_network).suffix != ".pt":
            raise InputError(f"keep_network: {keep_network}: expected a name ending in .pt")
        self.network_name, self.max_side, self.resize = network, max_side, None if resize is None else list(resize)
        self.stage_side, self.shares = stage_side, None if shares is None else list(shares)
        self.recipe = Recipe(batch_size=batch_size, learning_rate=learning_rate, bf16=bf16)
        self.regularise, self.early_stop, self.seed = regularise, early_stop, seed
        self.keep_network, self.start_from = keep_network, start_from
        self.device = find_device(device)
        self.networks: list[nn.Module | None] = []  # of all stages
        if start_from is not None:
            self.networks = [self._start(0), *(self._start(stage) if weights else None
                                               for stage, weights in enumerate(self._later_stages, 1))]

    def settings(self) -> dict[str, object]:
        return {"minutes": self.minutes, "steps": self.steps, "network": self.network_name, "max_side": self.max_side,
                "resize": self.resize, "stage_side": self.stage_side, "shares": self.shares,
                "recipe": list(self.recipe), "regularise": self.regularise,
                "early_stop": self.early_stop, "seed": self.seed,
                "ambiguity": _has_vgg() if self.regularise else None,
                "start_from": file_sha256(self.start_from) if self.start_from is not None else None}

    def parts(self, count: int, *, edited: Collection[int] = ()) -> list[Part]:
        return pieces(count)

    def fit(self, frames: Pictures, masks: Pictures, *, folder: Path,
            edited: Mapping[int, np.ndarray]) -> Iterator[tuple[int, int]]:
        """Edited frames are learned from like the others: what they show in their holes, too."""
        self.networks = []
        sizes = self._sizes((frames.height, frames.width))
        budgets = self._budgets(len(sizes))
        shot = Shot.read(_with_edited(frames.frames(), edited), _without_edited(masks.frames(), edited),
                         count=frames.count, size=sizes[-1], folder=folder,
                         budget=BUDGET if len(sizes) == 1 else STAGE_BUDGET)
        shots = stage_shots(shot, sizes, folder)
        shots[0].expect_holes()
        _warn_of_fixed_holes(shots[0])
        done_before, total = 0, sum(max(1, round(budget)) for budget in budgets)
        for number, budget in enumerate(budgets, 1):
            fitting = self._fitting(shots[:number], folder, budget, of=len(sizes))
            for done, _ in fitting.run():
                yield done_before + done, total
            done_before += done
            improves = number == 1 or fitting.improves
            if not improves:
                say(f"stage {number}: not better than the stage before, whose result is enlarged instead")
            self.networks.append(fitting.average.eval() if improves else None)
        if self.keep_network is not None:
            first, *later = ({} if network is None else network.state_dict() for network in self.networks)
            write_state(self.keep_network, {"state_dict": first, "stages": later})

    def _fitting(self, shots, folder, budget, of):
        number = len(shots)
        place = folder if number == 1 else folder / f"stage-{number}"
        place.mkdir(exist_ok=True)
        height, width = shots[-1].size
        options = {"folder": place, "early_stop": self.early_stop, "seed": self.seed,
                   "say": say if of == 1 else lambda line: say(f"stage {number} of {of}, {width}x{height}: {line}"),
                   **({"minutes": budget / 60} if self.steps is None else {"steps": budget})}
        regularisers = _regularisers() if self.regularise and number == 1 else None
        objective = TwoPhases(terms={"reconstruction": Reconstruction()}, regularisers=regularisers).to(self.device)
        network = self._start(number - 1)
        if number == 1:
            return Fitting(network, shots[0], objective, self.recipe, **options)
        return StageFitting(network, shots, Stages(self.networks, shots[0].size), objective, self.recipe, **options)

    def fill(self, frames: Iterable[np.ndarray], masks: Iterable[np.ndarray], *, edited: Mapping[int, np.ndarray],
             part: Part | None = None) -> Iterator[np.ndarray | None]:
        if not self.networks:
            raise InputError("the network is not fitted to a video yet: expected a call of fit before, or start_from")
        for frame, mask in zip(frames, masks, strict=True):
            if mask.any():
                sizes = self._sizes(mask.shape)
                networks = [*self.networks, *[None] * len(sizes)][:len(sizes)]
                yield Stages(networks, sizes[0]).fill(*pyramid(frame, mask, sizes))
            else:
                yield None

    def _sizes(self, size):
        return stage_sizes(working_size(size, max_side=self.max_side, resize=self.resize), self.stage_side)

    def _budgets(self, stages):
        """The budget of each stage, in seconds or steps."""
        shares = range(2, stages + 2) if self.shares is None else self.shares
        if len(shares) != stages:
            raise InputError(f"shares: expected {stages} numbers, one for each stage, got {self.shares}")
        ends = np.cumsum([0, *shares]) / sum(shares)
        return np.diff(60 * self.minutes * ends if self.steps is None else (self.steps * ends).round()).tolist()

    def _start(self, stage):
        """A stage's network before it is fitted, the same for the same seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            network = Progressive() if stage else NETWORKS[self.network_name]()
        if self.start_from is not None and not stage:
            _load_start(network, self.start_from)
        elif self.start_from is not None and stage <= len(self._later_stages) and self._later_stages[stage - 1]:
            load_strict(network, self._later_stages[stage - 1], self.start_from)
        return network.to(self.device)

    @functools.cached_property
    def _later_stages(self):
        """The weights of stages after the first in the file to start from."""
        content = read_checkpoint(self.start_from)
        return content.get("stages", []) if isinstance(content, dict) else []


def _warn_of_fixed_holes(shot):
    if len(shot) > 1 and shot.masks.all(axis=0).sum() > 0.5 * shot.masks.any(axis=0).sum():
        log.warning("the masks cover much the same pixels in every frame: what the video shows nowhere else can "
                    "only be continued from around the hole, and is often blurred")


def _with_edited(frames, edited):
    return (edited.get(number, frame) for number, frame in enumerate(frames))


def _without_edited(masks, edited):
    return (np.zeros_like(mask) if number in edited else mask for number, mask in enumerate(masks))


def _regularisers():
    from gi.internal.ambiguity import Ambiguity  # only here: torchvision takes 80 MB
    from gi.internal.stabilisation import Stabilisation
    return {"ambiguity": Ambiguity(), "stabilisation": Stabilisation()}


def _load_start(network, path):
    """`load_generator_weights`, with the name of the right network if the file is of another one."""
    try:
        load_generator_weights(network, path)
    except InputError:
        for name, kind in NETWORKS.items():
            if type(network) is not kind and _fits(kind(), path):
                raise InputError(f"{path}: is of the network {name}; expected network={name}") from None
        raise


def _fits(network, path):
    try:
        load_generator_weights(network, path)
    except InputError:
        return False
    return True


def _has_vgg():
    """Whether the weights of the ambiguity term are there, without which it is left out."""
    from gi.internal.ambiguity import VGG19
    return VGG19.find().is_file()
