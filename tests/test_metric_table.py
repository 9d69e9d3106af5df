"""A metric is an entry and a function: one that only this file knows appears everywhere that the others do."""
import csv
import json

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from gi.commands import compare
from gi.config import load_config
from gi.errors import InputError
from gi.main import main
from gi.media.io import write_image
from gi.metrics.functional import IMAGE_METRICS
from gi.metrics.image import ImageMetrics
from gi.metrics.metric import Metric, Network, choose, mode_of, read_measures
from gi.metrics.video import VIDEO_METRICS
from gi.metrics.video_scores import VideoScores
from gi.report.page import Report, Section, render
from gi.report.results import describe, read_results, write_results
from gi.report.scores import bin_table, comparison_table, score_table, video_table
from gi.training.callbacks import check_checkpoint


def largest_error(prediction, image, mask=None):
    error = (prediction - image).abs()
    return (error if mask is None else error * mask).amax(dim=(1, 2, 3))


class Colours(torch.nn.Module):
    dimensions = 3

    def forward(self, images):
        return images.mean(dim=(2, 3))


WORST = Metric("largest error", 3, False, "worst", largest_error, in_hole=True)
COLOUR = Metric("colour distance", 4, False, "colour", lambda a, b: float(np.abs(a - b).mean()), per_set=True,
                network=Network("colours", "tests.test_metric_table.Colours"))
JUMP = Metric("jump", 1, False, "jump", span=3,
              function=lambda f: (f.composite[2:, 0, 0, 0].astype(float) - f.composite[:-2, 0, 0, 0]).tolist())
SETS = ("validation.small", "test.small")
LABELS = ("largest error ↓", "largest error in the hole ↓", "colour distance ↓")


@pytest.fixture
def scores():
    metrics = ImageMetrics(metrics=["l1", "tests.test_metric_table.WORST", COLOUR])
    image = torch.zeros(4, 3, 8, 8)
    prediction, mask = image + torch.tensor([0.1, 0.2, 0.3, 0.4])[:, None, None, None], torch.zeros(4, 1, 8, 8)
    mask[:, :, :4] = 1
    prediction[:, :, 7] = 0.9
    metrics.update(prediction, image, mask, list("abcd"))
    return metrics.compute()


def test_scores(scores):
    totals = scores.totals
    assert totals["composite"]["worst"] == {"mean": pytest.approx(0.25), "std": pytest.approx(0.0125 ** 0.5),
                                            "count": 4}
    assert totals["raw"]["worst"]["mean"] == pytest.approx(0.9)
    assert totals["raw"]["worst_hole"]["mean"] == pytest.approx(0.25)
    assert totals["composite"]["colour"] == pytest.approx(0.125)
    assert [image["composite/worst"] for image in scores.images] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert scores.scalars()["worst_hole"] == pytest.approx(0.25) and "raw/colour" in scores.scalars()
    assert "colour" in scores.bins[5]["raw"]


def test_files_tables_and_pages(scores, tmp_path, run_script):
    result = describe(scores, run="mine", set_name="two")
    write_results(result, tmp_path / "mine.json")
    with open(tmp_path / "mine.csv", newline="") as file:
        assert [float(row["composite/worst"]) for row in csv.DictReader(file)] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    found = json.loads((tmp_path / "mine.json").read_text())
    assert found["measures"]["worst"] == {"label": "largest error", "decimals": 3, "higher": False}
    assert found["totals"]["composite"]["colour"] == pytest.approx(0.125)
    tables = score_table(result), bin_table(result), comparison_table([("mine", result)], "two")
    page = render(Report("title", sections=[Section("two", tables=tables)]))
    for label in LABELS:
        assert page.count(label) == 2 + ("hole" not in label)  # side by side, only what is of the whole image
    assert "<td>0.250 ± 0.112</td>" in page and "<td>0.1250</td>" in page
    # Another program, which does not know the metric, reads how it is shown from the file.
    _, printed = run_script("compare")(tmp_path / "mine.json", tmp_path / "mine.json")
    assert all(label in printed.out for label in LABELS if "hole" not in label)
    assert printed.out.count("0.250 ± 0.112") == 2


def run_of(error, outside, *, shift=0, masks=True):
    """The result of a method with these errors inside and outside of four holes, which `shift` moves down."""
    metrics, image, mask = ImageMetrics(metrics=["psnr", "l1"]), torch.zeros(4, 3, 8, 8), torch.zeros(4, 1, 8, 8)
    mask[:, :, shift:4 + 2 * shift] = 1
    metrics.update(image + error * mask + outside * (1 - mask), image, mask, list("abcd"))
    return describe(metrics.compute(), run="r", set_name="two", metadata={"masks": masks})


def test_tables_are_of_composites_and_mark_the_better_method():
    """Of two methods, one is better in the holes, the other one as a whole."""
    good, bad = run_of(0.1, 0.9), run_of(0.2, 0.0)  # of composites; of raw predictions the other way round
    for results, best in ((good, bad), 0), ((bad, good), 1):
        table = comparison_table([("first", results[0]), ("second", results[1])], "two")
        assert table.heading == ["", "images", "PSNR ↑", "L1 ↓"] and table.title == "two: composites"
        assert table.marks == {(best, 2): "best", (best, 3): "best"} and not table.note
        assert table.rows[best][2:] == ["23.01 ± 0.00", "0.0500 ± 0.0000"]
        assert table.rows[1 - best][2:] == ["16.99 ± 0.00", "0.1000 ± 0.0000"]
    assert bin_table(good).rows == [["50–60%", "4", "23.01", "20.00", "0.0500", "0.1000"]]
    for key, measure in read_measures(good["measures"]).items():
        better, worse = (result["totals"]["composite"][key] for result in (good, bad))
        assert measure.difference(better, worse)[1] == "better" and measure.difference(worse, better)[1] == "worse"


def test_results_of_different_images_have_no_best():
    table = comparison_table([("first", run_of(0.1, 0)), ("second", run_of(0.2, 0, shift=1))], "two")
    assert not table.marks and "of different images" in table.note


def test_composites_do_not_stand_beside_whole_images(tmp_path, capsys):
    for name, masks in ("with", True), ("without", False):
        write_results(run_of(0.1, 0.1, masks=masks), tmp_path / f"{name}.json")
    with pytest.raises(InputError, match=r"without.json: has scores of whole images, .* with --masks"):
        compare.main([str(tmp_path / "with.json"), str(tmp_path / "without.json")])
    assert not capsys.readouterr().out
    compare.main(2 * [str(tmp_path / "without.json")])
    assert "two: whole images" in capsys.readouterr().out


def test_a_run_with_a_metric_of_ones_own(tmp_path, root, capsys):
    folder = tmp_path / "photographs"
    for i in range(2):
        write_image(folder / f"{i}.png", np.random.default_rng(i).integers(0, 256, (40, 40, 3), np.uint8))
    words = [f"--base={root / 'tests' / 'tiny.yaml'}", f"--logdir={tmp_path / 'logs'}", "--max_steps=1",
             *(f"data.params.{part}.params.images.params.root={folder}" for part in ("train", *SETS)),
             *(f"data.params.{part}.params.length=2" for part in SETS),
             "model.params.metrics.params.metrics=[psnr,tests.test_metric_table.WORST]",
             "lightning.callbacks.report.target=gi.training.evaluation.EvaluationReport"]
    results = main(words)
    (run,) = (tmp_path / "logs").iterdir()
    mean = results["small"].totals["composite"]["worst"]["mean"]
    for text in capsys.readouterr().out, (run / "report.html").read_text():
        assert "largest error" in text and f"{mean:.3f} ± " in text
    comparison = json.loads((run / "metrics" / "comparison" / "small.json").read_text())
    assert comparison["methods"]["keyframes"]["worst"]["mean"] == pytest.approx(mean)
    assert read_results(run / "metrics" / "small.json")["measures"]["worst_hole"]["higher"] is False


def test_videos(tmp_path):
    scores = VideoScores(metrics=["psnr", JUMP])
    hole, black = np.ones((16, 16), np.uint8), np.zeros((16, 16, 3), np.uint8)
    for name, levels in ("long", np.square(np.arange(15))), ("short", (0, 5)):
        scores.update(name, [(black, hole, black + np.uint8(level)) for level in levels])
    result = {"run": "r", "set": "s", **scores.compute()}
    # Three frames in a row; the short video is held at its last frame.
    assert [video["jump"] for video in result["videos"]] == [np.mean([(t + 2) ** 2 - t ** 2 for t in range(13)]), 5]
    write_results(result, tmp_path / "results.json")
    assert "jump" in (tmp_path / "results.csv").read_text().splitlines()[0]
    for table in score_table(result), video_table(result):
        assert "jump ↓" in [*table.heading, *(row[0] for row in table.rows)]


def test_mistakes_are_named():
    for wanted, message in (
        (["psnrr"], "there is no 'psnrr'.*did you mean psnr"), ([], "at least one of"),
        (["lpips_fid_f1"], "there is no 'lpips_fid_f1'"),
        (["tests.test_metric_table.WORTS"], "did you mean tests.test_metric_table.WORST"),
        (["tests.test_metric_table.largest_error"], "expected a gi.metrics.metric.Metric"),
        ([Metric("x", 1, True, "psnr", largest_error)], "two metrics 'psnr'"),
        (["psnr", WORST, Metric("x", 1, True, "worst", largest_error)], "two metrics 'worst'"),
    ):
        with pytest.raises(InputError, match=message) as error:
            choose(wanted, IMAGE_METRICS)
        assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="whole is of a whole set, expected a network"):
        ImageMetrics(metrics=[Metric("x", 1, True, "whole", largest_error, per_set=True)])
    image = torch.rand(2, 3, 8, 8)
    for function in (lambda a, b: (a - b).mean(), lambda a, b: a - b, lambda a, b: [1.0, 2.0]):
        metrics = ImageMetrics(metrics=[Metric("x", 1, True, "own", function)])
        with pytest.raises(InputError, match="^metric own: gave .*, expected a score an image"):
            metrics.update(prediction=image, image=image, mask=image[:, :1].round(), names=["a", "b"])
    with pytest.raises(InputError, match="no parameter metircs; did you mean metrics"):
        ImageMetrics(metircs=["psnr"])


def test_a_checkpoint_is_the_best_of_a_score_there_is_and_stays_in_the_run(root, tmp_path):
    chosen = choose(["psnr", "fid", WORST], IMAGE_METRICS)
    assert [mode_of(f"val/two/{key}", chosen) for key in ("psnr_hole", "raw/fid", "worst", "train/l1")] == [
        "max", "min", "min", None]

    def check(monitor="val/two/fid", mode="min", place="checkpoints", **options):
        checkpoint = pl.callbacks.ModelCheckpoint(tmp_path / place, monitor=monitor, mode=mode, **options)
        check_checkpoint(checkpoint, tmp_path, ["two"], chosen)

    check()
    for name in "sub/best-{step}", "{epoch:02d}-{val/a+b/fid:.3f}", "{val/Places (256)/lpips:+.2%}":
        check("train/l1", filename=name)
    for options, message in (
        ({"monitor": "val/two/psnr_hole"}, "monitor val/two/psnr_hole has mode min, expected max"),
        ({"monitor": "val/two/psnr_hold"}, "no validation gives val/two/psnr_hold; did you mean val/two/psnr_hole"),
        ({"monitor": "val/four/fid"}, "no validation gives val/four/fid"),
        ({"place": "../elsewhere"}, "would write to .*elsewhere, expected a place below the folder of the run"),
        ({"filename": "../../x/{step}"}, "would write to .*x/.step., expected a place below the folder of the run"),
    ):
        with pytest.raises(InputError, match=message):
            check(**options)
    for path in (root / "configs").glob("*.yaml"):
        best = load_config(path).lightning.callbacks.best.params
        assert mode_of(best.monitor, IMAGE_METRICS.values()) == best.mode, path.stem


def test_tables_are_whole():
    for known in IMAGE_METRICS, VIDEO_METRICS:
        for name, metric in known.items():
            assert metric.name == name and metric.label and (not metric.per_set or metric.network)
