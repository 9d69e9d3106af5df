"""The video method `internal`: a network is fitted to the video at hand, then fills every frame by itself."""
import logging
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from gi.config.device import find_device
from gi.errors import InputError, expect_at_least
from gi.internal.fitting import Fitting, Recipe
from gi.internal.networks import Base, CoarseToFine, Stacked
from gi.internal.objective import TwoPhases
from gi.internal.preview import fill_frame
from gi.internal.reconstruction import Reconstruction
from gi.internal.shot import Shot
from gi.media.crop import resize_known, working_size
from gi.video.method import Part, Pictures, VideoMethod, pieces
from gi.weights.checkpoint import load_generator_weights
from gi.weights.files import file_sha256, write_state

log = logging.getLogger(__name__)
NETWORKS = {"base": Base, "stacked": Stacked, "coarse_to_fine": CoarseToFine}


class Internal(VideoMethod):
    """Learns from the known pixels of the video what its holes may show.

    Args:
        minutes, steps: how long it is fitted, one of them (default: 10 minutes). An interrupted fit goes on, and the
            time it has had counts. 0 only with `start_from`.
        network: the larger ones need two to three times as long a step, and draw better after long fits.
        max_side, resize: the size at which it learns and draws: bounded, or (width, height). Time grows with its area.
        batch_size, learning_rate: of the fit.
        bf16: fit in bfloat16, which GPUs and newer CPUs do faster; weights stay float32.
        regularise: fit the last quarter with the terms against blur, if VGG-19 is there, and flicker.
        early_stop: end earlier if the score at hidden known pixels no longer rises.
        keep_network: a file for the fitted weights.
        start_from: such a file, or a checkpoint of a training with Lightning, whose weights are the start.
        seed: of all that is random.
    """

    def __init__(self, *, minutes: float | None = None, steps: int | None = None,
                 network: Literal["base", "stacked", "coarse_to_fine"] = "base", max_side: int = 216,
                 resize: Sequence[int] | None = None, batch_size: int = 1, learning_rate: float = 2e-3,
                 bf16: bool = False, regularise: bool = False, early_stop: bool = True,
                 keep_network: str | Path | None = None, start_from: str | Path | None = None,
                 device: str | torch.device = "auto", seed: int = 0):
        expect_at_least(0, minutes=minutes or 0, steps=steps or 0, seed=seed)
        expect_at_least(1, batch_size=batch_size)
        if minutes is not None and steps is not None:
            raise InputError("minutes and steps: expected one of them")
        self.minutes, self.steps = (10.0 if minutes is None and steps is None else minutes), steps
        if not (self.minutes or self.steps) and start_from is None:
            raise InputError(f"{'minutes' if steps is None else 'steps'}: a network that is not fitted draws noise; "
                             "expected more than 0, or start_from")
        self.network_name, self.max_side, self.resize = network, max_side, None if resize is None else list(resize)
        self.recipe = Recipe(batch_size=batch_size, learning_rate=learning_rate, bf16=bf16)
        self.regularise, self.early_stop, self.seed = regularise, early_stop, seed
        self.keep_network, self.start_from = keep_network, start_from
        self.device = find_device(device)
        self.network = self._start() if start_from is not None else None

    def settings(self) -> dict[str, object]:
        return {"minutes": self.minutes, "steps": self.steps, "network": self.network_name, "max_side": self.max_side,
                "resize": self.resize, "recipe": list(self.recipe), "regularise": self.regularise,
                "early_stop": self.early_stop, "seed": self.seed,
                "start_from": file_sha256(self.start_from) if self.start_from is not None else None}

    def parts(self, count: int, *, edited: Collection[int] = ()) -> list[Part]:
        return pieces(count)

    def fit(self, frames: Pictures, masks: Pictures, *, folder: Path,
            edited: Mapping[int, np.ndarray]) -> Iterator[tuple[int, int]]:
        """Edited frames are learned from like the others: what they show in their holes, too."""
        self.network = None
        shot = Shot.read(_with_edited(frames.frames(), edited), _without_edited(masks.frames(), edited),
                         count=frames.count, size=self._size((frames.height, frames.width)), folder=folder)
        if not len(shot.holes):
            raise InputError("the masks mark nothing, or whole frames: there is no hole to move over known pixels")
        if len(shot) > 1 and shot.masks.all(axis=0).sum() > 0.5 * shot.masks.any(axis=0).sum():
            log.warning("the masks cover much the same pixels in every frame: what the video shows nowhere else can "
                           "only be continued from around the hole, and is often blurred")
        objective = TwoPhases(terms={"reconstruction": Reconstruction()},
                              regularisers=_regularisers() if self.regularise else None).to(self.device)
        fitting = Fitting(self._start(), shot, objective, self.recipe, folder=folder, minutes=self.minutes,
                          steps=self.steps, early_stop=self.early_stop, seed=self.seed, say=say)
        yield from fitting.run()
        self.network = fitting.average.eval()
        if self.keep_network is not None:
            write_state(self.keep_network, {"state_dict": self.network.state_dict()})

    def fill(self, frames: Iterable[np.ndarray], masks: Iterable[np.ndarray], *, edited: Mapping[int, np.ndarray],
             part: Part | None = None) -> Iterator[np.ndarray | None]:
        if self.network is None:
            raise InputError("the network is not fitted to a video yet: expected a call of fit before, or start_from")
        for frame, mask in zip(frames, masks, strict=True):
            if mask.any():
                frame, mask = resize_known(frame, mask != 0, self._size(mask.shape))
                yield fill_frame(self.network, frame, mask.astype(np.uint8))
            else:
                yield None

    def _size(self, size):
        return working_size(size, max_side=self.max_side, resize=self.resize)

    def _start(self):
        """The network before it is fitted, the same for the same seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            network = NETWORKS[self.network_name]()
        if self.start_from is not None:
            load_generator_weights(network, self.start_from)
        return network.to(self.device)


def _with_edited(frames, edited):
    return (edited.get(number, frame) for number, frame in enumerate(frames))


def _without_edited(masks, edited):
    return (np.zeros_like(mask) if number in edited else mask for number, mask in enumerate(masks))


def _regularisers():
    from gi.internal.ambiguity import Ambiguity  # only here: torchvision takes 80 MB
    from gi.internal.stabilisation import Stabilisation
    return {"ambiguity": Ambiguity(), "stabilisation": Stabilisation()}


def say(line: str) -> None:
    """Prints to where progress is shown."""
    print(line, file=sys.stderr, flush=True)
