"""The page about scored videos: a film of each, slices through time, curves and tables.

The page is `gi.report.page`'s; pictures of videos lie in a folder beside it, so that a page of many videos opens at
once. Everything works without a server.
"""
import math
from collections.abc import Generator, Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from PIL import Image

from gi.media.io import atomic_write
from gi.metrics.metric import read_measures
from gi.metrics.video import composite
from gi.report.page import Report, Section, Wide, write_report
from gi.report.pictures import hatch
from gi.report.results import file_name
from gi.report.scores import score_table, video_table

PICTURES = "pictures"  # folder beside the page
FRAMES = 600  # of a film, at most: of longer videos, every second or third frame is shown
ROWS = 960  # of a slice through time, at most
WIDTH, HEIGHT = 432, 360  # of a frame in the film, at most; of a slice, three times that width
GAP = 6
ENCODER = {"crf": "18", "preset": "veryfast"}
STARTS_AT_ONCE = {"movflags": "faststart"}  # the index stands at the beginning of the file


class Film:
    """Makes the pictures of a video from its frames as they are passed on to the metrics; few are kept.

    folder: of the page. name: of the files, without suffix. masks: of all frames, uint8 (H, W), 1 = missing; they tell
    which row of the image goes through the holes. count: of frames. rate: frames a second.
    """

    def __init__(self, folder: str | Path, name: str, masks: Iterable[np.ndarray], *, count: int, rate: Fraction):
        self.film, self.slices = (Path(folder, PICTURES, name + end) for end in (".mp4", "_slices.webp"))
        self.rate, self.row = Fraction(rate), _middle_row(masks)
        self.frame_step, self.row_step = math.ceil(count / FRAMES), math.ceil(count / ROWS)
        self.wide: list[Wide] = []  # for the page, once all frames have passed
        self.curves: Mapping[str, Sequence[float]] = {}  # scores of the frames, by metric

    def watch(self, frames: Iterable[tuple[np.ndarray, ...]]) -> Generator[tuple[np.ndarray, ...], None, None]:
        """Yields truth, mask and prediction, uint8 (H, W, 3), (H, W) and (H, W, 3), of every frame; then writes."""
        rows, size = [], None
        with atomic_write(self.film) as temporary, av.open(str(temporary), "w", options=STARTS_AT_ONCE) as container:
            stream = container.add_stream("h264", rate=self.rate / self.frame_step, options=ENCODER)
            stream.pix_fmt = "yuv420p"
            for i, (truth, mask, prediction) in enumerate(frames):
                if i % self.frame_step == 0:
                    picture = _side_by_side(truth, mask, prediction)
                    if size is None:
                        size = stream.height, stream.width = picture.shape[:2]
                    container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
                if i % self.row_step == 0:
                    rows.append(tuple(x[self.row].copy() for x in (truth, mask, prediction)))
                yield truth, mask, prediction
            container.mux(stream.encode())
        slices = _stacked(*(np.stack(part) for part in zip(*rows, strict=True)))
        with atomic_write(self.slices) as temporary:
            Image.fromarray(slices).save(temporary, format="WEBP", quality=90)
        self.wide = [
            Wide(f"Truth, truth with the hole hatched, prediction in the hole{_every(self.frame_step)}.",
                 f"{PICTURES}/{self.film.name}", size[1], size[0]),
            Wide(f"Row {self.row} of the image over time, which runs downwards{_every(self.row_step)}: with the hole "
                 "hatched, truth, prediction. What changes from line to line there, and not in the truth, is flicker.",
                 f"{PICTURES}/{self.slices.name}", slices.shape[1], slices.shape[0]),
        ]


def write_page(path: str | Path, result: Mapping, films: Mapping[str, "Film"],
               facts: Iterable[tuple[str, str]] = ()) -> None:
    """Writes the page, `films` by the names of the videos that were scored. `result`: see `gi.report.scores`."""
    videos, measures = {video["name"]: video for video in result["videos"]}, read_measures(result["measures"])
    sections = [Section("Scores", tables=[score_table(result), video_table(result)])]
    for name, film in films.items():
        description = (f"{videos[name]['frames']:,} frames, {100 * videos[name]['hole_area']:.1f}% of their pixels "
                       "missing.")
        curves = {measures[metric].heading: {"": (range(len(values)), values)}
                  for metric, values in film.curves.items()}
        sections.append(Section(name, description, wide=film.wide, curves=curves))
    title = f"{result['run']} on {result['set']}"
    write_report(path, Report(title=title, facts=list(facts), sections=sections))


def picture_name(number: int, video: str) -> str:
    """Name for the files of a video: like its own, harmless, and no other video's."""
    return f"{number:04d}_{file_name(video)[:60]}"


def _middle_row(masks: Iterable[np.ndarray]) -> int:
    """The row of the image with as many pixels of all holes above it as below."""
    rows = sum(mask.sum(axis=1, dtype=np.int64) for mask in masks)
    if not rows.any():
        return len(rows) // 2
    return int(np.searchsorted(rows.cumsum(), rows.sum() / 2))


def _side_by_side(truth: np.ndarray, mask: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    scale = min(1, WIDTH / mask.shape[1], HEIGHT / mask.shape[0])
    size = [2 * max(1, round(scale * side / 2)) for side in reversed(mask.shape)]  # even, as the film has to be
    truth, mask, prediction = (cv2.resize(x, size, interpolation=cv2.INTER_AREA) for x in (truth, mask, prediction))
    return _joined(truth, hatch(truth / 255, mask), composite(truth, mask, prediction), axis=1)


def _stacked(truth: np.ndarray, mask: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Slices (T, W, 3), the mask's (T, W), above each other; short ones with thick lines, to be seen at all."""
    times = max(1, min(8, 160 // len(mask)))
    truth, mask, prediction = (np.repeat(x, times, axis=0) for x in (truth, mask, prediction))
    picture = _joined(hatch(truth / 255, mask), truth, composite(truth, mask, prediction), axis=0)
    return cv2.resize(picture, (min(picture.shape[1], 3 * WIDTH), len(picture)), interpolation=cv2.INTER_AREA)


def _joined(first: np.ndarray, *others: np.ndarray, axis: int) -> np.ndarray:
    gap = [(GAP if i == axis else 0, 0) for i in range(3)]
    return np.concatenate([first, *(np.pad(x, gap, constant_values=255) for x in others)], axis=axis)


def _every(step: int) -> str:
    return "" if step == 1 else f", one frame in {step}"
