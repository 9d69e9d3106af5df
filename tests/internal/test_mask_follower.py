"""Masks from annotated frames by a fitted network: samples, loss, networks, and what a job makes of them."""
import importlib
import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from gi.errors import InputError
from gi.internal.fitting import Recipe
from gi.internal.layers import even_out
from gi.internal.mask_follower import CorrectedFlow, MaskFit, NetworkFollower
from gi.internal.mask_networks import MaskBase, MaskLarge, mask_loss
from gi.internal.mask_samples import PastedObjects, deformed
from gi.media import io
from gi.media.files import open_video
from gi.video.propagate import MaskPropagation
from gi.video.propagate_flow import Annotated, FlowFollower
from tests.test_propagate_masks import found, object_video, overlaps, video  # noqa: F401  a fixture

OPTIONS = {"batch_size": 1, "device": "cpu"}


def job(video, out, follower, numbers=(0,), **options):  # noqa: F811
    masks = object_video()[1]
    return MaskPropagation(follower, open_video(video / "frames"), {number: masks[number] for number in numbers}, out,
                           **{"max_side": 32} | options)


def test_samples():
    """The object a second time, cyclically, with its own colours; what is drawn follows from seed and index."""
    (frame, *_), (mask, *_) = object_video(1)
    samples = PastedObjects([frame, frame], [mask, 0 * mask], length=9)
    for index in range(4):
        sample = samples[index]
        target, image = sample["target"][0].numpy().astype(bool), sample["image"].numpy().transpose(1, 2, 0)
        assert target.sum() == mask.sum() and np.array_equal(image[~target], frame[~target])
        assert np.array_equal(np.sort(image[target], axis=0), np.sort(frame[mask > 0], axis=0))
        assert np.array_equal(sample["excluded"][0], mask) and not sample["prior"].any()
        assert all(torch.equal(sample[name], samples[index][name]) for name in sample)
    assert not torch.equal(samples[0]["target"], samples[1]["target"])
    guided = PastedObjects([frame], [mask], length=9, prior=True)
    assert np.array_equal(guided[1]["target"][0], mask) and not guided[1]["excluded"].any()
    guesses = [deformed(mask, np.random.default_rng(seed)) for seed in range(20)]
    ratios = overlaps(guesses, [mask] * 20)
    assert 0.4 < min(ratios) < 0.85 < max(ratios) <= 1
    with pytest.raises(InputError, match="none of the masks has an object"):
        PastedObjects([frame], [0 * mask], length=9)


def test_loss():
    """Torch's cross-entropy, weighted; inside the object nothing is asked."""
    p, t = torch.rand(2, 1, 8, 9), (torch.rand(2, 1, 8, 9) > 0.5).float()
    excluded = torch.zeros_like(t)
    for alpha in (1.0, 0.8):
        expected = F.binary_cross_entropy(p, t, weight=t + alpha * (1 - t))
        assert torch.allclose(mask_loss(p, t, excluded, alpha=alpha), expected)
    excluded[..., :4] = 1
    part = mask_loss(p[..., 4:], t[..., 4:], excluded[..., 4:]) * 5 / 9
    assert torch.allclose(mask_loss(p, t, excluded), part, atol=1e-6)


def test_networks_take_any_size():
    image, prior = torch.rand(2, 3, 33, 46), torch.zeros(2, 1, 33, 46)
    network = MaskBase()
    assert network(image, prior).shape == (2, 1, 33, 46)
    assert torch.equal(network(image, prior), network(image, prior + 1))  # without a prior
    network = MaskBase(prior=True)
    even_out(network, image, prior)
    assert not torch.equal(network(image, prior), network(image, prior + 1))
    assert sum(p.numel() for p in MaskBase().parameters()) < 1_629_951  # the base network's, of three channels each way


@pytest.mark.slow
@torch.no_grad()
def test_the_large_network_takes_any_size():
    assert MaskLarge()(torch.rand(1, 3, 33, 46)).shape == (1, 1, 33, 46)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [NetworkFollower, CorrectedFlow])
def test_learns_what_the_object_looks_like(video, tmp_path, kind):  # noqa: F811
    truth = object_video()[1]
    follower = kind(steps=100, device="cpu")
    list(job(video, tmp_path / "out", follower, numbers=(0, 6), max_side=56).run())
    result = found(tmp_path / "out")
    assert np.mean(overlaps(result, truth)) > 0.8
    assert np.array_equal(result[0], truth[0]) and np.array_equal(result[6], truth[6])


def test_flow_is_corrected(monkeypatch):
    """By as much as the network weighs: nothing, or so much that it finds what flow has lost."""
    frames, masks = object_video()
    past = [Annotated(frame, mask) for frame, mask in zip(frames[:3], masks[:3], strict=True)]
    monkeypatch.setattr(CorrectedFlow, "probability", lambda self, frame, prior: masks[3].astype(np.float32))
    nothing, all_of_it = (CorrectedFlow(steps=1, weight=weight, device="cpu") for weight in (0, 100))
    assert np.array_equal(nothing.find(past, frames[3]), FlowFollower().find(past, frames[3]))
    elsewhere = [Annotated(frame, np.roll(mask, 30, axis=1)) for frame, mask in past]
    assert overlaps([FlowFollower().find(elsewhere, frames[3])], masks[3:4])[0] < 0.2
    assert overlaps([all_of_it.find(elsewhere, frames[3])], masks[3:4])[0] > 0.95


@pytest.mark.slow
def test_an_interrupted_fit_goes_on(video, tmp_path, capsys):  # noqa: F811
    steps = job(video, tmp_path / "out", NetworkFollower(steps=4, **OPTIONS)).run()
    assert [step.done for step in itertools.islice((s for s in steps if s.stage == "fitting"), 3)] == [0, 1, 2]
    steps.close()
    steps = list(job(video, tmp_path / "out", NetworkFollower(steps=4, **OPTIONS)).run())
    assert [step.done for step in steps if step.stage == "fitting"] == [2, 3, 3, 4]
    list(job(video, tmp_path / "whole", NetworkFollower(steps=4, **OPTIONS)).run())
    assert np.array_equal(found(tmp_path / "out"), found(tmp_path / "whole"))
    assert "only 4 steps" in capsys.readouterr().err


def test_a_fit_that_has_learned_nothing_does_not_end_early(tmp_path):
    frames, masks = object_video(1)
    fit = MaskFit(MaskBase(), [Annotated(frames[0], masks[0])], Recipe(1, 2e-3), alpha=0.8, threshold=0.5, seed=0,
                  folder=tmp_path, minutes=1)
    for score, flat in (0.0, False), (60.0, True):
        fit.scores = [[step, step, score] for step in range(20)]
        assert fit._is_flat() == flat


def test_every_frame_by_itself_needs_no_annotation_in_each_shot(tmp_path):
    frames, masks = object_video()
    for number, frame in enumerate([*frames[:6], *(255 - frame for frame in frames[6:])]):
        io.write_image(tmp_path / "frames" / f"{number:02d}.png", frame)
    follower = NetworkFollower(steps=1, **OPTIONS)
    work = MaskPropagation(follower, open_video(tmp_path / "frames"), {3: masks[3]}, tmp_path / "out", max_side=32)
    assert [step.total for step in work.run() if step.stage == "masks found"][-1] == 11


@pytest.mark.parametrize("words, message", [
    (["--minutes", "1", "--steps", "1"], "minutes and steps: expected one of them"),
    (["--steps", "0"], "a network that is not fitted finds nothing"),
    (["--minutes", "-1"], "minutes: expected at least 0"),
    (["network=large"], "expected one of base, unet"),
    (["--threshold", "1.5"], "threshold: expected a number in"),
])
def test_options(video, tmp_path, words, message):  # noqa: F811
    main = importlib.import_module("gi.commands.propagate_masks").main
    with pytest.raises(InputError, match=message):
        main([str(video / "frames"), str(video / "0.png"), str(tmp_path / "out"), "--method", "internal", *words])


def test_finding_before_fitting():
    frames, masks = object_video(2)
    with pytest.raises(InputError, match="not fitted to annotated frames yet"):
        NetworkFollower(steps=1, device="cpu").find([Annotated(frames[0], masks[0])], frames[1])
