"""Scores of inpainted videos (paper, Table 3, and more): each video's own, and those of the set.

Always of composites: the prediction inside the hole, the truth elsewhere. Frames come one after the other, so a video
may be of any length: what is kept of it is a few frames, and per frame the features of the Fréchet distances (16 KB
for FID, 8 KB for VFID-clips).
"""
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from gi.config.schema import nearest
from gi.errors import InputError
from gi.metrics.fid import frechet_distance
from gi.metrics.image import statistics
from gi.metrics.video_meters import FrameFeatures, LpipsMean, Pairs, Pixels, WholeVideo, Windows, pieces

# In the order of tables. Scores of a single video are those that are not FRECHET.
METRICS = ("fid", "lpips", "ssim2", "vfid", "vfid_clips", "pvcs", "pcons", "psnr", "ssim", "psnr_hole", "ssim_hole",
           "warp_error", "warp_error_hole")
FRECHET = ("fid", "vfid", "vfid_clips")  # distances between sets: they have a value for all videos together only
# A video that has nothing to measure has no score: no hole, a single frame, nothing visible.
MAY_BE_NAN = ("psnr_hole", "ssim_hole", "pcons", "warp_error", "warp_error_hole")
NEED_WEIGHTS = {"fid": "inception", "lpips": "lpips", "vfid": "i3d", "vfid_clips": "i3d", "pvcs": "i3d"}


class VideoScores:
    """Scores videos one by one, and then the set of them.

        scores = VideoScores(metrics=["psnr", "ssim", "pcons"])
        for name, frames, count in videos:
            print(name, scores.update(name, frames, count=count))
        print(scores.compute()["totals"])

    Args:
        metrics: any of METRICS.
        inception: network of FID, images (N,3,H,W) to (N, `dimensions`); None: InceptionFeatures().
        lpips: network of LPIPS, two batches of images to (N,); None: LPIPS(net="alex"), the paper's for video.
        i3d: network of VFID and PVCS; None: I3D().
        estimator: flow estimator of the warp errors, see `gi.flow.estimate`; None: DIS(), which needs no weights.
        device: where the networks run; they are moved there.
        batch_size: windows of 10 frames, of truth and of composite, that I3D sees at once; frames that the others do
            are four times as many. Memory grows with it, the scores do not depend on it.

    Attributes:
        curves: of the video that came last, {metric: scores of its frames}, those of pairs at the first of the two;
            without metrics that need a network.

    Networks are built only for the metrics that need them (NEED_WEIGHTS names the argument). Raises InputError for
    other metrics, and for weights that are not there.
    """

    def __init__(self, *, metrics: Sequence[str] = ("psnr", "ssim", "ssim2", "psnr_hole", "ssim_hole", "pcons"),
                 inception: nn.Module | None = None, lpips: nn.Module | None = None, i3d: nn.Module | None = None,
                 estimator: nn.Module | None = None, device: torch.device | str = "cpu", batch_size: int = 2):
        for metric in metrics:
            if metric not in METRICS:
                raise InputError(f"metrics: there is no {metric!r}, only {', '.join(METRICS)}"
                                 f"{nearest(metric, METRICS)}")
        self.metrics = tuple(metric for metric in METRICS if metric in metrics)
        if not self.metrics:
            raise InputError(f"metrics: expected at least one of {', '.join(METRICS)}")
        if batch_size < 1:
            raise InputError(f"batch_size: expected at least 1, got {batch_size}")
        self.device, self.batch_size = torch.device(device), batch_size
        given = {"inception": inception, "lpips": lpips, "i3d": i3d, "estimator": estimator}
        needed = {NEED_WEIGHTS.get(metric, "estimator" if metric.startswith("warp_error") else "")
                  for metric in self.metrics}
        self.networks = {name: (network or _default(name)).to(self.device)
                         for name, network in given.items() if name in needed}
        self.videos: list[dict] = []
        self.curves: dict[str, list[float]] = {}
        self.features: dict[str, list[Tensor]] = {metric: [] for metric in FRECHET if metric in self.metrics}

    def update(self, name: str, frames: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]],
               count: int | None = None) -> dict[str, float]:
        """Scores one video; its frames are gone through once.

        Args:
            name: unique within the set.
            frames: (truth, mask, prediction) of every frame: truth and prediction (H,W,3) uint8, mask (H,W) uint8 or
                bool with 1 = missing.
            count: how many frames there are. "vfid" must know in advance, because the network pads a video according to
                its length; None asks `len(frames)`, which a list has and a generator does not.

        Returns {metric: score} of this video for the metrics that are not FRECHET: means over its frames (pcons,
        warp_error, warp_error_hole: over pairs of neighbours; pvcs: over windows), nan where there is nothing to
        measure: see `gi.metrics.video`. Frames without a hole have no psnr_hole, ssim_hole and pcons, and the infinite
        PSNR of a perfect frame or patch has no average: these do not count. A score of infinity says that all were.

        Raises InputError, naming the video and the frame, for wrong shapes and types, frames of different sizes, no
        frames, another number of frames than `count`, a name that was there before, and frames too small for a metric.
        A video that raises does not count.
        """
        if any(name == seen["name"] for seen in self.videos):
            raise InputError(f"metrics: there are two videos {name!r}; names must be unique within a set")
        if count is None and hasattr(frames, "__len__"):
            count = len(frames)
        try:
            meters = self._meters(count)
            seen, missing, pixels = 0, 0, 0
            for piece in pieces(frames, 4 * self.batch_size, self.device):
                for meter in meters:
                    meter.push(piece)
                seen += len(piece.hole)
                missing += int(piece.hole.sum())
                pixels += piece.hole.size
            if seen == 0:
                raise InputError("no frames")
            if count is not None and seen != count:
                raise InputError(f"expected {count} frames, got {seen}")
            found = {metric: value for meter in meters for metric, value in meter.result().items()}
        except InputError as error:
            raise InputError(f"{name}: {error}") from error
        self.curves = {metric: values for meter in meters if isinstance(meter, Pixels | Pairs)
                       for metric, values in meter.values.items()}
        for metric, features in self.features.items():
            features.append(found[metric])
        scores = {metric: found[metric] for metric in self.metrics if metric not in FRECHET}
        self.videos.append({"name": name, "frames": seen, "hole_area": missing / pixels, **scores})
        return scores

    def compute(self) -> dict:
        """{"count": videos, "frames": of all videos, "totals": {metric: score}, "videos": [{"name", "frames",
        "hole_area", metric: score, ...}]}; videos in the order of `update`.

        A total is {"mean", "std", "count"} over the videos that have the score (as in `gi.metrics.image`), every
        video counting the same; that of a FRECHET metric is a number: "fid" between all frames of truth and of
        composite, "vfid" between one feature per video, "vfid_clips" between one per window of 10 frames; nan if
        there are fewer than two features a side. "hole_area" is the share of missing pixels.
        """
        totals = {}
        for metric in self.metrics:
            if metric in FRECHET:
                # (2, n, d): truth and composites
                features = torch.cat(self.features[metric], dim=1) if self.videos else torch.zeros(2, 0, 1)
                totals[metric] = frechet_distance(*features)
            else:
                values = np.array([scores[metric] for scores in self.videos])
                totals[metric] = statistics(values, ~np.isnan(values) if metric in MAY_BE_NAN else None)
        return {"count": len(self.videos), "frames": sum(scores["frames"] for scores in self.videos), "totals": totals,
                "videos": [dict(scores) for scores in self.videos]}

    def _meters(self, count: int | None) -> list:
        """What a video with `count` frames is measured with: objects with push(piece) and result()."""
        wanted, networks = set(self.metrics), self.networks
        meters = [Pixels(wanted)]
        if "lpips" in wanted:
            meters.append(LpipsMean(networks["lpips"]))
        if "fid" in wanted:
            meters.append(FrameFeatures(networks["inception"]))
        if "vfid" in wanted:
            if count is None:
                raise InputError("vfid must know in advance how many frames there are (count)")
            meters.append(WholeVideo(networks["i3d"], count))
        if wanted & {"vfid_clips", "pvcs"}:
            meters.append(Windows(networks["i3d"], self.batch_size))
        if wanted & {"pcons", "warp_error", "warp_error_hole"}:
            meters.append(Pairs(wanted, networks.get("estimator")))
        return meters


def _default(name: str) -> nn.Module:
    from gi.flow.estimate import DIS  # here, all of them: they take a while to import
    from gi.metrics import features, i3d
    return {"inception": features.InceptionFeatures, "lpips": lambda: features.LPIPS(net="alex"), "i3d": i3d.I3D,
            "estimator": DIS}[name]()
