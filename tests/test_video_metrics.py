import json
import math
import os
import weakref
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage import data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from gi.errors import InputError
from gi.flow.estimate import Estimator
from gi.flow.warp import warp
from gi.metrics import functional, video
from gi.metrics.fid import frechet_distance
from gi.metrics.i3d import I3D
from gi.metrics.video import VIDEO_METRICS
from gi.metrics.video_scores import VideoScores


def photo(top=0, left=0, height=120, width=150):
    return np.ascontiguousarray(data.astronaut()[top:top + height, left:left + width])


def noise(seed, height=120, width=150):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def rectangle(top, left, height, width, size=(120, 150)):
    mask = np.zeros(size, np.uint8)
    mask[top:top + height, left:left + width] = 1
    return mask


def clip(count, *, seed=0, size=(64, 72), hole=True):
    """[(truth, mask, prediction)]: a photograph that moves under a hole, and a noisy prediction."""
    rng = np.random.default_rng(seed)
    rows = []
    for t in range(count):
        truth = photo(100 + 2 * t, 100 + 10 * seed + t, *size)
        error = rng.integers(-20, 21, truth.shape)
        mask = rectangle(20, 10 + t % 20, 20, 25, size) * hole
        rows.append((truth, mask, np.clip(truth + error, 0, 255).astype(np.uint8)))
    return rows


def composites(rows):
    return [np.where(mask[..., None] == 1, prediction, truth) for truth, mask, prediction in rows]


# Frames ---------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("size", [(7, 7), (120, 150), (33, 8)])
def test_psnr_and_ssim_are_those_of_scikit_image(size):
    for a, b in (photo(0, 0, *size), noise(0, *size)), (noise(1, *size), noise(2, *size)):
        assert video.psnr(a, b) == pytest.approx(peak_signal_noise_ratio(a, b), abs=1e-9)
        one, two = video.ssim(a, b, 1), video.ssim(a, b, 2)
        for found, data_range in (one, 1), (two, 2):
            expected = structural_similarity(a / 255, b / 255, data_range=data_range, channel_axis=2)
            assert found == pytest.approx(expected, abs=1e-9)
        assert one == pytest.approx(structural_similarity(a, b, channel_axis=2), abs=1e-9)
        assert video.ssim(a, a) == pytest.approx(1) and video.psnr(a, a) == math.inf
    flat = np.full((*size, 3), 255, np.uint8)
    assert video.ssim(flat, flat) == video.ssim(flat, flat, 2) == 1


def test_frames_too_small():
    with pytest.raises(InputError, match="ssim: expected frames of at least 7 x 7 pixels, got 20 x 6"):
        video.ssim(noise(0, 6, 20), noise(1, 6, 20))
    with pytest.raises(InputError, match="pcons: expected frames of at least 50 x 50 pixels, got 49 x 60"):
        video.pcons(noise(0, 60, 49), rectangle(0, 0, 9, 9, (60, 49)), noise(1, 60, 49))


# Patch consistency ----------------------------------------------------------------------------------------------------

def tried_out(frame, hole, following):
    """Every offset with scikit-image."""
    y, x = (math.floor(centre - 25) for centre in ndimage.center_of_mass(hole))
    y, x = min(max(y, 0), hole.shape[0] - 50), min(max(x, 0), hole.shape[1] - 50)
    patch = frame[y:y + 50, x:x + 50]
    best = 0
    for row in range(max(y - 20, 0), min(y + 20, hole.shape[0] - 49)):
        for column in range(max(x - 20, 0), min(x + 20, hole.shape[1] - 49)):
            with np.errstate(divide="ignore"):
                best = max(best, peak_signal_noise_ratio(patch, following[row:row + 50, column:column + 50]))
    return best


HOLES = [rectangle(40, 60, 30, 31), rectangle(0, 0, 3, 2), rectangle(117, 148, 3, 2), rectangle(30, 100, 90, 50),
         rectangle(0, 0, 120, 150), (noise(9)[..., 0] > 250).astype(np.uint8)]


@pytest.mark.parametrize("which", range(len(HOLES)))
def test_pcons_is_that_of_trying_out(which):
    hole = HOLES[which]
    stripes = np.zeros((120, 150, 3), np.uint8)
    stripes[::7], stripes[:, ::5] = 255, 254
    for frame, following in ((noise(which), noise(which + 10)), (photo(0, 0), photo(13, 4)),
                             (stripes, np.roll(stripes, 3, axis=1)), (photo(0, 0), photo(0, 0))):
        expected = tried_out(frame, hole, following)
        assert video.pcons(frame, hole, following) == pytest.approx(expected, abs=1e-9)
        assert video.pcons(frame, hole.astype(bool), following) == pytest.approx(expected, abs=1e-9)


def test_pcons_differences_are_exact():
    """In whole numbers, at every place."""
    extreme = np.where(noise(0, 89, 89) > 127, 255, 0).astype(np.uint8)
    for patch, region in ((noise(1, 50, 50), noise(2, 89, 89)), (extreme[:50, :50], extreme),
                          (np.full((50, 50, 3), 255, np.uint8), np.zeros((60, 71, 3), np.uint8)),
                          (noise(3, 50, 50), noise(4, 50, 50))):
        places = np.lib.stride_tricks.sliding_window_view(region.astype(np.int64), (50, 50), axis=(0, 1))
        expected = np.square(places - patch.astype(np.int64).transpose(2, 0, 1)).sum(axis=(2, 3, 4))
        assert np.array_equal(video._squared_differences(patch, region), expected)


def test_pcons_asymmetry_of_the_offsets():
    """From -20 to +19."""
    frame = noise(0)
    hole = rectangle(50, 65, 20, 20)  # a patch from (35, 50) on
    for offset, found in (-20, True), (-21, False), (19, True), (20, False):
        assert math.isinf(video.pcons(frame, hole, np.roll(frame, offset, axis=0))) == found
        assert math.isinf(video.pcons(frame, hole, np.roll(frame, offset, axis=1))) == found


def test_pcons_without_hole():
    assert math.isnan(video.pcons(noise(0), rectangle(0, 0, 0, 0), noise(1)))


# Warp error -----------------------------------------------------------------------------------------------------------

def constant(x, y, size=(24, 30)):
    return torch.tensor([float(x), float(y)])[None, :, None, None].expand(1, 2, *size).contiguous()


def test_visible():
    flow, backward = constant(3, -2), constant(-3, 2)
    expected = torch.zeros(1, 1, 24, 30, dtype=torch.bool)
    expected[..., 2:, :27] = True
    assert torch.equal(video.visible(flow, backward), expected)  # others leave the frame
    assert not video.visible(flow, constant(-5, 2)).any()  # comes back two pixels off: 4 > 0.01 (13 + 29) + 0.5
    assert torch.equal(video.visible(flow, constant(-3.8, 2)), expected)  # 0.64 < 0.01 (13 + 18.44) + 0.5
    still = constant(0, 0)
    edge = still.clone()
    edge[:, 0, :, 10:] = 0.4  # the edge of a motion
    seen = video.visible(edge, still)
    assert not seen[..., 9].any() and seen[..., :9].all() and seen[..., 10:29].all()
    edge = constant(2, 0)
    edge[:, 0, :, 10:] += 0.3  # 0.09 is more than 0.01 of 4, and less than 0.05 of it
    seen = video.visible(edge, -edge)
    assert not seen[..., 9].any() and seen[..., 10:27].all()


def test_warp_error():
    image = torch.rand(1, 3, 24, 30, generator=torch.Generator().manual_seed(0))
    flow = constant(2, 1)
    following = torch.roll(image, (1, 2), dims=(2, 3))
    seen = video.visible(flow, -flow)
    assert video.warp_error(image, following, flow, seen).item() == pytest.approx(0, abs=1e-12)
    difference = following + 0.1
    assert video.warp_error(image, difference, flow, seen).item() == pytest.approx(0.01, rel=1e-4)
    hole, following_hole = torch.zeros(2, 1, 1, 24, 30)
    hole[..., 3:6, 3:6], following_hole[..., 10:12, 12:15] = 1, 1
    touched = video.touches_hole(hole, following_hole, flow)
    expected = hole.bool()
    expected[..., 9:11, 10:13] = True
    assert torch.equal(touched, expected)
    between = video.touches_hole(torch.zeros_like(hole), following_hole, flow + 0.5)  # a part of what it ends in
    assert between[..., 8:11, 9:13].all() and between.sum() == 12
    following = following.clone()
    following[..., 10:12, 12:15] += 0.2  # inside the next frame's hole only: 6 of 15 pixels
    assert video.warp_error(image, following, flow, touched).item() == pytest.approx(0.04 * 6 / 15, rel=1e-4)
    assert video.warp_error(image, following, flow, seen & ~seen).isnan().all()


# Scores of videos -----------------------------------------------------------------------------------------------------

class Features(torch.nn.Module):
    dimensions = 5

    def forward(self, images):
        return images.flatten(1)[:, ::1000][:, :5]


class Distance(torch.nn.Module):
    def forward(self, a, b):
        return (a - b).abs().mean(dim=(1, 2, 3))


class Moving(Estimator):
    """The true flow of `clip`: the photograph's part moves by (1, 2), so its content by (-1, -2)."""

    def forward(self, first, second):
        sign = torch.ones(len(first), 1, 1, 1)
        sign[len(first) // 2:] = -1
        return constant(-1, -2, first.shape[-2:]) * sign


@pytest.fixture(scope="module")
def network(reference):
    net = I3D(weights=None)
    net.load_state_dict({name: torch.from_numpy(np.asarray(value))
                         for name, value in reference.fill.state_dict("i3d").items()})
    return net


def scores_of(network, metrics=tuple(VIDEO_METRICS), **options):
    return VideoScores(metrics=metrics, inception=Features(), lpips=Distance(), i3d=network, estimator=Moving(),
                       **options)


@pytest.mark.parametrize("batch_size", [3, pytest.param(1, marks=pytest.mark.slow)])
def test_scores_are_means_of_the_functions(network, batch_size):
    scores = scores_of(network, batch_size=batch_size)
    long, short = clip(13), clip(4, seed=1)
    found = scores.update("long", iter(long), count=13)
    assert scores.update("short", short).keys() == found.keys() == {
        name for name, metric in VIDEO_METRICS.items() if not metric.per_set}
    whole = composites(long)
    pairs = list(zip((row[0] for row in long), whole, strict=True))
    expected = {
        "psnr": np.mean([peak_signal_noise_ratio(a, b) for a, b in pairs]),
        "ssim": np.mean([structural_similarity(a, b, channel_axis=2) for a, b in pairs]),
        "ssim2": np.mean([structural_similarity(a / 255, b / 255, data_range=2, channel_axis=2) for a, b in pairs]),
        "pcons": np.mean([tried_out(whole[t], long[t][1], whole[t + 1]) for t in range(12)]),
        "lpips": np.mean([np.abs(a / 255 - b / 255).mean() for a, b in pairs]),
    }
    images = torch.stack([torch.from_numpy(np.stack(side)).movedim(-1, 1) for side in zip(*pairs, strict=True)]) / 255
    masks = torch.from_numpy(np.stack([row[1] for row in long]))[:, None].float()
    expected["psnr_hole"] = functional.psnr(*images, masks).mean().item()
    expected["ssim_hole"] = functional.ssim(*images, masks).mean().item()
    flow = constant(-1, -2, (64, 72)).expand(12, -1, -1, -1)
    seen = video.visible(flow, -flow)
    squares = (images[1, :-1] - warp(images[1, 1:], flow)).square().mean(dim=1, keepdim=True)
    touched = seen & video.touches_hole(masks[:-1], masks[1:], flow)
    for name, where in ("warp_error", seen), ("warp_error_hole", touched):
        expected[name] = np.mean([squares[t][where[t]].mean().item() for t in range(12)])
    assert (images[0, :-1] - warp(images[0, 1:], flow))[seen.expand(-1, 3, -1, -1)].abs().max() < 1e-5
    windows = [network(images[:, start:start + 10]) for start in range(4)]
    sides = [[{name: value[i:i + 1] for name, value in window.items()} for i in range(2)] for window in windows]
    expected["pvcs"] = np.mean([video.pvcs(a, b).item() for a, b in sides])
    assert found == {name: pytest.approx(value, rel=1e-4) for name, value in expected.items()}
    assert 0 < found["warp_error"] < found["warp_error_hole"]

    result = scores.compute()
    assert result["count"] == 2 and result["frames"] == 17
    assert [video["name"] for video in result["videos"]] == ["long", "short"]
    assert result["videos"][0] == {"name": "long", "frames": 13, "hole_area": pytest.approx(500 / (64 * 72)), **found}
    values = [video["pcons"] for video in result["videos"]]
    assert result["totals"]["pcons"] == {"mean": pytest.approx(np.mean(values)), "std": pytest.approx(np.std(values)),
                                         "count": 2}
    others = torch.from_numpy(np.stack([[row[0] for row in short], composites(short)])).movedim(-1, 2) / 255
    features = [torch.cat([Features()(images[i]), Features()(others[i])]) for i in range(2)]
    assert result["totals"]["fid"] == pytest.approx(frechet_distance(*features), rel=1e-3)
    padded = torch.cat([others, others[:, -1:].expand(-1, 6, -1, -1, -1)], dim=1)
    clips = torch.stack([video.video_feature(window) for window in [*windows, network(padded)]], dim=1)
    assert result["totals"]["vfid_clips"] == pytest.approx(frechet_distance(*clips), rel=1e-3)
    videos = torch.stack([video.video_feature(network(images)), video.video_feature(network(others))], dim=1)
    assert result["totals"]["vfid"] == pytest.approx(frechet_distance(*videos), rel=1e-3)
    assert result["totals"]["vfid"] > 0


def test_only_the_hole_of_a_prediction_counts():
    rows = clip(3)
    other = [(truth, mask, np.where(mask[..., None] == 1, prediction, 0).astype(np.uint8))
             for truth, mask, prediction in rows]
    scores = VideoScores()
    assert scores.update("a", rows) == scores.update("b", other)


def test_nothing_to_measure():
    scores = VideoScores(metrics=["psnr", "ssim", "psnr_hole", "ssim_hole", "pcons", "warp_error", "warp_error_hole"],
                         estimator=Moving())
    found = scores.update("no hole", clip(2, hole=False))
    assert found["psnr"] == 60 and found["ssim"] == 1 and found["warp_error"] < 1e-9
    assert all(math.isnan(found[name]) for name in ("psnr_hole", "ssim_hole", "pcons", "warp_error_hole"))
    one = scores.update("one frame", clip(1))
    assert math.isnan(one["pcons"]) and math.isnan(one["warp_error"]) and one["psnr"] > 20
    half = scores.update("hole in one", clip(1) + clip(1, hole=False))
    assert half["psnr"] == (60 + one["psnr"]) / 2
    totals = scores.compute()["totals"]
    values = [60, one["psnr"], half["psnr"]]
    assert totals["psnr"] == {"mean": pytest.approx(np.mean(values)), "std": pytest.approx(np.std(values)), "count": 3}
    assert totals["ssim"]["count"] == 3 and totals["pcons"]["count"] == 1
    assert math.isnan(VideoScores(metrics=["fid"], inception=Features()).compute()["totals"]["fid"])


def test_pcons_is_capped_by_the_set_alone():
    """DEVIL caps no pair; its summary lets an infinite video count with the largest finite one."""
    frame, mask = noise(5), rectangle(20, 20, 30, 30)
    changed = frame.copy()
    changed[32, 32, 0] ^= 1  # one grey level in one sample of the patch
    scores = VideoScores(metrics=["pcons"])
    near = scores.update("near", [(frame, mask, frame), (changed, mask, changed)])["pcons"]
    assert near == pytest.approx(10 * math.log10(255 ** 2 * 3 * 50 ** 2))
    still = scores.update("still", [(frame, mask, frame)] * 2 + [(changed, mask, changed)])["pcons"]
    assert still == math.inf
    assert scores.compute()["totals"]["pcons"] == {"mean": pytest.approx(near), "std": 0, "count": 2}
    [remark] = scores.remarks()
    assert remark == "pcons: infinite (counts with the largest finite score) for 1 of 2 videos, such as still"


def test_a_video_that_raises_does_not_count(network):
    scores = scores_of(network, metrics=["psnr", "vfid", "fid"])
    good = clip(3)
    for name, rows, count, message in (
        ("none", [], None, "none: .*no frames|at least one frame"),
        ("fewer", good, 4, "fewer: .*expected 4 frames, got 3"),
        ("more", good, 2, "more: .*expected 2 frames, got more"),
        ("unknown", iter(good), None, "unknown: vfid must know in advance"),
        ("sizes", good + clip(1, size=(64, 80)), 4, r"sizes: frame 3: expected truth of shape \(64, 72, 3\)"),
        ("mask", [(*good[0][:1], good[0][1][1:], good[0][2])], None, r"mask: frame 0: expected a mask \(64, 72\)"),
        ("float", [(good[0][0] / 255, *good[0][1:])], None, "float: frame 0: expected truth .* uint8, got .*float64"),
        ("small", [tuple(part[:16, :16] for part in row) for row in good], None, "small: I3D: .*at least 32 x 32"),
    ):
        with pytest.raises(InputError, match=message):
            scores.update(name, rows, count=count)
    assert scores.compute()["count"] == 0
    scores.update("good", good)
    with pytest.raises(InputError, match="two videos 'good'"):
        scores.update("good", good)
    assert scores.compute()["count"] == 1 and scores.compute()["frames"] == 3


def test_networks_only_when_asked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert VideoScores().networks == {}
    assert set(VideoScores(metrics=["psnr", "warp_error"]).networks) == {"estimator"}
    for metric, file in ("pvcs", "rgb_imagenet.pt"), ("fid", "pt_inception"), ("lpips", "alexnet"):
        with pytest.raises(InputError, match=file):
            VideoScores(metrics=[metric])
    with pytest.raises(InputError, match="there is no 'vfid_clip'"):
        VideoScores(metrics=["vfid_clip"])
    with pytest.raises(InputError, match="at least one of"):
        VideoScores(metrics=[])


def test_memory_does_not_grow_with_the_video(network):
    """Frames are taken as they are needed, and let go."""
    alive, most = [], 0

    class Frame(np.ndarray):
        pass

    def stream():
        nonlocal most
        for truth, mask, prediction in clip(25):
            truth = truth.view(Frame)
            alive.append(weakref.ref(truth))
            most = max(most, sum(reference() is not None for reference in alive))
            yield truth, mask, prediction

    scores_of(network, metrics=["psnr", "pcons", "vfid", "warp_error"], batch_size=1).update("long", stream(), count=25)
    assert most <= 6


def test_scores_are_those_of_the_benchmark(reference, root):
    """Needs the 21 frames that the stored scores are of: not part of the repository, but perhaps beside it."""
    places = [place / "data" / "devil_sample" for place in (root, root.parent / "shared")]
    folder = Path(os.environ.get("DEVIL_SAMPLE") or next(filter(Path.is_dir, places), places[0]))
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    expected = json.loads((reference.folder / "devil_sample.json").read_text())
    names = sorted(path.name[:-7] for path in folder.glob("input/*_gt.png"))
    rows = [(cv2.imread(str(folder / "input" / f"{name}_gt.png"))[..., ::-1],
             cv2.imread(str(folder / "input" / f"{name}_mask.png"), cv2.IMREAD_GRAYSCALE) == 0,
             cv2.imread(str(folder / "prediction" / f"{name}_pred.png"))[..., ::-1]) for name in names]
    assert len(rows) == expected["frames"]
    found = VideoScores(metrics=["psnr", "ssim", "ssim2", "pcons"]).update("sample", rows)
    assert found == {"psnr": pytest.approx(expected["psnr"], abs=1e-4),
                     "ssim": pytest.approx(expected["ssim_data_range_1"], abs=1e-5),
                     "ssim2": pytest.approx(expected["ssim_data_range_2"], abs=1e-5),
                     "pcons": pytest.approx(expected["pcons_psnr_mask"], abs=1e-4)}
