"""How good is a network really? Its scores beside those of the same network without keyframes and of no network."""
import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch import Tensor

from gi.metrics.image import ImageScores
from gi.models.classical import copy_keyframe, opencv_inpaint
from gi.report.paper import score_text
from gi.report.results import write_csv, write_json
from gi.report.tables import Table

METHODS = {
    "keyframes": "network, with keyframes",
    "no_keyframes": "same network, without them",
    "copy": "keyframe copied along the flow",
    "inpaint": "cv2.inpaint (Telea)",
}
COLUMNS = {"psnr_hole": ("PSNR in the hole", 2), "ssim_hole": ("SSIM in the hole", 3),
           "psnr": ("PSNR", 2), "ssim": ("SSIM", 3)}


def fill_holes(trainer, pl_module, batch: dict, data: dict, prediction: Tensor) -> dict[str, Tensor]:
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


def comparison_rows(set_name: str, scores: Mapping[str, ImageScores]) -> Table:
    """Means and standard deviations of the composites, a row a method, the best mean marked."""
    totals = {method: score.totals["composite"] for method, score in scores.items()}
    rows = [[METHODS[method], *(score_text(total[key], digits) for key, (_, digits) in COLUMNS.items())]
            for method, total in totals.items()]
    marks = {}
    for column, key in enumerate(COLUMNS, start=1):
        means = [total[key]["mean"] for total in totals.values()]
        if not all(map(math.isnan, means)):
            marks[int(np.nanargmax(means)), column] = "best"
    count = scores["keyframes"].count
    return Table(["", *(label for label, _ in COLUMNS.values())], rows, marks,
                 title=f"{set_name}: {count:,} image{'' if count == 1 else 's'}, mean ± std of composites")


def first_columns(table: Table, count: int = 3) -> Table:
    """What is about the hole: this fits a terminal of 80 columns."""
    return dataclasses.replace(table, heading=table.heading[:count], rows=[row[:count] for row in table.rows])


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
