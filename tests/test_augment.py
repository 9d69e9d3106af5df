"""Photometric and geometric distortions against the same thing done step by step with OpenCV and scikit-image."""
import cv2
import numpy as np
import pytest
from skimage import transform

from gi.data import geometry as geo
from gi.data import photometric as photo
from gi.errors import InputError

VIEW, SIZE = 456, 256


@pytest.fixture(scope="module")
def image():
    """Smooth, so that resampling several times instead of once changes little."""
    noise = np.random.default_rng(0).random((VIEW, VIEW, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 12, borderType=cv2.BORDER_REFLECT_101)
    return (smooth - smooth.min()) / np.ptp(smooth)


def _one_by_one(image, step):
    """What a step does to an image, by the libraries; each with its own border."""
    if isinstance(step, geo.Perspective):
        edges = np.array([[0, 0], [VIEW, 0], [VIEW, VIEW], [0, VIEW]], np.float32) - 0.5
        matrix = cv2.getPerspectiveTransform(np.float32(step.corners) - 0.5, edges)
        return cv2.warpPerspective(image, matrix, (VIEW, VIEW), borderMode=cv2.BORDER_REPLICATE)
    if isinstance(step, geo.Affine):
        centre = transform.AffineTransform(translation=[-(VIEW - 1) / 2] * 2)
        around = transform.AffineTransform(
            scale=(step.scale_x, step.scale_y), rotation=step.rotation, shear=(step.shear, 0)
        )
        back = transform.AffineTransform(translation=[(VIEW - 1) / 2] * 2)
        # scikit-image's "reflect" mirrors at the centre of the outermost pixel, as OpenCV's REFLECT_101.
        return transform.warp(image, (centre + around + back).inverse, order=1, mode="reflect").astype(np.float32)
    if isinstance(step, geo.Radial):
        camera = np.array([[VIEW, 0, (VIEW - 1) / 2], [0, VIEW, (VIEW - 1) / 2], [0, 0, 1]])
        lens = np.array([step.k, step.k, 0, 0, 0])
        maps = cv2.initUndistortRectifyMap(camera, lens, None, camera, (VIEW, VIEW), cv2.CV_32FC1)
        return cv2.remap(image, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return image[step.top : step.top + SIZE, step.left : step.left + SIZE]


PERSPECTIVE = geo.Perspective(corners=np.array([[20.0, 7], [440, 31], [425, 450], [3, 415]]), size=VIEW)
ZOOM_OUT = geo.Affine(scale_x=0.7, scale_y=0.8, rotation=0.6, shear=0.0017, size=VIEW)
ZOOM_IN = geo.Affine(scale_x=1.2, scale_y=0.9, rotation=-0.3, shear=0.2, size=VIEW)
BARREL, CUSHION = geo.Radial(k=0.05, size=VIEW), geo.Radial(k=-0.05, size=VIEW)
CORNER, MIDDLE = geo.Crop(left=0, top=200), geo.Crop(left=110, top=95)


@pytest.mark.parametrize(
    "steps",
    [
        [CORNER],
        [PERSPECTIVE, MIDDLE],
        [ZOOM_OUT, CORNER],
        [ZOOM_IN, CORNER],
        [BARREL, CORNER],
        [CUSHION, CORNER],
        [PERSPECTIVE, ZOOM_OUT, CORNER],
        [ZOOM_OUT, BARREL, CORNER],
        [PERSPECTIVE, ZOOM_IN, CUSHION, MIDDLE],
        [PERSPECTIVE, ZOOM_OUT, BARREL, CORNER],
    ],
    ids=lambda steps: "-".join(type(step).__name__ for step in steps),
)
def test_one_resampling_equals_step_by_step(image, steps):
    expected = image
    for step in steps:
        expected = _one_by_one(expected, step)
    result = geo.resample(image, geo.compose(steps, size=SIZE))
    difference = np.abs(result - expected)
    # The grey levels change by up to 0.03 a pixel, and older OpenCV rounds positions to 1/32 pixel.
    if len(steps) <= 2:  # the libraries resample once as well
        assert difference.max() < 6e-4
    else:  # they interpolate again what is interpolated already, which shows most at the kinks of mirrored borders
        assert difference.mean() < 4e-4 and np.quantile(difference, 0.99) < 1.5e-3 and difference.max() < 0.015


def test_mirror_is_opencvs_reflect_101():
    expected = [cv2.borderInterpolate(position, 7, cv2.BORDER_REFLECT_101) for position in range(-20, 30)]
    np.testing.assert_array_equal(geo.mirror(np.arange(-20.0, 30.0), 7), expected)


def test_borders_show_nothing_foreign(image):
    """A constant image stays constant whatever is done to it, and every coordinate lies within the view."""
    rng, geometry = np.random.default_rng(1), geo.FrameGeometry(probability=1.0)
    for _ in range(30):
        coordinates = geo.compose(geometry.sample(rng, view=VIEW, size=SIZE), size=SIZE)
        assert coordinates.dtype == np.float32 and coordinates.shape == (2, SIZE, SIZE)
        assert coordinates.min() >= 0 and coordinates.max() <= VIEW - 1
    flat = np.full((VIEW, VIEW, 3), 77, np.uint8)
    assert (geo.resample(flat, coordinates) == 77).all()


def _draws(count=6000):
    rng, geometry = np.random.default_rng(2), geo.FrameGeometry()
    return [geometry.sample(rng, view=VIEW, size=SIZE) for _ in range(count)]


def _uniform(values, low, high):
    """Range, mean and standard deviation of a uniform distribution, within 4 standard errors."""
    values = np.asarray(values)
    std, count = (high - low) / np.sqrt(12), len(values)
    assert low <= values.min() < low + 0.02 * (high - low) and high >= values.max() > high - 0.02 * (high - low)
    assert abs(values.mean() - (low + high) / 2) < 4 * std / np.sqrt(count)
    assert abs(values.std() - std) < 4 * std * np.sqrt(0.2 / count)  # kurtosis 1.8


def test_distributions_of_the_geometry():
    draws = _draws()
    found = {kind: [s for d in draws for s in d if isinstance(s, kind)] for kind in (geo.Perspective, geo.Affine)}
    radial = [s for d in draws for s in d if isinstance(s, geo.Radial)]
    for kind in (*found.values(), radial):
        assert abs(len(kind) / len(draws) - 0.5) < 4 * 0.5 / np.sqrt(len(draws))
    names = {tuple(type(s).__name__ for s in d) for d in draws}
    order = ("Perspective", "Affine", "Radial", "Crop")
    assert len(names) == 8 and all(list(n) == [name for name in order if name in n] for n in names)
    for name, low, high in (("scale_x", 0.7, 1.3), ("scale_y", 0.7, 1.3)):
        _uniform([getattr(s, name) for s in found[geo.Affine]], low, high)
    _uniform([np.degrees(s.rotation) for s in found[geo.Affine]], -40, 40)
    _uniform([np.degrees(s.shear) for s in found[geo.Affine]], -0.1, 0.1)
    _uniform([s.k for s in radial], -0.05, 0.05)
    crops = [d[-1] for d in draws]
    _uniform([crop.left for crop in crops], 0, 200)
    _uniform([crop.top for crop in crops], 0, 200)
    outer = np.array([[0, 0], [VIEW, 0], [VIEW, VIEW], [0, VIEW]])
    shifts = np.array([np.abs(s.corners - outer) / VIEW for s in found[geo.Perspective]])
    assert all((s.corners >= 0).all() and (s.corners <= VIEW).all() for s in found[geo.Perspective])
    # |N(0, sigma)| with sigma from U(0, 0.06): mean sqrt(2/pi) * 0.03, mean square 0.06^2 / 3.
    assert shifts.mean() == pytest.approx(np.sqrt(2 / np.pi) * 0.03, rel=0.06)
    assert (shifts**2).mean() == pytest.approx(0.06**2 / 3, rel=0.1)


def test_brightness_and_contrast():
    image = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    for brightness, contrast in ((0.2, 0.2), (-0.2, 0.1), (0.013, -0.2), (0, 0)):
        expected = np.clip(np.round(image * (1 + contrast) + 255 * brightness), 0, 255)
        np.testing.assert_array_equal(photo.change_brightness(image, brightness, contrast), expected)


def test_hsv_shift():
    image = np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8)
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV).astype(int)
    shift = (-5, 30, -7)
    expected = np.dstack([(hsv[..., 0] + shift[0]) % 180, *(np.clip(hsv[..., c] + shift[c], 0, 255) for c in (1, 2))])
    expected = cv2.cvtColor(expected.astype(np.uint8), cv2.COLOR_HSV2RGB)
    np.testing.assert_array_equal(photo.shift_hsv(image, *shift), expected)
    red = np.array([[[255, 0, 0]]], np.uint8)  # hue 0: wraps instead of stopping
    assert photo.shift_hsv(red, -5, 0, 0).tolist() == [[[255, 0, 42]]]
    assert photo.shift_hsv(red, 5, 0, 0).tolist() == [[[255, 43, 0]]]


def test_clahe_touches_only_lightness(image):
    image = np.round(255 * (0.3 + 0.2 * image)).astype(np.uint8)
    weak, strong = photo.equalise_locally(image, 1.0), photo.equalise_locally(image, 4.0)
    before, after = (cv2.cvtColor(x, cv2.COLOR_RGB2LAB).astype(int) for x in (image, strong))
    assert np.abs(before - after)[..., 1:].mean() < 1  # rounding
    assert after[..., 0].std() > cv2.cvtColor(weak, cv2.COLOR_RGB2LAB)[..., 0].std() > 0
    clahe = cv2.createCLAHE(clipLimit=4.0, tileGridSize=(8, 8)).apply(before[..., 0].astype(np.uint8))
    assert np.abs(clahe.astype(int) - after[..., 0]).mean() < 1


def test_photometric_distributions(monkeypatch):
    calls = {"equalise_locally": [], "change_brightness": [], "shift_hsv": []}
    for name, found in calls.items():
        monkeypatch.setattr(photo, name, lambda image, *numbers, _found=found: _found.append(numbers) or image)
    rng, count = np.random.default_rng(3), 6000
    for _ in range(count):
        photo.Photometric()(rng, None)
    for found in calls.values():
        assert abs(len(found) / count - 0.5) < 4 * 0.5 / np.sqrt(count)
    _uniform([clip for clip, in calls["equalise_locally"]], 1, 4)
    for column, limits in (("change_brightness", (0.2, 0.2)), ("shift_hsv", (5, 30, 5))):
        for values, limit in zip(zip(*calls[column], strict=True), limits, strict=True):
            _uniform(values, -limit, limit)
    for found in calls.values():
        found.clear()
    for _ in range(count):
        photo.Photometric.of_frames()(rng, None)
    assert not calls["equalise_locally"] and all(hue == 0 for hue, *_ in calls["shift_hsv"])
    for values in zip(*calls["change_brightness"], strict=True):
        _uniform(values, -0.01, 0.01)
    for values, limit in zip(list(zip(*calls["shift_hsv"], strict=True))[1:], (3, 1), strict=True):
        _uniform(values, -limit, limit)


def test_impossible_numbers():
    for make in (
        lambda: photo.Photometric(brightness=-1.0),
        lambda: photo.Photometric(hsv_probability=1.5),
        lambda: photo.Photometric(max_clip_limit=0.5),
        lambda: geo.FrameGeometry(scale=1.0),
        lambda: geo.FrameGeometry(probability=-0.1),
    ):
        with pytest.raises(InputError):
            make()
