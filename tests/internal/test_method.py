"""The method `internal`: fitting within a budget, interruptions, what a job makes of it."""
import errno
import importlib
import itertools
import math
import os

import numpy as np
import pytest
import torch

from gi.errors import InputError
from gi.internal import fitting as module
from gi.internal.fitting import Fitting, Recipe
from gi.internal.layers import GatedConv, Layer, Stack, even_out
from gi.internal.method import Internal
from gi.internal.networks import CoarseToFine, InternalNetwork
from gi.internal.objective import TwoPhases
from gi.internal.reconstruction import Reconstruction
from gi.internal.shot import Shot, mapped
from gi.media import io
from gi.video.method import build_method
from tests.test_video_pipeline import scene
from tests.video_helpers import pictures, video_job, write_folders

COUNT = 5


class Tiny(InternalNetwork):
    """Two layers."""

    def __init__(self):
        super().__init__()
        self.net = Stack(4, {"first": Layer(16, kernel=5), "last": Layer(3, activation=None)})

    def stages(self, x, hole, prior=None):
        return [torch.tanh(self.net(torch.cat([x * (1 - hole), hole], dim=1)))]


@pytest.fixture(scope="module")
def shot():
    frames, masks = (np.stack(part) for part in zip(*scene(COUNT, 24, 32), strict=True))
    return Shot(np.where(masks[..., None] > 0, 0, frames).astype(np.uint8), masks)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_folders(tmp_path_factory.mktemp("video"), scene(COUNT, 36, 48))


def begin(shot, folder, *, seed=0, regularisers=None, recipe=Recipe(batch_size=2, learning_rate=1e-2), **options):  # noqa: B008
    torch.manual_seed(seed)
    folder.mkdir(exist_ok=True)
    objective = TwoPhases(terms={"reconstruction": Reconstruction()}, regularisers=regularisers)
    return Fitting(Tiny(), shot, objective, recipe, folder=folder, **({"say": lambda line: None} | options))


def weights(fitting):
    return torch.cat([p.detach().flatten() for p in fitting.average.parameters()])


# Fitting --------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("bf16", [False, True])
def test_learns(shot, tmp_path, bf16):
    lines = []
    recipe = Recipe(batch_size=2, learning_rate=1e-2, bf16=bf16)
    fitting = begin(shot, tmp_path / "a", recipe=recipe, steps=60, say=lines.append)
    before = fitting.score()
    assert list(fitting.run())[::20] == [(0, 60), (20, 60), (40, 60), (59, 60)]
    assert fitting.score() > before + 3
    assert {parameter.dtype for parameter in fitting.network.parameters()} == {torch.float32}
    assert "60 steps" in lines[0] and "cv2.inpaint" in lines[0] and "only 60 steps" in lines[1]
    assert io.read_image(tmp_path / "a" / "preview.png").shape == (2 * 24 + 2, COUNT * 32, 3)


def test_signals_of_one_size():
    network, image = CoarseToFine(), torch.rand(2, 3, 32, 48)
    even_out(network, image, image[:, :1].round())
    sizes = []
    for part in network.modules():
        if isinstance(part, GatedConv) and part.layer.activation:
            part.register_forward_hook(lambda module, inputs, output: sizes.append(output.std().item()))
    network(image, image[:, :1].round())
    assert len(sizes) == 40 and np.ptp(sizes) < 0.01
    network.coarse_net.conv1.bias.data += 1
    before = network.coarse_net.conv5.weight.clone()
    even_out(network, image, image[:, :1].round())  # one that has learned is left alone
    assert torch.equal(network.coarse_net.conv5.weight, before)


@pytest.mark.parametrize("ending", ["stopped", "interrupted", "killed", "killed before a look"])
def test_goes_on_where_it_was(shot, tmp_path, ending, monkeypatch):
    """Stopped between two steps, or in one before its update, nothing is lost; killed, what came after the last half
    minute (here: each step), be there a look then or not.
    """
    regularisers = {"again": Reconstruction(weight=0.5)}
    whole = begin(shot, tmp_path / "whole", steps=8, regularisers=regularisers)
    list(whole.run())
    first = begin(shot, tmp_path / "parts", steps=8, regularisers=regularisers)
    if ending.startswith("killed"):
        monkeypatch.setattr(module, "LOOK", 0.0)
        monkeypatch.setattr(module, "LOOK_SHARE", 1e9 if ending == "killed" else 1e-9)
        first._look_cost = 1.0
    steps = first.run()
    assert [done for done, _ in itertools.islice(steps, 7)] == [0, 1, 2, 3, 4, 5, 6]
    assert len(first.scores) == (6 if ending == "killed" else 0)
    if ending == "stopped":
        steps.close()
    elif ending == "interrupted":
        def interrupt(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr(first.network, "stages", interrupt)
        with pytest.raises(KeyboardInterrupt):
            next(steps)
    second = begin(shot, tmp_path / "parts", seed=1, steps=8, regularisers=regularisers)
    assert second.step == 6
    assert next(second.run()) == (6, 8)
    second = begin(shot, tmp_path / "parts", seed=1, steps=8, regularisers=regularisers)
    list(second.run())
    assert torch.equal(weights(whole), weights(second))
    assert next(begin(shot, tmp_path / "parts", steps=8).run()) == (7, 8)


def test_budget_of_time(shot, tmp_path, monkeypatch):
    clock = itertools.count()
    monkeypatch.setattr(module.time, "monotonic", lambda: float(next(clock)))
    fitting = begin(shot, tmp_path / "a", minutes=0.2)
    progress = list(fitting.run())
    assert progress[0] == (0, 12) and progress[-1] == (12, 12) and 10 <= fitting.step <= 12  # looks take time
    rates = [fitting._rate(progress) for progress in (0.5, 0.85, 1)]
    assert rates[0] > rates[1] > rates[2] > 0


def test_exact_places_count_in_the_score(shot, tmp_path):
    """What fills all places but one exactly is better than that one says."""
    fitting = begin(shot, tmp_path / "a", steps=1)
    errors = iter([0.1] + 7 * [0.0])
    assert fitting.score_of(lambda batch: batch["image"] + next(errors)) == pytest.approx((20 + 7 * 60) / 8, abs=1e-3)
    assert fitting.score_of(lambda batch: batch["image"]) == 60


def test_second_phase_begins_anew(shot, tmp_path):
    fitting = begin(shot, tmp_path / "a", steps=8, regularisers={"again": Reconstruction(weight=0.5)})
    counts = []
    for _ in fitting.run():
        state = fitting.optimizer.state
        counts.append(max((int(entry["step"]) for entry in state.values()), default=0))
    assert counts[:9] == [0, 1, 2, 3, 4, 5, 6, 1, 2]


def test_ends_early_when_nothing_rises(shot, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LOOK", 0.0)
    monkeypatch.setattr(module, "LOOK_SHARE", 1e9)
    monkeypatch.setattr(Fitting, "score", lambda self: 20.0)
    clock = itertools.count()  # a step takes one second, and so does a look
    monkeypatch.setattr(module.time, "monotonic", lambda: float(next(clock)))
    counts = []
    for name, options in ("a", {"minutes": 1}), ("b", {"minutes": 1, "early_stop": False}), ("c", {"steps": 30}):
        fitting = begin(shot, tmp_path / name, **options)
        assert list(fitting.run())[-1] == (fitting.total, fitting.total)
        counts.append(fitting.step)
    early, late, counted = counts
    assert early < 0.4 * late and counted == 30  # the clock, which says when scores are taken, has no say in steps


def test_room_on_the_disk_is_taken_at_once(tmp_path, monkeypatch):
    """Or a disk that is full later would end the process at the first access to a page."""
    assert mapped(tmp_path / "a.npy", (3, 500, 500)).shape == (3, 500, 500)
    assert (tmp_path / "a.npy").stat().st_blocks * 512 >= 3 * 500 * 500

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left on device: .*b.npy"):
        mapped(tmp_path / "b.npy", (3, 500, 500))


def test_memory_that_is_short(shot, tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes")

    fitting = begin(shot, tmp_path / "a", steps=3)
    monkeypatch.setattr(fitting.network, "stages", fail)
    with pytest.raises(InputError, match="2 frame.s. of 32x24 at once; a smaller max_side=N or batch_size=N"):
        list(fitting.run())


def test_divergence(shot, tmp_path):
    fitting = begin(shot, tmp_path / "a", steps=3)
    steps = fitting.run()
    next(steps), next(steps)
    fitting.network.net.last.bias.data += torch.inf
    with pytest.raises(InputError, match="diverged before step 3; a learning_rate below 0.01"):
        list(steps)
    assert not (tmp_path / "a" / "state.pt").exists()


def test_full_disk_leaves_the_last_state(shot, tmp_path):
    fitting = begin(shot, tmp_path / "a", steps=3)
    steps = fitting.run()
    next(steps), next(steps)
    steps.close()
    before = (tmp_path / "a" / "state.pt").read_bytes()

    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))  # what does not fit cannot be written
        with pytest.raises(OSError, match="state.pt: cannot be written, is the disk full"):
            list(begin(shot, tmp_path / "a", steps=3).run())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / "a" / "state.pt").read_bytes() == before
    assert [path.name for path in (tmp_path / "a").glob(".*")] == []


# The method -----------------------------------------------------------------------------------------------------------

def job(video, out, masks="masks", **options):
    method = build_method("internal", {"max_side": 24, "steps": 3, "device": "cpu"} | options)
    return video_job(method, video, out, masks)


def test_command_line(video, tmp_path, root, monkeypatch):
    main = importlib.import_module("gi.commands.inpaint_video").main
    words = [str(video / "frames"), str(video / "masks")]
    network = tmp_path / "network.pt"
    options = ["--method", "internal", "--dilate", "0", "--resize", "24x18"]
    assert main([*words, str(tmp_path / "a"), *options, "--steps", "3", "--keep-network", str(network)]) == 0
    frames, masks = pictures(video / "frames"), pictures(video / "masks", io.read_mask)
    result = pictures(tmp_path / "a")
    assert np.array_equal(result[masks == 0], frames[masks == 0]) and not np.array_equal(result, frames)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "network.pt"]
    # What was kept fills the same without a fit, and is a start for another.
    assert main([*words, str(tmp_path / "b"), *options, "--steps", "0", "--start-from", str(network)]) == 0
    assert np.array_equal(pictures(tmp_path / "b"), result)
    assert main([*words, str(tmp_path / "c"), *options, "--minutes", "0.001", "--start-from", str(network)]) == 0
    assert not np.array_equal(pictures(tmp_path / "c"), result)


def test_interrupted_job_goes_on(video, tmp_path):
    steps = job(video, tmp_path / "a").run()
    assert [step.done for step in itertools.islice(steps, 3)] == [0, 1, 2]
    steps.close()
    resumed = [step for step in job(video, tmp_path / "a").run() if step.stage == "fitting"]
    assert [step.done for step in resumed] == [2, 2, 3]
    list(job(video, tmp_path / "whole").run())
    assert np.array_equal(pictures(tmp_path / "a"), pictures(tmp_path / "whole"))


def test_unusual_videos(video, tmp_path, caplog):
    """One frame; the same mask for all; masks that cover a frame wholly; regularisers without VGG-19."""
    frames, masks = pictures(video / "frames"), pictures(video / "masks", io.read_mask)
    io.write_image(tmp_path / "one" / "frames" / "0.png", frames[0])
    io.write_image(tmp_path / "one" / "masks" / "0.png", 255 * masks[0])
    with caplog.at_level("INFO"):
        list(job(tmp_path / "one", tmp_path / "a", regularise=True).run())
        assert "ambiguity: left out" in caplog.text and "same pixels" not in caplog.text
        io.write_image(video / "mask.png", 255 * masks[0])
        list(job(video, tmp_path / "b", "mask.png").run())
        assert "cover much the same pixels in every frame" in caplog.text
    assert pictures(tmp_path / "a").shape == (1, 36, 48, 3)
    for number, mask in enumerate(masks):
        io.write_image(video / "whole" / f"{number}.png", np.full_like(mask, 255) if number == 1 else 255 * mask)
    list(job(video, tmp_path / "c", "whole").run())
    io.write_image(video / "all.png", np.full_like(masks[0], 255))
    with pytest.raises(InputError, match="cover every frame wholly"):
        list(job(video, tmp_path / "d", "all.png").run())


@pytest.mark.parametrize("options, message", [
    ({"steps": 0}, "steps: a network that is not fitted draws noise"),
    ({"minutes": 1}, "minutes and steps: expected one of them"),
    ({"minutes": -1, "steps": None}, "minutes: expected at least 0"),
    ({"minutes": math.inf, "steps": None}, "minutes: expected a finite number"),
    ({"minutes": math.nan, "steps": None}, "minutes: expected at least 0"),
    ({"learning_rate": -1}, "learning_rate: expected at least"), ({"max_side": 0}, "max_side: expected at least 8"),
    ({"shares": [math.nan]}, "shares: expected a number for each stage"),
    ({"shares": [0, 1]}, "shares: expected more than 0 for the first stage"),
    ({"start_from": "nowhere.pt"}, "nowhere.pt: no such checkpoint"),
    ({"keep_network": "video.mp4"}, "keep_network: video.mp4: expected a name ending in .pt"),
    ({"network": "large"}, "expected one of base, stacked, coarse_to_fine"),
])
def test_options(video, tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        job(video, tmp_path / "a", **options)


def test_network_of_another_kind(video, tmp_path):
    torch.save({"state_dict": CoarseToFine().state_dict()}, tmp_path / "network.pt")
    with pytest.raises(InputError, match="network.pt: is of the network coarse_to_fine; expected network=coarse_to_f"):
        job(video, tmp_path / "a", start_from=str(tmp_path / "network.pt"))
    torch.save({"state_dict": Tiny().state_dict()}, tmp_path / "network.pt")
    with pytest.raises(InputError, match=r"network.pt does not fit Base: \d+ missing"):
        job(video, tmp_path / "a", start_from=str(tmp_path / "network.pt"))


def test_filling_before_fitting():
    with pytest.raises(InputError, match="not fitted to a video yet"):
        list(Internal(device="cpu")([np.zeros((8, 8, 3), np.uint8)], [np.ones((8, 8), np.uint8)]))
