"""What a test leaves: a report that agrees with the scores, and predictions as files, by any number of processes."""
import base64
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from gi.config import instantiate, load_config
from gi.errors import InputError
from gi.main import main
from gi.media.io import read_image, read_mask
from gi.metrics.folder import build_metrics, find_pairs, score_pairs
from gi.metrics.image import ImageScores
from gi.report.paper import TABLES
from gi.report.results import expect_apart, read_results
from gi.training.evaluation import EvaluationReport, choose, panels
from gi.training.predictions import prediction_path, write_predictions

ROOT = Path(__file__).resolve().parents[1]
NAMES = ["000000", "000001", "deep/er/image ü", "deep/000000", "last"]


@pytest.fixture(scope="module")
def truth(tmp_path_factory):
    """A set in the original release's naming, with two keyframes a sample."""
    folder, random = tmp_path_factory.mktemp("truth"), np.random.default_rng(0)
    for place, name in enumerate(NAMES):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path = path.with_name(f"image_{path.name}")
        coarse = Image.fromarray(random.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        picture = coarse.resize((32, 32), Image.BICUBIC)
        mask = np.zeros((32, 32), np.uint8)
        mask[4:8 + 4 * place, 4:28] = 255
        for part, shift in (("", 0), ("_src_000000", 1), ("_src_000001", 2)):
            Image.fromarray(np.roll(picture, shift, axis=1)).save(f"{path}{part}.png")
            Image.fromarray(np.roll(mask, shift, axis=0)).save(f"{path}{part}_m{'' if part else 'ask'}.png")
    return folder


@pytest.fixture(scope="module")
def trained(truth, tmp_path_factory):
    """(folder of a tiny run with a report, its configuration, what main returned)."""
    folder = tmp_path_factory.mktemp("run")
    config = yaml.safe_load((ROOT / "tests" / "tiny.yaml").read_text())
    config["data"]["params"]["train"]["params"] |= {
        "margin": 0, "images": {"target": "gi.data.sources.FolderTree", "params": {"root": str(truth)}}}
    config["data"]["params"] |= {"validation": {}, "test": {
        name: {"target": "gi.data.validation.GuidedFolder", "params": {"root": str(truth), "n_sources": count}}
        for name, count in (("two", 2), ("nothing", 0))}}
    config["lightning"]["callbacks"]["report"] = {
        "target": "gi.training.evaluation.EvaluationReport", "params": {"baselines": False, "save_predictions": True}}
    config["paper"] = {"row": "ours", "tables": {"two": 4}}
    (folder / "ours.yaml").write_text(yaml.safe_dump(config))
    results = main([f"--base={folder / 'ours.yaml'}", f"--logdir={folder / 'logs'}", "--max_steps=2", "--name=try",
                    "--log_every_n_steps=1"])
    (run,) = (folder / "logs").iterdir()
    return run, folder / "ours.yaml", results


def images_in(text):
    return [base64.b64decode(content) for content in re.findall(r'src="data:image/png;base64,([^"]*)"', text)]


def test_report_agrees_with_the_scores(trained):
    run, _, results = trained
    text = (run / "report.html").read_text()
    for name, frames in ("two", 2), ("nothing", 0):
        section = text[text.index(f"Test set “{name}”: 5 images"):].partition("<h2>")[0]
        totals = results[name].totals
        for view in "composite", "raw":
            for key, decimals in ("psnr", 2), ("ssim_hole", 3):
                score = totals[view][key]
                assert f"<td>{score['mean']:.{decimals}f} ± {score['std']:.{decimals}f}</td>" in section
        assert ("(paper, table 4)" in section) == ("expect less of what uses it" in section) == (name == "two")
        tenths = re.findall(r"<tr><td>(\d+–\d+%)</td><td>(\d+)</td>", section)
        assert tenths == [(entry["range"].replace("-", "–"), str(entry["count"]))
                          for entry in results[name].bins if entry["count"]]
        assert section.count('class="plot"') == 1
        # Target, keyframes and aligned keyframes, prediction, composite, truth, error.
        assert section.count("<figure>") == 3 * (5 + 2 * frames)
        values = {image["name"]: image["composite/psnr_hole"] for image in results[name].images}
        ranked = sorted(values, key=values.get, reverse=True)
        shown = re.findall(r"<h3>(\w+): (.+?), hole (\d+)%, PSNR in the hole ([\d.]+)</h3>", section)
        assert [(title, image) for title, image, _, _ in shown] == [
            ("Best", ranked[0]), ("Median", ranked[2]), ("Worst", ranked[-1])]
        assert [score for *_, score in shown] == [f"{values[image]:.2f}" for _, image, _, _ in shown]
    difference = totals_difference(results["two"])
    mark = "better" if float(difference) > 0 else "worse"
    assert f'<td class="{mark}">{difference}</td>' in text
    assert "optimiser steps</dt><dd>2<" in text and "<h2>Training</h2>" in text
    assert not (run / "metrics" / "comparison").exists()
    assert read_results(run / "metrics" / "two.json")["run"] == "ours"


def totals_difference(scores):
    return f"{scores.totals['composite']['ssim']['mean'] - TABLES[4]['rows']['ours']['ssim']['mean']:+.3f}"


def test_report_shows_the_configuration_of_the_test(trained, tmp_path):
    run, *_ = trained
    shutil.copytree(run, tmp_path / "run")
    main(["-r", str(tmp_path / "run"), "--train=false", "data.params.test.nothing.params.n_sources=1"])
    shown = (tmp_path / "run" / "report.html").read_text().partition("<summary>Configuration")[2]
    assert "n_sources: 1" in shown and "n_sources: 0" not in shown
    assert "n_sources: 0" in (tmp_path / "run" / "configs" / "config.yaml").read_text()


def test_sets_whose_files_would_have_one_name():
    expect_apart(["a", "b", "a"])
    with pytest.raises(InputError, match="sets 'a b' and 'a_b': expected names that differ"):
        expect_apart(["a b", "c", "a_b"])


def test_pictures_are_those_of_the_image(trained, truth):
    """Of the best image of the set without keyframes: its truth, and a composite that scores as the title says."""
    run, _, results = trained
    _, name, _ = choose(results["nothing"], 3)[0]
    section = (run / "report.html").read_text().partition("Test set “nothing”")[2]
    (run / "shown.png").write_bytes(images_in(section)[3])
    assert (read_image(run / "shown.png") == read_image(truth_path(truth, name))).all()
    (run / "shown.png").write_bytes(images_in(section)[2])
    assert (read_image(run / "shown.png") == read_image(prediction_path(run / "predictions" / "nothing", name))).all()
    (run / "shown.png").unlink()


def truth_path(truth, name, part=""):
    path = truth / name
    return path.with_name(f"image_{path.name}{part}.png")


def test_predictions_keep_known_pixels_and_score_as_reported(trained, truth):
    run, _, results = trained
    for name in "two", "nothing":
        pairs, problems = find_pairs(truth, run / "predictions" / name, truth)
        assert not problems and len(pairs) == len(NAMES)
        scores, _ = score_pairs(pairs, build_metrics(["ssim", "psnr"]))
        for view in scores.totals.values():  # known pixels are kept, so that both views are the composite
            for key, total in view.items():
                assert total["mean"] == pytest.approx(results[name].totals["composite"][key]["mean"], rel=5e-3)
        for image in NAMES:
            known = read_mask(truth_path(truth, image, "_mask")) == 0
            predicted = read_image(prediction_path(run / "predictions" / name, image))
            assert (predicted[known] == read_image(truth_path(truth, image))[known]).all()


def test_an_evaluation_leaves_the_same(trained, tmp_path, capfd):
    """Without a training before it."""
    run, config, results = trained
    words = [f"--base={config}", "--train=false", f"--resume_from_checkpoint={run / 'checkpoints' / 'last.ckpt'}",
             f"--logdir={tmp_path}", "--devices=1"]
    main(words)
    printed, (folder,) = capfd.readouterr().out, tmp_path.iterdir()
    assert printed.rstrip().endswith(f"report: {folder / 'report.html'}")
    assert [printed.count(f"ours on {name}: 5 images") for name in ("two", "nothing")] == [1, 1]
    for name in "two", "nothing":
        found = read_results(folder / "metrics" / f"{name}.json")
        assert [image["name"] for image in found["images"]] == sorted(NAMES)
        assert found["step"] == read_results(run / "metrics" / f"{name}.json")["step"] > 0  # the checkpoint says it
        for mine, other in zip(results[name].images, found["images"], strict=True):
            assert other == pytest.approx(mine, abs=2e-3)
        for image in NAMES:
            mine, other = (read_image(prediction_path(place / "predictions" / name, image)) for place in (run, folder))
            assert np.abs(mine.astype(int) - other).max() <= 1
    first, second = ((place / "report.html").read_text() for place in (run, folder))
    assert "<h2>Training</h2>" not in second and "optimiser steps" not in second
    assert f"checkpoint</dt><dd>{run / 'checkpoints' / 'last.ckpt'}<" in second
    assert re.findall("<h3>.*</h3>", second) == re.findall("<h3>.*</h3>", first)
    assert not [path for path in folder.rglob("*") if ".tmp" in path.name]


def test_nothing_to_score_still_gives_a_report(trained, tmp_path):
    run, config, _ = trained
    main([f"--base={config}", "--train=false", f"--resume_from_checkpoint={run / 'checkpoints' / 'last.ckpt'}",
          f"--logdir={tmp_path}", "model.params.metrics=null",
          "lightning.callbacks.report.params.save_predictions=false"])
    (folder,) = tmp_path.iterdir()
    assert "Not scored" in (folder / "report.html").read_text() and not (folder / "predictions").exists()
    with pytest.raises(InputError, match="samples"):
        main([f"--base={config}", f"--logdir={tmp_path}", "lightning.callbacks.report.params.samples=-1"])


# Parts ----------------------------------------------------------------------------------------------------------------

def test_files_of_predictions_stay_inside_and_apart(tmp_path):
    names = ["a", "a.png", "a.png/b", "a%2Epng/b", "../a", "..", ".", "", "/", "/etc/passwd", "//a", "a/", "a\\b",
             "a:b", "a\0b", "caf\udce9", "café", ".hidden", "%2Ehidden", "a\nb", "x" * 300, "x" * 301, "ü" * 200 + "/a",
             "CON", "a/../../b", "~", "$HOME", "a*?b", "<b>"]
    paths = [prediction_path(tmp_path / "p", name) for name in names]
    assert len(set(paths)) == len(names)
    write_predictions(tmp_path / "p", names, torch.rand(len(names), 3, 4, 4))
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(written) == sorted(paths)
    assert all(path.resolve().is_relative_to(tmp_path / "p") for path in paths)
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".")]
    assert prediction_path("p", "deep/er/image ü 1.jpg") == Path("p/deep/er/image ü 1.jpg.png")


def scores(**values):
    (count,) = {len(column) for column in values.values()}
    arrays = {(view, key): np.array(column, dtype=float) for view in ("composite", "raw")
              for key, column in values.items()}
    return ImageScores(names=[f"{i}" for i in range(count)], hole=np.arange(count) * 7, pixels=np.full(count, 100),
                       scores=arrays, features=None)


def test_best_median_and_worst():
    some = scores(psnr_hole=[math.nan, 20, math.inf, 10, 30, 25], lpips=[0] * 6)
    chosen = choose(some, 3)
    assert [name for _, name, _ in chosen] == ["2", "5", "3"]
    assert [title.partition(":")[0] for title, _, _ in chosen] == ["Best", "Median", "Worst"]
    assert chosen[1][0] == "Median: 5, hole 35%, PSNR in the hole 25.00"
    assert [title.partition(":")[0] for title, _, _ in choose(some, 5)] == ["Best", "Rank 2 of 5", "Median",
                                                                           "Rank 4 of 5", "Worst"]
    assert [name for _, name, _ in choose(scores(lpips=[0.3, 0.1, 0.2]), 2)] == ["1", "0"]  # the lower the better
    assert len(choose(scores(psnr_hole=[1]), 3)) == 1 and choose(scores(psnr_hole=[math.nan]), 3) == []
    assert choose(scores(psnr_hole=[]), 3) == [] and choose(some, 0) == []


def test_means_of_tenths_in_the_plot():
    values = [1.0, 3.0, 5.0, 7.0]  # holes of 0, 7, 14 and 21 per cent
    (title, panel), *others = panels(scores(lpips=values), {}).items()
    assert title.startswith("LPIPS") and not others
    assert panel.images == ([0.0, 0.07, 0.14, 0.21], values)
    assert panel.lines == {"mean of a tenth": (pytest.approx([0.05, 0.15, 0.25]), [2.0, 5.0, 7.0])}
    assert list(panels(scores(l1=values), {})) == ["L1 ↓"]


def test_every_config_leaves_a_report_and_no_pictures_unless_asked():
    for path in (ROOT / "configs").glob("*.yaml"):
        node = load_config(path).lightning.callbacks.report
        report = instantiate(node, "report")
        assert isinstance(report, EvaluationReport) and not report.save_predictions
        assert report.baselines == (path.stem == "demo")
