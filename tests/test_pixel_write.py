"""The pixel write: weights that are a mean, nothing from where a keyframe shows nothing, and a start that copies."""
import pytest
import torch

from gi.flow.align import align, lost_detail
from gi.flow.window import EVERYWHERE, window_around
from gi.models.pixel_write import PixelWrite


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


def test_weights_around_a_hole_are_those_of_the_whole_image(write):
    _, decoded, (target, sources, flows, errors) = scene(2)
    rows, columns = part = window_around(target[:, 3:] > 0, margin=write.MARGIN)
    assert (rows.start, rows.stop, columns.start, columns.stop) == (9, 39, 9, 39)
    with torch.no_grad():
        whole, some = (torch.cat(write.trusted(decoded, target, sources.unbind(1), flows, errors, where), dim=1)
                       for where in (EVERYWHERE, part))
    hole = target[:, 3:] > 0
    torch.testing.assert_close(some * hole, whole * hole, rtol=0, atol=1e-6)
    some[..., rows, columns] = 0
    assert not some.any()


@pytest.mark.parametrize("axis", [2, 3])
def test_copies_are_cubic(axis):
    """The truth is torch's resizing to double length, whose antialiased bicubic weights are Catmull and Rom's."""
    image = torch.rand(1, 3, 20, 24, generator=torch.Generator().manual_seed(2))
    size = [length * (1 + (axis == number)) for number, length in enumerate(image.shape) if number > 1]
    truth = torch.nn.functional.interpolate(image, size, mode="bicubic", antialias=True)
    truth = truth.narrow(axis, 4, truth.shape[axis] - 8)[(slice(None),) * axis + (slice(1, None, 2),)]
    flow = torch.zeros(1, 2, 20, 24)
    flow[:, 3 - axis] = 0.25
    hole = torch.zeros(1, 1, 20, 24)
    bilinear, _ = align(image, hole, flow)
    cubic = (bilinear + lost_detail(image, hole, flow)).narrow(axis, 2, truth.shape[axis])
    torch.testing.assert_close(cubic, truth, atol=1e-5, rtol=0)
    assert (bilinear.narrow(axis, 2, truth.shape[axis]) - truth).abs().max() > 0.02


def test_what_is_hidden_does_not_enter_cubic_copies():
    image = torch.rand(1, 3, 20, 24, generator=torch.Generator().manual_seed(3))
    hole, flow = torch.zeros(1, 1, 20, 24), torch.full((1, 2, 20, 24), 0.4)
    hole[..., 8:12, 8:12] = 1
    one, other = (lost_detail(torch.where(hole > 0, value, image), hole, flow) for value in (0.0, 9.0))
    assert torch.equal(one, other) and one.abs().max() > 0.02
    part = slice(3, 9), slice(5, 14)
    torch.testing.assert_close(lost_detail(image, hole, flow[(..., *part)], [3, 5]), one[(..., *part)])
