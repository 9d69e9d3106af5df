"""Large videos: grids without seams, priors that know nothing of what is hidden, stages that go on where they were."""
import itertools
import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from gi.errors import InputError
from gi.internal import method as method_module
from gi.internal import progressive as module
from gi.internal.fitting import Recipe
from gi.internal.grid import cells, fill_cells
from gi.internal.hidden import Translations
from gi.internal.layers import Layer, Stack
from gi.internal.networks import InternalNetwork
from gi.internal.objective import TwoPhases
from gi.internal.patches import HiddenPatches
from gi.internal.preview import fill_frame
from gi.internal.progressive import StageFitting, Stages, enlarged, halved, pyramid, stage_shots, stage_sizes
from gi.internal.reconstruction import Reconstruction
from gi.internal.shot import Shot
from gi.media import io
from gi.media.crop import Box
from gi.video.method import build_method
from tests.test_video_pipeline import scene
from tests.video_helpers import pictures, video_job, write_folders

COUNT = 4


class Local(InternalNetwork):
    """One layer of 5x5, which sees two pixels far."""

    def __init__(self, *, prior_channels=0):
        super().__init__()
        self.prior_channels = prior_channels
        self.net = Stack(4 + prior_channels, {"last": Layer(3, kernel=5, activation=None)})

    def stages(self, x, hole, prior=None):
        inputs = [x * (1 - hole), hole, *([] if prior is None else [prior])]
        return [torch.tanh(self.net(torch.cat(inputs, dim=1)))]


def seeded(seed=0, **options):
    torch.manual_seed(seed)
    return Local(**options).requires_grad_(False)


def make_shot(height, width, count=COUNT):
    frames, masks = (np.stack(part) for part in zip(*scene(count, height, width), strict=True))
    return Shot(np.where(masks[..., None] > 0, 0, frames).astype(np.uint8), masks.astype(np.uint8))


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_folders(tmp_path_factory.mktemp("video"), scene(COUNT, 36, 48))


@pytest.mark.parametrize("size, side, expected", [
    ((2160, 3840), 960, [(540, 960), (1080, 1920), (2160, 3840)]),
    ((2160, 3840), 480, [(270, 480), (540, 960), (1080, 1920), (2160, 3840)]),
    ((480, 854), 480, [(240, 427), (480, 854)]),
    ((405, 721), 480, [(203, 361), (406, 722)]),
    ((270, 480), 480, [(270, 480)]),
    ((2161, 3840), None, [(2161, 3840)]),
])
def test_sizes(size, side, expected):
    assert stage_sizes(size, side) == expected


# The grid -------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("size, part", [((100, 90), (32, 40)), ((33, 200), (64, 48)), ((32, 40), (32, 40))])
def test_weights_sum_to_one(size, part):
    total = np.zeros(size)
    for box, weight in cells(size, part):
        assert box.size == weight.shape == tuple(np.minimum(size, part))
        box.of(total)[...] += weight
    assert np.abs(total - 1).max() < 1e-6


def test_parts_equal_the_whole():
    """Of a network that sees no farther than the margin that does not count; parts side by side have seams."""
    rng = np.random.default_rng(0)
    image, prior = rng.integers(0, 256, (2, 75, 100, 3), dtype=np.uint8)
    hole = np.zeros((75, 100), np.uint8)
    hole[5:70, 9:90] = 1
    network = seeded(prior_channels=3)
    whole = fill_frame(network, image, hole, prior).astype(int)

    def draw(box):
        return fill_frame(network, *(box.of(x) for x in (image, hole, prior)))

    blended = np.where(hole[..., None] > 0, fill_cells(draw, hole, (32, 40)), image)
    assert np.abs(blended - whole).max() <= 1
    beside = np.concatenate([draw(Box(0, 0, 75, 40)), draw(Box(0, 40, 75, 100))], axis=1)
    assert np.abs(beside - whole).max() > 10


def test_only_parts_with_a_hole_are_drawn():
    hole, drawn = np.zeros((120, 160), np.uint8), []

    def draw(box):
        drawn.append(box)
        return np.full((*box.size, 3), 7.0)

    fill_cells(draw, hole, (40, 40))
    assert not drawn
    hole[100:104, 120:128] = 1
    result = fill_cells(draw, hole, (40, 40))
    assert (result[hole > 0] == 7).all()
    assert 1 <= len(drawn) <= 4 and all(box.of(hole).any() for box in drawn)


def test_large_frames_need_one_part_of_memory_at_a_time():
    """Of the networks' work, that is: whatever the frame's size, no part is larger than the first stage."""
    sizes = [(18, 24), (36, 48), (72, 96)]
    image, mask = (x[0] for x in (make_shot(72, 96).frames, make_shot(72, 96).masks))
    seen = []

    class Watched(Local):
        def stages(self, x, hole, prior=None):
            seen.append(tuple(x.shape[-2:]))
            return super().stages(x, hole, prior)

    networks = [Watched().eval(), *(Watched(prior_channels=3).eval() for _ in sizes[1:])]
    images, holes = pyramid(image, mask, sizes)
    result = Stages(networks, sizes[0]).fill(images, holes)
    assert set(seen) == {(20, 24)}  # 18, padded
    assert np.array_equal(result[mask == 0], image[mask == 0]) and result[mask > 0].std() > 0


# Priors ---------------------------------------------------------------------------------------------------------------

def test_enlarging_a_part():
    picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    whole = enlarged(picture, Box(0, 0, 20, 30), Box(0, 0, 40, 60))
    assert whole.shape == (40, 60, 3)
    part = enlarged(picture[5:18, 7:28], Box(5, 7, 18, 28), Box(15, 19, 31, 50))
    assert np.array_equal(part, whole[15:31, 19:50])


def test_halved():
    mask = np.zeros((5, 6), np.uint8)
    mask[4, 3] = mask[0, 0] = 1
    box, half = halved(Box(8, 4, 13, 10), mask)
    assert box == (4, 2, 7, 5) and np.array_equal(half, [[1, 0, 0], [0, 0, 0], [0, 1, 0]])


def test_prior_is_what_the_stages_before_draw(tmp_path):
    """It enters, is that of the fill, and knows nothing of the pixels that a moved hole hides."""
    sizes = [(18, 24), (36, 48), (72, 96)]
    stages = Stages([seeded(), seeded(prior_channels=3)], sizes[0])
    box, moved = Box(20, 40, 38, 64), np.zeros((18, 24), np.uint8)
    moved[4:12, 5:17] = 1

    def begin(shot):
        return StageFitting(Local(prior_channels=3), stage_shots(shot, sizes, tmp_path), stages,
                            TwoPhases(terms={"reconstruction": Reconstruction()}), Recipe(1, 1e-3), folder=tmp_path,
                            steps=1)

    def prior(shot):
        return begin(shot).prior(moved, 1, box)

    shot = make_shot(72, 96)
    before = prior(shot)
    hidden, known = Shot(shot.frames.copy(), shot.masks), Shot(shot.frames.copy(), shot.masks)
    box.of(hidden.frames[1])[moved > 0] ^= 255
    assert np.array_equal(prior(hidden), before)
    box.of(known.frames[1])[moved == 0] ^= 255
    assert np.abs(prior(known).astype(int) - before).max() > 20

    holes = [mask.copy() for mask in pyramid(shot.frames[1], shot.masks[1], sizes)[1]]
    box.of(holes[2])[moved > 0] = 1
    images, holes = pyramid(shot.frames[1], holes[2], sizes)
    filled = stages.fill(images[:2], holes[:2])
    # A part around the place is not one of the grid, so that what is far away may differ.
    off = np.abs(box.of(enlarged(filled, Box(0, 0, 36, 48), Box(0, 0, 72, 96))).astype(int) - before)[moved > 0]
    assert np.median(off) <= 1

    fitting = begin(shot)
    batch = fitting._batch(fitting.samples, range(1))
    assert batch["prior"].shape == (1, 3, 18, 24)
    args = [batch[name].float() for name in ("image", "mask", "prior")]
    drawn = fitting.network(*args)[-1]
    assert not torch.equal(fitting.network(*args[:2], args[2] / 2)[-1], drawn)


def test_samples(tmp_path):
    """Parts of frames with pieces of holes; oftener near the frame's own hole."""
    shot = make_shot(72, 96)
    shots = stage_shots(shot, [(36, 48), (72, 96)], tmp_path)
    asked = []

    def prior(moved, number, box):
        asked.append((number, box))
        return np.zeros((*box.size, 3), np.uint8)

    samples = HiddenPatches(shots, (36, 48), length=60, prior=prior)
    for index in range(60):
        sample = samples[index]
        number, box = asked[-1]
        assert box.top % 2 == box.left % 2 == 0 and box.size == (36, 48)
        assert box.bottom <= 72 and box.right <= 96
        assert np.array_equal(sample["image"].permute(1, 2, 0), box.of(shot.frames[number]))
        assert np.array_equal(sample["mask"][0], box.of(shot.masks[number]))
        assert 0 < sample["moved"].float().mean() < 1
    assert len(set(asked)) > 50

    own = np.zeros((96, 160), np.uint8)
    own[40:56, 60:100] = 1
    draws = Translations(factor=5, band=1 / 4)
    near = draws._near(own, (36, 48))
    rng = np.random.default_rng(0)
    hits = np.mean([near[draws.centre(rng, own, (36, 48))] for _ in range(2000)])
    share = near.mean()
    assert hits == pytest.approx(5 * share / (5 * share + 1 - share), abs=0.04) and share < 0.3


def test_shot_in_files(tmp_path):
    """What is let go comes back from the files."""
    shot = make_shot(36, 48)
    stored = Shot.read(shot.frames, shot.masks, count=COUNT, size=(36, 48), folder=tmp_path, budget=1)
    stored.release()
    assert isinstance(stored.frames, np.memmap) and np.array_equal(stored.frames, shot.frames)
    assert np.array_equal(stored.masks, shot.masks) and np.array_equal(np.load(tmp_path / "frames.npy"), shot.frames)


# The method -----------------------------------------------------------------------------------------------------------

@pytest.fixture
def small(monkeypatch):
    """The method with networks of one layer."""
    monkeypatch.setitem(method_module.NETWORKS, "base", Local)
    monkeypatch.setattr(method_module, "Progressive", lambda: Local(prior_channels=3))
    monkeypatch.setattr(module, "STAGE_BUDGET", 1)  # stages lie in files


def job(video, out, **options):
    method = build_method("internal", {"max_side": 48, "stage_side": 32, "steps": 9, "device": "cpu"} | options)
    return video_job(method, video, out)


def test_goes_on_in_a_later_stage(video, tmp_path, small, monkeypatch, capsys):
    monkeypatch.setattr(StageFitting, "improves", True)
    list(job(video, tmp_path / "whole", keep_network=str(tmp_path / "network.pt")).run())
    assert "stage 2 of 2, 48x36" in capsys.readouterr().err
    steps = job(video, tmp_path / "parts").run()
    assert [step.done for step in itertools.islice(steps, 9)] == [0, 1, 2, 3, 3, 4, 4, 5, 6]
    steps.close()
    again = [step for step in job(video, tmp_path / "parts").run() if step.stage == "fitting"]
    assert [step.done for step in again] == [3, 4, 6, 7, 8, 8, 9] and {step.total for step in again} == {9}
    result = pictures(tmp_path / "whole")
    assert np.array_equal(pictures(tmp_path / "parts"), result)
    frames, masks = pictures(video / "frames"), pictures(video / "masks", io.read_mask)
    assert np.array_equal(result[masks == 0], frames[masks == 0])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["network.pt", "parts", "whole"]
    list(job(video, tmp_path / "again", steps=0, start_from=str(tmp_path / "network.pt")).run())
    assert np.array_equal(pictures(tmp_path / "again"), result)


def test_a_stage_that_does_not_pay(video, tmp_path, small, monkeypatch, capsys):
    """Its network is left out, so that the result is the first stage's, enlarged."""
    monkeypatch.setattr(StageFitting, "improves", False)
    list(job(video, tmp_path / "a", keep_network=str(tmp_path / "network.pt")).run())
    assert "stage 2: not better than the stage before" in capsys.readouterr().err
    method = job(video, tmp_path / "b", steps=0, start_from=str(tmp_path / "network.pt")).method
    assert method.networks[1:] == [None]
    frame, mask = io.read_image(video / "frames" / "00001.png"), io.read_mask(video / "masks" / "00001.png")
    small_filled = Stages(method.networks[:1], (18, 24)).fill(*pyramid(frame, mask, [(18, 24)]))
    expected = enlarged(small_filled, Box(0, 0, 18, 24), Box(0, 0, 36, 48))
    assert np.array_equal(pictures(tmp_path / "a")[1][mask > 0], expected[mask > 0])


def test_budget_is_shared(video, tmp_path):
    method = build_method("internal", {"steps": 90, "device": "cpu"})
    assert method._budgets(3) == [20, 30, 40] and method._budgets(1) == [90]
    method = build_method("internal", {"minutes": 1, "shares": [3, 1], "device": "cpu"})
    assert method._budgets(2) == [45, 15]
    with pytest.raises(InputError, match="shares: expected 3 numbers, one for each stage"):
        method._budgets(3)
    with pytest.raises(InputError, match="shares: expected a number for each stage, not all 0"):
        build_method("internal", {"shares": [0, 0], "device": "cpu"})


FOUR_K = """
import json, resource, sys, tempfile, time
from pathlib import Path
import numpy as np
from gi.internal import fitting
from gi.internal.method import Internal

fitting.SCORED = 1

class Video:
    def __init__(self, count, mask):
        self.count, self.height, self.width, self.mask = count, 2160, 3840, mask

    def frames(self, start=0, stop=None):
        rows, columns = np.mgrid[:2160, :3840].astype(np.float32)
        for number in range(self.count)[start:stop]:
            if self.mask:
                frame = np.zeros((2160, 3840), np.uint8)
                frame[700:1300, 900 + 40 * number:1900 + 40 * number] = 1
            else:
                frame = np.empty((2160, 3840, 3), np.uint8)
                for channel in range(3):
                    waves = np.sin((columns + 9 * number) / (20 + 9 * channel)) * np.cos(rows / 31)
                    frame[..., channel] = 128 + 100 * waves
            yield frame

count = int(sys.argv[1])
video, masks = Video(count, False), Video(count, True)
start = time.time()
with tempfile.TemporaryDirectory() as folder:
    method = Internal(max_side=3840, steps=4, shares=[1, 1, 1, 1], device="cpu")
    for stage in method.fit(video, masks, folder=Path(folder), edited={}):
        pass
    fitted = time.time()
    method.networks = [network or method._start(stage) for stage, network in enumerate(method.networks)]  # all work
    fills = [fill.shape for fill in method.fill(video.frames(0, 1), masks.frames(0, 1), edited={})]
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2 ** 30 if sys.platform == "darwin" else 2 ** 20)
print(json.dumps([peak, fills, fitted - start, time.time() - fitted]))
"""


@pytest.mark.slow
def test_memory_of_4k(root):
    """With the real networks, four stages and one step each."""
    out = subprocess.run([sys.executable, "-c", FOUR_K, "3"], check=True, capture_output=True, text=True, cwd=root)
    peak, fills, *_ = json.loads(out.stdout.splitlines()[-1])
    assert fills == [[2160, 3840, 3]] and peak < 3
