"""Scores a folder of predictions against a folder of ground truth, so that all methods are evaluated alike."""
import concurrent.futures
import functools
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gi.errors import InputError
from gi.media import io
from gi.media.samples import MASK
from gi.metrics.feature_cache import CachedFeatures
from gi.metrics.image import ImageMetrics, ImageScores
from gi.metrics.metric import Metric


@dataclass(frozen=True)
class Pair:
    """The files of one image: ground truth, prediction and mask."""

    name: str
    truth: Path
    prediction: Path
    mask: Path | None = None


def find_pairs(
    truth: str | Path, predictions: str | Path, masks: str | Path | None = None
) -> tuple[list[Pair], dict[str, str]]:
    """Files of the same name in the folders, and {name: what is wrong} for those that do not make a pair.

    A name is the path inside the folder without suffix, and without `image_` in front of the file, as our sets have it:
    `image_000012.png` and `000012.jpg` belong together. Of such a set, only the images count as truth or prediction. In
    names of masks, `_mask` at the end is ignored; if some files have it, those without are left out. A prediction that
    is named as a mask of the truth, as LaMa's (`a_mask001`), belongs to that mask and its image (`a`).

    Raises InputError for a folder that is missing or has no image, or if no file has a counterpart.
    """
    sides = {"the truth": _images(Path(truth)), "the predictions": _images(Path(predictions))}
    images, filled = sides.values()
    owners = {name: part[1] for name in filled.keys() - images.keys()
              if (part := re.fullmatch(rf"(.+){MASK}", name)) and part[1] in images}
    sides["the truth"] = images | {name: images[owner] for name, owner in owners.items()}
    names = sorted((images.keys() - owners.values()) | filled.keys())
    matches, problems = match(sides if masks is None else sides | {"the masks": _masks(Path(masks))}, names)
    if not matches:
        folders = ", ".join(str(folder) for folder in (truth, predictions, masks) if folder is not None)
        name, reason = next(iter(problems.items()))
        raise InputError(f"{folders}: no file has counterparts of its name; {name}: {reason}")
    return [Pair(name, *files) for name, files in matches.items()], problems


def match(
    sides: Mapping[str, Mapping[str, Sequence[Path]]], names: Iterable[str]
) -> tuple[dict[str, list[Path]], dict[str, str]]:
    """{name: its file on each side}, of `names` that each side, {name: files}, has once; and what is wrong with others.
    """
    matches, problems = {}, {}
    for name in names:
        candidates = {label: side.get(name, []) for label, side in sides.items()}
        if missing := [label for label, files in candidates.items() if not files]:
            problems[name] = f"missing among {' and '.join(missing)}"
        elif duplicates := [f"{label} ({', '.join(file.name for file in files)})" for label, files in candidates.items()
                            if len(files) > 1]:
            problems[name] = f"more than once among {' and '.join(duplicates)}"
        else:
            matches[name] = [files[0] for files in candidates.values()]
    return matches, problems


def score_pairs(
    pairs: Sequence[Pair],
    metrics: ImageMetrics,
    *,
    batch_size: int = 8,
    advance: Callable[[], None] = lambda: None,
) -> tuple[ImageScores, dict[str, str]]:
    """Scores of all pairs that can be read, and {name: what is wrong} for the others.

    Without masks the whole image counts as the hole, so that composite and raw prediction are the same. `metrics` is
    used as it is, on its device; `advance` is called after every pair. Raises InputError if no mask has a hole.
    """
    problems = {}
    least = max([getattr(network, "least_side", 1) for network in metrics.networks.values()], default=1)
    with concurrent.futures.ThreadPoolExecutor(batch_size) as executor:
        for start in range(0, len(pairs), batch_size):
            batch, by_size = pairs[start:start + batch_size], defaultdict(list)
            for pair, loaded in zip(batch, executor.map(functools.partial(_load, least=least), batch), strict=True):
                if isinstance(loaded, str):
                    problems[pair.name] = loaded
                else:
                    by_size[loaded[0].shape].append((pair.name, *loaded))
            for members in by_size.values():
                names, *columns = zip(*members, strict=True)
                image, prediction, mask = (torch.stack(column).to(metrics.device).float() for column in columns)
                metrics.update(prediction / 255, image / 255, mask, names)
            for _ in batch:
                advance()
    scores = metrics.compute()
    if scores.count and not any(image["hole_area"] for image in scores.images):
        raise InputError(f"{pairs[0].mask.parent}: nothing is missing in any mask, there is no hole to score")
    return scores, problems


def build_metrics(names: Iterable[str | Metric], *, cache: str | Path | None = None) -> ImageMetrics:
    """ImageMetrics that keep features of images in the folder `cache`, if there is one. Raises InputError for unknown
    metrics, and if weights are missing, saying which metrics do without.
    """
    metrics = ImageMetrics(metrics=list(names))
    for name in metrics.extractors if cache is not None else ():
        metrics.networks[name] = CachedFeatures(network=metrics.networks[name], folder=cache)
    return metrics


def _images(root: Path) -> dict[str, list[Path]]:
    stems = _stems(root)
    names = set(stems.values())

    def belongs_to_another(stem: str) -> bool:  # as its mask or a keyframe
        part = re.fullmatch(rf"(.+?)({MASK}|_src_\d+(_m)?)", stem)
        return part is not None and part[1] in names

    return _by_name(root, {entry: stem for entry, stem in stems.items() if not belongs_to_another(stem)})


def _masks(root: Path) -> dict[str, list[Path]]:
    stems = _stems(root)
    own = {entry: re.sub(f"{MASK}$", "", stem) for entry, stem in stems.items() if re.search(f"{MASK}$", stem)}
    whole = _by_name(root, {entry: stems[entry] for entry in own})
    return _by_name(root, own or stems) | whole


def _stems(root: Path) -> dict[str, str]:
    return {entry: Path(entry).with_suffix("").as_posix() for entry in io.list_images(root)}


def _by_name(root: Path, stems: Mapping[str, str]) -> dict[str, list[Path]]:
    files = defaultdict(list)
    for entry, stem in stems.items():
        files[re.sub(r"(^|/)image_([^/]+)$", r"\1\2", stem)].append(root / entry)
    return files


def _load(pair: Pair, least: int) -> tuple[Tensor, Tensor, Tensor] | str:
    """uint8 (3,H,W), (3,H,W) and (1,H,W); or what is wrong, in one line."""
    try:
        image, prediction = io.read_image(pair.truth), io.read_image(pair.prediction)
        mask = np.ones(image.shape[:2], np.uint8) if pair.mask is None else io.read_mask(pair.mask)
        for array, path in (prediction, pair.prediction), (mask, pair.mask):
            size, expected = ("{1}x{0}".format(*x.shape) for x in (array, image))
            if size != expected:
                raise InputError(f"{path}: is {size}, expected {expected} as {pair.truth}")
        if min(image.shape[:2]) < least:
            raise InputError(f"{pair.truth}: is {expected}, expected at least {least} a side for these metrics")
    except InputError as error:
        return str(error)
    truth, filled, hole = (torch.from_numpy(np.atleast_3d(x).transpose(2, 0, 1).copy())
                           for x in (image, prediction, mask))
    return truth, filled, hole
