"""Fits networks that differ in one design choice to videos with ground truth, and scores their results in the hole.

Holes are either fixed at the centre, a quarter of the height and width, or the moving masks of another video. Their
pixels are set to 0 before anything is fitted.
"""
import copy
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch

from gi.data.masks import MixedMask
from gi.flow.estimate import DIS
from gi.internal.fitting import Fitting, Recipe
from gi.internal.hidden import HiddenPixels, Translations
from gi.internal.networks import Base, CoarseToFine, Stacked
from gi.internal.objective import TwoPhases
from gi.internal.preview import fill_frame
from gi.internal.reconstruction import Reconstruction
from gi.internal.shot import Shot
from gi.internal.stabilisation import Stabilisation
from gi.media import io
from gi.metrics.video_scores import VideoScores

METRICS = "psnr_hole", "ssim_hole", "psnr", "ssim", "pcons", "warp_error_hole"


class Variant(NamedTuple):
    """One setting of fitting. `release`: initialisation and learning rate of the paper, instead of weights scaled for
    even signals. `from_next`: starts from a network fitted to the next video with the same number of steps.
    """

    network: Callable[[], torch.nn.Module] = Base
    regularisers: Callable[[], dict] = dict
    samples: dict[str, Any] = {}
    release: bool = False
    batch_size: int = 1
    from_next: bool = False


VARIANTS = {
    "base": Variant(),
    "base, paper's start and rate": Variant(release=True),
    "stacked": Variant(Stacked),
    "coarse-to-fine": Variant(CoarseToFine),
    "base + stabilisation": Variant(regularisers=lambda: {"stabilisation": Stabilisation()}),
    "base, release's stabilisation": Variant(
        regularisers=lambda: {"stabilisation": Stabilisation(ranges="release")}),
    "base, free-form holes": Variant(samples={"holes": MixedMask()}),
    "base, 4 frames a step": Variant(batch_size=4),
    "base, 4 frames a step, one translation": Variant(
        batch_size=4, samples={"translations": Translations(shared=True)}),
    "base, near the hole": Variant(samples={"translations": Translations(factor=5.0)}),
    "base, from the next video": Variant(from_next=True),
}


class Case(NamedTuple):
    """frames uint8 (N, H, W, 3), masks uint8 (N, H, W), 1 = missing; the frames are the ground truth. next_case:
    the next video's case with a hole of the same kind.
    """

    name: str
    frames: np.ndarray
    masks: np.ndarray
    next_case: Any = None


def cases(root: Path, size: tuple[int, int], longest: int) -> list[Case]:
    """Two cases per video of VIDEO/frames and VIDEO/masks, reduced to `size` (width, height): with a hole at the
    centre, and with the next video's moving mask.
    """
    folders = sorted(path.parent for path in root.glob("*/frames"))
    videos = []
    for folder in folders:
        paths = [sorted((folder / part).iterdir())[:longest] for part in ("frames", "masks")]
        frames = np.stack([cv2.resize(io.read_image(path), size, interpolation=cv2.INTER_AREA) for path in paths[0]])
        masks = np.stack([cv2.resize(io.read_mask(path).astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
                          for path in paths[1]])
        videos.append((folder.name, frames, (masks > 0).astype(np.uint8)))
    result = []
    for (name, frames, _), (next_name, _, moving) in zip(videos, videos[1:] + videos[:1], strict=True):
        width, height = size
        centre = np.zeros((height, width), np.uint8)
        centre[3 * height // 8:5 * height // 8, 3 * width // 8:5 * width // 8] = 1
        result.append(Case(f"{name}, centre", frames, np.repeat(centre[None], len(frames), axis=0)))
        turns = np.arange(len(frames)) % (2 * len(moving) - 2)
        turns = np.where(turns < len(moving), turns, 2 * len(moving) - 2 - turns)  # forwards, then backwards
        result.append(Case(f"{name}, hole of {next_name}", frames, moving[turns]))
    return [case._replace(next_case=next_case) for case, next_case in zip(result, result[2:] + result[:2], strict=True)]


def fit(case: Case, name: str, *, steps: int, seed: int, every: int, device: str = "cpu",
        bf16: bool = False) -> dict:
    """Final scores of a variant, seconds of fitting (CPU time, or wall time on a GPU), and its curve: [step, seconds,
    PSNR in the hole].
    """
    clock = time.process_time if device == "cpu" else time.monotonic
    variant = VARIANTS[name]
    torch.manual_seed(seed)
    network = variant.network().to(device)
    curve = []
    with tempfile.TemporaryDirectory() as folder:
        if variant.from_next:
            begun = _fitting(case.next_case, variant, network, steps, seed, bf16, folder)
            for _ in begun.run():
                pass
            network = begun.average.requires_grad_(True)
        fitting = _fitting(case, variant, network, steps, seed, bf16, folder)
        start, apart = clock(), 0.0
        for _ in fitting.run():
            if fitting.step % every == 0 and (not curve or curve[-1][0] < fitting.step) and fitting.step:
                begin = clock()
                reached = score(case, fitting.average, ("psnr_hole",))["psnr_hole"]
                curve.append([fitting.step, begin - start - apart, reached])
                apart += clock() - begin
        seconds = clock() - start - apart
    return {"case": case.name, "variant": name, "seed": seed, "seconds": seconds, "curve": curve,
            **score(case, fitting.average)}


def _fitting(case, variant, network, steps, seed, bf16, folder):
    started = copy.deepcopy(network.state_dict())  # before `Fitting` rescales the weights
    device = next(network.parameters()).device
    visible = np.where(case.masks[..., None] > 0, np.uint8(0), case.frames)
    recipe = Recipe(batch_size=variant.batch_size, learning_rate=2e-4 if variant.release else 2e-3, bf16=bf16)
    objective = TwoPhases(terms={"reconstruction": Reconstruction()}, regularisers=variant.regularisers()).to(device)
    fitting = Fitting(network, Shot(visible, case.masks), objective, recipe, steps=steps,
                      folder=Path(tempfile.mkdtemp(dir=folder)), early_stop=False, seed=seed, say=lambda line: None)
    if variant.release:
        network.load_state_dict(started)
        fitting.average.load_state_dict(started)
    fitting.samples = HiddenPixels(fitting.shot, length=2**62, seed=seed, batch_size=variant.batch_size,
                                   **variant.samples)
    return fitting


@torch.no_grad()
def score(case: Case, network: torch.nn.Module, metrics: Sequence[str] = METRICS) -> dict[str, float]:
    """Scores of the frames filled by a network."""
    fills = [fill_frame(network.eval(), np.where(mask[..., None] > 0, np.uint8(0), frame), mask)
             for frame, mask in zip(case.frames, case.masks, strict=True)]
    return scores_of(case, fills, metrics)


def scores_of(case: Case, fills: Sequence[np.ndarray], metrics: Sequence[str] = METRICS) -> dict[str, float]:
    """Scores of the frames with their holes filled by `fills`. Flow is estimated by DIS on the ground truth."""
    scores = VideoScores(metrics=metrics, **({"estimator": DIS()} if "warp_error_hole" in metrics else {}))
    return scores.update(case.name, list(zip(case.frames, case.masks, fills, strict=True)))


def baseline(case: Case) -> dict:
    """`cv2.inpaint`, frame by frame."""
    fills = [cv2.inpaint(frame, mask, 3, cv2.INPAINT_TELEA)
             for frame, mask in zip(case.frames, case.masks, strict=True)]
    return {"case": case.name, "variant": "cv2.inpaint", "seed": 0, "seconds": 0.0, "curve": [],
            **scores_of(case, fills)}


def job(arguments: tuple[Case, str, int], *, steps: int, every: int, device: str, bf16: bool) -> dict:
    """One fit in a process of its own, with one thread."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    case, name, seed = arguments
    return fit(case, name, steps=steps, seed=seed, every=every, device=device, bf16=bf16)


def jobs(selected: Sequence[Case], names: Sequence[str], seeds: int) -> list[tuple[Case, str, int]]:
    """All fits, ordered by seed, so that an interruption costs repetitions first."""
    return [(case, name, seed) for seed in range(seeds) for name in names for case in selected]


