"""Following pixels along flow, against pictures that are known analytically."""
import pytest
import torch

from gi.flow.align import align
from gi.flow.warp import sample, warp
from gi.models.classical import opencv_inpaint
from gi.video.keyframes.trace import Step, hole_points, propagate, trace
from gi.video.keyframes.trust import Witnesses, smooth_error

HEIGHT, WIDTH, SPEED = 40, 64, 0.7
SAME = torch.ones(3)


def picture(shift=0.0):
    """A smooth colour picture (1, 3, H, W) in [0, 1] moved to the right by `shift` pixels."""
    y, x = torch.meshgrid(torch.arange(HEIGHT).float(), torch.arange(WIDTH).float() - shift, indexing="ij")
    return torch.stack([0.5 + 0.5 * torch.sin(x / 4 + c) * torch.cos(y / 5) for c in range(3)])[None]


def constant_flow(u=SPEED, error=0.0):
    """There and back, missing the starting point by `error` in x and in y."""
    flow = torch.zeros(1, 2, HEIGHT, WIDTH)
    flow[:, 0] = u
    return flow, error - flow


def stepper(known_at, error=0.0):
    """Frame i shows the picture moved by i * SPEED; only frame `known_at` is known."""
    def step(i):
        known = torch.full((1, 1, HEIGHT, WIDTH), float(i + 1 == known_at))
        return Step(*constant_flow(error=error), picture((i + 1) * SPEED), known, SAME)
    return step


def test_colours_stay_sharp_over_long_chains():
    """After 30 steps of 0.7 pixels the colour is the picture's; an image warped 30 times has lost its contrast."""
    points = torch.tensor([[10.0, 10.0], [20.25, 20.0], [30.0, 12.5]])
    found = trace(points, 30, stepper(30), tolerance=1)
    truth = sample(picture(), points)
    assert (found.steps == 30).all()
    assert (found.colour - truth).abs().max() < 0.02
    blurred = picture(30 * SPEED)
    for _ in range(30):
        blurred = warp(blurred, constant_flow()[0])
    assert (sample(blurred, points) - truth).abs().max() > 5 * (found.colour - truth).abs().max()


def test_the_first_frame_that_knows_a_place_is_taken():
    def step(i):
        known = torch.zeros(1, 1, HEIGHT, WIDTH)
        known[..., : WIDTH // 2] = i >= 1
        known[..., WIDTH // 2 :] = i >= 4
        return Step(*constant_flow(0.0), torch.full((1, 3, HEIGHT, WIDTH), (i + 1) / 10), known, SAME)
    found = trace(torch.tensor([[5.0, 5.0], [50.0, 5.0]]), 9, step, tolerance=1)
    assert found.steps.tolist() == [2, 5]
    assert torch.allclose(found.colour[:, 0], torch.tensor([0.2, 0.5]))


def test_leaving_the_frame_and_untrusted_ways_find_nothing():
    leaving = trace(torch.tensor([[WIDTH - 3.0, 5.0]]), 20, stepper(20), tolerance=1)
    untrusted = trace(torch.tensor([[5.0, 5.0]]), 20, stepper(20, error=0.1), tolerance=1.9)
    trusted = trace(torch.tensor([[5.0, 5.0]]), 20, stepper(20, error=0.1), tolerance=2.1)
    assert leaving.steps.item() == untrusted.steps.item() == 0
    assert trusted.steps.item() == 20 and trusted.error.item() == pytest.approx(2.0, abs=1e-4)


def test_errors_are_those_of_a_frame_of_432_x_240():
    """What misses its start by twice as much in frames twice as large is trusted alike."""
    def found(times, tolerance):
        size = 1, 1, 240 * times, 432 * times
        flow = torch.zeros(1, 2, *size[2:])

        def step(i):
            return Step(flow, flow + 0.25 * times, torch.zeros(1, 3, *size[2:]), torch.full(size, float(i == 7)), SAME)
        return trace(torch.tensor([[5.0, 5.0]]), 8, step, tolerance=tolerance)
    for times in (1, 2, 4):
        assert found(times, 2.01).error.item() == pytest.approx(2.0)
        assert found(times, 1.99).steps.item() == 0


def test_samples_that_touch_a_hole_do_not_count():
    known = torch.ones(1, 1, HEIGHT, WIDTH)
    known[..., 10, 10] = 0

    def step(i):
        return Step(*constant_flow(0.0), picture(), known, SAME)
    found = trace(torch.tensor([[10.4, 10.0], [11.0, 10.0], [10.0, 9.2]]), 3, step, tolerance=1)
    assert found.steps.tolist() == [0, 1, 0]


def test_a_sample_just_beside_a_hole_counts_as_it_does_for_keyframes():
    known = torch.ones(1, 1, 3, 3)
    known[..., 0] = 0
    flow = torch.zeros(1, 2, 3, 3)
    flow[:, 0, 1, 1] = torch.tensor(-0.001)  # 0.999 of its sample is known
    step = Step(flow, -flow, torch.ones(1, 3, 3, 3), known, SAME)
    assert sample(known, torch.tensor([[0.999, 1.0]])) == torch.tensor(0.999)
    found = trace(torch.tensor([[1.0, 1.0]]), 1, lambda _: step, tolerance=1)
    _, visible = align(torch.ones(1, 3, 3, 3), 1 - known, flow)
    assert found.steps.item() == visible[0, 0, 1, 1].item() == 1


def square_hole():
    mask = torch.zeros(1, 1, HEIGHT, WIDTH)
    mask[..., 16:24, 26:34] = 1
    return mask


def revealing(mask, value, at, error=0.0, around=0.0):
    """Frame `at` alone is known: `value` in the hole, `around` more than the picture around it."""
    def step(i):
        frame = torch.where(mask > 0, torch.full((1, 3, HEIGHT, WIDTH), value), picture() + around)
        return Step(*constant_flow(0.0, error), frame, torch.full((1, 1, HEIGHT, WIDTH), float(i + 1 == at)), SAME)
    return step


def test_directions_are_averaged_by_distance_and_consistency():
    mask = square_hole()
    image, inside = picture() * (1 - mask), mask[0, 0] > 0
    ways = [(9, revealing(mask, 0.0, 1)), (9, revealing(mask, 1.0, 3))]
    filled, left = propagate(image, mask, ways, tolerance=1)
    assert left.sum() == 0
    assert torch.allclose(filled[..., inside], torch.tensor(0.25), atol=2e-3)  # weights 1 and 1/3
    assert torch.equal(filled * (1 - mask), image)
    filled, _ = propagate(
        image, mask, [(9, revealing(mask, 0.0, 1, 0.5)), (9, revealing(mask, 1.0, 1))], tolerance=1)
    weight = torch.tensor(-0.5).exp()
    assert torch.allclose(filled[..., inside], 1 / (1 + weight), atol=2e-3)


def test_what_the_surroundings_do_not_confirm_gives_way():
    """To the other direction if that is confirmed, otherwise to a smooth continuation; without evidence, to nothing."""
    mask = square_hole()
    image, inside = picture() * (1 - mask), mask[0, 0] > 0
    wrong, right = (9, revealing(mask, 1.0, 1, around=0.6)), (9, revealing(mask, 0.5, 1))
    filled, left = propagate(image, mask, [wrong, right], tolerance=1)
    assert left.sum() == 0 and (filled[..., inside] - 0.5).abs().max() < 0.01
    filled, left = propagate(image, mask, [wrong], tolerance=1, doubtful=0.1)
    given_up = left > 0  # close to the hole's border, where a continuation costs little
    assert given_up[..., 16:24, 26].all() and torch.equal(filled * given_up, image * given_up)
    filled, left = propagate(image, mask, [wrong], tolerance=1)
    assert left.sum() == 0 and (filled - opencv_inpaint(image, mask))[..., 16:24, 26].abs().max() < 0.1
    filled, left = propagate(torch.zeros_like(image), torch.ones_like(mask), [wrong], tolerance=1)
    assert left.sum() == 0 and torch.allclose(filled[..., inside], torch.tensor(1.0))


def test_errors_to_expect_are_those_nearby_after_as_many_steps():
    mask = square_hole()
    mask[..., 26:34] = 1  # from top to bottom: what is left of it and what is right of it are apart
    witnesses = Witnesses(picture() * (1 - mask), mask)
    x, y = witnesses.points.long().unbind(1)
    for amount in (0.1, 0.4):
        witnesses.note(torch.arange(len(x)), picture()[0, :, y, x].T + amount * (x > 30)[:, None])
    points, steps = torch.tensor([[26.0, 20.0], [33.0, 20.0], [33.0, 20.0]]), torch.tensor([2.0, 1.0, 2.0])
    left, near, far = witnesses.expected(points, steps)
    assert left < near < far and near == pytest.approx(0.01, rel=0.5) and far == pytest.approx(0.16, rel=0.5)


def test_a_smooth_continuation_costs_what_colours_differ_by_so_far_apart():
    """On a ramp, the square of the distance from the hole's border; nothing is known: as bad as can be."""
    ramp = (torch.arange(WIDTH) / WIDTH).expand(1, 3, HEIGHT, WIDTH)
    mask = torch.zeros(1, 1, HEIGHT, WIDTH)
    mask[..., 26:34] = 1
    cost = smooth_error(ramp * (1 - mask), mask)[0, 0, 20]
    for distance in (1, 2, 4):  # down, nothing changes: half of the pairs
        assert cost[25 + distance].item() == pytest.approx((distance / WIDTH) ** 2 / 2, rel=0.15, abs=2e-5)
    assert (smooth_error(ramp, torch.ones_like(mask)) == 1).all()


def test_what_nobody_shows_stays_missing():
    mask = torch.zeros(1, 1, HEIGHT, WIDTH)
    mask[..., 5:9, 5:9] = 1
    for directions in ([], [(0, stepper(1))], [(5, stepper(9))]):
        filled, left = propagate(picture(), mask, directions, tolerance=1)
        assert torch.equal(filled, picture()) and torch.equal(left, mask)


def test_gains_multiply_along_the_way():
    def step(i):
        known = torch.full((1, 1, HEIGHT, WIDTH), float(i == 2))
        return Step(*constant_flow(0.0), torch.full((1, 3, HEIGHT, WIDTH), 0.8), known, torch.tensor([0.5, 1.0, 1.25]))
    found = trace(torch.tensor([[5.0, 5.0]]), 9, step, tolerance=1)
    assert torch.allclose(found.colour, 0.8 * torch.tensor([[0.125, 1.0, 1.953125]]))


def test_hole_points_are_x_and_y():
    mask = torch.zeros(1, 1, 4, 6)
    mask[0, 0, 1, 5] = mask[0, 0, 3, 2] = 1
    assert hole_points(mask).tolist() == [[5, 1], [2, 3]]
