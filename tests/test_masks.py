import json
from pathlib import Path

import numpy as np
import pytest

from gi.data import masks
from gi.errors import InputError

REFERENCE = json.loads((Path(__file__).parent / "reference" / "mask_statistics.json").read_text())
SAMPLES = 4000
ALL_KINDS = [
    masks.Strokes(),
    masks.Strokes(brush="square"),
    masks.Boxes(),
    masks.SuperResolutionGrid(),
    masks.Grid(),
    masks.Outpainting(),
    masks.CentralSquare(),
    masks.Inverted(kind=masks.Boxes(), probability=0.5),
    masks.MixedMask(),
]


def _areas(kind, size=256, samples=SAMPLES, **options):
    rng = np.random.default_rng(5)
    return np.array([kind(rng, size, size, **options).mean() for _ in range(samples)])


@pytest.mark.parametrize(
    "name, kind", [("irregular", masks.Strokes()), ("box", masks.Boxes()), ("mixed", masks.MixedMask())]
)
def test_area_distribution(name, kind):
    """Against 20,000 masks of the original release. Each tolerance is 4 standard errors of the difference."""
    reference, areas = REFERENCE[name], _areas(kind)
    per_sample = np.sqrt(1 / SAMPLES + 1 / reference["samples"])
    std = reference["std"]
    assert abs(areas.mean() - reference["mean"]) < 4 * std * per_sample  # 0.015 for strokes
    # The variance of a standard deviation is (kurtosis - 1) / 4 * std^2 / n.
    kurtosis = np.mean((areas - areas.mean()) ** 4) / areas.var() ** 2
    assert abs(areas.std() - std) < 4 * std * np.sqrt((kurtosis - 1) / 4) * per_sample
    for quantile, expected in reference["quantiles"].items():
        # Compared as shares, not as areas: the share of our masks below their quantile is binomial.
        share, expected_share = (areas <= expected).mean(), float(quantile)
        assert abs(share - expected_share) < 4 * np.sqrt(expected_share * (1 - expected_share)) * per_sample + 1e-3
    assert (areas == 0).mean() == reference["empty"]


@pytest.mark.parametrize("kind", ALL_KINDS, ids=lambda kind: type(kind).__name__)
@pytest.mark.parametrize("shape", [(256, 256), (64, 64), (120, 200), (33, 7)])
def test_any_shape_and_repeatable(kind, shape):
    for seed in range(20):
        mask = kind(np.random.default_rng(seed), *shape)
        assert mask.shape == shape and mask.dtype == np.uint8 and set(np.unique(mask)) <= {0, 1}
        np.testing.assert_array_equal(mask, kind(np.random.default_rng(seed), *shape))
    assert any(0 < kind(np.random.default_rng(seed), *shape).mean() < 1 for seed in range(20))


@pytest.mark.parametrize("kind", [masks.Strokes(), masks.Strokes(brush="square"), masks.Boxes()])
def test_share_does_not_depend_on_size(kind):
    assert _areas(kind, 64, 1500).mean() == pytest.approx(_areas(kind, 256, 1500).mean(), rel=0.08)


@pytest.mark.parametrize("kind", [masks.Strokes(), masks.Boxes(), masks.Outpainting(), masks.CentralSquare()])
def test_growth(kind):
    areas = [_areas(kind, samples=400, growth=growth).mean() for growth in (0.1, 0.5, 1.0)]
    assert areas[0] < 0.8 * areas[1] < 0.8 * areas[2]


def test_growth_ramp():
    ramp = masks.GrowthRamp(start=0.2, first_epoch=2, last_epoch=6)
    assert [ramp(epoch) for epoch in (0, 2, 4, 6, 100)] == pytest.approx([0.2, 0.2, 0.6, 1, 1])


def test_boxes_stay_away_from_the_border():
    rng = np.random.default_rng(0)
    union = np.max([masks.Boxes()(rng, 256, 256) for _ in range(2000)], axis=0)
    inside = union[10:-10, 10:-10]
    assert union.sum() == inside.sum()
    assert all(edge.any() for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]))


def test_single_box_sides():
    rng, kind = np.random.default_rng(0), masks.Boxes(max_boxes=1)
    sides = []
    for _ in range(3000):
        mask = kind(rng, 256, 256)
        sides += [mask.any(axis=0).sum(), mask.any(axis=1).sum()]
    assert min(sides) == 30 and max(sides) == 150
    assert np.mean(sides) == pytest.approx(90, abs=4 * 35 / np.sqrt(6000))  # uniform: std 121 / sqrt(12) = 35


def test_central_square():
    mask = masks.CentralSquare(share=0.5)(np.random.default_rng(0), 64, 96)
    assert mask.sum() == 32 * 32 and mask[16:48, 32:64].all()


def test_outpainting_reaches_every_border_and_keeps_the_middle():
    rng = np.random.default_rng(0)
    sample = np.array([masks.Outpainting()(rng, 100, 100) for _ in range(300)])
    sides = np.stack([sample[:, 0, 50], sample[:, -1, 50], sample[:, 50, 0], sample[:, 50, -1]])
    assert sides.any(axis=0).all() and sides.mean() == pytest.approx(0.5, abs=0.1)
    assert not sample[:, 26:74, 26:74].any()


def test_super_resolution_is_periodic():
    rng = np.random.default_rng(0)
    for _ in range(50):
        mask = masks.SuperResolutionGrid(max_step=3)(rng, 30, 30)
        assert (mask[:24] == mask[6:]).all() and (mask[:, :24] == mask[:, 6:]).all() and 0 < mask.mean() < 1


def test_inverted_and_mixed_shares():
    box = masks.CentralSquare(share=0.5)
    rng = np.random.default_rng(0)
    inverted = masks.Inverted(kind=box, probability=0.25)
    assert np.mean([inverted(rng, 16, 16)[0, 0] for _ in range(2000)]) == pytest.approx(0.25, abs=0.04)
    mixed = masks.MixedMask(kinds=[box, masks.CentralSquare(share=1.0)], probabilities=[0.3, 0.7])
    assert np.mean([mixed(rng, 16, 16).all() for _ in range(2000)]) == pytest.approx(0.7, abs=0.04)


@pytest.mark.parametrize(
    "make",
    [
        lambda: masks.MixedMask(kinds=[masks.Boxes()], probabilities=[0.5]),
        lambda: masks.MixedMask(kinds=[]),
        lambda: masks.Strokes(min_length=5, max_length=4),
        lambda: masks.Boxes(margin=120),
        lambda: masks.Outpainting(max_share=0.5),
        lambda: masks.Inverted(kind=masks.Boxes(), probability=2),
        lambda: masks.CentralSquare(share=0),
        lambda: masks.GrowthRamp(start=0),
        lambda: masks.SuperResolutionGrid(max_step=1),
    ],
)
def test_impossible_numbers(make):
    with pytest.raises(InputError):
        make()
