"""Motion of planes made precise by the images. Truth by OpenCV's lens; images by SciPy."""
import cv2
import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, map_coordinates

from gi.flow.aligned import Aligned
from gi.flow.bend import Plane, bend_flow, fit_bend
from gi.flow.estimate import DIS
from gi.flow.guidance import FlowGuidance
from gi.flow.planar import planar_flow
from gi.flow.register import View, register

MATRIX = np.array([[0.97, -0.08, 8.0], [0.07, 0.98, -5.0], [1e-4, -1e-4, 1.0]])


def scene(size, lens=0.1, seed=0):
    """Two images (H, W) and the true flow (2, H, W) from the first to the second, which a lens bends."""
    height, width = size
    places = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=2).reshape(-1, 2).astype(np.float64)
    rays = cv2.perspectiveTransform(places[None], MATRIX)[0] / width - [0.5, 0.5 * height / width]
    camera = np.array([[width, 0, width / 2], [0, width, height / 2], [0, 0, 1.0]])
    ends = cv2.projectPoints(np.c_[rays, np.ones(len(rays))], np.zeros(3), np.zeros(3), camera,
                             np.array([lens, 0, 0, 0]))[0][:, 0]
    random = np.random.default_rng(seed)
    second = sum(sigma * gaussian_filter(random.normal(size=(height + 80, width + 80)), sigma) for sigma in (1, 2, 6))
    second = np.clip(128 + 90 * second, 0, 255)
    first = map_coordinates(second, ends[:, ::-1].T + 40, order=3).reshape(size)
    return first, second[40:-40, 40:-40], (ends - places).T.reshape(2, *size)


def hole(size):
    mask = np.zeros(size)
    mask[size[0] // 4 : size[0] * 3 // 5, size[1] // 3 : size[1] * 2 // 3] = 1
    return mask


def flow_of(plane, size):
    return planar_flow([plane.matrix], size, after=bend_flow([plane.bend], size))[0].numpy()


def guess(flow, noise=0.0):
    """The homography of a flow, and its bend where the flow is that noisy."""
    places = np.stack(np.meshgrid(*map(np.arange, flow.shape[:0:-1])), axis=2).reshape(-1, 2).astype(np.float64)
    ends = places + flow.reshape(2, -1).T
    matrix, _ = cv2.findHomography(places[::17], ends[::17])
    before = cv2.perspectiveTransform(ends[None], np.linalg.inv(matrix))[0]
    deviation = before - places + noise * np.random.default_rng(0).normal(size=places.shape)
    return Plane(matrix, fit_bend(places[::997], deviation[::997], flow.shape[1:], 1.0))


def as_grey(image):
    return image.round().astype(np.uint8)


def error(plane, flow, mask):
    return np.hypot(*(flow_of(plane, mask.shape) - flow))[mask > 0].mean()


@pytest.mark.parametrize("size", [(160, 200), (560, 700)])  # the second one is reduced
def test_precise_where_flow_is_not(size):
    first, second, flow = scene(size)
    mask = hole(size)
    rough = guess(flow, noise=0.5)
    views = View.of(as_grey(first), mask), View.of(as_grey(second), np.zeros(size))
    assert error(register(rough, *views, size), flow, mask) < 0.05 < 0.1 < error(rough, flow, mask)


def test_light_and_other_objects_are_no_motion():
    size = 160, 200
    first, second, flow = scene(size)
    mask, away = hole(size), np.zeros(size)
    second = (0.7 + 0.2 * np.linspace(-1, 1, size[1])) * second + 30
    second[100:, :80] = scene(size, seed=1)[0][100:, :80]
    away[:30, 100:140], second[:30, 100:140] = 1, 0
    first[mask > 0] = 255
    rough = guess(flow, noise=0.5)
    views = View.of(as_grey(first), mask), View.of(as_grey(second), away)
    assert error(register(rough, *views, size), flow, mask) < 0.05 < 0.1 < error(rough, flow, mask)


def test_without_structure_relation_or_pixels_the_guess_stays():
    size = 64, 80
    flat, rough = np.full(size, 100, np.uint8), Plane(np.eye(3), np.full((10, 2), 0.1))
    kept = register(rough, View.of(flat, hole(size)), View.of(flat, np.zeros(size)), size)
    assert np.array_equal(kept.bend, rough.bend)
    first, second, _ = scene(size)
    other = View.of(as_grey(scene(size, seed=1)[1]), np.zeros(size))
    assert register(rough, View.of(as_grey(first), hole(size)), other, size) is rough
    hardly = np.ones(size)
    hardly[:10, :10] = 0
    assert register(rough, View.of(as_grey(first), hardly), View.of(as_grey(second), 0 * hardly), size) is rough


def test_guidance_compares_the_images():
    size = 160, 200
    first, second, flow = scene(size)
    mask = hole(size)
    image, source = (torch.from_numpy(grey).float().expand(1, 3, *size) / 255 for grey in (first, second))
    holes = torch.from_numpy(mask).float()[None, None]
    guidance = FlowGuidance(estimator=Aligned(estimator=DIS()), resolution=None, mask_images=True, planar=True)
    registered = guidance(image * (1 - holes), holes, source[:, None], torch.zeros(1, 1, 1, *size))[0]
    estimated = guidance.estimated(torch.cat([guidance.estimator_input(image, holes), source]), torch.tensor([0, 1]),
                                   torch.tensor([1, 0]))
    by_flow = guidance.complete(estimated[:, None, None], holes)[0]
    errors = [np.hypot(*(found[0, 0].numpy() - flow))[mask > 0].mean() for found in (registered, by_flow)]
    assert errors[0] < 0.05 and errors[0] < 0.6 * errors[1]
