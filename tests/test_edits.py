"""What is painted into an edited frame is shown in the holes of all frames that motion leads to it from."""
import numpy as np
import pytest
import torch

from gi.flow.estimate import Estimator
from gi.flow.guidance import FlowGuidance
from gi.video import VideoInpainter
from gi.video.keyframes.edits import Edits
from gi.video.keyframes.window import Window
from gi.video.method import insert, joined

HEIGHT, WIDTH, COUNT = 48, 80, 40
RED, BLUE = (255, 20, 20), (20, 20, 255)


class Pan(Estimator):
    """The flow of a camera that moves by `speed` pixels (x, y) a frame; the first of two images is the earlier one."""

    def __init__(self, speed):
        super().__init__()
        self.speed = speed

    def between(self, images, first, second):
        sign = (first - second).view(-1, 1, 1, 1).float()
        return sign * torch.tensor(self.speed).view(1, 2, 1, 1) * torch.ones(1, 1, *images.shape[-2:])

    def forward(self, first, second):
        raise NotImplementedError


def build(speed=(0.0, 0.0), **options):
    guidance = FlowGuidance(estimator=Pan(speed), resolution=None, mask_images=True)
    return VideoInpainter(generator=None, guidance=guidance, device="cpu",
                          **{"every": 10, "guides": [-10, -4, 4, 10], **options})


def scene(speed=(0.0, 0.0), hole_speed=0.0, count=COUNT, seed=0):
    """Frames that a camera pans over, and masks of a hole that moves on its own."""
    rng = np.random.default_rng(seed)
    waves = [(rng.uniform(-0.3, 0.3, 2), rng.uniform(0, 7, 3)) for _ in range(12)]
    y, x = np.mgrid[:HEIGHT, :WIDTH] / 1.0
    frames, masks = [], []
    for i in range(count):
        frame = sum(np.sin(f[0] * (x + speed[0] * i)[..., None] + f[1] * (y + speed[1] * i)[..., None] + p)
                    for f, p in waves)
        frames.append(np.clip(127 + 15 * frame, 0, 255).astype(np.uint8))
        masks.append(((abs(x - 40 - hole_speed * (i - 20)) < 16) & (abs(y - 24) < 14)).astype(np.uint8))
    return frames, masks


def ball(number, at, speed, x=40, y=24, radius=7):
    """Where a ball painted at (x, y) in frame `at` is in frame `number`."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    far = np.hypot(columns - x - speed[0] * (at - number), rows - y - speed[1] * (at - number))
    return far < radius - 1 if number != at else far < radius  # its edge is a mixture elsewhere


def paint(frames, at, colour, **options):
    edited = frames[at].copy()
    edited[ball(at, at, (0, 0), **options)] = colour
    return edited


def shares(result, masks, at, colour, speed, numbers=None):
    """{frame: share of the ball's pixels in its hole that have kept their colour}, where there are any."""
    found = {}
    for number in numbers or range(len(result)):
        place = ball(number, at, speed) & (masks[number] > 0)
        if place.any():
            found[number] = (abs(result[number][place].astype(int) - colour).max(axis=-1) <= 12).mean()
    return found


def run(inpainter, frames, masks, edited):
    return list(inpainter(iter(frames), iter(masks), edited=edited))


@pytest.mark.parametrize("speed", [(0.0, 0.0), (0.8, 0.3)], ids=["static", "panning"])
@pytest.mark.parametrize("hole_speed", [0.0, 1.3, -0.6])
@pytest.mark.parametrize("prealign", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_an_edit_keeps_its_colour_through_the_whole_shot(speed, hole_speed, prealign):
    frames, masks = scene(speed, hole_speed)
    result = run(build(speed, prealign=prealign), frames, masks, {20: paint(frames, 20, RED)})
    kept = shares(result, masks, 20, RED, speed)
    assert len(kept) >= 19 and min(kept.values()) >= 0.95
    for frame, mask, made in zip(frames, masks, result, strict=True):
        known = mask == 0
        assert np.array_equal(made[known], frame[known])


def test_of_several_edits_the_nearest_counts_and_equal_ones_are_faded():
    frames, masks = scene()
    result = run(build(), frames, masks, {10: paint(frames, 10, RED), 29: paint(frames, 29, BLUE)})
    assert min(shares(result, masks, 10, RED, (0, 0), range(0, 20)).values()) >= 0.95  # frame 19: 9 to 10 frames
    assert min(shares(result, masks, 29, BLUE, (0, 0), range(20, 40)).values()) >= 0.95
    dark, light = (100, 40, 40), (120, 60, 60)
    result = run(build(), frames, masks, {10: paint(frames, 10, dark), 30: paint(frames, 30, light)})
    assert min(shares(result, masks, 10, dark, (0, 0), range(0, 11)).values()) >= 0.95
    red = [int(result[number][24, 40, 0]) for number in range(10, 31)]
    assert red == [100 + number for number in range(21)]


def test_an_edit_hidden_in_a_later_one_ends_there():
    frames, masks = scene()
    gone = frames[25].copy()  # the ball is painted over again
    result = run(build(), frames, masks, {10: paint(frames, 10, RED), 25: gone})
    assert min(shares(result, masks, 10, RED, (0, 0), range(0, 18)).values()) >= 0.95
    assert max(shares(result, masks, 10, RED, (0, 0), range(18, 40)).values()) == 0


@pytest.mark.parametrize("edited", [[20], pytest.param([3, 36], marks=pytest.mark.slow)])
def test_parts_computed_apart_show_the_same(edited):
    speed = (0.8, 0.3)
    frames, masks = scene(speed, 0.5)
    edited = {at: paint(frames, at, RED) for at in edited}
    inpainter = build(speed, every=5, guides=[-2, 2])
    whole, parts = run(inpainter, frames, masks, edited), inpainter.parts(COUNT, edited=edited)
    for part in (*reversed(parts), joined(parts[1:3])):
        fills = inpainter.fill(frames[part.start:part.end], masks[part.start:part.end], edited=edited, part=part)
        for number, fill in zip(part.frames, fills, strict=True):
            if number not in edited:
                assert np.array_equal(insert(fill, frames[number], masks[number]), whole[number]), number


def test_without_edits_nothing_is_followed(monkeypatch):
    frames, masks = scene((0.8, 0.3), 1.3, count=12)
    inpainter = build((0.8, 0.3))
    expected = run(inpainter, frames, masks, {})
    monkeypatch.setattr(Edits, "insert", lambda _, number, image, mask: (image, mask))
    monkeypatch.setattr(Edits, "_way", None)
    assert np.array_equal(expected, run(inpainter, frames, masks, {}))
    assert [part[2:4] for part in inpainter.parts(60)][2:4] == [(10, 41), (20, 51)]  # what the chunks look at


@pytest.mark.slow
def test_memory_is_bounded_however_far_an_edit_goes(monkeypatch):
    """Behind an edit frames are dropped as they pass, also in a part far from it; before it `AHEAD` limits them."""
    monkeypatch.setattr("gi.video.keyframes.edits.AHEAD", 20)
    monkeypatch.setattr("gi.video.keyframes.pipeline.AHEAD", 20)
    frames, masks = scene(count=120)
    inpainter, kept = build(), []
    original = Window.read_to
    monkeypatch.setattr(Window, "read_to", lambda self, stop: (original(self, stop), kept.append(len(self._kept)))[0])
    result = run(inpainter, frames, masks, {60: paint(frames, 60, RED)})
    found = shares(result, masks, 60, RED, (0, 0))
    assert min(found[number] for number in range(40, 120)) >= 0.95 and max(found[i] for i in range(31)) == 0
    assert max(kept) <= 20 + 3 * inpainter.reach + inpainter.longest
    part = inpainter.parts(120, edited=[5])[-1]
    assert part.start == 5
    kept.clear()
    fills = inpainter.fill(frames[5:], masks[5:], edited={5: paint(frames, 5, RED)}, part=part)
    made = {i: insert(fill, frames[i], masks[i]) for i, fill in zip(part.frames, fills, strict=True)}
    assert (abs(made[119][24, 40].astype(int) - RED) <= 12).all()
    assert max(kept) <= 3 * inpainter.reach + inpainter.longest


def test_what_moves_away_does_not_take_the_edit_along():
    """Where the way back misses its start, the hole shows something else."""
    class Disagreeing(Pan):
        def between(self, images, first, second):
            return super().between(images, first, second) + 3

    frames, masks = scene()
    inpainter = VideoInpainter(generator=None, device="cpu", every=10, guides=[-4, 4], prealign=False,
                               guidance=FlowGuidance(estimator=Disagreeing((0.0, 0.0)), resolution=None,
                                                     mask_images=True))
    result = run(inpainter, frames, masks, {20: paint(frames, 20, RED)})
    found = shares(result, masks, 20, RED, (0, 0))
    assert max(value for i, value in found.items() if abs(i - 20) > 1) == 0
