"""Scores of inpainted videos (paper, Table 3, and more): each video's own, and those of the set.

Always of composites: the prediction inside the hole, the truth elsewhere. Frames come one after the other, so a video
may be of any length: a few of them are kept, and per frame the features of the Fréchet distances.
"""
import math
from collections.abc import Iterable, Sequence, Sized
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gi.errors import InputError
from gi.metrics.fid import frechet_distance
from gi.metrics.frames import Frames, read_frames
from gi.metrics.image import statistics
from gi.metrics.metric import Metric, build_networks, choose, measures
from gi.metrics.video import VIDEO_METRICS


class VideoScores:
    """Scores videos one by one (`update`), and then the set of them (`compute`).

    Args:
        metrics: names of VIDEO_METRICS; a metric of your own as it is or as "module.name", see `gi.metrics.metric`.
        device: where the networks run; they are moved there.
        batch_size: windows of 10 frames, of truth and of composite, that I3D sees at once; frames that the others do
            are four times as many. Memory grows with it, the scores do not depend on it.
        networks: used in place of those that the metrics would build: `inception` of FID, images (N,3,H,W) to features
            (N,d); `lpips`, two batches of images to (N,); `i3d`, see `gi.metrics.i3d`; `estimator` of the warp errors,
            see `gi.flow.estimate`.

    `curves`, of the video that came last: {metric: its values along the video}, those of pairs at the first of both.

    Raises InputError for other metrics, and for weights that are not there.
    """

    def __init__(
        self, *, metrics: Sequence[str | Metric] = ("psnr", "ssim", "ssim2", "psnr_hole", "ssim_hole", "pcons"),
        device: torch.device | str = "cpu", batch_size: int = 2, **networks: nn.Module,
    ):
        self.metrics = choose(metrics, VIDEO_METRICS)
        if batch_size < 1:
            raise InputError(f"batch_size: expected at least 1, got {batch_size}")
        self.device, self.batch_size = torch.device(device), batch_size
        self.networks = {name: network.to(self.device)
                         for name, network in build_networks(self.metrics, networks, VIDEO_METRICS).items()}
        self.videos: list[dict] = []
        self.curves: dict[str, list[float]] = {}
        self.features: dict[str, list[Tensor]] = {metric.name: [] for metric in self.metrics if metric.per_set}

    @torch.no_grad()
    def update(self, name: str, frames: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]], *,
               count: int | None = None) -> dict[str, float]:
        """{metric: score} of a video for the metrics that are not of the set.

        Means over its frames, pairs of neighbours, or windows, nan where there is nothing to measure. Frames without a
        hole have no psnr_hole, ssim_hole and pcons, and do not count there. The PSNR of a frame counts with at most
        `gi.metrics.functional.MOST_PSNR`, as that of a perfect one is infinite. A pcons is infinite if one pair's is.

        name: unique within the set. frames: (truth, mask, prediction) of every frame: truth and prediction (H,W,3)
        uint8, mask (H,W) uint8 or bool with 1 = missing. count: how many frames there are, which "vfid" must know in
        advance; None asks `len(frames)`, which a list has and a generator does not.

        Raises InputError, naming the video and the frame, for wrong shapes, types and numbers of frames, a name that
        was there before, and frames too small for a metric. A video that raises does not count.
        """
        if any(name == video["name"] for video in self.videos):
            raise InputError(f"metrics: there are two videos {name!r}; names must be unique within a set")
        if count is None and isinstance(frames, Sized):
            count = len(frames)
        pieces = read_frames(frames, 4 * self.batch_size, networks=self.networks, device=self.device,
                             batch_size=self.batch_size)
        try:
            values, hole = self._measure(pieces, count)
            if count is not None and len(hole) != count:
                raise InputError(f"expected {count} frames, got {len(hole)}")
        except InputError as error:
            raise InputError(f"{name}: {error}") from error
        for metric, features in self.features.items():
            features.append(values.pop(metric))
        self.curves = {metric: value.tolist() for metric, value in values.items()}
        scores = {metric.name: _statistics(values[metric.name].double().numpy(), metric)["mean"]
                  for metric in self.metrics if not metric.per_set}
        self.videos.append({"name": name, "frames": len(hole), "hole_area": float(np.mean(hole)), **scores})
        return scores

    def compute(self) -> dict:
        """{"count": videos, "frames": of all videos, "measures": as `ImageScores.to_dict` has them, "totals": {metric:
        score}, "videos": [{"name", "frames", "hole_area", metric: score, ...}]}; videos in the order of `update`.

        A total is {"mean", "std", "count"} over the videos that have the score (as in `gi.metrics.image`), every
        video counting the same, an infinite score with the set's largest finite one (DEVIL's summary); that of a metric
        of the set is a Fréchet distance, "fid" with a feature per frame, "vfid" per video, "vfid_clips" per window of
        10 frames. "hole_area" is the share of missing pixels.
        """
        totals: dict[str, Any] = {}
        for metric in self.metrics:
            if metric.per_set:
                parts = self.features[metric.name]
                totals[metric.name] = frechet_distance(*torch.cat(parts, dim=1)) if parts else math.nan
            else:
                values = np.array([scores[metric.name] for scores in self.videos])
                finite = values[np.isfinite(values)]
                totals[metric.name] = _statistics(np.minimum(values, finite.max()) if len(finite) else values, metric)
        return {"count": len(self.videos), "frames": sum(scores["frames"] for scores in self.videos),
                "measures": {key: vars(measure) for key, measure in measures(self.metrics).items()},
                "totals": totals, "videos": [dict(scores) for scores in self.videos]}

    def remarks(self) -> list[str]:
        """A line about each metric that some video has no finite score of."""
        lines = []
        for metric in self.metrics:
            for problem, odd in (("infinite (counts with the largest finite score)", math.isinf),
                                 ("not a number", math.isnan)):
                if names := [scores["name"] for scores in self.videos if odd(scores.get(metric.name, 0))]:
                    lines.append(f"{metric.name}: {problem} for {len(names)} of {len(self.videos)} videos, such as "
                                 f"{names[0]}")
        return lines

    def _measure(self, pieces: Iterable[Frames], count: int | None) -> tuple[dict[str, Tensor], list[float]]:
        """The values of a video by metric, (n,), or features (2,n,d); and the share of the hole in every frame."""
        by_span: dict[int | None, list[Metric]] = {}
        for metric in self.metrics:
            by_span.setdefault(metric.span, []).append(metric)
        streams = by_span.pop(None, [])
        if streams and count is None:
            raise InputError(f"{streams[0].name} must know in advance how many frames there are (count)")
        accumulators = {metric.name: metric(self.networks[metric.network.name], count) for metric in streams}
        values: dict[str, list[Tensor]] = {metric.name: [] for metrics in by_span.values() for metric in metrics}
        before: dict[int, Frames] = {}  # what the next values begin with
        hole: list[float] = []

        def measure(frames: Frames, metrics: Iterable[Metric]):
            for metric in metrics:
                value = metric(frames)
                values[metric.name].append(value.cpu() if isinstance(value, Tensor) else
                                           torch.tensor(value, dtype=torch.float64))

        for piece in pieces:
            hole += piece.hole.mean(axis=(1, 2)).tolist()
            for accumulator in accumulators.values():
                accumulator.push(piece.images)
            for span, metrics in by_span.items():
                frames = before[span] + piece if span > 1 and span in before else piece
                if len(frames) >= span:
                    measure(frames, metrics)
                before[span] = frames.last(span - 1)
        if not hole:
            raise InputError("no frames")
        for span, metrics in by_span.items():  # a short video is held at its last frame
            if lacking := [metric for metric in metrics if not values[metric.name] and not metric.optional]:
                measure(before[span].held(span), lacking)
        joined = {name: torch.cat(parts, dim=1 if parts[0].ndim > 1 else 0) if parts else torch.zeros(0)
                  for name, parts in values.items()}
        return joined | {name: accumulator.result().cpu()[:, None] for name, accumulator in accumulators.items()}, hole


def _statistics(values: np.ndarray, metric: Metric) -> dict[str, float]:
    """Statistics of all values; for an `optional` metric, of those that are not nan."""
    return statistics(values, ~np.isnan(values) if metric.optional else None, metric.most)
