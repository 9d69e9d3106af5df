"""The report of a test: report.html, predictions as files, and the comparison with simpler ways to fill holes."""
import math
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_warn

from gi.compositing import composite
from gi.data.datamodule import collate
from gi.errors import InputError, expect_at_least
from gi.flow.align import align_keyframes
from gi.flow.estimate import ZeroFlow
from gi.flow.guidance import FlowGuidance
from gi.metrics.functional import IMAGE_METRICS
from gi.metrics.image import ImageMetrics, ImageScores
from gi.metrics.metric import Measure, foremost, measures
from gi.report.page import Report, Sample, Section, write_report
from gi.report.paper import Row
from gi.report.pictures import error_map, hatch, to_uint8
from gi.report.plots import Panel, read_curves
from gi.report.results import describe, file_name
from gi.report.scores import bin_table, score_table
from gi.report.tables import print_table
from gi.training.callbacks import format_duration
from gi.training.comparison import METHODS, comparison_rows, fill_holes, write_comparison
from gi.training.predictions import write_predictions

RANKING = "psnr_hole"  # the score that images are ranked by; if it was not measured, the first score of single images


class EvaluationReport(pl.Callback):
    """Makes report.html of every test, one file with tables, plots and pictures of all test sets.

    Args:
        samples: pictures in the report, for each set: spread evenly from the best to the worst image, so that 3 are the
            best, the median and the worst by PSNR in the hole (see `RANKING`).
        baselines: also score the other ways to fill holes of `gi.training.comparison`. The table of all goes to the
            console and the report, all scores to metrics/comparison/<set>.json and .csv. List the callback after the
            progress bar, so that the tables follow it.
        save_predictions: write all composites to predictions/<set>/<name>.png, see `prediction_path`.

    Attributes:
        run, paper, metadata: as for `report_results`; without `run`, the name of the run's folder.
        config: the configuration of the test, as text.
    """

    def __init__(self, *, samples: int = 3, baselines: bool = True, save_predictions: bool = False):
        expect_at_least(0, samples=samples)
        self.samples, self.baselines, self.save_predictions = samples, baselines, save_predictions
        self.run: str | None = None
        self.paper: Mapping[str, Row] = {}
        self.metadata: Mapping = {}
        self.config: str | None = None
        self._seconds = 0.0
        self._start: float | None = None

    # Time of the training, over interruptions -------------------------------------------------------------------------

    def on_train_start(self, trainer, pl_module) -> None:
        self._start = time.monotonic()

    def on_train_end(self, trainer, pl_module) -> None:
        self._seconds, self._start = self._training_seconds(), None

    def state_dict(self) -> dict[str, float]:
        return {"training_seconds": self._training_seconds()}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        self._seconds = float(state_dict.get("training_seconds", 0.0))

    def _training_seconds(self):
        return self._seconds + (time.monotonic() - self._start if self._start is not None else 0.0)

    # Test -------------------------------------------------------------------------------------------------------------

    def on_test_epoch_start(self, trainer, pl_module) -> None:
        names = trainer.datamodule.test_names
        self._positions, self._frames, self._compared = {name: {} for name in names}, dict.fromkeys(names, 0), {}
        free = [metric for metric in dict.fromkeys((*IMAGE_METRICS.values(), *pl_module.measured))
                if metric.network is None and not metric.of]
        self._metrics = {name: {method: ImageMetrics(metrics=free).to(pl_module.device) for method in METHODS}
                         for name in names if self.baselines}

    @torch.no_grad()
    def on_test_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0) -> None:
        name = trainer.datamodule.test_names[dataloader_idx]
        data, prediction, names = outputs["data"], outputs["prediction"], batch["name"]
        # Samples of a set alternate between processes, as the data module distributes them.
        first = batch_idx * trainer.datamodule.eval_batch_size
        self._positions[name] |= {image: trainer.global_rank + trainer.world_size * (first + i)
                                  for i, image in enumerate(names)}
        self._frames[name] = max(self._frames[name], data["sources"].shape[1])
        if self.save_predictions:
            write_predictions(Path(trainer.default_root_dir) / "predictions" / file_name(name), names,
                              composite(prediction, data["image"], data["mask"]))
        if self.baselines:
            for method, result in fill_holes(trainer, pl_module, batch, data, prediction).items():
                self._metrics[name][method].update(result, data["image"], data["mask"], names)

    def on_test_epoch_end(self, trainer, pl_module) -> None:
        # Every process takes part in gathering; only the first one goes on from there.
        self._compared = {name: {method: metric.compute() for method, metric in metrics.items()}
                          for name, metrics in self._metrics.items()}
        self._metrics = {}
        if trainer.world_size > 1:
            shares = [None] * trainer.world_size
            torch.distributed.all_gather_object(shares, self._positions)
            self._positions = {name: {image: place for share in shares for image, place in share[name].items()}
                               for name in self._positions}

    @torch.no_grad()
    def on_test_end(self, trainer, pl_module) -> None:
        if not trainer.is_global_zero:
            return
        folder = Path(trainer.default_root_dir)
        for name, scores in self._compared.items():
            write_comparison(folder / "metrics" / "comparison" / f"{file_name(name)}.json", name, scores)
            print_table(comparison_rows(name, scores, short=True))
        write_report(self.path(trainer), Report(
            title=f"Guided inpainting: {folder.name}", facts=self._facts(trainer, pl_module),
            sections=[self._section(trainer, pl_module, name) for name in trainer.datamodule.test_names],
            curves=curves(trainer, measures(pl_module.measured)),
            details=[("Configuration", self.config)] if self.config else []))

    @staticmethod
    def path(trainer: pl.Trainer) -> Path:
        """The report of a run."""
        return Path(trainer.default_root_dir) / "report.html"

    # Report -----------------------------------------------------------------------------------------------------------

    def _section(self, trainer, pl_module, name):
        compared = self._compared.get(name, {})
        scores = pl_module.results.get(name) or compared.get("keyframes")
        title = f"Test set “{name}”"
        if scores is None:
            return Section(title=title, text="Not scored: the configuration has no metrics.")
        result = describe(scores, run=self.run or Path(trainer.default_root_dir).name, set_name=name,
                          paper=self.paper.get(name))
        tables = [comparison_rows(name, compared)] if compared else []
        return Section(
            title=f"{title}: {scores.count:,} image{'' if scores.count == 1 else 's'}",
            text=_notes(bool(compared), self._frames[name] > 0 and _sees_holes(pl_module.guidance)),
            tables=[*tables, score_table(result), bin_table(result)],
            panels=panels(scores, compared),
            samples=[self._sample(trainer, pl_module, name, compared, *choice)
                     for choice in choose(scores, self.samples)])

    def _sample(self, trainer, pl_module, name, compared, title, image, score):
        """Predicts one image again: keeping the pictures of all images of a set would not fit into memory."""
        sample = trainer.datamodule.test[name][self._positions[name][image]]
        batch = pl_module.transfer_batch_to_device(collate([sample]), pl_module.device, 0)
        data = pl_module.prepare(batch)
        with trainer.precision_plugin.test_step_context():
            prediction = pl_module.predict(data, pl_module.best_generator())
        filled = {f"composite: {score}": prediction}
        if compared:
            index = [row["name"] for row in compared["keyframes"].images].index(image)
            filled = {f"{METHODS[method]}: {compared[method].images[index]['composite/psnr_hole']:.1f} dB": result
                      for method, result in fill_holes(trainer, pl_module, batch, data, prediction).items()}
        return Sample(title=title, pictures=pictures(data, prediction, filled))

    def _facts(self, trainer, pl_module):
        generator, kind, seconds = pl_module.generator, pl_module.device.type, self._training_seconds()
        device = torch.cuda.get_device_name(pl_module.device) if kind == "cuda" else kind.upper()
        threads = f", {torch.get_num_threads()} threads" if kind == "cpu" else ""
        facts = {
            "network": type(generator).__name__,
            "parameters": f"{sum(p.numel() for p in generator.parameters()):,}",
            "checkpoint": self.metadata.get("checkpoint"),
            "optimiser steps": f"{trainer.global_step:,}" if trainer.global_step else None,
            "training time": f"{format_duration(seconds)} with validation" if seconds else None,
            "device": f"{trainer.world_size} × {device}{threads}, precision {trainer.precision}",
            "folder": trainer.default_root_dir,
        }
        return [(name, str(value)) for name, value in facts.items() if value is not None]


def _sees_holes(guidance):
    """Whether flow was estimated with the content of the holes."""
    zero = isinstance(guidance, FlowGuidance) and isinstance(guidance.estimator, ZeroFlow)
    return not zero and not guidance.mask_images


def _notes(compared, sees_holes):
    text = ("Mean ± standard deviation over the images. In a composite the known pixels are kept, the raw prediction "
            "is all of the network's output. Stripes in pictures mark what is missing.")
    if compared:
        text += " Bold: best mean. “Without them” is the same weights, not a network trained for that."
    if sees_holes:
        text += (" The flow was estimated from complete photographs, as in the paper; where the holes' content is "
                 "truly unknown, expect less of what uses it.")
    return text


def choose(scores: ImageScores, count: int) -> list[tuple[str, str, str]]:
    """(title, name, score) of images spread evenly from the best to the worst."""
    measured = [key for key in scores.measures if isinstance(scores.totals["composite"][key], Mapping)]
    if not measured:
        return []
    key = RANKING if RANKING in measured else measured[0]
    measure, column = scores.measures[key], f"composite/{key}"
    images = sorted((image for image in scores.images if not math.isnan(image[column])),
                    key=lambda image: image[column], reverse=measure.higher)
    last, count = len(images) - 1, min(count, len(images))
    titles = {last // 2: "Median", last: "Worst", 0: "Best"}
    chosen = []
    for place in (i * last // max(1, count - 1) for i in range(count)):
        image, title = images[place], titles.get(place, f"Rank {place + 1} of {len(images)}")
        score = f"{measure.label} {measure.text(image[column])}"
        chosen.append((f"{title}: {image['name']}, hole {image['hole_area']:.0%}, {score}", image["name"], score))
    return chosen


def panels(scores: ImageScores, compared: Mapping[str, ImageScores]) -> dict[str, Panel]:
    """Scores of the composites against hole area, with the means of every tenth, of every method compared."""
    lines = {METHODS[method]: score for method, score in compared.items()} or {"mean of a tenth": scores}
    return {
        measure.heading: Panel(
            images=([image["hole_area"] for image in scores.images],
                    [image[f"composite/{key}"] for image in scores.images]),
            lines={label: _bin_means(score, key) for label, score in lines.items()
                   if key in score.totals["composite"]})
        for key, measure in foremost(scores.measures).items() if f"composite/{key}" in (scores.images or [{}])[0]}


def _bin_means(scores, key):
    means = {0.1 * i + 0.05: entry["composite"][key]["mean"] for i, entry in enumerate(scores.bins) if entry["count"]}
    return list(means), list(means.values())


def pictures(data: dict, prediction: torch.Tensor, filled: Mapping[str, torch.Tensor]) -> list[tuple[str, np.ndarray]]:
    """(caption, picture) of the first sample of a batch. `filled` are predictions by caption, to show as composites."""
    image, mask = data["image"][:1], data["mask"][:1]
    sources, source_masks = data["sources"][:1], data["source_masks"][:1]
    aligned, visible = align_keyframes(sources, source_masks, data["inputs"][2][:1])
    truth = _array(image)
    captioned = [("target", hatch(truth, _array(mask)[..., 0]))]
    for t in range(sources.shape[1]):
        number = f" {t + 1}" if sources.shape[1] > 1 else ""
        captioned += [(f"keyframe{number}", hatch(_array(sources[:, t]), _array(source_masks[:, t])[..., 0])),
                      (f"keyframe{number}, aligned", hatch(_array(aligned[:, t]), 1 - _array(visible[:, t])[..., 0]))]
    composites = {caption: _array(composite(result[:1], image, mask)) for caption, result in filled.items()}
    return [*captioned, ("prediction", to_uint8(_array(prediction[:1]))),
            *((caption, to_uint8(picture)) for caption, picture in composites.items()),
            ("truth", to_uint8(truth)),
            ("error of the composite (white: 50%)", error_map(next(iter(composites.values())), truth))]


def _array(batch):
    """(1, C, H, W) on any device -> float (H, W, C)."""
    return batch[0].float().permute(1, 2, 0).cpu().numpy()


def curves(trainer: pl.Trainer, measured: Mapping[str, Measure]) -> dict:
    """What the run logged to TensorBoard, before an interruption or after: losses, then scores of validation sets."""
    titles = {key: f"validation: {measure.heading}" for key, measure in foremost(measured).items()}
    groups = {"training loss": {}} | {title: {} for title in titles.values()}
    for logger in (logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)):
        logger.experiment.flush()
        try:
            logged = read_curves(logger.log_dir)
        except InputError as error:  # no reason to lose the rest of the report
            rank_zero_warn(str(error))
            continue
        for name, curve in logged.items():
            stage, _, rest = name.partition("/")
            set_name, _, key = rest.rpartition("/")
            if stage == "train":
                groups["training loss"][rest] = curve
            elif stage == "val" and key in titles and not set_name.endswith("/raw"):
                groups[titles[key]][set_name] = curve
    return groups
