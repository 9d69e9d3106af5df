"""Scores of inpainted images over a set: SSIM, PSNR, L1, LPIPS and FID, in total and per tenth of hole area."""
import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics import Metric

from gi.compositing import composite
from gi.config.schema import nearest
from gi.errors import InputError
from gi.metrics import functional
from gi.metrics.fid import frechet_distance

PER_PIXEL = {"ssim": functional.ssim, "psnr": functional.psnr, "l1": functional.l1}
METRICS = (*PER_PIXEL, "lpips", "fid")
VIEWS = ("composite", "raw")  # the prediction inside the hole only, and the whole of it


class ImageMetrics(Metric):
    """Scores every image once and remembers the score, whatever the batches and processes.

    Args:
        metrics: any of ssim, psnr, l1, lpips, fid. The first three need no weights.
        inception: network of FID, images (N,3,H,W) to features (N, its attribute `dimensions`); None:
            InceptionFeatures().
        lpips: network of LPIPS, two batches of images to (N,); None: LPIPS(), the paper's.

    Several sets can share `inception` and `lpips`. Both are frozen: they follow the metric from device to device and
    stay out of checkpoints. `compute()` returns the same ImageScores in every process. An image that a distributed
    sampler handed out twice to fill a batch counts once; that is what names and indices are for.
    """

    full_state_update = False

    def __init__(self, *, metrics: Sequence[str] = ("ssim", "psnr", "l1"), inception: nn.Module | None = None,
                 lpips: nn.Module | None = None):
        super().__init__()
        for name in metrics:
            if name not in METRICS:
                raise InputError(f"metrics: there is no {name!r}, only {', '.join(METRICS)}{nearest(name, METRICS)}")
        self.metrics = tuple(name for name in METRICS if name in metrics)
        if not self.metrics:
            raise InputError(f"metrics: expected at least one of {', '.join(METRICS)}")
        self.networks = {}  # in a dictionary, where state_dict() does not find them
        if "fid" in metrics:
            self.networks["fid"] = inception or _default("InceptionFeatures")
        if "lpips" in metrics:
            self.networks["lpips"] = lpips or _default("LPIPS")
        self.per_image = [key for name in self.metrics if name != "fid"
                          for key in ([name, f"{name}_hole"] if name in PER_PIXEL else [name])]
        # Rows of all images, and what they are like before there are any.
        self.empty = {
            "keys": torch.zeros(0, 3, dtype=torch.int64),  # index, pixels of the hole, pixels
            "names": torch.zeros(0, dtype=torch.uint8),  # each name's bytes, and a zero
            "scores": torch.zeros(0, len(VIEWS), len(self.per_image)),
        }
        if "fid" in metrics:
            self.empty["features"] = torch.zeros(0, 1 + len(VIEWS), self.networks["fid"].dimensions)  # image, views
        for name in self.empty:
            self.add_state(name, default=[], dist_reduce_fx="cat")

    @staticmethod
    def implied(params: Mapping) -> list[dict]:
        """Nodes for the networks that are built when params of a configuration leave them out."""
        names = {"InceptionFeatures": ("fid", "inception"), "LPIPS": ("lpips", "lpips")}
        return [{"target": f"gi.metrics.features.{name}"} for name, (metric, key) in names.items()
                if metric in (params.get("metrics") or ()) and params.get(key) is None]

    def update(self, prediction: Tensor, image: Tensor, mask: Tensor, names: Sequence[str],
               indices: Sequence[int] | None = None):
        """Scores one batch.

        Args:
            prediction: (B,3,H,W) in [0,1], the whole image as the network gives it.
            image: (B,3,H,W) in [0,1], the truth.
            mask: (B,1,H,W), 1 = missing.
            names: B names, each unique within the set.
            indices: B positions in the set, should names not be unique.

        Raises InputError for other shapes, for images that are not floating point, and for unusable names.
        """
        _check(prediction, image, mask, names, indices)
        prediction, image, mask = prediction.float(), image.float(), mask.float()
        views = composite(prediction, image, mask), prediction
        self.scores.append(torch.stack([self._score(view, image, mask) for view in views], dim=1))
        if "fid" in self.metrics:
            self.features.append(torch.stack([self.networks["fid"](x).float() for x in (image, *views)], dim=1))
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
        keys = state["keys"]
        chosen = {}  # by index and name, so that neither order nor repetition of the images matters
        for row, name in enumerate(names):
            first = chosen.setdefault((int(keys[row, 0]), name), row)
            if tuple(keys[first]) != tuple(keys[row]):
                raise InputError(f"metrics: two different images are named {name!r}; names must be unique within a set")
        rows = [chosen[key] for key in sorted(chosen)]
        return ImageScores(
            names=[names[row] for row in rows],
            hole=keys[rows, 1],
            pixels=keys[rows, 2],
            scores={(view, key): state["scores"][rows, i, j].astype(np.float64)
                    for i, view in enumerate(VIEWS) for j, key in enumerate(self.per_image)},
            features=state["features"][rows] if "features" in state else None,
            repeated=len(names) - len(rows),
        )

    def _score(self, view: Tensor, image: Tensor, mask: Tensor) -> Tensor:
        columns = []
        for name in self.metrics:
            if name in PER_PIXEL:
                columns += [PER_PIXEL[name](view, image), PER_PIXEL[name](view, image, mask)]
            elif name == "lpips":
                columns += [self.networks["lpips"](view, image).float()]
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
    """What a set of images scored.

    Attributes:
        count: number of images.
        repeated: how many more were seen that repeated one of these, and were left out.
        totals: {view: {metric: score}} with the views "composite" and "raw". The score of `ssim`, `psnr`, `l1`,
            `lpips`, and of `ssim_hole`, `psnr_hole`, `l1_hole` inside the hole, is {"mean", "std", "count"}; `fid` is a
            number, and so are `ssim_fid_f1` and `lpips_fid_f1`, which join it with SSIM and with 1 - LPIPS.
        bins: ten times {"range": "0-10%", "count": images, "composite": {...}, "raw": {...}}, by the hole's share of
            the image. An upper bound belongs to the next bin, 100% to the last.
        images: per image {"name", "hole_area", "composite/ssim": ..., "raw/ssim": ..., ...}, ordered by index and name.

    Standard deviations are the population's (divided by n), as in the paper's evaluation. "count" is how many images
    mean and std are over: an image without a hole has no score inside it (nan), and the infinite PSNR of a perfect
    image has no average. A nan for any other reason is a fault, and shows in the mean. Scores of no image are nan, and
    so is the FID of fewer than two.
    """

    def __init__(self, *, names: list[str], hole: np.ndarray, pixels: np.ndarray,
                 scores: dict[tuple[str, str], np.ndarray], features: np.ndarray | None, repeated: int = 0):
        self.count = len(names)
        self.repeated = repeated
        tenth = np.minimum(10 * hole // np.maximum(pixels, 1), 9)  # in integers: exact at the bounds

        def summary(rows):
            views = {view: {key: statistics(values[rows], hole[rows] > 0 if key.endswith("_hole") else None)
                            for (v, key), values in scores.items() if v == view} for view in VIEWS}
            for i, of_view in enumerate(views.values()) if features is not None else ():
                of_view["fid"] = frechet_distance(features[rows, 0], features[rows, 1 + i])
                if "ssim" in of_view:
                    of_view["ssim_fid_f1"] = harmonic(of_view["ssim"]["mean"], of_view["fid"])
                if "lpips" in of_view:
                    of_view["lpips_fid_f1"] = harmonic(1 - of_view["lpips"]["mean"], of_view["fid"])
            return views

        self.totals = summary(np.full(self.count, True))
        self.bins = [{"range": f"{10 * i}-{10 * i + 10}%", "count": int((tenth == i).sum()), **summary(tenth == i)}
                     for i in range(10)]
        self.images = [
            {"name": name, "hole_area": float(hole[i] / pixels[i])}
            | {f"{view}/{key}": float(values[i]) for (view, key), values in scores.items()}
            for i, name in enumerate(names)
        ]

    def scalars(self) -> dict[str, float]:
        """Totals as flat numbers to log: {"ssim": ..., "psnr_hole": ..., "fid": ..., "raw/ssim": ...}; means, no stds.

        Names without a view are those of the composites.
        """
        return {key if view == "composite" else f"{view}/{key}": score["mean"] if isinstance(score, dict) else score
                for view, scores in self.totals.items() for key, score in scores.items()}

    def to_dict(self) -> dict:
        """Everything in lists, dictionaries and numbers (nan and inf among them)."""
        return dict(vars(self))


def statistics(values: np.ndarray, used: np.ndarray | None = None) -> dict[str, float]:
    """Mean and population standard deviation of the `used` values that are not +inf, and how many these are."""
    kept = values[~np.isposinf(values) if used is None else used & ~np.isposinf(values)]
    if not len(kept):
        return {"mean": math.nan, "std": math.nan, "count": 0}
    return {"mean": float(kept.mean()), "std": float(kept.std()), "count": len(kept)}


def harmonic(score: float, fid: float) -> float:
    """Harmonic mean of a score in [0,1], the higher the better, and FID brought to that scale (paper's evaluation)."""
    if math.isnan(fid):
        return math.nan
    quality = max(0.0, 100 - fid) / 100
    return 2 * score * quality / (score + quality + 0.001)


def _default(name: str) -> nn.Module:
    from gi.metrics import features  # here: they take a while to import, and most runs do without
    return getattr(features, name)()


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
    for what, given in ("names", names), ("indices", indices):
        if given is not None and len(given) != shape[0]:
            raise InputError(f"metrics: expected {shape[0]} {what}, one per image, got {len(given)}")
    if isinstance(names, str) or not all(isinstance(name, str) and "\0" not in name for name in names):
        raise InputError(f"metrics: expected names as strings without zero bytes, got {names!r}"[:300])
