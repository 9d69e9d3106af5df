"""Scores of inpainted images over a set: `gi.metrics.functional.IMAGE_METRICS`, in total and per tenth of hole area."""
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torchmetrics
from torch import Tensor, nn

from gi.compositing import composite
from gi.errors import InputError
from gi.metrics.functional import IMAGE_METRICS, MOST_PSNR
from gi.metrics.metric import HOLE, Metric, build_networks, choose, mean, measures

VIEWS = ("composite", "raw")  # the prediction inside the hole only, and the whole of it


class ImageMetrics(torchmetrics.Metric):
    """Scores every image once, independent of batches and processes, and keeps the scores.

    metrics: names of IMAGE_METRICS; a metric of your own as it is or as "module.name", see `gi.metrics.metric`.
    networks: used in place of those that the metrics would build: `inception` of FID, images (N,3,H,W) to features
    (N, its attribute `dimensions`); `lpips`, two batches of images to (N,). Several sets can share them; they follow
    the metric from device to device and stay out of checkpoints.

    `compute()` returns the same ImageScores in every process. An image that a distributed sampler handed out twice to
    fill a batch counts once; that is what names and indices are for. Raises InputError if other scores have its name.
    """

    full_state_update = False

    def __init__(self, *, metrics: Sequence[str | Metric] = ("ssim", "psnr", "l1"), **networks: nn.Module):
        super().__init__()
        self.metrics = choose(metrics, IMAGE_METRICS)
        for metric in self.metrics:
            if metric.per_set and metric.network is None and not metric.of:
                raise InputError(f"metrics: {metric.name} is of a whole set, expected a network that gives features")
        # In a dictionary, where state_dict() does not find them.
        self.networks = build_networks(self.metrics, networks, IMAGE_METRICS)
        self.scored = [metric for metric in self.metrics if not metric.per_set and not metric.of]
        self.per_image = list(measures(self.scored))
        self.extractors = dict.fromkeys(metric.network.name for metric in self.metrics if metric.per_set)
        # The state, a row an image, as it is before there are any.
        self.empty = {
            "keys": torch.zeros(0, 3, dtype=torch.int64),  # index, pixels of the hole, pixels
            "names": torch.zeros(0, dtype=torch.uint8),  # each name's bytes, and a zero
            "scores": torch.zeros(0, len(VIEWS), len(self.per_image)),
        } | {f"features_{name}": torch.zeros(0, 1 + len(VIEWS), self.networks[name].dimensions)  # of truth and views
             for name in self.extractors}
        for name in self.empty:
            self.add_state(name, default=[], dist_reduce_fx="cat")

    @staticmethod
    def implied(params: Mapping) -> list[dict]:
        """Nodes for the networks that are built when params of a configuration leave them out."""
        metrics = choose(params.get("metrics") or ("l1",), IMAGE_METRICS)
        networks = dict.fromkeys(metric.network for metric in metrics if metric.network)
        return [{"target": network.target, "params": dict(network.params)} for network in networks
                if params.get(network.name) is None]

    def update(self, prediction: Tensor, image: Tensor, mask: Tensor, names: Sequence[str],
               indices: Sequence[int] | None = None) -> None:
        """Scores one batch.

        prediction, image: (B,3,H,W) in [0,1], the whole image as the network gives it, and the truth. mask: (B,1,H,W),
        1 = missing. names: B names, each unique within the set. indices: B positions in the set, should names not be.

        Raises InputError for other shapes, for images that are not floating point, and for unusable names.
        """
        _check(prediction, image, mask, names, indices)
        prediction, image, mask = prediction.float(), image.float(), mask.float()
        views = [composite(prediction, image, mask)]
        if not torch.equal(views[0], prediction):  # they are equal where the whole image is missing
            views.append(prediction)
        self.scores.append(_both([self._score(view, image, mask) for view in views]))
        for name in self.extractors:
            features, *view_features = (self.networks[name](x).float() for x in (image, *views))
            getattr(self, f"features_{name}").append(torch.cat([features[:, None], _both(view_features)], dim=1))
        hole = (mask > 0.5).sum(dim=(1, 2, 3))
        index = torch.full_like(hole, -1) if indices is None else torch.as_tensor(indices).to(hole)
        self.keys.append(torch.stack([index, hole, torch.full_like(hole, mask[0].numel())], dim=1))
        text = b"".join(name.encode(errors="surrogateescape") + b"\0" for name in names)
        self.names.append(torch.tensor(list(text), dtype=torch.uint8, device=hole.device))

    def compute(self) -> "ImageScores":
        """The scores of all images of all processes so far."""
        state = {name: torch.cat([empty, *(part.cpu() for part in _parts(getattr(self, name)))]).numpy()
                 for name, empty in self.empty.items()}
        names = [part.decode(errors="surrogateescape") for part in state["names"].tobytes().split(b"\0")[:-1]]
        keys, most = state["keys"], [metric.most for metric in self.scored for _ in measures([metric])]
        chosen = {}  # by index and name, so that neither order nor repetition of the images matters
        for row, name in enumerate(names):
            first = chosen.setdefault((int(keys[row, 0]), name), row)
            before, now = np.minimum(state["scores"][[first, row]], most)  # rounded by what else was in the batch
            if tuple(keys[first]) != tuple(keys[row]) or not np.allclose(before, now, 1e-3, 1e-5, equal_nan=True):
                raise InputError(f"metrics: two different images are named {name!r}; names must be unique within a set")
        rows = [chosen[key] for key in sorted(chosen)]
        return ImageScores(
            names=[names[row] for row in rows],
            hole=keys[rows, 1],
            pixels=keys[rows, 2],
            scores={(view, key): state["scores"][rows, i, j].astype(np.float64)
                    for i, view in enumerate(VIEWS) for j, key in enumerate(self.per_image)},
            features={name: state[f"features_{name}"][rows] for name in self.extractors},
            metrics=self.metrics,
            repeated=len(names) - len(rows),
        )

    def _score(self, view: Tensor, image: Tensor, mask: Tensor) -> Tensor:
        columns = []
        for metric in self.scored:
            network_arguments = [self.networks[metric.network.name]] if metric.network else []
            for hole in ([], [mask]) if metric.in_hole else ([],):
                column = metric(view, image, *hole, *network_arguments)
                if (shape := getattr(column, "shape", type(column).__name__)) != (len(view),):
                    raise InputError(f"metric {metric.name}: gave {shape}, expected a score an image ({len(view)},)")
                columns.append(column.float())
        return torch.stack(columns, dim=1) if columns else view.new_zeros(len(view), 0)

    def _apply(self, fn, exclude_state: Sequence[str] = ""):
        for network in self.networks.values():
            network._apply(fn)
        return super()._apply(fn, exclude_state)

    def _sync_dist(self, *args, **kwargs):
        for name, empty in self.empty.items():
            # A process without images must send tensors of the others' rank and type.
            if not _parts(getattr(self, name)):
                setattr(self, name, [empty.to(self.device)])
        super()._sync_dist(*args, **kwargs)


class ImageScores:
    """The scores of a set of images.

    Attributes:
        count: images; repeated: how many more were seen that repeated one of these, and were left out.
        measures: {key: Measure} of all scores, in the order of tables.
        totals: {view: {key: score}} with the views "composite" and "raw". The score of a metric per image, and inside
            the hole (`psnr_hole`), is {"mean", "std", "count"}; one of the whole set, such as `fid`, is a number.
        bins: ten times {"range": "0-10%", "count": images, "composite": {...}, "raw": {...}}, by the hole's share of
            the image. An upper bound belongs to the next bin, 100% to the last.
        images: per image {"name", "hole_area", "composite/ssim": ..., "raw/ssim": ..., ...}, ordered by index and name.

    Standard deviations are the population's (divided by n), as in the paper's evaluation. "count" is how many images
    mean and std are over: an image without a hole has no score inside it (nan). The PSNR of an image counts with at
    most `MOST_PSNR`, as that of a perfect one is infinite. A nan for any other reason is an error, and shows in the
    mean. Scores of no image are nan, and so is the FID of fewer than two.
    """

    def __init__(self, *, names: list[str], hole: np.ndarray, pixels: np.ndarray,
                 scores: Mapping[tuple[str, str], np.ndarray], features: Mapping[str, np.ndarray] | None = None,
                 metrics: Iterable[Metric] = IMAGE_METRICS.values(), repeated: int = 0):
        metrics, features = list(metrics), features or {}
        self.count, self.repeated = len(names), repeated
        tenth = np.minimum(10 * hole // np.maximum(pixels, 1), 9)  # in integers: exact at the bounds

        def summary(rows: np.ndarray, view: str) -> dict:
            values: dict = {}
            for metric in metrics:
                if metric.of and values.keys() >= set(metric.of):
                    values[metric.name] = metric(*(mean(values[name]) for name in metric.of))
                elif metric.per_set and metric.network.name in features:
                    feature_pairs = features[metric.network.name][rows][:, [0, 1 + VIEWS.index(view)]]
                    values[metric.name] = metric(feature_pairs[:, 0], feature_pairs[:, 1]) if rows.any() else math.nan
                values |= {key: statistics(scores[view, key][rows], hole[rows] > 0 if key.endswith(HOLE) else None,
                                           metric.most)
                           for key in measures([metric]) if (view, key) in scores}
            return values

        self.totals = {view: summary(np.full(self.count, True), view) for view in VIEWS}
        self.measures = {key: measure for key, measure in measures(metrics).items() if key in self.totals["composite"]}
        self.bins = [{"range": f"{10 * i}-{10 * i + 10}%", "count": int((tenth == i).sum())}
                     | {view: summary(tenth == i, view) for view in VIEWS} for i in range(10)]
        self.images: list[dict[str, Any]] = [
            {"name": name, "hole_area": float(hole[i] / pixels[i])}
            | {f"{view}/{key}": float(values[i]) for (view, key), values in scores.items()}
            for i, name in enumerate(names)
        ]

    def scalars(self) -> dict[str, float]:
        """Means of the totals to log: {"ssim": ..., "psnr_hole": ..., "fid": ...} of the composites, "raw/ssim": ..."""
        return {key if view == "composite" else f"{view}/{key}": mean(score)
                for view, scores in self.totals.items() for key, score in scores.items()}

    def remarks(self, *, masks: bool = True) -> list[str]:
        """A line about each kind of image that affects the scores unexpectedly: without a hole, without a known pixel,
        not finite. masks: false where there are none, and the whole image counts as the hole.
        """
        areas = {image["name"]: image["hole_area"] for image in self.images}
        broken = [image["name"] for image in self.images if any(
            math.isnan(value) or value == -math.inf for key, value in image.items()
            if "/" in key and (image["hole_area"] or not key.endswith(HOLE)))]
        perfect = [image["name"] for image in self.images if image["hole_area"] and math.inf in image.values()]
        names_by_problem = {
            "have no hole, their composites are the truth": [name for name, area in areas.items() if not area],
            "have no known pixel": [name for name, area in areas.items() if masks and area == 1],
            f"have an infinite score, as the truth itself; a PSNR counts with {MOST_PSNR:g} dB": perfect,
            "have scores that are not numbers": broken,
        }
        return [f"{len(names)} of {self.count} images {problem}, such as {names[0]}"
                for problem, names in names_by_problem.items() if names]

    def to_dict(self) -> dict:
        """Everything in lists, dictionaries and numbers (nan and inf among them)."""
        return vars(self) | {"measures": {key: vars(measure) for key, measure in self.measures.items()}}


def statistics(values: np.ndarray, used: np.ndarray | None = None, most: float = math.inf) -> dict[str, float]:
    """Mean and population standard deviation of the `used` values, each `most` at most, and how many these are."""
    kept = np.minimum(values if used is None else values[used], most)
    if not len(kept):
        return {"mean": math.nan, "std": math.nan, "count": 0}
    with np.errstate(invalid="ignore"):  # infinity has no standard deviation
        return {"mean": float(kept.mean()), "std": float(kept.std()), "count": len(kept)}


def _both(of_views: list[Tensor]) -> Tensor:
    """(N,...) of each view as (N,2,...), also where there is only one because they are equal."""
    return torch.stack([of_views[0], of_views[-1]], dim=1)


def _parts(state: Tensor | list[Tensor]) -> list[Tensor]:
    return [state] if isinstance(state, Tensor) else state  # a single tensor once torchmetrics has gathered it


def _check(prediction, image, mask, names, indices):
    shape = tuple(image.shape)
    if len(shape) != 4 or shape[1] != 3 or prediction.shape != image.shape:
        raise InputError("metrics: expected prediction and image of one shape (B, 3, H, W), "
                         f"got {tuple(prediction.shape)} and {shape}")
    if tuple(mask.shape) != (shape[0], 1, *shape[2:]):
        raise InputError(f"metrics: expected a mask of shape {(shape[0], 1, *shape[2:])}, got {tuple(mask.shape)}")
    if not prediction.is_floating_point() or not image.is_floating_point():
        raise InputError(f"metrics: expected floating point images in [0, 1], got {prediction.dtype} and {image.dtype}")
    for label, values in ("names", names), ("indices", indices):
        if values is not None and len(values) != shape[0]:
            raise InputError(f"metrics: expected {shape[0]} {label}, one per image, got {len(values)}")
    if isinstance(names, str) or not all(isinstance(name, str) and "\0" not in name for name in names):
        raise InputError(f"metrics: expected names as strings without zero bytes, got {names!r}"[:300])
