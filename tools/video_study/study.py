"""Compares the steps of the video pipeline and other methods on real videos, with and without ground truth.

With ground truth: the masks of another video, at half its size, move over the picture, so that what they cover is
known. Without: the videos' own objects are removed; only the time can be measured.
"""
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from matplotlib.figure import Figure

from gi.errors import InputError
from gi.media import io
from gi.media.files import open_video
from gi.media.masks import open_masks
from gi.metrics.video_scores import VideoScores
from gi.report.pictures import hatch
from gi.report.tables import Table, markdown_table
from gi.video.keyframes import plan
from gi.video.method import METHODS, Held, VideoMethod, build_method

METRICS = ("psnr_hole", "ssim_hole", "pcons", "warp_error_hole")
STEPS = {  # from the simplest to the complete pipeline
    "cv2.inpaint, frame by frame": "per-frame network=false",
    "network, frame by frame": "per-frame",
    "flow alone": "flow flow={flow}",
    "6 guides": "keyframes guides=6 prealign=false",
    "14 guides": "keyframes guides=14 prealign=false",
    "14 guides + prealign": "keyframes guides=14",
    "network fitted to the video": "internal",
    "flow or that network, chosen for each pixel": "refine flow={flow}",
}


class Case(NamedTuple):
    name: str
    frames: list[np.ndarray]  # uint8 (H, W, 3)
    masks: list[np.ndarray]  # uint8 (H, W), 1 = missing
    known: bool  # whether the frames are the ground truth of the holes


def cases(root: str | Path, size: tuple[int, int] = (432, 240), longest: int = 100) -> list[Case]:
    """Of the videos in a folder of VIDEO/frames and VIDEO/masks, in the order of their names, each with the masks of
    the next one and with its own; `size` is (width, height).

    Raises InputError if there are not at least two.
    """
    folders = sorted(path.parent for path in Path(root).glob("*/frames"))
    if len(folders) < 2:
        raise InputError(f"{root}: expected at least two folders VIDEO with VIDEO/frames and VIDEO/masks")
    videos = [_read(folder, size, longest) for folder in folders]
    result = []
    for folder, (frames, masks), next_folder, (_, moving) in zip(folders, videos, folders[1:] + folders[:1],
                                                                 videos[1:] + videos[:1], strict=True):
        result.append(Case(f"{folder.name}, hole of {next_folder.name}", frames, _moved(moving, len(frames)), True))
        result.append(Case(f"{folder.name}, object removed", frames, masks, False))
    return result


def methods(texts: Sequence[str] = (), offered: Mapping[str, object] | None = None) -> dict[str, VideoMethod]:
    """{label: method} for texts as `gi.video.method.build_method` takes them. By default `STEPS` and every other method
    except `diffusion`, which needs an extra; `offered` are options for the methods that have them.
    """
    offered = dict(offered or {})
    steps = {name: text.format(flow=offered.get("flow", "aligned")) for name, text in STEPS.items()}
    studied = {"diffusion", *(text.partition(" ")[0] for text in steps.values())}
    named = {text: text for text in texts} or {**steps, **{name: name for name in METHODS if name not in studied}}
    return {name: build_method(text, offered=offered) for name, text in named.items()}


def measure(case: Case, method: VideoMethod) -> tuple[dict[str, float], list[np.ndarray]]:
    """Scores (METRICS, where the truth is known), seconds per frame, and the result.

    "border" and "inside" are the mean warp errors in the hole of pairs of frames at the border of two chunks, and of
    all others: if results flickered at these borders, the first would be larger.
    """
    visible = [np.where(mask[..., None] > 0, np.uint8(0), frame)
               for frame, mask in zip(case.frames, case.masks, strict=True)]
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        for _ in method.fit(Held(visible), Held(case.masks), folder=Path(folder), edited={}):
            pass
    filled = list(method(iter(visible), iter(case.masks)))
    row = {"seconds": (time.perf_counter() - start) / len(filled)}
    result = [np.where(mask[..., None] > 0, fill, frame)
              for fill, frame, mask in zip(filled, case.frames, case.masks, strict=True)]
    if case.known:
        scores = VideoScores(metrics=METRICS)
        row |= scores.update(case.name, list(zip(case.frames, case.masks, result, strict=True)))
        errors = np.array(scores.curves["warp_error_hole"])
        ends = {end for anchor in plan.anchors(len(result)) for end in (anchor - 1, anchor)}
        border = np.array([i in ends for i in range(len(errors))])
        row |= {"border": np.nanmean(errors[border]), "inside": np.nanmean(errors[~border])}
    return row, result


def strip(case: Case, results: dict[str, list[np.ndarray]], count: int = 4) -> np.ndarray:
    """Frames across the video, one row per method, below the input; uint8."""
    numbers = (len(case.frames) * np.linspace(0.1, 0.9, count)).astype(int)
    rows = [[hatch(case.frames[i] / 255, case.masks[i]) for i in numbers]]
    rows += [[result[i] for i in numbers] for result in results.values()]
    labels = [case.name, *results]
    return np.concatenate([_labelled(np.concatenate(row, axis=1), label) for row, label in
                           zip(rows, labels, strict=True)])


def slices(case: Case, results: dict[str, list[np.ndarray]]) -> np.ndarray:
    """One row of pixels over time, through the middle of the holes, where flicker shows as stripes; uint8."""
    heights = np.flatnonzero(np.any(case.masks, axis=(0, 2)))
    row = int(heights[len(heights) // 2])
    pictures = {"truth" if case.known else "input": case.frames, **results}
    return np.concatenate([_labelled(np.stack([frame[row] for frame in frames]), label)
                           for label, frames in pictures.items()])


def plot(path: str | Path, rows: dict[tuple[str, str], dict[str, float]]) -> None:
    """Plots the scores of the cases with ground truth as bars, into a PNG file."""
    measures = {"psnr_hole": "PSNR in the hole, dB", "pcons": "PCons, dB",
                "warp_error_hole": "warp error (less: better)"}
    names = [case for case in dict.fromkeys(case for case, _ in rows) if any("psnr_hole" in row for (other, _), row in
                                                                             rows.items() if other == case)]
    figure = Figure(figsize=(4 * len(measures), 2.4 * len(names)), layout="constrained")
    for line, name in zip(figure.subplots(len(names), len(measures), squeeze=False), names, strict=True):
        scores = {method: row for (case, method), row in rows.items() if case == name}
        for axis, (score, label) in zip(line, measures.items(), strict=True):
            axis.barh(list(scores), [row[score] for row in scores.values()], color="#4477aa")
            axis.invert_yaxis()
            axis.set_xlabel(label, fontsize="small")
            axis.tick_params(labelsize="small", labelleft=axis is line[0])
            axis.locator_params(axis="x", nbins=5)
            axis.spines[["top", "right"]].set_visible(False)
        line[0].set_title(name, fontsize="small", loc="left")
    with io.atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)


def _read(folder: Path, size: tuple[int, int], longest: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    video = open_video(folder / "frames")
    masks = open_masks(folder / "masks", video, dilate=4)  # pixels of the files
    frames = [cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in video.frames(0, longest)]
    holes = [(cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0).astype(np.uint8)
             for mask in masks.frames(0, longest)]
    return frames, holes


def _moved(masks: list[np.ndarray], count: int) -> list[np.ndarray]:
    """`count` masks from these, forwards and then backwards, at half size, moving from the left to beyond the middle.
    """
    height, width = masks[0].shape
    moving_masks = []
    for i in range(count):
        j = i % max(1, 2 * len(masks) - 2)
        mask = masks[min(j, 2 * len(masks) - 2 - j)] if len(masks) > 1 else masks[0]
        small = cv2.resize(mask, (width // 2, height // 2), interpolation=cv2.INTER_NEAREST)
        share = i / max(1, count - 1)
        left, top = int(width * (0.05 + 0.45 * share)), int(height * (0.25 + 0.2 * np.sin(3 * share)))
        moved = np.zeros_like(mask)
        moved[top:top + small.shape[0], left:left + small.shape[1]] = small
        moving_masks.append(moved)
    return moving_masks


def _labelled(picture: np.ndarray, text: str) -> np.ndarray:
    bar = np.full((18, picture.shape[1], 3), 255, np.uint8)
    cv2.putText(bar, text, (4, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
    return np.concatenate([bar, picture])


def write_pictures(folder: str | Path, case: Case, results: dict[str, list[np.ndarray]]) -> list[Path]:
    """Writes `<case>.png` and `<case>_slices.png`; returns their paths."""
    name = case.name.replace(", ", "_").replace(" ", "_")
    paths = [Path(folder) / f"{name}.png", Path(folder) / f"{name}_slices.png"]
    io.write_image(paths[0], strip(case, results))
    io.write_image(paths[1], slices(case, results))
    return paths


def table(rows: dict[tuple[str, str], dict[str, float]]) -> str:
    """Markdown: a table per case, rows the methods, from {(case, method): what `measure` returned}."""
    columns = {"psnr_hole": ("PSNR in the hole", "{:.2f}"), "ssim_hole": ("SSIM in the hole", "{:.3f}"),
               "pcons": ("PCons", "{:.2f}"), "warp_error_hole": ("warp error ×1000", "{:.2f}"),
               "border": ("… where chunks meet", "{:.2f}"), "inside": ("… elsewhere", "{:.2f}"),
               "seconds": ("s per frame", "{:.2f}")}
    thousandths = ("warp_error_hole", "border", "inside")
    lines = []
    for name in dict.fromkeys(case for case, _ in rows):
        chosen = {method: row for (case, method), row in rows.items() if case == name}
        present = [column for column in columns if column in next(iter(chosen.values()))]
        text = [[method, *(columns[column][1].format(row[column] * (1000 if column in thousandths else 1))
                           for column in present)] for method, row in chosen.items()]
        lines += [f"**{name}**", "",
                  *markdown_table(Table(["", *(columns[column][0] for column in present)], text)), ""]
    return "\n".join(lines)
