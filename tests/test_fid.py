import math
import time

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from gi.errors import InputError
from gi.metrics.fid import frechet_distance


def by_sqrtm(a, b):
    """The usual formula, pytorch-fid's, with scipy's matrix square root."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = sqrtm(cov_a @ cov_b).real
    return ((a.mean(axis=0) - b.mean(axis=0)) ** 2).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * np.trace(root)


def features(n, d, seed=0):
    """Two correlated sets of n features whose variances fall off over d dimensions, as Inception's do."""
    rs = np.random.RandomState(seed)
    mix = rs.standard_normal((d, d)) * np.linspace(1, 0.05, d) / np.sqrt(d)
    a = rs.standard_normal((n, d)).astype(np.float32) @ mix
    b = rs.standard_normal((n, d)).astype(np.float32) @ mix * 1.1 + 0.05
    return a, b


def axes(lengths, directions):
    """Points on both ends of axes: their mean is 0, their covariance has the known eigenvalues 2 l^2 / (n - 1)."""
    half = np.asarray(lengths)[:, None] * directions[:len(lengths)]
    return np.concatenate([half, -half])


def test_original_values(reference):
    rs = np.random.RandomState(7)
    mix = rs.standard_normal((128, 128)).astype(np.float32) / np.sqrt(128)
    a = rs.standard_normal((400, 128)).astype(np.float32) @ mix
    b = rs.standard_normal((400, 128)).astype(np.float32) @ mix * 1.1 + 0.05
    stored = reference.load("metrics")
    assert frechet_distance(a, b) == pytest.approx(float(stored["fid_400"]), rel=1e-6)
    assert frechet_distance(a[:200], b[:200]) == pytest.approx(float(stored["fid_200"]), rel=1e-6)


@pytest.mark.parametrize(("n", "m", "d"), [(300, 300, 40), (300, 150, 40), (100, 90, 40), (41, 300, 40), (64, 64, 64)])
def test_equals_the_matrix_square_root_where_that_is_stable(n, m, d):
    a, b = features(300, d)
    assert frechet_distance(a[:n], b[:m]) == pytest.approx(by_sqrtm(a[:n], b[:m]), rel=1e-6)


@pytest.mark.parametrize(("rank", "d"), [(3, 64), (20, 64), (64, 64), (30, 2048)])
def test_rank_deficient_groups_have_the_analytic_distance(rank, d):
    rs = np.random.RandomState(rank)
    directions = np.linalg.qr(rs.standard_normal((d, rank)))[0].T
    lengths_a, lengths_b = 10 ** rs.uniform(-5, 1, (2, rank))  # variances over twelve orders of magnitude
    lengths_b[: rank // 3] = 0  # directions that only one of the sets has
    shift = rs.standard_normal(d)
    # Both covariances have the same eigenvectors, so the distance is that of the standard deviations along them.
    expected = (shift ** 2).sum() + 2 / (2 * rank - 1) * ((lengths_a - lengths_b) ** 2).sum()
    got = frechet_distance(axes(lengths_a, directions), axes(lengths_b, directions) + shift)
    assert got == pytest.approx(expected, rel=1e-9)
    without_shift = frechet_distance(axes(lengths_a, directions), axes(lengths_b, directions))
    assert without_shift == pytest.approx(expected - (shift ** 2).sum(), rel=1e-9)


@pytest.mark.parametrize("n", [2, 10, 39, 40, 41, 200])
def test_dimensions_of_constant_value_change_nothing(n):
    """They turn a group with more images than dimensions into one with fewer, so both ways of computing must agree."""
    a, b = features(n, 40)
    padded = [np.concatenate([x, np.ones((n, 300))], axis=1) for x in (a, b)]
    assert frechet_distance(*padded) == pytest.approx(frechet_distance(a, b), rel=1e-10)


def test_order_sides_and_container_do_not_matter():
    a, b = features(50, 80)
    value = frechet_distance(a, b)
    assert frechet_distance(b, a) == pytest.approx(value, rel=1e-12)
    assert frechet_distance(a[::-1].copy(), b) == pytest.approx(value, rel=1e-12)
    assert frechet_distance(torch.from_numpy(a).requires_grad_(), b) == value


def test_equal_sets_are_at_no_distance():
    a, _ = features(50, 80)
    assert 0 <= frechet_distance(a, a.copy()) < 1e-12
    assert frechet_distance(np.ones((4, 3)), np.ones((5, 3))) == 0


def test_two_images_a_side():
    assert frechet_distance(np.array([[0.0], [2.0]]), np.array([[3.0], [5.0]])) == pytest.approx(9, rel=1e-12)
    assert frechet_distance(np.array([[0.0], [2.0]]), np.array([[0.0], [4.0]])) == pytest.approx(1 + 2, rel=1e-12)


def test_too_few_images_or_broken_features_are_nan():
    a, b = features(5, 8)
    assert math.isnan(frechet_distance(a[:1], b)) and math.isnan(frechet_distance(a, b[:1]))
    assert math.isnan(frechet_distance(a[:0], b[:0]))
    b[3, 2] = np.nan
    assert math.isnan(frechet_distance(a, b))


def test_wrong_shapes():
    with pytest.raises(InputError, match=r"\(5, 8\).*\(5, 7\)"):
        frechet_distance(np.zeros((5, 8)), np.zeros((5, 7)))
    with pytest.raises(InputError, match="expected two sets"):
        frechet_distance(np.zeros(5), np.zeros(5))


@pytest.mark.slow
def test_at_least_twenty_times_faster_than_the_matrix_square_root():
    a, b = features(1000, 1024)
    start = time.perf_counter()
    theirs = by_sqrtm(a, b)
    needed = 11 * (time.perf_counter() - start)  # a group's matrices are as large as those of the whole set
    for _ in range(3):  # threads of other programs on the same cores can slow a single attempt down tenfold
        start = time.perf_counter()
        ours = [frechet_distance(a, b), *(frechet_distance(a[i::10], b[i::10]) for i in range(10))]
        seconds = time.perf_counter() - start
        print(f"{seconds:.2f} s instead of {needed:.0f} s: {needed / seconds:.0f} times faster")
        if needed > 20 * seconds:
            break
    assert ours[0] == pytest.approx(theirs, rel=1e-6)
    assert needed > 20 * seconds
