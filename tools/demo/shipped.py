"""The shipped network compared with methods that need no training: first images, then a video."""
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from torch import Tensor, nn
from torch.utils.data import Dataset

from gi.compositing import tensor_of_pixels
from gi.data.sample import Sample
from gi.media import io
from gi.metrics.image import ImageMetrics, ImageScores
from gi.metrics.video_folder import VideoPair
from gi.metrics.video_scores import VideoScores
from gi.models.classical import copy_keyframe, opencv_inpaint
from gi.photo import Inpainter
from gi.report.page import Section, Wide
from gi.report.pictures import hatch
from gi.report.results import file_name
from gi.report.scores import video_table
from gi.report.tables import Table
from gi.training.comparison import METHODS, comparison_rows
from gi.video.evaluation import fill_video, open_clips, score_clips
from gi.video.method import build_method
from tools.demo import scenes

VIDEO_METHODS = {  # label: method, as `gi.video.method.build_method` takes it
    "keyframes: network and flow": "keyframes",
    "flow alone": "flow flow=aligned",
    "network, frame by frame": "per-frame",
    "cv2.inpaint, frame by frame": "per-frame network=false",
}
VIDEO_TEXT = ("A camera pans over a photograph, turns and comes closer, while a hole crosses the picture. Other frames "
              "show what it hides, so flow finds nearly all of it; from one frame alone, nobody can know it.")
VIDEO_METRICS = ("psnr_hole", "ssim_hole", "pcons", "warp_error_hole")
GAP, BAR = 6, 30  # pixels between images, and above them for their labels


class CopyAlongFlow(nn.Module):
    """Copies keyframes along the flow and fills the rest by `cv2.inpaint`; has the interface of a generator."""

    def forward(self, target: Tensor, sources: Tensor, flows: Tensor, flow_errors: Tensor) -> Tensor:
        return copy_keyframe(target[:, :3], target[:, 3:], sources[:, :, :3], sources[:, :, 3:], flows, flow_errors)


class Telea(nn.Module):
    """`cv2.inpaint` with the interface of a generator."""

    def forward(self, target: Tensor, sources: Tensor, flows: Tensor, flow_errors: Tensor) -> Tensor:
        return opencv_inpaint(target[:, :3], target[:, 3:])


class Contest:
    """Compares the methods of `gi.training.comparison.METHODS` on images, all through the same `Inpainter`."""

    def __init__(self, device: str = "auto"):
        network = Inpainter.from_checkpoint(device=device)
        baselines = {name: Inpainter(generator=generator, guidance=network.guidance, device=device)
                     for name, generator in (("copy", CopyAlongFlow()), ("inpaint", Telea()))}
        self.inpainters = {"keyframes": network, "no_keyframes": network, **baselines}

    def fill(self, sample: Sample) -> dict[str, np.ndarray]:
        """{method: uint8 (H, W, 3)} of a sample."""
        image, mask, keyframes, keyframe_masks = arrays(sample)
        return {name: self.inpainters[name](image, mask, *(((), ()) if name == "no_keyframes" else
                                                           (keyframes, keyframe_masks))) for name in METHODS}

    def score(self, data: Dataset) -> Iterator[tuple[Sample, dict[str, np.ndarray], dict[str, ImageScores]]]:
        """Yields each sample of a set, its results by method, and the scores by method over all samples so far."""
        metrics = {name: ImageMetrics(metrics=["psnr", "ssim", "l1"]) for name in METHODS}
        for number in range(len(data)):
            sample = data[number]
            filled = self.fill(sample)
            image, mask = sample["image"][None].float() / 255, sample["mask"][None].float()
            for name, picture in filled.items():
                metrics[name].update(tensor_of_pixels(picture)[None], image, mask, [f"{number} {sample['name']}"])
            yield sample, filled, {name: metric.compute() for name, metric in metrics.items()}


def arrays(sample: Sample) -> tuple[np.ndarray, np.ndarray, list[np.ndarray], list[np.ndarray]]:
    """Image (H, W, 3), mask (H, W), keyframes and their masks, uint8, as an `Inpainter` takes them."""
    image, sources = (sample[key].movedim(-3, -1).numpy() for key in ("image", "sources"))
    return image, sample["mask"][0].numpy(), list(sources), list(sample["source_masks"][:, 0].numpy())


def strip(sample: Sample, filled: Mapping[str, np.ndarray], methods: Mapping[str, str]) -> np.ndarray:
    """Target, keyframes, results of some `methods` ({name: label}) and ground truth, side by side; uint8 (H, W, 3)."""
    image, mask, keyframes, keyframe_masks = arrays(sample)
    several = len(keyframes) > 1
    columns = [("target", hatch(image / 255, mask))]
    columns += [(f"keyframe {i}" if several else "keyframe", hatch(frame / 255, hole))
                for i, (frame, hole) in enumerate(zip(keyframes, keyframe_masks, strict=True), start=1)]
    columns += [(label, filled[name]) for name, label in methods.items()] + [("truth", image)]
    return np.concatenate([_labelled(picture, label) for label, picture in columns], axis=1)[:, :-GAP]


def _labelled(picture: np.ndarray, label: str) -> np.ndarray:
    framed = np.pad(picture, ((BAR, GAP), (0, GAP), (0, 0)), constant_values=255)
    return cv2.putText(framed, label, (2, BAR - 9), cv2.FONT_HERSHEY_DUPLEX, 0.6, (40, 40, 40), 1, cv2.LINE_AA)


def pictures(folder: Path, title: str, text: str, data: Dataset, contest: Contest,
             advance: Callable[[], None] = lambda: None) -> Section:
    """Fills all images of a set and writes each as a strip below `folder`; returns the section that shows them."""
    wide = []
    for sample, filled, scores in contest.score(data):
        path = folder / "pictures" / f"{file_name(title)}_{len(wide)}.png"
        picture = strip(sample, filled, {"keyframes": "network", "copy": "copied along flow", "inpaint": "cv2.inpaint"})
        io.write_image(path, picture)
        reached = ", ".join(f"{METHODS[name]} {scores[name].images[-1]['composite/psnr_hole']:.1f} dB"
                            for name in METHODS)
        wide.append(Wide(f"PSNR in the hole: {reached}.", f"pictures/{path.name}", picture.shape[1], picture.shape[0]))
        advance()
    return Section(title, text, tables=[comparison_rows(title, scores, short=True)], wide=wide)


def write_video(folder: Path, count: int) -> VideoPair:
    """The frames and masks of `scenes.camera_path` as PNG files below `folder`."""
    for number, (frame, mask) in enumerate(scenes.camera_path(count)):
        io.write_image(folder / "frames" / f"{number:05d}.png", frame)
        io.write_image(folder / "masks" / f"{number:05d}.png", 255 * mask)
    return VideoPair("video", folder / "frames", folder / "masks", None, inverted=False)


def video(folder: Path, pair: VideoPair, device: str = "auto", advance: Callable[[], None] = lambda: None) -> Section:
    """Fills the video by every method, each into a folder next to its frames; returns the section with scores."""
    pairs, seconds = [], {}
    for label, text in VIDEO_METHODS.items():
        filled, start = pair.truth.with_name(file_name(text)), time.perf_counter()
        for _ in fill_video(pair, build_method(text, offered={"device": device}), filled):
            pass
        seconds[label] = time.perf_counter() - start
        pairs.append(replace(pair, name=label, prediction=filled))
        advance()
    clips, _ = open_clips(pairs)
    results, films, _ = score_clips(clips, VideoScores(metrics=VIDEO_METRICS), folder, strict=True)
    scores = video_table(results)
    rows = [[row[0], *row[3:], f"{seconds[row[0]] / clips[0].count:.2f}"] for row in scores.rows]  # of one video each
    wide = [replace(film.wide[0], caption=f"{label}. {film.wide[0].caption}") for label, film in films.items()]
    size = f"{clips[0].count} frames of {clips[0].truth.width}x{clips[0].truth.height}"
    table = Table(["", *scores.heading[3:], "s a frame"], rows, title=f"video: {size}")
    return Section("Video", VIDEO_TEXT, tables=[table], wide=wide)
