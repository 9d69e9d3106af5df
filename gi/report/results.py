"""Results on disk and on the console: `metrics/<set>.json` with everything, `metrics/<set>.csv` with every image.

In JSON, which has no numbers for them, nan is null and an infinite score the text "inf" or "-inf"; `read_results` gives
the numbers back. The CSV leaves a cell empty for nan.
"""
import csv
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gi.errors import InputError
from gi.media.io import atomic_write
from gi.metrics.functional import IMAGE_METRICS
from gi.metrics.image import ImageScores
from gi.metrics.metric import measures, read_measures
from gi.report.paper import Row
from gi.report.scores import score_table
from gi.report.tables import print_table

_KEYS = {"count": int, "totals": dict, "bins": list, "images": list}


def report_results(
    results: Mapping[str, ImageScores], run: str, folder: str | Path, *, paper: Mapping[str, Row] | None = None,
    metadata: Mapping | None = None, show: bool = True
) -> None:
    """Writes the files of every set, {set: scores} of `run`, below `folder`/metrics, and with `show` prints its table.

    paper: {set: the row of the paper that stands beside it}. metadata: what else to keep, such as the checkpoint.
    """
    written = [describe(scores, run=run, set_name=name, paper=(paper or {}).get(name), metadata=metadata)
               for name, scores in results.items()]
    for result in written:
        write_results(result, Path(folder) / "metrics" / f"{file_name(result['set'])}.json")
    for result in written if show else ():  # once all are safely on disk
        print_table(score_table(result))


def describe(
    scores: ImageScores, *, run: str, set_name: str, paper: Row | None = None, metadata: Mapping | None = None
) -> dict:
    """The result of a run on a set, as files have it and tables show it: {"run", "set", "paper", …, "count", …}."""
    metadata = {"paper": vars(paper) if paper else None, **(metadata or {})}
    return {"run": run, "set": set_name, **{key: value for key, value in metadata.items() if value is not None},
            **scores.to_dict()}


def write_results(result: Mapping, path: str | Path) -> None:
    """Writes `path`, a .json, and the .csv of that name with a row an image or video; each completely or not at all."""
    write_json(path, result)
    write_csv(Path(path).with_suffix(".csv"), result["images"] if "images" in result else result["videos"])


def write_json(path: str | Path, content: Mapping) -> None:
    """Writes numbers, texts, and lists and mappings of them, completely or not at all; nan and inf: see above."""
    text = json.dumps(_encoded(content), indent=1, allow_nan=False)
    with atomic_write(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def write_csv(path: str | Path, images: Sequence[Mapping]) -> None:
    """Writes a row an image or video, all with the keys of the first one, completely or not at all."""
    with atomic_write(path) as temporary:
        with open(temporary, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            writer = csv.DictWriter(file, list(images[0]) if images else ["name", "hole_area"])
            writer.writeheader()
            for image in images:  # nan alone is not equal to itself
                writer.writerow({key: value if value == value else "" for key, value in image.items()})


def read_results(path: str | Path) -> dict:
    """What `write_results` wrote: {"run", "set", "count", "totals", "bins", "images", ...}. Raises InputError, naming
    the file, if it is missing or something else.
    """
    try:
        result: Any = _decoded(json.loads(Path(path).read_text(encoding="utf-8-sig")))
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not JSON"
        raise InputError(f"{path}: cannot be read as results: {reason}") from error
    if not isinstance(result, dict):
        raise InputError(f"{path}: expected the results of an evaluation, a mapping with {', '.join(_KEYS)}")
    if "videos" in result:
        raise InputError(f"{path}: results of videos: compare them with evaluate-video --method")
    for key, kind in _KEYS.items():
        if not isinstance(result.get(key), kind):
            raise InputError(f"{path}: no {key} in it, expected the results of an evaluation")
    if not all(isinstance(image, dict) and isinstance(image.get("name"), str)
               and type(image.get("hole_area")) in (int, float) for image in result["images"]):
        raise InputError(f"{path}: images: expected a name and a hole_area of each")
    result = {"run": Path(path).stem, "set": Path(path).stem, **result}
    for key in "run", "set":
        if not isinstance(result[key], str):
            raise InputError(f"{path}: {key} is {result[key]!r:.80}, expected a name")
    if result.get("step") is not None and not (type(result["step"]) is int and 0 <= result["step"] < 2**63):
        raise InputError(f"{path}: step is {result['step']!r:.80}, expected a number of optimiser steps")
    for view in "composite", "raw":
        scores = result["totals"].get(view)
        if not isinstance(scores, dict) or not all(_is_score(score) for score in scores.values()):
            raise InputError(f"{path}: totals.{view}: expected scores, numbers or mean and std")
    known = measures(IMAGE_METRICS.values())  # of files that do not say how their scores are shown
    result.setdefault("measures", {key: vars(known[key]) for key in result["totals"]["composite"] if key in known})
    read_measures(result["measures"], f"{path}: measures")
    return result


def read_run(path: str | Path) -> list[dict]:
    """All results of a run: of the files in its folder `metrics`, sorted, or of one file. Raises InputError if there
    are none, or as `read_results`.
    """
    path = Path(path)
    files = [path] if path.is_file() else sorted((path / "metrics").glob("*.json"))
    if not files:
        raise InputError(f"{path}: no results, expected a run with metrics/<set>.json, as testing writes them")
    return [read_results(file) for file in files]


def _is_score(score: object) -> bool:
    if isinstance(score, dict):
        return all(_is_score(score.get(key)) and not isinstance(score[key], dict) for key in ("mean", "std"))
    return isinstance(score, float) or (type(score) is int and abs(score) < 2**63)


def _encoded(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _encoded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_encoded(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value


def _decoded(value: object, key: str = "") -> object:
    if isinstance(value, dict):
        return {key: _decoded(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return [_decoded(item) for item in value]
    if value is None:
        return math.nan
    return float(value) if value in ("inf", "-inf") and key not in ("name", "run", "set", "label") else value


def expect_apart(names: Iterable[str]) -> None:
    """Raises InputError if the results of two of these sets would be files of one name."""
    before: dict[str, str] = {}
    for name in names:
        if (other := before.setdefault(file_name(name), name)) != name:
            raise InputError(f"sets {other!r} and {name!r}: expected names that differ in letters and digits, as both "
                             f"would write {file_name(name)}.json")


def file_name(set_name: str) -> str:
    """Name of a file or folder for a set."""
    return re.sub(r"[^\w.-]", "_", set_name).lstrip(".") or "set"
