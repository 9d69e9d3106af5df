import copy
import json
import math
from datetime import timedelta

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio
from torch import nn

from gi.compositing import composite
from gi.config import instantiate
from gi.errors import InputError
from gi.metrics.fid import frechet_distance
from gi.metrics.functional import harmonic, ssim
from gi.metrics.image import ImageMetrics, ImageScores


class ToyFeatures(nn.Module):
    """Stands in for Inception: cheap, deterministic, the same in every process."""

    dimensions = 5

    def __init__(self):
        super().__init__()
        kernel = torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(0))
        self.kernel = nn.Parameter(kernel, requires_grad=False)

    def forward(self, rgb):
        return nn.functional.conv2d(rgb, self.kernel, stride=4).abs().mean(dim=(2, 3))


class ToyDistance(nn.Module):
    """Stands in for LPIPS."""

    def forward(self, a, b):
        return (a - b).square().mean(dim=(1, 2, 3)).sqrt()


def everything():
    return ImageMetrics(metrics=["fid", "lpips", "l1", "psnr", "ssim"], inception=ToyFeatures(), lpips=ToyDistance())


def samples(count=13, size=20):
    """Images, predictions, and masks whose holes cover between nothing and all; the last image has none."""
    generator = torch.Generator().manual_seed(1)
    image, noise = torch.rand(2, count, 3, size, size, generator=generator)
    masks = torch.zeros(count, 1, size, size)
    for i, mask in enumerate(masks[:-1]):
        mask[:, : 1 + i * size // (count - 1)] = 1
    return 0.7 * image + 0.3 * noise, image, masks, [f"val/{i:06d}.png" for i in range(count)]


def fed(metric, rows, batch_size, data=None):
    prediction, image, mask, names = data or samples()
    for start in range(0, len(rows), batch_size):
        batch = rows[start:start + batch_size]
        metric.update(prediction[batch], image[batch], mask[batch], [names[i] for i in batch])
    return metric


def assert_same(a, b, tolerance=1e-6):
    """Compares nested dictionaries, lists and numbers, nan with nan."""
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            assert_same(a[key], b[key], tolerance)
    elif isinstance(a, list):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y, tolerance)
    elif isinstance(a, float):
        assert a == pytest.approx(b, rel=tolerance, abs=tolerance, nan_ok=True)
    else:
        assert a == b


def test_scores_are_those_of_numpy_and_skimage():
    prediction, image, mask, names = samples()
    scores = fed(everything(), list(range(13)), 4).compute()
    p, x, m = (t.numpy().astype(np.float64) for t in (prediction, image, mask))
    mixed = np.where(m == 1, p, x)
    assert scores.count == 13 and scores.repeated == 0
    assert [row["name"] for row in scores.images] == names
    for i, row in enumerate(scores.images):
        inside = np.broadcast_to(m[i], x[i].shape) == 1
        assert row["hole_area"] == pytest.approx(m[i].mean())
        assert row["raw/psnr"] == pytest.approx(peak_signal_noise_ratio(x[i], p[i], data_range=1), rel=1e-5)
        assert row["raw/l1"] == pytest.approx(np.abs(p[i] - x[i]).mean(), rel=1e-5)
        assert row["raw/ssim"] == pytest.approx(ssim(prediction[i:i + 1], image[i:i + 1]).item(), rel=1e-5)
        assert row["raw/lpips"] == pytest.approx(np.sqrt(((p[i] - x[i]) ** 2).mean()), rel=1e-5)
        if inside.any():
            assert row["composite/psnr"] == pytest.approx(
                peak_signal_noise_ratio(x[i], mixed[i], data_range=1), rel=1e-5)
            assert row["composite/psnr_hole"] == pytest.approx(
                peak_signal_noise_ratio(x[i][inside], p[i][inside], data_range=1), rel=1e-5)
            assert row["composite/l1_hole"] == pytest.approx(np.abs(p[i] - x[i])[inside].mean(), rel=1e-5)
            assert row["composite/lpips"] == pytest.approx(np.sqrt(((mixed[i] - x[i]) ** 2).mean()), rel=1e-4)
    for view, key in ("composite", "ssim"), ("raw", "l1"), ("composite", "lpips"):
        values = [row[f"{view}/{key}"] for row in scores.images]
        score = scores.totals[view][key]
        assert score["mean"] == pytest.approx(np.mean(values)) and score["std"] == pytest.approx(np.std(values))
        assert score["count"] == 13
    network = ToyFeatures()
    for view, images in ("composite", torch.from_numpy(mixed).float()), ("raw", prediction):
        expected = frechet_distance(network(image), network(images))
        assert scores.totals[view]["fid"] == pytest.approx(expected, rel=1e-6) and expected > 1e-3


def test_ssim_of_the_original(reference):
    fill = reference.fill
    a = fill.image("metrics/a", 4, 3, 64, 96)
    a, b = torch.from_numpy(a), torch.from_numpy(0.8 * a + 0.2 * fill.image("metrics/b", 4, 3, 64, 96))
    metric = ImageMetrics()
    metric.update(b, a, torch.ones(4, 1, 64, 96), list("abcd"))
    scores = metric.compute()
    for view in "composite", "raw":
        np.testing.assert_allclose([row[f"{view}/ssim"] for row in scores.images], reference.load("metrics")["ssim"],
                                   atol=1e-5)


def test_batches_order_and_repetition_do_not_matter():
    expected = fed(everything(), list(range(13)), 13).compute()
    for rows, batch_size in (list(range(13)), 1), (list(range(12, -1, -1)), 5), ([3, 1, *range(13), 0, 12], 4):
        scores = fed(everything(), rows, batch_size).compute()
        assert scores.repeated == len(rows) - 13
        for part in "count", "totals", "bins", "images":
            assert_same(getattr(scores, part), getattr(expected, part))


def test_compute_reset_and_going_on():
    metric = fed(everything(), list(range(6)), 3)
    assert metric.compute().count == metric.compute().count == 6
    fed(metric, list(range(6, 13)), 3)
    assert_same(metric.compute().totals, fed(everything(), list(range(13)), 13).compute().totals)
    metric.reset()
    assert_same(fed(metric, [2, 5], 1).compute().totals, fed(everything(), [2, 5], 2).compute().totals)


def _one_process(rank, folder, shares):
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2,
                                         timeout=timedelta(seconds=120))
    try:
        metric, found = everything(), []
        for share in shares:
            metric.reset()
            fed(metric, share[rank], 3)
            scores = metric.compute().to_dict()
            found.append({"scores": scores, "local": sum(len(part) for part in metric.keys)})
        with open(f"{folder}/{rank}.json", "w") as file:
            json.dump(found, file)
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_two_processes_give_what_one_gives(tmp_path):
    shares = [
        [[0, 2, 4, 6, 8, 10, 12], [1, 3, 5, 7, 9, 11, 0]],  # as a distributed sampler deals 13 images: 0 is there twice
        [[4, 0, 3, 1, 2, 5, 6, 7, 8], [12, 11, 10, 9]],  # uneven
        [list(range(13)), []],  # nothing for one of them
        [[], list(range(13))],
    ]
    other = torch.multiprocessing.get_context("spawn").Process(target=_one_process, args=(1, str(tmp_path), shares))
    other.start()
    _one_process(0, str(tmp_path), shares)
    other.join()
    assert other.exitcode == 0
    expected = fed(everything(), list(range(13)), 13).compute().to_dict()
    for rank in 0, 1:
        for found, share in zip(json.loads((tmp_path / f"{rank}.json").read_text()), shares, strict=True):
            assert found["local"] == len(share[rank])  # what was gathered is given back after computing
            assert found["scores"].pop("repeated") == sum(map(len, share)) - 13
            assert_same(found["scores"], {key: value for key, value in expected.items() if key != "repeated"})


def test_bins_are_tenths_of_the_hole_area_exact_at_their_bounds():
    hole = np.array([0, 9, 10, 29, 30, 69, 70, 99, 100])
    scores = ImageScores(names=list("abcdefghi"), hole=hole, pixels=np.full(9, 100), features={},
                         scores={("composite", "l1"): np.arange(9.0), ("raw", "l1"): np.zeros(9)})
    assert [part["range"] for part in scores.bins] == [
        "0-10%", "10-20%", "20-30%", "30-40%", "40-50%", "50-60%", "60-70%", "70-80%", "80-90%", "90-100%"]
    assert [part["count"] for part in scores.bins] == [2, 1, 1, 1, 0, 0, 1, 1, 0, 2]
    assert scores.bins[9]["composite"]["l1"] == {"mean": 7.5, "std": 0.5, "count": 2}
    assert scores.bins[3]["composite"]["l1"] == {"mean": 4.0, "std": 0.0, "count": 1}
    assert math.isnan(scores.bins[4]["composite"]["l1"]["mean"]) and scores.bins[4]["composite"]["l1"]["count"] == 0


def test_bins_join_to_the_total_and_have_their_own_fid():
    prediction, image, mask, _ = samples()
    scores = fed(everything(), list(range(13)), 13).compute()
    assert sum(part["count"] for part in scores.bins) == 13
    for view in "composite", "raw":
        parts = [part[view]["l1"] for part in scores.bins]
        mean = sum(part["mean"] * part["count"] for part in parts if part["count"]) / 13
        assert mean == pytest.approx(scores.totals[view]["l1"]["mean"])
    area, network = mask.mean(dim=(1, 2, 3)).numpy(), ToyFeatures()
    for i, part in enumerate(scores.bins):
        rows = np.flatnonzero(np.minimum((area * 10 + 1e-6).astype(int), 9) == i)
        assert part["count"] == len(rows)
        expected = math.nan
        if len(rows):
            expected = frechet_distance(network(image[rows]), network(prediction[rows]))
        assert part["raw"]["fid"] == pytest.approx(expected, rel=1e-6, nan_ok=True)
        assert math.isnan(part["raw"]["fid"]) == math.isnan(part["raw"]["ssim_fid_f1"]) == (len(rows) < 2)


def test_harmonic_score_and_scalars():
    assert harmonic(0.8, 20) == pytest.approx(2 * 0.8 * 0.8 / 1.601)
    assert harmonic(0.9, 140) == 0 and math.isnan(harmonic(0.9, math.nan))
    scores = fed(everything(), list(range(13)), 13).compute()
    total, flat = scores.totals["composite"], scores.scalars()
    assert total["lpips_fid_f1"] == harmonic(1 - total["lpips"]["mean"], total["fid"]) > 0.1
    assert total["ssim_fid_f1"] == harmonic(total["ssim"]["mean"], total["fid"]) > 0.1
    assert flat["ssim"] == total["ssim"]["mean"] and flat["fid"] == total["fid"]
    assert flat["raw/psnr_hole"] == scores.totals["raw"]["psnr_hole"]["mean"]
    assert all(isinstance(value, float) for value in flat.values())


def test_only_what_is_asked_for():
    scores = fed(ImageMetrics(metrics=["psnr"]), [0, 1], 2).compute()
    assert list(scores.scalars()) == ["psnr", "psnr_hole", "raw/psnr", "raw/psnr_hole"]
    only_fid = fed(ImageMetrics(metrics=["fid"], inception=ToyFeatures()), [0, 1, 2], 2).compute()
    assert list(only_fid.scalars()) == ["fid", "raw/fid"] and list(only_fid.images[0]) == ["name", "hole_area"]
    only_l1 = instantiate({"target": "gi.metrics.image.ImageMetrics", "params": {"metrics": ["l1"]}})
    assert only_l1.per_image == ["l1", "l1_hole"]


def test_perfect_images_count_with_60_dB_and_faults_show():
    prediction, image, mask, names = samples(4)
    mask[0], prediction[1] = 0, image[1]
    scores = fed(everything(), [0, 1, 2], 3, (prediction, image, mask, names)).compute()
    total, rows = scores.totals["composite"], scores.images
    assert math.isnan(rows[0]["composite/l1_hole"]) and rows[1]["composite/l1_hole"] == 0
    assert total["l1_hole"]["count"] == 2
    assert total["l1_hole"]["mean"] == pytest.approx(rows[2]["composite/l1_hole"] / 2)
    assert math.isinf(rows[0]["composite/psnr"]) and math.isinf(rows[1]["composite/psnr_hole"])
    assert total["psnr"]["mean"] == pytest.approx((60 + 60 + rows[2]["composite/psnr"]) / 3)
    assert total["psnr_hole"]["mean"] == pytest.approx((60 + rows[2]["composite/psnr_hole"]) / 2)
    assert [total[key]["count"] for key in ("psnr", "psnr_hole", "ssim", "ssim_hole")] == [3, 2, 3, 2]
    prediction[1] = image[1] * (1 + 1e-7)  # as a sum of weights that is not quite 1 leaves it
    rounded = fed(everything(), [0, 1, 2], 3, (prediction, image, mask, names)).compute()
    assert 100 < rounded.images[1]["composite/psnr_hole"] < math.inf
    assert rounded.totals["composite"]["psnr_hole"] == total["psnr_hole"]
    prediction[2, :, :5] = math.nan  # a network that broke must not look better than it is
    broken = fed(everything(), [0, 1, 2], 3, (prediction, image, mask, names)).compute().scalars()
    for key in "ssim", "l1", "l1_hole", "psnr_hole", "lpips", "fid", "lpips_fid_f1", "raw/psnr":
        assert math.isnan(broken[key]), key


def test_odd_holes_are_remarked_on():
    hole = np.array([0, 0, 40, 100])
    scores = ImageScores(names=list("abcd"), hole=hole, pixels=np.full(4, 100), scores={})
    assert scores.remarks() == ["2 of 4 images have no hole, their composites are the truth, such as a",
                                "1 of 4 images have no known pixel, such as d"]
    assert not ImageScores(names=["c"], hole=hole[2:3], pixels=np.full(1, 100), scores={}).remarks()
    values = {("composite", "psnr"): np.array([np.inf, np.inf, 30, 31]),
              ("raw", "l1_hole"): np.array([np.nan] * 3 + [1])}
    scores = ImageScores(names=list("abcd"), hole=hole // 2 + [0, 1, 0, 0], pixels=np.full(4, 100), scores=values)
    assert scores.remarks() == ["1 of 4 images have no hole, their composites are the truth, such as a",
                                "1 of 4 images have an infinite score, as the truth itself; a PSNR counts with 60 dB, "
                                "such as b",
                                "2 of 4 images have scores that are not numbers, such as b"]


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_no_images_at_all():
    scores = everything().compute()
    assert scores.count == 0 and scores.images == [] and math.isnan(scores.scalars()["ssim"])
    assert math.isnan(scores.scalars()["fid"])


def test_indices_tell_images_of_one_name_apart():
    prediction, image, mask, _ = samples(3)
    metric = ImageMetrics(metrics=["l1"])
    for _ in range(2):
        metric.update(prediction, image, mask, ["b", "a", "a"], indices=torch.tensor([2, 0, 1]))
    scores = metric.compute()
    assert [row["name"] for row in scores.images] == ["a", "a", "b"] and scores.repeated == 3
    metric = ImageMetrics(metrics=["l1"])
    metric.update(prediction, image, mask, ["b", "a", "a"])
    with pytest.raises(InputError, match="two different images are named 'a'"):
        metric.compute()


def test_other_images_of_one_name_and_size_are_told():
    prediction, image, mask, _ = samples(3)
    mask[1] = mask[0]
    metric = ImageMetrics(metrics=["psnr"])
    metric.update(prediction, image, mask, ["a", "a", "b"])
    with pytest.raises(InputError, match="two different images are named 'a'"):
        metric.compute()


def test_names_of_any_kind():
    names = ["bär/ü 1.png", "x\udcff.png", "a\nb", ""]
    scores = fed(ImageMetrics(metrics=["l1"]), [0, 1, 2, 3], 3, (*samples(4)[:3], names)).compute()
    assert [row["name"] for row in scores.images] == sorted(names)


def test_half_precision_around_the_metric_changes_nothing():
    data = samples(4)
    expected = fed(everything(), [0, 1, 2], 3, data).compute()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        metric = ImageMetrics(metrics=["ssim", "psnr", "l1"])
        assert_same(fed(metric, [0, 1, 2], 3, data).compute().totals["raw"]["ssim"], expected.totals["raw"]["ssim"])
    rounded = data[0].bfloat16()
    scores = fed(ImageMetrics(metrics=["l1"]), [0, 1, 2], 3, (rounded, *data[1:])).compute()
    exact = fed(ImageMetrics(metrics=["l1"]), [0, 1, 2], 3, (rounded.float(), *data[1:])).compute()
    assert_same(scores.totals, exact.totals, tolerance=0)


def test_networks_stay_out_of_checkpoints_and_follow_the_device():
    metric = everything()
    holder = nn.ModuleDict({"val": metric, "other": nn.Linear(2, 2)})
    assert list(holder.state_dict()) == ["other.weight", "other.bias"]
    assert [name for name, _ in holder.named_parameters()] == ["other.weight", "other.bias"]
    fed(metric, [0, 1], 2)
    again = copy.deepcopy(metric)
    assert again.compute().count == 2
    holder.to("meta")
    assert metric.networks["inception"].kernel.is_meta and metric.keys[0].is_meta and metric.device.type == "meta"
    assert not again.networks["inception"].kernel.is_meta


def test_composite_keeps_known_pixels_bit_for_bit():
    prediction, image, mask, _ = samples()
    result = composite(prediction, image, mask)
    known = (mask == 0).expand_as(image)
    assert torch.equal(result[known], image[known]) and torch.equal(result[~known], prediction[~known])


@pytest.mark.parametrize(("change", "message"), [
    ({"mask": torch.zeros(2, 1, 20, 19)}, r"mask of shape \(2, 1, 20, 20\), got \(2, 1, 20, 19\)"),
    ({"mask": torch.zeros(2, 20, 20)}, "mask of shape"),
    ({"prediction": torch.rand(2, 3, 20, 21)}, r"one shape \(B, 3, H, W\)"),
    ({"image": torch.zeros(2, 3, 20, 20, dtype=torch.uint8)}, "floating point"),
    ({"names": ["a"]}, "expected 2 names, one per image, got 1"),
    ({"names": ["a", 3]}, "names as strings"),
    ({"names": ["a", "b\0"]}, "without zero bytes"),
    ({"indices": [1, 2, 3]}, "expected 2 indices"),
])
def test_wrong_input(change, message):
    right = {"prediction": torch.rand(2, 3, 20, 20), "image": torch.rand(2, 3, 20, 20),
             "mask": torch.zeros(2, 1, 20, 20), "names": ["a", "b"]}
    with pytest.raises(InputError, match=message):
        ImageMetrics().update(**right | change)


def test_unknown_metrics():
    with pytest.raises(InputError, match="there is no 'lpisp'.*did you mean lpips"):
        ImageMetrics(metrics=["ssim", "lpisp"])
    with pytest.raises(InputError, match="at least one of"):
        ImageMetrics(metrics=[])
