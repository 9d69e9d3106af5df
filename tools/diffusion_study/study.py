"""Evaluates a small diffusion model on clips with ground truth, next to baselines without a network.

Two kinds of clips, of photographs, of videos, or of shapes, all with the first frame as keyframe: "object",
where the hole follows an object that no other frame shows, and "random", where holes move independently of the content.
"""
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from gi.data.clips import Clips, ClipSource
from gi.data.datamodule import collate
from gi.data.mask_paths import Keyframes, centre_of
from gi.data.photo_clips import PhotoClips
from gi.data.shape_clips import ShapeClips
from gi.data.sources import FolderTree
from gi.diffusion import denoiser
from gi.diffusion.callbacks import sample
from gi.diffusion.network import KeyframeDiffusion
from gi.errors import InputError
from gi.flow.aligned import Aligned
from gi.flow.estimate import DIS
from gi.flow.guidance import FlowGuidance
from gi.metrics.functional import MOST_PSNR, psnr
from gi.models.classical import copy_keyframe, opencv_inpaint
from gi.report.tables import Table
from tools.diffusion_study.videos import MarkedVideos

WAYS = {
    "sample": "one sample, keyframe",
    "sample_alone": "one sample, no keyframe",
    "estimate": "first step's estimate, keyframe",
    "estimate_alone": "first step's estimate, no keyframe",
    "copy": "keyframe copied in place",
    "copy_hole": "keyframe moved with the hole",
    "copy_flow": "keyframe copied along the flow",
    "inpaint": "cv2.inpaint (Telea)",
}
BORDERS = "known side", "hole side", "hole side, darker", "further in, darker"  # of `leakage`, in its order
RING = 2  # pixels on each side of a hole's border


class Set(NamedTuple):
    """pixels (B, F, 3, H, W) in [0, 1], masks (B, F, 1, H, W) without any keyframe, rates (B,), names of the clips."""

    pixels: Tensor
    masks: Tensor
    fps: Tensor
    names: Sequence[str] = ()

    @property
    def whole_first(self) -> Tensor:
        """The masks with the first frame as keyframe."""
        return torch.cat([torch.zeros_like(self.masks[:, :1]), self.masks[:, 1:]], dim=1)


def clip_sets(root: str | None, *, count: int, frames: int, size: int, seed: int,
              rate: float | None = None) -> dict[str, Set]:
    """`count` clips of each kind, `size` pixels high and wide, of the photographs in a folder, or of the videos of
    `MarkedVideos` in it at `rate` frames a second if there is one; None: of shapes.
    """
    sets = {}
    for name, objects in (("object", 1.0), ("random", 0.5)):
        options: dict[str, Any] = {"frames": frames, "height": size, "width": size}
        if root is None:
            source: ClipSource = ShapeClips(objects=objects, **options)
        elif rate is None:
            source = PhotoClips(images=FolderTree(root=root), objects=objects, **options)
        else:
            source = MarkedVideos(root=root, rate=rate, **options)
        data = Clips(source=source, keyframes=Keyframes(none=1, first=0, one=0, several=0), length=count, seed=seed,
                     hide_object=float(name == "object"))
        batch = collate([data[index] for index in range(count)])
        sets[name] = Set(batch["pixels"].float() / 255, batch["masks"].float(), batch["fps"], batch["name"])
    return sets


@torch.no_grad()
def by_network(network: KeyframeDiffusion, clips: Set, *, steps: int, seed: int, draws: int = 1,
               at_once: int = 16) -> dict[str, Tensor]:
    """{way: (B, F, 3, H, W) in [0, 1]}, the network's raw output, not composited with the known pixels.

    draws: number of noise samples over which the estimates of the first step are averaged.
    """
    device, filled = next(network.parameters()).device, {}
    for suffix, masks in (("", clips.whole_first), ("_alone", clips.masks)):
        parts: dict[str, list[Tensor]] = {"sample": [], "estimate": []}
        for first in range(0, len(masks), at_once):
            pixels, holes, fps = (x[first:first + at_once].to(device) for x in (clips.pixels, masks, clips.fps))
            conditions = network.conditions(pixels, holes)
            ids = torch.stack([fps - 1, torch.full_like(fps, 127), torch.zeros_like(fps)], dim=1)
            shape = conditions.latents.shape[:2] + (network.codec.channels,) + conditions.latents.shape[3:]
            generator = torch.Generator().manual_seed(seed + first)
            noises = [torch.randn(shape, generator=generator).to(device) for _ in range(draws)]
            estimates = [_estimate(network, noise, conditions, ids) for noise in noises]
            results = {"sample": sample(network, conditions, ids, noises[0], steps=steps),
                       "estimate": torch.stack(estimates).mean(dim=0)}
            for name, latents in results.items():
                parts[name].append(network.codec.decode(latents / network.codec.scale).float().clamp(0, 1).cpu())
        filled |= {f"{name}{suffix}": torch.cat(pieces) for name, pieces in parts.items()}
    return filled


def _estimate(network, noise, conditions, ids):
    """The estimate of the first step, from noise alone: the conditional mean of the clip."""
    sigma = torch.full((len(noise),), network.sigma_max, device=noise.device)
    start = noise * (network.sigma_max**2 + 1) ** 0.5
    return denoiser.estimate(network(start, sigma, conditions, ids).float(), start, sigma)


@torch.no_grad()
def without_network(clips: Set) -> dict[str, Tensor]:
    """{way: (B, F, 3, H, W)} of the baselines; flow sees no pixel of a hole, and is completed in it."""
    guidance = FlowGuidance(estimator=Aligned(estimator=DIS()), resolution=None, mask_images=True, planar=True)
    filled: dict[str, list[Tensor]] = {"copy": [], "copy_hole": [], "copy_flow": [], "inpaint": []}
    for pixels, masks in zip(clips.pixels, clips.masks, strict=True):
        keyframes, whole = pixels[:1].expand(len(pixels), -1, -1, -1)[:, None], torch.zeros_like(masks)[:, None]
        flows, errors = guidance(pixels, masks, keyframes, whole)
        filled["copy"].append(keyframes[:, 0])
        filled["copy_hole"].append(torch.stack([_moved(pixels[0], masks[0], mask) for mask in masks]))
        filled["copy_flow"].append(copy_keyframe(pixels, masks, keyframes, whole, flows, errors))
        filled["inpaint"].append(opencv_inpaint(pixels, masks))
    return {name: torch.stack(parts) for name, parts in filled.items()}


def _moved(keyframe, hole, target_hole):
    """The keyframe shifted such that the centre of its hole moves to that of another one."""
    source_centre, target_centre = (centre_of(mask[0].numpy().astype(np.uint8)) for mask in (hole, target_hole))
    if source_centre is None or target_centre is None:
        return keyframe
    matrix = np.float32([[1, 0, target_centre[0] - source_centre[0]], [0, 1, target_centre[1] - source_centre[1]]])
    picture = keyframe.permute(1, 2, 0).numpy()
    moved = cv2.warpAffine(picture, matrix, picture.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)
    return torch.from_numpy(moved).permute(2, 0, 1)


def hole_scores(clips: Set, filled: Tensor) -> np.ndarray:
    """(B,) PSNR in the holes, the mean of a clip's frames that have one and are no keyframe; nan without any. A frame
    counts with at most `MOST_PSNR`.
    """
    holes = clips.whole_first
    scores = psnr(filled.flatten(0, 1), clips.pixels.flatten(0, 1), holes.flatten(0, 1)).reshape(holes.shape[:2])
    kept = np.where(holes.flatten(2).any(dim=2), scores.clamp(max=MOST_PSNR).numpy(), np.nan)
    return np.nanmean(kept, axis=1)


def leakage(clips: Set, filled: Tensor) -> dict[str, float]:
    """Errors along the holes' borders, of frames that are no keyframe, in 1/255.

    known: mean |error| within `RING` pixels outside of the hole, of the network's own pixels, which a result replaces;
    hole: within `RING` pixels inside; darker, darker_within: how much darker than the ground truth these are on
    average, and those further inside. A black hole that bleeds into the result makes the first larger than the second.
    """
    holes = clips.whole_first[:, 1:]
    error = 255 * (filled - clips.pixels)[:, 1:]
    flat = holes.flatten(0, 1)
    grown, shrunk = (torch.nn.functional.max_pool2d(x, 2 * RING + 1, 1, RING) for x in (flat, 1 - flat))
    outside, inside, rest = (x.reshape(holes.shape) > 0.5 for x in (grown * (1 - flat), flat * shrunk, 1 - shrunk))

    def mean(values, region):
        return float((values * region).sum() / (3 * region.sum()).clamp(min=1))

    return {"known": mean(error.abs(), outside), "hole": mean(error.abs(), inside),
            "darker": -mean(error, inside), "darker_within": -mean(error, rest)}


def score_table(scores: dict[str, dict[str, dict[str, np.ndarray]]]) -> Table:
    """scores[set][model][way]: (B,) PSNR, model "" for baselines. Rows are ways, with means ± their standard errors."""
    columns = [(name, model) for name, models in scores.items() for model in models if model]
    rows = []
    for way, label in WAYS.items():
        cells = []
        for name, model in columns:
            values = scores[name][model].get(way, scores[name][""].get(way))
            cells.append("–" if values is None else mean_text(values))
        rows.append([label, *cells])
    for way, label in (("sample", "one sample"), ("estimate", "first step's estimate")):
        gains = [scores[name][model][way] - scores[name][model][f"{way}_alone"] for name, model in columns]
        rows.append([f"{label}: gain by the keyframe", *(mean_text(gain, "+.2f") for gain in gains)])
    return Table(["PSNR in the holes, dB", *(f"{name}: {model}" for name, model in columns)], rows)


def leakage_table(borders: dict[str, dict[str, dict[str, float]]]) -> Table:
    """borders[set][model]: results of `leakage`."""
    rows = [[f"{name}: {model}", *(f"{value:.2f}" for value in row.values())]
            for name, models in borders.items() for model, row in models.items()]
    return Table(["error at the border, 1/255", *BORDERS], rows)


def mean_text(values: np.ndarray, form: str = ".2f") -> str:
    """Mean ± standard error of those that are finite, the mean formatted by `form`, which may ask for a sign."""
    kept = values[np.isfinite(values)]
    if not len(kept):
        return "–"
    error = kept.std(ddof=1) / len(kept) ** 0.5 if len(kept) > 1 else np.nan
    return f"{kept.mean():{form}} ± {error:{form.lstrip('+')}}"


def labels_of(paths: Sequence[str]) -> list[str]:
    """Short names of files, with their folders where names are ambiguous. Raises InputError for the same file twice."""
    labels = [Path(path).stem for path in paths]
    if len(set(labels)) < len(labels):
        labels = ["/".join(Path(path).absolute().with_suffix("").parts[-3:]) for path in paths]
    if len(set(labels)) < len(labels):
        raise InputError(f"{', '.join(paths)}: the same file twice")
    return labels
