import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage

from gi.errors import InputError
from gi.flow.estimate import DIS, RAFT, Estimator, ZeroFlow, torchvision_names
from gi.flow.guidance import FlowGuidance
from gi.flow.inpaint import inpaint_flow
from gi.flow.morphology import dilate
from gi.flow.warp import area_means, forward_backward_error, resize_flow, sample, warp
from gi.weights.files import file_sha256


def relative(value, expected):
    """Largest difference, relative to the largest expected value."""
    assert value.shape == expected.shape
    return np.abs(value.numpy() - expected).max() / np.abs(expected).max()


def texture(height, width, seed=0):
    """A smooth random photograph-like texture (H,W,3) in [0,1]."""
    noise = np.random.default_rng(seed).random((height, width, 3))
    image = ndimage.gaussian_filter(noise, (2, 2, 0), mode="wrap")
    return ((image - image.min()) / (image.max() - image.min())).astype(np.float32)


def tensor(image):
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]


# warp, resize, error --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def inputs(reference):
    fill = reference.fill
    mask = fill.mask("flow_inpainting/mask", 2, 1, 96, 128)
    mask[1] = 0
    arrays = (fill.flow("flow_inpainting/flow", 2, 2, 96, 128), mask, fill.image("flow_inpainting/image", 2, 5, 12, 16))
    return [torch.from_numpy(array) for array in arrays]


def test_resize_and_warp_are_those_of_the_original(reference, inputs):
    expected = reference.load("flow_inpainting")
    flow, _, image = inputs
    assert relative(resize_flow(flow, (48, 256))[..., ::4, ::4], expected["resized"]) < 1e-6
    assert relative(warp(image, resize_flow(flow, (12, 16))), expected["warped"]) < 1e-5


def test_warp_by_whole_pixels_shifts_and_leaves_zeros():
    image = torch.rand(2, 3, 7, 9)
    flow = torch.zeros(2, 2, 7, 9)
    flow[:, 0], flow[:, 1] = 2, -1
    shifted = warp(image, flow)
    torch.testing.assert_close(shifted[..., 1:, :-2], image[..., :-1, 2:])
    assert shifted[..., 0, :].abs().max() < 1e-6 and shifted[..., -2:].abs().max() < 1e-5


@pytest.mark.parametrize("size", [(13, 17), (8, 2)])
def test_warp_agrees_with_scipy(size):
    rng = np.random.default_rng(0)
    image, flow = rng.random(size), 6 * rng.standard_normal((2, *size))
    row, column = np.mgrid[:size[0], :size[1]]
    # scipy's "constant" does not interpolate towards the zeros outside; a border of zeros makes it do so
    expected = ndimage.map_coordinates(np.pad(image, 1), [row + flow[1] + 1, column + flow[0] + 1], order=1)
    image, flow = torch.from_numpy(image)[None, None].float(), torch.from_numpy(flow)[None].float()
    result = warp(image, flow)
    np.testing.assert_allclose(result[0, 0].numpy(), expected, atol=1e-5)
    part = ..., slice(3, 7), slice(1, 2)
    assert torch.equal(warp(image, flow[part], corner=(3, 1)), result[part])


def test_samples_and_means_agree_with_scipy_and_torch():
    rng = np.random.default_rng(0)
    image, points = rng.random((13, 17)), rng.uniform(-4, 20, (50, 2))
    values = sample(torch.from_numpy(image)[None, None].float(), torch.from_numpy(points).float())
    expected = ndimage.map_coordinates(image, points.T[::-1], order=1, mode="nearest")
    np.testing.assert_allclose(values[:, 0].numpy(), expected, atol=1e-5)
    image = torch.rand(2, 3, 13, 17)
    for size in (4, 5), (13, 1):
        assert torch.equal(area_means(image, size), F.interpolate(image, size, mode="area"))


def test_nobody_but_their_helpers_calls_what_apple_gpus_lack():
    lacking = re.compile(r'mode="area"|adaptive_avg_pool|AdaptiveAvgPool|padding_mode="border"')
    root = Path(__file__).resolve().parents[1] / "gi"
    assert [path.name for path in root.rglob("*.py") if lacking.search(path.read_text())] == ["warp.py"]


def test_warp_keeps_its_precision_under_autocast_and_takes_one_pixel():
    image, flow = torch.rand(1, 1, 40, 1000), torch.full((1, 2, 40, 1000), 0.4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(warp(image, flow), warp(image, flow.clone()))
        reduced = warp(image, flow)
    assert torch.equal(reduced, warp(image, flow))
    assert warp(image.bfloat16(), flow).dtype == torch.bfloat16
    assert warp(torch.ones(1, 1, 1, 1), torch.zeros(1, 2, 1, 1)).item() == 1


def test_error_is_zero_for_opposite_flows_and_scaled_as_in_the_original():
    flow = torch.ones(1, 2, 6, 8) * torch.tensor([2.0, -1.0])[:, None, None]
    inside = (..., slice(2, -2), slice(2, -2))
    assert forward_backward_error(flow, -flow)[inside].abs().max() < 1e-5
    error = forward_backward_error(flow, torch.zeros_like(flow))
    torch.testing.assert_close(error, torch.full((1, 1, 6, 8), 1.5))
    error = forward_backward_error(flow, torch.zeros_like(flow), estimated_at=(3, 2))
    torch.testing.assert_close(error, torch.full((1, 1, 6, 8), (2 * 4 + 1 * 2) / 2))


# filling --------------------------------------------------------------------------------------------------------------


def test_inpainting_is_that_of_the_original(reference, inputs):
    flow, mask, _ = inputs
    filled = inpaint_flow(flow, mask)
    assert relative(filled[..., ::2, ::2], reference.load("flow_inpainting")["inpainted"]) < 1e-6
    assert torch.equal(filled[1], flow[1]) and torch.equal(filled[:, :, mask[0, 0] == 0], flow[:, :, mask[0, 0] == 0])


def brute_force_fill(flow, mask):
    """One image, pixel by pixel in float64: flow (2,H,W), mask (H,W)."""
    cross = ndimage.generate_binary_structure(2, 1)
    edge = (mask > 0) & ~ndimage.binary_erosion(mask > 0, cross)
    edge[[0, -1]] = edge[:, [0, -1]] = False
    points = np.argwhere(edge)
    points = points if len(points) else np.array([[0, 0]])
    points = points[np.random.default_rng(1).choice(len(points), 20)]
    filled = flow.astype(np.float64)
    for y, x in np.argwhere(mask > 0):
        squared = ((points - [y, x]) ** 2).sum(axis=1).astype(np.float64)
        weight = squared ** -3 if squared.min() > 0 else (squared == 0).astype(np.float64)
        filled[:, y, x] = flow[:, points[:, 0], points[:, 1]] @ weight / weight.sum()
    return filled


@pytest.mark.parametrize("size", [(5, 7), (64, 1), (33, 250)])
def test_inpainting_agrees_with_a_loop_over_pixels(size):
    rng = np.random.default_rng(3)
    flow = rng.standard_normal((4, 2, *size)).astype(np.float32)
    masks = np.zeros((4, 1, *size), np.float32)
    masks[0] = 1  # nothing known, no edge: the flow of pixel (0, 0)
    masks[1, 0, size[0] // 4:3 * size[0] // 4 + 1] = 1
    masks[2, 0, 0, 0] = 1  # on the image border only
    masks[3] = rng.random(size) < 0.3
    expected = np.stack([brute_force_fill(f, m[0]) for f, m in zip(flow, masks, strict=True)])
    filled = inpaint_flow(torch.from_numpy(flow), torch.from_numpy(masks))
    np.testing.assert_allclose(filled.numpy(), expected, atol=2e-5)


def test_inpainting_treats_images_alone_and_keeps_its_numbers_in_large_images(inputs):
    flow, mask, _ = inputs
    batch = torch.cat([flow, flow.flip(-1)]), torch.cat([mask, mask.flip(-2)])
    together = inpaint_flow(*batch)
    for i in range(4):
        torch.testing.assert_close(together[i:i + 1], inpaint_flow(batch[0][i:i + 1], batch[1][i:i + 1]))
    mask = torch.zeros(1, 1, 1024, 1024)
    mask[..., 1:3, 1:3] = 1
    mask[..., 1000:, 1000:] = 1
    mask[..., 1010:, 3:] = 1
    assert inpaint_flow(torch.ones(1, 2, 1024, 1024), mask).sub(1).abs().max() < 1e-5
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(inpaint_flow(*batch), together)
    joined = inpaint_flow(torch.cat([flow, flow.flip(1)], dim=1), batch[1][:2])  # two fields, one hole
    torch.testing.assert_close(joined, torch.cat([together[:2], together[:2].flip(1)], dim=1))
    assert inpaint_flow(torch.zeros(0, 2, 8, 8), torch.zeros(0, 1, 8, 8)).shape == (0, 2, 8, 8)


def test_growing_masks(reference, inputs):
    """Also by what the original release grows a video's masks: 15 dilations, then 21 closings, of which one is enough.
    """
    _, mask, _ = inputs
    expected = torch.from_numpy(reference.load("flow_inpainting")["dilated_closed"]).float()
    closed = 1 - dilate(1 - dilate(dilate(mask, 15)))
    assert torch.equal(closed, expected) and torch.equal(1 - dilate(1 - dilate(closed)), closed)
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    random = torch.rand(2, 1, 61, 80, generator=torch.Generator().manual_seed(0))
    for share, times in (0.8, 1), (0.2, 1), (0.003, 0), (0.003, 2), (0.003, 3), (0.003, 7), (0.003, 12), (0.003, 50):
        dots = (random < share).to(torch.uint8)
        for result, image in zip(dilate(dots, times), dots, strict=True):
            np.testing.assert_array_equal(result[0].numpy(), cv2.dilate(image[0].numpy(), cross, iterations=times))


# estimators -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def raft(reference, tmp_path_factory):
    """The reference's network with 4 iterations, loaded from a file with the original's names."""
    state = {"module." + key: torch.from_numpy(np.asarray(value))
             for key, value in reference.fill.state_dict("raft").items()}
    path = tmp_path_factory.mktemp("raft") / "raft-things.pth"
    torch.save(state, path)
    return RAFT(weights=str(path), iterations=4)


@pytest.fixture(scope="module")
def pair(reference):
    return [torch.from_numpy(reference.fill.image(f"raft/{name}", 1, 3, 128, 160)) for name in "ab"]


def test_raft_is_that_of_the_original(reference, raft, pair):
    assert relative(raft(*pair)[..., ::4, ::4], reference.load("raft")["flow"]) < 1e-5


def test_guidance_is_that_of_the_original(reference, raft, pair):
    expected = reference.load("raft")
    first, second = pair
    mask = torch.from_numpy(reference.fill.mask("raft/m", 1, 1, 128, 160))
    flow, error = FlowGuidance(estimator=raft, resolution=128)(first, mask, second[:, None], mask[:, None])
    assert relative(flow[:, 0, :, ::4, ::4], expected["wrapped_flow"]) < 1e-5
    assert relative(error[:, 0, :, ::4, ::4], expected["wrapped_error"]) < 2e-5


def test_raft_takes_torchvisions_names_and_every_size(raft, tmp_path):
    path = tmp_path / "raft.pth"
    torch.save(raft.network.state_dict(), path)
    again = RAFT(weights=str(path), iterations=1, sha256=file_sha256(path)[:12])
    for key, value in raft.network.state_dict().items():
        assert torch.equal(value, again.network.state_dict()[key])
    for size in (100, 133), (37, 41):
        flow = again(torch.rand(2, 3, *size), torch.rand(2, 3, *size))
        assert flow.shape == (2, 2, *size) and flow.isfinite().all()
    assert again(torch.rand(0, 3, 20, 20), torch.rand(0, 3, 20, 20)).shape == (0, 2, 20, 20)


def test_raft_stays_frozen_inside_a_module_in_training(raft):
    around = torch.nn.Sequential(raft).train()
    assert around.training and not any(module.training for module in raft.modules())
    assert not any(parameter.requires_grad for parameter in raft.parameters())


def test_errors_of_weights_files(raft, tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.pth: no such file; .*raft-things\.pth.*princeton-vl/RAFT"):
        RAFT(weights=str(tmp_path / "nowhere.pth"))
    state = raft.network.state_dict()
    path = tmp_path / "raft_large-0123abcd.pth"
    torch.save(state, path)
    with pytest.raises(InputError, match="SHA-256 is [0-9a-f]{64}, expected 0123abcd"):
        RAFT(weights=str(path))
    with pytest.raises(InputError, match="hexadecimal"):
        RAFT(weights=str(path), sha256="ff")
    renamed = dict(state)
    renamed["extra.weight"] = renamed.pop("mask_predictor.conv.bias")
    renamed["feature_encoder.conv.bias"] = torch.zeros(3)
    torch.save(renamed, tmp_path / "other.pth")
    with pytest.raises(InputError) as error:
        RAFT(weights=str(tmp_path / "other.pth"))
    for part in ("other.pth", "missing: mask_predictor.conv.bias", "unexpected: extra.weight",
                 "feature_encoder.conv.bias (3,) instead of (256,)"):
        assert part in str(error.value)
    assert "\n" not in str(error.value)
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(InputError, match="dictionary of weights"):
        RAFT(weights=str(tmp_path / "list.pth"))
    with pytest.raises(InputError, match="iterations"):
        RAFT(weights=None, iterations=0)


def test_names_of_raft_are_one_to_one(reference):
    names = [name for name in reference.fill.state_dict("raft") if "norm3" not in name]
    assert len(torchvision_names(dict.fromkeys(names))) == len(names)


@pytest.mark.parametrize("preset", ["ultrafast", "fast", "medium"])
@pytest.mark.parametrize("shift", [(5, 0), (-3, 4)])
def test_dis_recovers_a_shift(preset, shift):
    image = texture(128, 160)
    moved = np.roll(image, (shift[1], shift[0]), axis=(0, 1))  # content moves by +shift, so flow is +shift
    flow = DIS(preset=preset)(tensor(image), tensor(moved))
    inner = flow[0, :, 16:-16, 16:-16].flatten(1)
    np.testing.assert_allclose(inner.median(dim=1).values.numpy(), shift, atol=0.1 if preset == "medium" else 0.3)
    restored = warp(tensor(moved), flow)
    assert (restored - tensor(image))[..., 16:-16, 16:-16].abs().mean() < 0.02


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (10, 256), (17, 1000), (1000, 17), (31, 33)])
def test_dis_takes_every_size(size):
    flow = DIS(preset="fast")(torch.rand(2, 3, *size), torch.rand(2, 3, *size))
    assert flow.shape == (2, 2, *size) and flow.isfinite().all()


def test_estimators_check_their_input():
    for estimator in DIS(), ZeroFlow(), RAFT(weights=None):
        with pytest.raises(InputError, match=r"\(1, 3, 8, 8\) and \(1, 3, 8, 9\)"):
            estimator(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 9))
        assert estimator(torch.zeros(0, 3, 8, 9), torch.zeros(0, 3, 8, 9)).shape == (0, 2, 8, 9)
    with pytest.raises(InputError, match="medium"):
        DIS(preset="slow")


# guidance -------------------------------------------------------------------------------------------------------------


def scene(batch, frames, size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    image = torch.stack([tensor(texture(*size, seed=i))[0] for i in range(batch)])
    sources = torch.stack([torch.roll(image, 2 + t, dims=-1) for t in range(frames)], dim=1) if frames else \
        torch.zeros(batch, 0, 3, *size)
    mask = torch.zeros(batch, 1, *size)
    for i in range(batch):
        top, left = (int(torch.randint(1, side // 2, (), generator=generator)) for side in size)
        mask[i, :, top:top + size[0] // 3, left:left + size[1] // 3] = 1
    return image, mask, sources, mask[:, None].expand(-1, frames, -1, -1, -1).flip(-1)


class Counting(Estimator):
    """Wraps an estimator and remembers the shapes it was called with."""

    def __init__(self, estimator):
        super().__init__()
        self.estimator, self.shapes = estimator, []

    def forward(self, first, second):
        self.shapes.append(tuple(first.shape))
        return self.estimator(first, second)


def test_guidance_calls_the_estimator_once_for_all_keyframes():
    estimator = Counting(DIS())
    flows, errors = FlowGuidance(estimator=estimator, resolution=64)(*scene(2, 3, (71, 90)))
    assert flows.shape == (2, 3, 2, 71, 90) and errors.shape == (2, 3, 1, 71, 90)
    assert estimator.shapes == [(12, 3, 64, 64)]
    assert not flows.requires_grad and (errors >= 0).all()
    for t in range(3):  # keyframe t is shifted by 2 + t
        assert abs(flows[:, t, 0].median().item() - (2 + t)) < 0.2
        assert abs(flows[:, t, 1].median().item()) < 0.2


def test_guidance_without_keyframes_asks_nobody():
    estimator = Counting(DIS())
    flows, errors = FlowGuidance(estimator=estimator)(*scene(2, 0, (32, 40)))
    assert flows.shape == (2, 0, 2, 32, 40) and errors.shape == (2, 0, 1, 32, 40) and not estimator.shapes


@pytest.mark.parametrize("estimator", ["dis", "raft"])
def test_guidance_treats_samples_alone(estimator, raft):
    estimator = DIS() if estimator == "dis" else raft
    guidance = FlowGuidance(estimator=estimator, resolution=128)
    batch = scene(2, 2, (50, 61))
    flows, errors = guidance(*batch)
    for i in range(2):
        alone_flow, alone_error = guidance(*(part[i:i + 1] for part in batch))
        torch.testing.assert_close(alone_flow[0], flows[i], atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(alone_error[0], errors[i], atol=2e-3, rtol=1e-3)
    reversed_flows, _ = guidance(batch[0], batch[1], batch[2].flip(1), batch[3].flip(1))
    torch.testing.assert_close(reversed_flows.flip(1), flows, atol=1e-3, rtol=1e-3)


def test_guidance_options():
    image, mask, sources, source_masks = scene(1, 1, (96, 96))
    estimator = DIS()
    plain, _ = FlowGuidance(estimator=estimator, resolution=None, inpaint=False)(image, mask, sources, source_masks)
    torch.testing.assert_close(plain[:, 0], estimator(image, sources[:, 0]))
    filled, _ = FlowGuidance(estimator=estimator, resolution=None)(image, mask, sources, source_masks)
    torch.testing.assert_close(filled[:, 0], inpaint_flow(plain[:, 0], mask))

    # With masked images the holes' content must not matter; without, it does.
    changed = image * (1 - mask) + mask * 0.5, mask, sources * (1 - source_masks), source_masks
    for blind in (True, False):
        guidance = FlowGuidance(estimator=estimator, resolution=96, mask_images=blind)
        one, other = guidance(image, mask, sources, source_masks)[0], guidance(*changed)[0]
        assert torch.equal(one, other) == blind

    # Blind or not, an image's flow is its own.
    image, mask, sources, source_masks = scene(3, 2, (96, 96))
    mask[1] = 0
    for blind in (True, False):
        guidance = FlowGuidance(estimator=estimator, resolution=96, mask_images=blind)
        together, _ = guidance(image, mask, sources, source_masks)
        alone = [guidance(*(x[[i]] for x in (image, mask, sources, source_masks)))[0] for i in range(3)]
        torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=0)
    image, mask, sources, source_masks = scene(1, 1, (96, 96))

    zero, error = FlowGuidance(estimator=ZeroFlow())(image, mask, sources, source_masks)
    assert not zero.any() and not error.any()
    with pytest.raises(InputError, match="do not fit"):
        FlowGuidance(estimator=ZeroFlow())(image[..., :-1], mask, sources, source_masks)
    with pytest.raises(InputError, match="resolution"):
        FlowGuidance(estimator=ZeroFlow(), resolution=0)
