"""How good is this network really? Its scores beside those of the same network without keyframes and of no network."""
import csv
import json
import math
import re
import time
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from rich.console import Console
from rich.markup import escape
from rich.table import Table as ConsoleTable

from gi.compositing import composite
from gi.data.datamodule import collate
from gi.io import atomic_write
from gi.metrics import report
from gi.metrics.baselines import align_keyframes, copy_keyframe, opencv_inpaint
from gi.metrics.image import ImageMetrics, ImageScores
from gi.training.callbacks import format_duration

METHODS = {
    "keyframes": "network, with keyframes",
    "no_keyframes": "same network, without them",
    "copy": "keyframe copied along the flow",
    "inpaint": "cv2.inpaint (Telea)",
}
COLUMNS = {"psnr_hole": ("PSNR in the hole", 2), "ssim_hole": ("SSIM in the hole", 3),
           "psnr": ("PSNR", 2), "ssim": ("SSIM", 3)}


class CompareWithBaselines(pl.Callback):
    """Scores four ways to fill the holes of every test set, always as composites, and writes down what comes out.

    The ways are `METHODS`: this network; the same network without keyframes; `copy_keyframe` along the flow the
    network is given; `opencv_inpaint`. For each set: a table on the console, metrics/comparison_<set>.json and .csv
    (totals and every image; in JSON, what is no finite number is null). For all together: report.html.

    Works with any number of processes. List it after the progress bar, so that the tables follow it.

    Args:
        samples: pictures in the report, for each set: spread evenly from the best to the worst image by PSNR in the
            hole, so that 3 are the best, the median and the worst.
    """

    def __init__(self, *, samples: int = 3):
        self.samples = samples
        self._seconds, self._start = 0.0, None
        self._metrics, self._seen, self._scores = {}, {}, {}

    # Time of the training, over interruptions ---------------------------------------------------------------------

    def on_train_start(self, trainer, pl_module):
        self._start = time.monotonic()

    def on_train_end(self, trainer, pl_module):
        self._seconds, self._start = self._training_seconds(), None

    def state_dict(self):
        return {"training_seconds": self._training_seconds()}

    def load_state_dict(self, state_dict):
        self._seconds = float(state_dict.get("training_seconds", 0.0))

    def _training_seconds(self):
        return self._seconds + (time.monotonic() - self._start if self._start is not None else 0.0)

    # Scores ---------------------------------------------------------------------------------------------------------

    def on_test_epoch_start(self, trainer, pl_module):
        names = trainer.datamodule.test_names
        metrics = ["ssim", "psnr", "l1"]
        self._metrics = {name: {method: ImageMetrics(metrics=metrics).to(pl_module.device) for method in METHODS}
                         for name in names}
        self._seen, self._scores = dict.fromkeys(names, 0), {}

    @torch.no_grad()
    def on_test_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
        name = trainer.datamodule.test_names[dataloader_idx]
        data = outputs["data"]
        results = fill(trainer, pl_module, batch, data, outputs["prediction"])
        # Positions in the set, which a process shares out like the data module does.
        first, count = self._seen[name], len(batch["name"])
        indices = [trainer.global_rank + trainer.world_size * i for i in range(first, first + count)]
        self._seen[name] += count
        for method, result in results.items():
            self._metrics[name][method].update(result, data["image"], data["mask"], batch["name"], indices)

    def on_test_epoch_end(self, trainer, pl_module):
        # Every process takes part in gathering; only the first one goes on from there.
        self._scores = {name: {method: metric.compute() for method, metric in metrics.items()}
                        for name, metrics in self._metrics.items()}
        self._metrics = {}

    @torch.no_grad()
    def on_test_end(self, trainer, pl_module):
        if not trainer.is_global_zero:
            return
        folder, console = Path(trainer.default_root_dir), Console(highlight=False)
        sections = []
        for name, scores in self._scores.items():
            stem = folder / "metrics" / f"comparison_{re.sub(r'[^A-Za-z0-9_.-]', '_', name)}"
            write_json(stem.with_name(stem.name + ".json"), name, scores)
            write_csv(stem.with_name(stem.name + ".csv"), scores)
            table = summary(scores)
            print_table(console, name, table, scores)
            samples = [self._sample(trainer, pl_module, name, scores, *choice) for choice in self._choose(scores)]
            sections.append(report.Section(
                title=f"Test set “{name}”: {scores['keyframes'].count} images", tables=[table], samples=samples,
                text="Mean ± standard deviation over the images, always of the composite (known pixels are kept). "
                     "Bold: best mean. Stripes mark what is missing. “Without them” is the same weights, not a network "
                     f"trained for that. {flow_note(pl_module)}".rstrip()))
        path, config = folder / "report.html", folder / "configs" / "config.yaml"
        details = [("Configuration", config.read_text(encoding="utf-8"))] if config.is_file() else []
        report.write_report(path, report.Report(
            title=f"Guided inpainting: {folder.name}", facts=self._facts(trainer, pl_module), sections=sections,
            curves=curves(trainer), details=details))
        print(f"report: {path}")

    # Report ---------------------------------------------------------------------------------------------------------

    def _choose(self, scores: dict[str, ImageScores]):
        """(title, position in the set) of images spread evenly from the best to the worst."""
        images = scores["keyframes"].images
        values = [image["composite/psnr_hole"] for image in images]
        order = sorted((i for i, value in enumerate(values) if not math.isnan(value)), key=lambda i: -values[i])
        count = min(self.samples, len(order))
        places = [i * (len(order) - 1) // max(1, count - 1) for i in range(count)]
        named = {0: "Best", (len(order) - 1) // 2: "Median", len(order) - 1: "Worst"}
        for place in places:
            index = order[place]
            title = named.get(place, f"Rank {place + 1} of {len(order)}")
            yield f"{title}: {images[index]['name']}, hole {images[index]['hole_area']:.0%}", index

    def _sample(self, trainer, pl_module, name, scores, title, index):
        """Predicts one image again: keeping the pictures of all images of a set would not fit into memory."""
        dataset = trainer.datamodule.test[name]
        wanted = scores["keyframes"].images[index]["name"]
        sample = dataset[index]
        if sample["name"] != wanted:  # not the whole set was tested
            sample = next(sample for sample in (dataset[i] for i in range(len(dataset))) if sample["name"] == wanted)
        batch = {key: value.to(pl_module.device) if isinstance(value, torch.Tensor) else value
                 for key, value in collate([sample]).items()}
        data = pl_module.prepare(batch)
        with trainer.precision_plugin.test_step_context():
            prediction = pl_module.predict(data, pl_module.best_generator())
        results = fill(trainer, pl_module, batch, data, prediction)
        captions = {method: f"{METHODS[method]}: {scores[method].images[index]['composite/psnr_hole']:.1f} dB"
                    for method in METHODS}
        return report.Sample(title=title, pictures=pictures(data, results, captions))

    def _facts(self, trainer, pl_module):
        generator = pl_module.generator
        device = torch.cuda.get_device_name(pl_module.device) if pl_module.device.type == "cuda" else "CPU"
        threads = f", {torch.get_num_threads()} threads" if pl_module.device.type == "cpu" else ""
        facts = [
            ("network", type(generator).__name__),
            ("parameters", f"{sum(p.numel() for p in generator.parameters()):,}"),
            ("optimiser steps", f"{trainer.global_step:,}"),
            ("device", f"{trainer.world_size} × {device}{threads}, precision {trainer.precision}"),
        ]
        if self._training_seconds():
            facts.append(("training time", f"{format_duration(self._training_seconds())} with validation"))
        return [*facts, ("folder", str(trainer.default_root_dir))]


def fill(trainer, pl_module, batch, data, prediction) -> dict[str, torch.Tensor]:
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


def flow_note(pl_module) -> str:
    """Whether the flow, and so the network with keyframes and the copy, knew more than there is in real use."""
    if getattr(pl_module.guidance, "mask_images", True):
        return ""
    return ("The flow was estimated from complete photographs, as in the paper; where the holes' content is truly "
            "unknown, expect less of both methods that use it.")


def summary(scores: dict[str, ImageScores]) -> report.Table:
    """Means and standard deviations of the composites, a row a method."""
    totals = {method: score.totals["composite"] for method, score in scores.items()}
    rows = [[METHODS[method], *(f"{total[key]['mean']:.{digits}f} ± {total[key]['std']:.{digits}f}"
                                for key, (_, digits) in COLUMNS.items())] for method, total in totals.items()]
    best = []
    for column, key in enumerate(COLUMNS, start=1):
        means = [total[key]["mean"] for total in totals.values()]
        if not all(map(math.isnan, means)):
            best.append((int(np.nanargmax(means)), column))
    return report.Table(heading=["", *(label for label, _ in COLUMNS.values())], rows=rows, best=best)


def print_table(console: Console, name: str, table: report.Table, scores: dict[str, ImageScores]) -> None:
    count = scores["keyframes"].count
    view = ConsoleTable(title=escape(f"{name}: {count} images, mean ± std"), title_justify="left")
    shown = 3  # what is about the hole; this fits a terminal of 80 columns
    for column, heading in enumerate(table.heading[:shown]):
        view.add_column(heading, justify="right" if column else "left", no_wrap=True)
    for r, row in enumerate(table.rows):
        view.add_row(*(f"[bold]{cell}[/bold]" if (r, c) in table.best else cell for c, cell in enumerate(row[:shown])))
    console.print(view)


def write_json(path: Path, name: str, scores: dict[str, ImageScores]) -> None:
    """Totals and per-image scores of the composites, by method."""
    content = {
        "set": name,
        "count": scores["keyframes"].count,
        "methods": {method: {"label": METHODS[method], **score.totals["composite"]}
                    for method, score in scores.items()},
        "images": [{"name": row[0][1], "hole_area": row[0][2], **{method: values for method, _, _, values in row}}
                   for row in ([(m, *r) for m, r in zip(scores, rows, strict=True)] for rows in _by_image(scores))],
    }
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(_finite(content), indent=1, allow_nan=False) + "\n", encoding="utf-8")


def write_csv(path: Path, scores: dict[str, ImageScores]) -> None:
    """A row an image, a column a method and metric."""
    with atomic_write(path) as temporary, open(temporary, "w", newline="", encoding="utf-8",
                                               errors="surrogateescape") as file:
        writer = None
        for rows in _by_image(scores):
            line = {"name": rows[0][0], "hole_area": rows[0][1]} | {
                f"{method}/{key}": value for method, row in zip(scores, rows, strict=True)
                for key, value in row[2].items()}
            if writer is None:
                writer = csv.DictWriter(file, fieldnames=list(line))
                writer.writeheader()
            writer.writerow(line)


def _by_image(scores: dict[str, ImageScores]):
    """For each image a row per method: (name, hole area, {metric: value})."""
    for images in zip(*(score.images for score in scores.values()), strict=True):
        yield [(image["name"], image["hole_area"],
                {key.removeprefix("composite/"): value for key, value in image.items()
                 if key.startswith("composite/")}) for image in images]


def _finite(value):
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def pictures(data: dict, results: dict[str, torch.Tensor], captions: dict[str, str]):
    """(caption, picture) of the first sample of a batch, from what is given to what comes out of it."""
    image, mask = data["image"][:1], data["mask"][:1]
    sources, source_masks = data["sources"][:1], data["source_masks"][:1]
    aligned, visible = align_keyframes(sources, source_masks, data["inputs"][2][:1])
    truth = _array(image)
    shown = [("target", report.hatch(truth, _array(mask)[..., 0]))]
    for t in range(sources.shape[1]):
        number = f" {t + 1}" if sources.shape[1] > 1 else ""
        shown += [(f"keyframe{number}", report.hatch(_array(sources[:, t]), _array(source_masks[:, t])[..., 0])),
                  (f"keyframe{number}, aligned", report.hatch(_array(aligned[:, t]),
                                                              1 - _array(visible[:, t])[..., 0]))]
    shown.append(("prediction", report.to_uint8(_array(results["keyframes"][:1]))))
    filled = {method: _array(composite(result[:1], image, mask)) for method, result in results.items()}
    shown += [(captions[method], report.to_uint8(picture)) for method, picture in filled.items()]
    return [*shown, ("truth", report.to_uint8(truth)),
            ("error with keyframes (white: 50%)", report.error_map(filled["keyframes"], truth))]


def _array(batch: torch.Tensor) -> np.ndarray:
    """(1, C, H, W) on any device -> float (H, W, C)."""
    return batch[0].float().permute(1, 2, 0).cpu().numpy()


def curves(trainer) -> dict:
    """What the run logged to TensorBoard, before an interruption or after: losses, then scores of validation sets."""
    groups = {"training loss": {}, "validation: PSNR in the hole": {}, "validation: SSIM in the hole": {}}
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.flush()
            for name, curve in report.read_curves(logger.log_dir).items():
                if name.startswith("train/"):
                    groups["training loss"][name.removeprefix("train/")] = curve
                for key in ("psnr", "ssim"):
                    if name.startswith("val/") and name.endswith(f"/{key}_hole") and "/raw/" not in name:
                        groups[f"validation: {key.upper()} in the hole"][name.split("/")[1]] = curve
    return groups
