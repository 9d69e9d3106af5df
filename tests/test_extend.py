"""docs/extend.md: its files and commands, word for word."""
import re
import shlex

import cv2
import numpy as np
import pytest

from gi.__main__ import main
from gi.config import targets
from gi.media.io import read_image, write_image
from gi.report.plots import read_curves
from gi.report.results import read_results

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def section(root, tmp_path, monkeypatch):
    """Function: heading -> its commands, each run by the next(); its files are written into an empty working folder."""
    text = (root / "docs" / "extend.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(targets, "_allowed", set())
    (tmp_path / "configs").symlink_to(root / "configs")

    def run(heading):
        part, = re.findall(rf"^## {heading}\n(.*?)(?=^## )", text, re.MULTILINE | re.DOTALL)
        blocks = BLOCK.findall(part)
        for kind, content in blocks:
            if kind:
                (tmp_path / content.split()[1]).write_text(content, encoding="utf-8")
        commands = [line for kind, content in blocks if not kind for line in content.splitlines()]
        assert commands and all(command.startswith("gi ") for command in commands)
        for command in commands:
            words = [word for given in shlex.split(command)[1:] for word in
                     ([str(path) for path in sorted(tmp_path.glob(given))] if "*" in given else [given])]
            with pytest.raises(SystemExit) as end:
                main(words)
            assert end.value.code == 0, command
    return run


def picture(seed, size=(72, 80)):
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    return cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)


def hole(size=(72, 80)):
    mask = np.zeros(size, np.uint8)
    mask[20:40, 30:50] = 255
    return mask


def test_a_loss(section, tmp_path):
    section("A loss")
    run, = (tmp_path / "logs").iterdir()
    curves = read_curves(run / "tensorboard")
    assert min(curves["train/gradient"][1]) > 0 and len(curves["train/gradient"][0]) == 1
    config = (run / "configs" / "config.yaml").read_text()
    assert "weight: 10" in config and "missing: 2" in config and "weight: 5" in config


def test_a_metric(section, tmp_path, capsys):
    truth, prediction, mask = picture(0), picture(1), hole()
    write_image(tmp_path / "TRUTH" / "a.png", truth)
    write_image(tmp_path / "PREDICTIONS" / "a.png", prediction)
    write_image(tmp_path / "MASKS" / "a.png", mask)
    section("A metric")
    error = np.abs(truth.astype(float) - prediction)[mask > 0].max() / 255
    totals = read_results(tmp_path / "mine.json")["totals"]["composite"]
    assert totals["largest_error_hole"]["mean"] == pytest.approx(error)
    printed = capsys.readouterr().out
    assert printed.count(f"{error:.3f}") >= 2 and printed.count("largest error") == 3  # two scores, then gi compare's


def test_a_network(section, tmp_path):
    write_image(tmp_path / "IMAGE.png", picture(0))
    write_image(tmp_path / "MASK.png", hole())
    section("A network")
    filled = read_image(tmp_path / "filled.png")
    assert (filled[hole() == 0] == picture(0)[hole() == 0]).all() and (filled != picture(0)).any()


def test_a_data_set(section, tmp_path):
    for scene in range(4):
        for number in range(3):
            write_image(tmp_path / "BURSTS" / f"scene{scene}" / f"{number}.png", picture(10 * scene + number))
    section("A data set")
    results = read_results(next((tmp_path / "logs").iterdir()) / "metrics" / "held_out.json")
    assert [image["name"] for image in results["images"]] == [f"scene{number}" for number in range(4)]


def test_a_video_method(section, tmp_path):
    for number in range(25):
        write_image(tmp_path / "VIDEO" / f"{number:05d}.png", picture(number))
        mask = hole()
        write_image(tmp_path / "MASKS" / f"{number:05d}.png", np.roll(mask, 3 * number, axis=1))
    section("A video method")
    result = read_image(tmp_path / "OUT" / "00022.png")
    assert (result[:, :10] == picture(22)[:, :10]).all()
    assert (tmp_path / "filled").is_dir() and read_image(tmp_path / "OUT" / "00000.png")[30, 40].tolist() == [128] * 3


def test_a_way_to_propagate_masks(section, tmp_path):
    masks = [np.roll(hole(), 4 * number, axis=1) for number in range(6)]
    for number, mask in enumerate(masks):
        frame = np.where(mask[..., None] > 0, (200, 40, 40), (30, 60, 200)).astype(np.uint8)
        write_image(tmp_path / "VIDEO" / f"{number:05d}.png", frame)
    write_image(tmp_path / "MASK.png", masks[0])
    section("A way to propagate masks")
    assert all(np.array_equal(read_image(tmp_path / "OUT" / f"{number:05d}.png")[..., 0], mask)
               for number, mask in enumerate(masks))
