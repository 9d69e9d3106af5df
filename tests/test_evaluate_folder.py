import json

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio
from torch import nn

from gi.commands import evaluate
from gi.errors import InputError
from gi.media.io import write_image
from gi.metrics.feature_cache import CachedFeatures
from gi.metrics.features import INCEPTION
from gi.metrics.fid import frechet_distance
from gi.metrics.folder import find_pairs, score_pairs
from gi.metrics.image import ImageMetrics
from gi.report.results import read_results


class ToyFeatures(nn.Module):
    """Stands in for Inception."""

    dimensions = 4

    def __init__(self, seed=0):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(4, 3, generator=torch.Generator().manual_seed(seed)), requires_grad=False)
        self.seen = 0

    def forward(self, rgb):
        self.seen += len(rgb)
        return rgb.mean(dim=(2, 3)) @ self.weight.T


class ToyDistance(nn.Module):
    calls = 0

    def forward(self, a, b):
        self.calls += 1
        return (a - b).abs().mean(dim=(1, 2, 3))


def picture(seed, height=20, width=24):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def prediction(seed, **size):
    return (picture(seed, **size) * 0.8).astype(np.uint8)


def mask(seed, height=20, width=24):
    result = np.zeros((height, width), np.uint8)
    result[: 3 + seed] = 255
    return result


@pytest.fixture
def folders(tmp_path):
    """A set in the original's naming, and predictions of it named as they please."""
    truth, predictions = tmp_path / "truth", tmp_path / "predictions"
    for i in range(6):
        write_image(truth / f"image_{i:06d}.png", picture(i))
        write_image(truth / f"image_{i:06d}_mask.png", mask(i))
        write_image(truth / f"image_{i:06d}_src_000000.png", picture(50 + i))
        write_image(truth / f"image_{i:06d}_src_000000_m.png", mask(1))
        write_image(predictions / (f"{i:06d}.png" if i % 2 else f"image_{i:06d}.png"), prediction(i))
    return truth, predictions


def test_scores_are_those_of_the_metric(folders):
    pairs, problems = find_pairs(*folders, folders[0])
    assert [pair.name for pair in pairs] == [f"{i:06d}" for i in range(6)] and not problems
    assert [pair.mask.name for pair in pairs] == [f"image_{i:06d}_mask.png" for i in range(6)]
    scores, problems = score_pairs(pairs, ImageMetrics(metrics=["l1", "psnr"]), batch_size=4)
    assert scores.count == 6 and not problems
    for i, row in enumerate(scores.images):
        truth, found = picture(i) / 255, prediction(i) / 255
        hole = mask(i) == 255
        assert row["raw/l1"] == pytest.approx(np.abs(truth - found).mean(), rel=1e-5)
        assert row["composite/l1_hole"] == pytest.approx(np.abs(truth - found)[hole].mean(), rel=1e-5)
        assert row["composite/l1"] == pytest.approx(row["composite/l1_hole"] * hole.mean(), rel=1e-5)
        assert row["hole_area"] == pytest.approx(hole.mean())


def test_without_masks_the_whole_image_counts(folders):
    pairs, _ = find_pairs(*folders)
    distance = ToyDistance()
    metrics = ImageMetrics(metrics=["l1", "lpips"], lpips=distance)
    scores, _ = score_pairs(pairs, metrics, batch_size=3)
    assert distance.calls == 2  # composite and raw are the same
    for row in scores.images:
        assert row["composite/l1"] == row["raw/l1"] == row["raw/lpips"] > 0 and row["hole_area"] == 1


def test_an_identical_pair_is_told(tmp_path, capsys):
    """Its infinite PSNR counts with 60 dB, and that is said."""
    for name, filled in ("same", picture(1)), ("other", prediction(1)):
        write_image(tmp_path / "truth" / f"{name}.png", picture(1))
        write_image(tmp_path / "filled" / f"{name}.png", filled)
    out = tmp_path / "scores.json"
    folders = [str(tmp_path / "truth"), str(tmp_path / "filled")]
    assert evaluate.main([*folders, "--metrics", "psnr", "l1", "--out", str(out), "--device", "cpu"]) == 0
    said = capsys.readouterr().err
    assert "1 of 2 images have an infinite score" in said and "such as same" in said and "no known pixel" not in said
    scores = read_results(out)["totals"]["composite"]
    other = peak_signal_noise_ratio(picture(1), prediction(1))
    assert scores["psnr"] == {"mean": pytest.approx((60 + other) / 2, rel=1e-5),
                              "std": pytest.approx((60 - other) / 2, rel=1e-5), "count": 2}


def test_images_of_other_sizes_and_folders_below(tmp_path):
    for i in range(5):
        size = {"height": 16 + i % 2, "width": 20}
        write_image(tmp_path / "truth" / f"sub {i}" / "x.png", picture(i, **size))
        write_image(tmp_path / "predictions" / f"sub {i}" / "image_x.png", prediction(i, **size))
    pairs, _ = find_pairs(tmp_path / "truth", tmp_path / "predictions")
    scores, problems = score_pairs(pairs, ImageMetrics(metrics=["l1"]), batch_size=4)
    assert [row["name"] for row in scores.images] == [f"sub {i}/x" for i in range(5)] and not problems


@pytest.mark.slow
def test_a_thousand_with_three_bad_ones_finishes_the_others(tmp_path):
    truth, predictions, masks = (tmp_path / name for name in ("truth", "predictions", "masks"))
    for i in range(1000):
        write_image(truth / f"{i}.png", picture(i, height=11, width=11))
        write_image(predictions / f"{i}.png", prediction(i, height=11, width=11))
        write_image(masks / f"{i}.png", mask(0, height=11, width=11))
    (predictions / "7.png").write_bytes((predictions / "7.png").read_bytes()[:60])
    write_image(predictions / "8.png", prediction(8, height=12, width=11))
    write_image(masks / "9.png", mask(0, height=12, width=11))
    pairs, problems = find_pairs(truth, predictions, masks)
    assert len(pairs) == 1000 and not problems
    counted = []
    scores, problems = score_pairs(pairs, ImageMetrics(metrics=["l1"]), batch_size=50,
                                   advance=lambda: counted.append(1))
    assert scores.count == 997 and list(problems) == ["7", "8", "9"] and len(counted) == 1000
    assert problems["7"].startswith(f"{predictions / '7.png'}: cannot read this image")
    assert problems["8"] == f"{predictions / '8.png'}: is 11x12, expected 11x11 as {truth / '8.png'}"
    assert problems["9"].startswith(f"{masks / '9.png'}: is 11x12")
    assert not any("\n" in problem for problem in problems.values())


def test_missing_and_doubled_files_are_reported(folders):
    truth, predictions = folders
    (predictions / "000001.png").unlink()
    (truth / "image_000002_mask.png").unlink()
    write_image(predictions / "000002.png", prediction(2))
    (predictions / "000003.png").rename(predictions / "000003.jpg")
    (predictions / "000005.png").rename(predictions / "000007.png")
    (predictions / "000005.bmp").write_bytes(b"x")
    write_image(predictions / "image_000005.png", prediction(5))
    pairs, problems = find_pairs(truth, predictions, truth)
    assert [pair.name for pair in pairs] == ["000000", "000003", "000004"]
    assert problems == {
        "000001": "missing among the predictions",
        "000002": "missing among the masks",
        "000005": "more than once among the predictions (000005.bmp, image_000005.png)",
        "000007": "missing among the truth and the masks",
    }


@pytest.mark.parametrize("kind", ["zero_one", "red", "deep", "palette"])
def test_masks_are_read_as_everywhere_else(tmp_path, kind, capsys):
    """Against scikit-image: the error inside a hole that is not stored as black and white."""
    hole = mask(4) > 0
    for number in range(2):
        write_image(tmp_path / "t" / f"{number}.png", picture(number))
        write_image(tmp_path / "p" / f"{number}.png", prediction(number))
    stored = {"zero_one": Image.fromarray(hole.astype(np.uint8)),
              "red": Image.fromarray(hole[..., None] * np.array([200, 0, 0], np.uint8)),
              "deep": Image.fromarray(hole * np.uint16(255)), "palette": Image.fromarray(hole.astype(np.uint8), "P")}
    stored["palette"].putpalette([0, 0, 0, 128, 0, 0])
    (tmp_path / "m").mkdir()
    stored[kind].save(tmp_path / "m" / "0.png")
    Image.fromarray(hole & False).save(tmp_path / "m" / "1.png")
    words = [str(tmp_path / name) for name in "tp"] + ["--masks", str(tmp_path / "m"), "--metrics", "psnr", "l1",
                                                       "--device", "cpu", "--out", str(tmp_path / "out.json")]
    evaluate.main(words)
    image, both = read_results(tmp_path / "out.json")["images"]
    expected = peak_signal_noise_ratio(picture(0)[hole], prediction(0)[hole])
    assert image["composite/psnr_hole"] == pytest.approx(expected, abs=1e-3) and both["hole_area"] == 0
    assert "17.50 % missing on average; 1 of 2 images have no hole" in capsys.readouterr().err
    Image.fromarray(hole & False).save(tmp_path / "m" / "0.png")
    with pytest.raises(InputError, match="nothing is missing in any mask"):
        evaluate.main(words)


def test_lamas_names(tmp_path):
    """a_mask001 is the mask of a, and a prediction with that name is of a through that mask."""
    for name in ("t/a", "t/a_mask001", "t/a_mask002", "t/b", "t/b_mask000", "p/a_mask001", "p/a_mask002", "p/b_mask000",
                 "q/a", "q/a_mask001", "q/b", "q/b_mask000"):
        write_image(tmp_path / f"{name}.png", mask(0))
    pairs, problems = find_pairs(tmp_path / "t", tmp_path / "p", tmp_path / "t")
    assert not problems
    assert [(pair.name, pair.truth.name, pair.prediction.name, pair.mask.name) for pair in pairs] == [
        (name, f"{name[0]}.png", f"{name}.png", f"{name}.png") for name in ("a_mask001", "a_mask002", "b_mask000")]
    pairs, problems = find_pairs(tmp_path / "t", tmp_path / "q", tmp_path / "t")
    assert [(pair.name, pair.prediction.name, pair.mask.name) for pair in pairs] == [("b", "b.png", "b_mask000.png")]
    assert "more than once among the masks" in problems["a"]
    pairs, _ = find_pairs(tmp_path / "t", tmp_path / "p")
    assert [pair.truth.name for pair in pairs] == ["a.png", "a.png", "b.png"]


def test_nothing_to_compare(folders, tmp_path):
    truth, predictions = folders
    with pytest.raises(InputError, match="no such folder"):
        find_pairs(truth, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no image in this folder"):
        find_pairs(tmp_path / "empty", predictions)
    write_image(tmp_path / "others" / "a.png", picture(0))
    with pytest.raises(InputError, match="no file has counterparts of its name; 000000: missing among"):
        find_pairs(truth, tmp_path / "others")


def test_features_are_kept(folders, tmp_path):
    pairs, _ = find_pairs(*folders, folders[0])

    def fid(network, cache=tmp_path / "cache"):
        cached = CachedFeatures(network=network, folder=cache)
        scores, _ = score_pairs(pairs, ImageMetrics(metrics=["fid"], inception=cached), batch_size=4)
        return scores.totals, cached

    plain, _ = score_pairs(pairs, ImageMetrics(metrics=["fid"], inception=ToyFeatures()), batch_size=4)
    first, cached = fid(ToyFeatures())
    assert cached.network.seen == cached.computed == 18 and cached.cached == 0
    again, cached = fid(ToyFeatures())
    assert cached.network.seen == cached.computed == 0 and cached.cached == 18
    assert first == again and first["raw"]["fid"] == pytest.approx(plain.totals["raw"]["fid"], rel=1e-5)
    images, found = (torch.from_numpy(np.stack([make(i) for i in range(6)])).permute(0, 3, 1, 2) / 255
                     for make in (picture, prediction))
    toy = ToyFeatures()
    assert first["raw"]["fid"] == pytest.approx(frechet_distance(toy(images), toy(found)), rel=1e-4)
    other, cached = fid(ToyFeatures(seed=1))  # the weights are part of the key
    assert cached.computed == 18 and other != first
    kept = sorted((tmp_path / "cache").rglob("*.npy"))
    assert len(kept) == 2 * 18
    for path in kept:
        path.write_bytes(path.read_bytes()[:-1])
    repaired, cached = fid(ToyFeatures())
    assert cached.computed == 18 and repaired == first and fid(ToyFeatures())[1].cached == 18
    write_image(pairs[3].truth, picture(99))  # another image under the same name, and so another composite
    assert fid(ToyFeatures())[1].cached == 16
    (tmp_path / "file").write_text("")
    assert fid(ToyFeatures(), tmp_path / "file")[1].computed == 18  # a cache that cannot be written is none


def test_composite_equal_to_raw_is_computed_once(folders, tmp_path):
    pairs, _ = find_pairs(*folders)
    cached = CachedFeatures(network=ToyFeatures(), folder=tmp_path / "cache")
    score_pairs(pairs, ImageMetrics(metrics=["fid"], inception=cached), batch_size=4)
    assert cached.computed == 12


def test_command_line(folders, tmp_path, monkeypatch, run_script):
    truth, predictions = folders
    run = run_script("evaluate_folder")
    out = tmp_path / "out" / "other.json"
    words = (truth, predictions, "--masks", truth, "--metrics", "ssim", "l1", "--out", out, "--paper", "4:ours")
    status, printed = run(*words)
    assert status == 0 and "predictions on truth: 6 images" in printed.out and "images 6/6" in printed.err
    assert "0.834 ± 0.118" in printed.out
    result = read_results(out)
    assert (result["run"], result["set"], result["count"], result["problems"]) == ("predictions", "truth", 6, {})
    assert result["paper"] == {"table": 4, "row": "ours"}
    assert out.with_suffix(".csv").read_text().count("\n") == 7
    (predictions / "000003.png").write_bytes(b"")
    status, printed = run(*words)
    assert status == 1 and "left out: 000003: " in printed.err and "1 of 6 left out" in printed.err
    assert json.loads(out.read_text())["count"] == 5
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setenv("GI_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    printed = run(truth, predictions)[1]
    assert f"not computed: fid: no {INCEPTION.path}" in printed.err and "PSNR" in printed.out
    for words, message in (
        ((truth, tmp_path / "nowhere"), "no such folder"),
        ((truth, predictions, "--metrics", "fid"), f"{INCEPTION.path}: no such file"),
        ((truth, predictions, "--metrics", "fid"), "psnr, ssim, l1 need no weights"),
        ((truth, predictions, "--metrics", "ssmi"), "there is no 'ssmi'"),
        ((truth, predictions, "--out", "x.txt"), "expected a name ending in .json"),
        ((truth, predictions, "--batch-size", "0"), "expected at least 1"),
        ((truth, predictions, "--device", "tpu9"), "tpu9"),
        ((truth, predictions, "--paper", "4:lama"), "table 4 of the paper has no row 'lama'"),
        ((truth, predictions, "--paper", "ours"), "expected TABLE:ROW"),
    ):
        status, printed = run(*words)
        assert status == 2 and printed.err.startswith("error: ") and printed.err.count("\n") == 1
        assert message in printed.err
