"""Holes on paths, and which frames are keyframes."""
import numpy as np
import pytest
from scipy.interpolate import BPoly
from skimage.transform import SimilarityTransform

from gi.data import masks
from gi.data.mask_paths import Keyframes, MixedPath, Motion, MovingMask, bezier
from gi.errors import InputError


def rng(*key):
    return np.random.default_rng(key)


def test_bezier_is_that_of_scipy():
    controls, times = rng(0).normal(size=(4, 3)), np.linspace(0, 1, 7)
    np.testing.assert_allclose(bezier(controls, times), BPoly(controls[:, None], [0, 1])(times), atol=1e-12)


def test_grid_has_cells():
    mask = masks.Grid(min_cells=4, max_cells=4)(rng(3), 32, 48)
    cells = mask.reshape(4, 8, 4, 12).swapaxes(1, 2).reshape(16, -1)
    assert 0 < cells[:, 0].sum() < 16 and (cells == cells[:, :1]).all()
    assert masks.Full()(rng(0), 5, 7).all()


def test_motion_is_a_similarity_within_its_limits():
    motion = Motion(still=0, shift=0.5, growth=1.5, rotation=30, deformation=0)
    y, x = np.indices((20, 30))
    pixels = np.stack([x, y], axis=-1).reshape(-1, 2)
    for seed in range(20):
        maps = motion.sample(rng(seed), 5, 20, 30)
        fits = [SimilarityTransform.from_estimate(pixels, frame.reshape(2, -1).T) for frame in maps]
        assert min(np.abs(fit.params - np.eye(3)).max() for fit in fits) < 1e-4  # one frame is as it was drawn
        scales, angles = np.array([(fit.scale, fit.rotation) for fit in fits]).T
        centres = np.array([fit.inverse((14.5, 9.5))[0] for fit in fits])
        assert scales.max() / scales.min() < 1.5 and np.ptp(angles) < np.radians(30)
        assert 0.1 < np.ptp(centres, axis=0).max() < 0.5 * 20
    assert motion.sample(rng(0), 5, 20, 30).dtype == np.float32
    assert Motion(still=1).sample(rng(0), 5, 20, 30) is None


def test_moving_masks():
    path = MovingMask(kind=masks.CentralSquare(share=0.4), 
                      motion=Motion(still=0, shift=0.25, growth=1, rotation=0, deformation=0))
    shown = path(rng(1), 6, 40, 40)
    assert shown.shape == (6, 40, 40) and shown.dtype == np.uint8
    corners = [np.argwhere(mask).min(axis=0) for mask in shown]
    assert all(abs(mask.sum() - 16 * 16) <= 33 for mask in shown) and len({tuple(corner) for corner in corners}) > 3
    inverted = MovingMask(kind=path.kind, motion=path.motion, inversion=1)
    np.testing.assert_array_equal(inverted(rng(1), 6, 40, 40), 1 - shown)


@pytest.mark.parametrize("size", [(64, 64), (33, 7)])
def test_mixture(size):
    path, still = MixedPath(), 0
    for seed in range(60):
        shown = path(rng(seed), 4, *size)
        assert shown.shape == (4, *size) and set(np.unique(shown)) <= {0, 1}
        np.testing.assert_array_equal(shown, path(rng(seed), 4, *size))
        still += (shown == shown[0]).all()
    assert 20 < still < 55  # full and grid, and half of the others: 62 % expected
    with pytest.raises(InputError, match="2 for 1 paths of masks"):
        MixedPath(paths=[path], probabilities=[0.5, 0.5])


def test_keyframes():
    patterns, count = Keyframes(most=3), 4000
    drawn = [patterns.sample(rng(seed), 7) for seed in range(count)]
    share = {what: np.mean([test(frames) for frames in drawn]) for what, test in {
        "none": lambda frames: not frames, "first": lambda frames: frames == [0],
        "several": lambda frames: frames in ([0, 6], [0, 3, 6]), "last": lambda frames: frames == [6]}.items()}
    expected = {"none": 0.1, "first": 0.3 + 0.3 / 7, "several": 0.3, "last": 0.3 / 7}
    assert share == pytest.approx(expected, abs=4 * (0.25 / count) ** 0.5)
    assert Keyframes(first=1, none=0, one=0, several=0).sample(rng(0), 1) == []
    many = Keyframes(first=0, none=0, one=0, several=1, most=20)
    for frames, most in (5, 4), (25, 20):
        shares = np.bincount([len(many.sample(rng(seed), frames)) for seed in range(2000)], minlength=26) / 2000
        expected = np.log(np.arange(3, most + 2) / np.arange(2, most + 1)) / np.log((most + 1) / 2)
        assert shares[2:most + 1] == pytest.approx(expected, abs=0.04) and shares[2:most + 1].sum() == 1
    assert len(many.sample(rng(0), 2)) == 1
    with pytest.raises(InputError, match="weights"):
        Keyframes(none=0, first=0, one=0, several=0)
