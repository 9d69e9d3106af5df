"""Flow of planes: filling holes with it, and aligning what is seen before estimating. Truth by scikit-image."""
import cv2
import numpy as np
import pytest
import torch
from skimage.transform import ProjectiveTransform, warp

from gi.errors import InputError
from gi.flow import aligned
from gi.flow.aligned import Aligned
from gi.flow.estimate import DIS, ZeroFlow
from gi.flow.guidance import FlowGuidance
from gi.flow.inpaint import inpaint_flow
from gi.flow.keypoints import Detector
from gi.flow.planar import complete_planar, fit_homography, inpaint_planar, planar_flow

SIZE = 96, 128
MATRIX = np.array([[0.9, -0.25, 14.0], [0.2, 0.95, -6.0], [4e-4, -3e-4, 1.0]])


def truth(matrix=MATRIX, size=SIZE):
    """(2, H, W), by scikit-image."""
    places = np.stack(np.meshgrid(np.arange(size[1]), np.arange(size[0])), axis=2).reshape(-1, 2)
    moved = ProjectiveTransform(matrix)(places) - places
    return torch.from_numpy(moved.reshape(*size, 2)).permute(2, 0, 1).float()


def hole(top=25, left=30, height=50, width=60):
    mask = torch.zeros(1, 1, *SIZE)
    mask[..., top : top + height, left : left + width] = 1
    return mask


def texture(seed=0, size=SIZE):
    """Blurred noise: corners everywhere, and no two alike."""
    rng = torch.Generator().manual_seed(seed)
    noise = [torch.rand(1, 3, *(length // step for length in size), generator=rng) for step in (4, 8, 16)]
    layers = [torch.nn.functional.interpolate(layer, size, mode="bicubic") for layer in noise]
    return (sum(layers) / 3).clamp(0, 1)


def moved(image, matrix=MATRIX):
    """The image whose flow from `image` is that of the matrix."""
    picture = image[0].permute(1, 2, 0).double().numpy()
    warped = warp(picture, ProjectiveTransform(matrix).inverse, order=1, mode="edge")
    return torch.from_numpy(warped).permute(2, 0, 1)[None].float()


def test_flow_of_a_homography():
    plane, none = planar_flow([MATRIX, np.eye(3)], SIZE)
    assert torch.allclose(plane, truth(), atol=1e-3) and not none.any()
    # After another flow, it begins at the place where that leads.
    shift = torch.tensor([3.0, -2.0]).view(1, 2, 1, 1)
    both = planar_flow([MATRIX], SIZE, after=shift.expand(1, 2, *SIZE))[0]
    assert torch.allclose(both[:, 2:, :-3], (truth() + shift[0])[:, :-2, 3:], atol=1e-3)


def test_hole_of_a_moving_plane():
    flow, mask = truth()[None], hole()
    damaged = torch.where(mask > 0, 50.0, flow)
    error = (inpaint_planar(damaged, mask) - flow).norm(dim=1)
    assert error.max() < 0.05
    assert error.max() < 0.05 * (inpaint_flow(damaged, mask) - flow).norm(dim=1).max()
    filled = inpaint_planar(damaged, mask)
    assert torch.equal(filled[mask.expand_as(flow) == 0], flow[mask.expand_as(flow) == 0])


def test_plane_is_found_among_errors_and_deviations():
    flow, mask = truth()[None].clone(), hole()
    y, x = (torch.arange(length) for length in SIZE)
    wavy = flow + 0.4 * torch.sin(x / 20) * torch.cos(y / 15)[:, None]
    damaged = wavy + 0.1 * torch.randn(flow.shape, generator=torch.Generator().manual_seed(0))
    damaged[..., :25] += 20  # a quarter moves otherwise
    error = (inpaint_planar(damaged, mask) - wavy).norm(dim=1, keepdim=True)
    assert error[mask > 0].mean() < 0.5


def test_what_a_lens_bends():
    """Truth by OpenCV's lens; flow around the hole as noisy as an estimator's. The best homography is far worse."""
    places = np.stack(np.meshgrid(*map(np.arange, SIZE[::-1])), axis=2).reshape(-1, 2).astype(np.float64)
    on_plane = ProjectiveTransform(MATRIX)(places)
    camera = np.array([[SIZE[1], 0, SIZE[1] / 2], [0, SIZE[1], SIZE[0] / 2], [0, 0, 1.0]])
    rays = np.c_[(on_plane - camera[:2, 2]) / SIZE[1], np.ones(len(places))]
    bent = cv2.projectPoints(rays, np.zeros(3), np.zeros(3), camera, np.array([0.1, 0, 0, 0]))[0][:, 0]
    flow, mask = torch.from_numpy(bent - places).float().T.reshape(1, 2, *SIZE), hole()
    noise = 0.1 * torch.randn(flow.shape, generator=torch.Generator().manual_seed(0))
    damaged = torch.where(mask > 0, 50.0, flow + noise)
    inside = mask[0, 0] > 0
    error = (inpaint_planar(damaged, mask) - flow).norm(dim=1)[0, inside].mean()
    around = (~inside).flatten().numpy()
    best, _ = cv2.findHomography(places[around], bent[around])
    assert error < 0.04 and error < 0.2 * (planar_flow([best], SIZE) - flow).norm(dim=1)[0, inside].mean()


def test_several_fields_share_a_hole():
    flows = torch.stack([truth(), truth(np.diag([1.1, 1.1, 1.0])), 30 * torch.randn(2, *SIZE)])
    mask = hole()
    together = inpaint_planar(flows, mask.expand(3, -1, -1, -1))
    for i in range(3):
        assert torch.equal(together[i : i + 1], inpaint_planar(flows[i : i + 1], mask))
    assert (together[1] - flows[1]).abs().max() < 0.05 and together.isfinite().all()


def test_only_consistent_flow_is_believed():
    """Of the target's flow a quarter outside the hole is right, and as much of the flow back to it."""
    random, mask = torch.Generator().manual_seed(0), hole()
    flow, back = truth(), truth(np.linalg.inv(MATRIX))
    wrong = 40 * torch.rand(2, 2, 1, 1, 2, *SIZE, generator=random)[0]
    wrong[..., 100:] = 0
    estimated = torch.stack([flow, back])[:, None, None] + wrong
    there, again = complete_planar(estimated, mask)
    inside = mask.expand(1, 2, *SIZE) > 0
    assert (there[0] - flow).abs()[inside].max() < 0.1
    assert torch.equal(there[0][~inside], estimated[0, 0][~inside])
    believing_all = inpaint_planar(estimated[0, 0], mask)
    assert (believing_all - flow).abs()[inside].mean() > 1
    assert (again[0] - truth(np.linalg.inv(MATRIX))).abs()[inside].max() < 0.1
    assert torch.equal(again[0][~inside], estimated[1, 0][~inside])


def test_where_nothing_is_consistent_all_of_it_is_looked_at():
    estimated, mask = 9 + 30 * torch.rand(2, 1, 2, 2, *SIZE, generator=torch.Generator().manual_seed(0)), hole()
    completed = complete_planar(estimated, mask)
    for found, field in zip(completed.flatten(0, 2), estimated.flatten(0, 2), strict=True):
        assert torch.allclose(found, inpaint_planar(field[None], mask)[0], atol=1e-4)


@pytest.mark.parametrize("mask", [torch.ones(1, 1, *SIZE), torch.zeros(1, 1, *SIZE)])
def test_nothing_or_everything_missing(mask):
    filled = inpaint_planar(truth()[None], mask)
    assert filled.isfinite().all() and (mask.any() or torch.equal(filled, truth()[None]))
    assert inpaint_planar(torch.zeros(0, 2, 8, 8), torch.zeros(0, 1, 8, 8)).shape == (0, 2, 8, 8)


def test_homographies_that_cannot_be_are_none():
    start = np.random.default_rng(0).uniform(0, 90, (60, 2))
    def fit(end, least=20):
        return fit_homography(start, end, SIZE, tolerance=1.0, least=least)
    assert np.allclose(fit(start + [3, -2]), [[1, 0, 3], [0, 1, -2], [0, 0, 1]], atol=1e-6)
    assert fit(start * [-1, 1]) is None  # mirrored
    assert fit(start * 0.1) is None and fit(start * 9) is None
    assert fit(np.random.default_rng(1).uniform(0, 90, (60, 2))) is None
    assert fit_homography(start[:3], start[:3], SIZE, tolerance=1.0, least=3) is None


def test_few_keypoints_are_more_in_an_enlarged_image(monkeypatch):
    size, matrix = (32, 40), np.array([[0.45, 0, 12.0], [0, 0.45, 10.0], [0, 0, 1]])
    image, errors = texture(size=size), []
    for scales in (1,), (1, 2):
        monkeypatch.setattr(aligned, "_SCALES", scales)
        flow = Aligned(estimator=ZeroFlow())(image, moved(image, matrix))[0]
        errors.append((flow - truth(matrix, size)).norm(dim=0).mean())
    assert errors[1] < 0.3 < 3 < errors[0]


def test_images_of_many_keypoints_and_no_matches_are_not_enlarged(monkeypatch):
    """What shows two hundred keypoints and no match is another scene; where there are few, some may be missing."""
    scales, detect = [], Detector._detect
    monkeypatch.setattr(Detector, "_detect",
                        lambda self, grey, scale: [detect(self, grey, scale), scales.append(scale)][0])
    for many, looked_at in ((aligned._MANY, [1, 1, 2, 2]), (50, [1, 1])):
        monkeypatch.setattr(aligned, "_MANY", many)
        flow = Aligned(estimator=ZeroFlow())(texture(1), texture(2))
        assert scales == looked_at and not flow.any()
        scales.clear()


def test_aligned_finds_large_motion():
    image, turned = texture(), np.linalg.inv([[1, 0, -64], [0, 1, -48], [0, 0, 1]])
    turned = turned @ [[0.7, -0.7, 0], [0.7, 0.7, 0], [0, 0, 1]] @ np.linalg.inv(turned)
    other = moved(image, turned)
    flow = Aligned(estimator=DIS())(image, other)[0]
    there = truth(turned) + torch.stack(torch.meshgrid(torch.arange(SIZE[1]), torch.arange(SIZE[0]), indexing="xy"))
    seen = (there[0] > 4) & (there[1] > 4) & (there[0] < SIZE[1] - 5) & (there[1] < SIZE[0] - 5)
    error = (flow - truth(turned)).norm(dim=0)[seen]
    plain = (DIS()(image, other)[0] - truth(turned)).norm(dim=0)[seen]
    assert seen.float().mean() > 0.5 and error.mean() < 0.3 < 3 < plain.mean()


def test_aligned_leaves_what_shows_no_plane_to_its_estimator():
    grey = torch.full((1, 3, 48, 48), 0.5)
    first, *second = (texture(seed, (48, 48)) for seed in (1, 2, 3))
    pair = torch.cat([grey, first]), torch.cat(second)
    assert torch.allclose(Aligned(estimator=DIS())(*pair), DIS()(*pair), atol=1e-4)
    assert Aligned(estimator=DIS())(*(image[:0] for image in pair)).shape == (0, 2, 48, 48)
    with pytest.raises(InputError, match="one shape"):
        Aligned(estimator=DIS())(grey, texture())
    with pytest.raises(InputError, match="least"):
        Aligned(estimator=DIS(), least=3)


def test_pairs_do_not_depend_on_each_other():
    image = texture()
    alone = Aligned(estimator=ZeroFlow())(image, moved(image))
    both = Aligned(estimator=ZeroFlow())(torch.cat([texture(4), image]), torch.cat([texture(5), moved(image)]))
    assert torch.equal(both[1:], alone)


def test_guidance_in_a_hole():
    image = texture()
    other, mask, none = moved(image), hole(), torch.zeros(1, 1, 1, *SIZE)
    guidance = FlowGuidance(estimator=Aligned(estimator=DIS()), resolution=None, mask_images=True, planar=True)
    flows, errors = guidance(image * (1 - mask), mask, other[:, None], none)
    wrong = (flows[0, 0] - truth()).norm(dim=0)
    assert wrong[mask[0, 0] > 0].mean() < 0.5 and errors[0, 0, 0][mask[0, 0] > 0].mean() < 1
    plain = FlowGuidance(estimator=DIS(), resolution=None, mask_images=True)
    flows, _ = plain(image * (1 - mask), mask, other[:, None], none)
    assert (flows[0, 0] - truth()).norm(dim=0)[mask[0, 0] > 0].mean() > 3
