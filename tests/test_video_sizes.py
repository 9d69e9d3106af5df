"""One video at several sizes is filled in the same way: what is copied, and from which frame, does not depend on it."""
import functools

import cv2
import numpy as np
import pytest
import torch

from gi.flow import guidance
from gi.flow.estimate import ZeroFlow
from gi.flow.threads import torch_threads
from gi.media.scale import PHOTO_SIDE, scale, video_pixels
from gi.video import VideoInpainter
from gi.video.keyframes import chunk
from gi.video.keyframes.trace import propagate, trace

WIDTH, HEIGHT, FINEST, COUNT = 432, 240, 4, 7


def texture(height, width, rng):
    """Noise at all scales from 8 pixels on, (H, W, 3) float32 in 0 … 255."""
    layers = []
    for cell in 2 ** np.arange(3, 9):
        noise = rng.normal(size=(height // cell + 3, width // cell + 3, 3)).astype(np.float32)
        layers.append(cell**0.75 * cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC))
    noise = np.sum(layers, axis=0)
    return (128 + 45 * noise / noise.std()).clip(0, 255)


@pytest.fixture(scope="module")
def video():
    """Frames at 1728 x 960 and masks at 432 x 240: a camera pans and zooms over a plane, before which a square moves.

    The hole moves as well and meets the square's edge, where flow is wrong.
    """
    rng = np.random.default_rng(0)
    size = FINEST * WIDTH, FINEST * HEIGHT
    ground, square = texture(size[1] + 300, size[0] + 600, rng), texture(420, 420, rng)
    square = np.dstack([square, np.ones(square.shape[:2], np.float32)])
    frames, masks = [], []
    for i in range(COUNT):
        zoom = 1 + 0.004 * i
        camera = np.array([[zoom, 0, -100 - 17.3 * i], [0, zoom, -100 - 3.1 * i]])
        frame = cv2.warpAffine(ground, camera, size, flags=cv2.INTER_CUBIC)
        layer = cv2.warpAffine(square, np.array([[1, 0, 560 + 29.0 * i], [0, 1, 330 + 4.0 * i]]), size)
        frame = layer[..., :3] + (1 - layer[..., 3:]) * frame
        frames.append(frame.clip(0, 255).round().astype(np.uint8))
        masks.append(cv2.ellipse(np.zeros((HEIGHT, WIDTH), np.uint8), (215 + 5 * i, 130), (32, 40), 0, 0, 360, 1, -1))
    return frames, masks


def decisions(video, times):
    """(calls, 240, 432) for every frame and direction: how many frames away a pixel was found; 0 left, -1 known."""
    size, calls = (times * WIDTH, times * HEIGHT), []

    def spy(points, *args, **options):
        found = trace(points, *args, **options)
        x, y = points.long().unbind(1)
        steps = np.full(size[::-1], -1)
        steps[y, x] = found.steps
        calls.append(steps[times // 2::times, times // 2::times])
        return found
    with pytest.MonkeyPatch.context() as patch, torch_threads(1):  # with several, frames come in any order
        patch.setattr(chunk, "propagate", functools.partial(propagate, follow=spy))
        frames = [cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in video[0]]
        masks = [mask.repeat(times, axis=0).repeat(times, axis=1) for mask in video[1]]
        assert len(list(VideoInpainter.from_flow(device="cpu", every=3)(frames, masks))) == COUNT
    return np.stack(calls)


@pytest.fixture(scope="module")
def small(video):
    return decisions(video, 1)


@pytest.mark.parametrize("times", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_the_same_pixels_are_copied_from_the_same_frames_at_every_size(video, small, times):
    large = decisions(video, times)
    assert ((large >= 0) == (small >= 0)).all()
    share = [(steps > 0).sum() / (steps >= 0).sum() for steps in (small, large)]
    both, either = (small > 0) & (large > 0), (small > 0) | (large > 0)
    near = np.abs(small - large)[both] <= 1  # half a pixel can decide whether a hole's edge is reached a frame earlier
    assert 0.1 < share[0] < 0.9
    assert share[1] == pytest.approx(share[0], abs=0.03)
    assert both.sum() / either.sum() > 0.93
    assert near.mean() > 0.99


@pytest.mark.parametrize("resolution, size, pixels", [
    (256, (240, 432), 25), (256, (480, 864), 51), (None, (64, 64), 15), (None, (240, 432), 15), (None, (480, 864), 30),
])
def test_how_far_flow_is_replaced_around_a_hole(monkeypatch, resolution, size, pixels):
    """As far as an estimator looks: 15 pixels of what it sees, more if that is larger than 432 x 240."""
    grown = []
    monkeypatch.setattr(guidance, "grow_hole", lambda mask, times: [mask, grown.append(times)][0])
    image = torch.zeros(1, 4, *size)
    inputs = image[:, :3], image[:, 3:], image[:, None, :3], image[:, None, 3:]
    of_zeros = guidance.FlowGuidance(estimator=ZeroFlow(), resolution=resolution, mask_images=True)
    shortcut = of_zeros(*inputs)
    assert grown == []  # nothing is done to a flow that is zero
    of_zeros.aligns = True
    completed = of_zeros(*inputs)
    assert grown == [pixels]
    assert all(torch.equal(a, b) for a, b in zip(shortcut, completed, strict=True))


def test_lengths():
    for length in (0.25, 1.0, 3, 10.0, 15):
        for size in (240, 432), (432, 240), (64, 80):
            assert video_pixels(length, size) == length
        assert video_pixels(length, (480, 864)) == 2 * length and video_pixels(length, (720, 1728)) == 4 * length
    assert scale((256, 256), PHOTO_SIDE) == 1 and scale((300, 512), PHOTO_SIDE) == 2
