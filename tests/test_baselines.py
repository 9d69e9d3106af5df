"""Filling without a network, against cases whose answer is known by hand."""
import cv2
import numpy as np
import pytest
import torch

from gi.flow.align import align_keyframes
from gi.models.classical import copy_keyframe, opencv_inpaint

SIZE = 24


@pytest.fixture
def scene():
    """A scene of random colours wider than the frame: the target sees columns 4 on, keyframe t columns 4 - shift_t."""
    return torch.rand(1, 3, SIZE, SIZE + 8, generator=torch.Generator().manual_seed(0))


def shifted(scene, *shifts):
    """(target, keyframes, flows) where keyframe t shows the target's pixel x at x + shift."""
    frames = [scene[..., 4 - shift:4 - shift + SIZE] for shift in (0, *shifts)]
    flows = torch.zeros(1, len(shifts), 2, SIZE, SIZE)
    for t, shift in enumerate(shifts):
        flows[0, t, 0] = shift
    return frames[0], torch.stack(frames[1:], dim=1), flows


def box(rows, columns, frames=None):
    shape = (1, 1, SIZE, SIZE) if frames is None else (1, frames, 1, SIZE, SIZE)
    mask = torch.zeros(shape)
    mask[..., rows, columns] = 1
    return mask


def empty(frames):
    return torch.zeros(1, frames, 1, SIZE, SIZE)


def test_a_known_shift_is_copied_exactly(scene):
    image, sources, flows = shifted(scene, 3)
    mask = box(slice(5, 15), slice(5, 15))
    result = copy_keyframe(image, mask, sources, empty(1), flows, empty(1))
    torch.testing.assert_close(result, image, atol=1e-5, rtol=0)
    assert torch.equal(result[..., :5, :], image[..., :5, :])


def test_the_smallest_error_wins_among_keyframes_that_show_the_pixel(scene):
    image, sources, flows = shifted(scene, 3, -2)
    sources = torch.stack([torch.full_like(sources[:, 0], 0.25), sources[:, 1]], dim=1)
    mask = box(slice(5, 15), slice(5, 15))
    errors = empty(2)
    errors[:, 0, :, :10], errors[:, 1, :, 10:] = 1, 1  # the upper half belongs to the second one
    result = copy_keyframe(image, mask, sources, empty(2), flows, errors)
    torch.testing.assert_close(result[..., 5:10, 5:15], image[..., 5:10, 5:15], atol=1e-5, rtol=0)
    torch.testing.assert_close(result[..., 10:15, 5:15], torch.full((1, 3, 5, 10), 0.25))
    # The better one has its hole there: now the other one is good enough everywhere in the lower half.
    hidden = empty(2)
    hidden[:, 0] = 1
    result = copy_keyframe(image, mask, sources, hidden, flows, errors)
    torch.testing.assert_close(result, image, atol=1e-5, rtol=0)


def test_what_no_keyframe_shows_is_inpainted_from_the_rest():
    image = torch.full((1, 3, SIZE, SIZE), 0.4)
    mask = box(slice(5, 15), slice(16, SIZE))
    flows = torch.zeros(1, 1, 2, SIZE, SIZE)
    flows[:, :, 0] = 4  # the last four columns lie outside the keyframe
    sources = torch.full((1, 1, 3, SIZE, SIZE), 0.8)
    _, visible = align_keyframes(sources, empty(1), flows)
    assert visible[0, 0, 0].sum() == SIZE * (SIZE - 4)
    result = copy_keyframe(image, mask, sources, empty(1), flows, empty(1))
    copied = result[..., 5:15, 16:20]
    torch.testing.assert_close(copied, torch.full_like(copied, 0.8), atol=1e-5, rtol=0)
    # The rest takes the copied pixels for known ones.
    expected = opencv_inpaint(torch.where(mask > 0, 0.8, image), box(slice(5, 15), slice(20, SIZE)))
    torch.testing.assert_close(result, expected, atol=1.5 / 255, rtol=0)
    assert (result - opencv_inpaint(image, mask)).abs().max() > 0.1


def test_nothing_looks_into_holes(scene):
    image, sources, flows = shifted(scene, 3, -2)
    mask = box(slice(5, 15), slice(5, 20))
    source_masks = box(slice(3, 12), slice(8, 14), frames=2)
    flows = flows + 0.3 * torch.randn(flows.shape, generator=torch.Generator().manual_seed(1))
    errors = torch.rand(1, 2, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(2))
    first = copy_keyframe(image, mask, sources, source_masks, flows, errors)
    other_image = torch.where(mask > 0, 1 - image, image)
    other_sources = torch.where(source_masks > 0, 1 - sources, sources)
    assert not torch.equal(other_image, image) and not torch.equal(other_sources, sources)
    second = copy_keyframe(other_image, mask, other_sources, source_masks, flows, errors)
    assert torch.equal(first, second)
    assert torch.equal(opencv_inpaint(image, mask), opencv_inpaint(other_image, mask))


@pytest.mark.parametrize("frames", [0, 1, 2])
def test_without_any_known_pixel_the_result_is_finite(frames):
    image = torch.rand(2, 3, SIZE, SIZE)
    everything = torch.ones(2, 1, SIZE, SIZE)
    args = torch.rand(2, frames, 3, SIZE, SIZE), torch.ones(2, frames, 1, SIZE, SIZE), \
        torch.zeros(2, frames, 2, SIZE, SIZE), torch.zeros(2, frames, 1, SIZE, SIZE)
    result = copy_keyframe(image, everything, *args)
    torch.testing.assert_close(result, torch.full_like(image, 128 / 255))


def test_without_keyframes_copying_is_inpainting(scene):
    image, mask = scene[..., :SIZE], box(slice(5, 15), slice(5, 15))
    nothing = torch.zeros(1, 0, 3, SIZE, SIZE), empty(0), torch.zeros(1, 0, 2, SIZE, SIZE), empty(0)
    result = copy_keyframe(image, mask, *nothing)
    assert torch.equal(result, opencv_inpaint(image, mask))


def test_inpainting_is_opencvs_image_by_image():
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 3, SIZE, SIZE), dtype=np.uint8))
    masks = torch.cat([box(slice(4, 9), slice(3, 12)), box(slice(0, 9), slice(0, 3)), torch.zeros(1, 1, SIZE, SIZE)])
    result = opencv_inpaint(images.float() / 255, masks)
    for image, mask, filled in zip(images, masks, result, strict=True):
        pixels = image.permute(1, 2, 0).numpy() * (1 - mask[0].byte().numpy()[..., None])
        wanted = cv2.inpaint(pixels, mask[0].byte().numpy(), 3, cv2.INPAINT_TELEA)
        assert np.array_equal((255 * filled).round().byte().permute(1, 2, 0).numpy(), wanted)
    known = (masks == 0).expand_as(result)
    assert torch.equal(result[known], (images.float() / 255)[known])
