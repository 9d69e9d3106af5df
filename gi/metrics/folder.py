"""Scores of a folder of predictions against a folder of truths, so that any method meets the same judge."""
import concurrent.futures
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from torch import Tensor

from gi.errors import InputError
from gi.media import io
from gi.metrics.feature_cache import CachedFeatures
from gi.metrics.image import ImageMetrics, ImageScores
from gi.metrics.metric import Metric


@dataclass(frozen=True)
class Pair:
    """Files that belong together."""

    name: str
    truth: Path
    prediction: Path
    mask: Path | None


def find_pairs(
    truth: str | Path, predictions: str | Path, masks: str | Path | None = None
) -> tuple[list[Pair], dict[str, str]]:
    """Files of the same name in the folders, and {name: what is wrong} for those that do not make a pair.

    A name is the path inside the folder without suffix, and without `image_` in front of the file, as our sets have it:
    `image_000012.png` and `000012.jpg` belong together. Of such a set, only the images count as truth or prediction.
    Among masks the `_mask` at the end does not count, and if some files have it, those without are left out.

    Raises:
        InputError: for a folder that is missing or has no image, or if no file has a counterpart.
    """
    folders = {"the truth": _images(Path(truth)), "the predictions": _images(Path(predictions))}
    if masks is not None:
        folders["the masks"] = _masks(Path(masks))
    matches, problems = match(folders, sorted(folders["the truth"].keys() | folders["the predictions"].keys()))
    if not matches:
        where = ", ".join(str(folder) for folder in (truth, predictions, masks) if folder is not None)
        name, reason = next(iter(problems.items()))
        raise InputError(f"{where}: no file has counterparts of its name; {name}: {reason}")
    return [Pair(name, *files, *[None] * (masks is None)) for name, files in matches.items()], problems


def match(
    sides: Mapping[str, Mapping[str, Sequence[Path]]], names: Iterable[str]
) -> tuple[dict[str, list[Path]], dict[str, str]]:
    """{name: its file on each side}, of `names` that each side, {name: files}, has once; and what is wrong with others.
    """
    matches, problems = {}, {}
    for name in names:
        found = {what: side.get(name, []) for what, side in sides.items()}
        missing = [what for what, files in found.items() if not files]
        double = [f"{what} ({', '.join(file.name for file in files)})" for what, files in found.items()
                  if len(files) > 1]
        if missing:
            problems[name] = f"missing among {' and '.join(missing)}"
        elif double:
            problems[name] = f"more than once among {' and '.join(double)}"
        else:
            matches[name] = [files[0] for files in found.values()]
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
    used as it is, on its device; `advance` is called after every pair.
    """
    problems = {}
    with concurrent.futures.ThreadPoolExecutor(batch_size) as executor:
        for start in range(0, len(pairs), batch_size):
            group: dict[tuple, list] = {}  # by size: images of a batch have the same
            for pair, loaded in zip(pairs[start : start + batch_size],
                                    executor.map(_load, pairs[start : start + batch_size]), strict=True):
                if isinstance(loaded, str):
                    problems[pair.name] = loaded
                    advance()
                else:
                    group.setdefault(loaded[0].shape, []).append((pair.name, *loaded))
            for members in group.values():
                names, *columns = zip(*members, strict=True)
                image, prediction, mask = (torch.stack(column).to(metrics.device) for column in columns)
                image, prediction, mask = image.float() / 255, prediction.float() / 255, mask.float()
                metrics.update(prediction, image, mask, names)
                for _ in names:
                    advance()
    return metrics.compute(), problems


def build_metrics(names: Iterable[str | Metric], *, cache: str | Path | None = None) -> ImageMetrics:
    """ImageMetrics that keep features of images in the folder `cache`, if there is one.

    Raises:
        InputError: for unknown metrics, and if weights are missing, saying which metrics do without.
    """
    metrics = ImageMetrics(metrics=list(names))
    for name in metrics.extractors if cache is not None else ():
        metrics.networks[name] = CachedFeatures(network=metrics.networks[name], folder=cache)
    return metrics


def _images(root: Path) -> dict[str, list[Path]]:
    entries = io.list_images(root)
    stems = {_stem(entry) for entry in entries}
    return _by_name(root, {entry: _stem(entry) for entry in entries if _owner(_stem(entry)) not in stems})


def _masks(root: Path) -> dict[str, list[Path]]:
    stems = {entry: _stem(entry) for entry in io.list_images(root)}
    own = {entry: stem.removesuffix("_mask") for entry, stem in stems.items() if stem.endswith("_mask")}
    return _by_name(root, own or stems)


def _by_name(root: Path, stems: Mapping[str, str]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for entry, stem in stems.items():
        path = PurePosixPath(stem)
        name = path.with_name(path.name.removeprefix("image_") or path.name).as_posix()
        found.setdefault(name, []).append(root / entry)
    return found


def _stem(entry: str) -> str:
    return PurePosixPath(entry).with_suffix("").as_posix()


def _owner(stem: str) -> str | None:
    """The image that a mask or a keyframe of a set belongs to, should this be one."""
    match = re.fullmatch(r"(.+?)(_mask|_src_\d+(_m)?)", stem)
    return match[1] if match else None


def _load(pair: Pair) -> tuple[Tensor, Tensor, Tensor] | str:
    """uint8 (3,H,W), (3,H,W) and (1,H,W); or what is wrong, in one line."""
    try:
        image, prediction = io.read_image(pair.truth), io.read_image(pair.prediction)
        mask = np.ones(image.shape[:2], np.uint8) if pair.mask is None else io.read_mask(pair.mask)
        for array, path in (prediction, pair.prediction), (mask, pair.mask):
            if array.shape[:2] != image.shape[:2]:
                (height, width), (high, wide) = array.shape[:2], image.shape[:2]
                raise InputError(f"{path}: is {width}x{height}, expected {wide}x{high} as {pair.truth}")
    except InputError as error:
        return str(error)
    image, prediction = (torch.from_numpy(x.transpose(2, 0, 1).copy()) for x in (image, prediction))
    return image, prediction, torch.from_numpy(mask)[None]
