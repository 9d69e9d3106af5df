"""Compares a network's scores with those of the same network without keyframes, and of methods without a network."""
from collections.abc import Mapping
from pathlib import Path

import pytorch_lightning as pl
from torch import Tensor

from gi.metrics.image import ImageScores
from gi.metrics.metric import foremost
from gi.models.classical import copy_keyframe, opencv_inpaint
from gi.report.results import write_csv, write_json
from gi.report.tables import Table

METHODS = {
    "keyframes": "network, with keyframes",
    "no_keyframes": "same network, without them",
    "copy": "keyframe copied along the flow",
    "inpaint": "cv2.inpaint (Telea)",
}


def fill_holes(trainer: pl.Trainer, pl_module: pl.LightningModule, batch: dict, data: dict,
               prediction: Tensor) -> dict[str, Tensor]:
    """{method: (B, 3, H, W)} for a batch, its prepared `data` and the network's prediction with keyframes."""
    with trainer.precision_plugin.test_step_context():
        alone = pl_module.predict(pl_module.prepare(batch, with_sources=False), pl_module.best_generator())
    flows, errors = data["inputs"][2:]
    image, mask = data["image"], data["mask"]
    return {
        "keyframes": prediction,
        "no_keyframes": alone,
        "copy": copy_keyframe(image, mask, data["sources"], data["source_masks"], flows, errors),
        "inpaint": opencv_inpaint(image, mask),
    }


def comparison_rows(set_name: str, scores: Mapping[str, ImageScores], *, short: bool = False) -> Table:
    """Means and standard deviations of the composites, a row a method, the best mean marked; `short`: without those of
    whole images where there is one of the hole.
    """
    count, measures = scores["keyframes"].count, scores["keyframes"].measures
    measures = foremost(measures) | ({} if short else measures)
    totals = {method: score.totals["composite"] for method, score in scores.items()}
    rows = [[METHODS[method], *(measure.text(total[key]) for key, measure in measures.items())]
            for method, total in totals.items()]
    best = {column: measure.best([total[key] for total in totals.values()])
            for column, (key, measure) in enumerate(measures.items(), start=1)}
    marks = {(row, column): "best" for column, row in best.items() if row is not None}
    return Table(["", *(measure.label for measure in measures.values())], rows, marks,
                 title=f"{set_name}: {count:,} image{'' if count == 1 else 's'}, mean ± std of composites")


def write_comparison(path: Path, set_name: str, scores: Mapping[str, ImageScores]) -> None:
    """Writes `path`, a .json, and the .csv of that name: totals and per-image scores of the composites, by method."""
    images = [{"name": rows[0]["name"], "hole_area": rows[0]["hole_area"]}
              | {method: {key.removeprefix("composite/"): value for key, value in row.items()
                          if key.startswith("composite/")} for method, row in zip(scores, rows, strict=True)}
              for rows in zip(*(score.images for score in scores.values()), strict=True)]
    methods = {method: {"label": METHODS[method], **score.totals["composite"]} for method, score in scores.items()}
    write_json(path, {"set": set_name, "count": len(images), "methods": methods, "images": images})
    write_csv(path.with_suffix(".csv"), [
        {"name": image["name"], "hole_area": image["hole_area"]}
        | {f"{method}/{key}": value for method in scores for key, value in image[method].items()} for image in images])
