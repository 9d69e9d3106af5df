"""The demo with a few tiny steps: what it leaves behind, and that its numbers are right."""
import csv
import json
import re
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio

from gi import Inpainter
from gi.compositing import composite, masked
from gi.config import instantiate, load_config
from gi.data.datamodule import collate
from gi.data.stereo import StereoPair
from gi.errors import InputError
from gi.main import main
from gi.media.io import read_image
from gi.metrics.functional import psnr, ssim
from gi.models.classical import copy_keyframe, opencv_inpaint
from gi.report.results import read_run
from gi.training.comparison import METHODS
from gi.training.evaluation import EvaluationReport
from gi.weights.checkpoint import load_generator
from tools.demo import scenes, shipped, trained
from tools.demo.__main__ import main as show

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "configs" / "demo.yaml"
SIZES = {"train": 16, "validation.validation": 2, "test.held_out": 5, "test.stereo": 3}
OVERRIDES = [
    "--max_steps=4", "--val_check_interval=2", "--log_every_n_steps=1",
    "--enable_model_summary=false", "--accelerator=cpu", "data.params.num_workers=0", "data.params.batch_size=2",
    "data.params.eval_batch_size=2", "model.params.generator.params.ngf=8",
    *(f"data.params.{name}.params.size=32" for name in SIZES),
    *(f"data.params.{name}.params.length={length}" for name, length in SIZES.items()),
]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """(folder of a tiny demo run, what main returned)."""
    logs = tmp_path_factory.mktemp("logs")
    results = main([f"--base={DEMO}", f"--logdir={logs}", "--devices=1", *OVERRIDES])
    (folder,) = logs.iterdir()
    return folder, results


def comparison(folder, name):
    def refuse(word):
        raise ValueError(word)  # NaN and Infinity are no JSON
    return json.loads((folder / "metrics" / "comparison" / f"{name}.json").read_text(), parse_constant=refuse)


def test_it_leaves_checkpoints_pictures_numbers_and_a_report(demo):
    folder, results = demo
    assert set(results) == {"held_out", "stereo"}
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {"report.html", "configs/config.yaml", "checkpoints/last.ckpt"} <= files
    assert {f"metrics/{part}{name}.{kind}" for name in results for kind in ("json", "csv")
            for part in ("", "comparison/")} <= files
    assert [result["set"] for result in read_run(folder)] == ["held_out", "stereo"]  # a comparison is no result
    assert not [name for name in files if ".tmp" in name]
    report = (folder / "report.html").read_text()
    assert report.count("<figure>") == 3 * (12 + 10) and "image/svg+xml" in report  # two keyframes, and one
    for label in METHODS.values():
        assert label in report
    assert "optimiser steps</dt><dd>4<" in report and "training time" in report


@pytest.mark.parametrize("name", ["held_out", "stereo"])
def test_numbers_agree_with_each_other(demo, name):
    folder, results = demo
    content = comparison(folder, name)
    assert content["set"] == name and content["count"] == len(content["images"]) == SIZES[f"test.{name}"]
    assert list(content["methods"]) == list(METHODS)
    for method, total in content["methods"].items():
        for key in "psnr_hole", "ssim_hole", "psnr", "ssim", "l1_hole":
            values = [image[method][key] for image in content["images"]]
            assert total[key]["mean"] == pytest.approx(np.mean(values))
            assert total[key]["std"] == pytest.approx(np.std(values), abs=1e-9)
            printed = f"{total[key]['mean']:.2f} ± {total[key]['std']:.2f}"
            assert not key.startswith("psnr") or printed in (folder / "report.html").read_text()
    mine = results[name].totals["composite"]  # the module's own metric saw the same predictions
    for key, total in mine.items():
        assert content["methods"]["keyframes"][key] == pytest.approx(total)
    with open(folder / "metrics" / "comparison" / f"{name}.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for row, image in zip(rows, content["images"], strict=True):
        assert row["name"] == image["name"] and float(row["hole_area"]) == image["hole_area"]
        assert float(row["copy/psnr_hole"]) == image["copy"]["psnr_hole"]


@pytest.mark.parametrize("name, index", [("held_out", 3), ("stereo", 2)])
def test_one_image_recomputed(demo, name, index):
    folder, _ = demo
    config = load_config(folder / "configs" / "config.yaml")
    sample = collate([instantiate(config.data.params.test[name], "set")[index]])
    image, sources = sample["image"].float() / 255, sample["sources"].float() / 255
    mask, source_masks = sample["mask"].float(), sample["source_masks"].float()
    flows, errors = instantiate(config.model.params.guidance, "guidance")(image, mask, sources, source_masks)
    generator = load_generator(folder / "configs" / "config.yaml", folder / "checkpoints" / "last.ckpt")
    inputs = masked(sources, source_masks), flows, errors
    with torch.no_grad():
        results = {
            "keyframes": generator(masked(image, mask), *inputs),
            "no_keyframes": generator(masked(image, mask), *(x[:, :0] for x in inputs)),
            "copy": copy_keyframe(image, mask, sources, source_masks, flows, errors),
            "inpaint": opencv_inpaint(image, mask),
        }
    (stored,) = [image for image in comparison(folder, name)["images"] if image["name"] == sample["name"][0]]
    assert stored["hole_area"] == pytest.approx(mask.mean().item())
    for method, result in results.items():
        filled = composite(result, image, mask)
        assert stored[method]["psnr_hole"] == pytest.approx(psnr(filled, image, mask).item(), abs=1e-3)
        assert stored[method]["ssim"] == pytest.approx(ssim(filled, image).item(), abs=1e-4)
    assert name == "stereo" or len({round(stored[method]["psnr_hole"], 4) for method in METHODS}) == 4


def test_training_in_plain_words(demo):
    folder, _ = demo
    shown = trained.section(folder)
    psnr = {name: comparison(folder, "held_out")["methods"][name]["psnr_hole"]["mean"] for name in METHODS}
    assert "After 4 steps this new network has not yet learned" in shown.text  # four steps give nothing
    assert f"({psnr['keyframes']:.1f} dB in the holes with them, {psnr['no_keyframes']:.1f} without)" in shown.text
    assert f"{psnr['inpaint'] - psnr['keyframes']:.1f} dB worse than cv2.inpaint" in shown.text
    assert [table.title.partition(":")[0] for table in shown.tables] == ["held_out", "stereo"]
    assert shown.tables[0].rows[3][1].startswith(f"{psnr['inpaint']:.2f} ± ")
    better = trained.sentence({"keyframes": 30, "no_keyframes": 20, "copy": 28, "inpaint": 31.5}, 1400)
    assert "has learned" in better and "2.0 dB better than keyframe copied" in better and "1.5 dB worse" in better
    loss = trained.curves(folder)["training loss"]["l1"]
    assert loss[0] == [1, 2, 3, 4] and len(loss[1]) == 4
    with pytest.raises(InputError, match="max_stepz"):
        trained.check(["--max_stepz", "3"])


@pytest.mark.slow
def test_shipped_network_beside_other_methods(tmp_path, capsys):
    show([f"--out={tmp_path}", "--photographs=1", "--frames=2", "--no-training", "--device=cpu"])
    printed, page = capsys.readouterr().out, (tmp_path / "report.html").read_text()
    for label in [*METHODS.values(), *shipped.VIDEO_METHODS]:
        assert label in printed and label in page
    files = re.findall('src="(pictures/[^"]+)"', page)
    assert len(files) == 1 + 1 + 4 and all((tmp_path / unquote(name)).stat().st_size > 1000 for name in files)
    # The first photograph by hand.
    sample = scenes.photographs(length=1)[0]
    image, mask, keyframes, keyframe_masks = shipped.arrays(sample)
    filled = Inpainter.from_checkpoint(device="cpu")(image, mask, keyframes, keyframe_masks)
    reached = peak_signal_noise_ratio(image[mask > 0], filled[mask > 0])
    assert f"PSNR in the hole: {METHODS['keyframes']} {reached:.1f} dB" in page
    drawn = read_image(tmp_path / "pictures" / "photographs_0.png")
    assert np.array_equal(drawn[shipped.BAR:shipped.BAR + 320, -320:], image)  # the truth comes last
    frames = [read_image(path) for path in sorted((tmp_path / "video" / "keyframes").glob("*.png"))]
    for frame, (truth, hole) in zip(frames, scenes.camera_path(2), strict=True):
        assert (frame[hole == 0] == truth[hole == 0]).all() and (frame != truth).any() and hole.mean() > 0.05


def test_the_three_sets_share_no_photograph():
    data = load_config(DEMO).data.params
    parts = [data.train, *data.validation.values(), data.test.held_out]
    names = [name for part in parts for name in part.params.images.params.names]
    assert len(names) == len(set(names)) >= 10
    assert not set(StereoPair.NAMES) & set(names)


def test_time_of_training_adds_up_over_interruptions():
    first, second = EvaluationReport(), EvaluationReport()
    first.on_train_start(None, None)
    first._start -= 100
    state = first.state_dict()
    assert 100 <= state["training_seconds"] < 110
    second.load_state_dict(state)
    second.on_train_start(None, None)
    second._start -= 50
    second.on_train_end(None, None)
    assert 150 <= second.state_dict()["training_seconds"] < 160


# Stereo pair ----------------------------------------------------------------------------------------------------------

def test_stereo_samples_are_fixed_and_of_the_common_form():
    first, second = StereoPair(size=48, length=4), StereoPair(size=48, length=9)
    for index in range(4):
        a, b = first[index], second[index]
        assert a["image"].shape == (3, 48, 48) and a["sources"].shape == (1, 3, 48, 48)
        assert a["mask"].shape == (1, 48, 48) and a["source_masks"].shape == (1, 1, 48, 48)
        for key, value in a.items():
            assert value == b[key] if key == "name" else value.dtype == torch.uint8 and torch.equal(value, b[key])
    assert len({first[i]["name"] for i in range(4)}) == 4 and not torch.equal(first[0]["image"], first[1]["image"])
    assert not torch.equal(StereoPair(size=48, seed=1)[0]["image"], first[0]["image"])
    with pytest.raises(IndexError):
        first[4]


def test_the_right_view_is_the_left_one_moved_to_the_left():
    data = StereoPair(size=100, length=4, min_window=500)
    for index in range(4):
        sample = data[index]
        left, right = sample["image"].float(), sample["sources"][0].float()
        errors = [(left[..., 20:] - right[..., 20 - shift:100 - shift]).abs().median().item() for shift in range(13)]
        best = int(np.argmin(errors))
        assert 2 <= best <= 12  # disparities of the set: 7 to 60 of 500 pixels
        assert errors[best] < 0.8 * errors[0]


@pytest.mark.parametrize("options", [{"max_window": 501}, {"min_window": 400, "max_window": 300}, {"size": 300},
                                     {"length": 0}, {"seed": -1}])
def test_impossible_stereo_windows_are_named(options):
    with pytest.raises(InputError, match=next(iter(options)).replace("min_window", "max_window").replace(
            "size", "max_window")):
        StereoPair(**options)
