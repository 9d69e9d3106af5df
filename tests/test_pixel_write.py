"""The pixel write: weights that are a mean, nothing from where a keyframe shows nothing, and a start that copies."""
import copy

import pytest
import torch

from gi.models.keyframes import join
from gi.models.pixel_write import PixelWrite
from tests.families import random_inputs, tiny_generator


@pytest.fixture
def write():
    torch.manual_seed(0)
    return PixelWrite().eval()


def scene(t, size=48):
    """A target with a hole, a grey drawing of it, and t keyframes equal to it without holes or motion."""
    image = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(1))
    mask = torch.zeros(1, 1, size, size)
    mask[..., 12:36, 12:36] = 1
    target = torch.cat([image * (1 - mask), mask], dim=1)
    source = torch.cat([image, torch.zeros_like(mask)], dim=1)
    sources = source[:, None].repeat(1, t, 1, 1, 1)
    flows, errors = torch.zeros(1, t, 2, size, size), torch.zeros(1, t, 1, size, size)
    return image, torch.full_like(image, 0.5), (target, sources, flows, errors)


def test_off_changes_nothing():
    off, on = tiny_generator("ours"), tiny_generator("ours", pixel_write=True)
    names = off.state_dict().keys()
    assert not [name for name in names if "pixel" in name]
    assert {name for name in on.state_dict() if not name.startswith("pixel_write.")} == names


def test_initial_weights_of_the_rest_are_those_without():
    from gi.config import instantiate
    from tests.families import tiny_node

    states = []
    for pixel_write in (False, True):
        torch.manual_seed(0)
        states.append(instantiate(tiny_node("ours", pixel_write=pixel_write)).state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_without_keyframes_the_drawing_remains(write):
    _, decoded, inputs = scene(0)
    assert torch.equal(write(decoded, inputs[0], inputs[1].unbind(1), *inputs[2:]), decoded)


@pytest.mark.parametrize("t, least", [(1, 0.8), (4, 0.95)])
def test_starts_by_copying_what_fits(write, t, least):
    image, decoded, inputs = scene(t)
    with torch.no_grad():
        output = write(decoded, inputs[0], inputs[1].unbind(1), *inputs[2:])
    closer = 1 - (output - image).abs().mean() / (decoded - image).abs().mean()
    assert least < closer < 1


def test_starts_by_leaving_what_does_not_fit(write):
    image, decoded, (target, sources, flows, errors) = scene(1)
    with torch.no_grad():
        output = write(decoded, target, sources.unbind(1), flows, errors + 20)
    assert (output - decoded).abs().mean() < 0.05 * (decoded - image).abs().mean()


def test_what_is_not_visible_has_no_weight(write):
    """Whatever the logits: nothing comes from a keyframe's hole or from outside its frame."""
    torch.nn.init.constant_(write.head[-1].bias, 1e4)
    image, decoded, (target, sources, flows, errors) = scene(2)
    sources = sources.clone()
    sources[:, 0, 3] = 1  # the first keyframe is all hole, and holds garbage
    sources[:, 0, :3] = 7
    flows[:, 1, 0, :, 40:] = 100  # the second leads out of its frame at the right
    with torch.no_grad():
        output = write(decoded, target, sources.unbind(1), flows, errors)
    assert torch.equal(output[..., 40:], decoded[..., 40:])
    torch.testing.assert_close(output[..., :40], image[..., :40], atol=1e-5, rtol=0)


def test_learns_which_keyframe_to_trust(write):
    """A keyframe whose known surroundings do not fit the target is told from one that fits, also inside the hole."""
    image, decoded, (target, sources, flows, errors) = scene(2)
    sources = sources.clone()
    optimiser = torch.optim.Adam(write.parameters(), 0.02)
    for step in range(25):
        wrong = step % 2
        frames = sources.clone()
        frames[:, wrong, :3] = frames[:, wrong, :3].roll(7, dims=-1)
        output = write(decoded, target, frames.unbind(1), flows, errors)
        loss = (output - image).abs().mean()
        if step == 0:
            first = loss.item()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < 0.5 * first


@pytest.mark.parametrize("t, height, width", [(0, 64, 64), (1, 9, 130), (3, 37, 51), (2, 136, 200)])
def test_generator_with_it_takes_any_size_and_number(t, height, width):
    generator = tiny_generator("ours", pixel_write=True)
    inputs = random_inputs(2, t, height, width)
    with torch.no_grad():
        output = generator(*inputs)
        assert output.shape == (2, 3, height, width)
        assert output.min() >= 0 and output.max() <= 1
        target, sources, flows, errors = inputs
        streams = [generator.encode_keyframes(sources[:, [i]]) for i in range(t)]
        torch.testing.assert_close(generator.predict(target, join(streams), flows, errors), output, atol=1e-5, rtol=0)


def test_works_without_any_cross_frame_block():
    generator = tiny_generator("ours_unguided", pixel_write=True)
    target, sources, flows, errors = random_inputs(1, 2, 64, 64)
    with torch.no_grad():
        difference = generator(target, sources, flows, errors) - generator(target, 1 - sources, flows, errors)
    assert difference.abs().max() > 1e-2


def test_bfloat16_and_gradients():
    generator = tiny_generator("ours", pixel_write=True).train()
    inputs = random_inputs(2, 2, 64, 64)
    inputs[1][:, 0, 3] = 1  # one keyframe is never visible
    with torch.autocast("cpu", torch.bfloat16):
        output = generator(*inputs)
        output.square().mean().backward()
    assert output.dtype == torch.float32
    for name, parameter in generator.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), name
    grads = {name: p.grad for name, p in generator.pixel_write.named_parameters()}
    assert all(grad is not None and grad.abs().max() > 0 for grad in grads.values())
    exact = copy.deepcopy(generator).eval()
    with torch.no_grad():
        expected = exact(*inputs)
        with torch.autocast("cpu", torch.bfloat16):
            assert (exact(*inputs) - expected).abs().mean() < 0.02
