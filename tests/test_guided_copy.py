"""Copies around a generator: the first guess of what is missing, trust in keyframes, and what the generator changes."""
import copy

import pytest
import torch

from gi.config import instantiate, load_config
from gi.errors import InputError
from gi.flow.unseen import smooth_fill, soft_fill
from gi.models.fold import prepare_for_inference
from gi.models.guided_copy import GuidedCopy, smooth_start
from gi.models.pixel_write import PixelWrite
from gi.video.keyframes.frame_streams import FrameStreams
from tests.families import CONFIGS, random_inputs, tiny_generator


@pytest.mark.parametrize("size", [(64, 64), (37, 50), (5, 3)])
def test_shares_of_0_and_1_are_the_smooth_fill(size):
    random = torch.Generator().manual_seed(0)
    image = torch.rand(3, 3, *size, generator=random)
    mask = (torch.rand(3, 1, *size, generator=random) < 0.6).float()
    mask[2] = 0
    assert torch.allclose(soft_fill(image * (1 - mask), 1 - mask), smooth_fill(image, mask), atol=1e-6)


def test_only_what_is_missing_is_filled():
    """With gradients all of an image is computed, without them only the part around the holes: to the same values."""
    image, mask = torch.rand(2, 3, 40, 50, generator=torch.Generator().manual_seed(0)), torch.zeros(2, 1, 40, 50)
    mask[0, :, 12:20, 30:] = mask[1, :, 3:9, 35:40] = 1
    known = image * (1 - mask)
    alone = soft_fill(known, 1 - mask, relax=True)
    assert torch.equal(alone, soft_fill(known.requires_grad_(), 1 - mask, relax=True))
    assert torch.equal(alone * (1 - mask), known)


@pytest.mark.parametrize("size", [(40, 90), (90, 40), (1, 64)])
@pytest.mark.parametrize("relax", [False, True])
def test_holes_from_edge_to_edge(size, relax):
    """At the coarsest size with a side of 1 pixel, there may still be pixels of which nothing is known."""
    known = torch.ones(1, 1, *size)
    known[(..., slice(None, 24)) if size[1] == 40 else (..., slice(20, None))] = 0
    assert torch.allclose(soft_fill(0.5 * known, known, relax=relax), torch.full(size, 0.5))


def test_little_trust_has_little_influence():
    image, share = torch.zeros(1, 3, 32, 32), torch.ones(1, 1, 32, 32)
    share[..., 8:24, 8:24] = 0
    filled = []
    for trust in (0.0, 0.01, 0.5, 1.0):
        share[..., 16, 16] = trust
        colours = image.clone()
        colours[..., 16, 16] = trust  # white among black
        filled.append(soft_fill(colours, share)[0, 0])
    assert not filled[0].any() and filled[3][16, 16] == 1
    assert 0 < filled[1][16, 16] < 0.1 < filled[2][16, 16] < 1
    assert 0 < filled[1][12, 12] < filled[2][12, 12] <= filled[3][12, 12]
    constant = soft_fill(0.3 * share.expand(1, 3, 32, 32), share)
    assert torch.allclose(constant, torch.full_like(constant, 0.3), atol=1e-6)


def test_keyframes_enter_and_are_continued():
    target, sources, _, _ = random_inputs(1, 1, 48, 48)
    truth = torch.linspace(0, 1, 48).expand(1, 3, 48, 48)
    target = torch.cat([truth * (1 - target[:, 3:]), target[:, 3:]], dim=1)
    mask = target[:, 3:]
    half = mask.clone()
    half[..., 24:] = 0
    sources = torch.cat([truth * (1 - half), half], dim=1)[:, None]  # shows one half of the hole, where there is one
    flows, errors = torch.zeros(1, 1, 2, 48, 48), torch.zeros(1, 1, 1, 48, 48)
    torch.manual_seed(0)
    pixel_write = PixelWrite(8)
    start, guessed = smooth_start(target, pixel_write, sources.unbind(1), flows, errors)
    alone, all_guessed = smooth_start(target)
    assert torch.equal(all_guessed, mask) and not guessed[mask == 0].any() and guessed[half > 0].min() == 1
    shown = (mask > 0) & (half == 0)
    assert guessed[shown].numel() == 0 or guessed[shown].max() < 0.5
    wrong, before = ((picture - truth).abs().mean(dim=1, keepdim=True) for picture in (start, alone))
    assert wrong[mask > 0].mean() <= before[mask > 0].mean() and torch.equal(start * (1 - mask), target[:, :3])


def test_gradients_reach_the_trust():
    generator = GuidedCopy(pixel_width=8)
    generator(*random_inputs(2, 2, 32, 32)).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in generator.parameters())
    assert generator.pixel_write.head[0].weight.grad.abs().max() > 0


def test_drawing_changes_guesses_only():
    node = load_config([CONFIGS / "small" / "ours_small.yaml"]).model.params.generator
    generator = instantiate(node).eval()
    torch.nn.init.normal_(generator.network.decoder.to_rgb.weight)
    for t in (0, 2):
        target, sources, flows, errors = random_inputs(2, t, 50, 41)
        guides = (sources.unbind(1), flows, errors) if t else ()
        with torch.no_grad():
            start, guessed = smooth_start(target, generator.pixel_write, *guides)
            drawn = generator(target, sources, flows, errors)
        assert drawn.shape == start.shape and (drawn - start).abs().max() > 0.1
        with torch.no_grad():
            assert torch.allclose(prepare_for_inference(generator)(target, sources, flows, errors), drawn, atol=1e-4)
        known = (guessed == 0).expand_as(start)
        assert torch.equal(drawn[known], start[known])


@pytest.mark.parametrize("name", ["ours", "transformer", "lama", "lama_spectralfuse"])
def test_a_change_begins_with_none_and_can_be_learned(name):
    torch.manual_seed(0)
    generator, (target, *others) = wrapped(name, side=32), random_inputs(2, 1, 48, 64)
    with torch.no_grad():
        start, _ = smooth_start(target, generator.pixel_write, others[0].unbind(1), *others[1:])
        assert torch.equal(generator(target, *others), start)
    optimizer, errors = torch.optim.Adam(generator.train().network.parameters(), 2e-3), []
    for _ in range(10):
        error = (generator(target, *others) - target[:, 3:]).square().mean()  # the holes white, all else black
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(error.item())
    assert errors[-1] < 0.98 * errors[0]


def test_a_change_has_the_contrast_of_its_picture():
    generator, inputs = wrapped("ours_unguided", side=32), random_inputs(1, 0, 64, 64)
    torch.nn.init.normal_(generator.network.decoder.to_rgb.weight)
    mask = inputs[0][:, 3:]
    changes = []
    for contrast in (0.8, 0.4):
        target = torch.cat([(0.5 + contrast * (inputs[0][:, :3] - 0.5)) * (1 - mask), mask], dim=1)
        with torch.no_grad():
            changes.append(generator(target, *inputs[1:]) - smooth_start(target)[0])
    assert changes[0].abs().max() > 0.02
    torch.testing.assert_close(changes[1], changes[0] / 2, atol=0.25 * float(changes[0].abs().max()), rtol=0)


def test_network_sees_reduced_frames_and_flow_in_their_pixels(monkeypatch):
    generator, seen = wrapped("ours", side=32), []
    target, sources, flows, errors = random_inputs(2, 2, 72, 128)
    flows[:], errors[:] = torch.tensor([24.0, -8.0]).view(2, 1, 1), 4.0
    predict, encode = generator.network.predict, generator.network.encode_keyframes
    monkeypatch.setattr(generator.network, "predict", lambda *given: [predict(*given), seen.append(given)][0])
    monkeypatch.setattr(generator.network, "encode_keyframes", lambda given: [encode(given), seen.append(given)][0])
    with torch.no_grad():
        generator(target, sources, flows, errors)
    keyframes, (frame, _, small_flows, small_errors) = seen
    assert frame.shape == (2, 4, 18, 32) and keyframes.shape == (2, 2, 4, 18, 32)
    assert torch.allclose(small_flows, torch.tensor([6.0, -2.0]).view(2, 1, 1).expand(2, 2, 2, 18, 32))
    assert torch.allclose(small_errors, torch.tensor(1.0).expand(2, 2, 1, 18, 32))
    for colours, guessed in (frame.split([3, 1], dim=1), keyframes[:, 0].split([3, 1], dim=1)):
        known = (1 - guessed).expand_as(colours)
        mean = (known * colours).sum(dim=(1, 2, 3)) / known.sum(dim=(1, 2, 3))
        spread = (known * (colours - mean.view(-1, 1, 1, 1)).square()).sum(dim=(1, 2, 3)) / known.sum(dim=(1, 2, 3))
        assert mean.abs().max() < 0.01 and (spread.sqrt() - 1).abs().max() < 0.3


def test_relaxing_approaches_the_harmonic_continuation():
    """A linear ramp is harmonic: what it is continued with is the ramp itself."""
    ramp = torch.linspace(0, 1, 64).expand(1, 3, 64, 64)
    known = torch.ones(1, 1, 64, 64)
    known[..., 16:48, 16:48] = 0
    plain, relaxed = (
        (soft_fill(ramp * known, known, relax=relax) - ramp).abs().max() for relax in (False, True)
    )
    assert relaxed < 0.02 and relaxed < plain / 2


# Around any generator -------------------------------------------------------------------------------------------------


def wrapped(name, **params):
    network = tiny_generator(name)
    return GuidedCopy(network=network, pixel_width=8, **params).eval()


@pytest.mark.parametrize("name", ["ours", "ours_unguided", "transformer", "lama", "lama_spectralfuse"])
@pytest.mark.parametrize("options", [{}, {"side": 40}, {"smooth_start": False}], ids=str)
def test_any_network_size_and_number_of_keyframes(name, options):
    """Whole, with streams of its frames kept, and prepared: the same. Keyframes matter whether the network looks at
    them or not."""
    generator = wrapped(name, **options)
    kept, prepared = FrameStreams(generator), prepare_for_inference(generator)
    for t, height, width in ((0, 64, 64), (1, 17, 130), (3, 37, 51)):
        target, sources, flows, errors = random_inputs(1, t, height, width)
        with torch.no_grad():
            output = generator(target, sources, flows, errors)
            same = prepared(target, sources, flows, errors)
            other = generator(target, 1 - sources, flows, errors)
        assert output.shape == (1, 3, height, width) and output.min() >= 0 and output.max() <= 1
        guides = [((t, i), lambda i=i, sources=sources: sources[:, i]) for i in range(t)]
        torch.testing.assert_close(kept.predict(target, guides, flows, errors), output, atol=1e-5, rtol=0)
        torch.testing.assert_close(same, output, atol=1e-4, rtol=0)
        assert not t or (output - other).abs().max() > 1e-2


def test_needs_a_network_unless_it_starts_smoothly():
    with pytest.raises(InputError, match="smooth_start false: expected a network"):
        GuidedCopy(smooth_start=False)
    with pytest.raises(InputError, match="side 32: expected smooth_start"):
        wrapped("ours", smooth_start=False, side=32)
    with pytest.raises(InputError, match="side: .*18"):
        wrapped("ours", side=4)


@pytest.mark.parametrize("smoothly", [True, False])
def test_bfloat16_and_gradients(smoothly):
    generator = wrapped("ours", smooth_start=smoothly).train()
    inputs = random_inputs(2, 2, 64, 64)
    inputs[1][:, 0, 3] = 1  # one keyframe is never visible
    with torch.autocast("cpu", torch.bfloat16):
        output = generator(*inputs)
        output.square().mean().backward()
    assert output.dtype == torch.float32
    for name, parameter in generator.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), name
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in generator.pixel_write.parameters())
    assert any(p.grad.abs().max() > 0 for p in generator.network.parameters() if p.grad is not None)
    exact = copy.deepcopy(generator).eval()
    with torch.no_grad():
        expected = exact(*inputs)
        with torch.autocast("cpu", torch.bfloat16):
            assert (exact(*inputs) - expected).abs().mean() < 0.02
