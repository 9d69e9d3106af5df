"""True flow of synthetic pairs against formulas, and the guidance that takes it instead of an estimator's."""
import cv2
import numpy as np
import pytest
import torch
from skimage.transform import AffineTransform

from gi.data import geometry as geo
from gi.data.datamodule import collate
from gi.data.exact_flow import exact_flow, upright
from gi.data.mixture import Mixture
from gi.data.pairs import GuidedPairs
from gi.data.photometric import Photometric
from gi.data.sources import FolderTree
from gi.errors import InputError
from gi.flow.estimate import DIS, ZeroFlow
from gi.flow.exact import ExactGuidance, FlowNoise
from gi.flow.guidance import FlowGuidance
from gi.flow.warp import warp
from gi.training.module import GuidedInpainting

SIZE = 64
SAME = Photometric(clahe_probability=0, brightness_probability=0, hsv_probability=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Smooth pictures of many colours, no two places of which look alike."""
    root = tmp_path_factory.mktemp("smooth")
    y, x = np.mgrid[:130, :140] / 140
    for number in range(2):
        waves = [np.sin(6 * x + 3 * y + number), np.cos(5 * y - 2 * x), np.sin(4 * (x + 1) * (y + 0.5))]
        picture = np.round(127.5 + 120 * np.stack(waves, axis=2)).astype(np.uint8)
        cv2.imwrite(str(root / f"{number}.png"), picture)
    return root


def pairs(folder, **options):
    settings = {"images": FolderTree(root=str(folder)), "size": SIZE, "margin": 50, "length": 8, "exact_flow": True}
    return GuidedPairs(**{**settings, **options})


def unchanged(folder, **options):
    return pairs(folder, view_photometric=SAME, frame_photometric=SAME, **options)


def affine_map(view, left, top, **parameters):
    affine = geo.Affine(**{"scale_x": 1.0, "scale_y": 1.0, "rotation": 0.0, "shear": 0.0, **parameters}, size=view)
    return geo.compose([affine, geo.Crop(left=left, top=top)], size=SIZE)


def affine_formula(view, left, top, *, scale_x=1.0, scale_y=1.0, rotation=0.0, shear=0.0):
    """From the view to the frame, by scikit-image."""
    centre = (view - 1) / 2
    about = AffineTransform(scale=(scale_x, scale_y), rotation=rotation, shear=shear)
    return AffineTransform(translation=(-centre, -centre)) + about + AffineTransform(
        translation=(centre - left, centre - top))


@pytest.mark.parametrize("start, end", [
    ({}, {"rotation": 0.3, "scale_x": 1.2, "scale_y": 0.9}),
    ({"rotation": -0.6, "scale_x": 0.8}, {"rotation": 0.6, "scale_y": 1.3}),
    ({"rotation": 2.9}, {"rotation": 3.3, "scale_x": 0.9}),
])
def test_affine_flow_is_the_formula(start, end):
    maps = affine_map(100, 20, 15, **start), affine_map(100, 10, 25, **end)
    flow, valid = exact_flow(*maps)
    to_view = affine_formula(100, 20, 15, **start)
    to_frame = affine_formula(100, 10, 25, **end)
    places = np.stack(np.meshgrid(np.arange(SIZE), np.arange(SIZE)), axis=2).reshape(-1, 2)
    in_view = to_view.inverse(places)
    expected = (to_frame(in_view) - places).reshape(SIZE, SIZE, 2).transpose(2, 0, 1)
    assert valid.mean() > 0.3
    assert np.abs(flow - expected)[:, valid].max() < 2e-3
    assert not flow[:, ~valid].any()
    # Everything that both frames show is found, but for a seam of two pixels where borders begin.
    inner = (in_view > 2).all(axis=1) & (in_view < 97).all(axis=1)
    there = to_frame(in_view)
    inner &= (there > 0).all(axis=1) & (there < SIZE - 1).all(axis=1)
    y, x = np.clip(np.rint(there).astype(int), 0, SIZE - 1).T[::-1]
    back = to_frame.inverse(np.stack([x, y], axis=1))
    inner &= (back > 3).all(axis=1) & (back < 96).all(axis=1)
    assert valid.ravel()[inner].all()


def test_mirrored_and_replicated_borders_are_not_valid():
    shrunk = affine_map(80, 8, 8, scale_x=0.5, scale_y=0.5)  # the view covers the middle 40 pixels of 80
    expected = np.zeros((SIZE, SIZE), bool)
    expected[13:51, 13:51] = True  # without a seam of one pixel
    assert np.array_equal(upright(shrunk), expected)
    plain = affine_map(80, 8, 8)
    assert not exact_flow(shrunk, plain)[1][~expected].any()
    corner = geo.compose([geo.Perspective(corners=np.array([[20, 20], [80, 0], [80, 80], [0, 80]]), size=80),
                          geo.Affine(scale_x=0.7, scale_y=0.7, rotation=0.0, shear=0.0, size=80),
                          geo.Crop(left=8, top=8)], size=SIZE)
    assert not upright(corner)[:, :3].any() and not upright(corner)[-3:].any() and upright(corner)[32, 32]
    assert not exact_flow(np.zeros_like(plain), plain)[1].any()
    assert not exact_flow(plain, np.zeros_like(plain))[1].any()


def test_keyframe_along_the_flow_is_the_target(folder):
    dataset = unchanged(folder)
    share = []
    for index in range(8):
        sample = dataset[index]
        for t in range(2):
            frames = [sample["image"].float(), sample["sources"][t].float()]
            for start, end, flow, valid in zip(frames, frames[::-1], sample["flows"][:, t],
                                               sample["flows_valid"][:, t, 0], strict=True):
                difference = (warp(end[None], flow[None])[0] - start).abs().amax(dim=0)
                assert difference[valid > 0].numel() == 0 or difference[valid > 0].max() < 2.5  # of 255
                share.append(float(valid.float().mean()))
    assert 0.3 < np.mean(share) < 0.95


def test_without_it_samples_are_the_same(folder):
    for index in range(3):
        plain, exact = pairs(folder, exact_flow=False)[2, index], pairs(folder)[2, index]
        assert exact.keys() - plain.keys() == {"flows", "flows_valid"}
        for key, value in plain.items():
            assert torch.equal(value, exact[key]) if isinstance(value, torch.Tensor) else value == exact[key]


def test_flows_depend_on_seed_epoch_and_index_alone(folder):
    one = pairs(folder)
    again = pairs(folder)
    again[0, 3], again[1, 1]
    for key in ("flows", "flows_valid", "seed"):
        assert torch.equal(one[1, 2][key], again[1, 2][key])
    seeds = {int(sample["seed"]) for sample in (one[1, 2], one[2, 2], one[1, 3], pairs(folder, seed=1)[1, 2])}
    assert len(seeds) == 4
    assert not torch.equal(one[1, 2]["flows"], one[2, 2]["flows"])
    none = pairs(folder, n_sources=0)[0]
    assert none["flows"].shape == (2, 0, 2, SIZE, SIZE) and none["flows_valid"].shape == (2, 0, 1, SIZE, SIZE)


def batch_of(folder, count=3, **options):
    batch = collate([unchanged(folder, **options)[index] for index in range(count)])
    images = [batch["image"].float() / 255, batch["mask"].float(), batch["sources"].float() / 255,
              batch["source_masks"].float()]
    return images, {name: batch[name] for name in ExactGuidance.exact}


def test_guidance_without_noise_is_the_exact_flow(folder):
    images, exact = batch_of(folder)
    guidance = ExactGuidance(estimator=ZeroFlow(), inpaint=False)
    flows, errors = guidance(*images, **exact)
    known = exact["flows_valid"][:, 0] > 0
    assert torch.equal((flows * known), exact["flows"][:, 0])
    both = known & (warp(exact["flows_valid"][:, 1].flatten(0, 1).float(), flows.flatten(0, 1)) > 0.999).view_as(known)
    assert errors[both].mean() < 0.02 and both.float().mean() > 0.2
    filled, _ = ExactGuidance(estimator=ZeroFlow(), mask_images=True)(*images, **exact)
    hole = images[1][:, None].expand_as(known) > 0
    assert not torch.equal(filled * hole, flows * hole)


def test_noise_is_what_was_asked_for(folder):
    images, exact = batch_of(folder)
    clean, _ = ExactGuidance(estimator=ZeroFlow(), inpaint=False)(*images, **exact)

    def off(**noise):
        none = dict.fromkeys(["drift", "blobs", "failures"], 0.0)
        guidance = ExactGuidance(estimator=ZeroFlow(), inpaint=False, noise=FlowNoise(**{**none, **noise}))
        flows, errors = guidance(*images, **exact)
        return (flows - clean).norm(dim=2), errors

    assert off()[0].abs().max() == 0
    failed, errors = off(failures=1.0)
    assert failed.mean() > 3 and errors.median() > 2  # both directions fail on their own: the error tells
    blobs, _ = off(blobs=1.0)
    assert 0 < (blobs > 0.5).float().mean() < 0.5
    drift, plain = (off(drift=1.0, near_holes=much)[0] for much in (8.0, 0.0))
    unsure = torch.maximum(images[1][:, None].expand(-1, 2, -1, -1, -1), 1.0 - exact["flows_valid"][:, 0])[:, :, 0] > 0
    assert (drift[unsure] / plain[unsure]).mean() > 3 and (drift / plain).min() > 0.99
    one, _ = ExactGuidance(estimator=ZeroFlow(), noise=FlowNoise())(*images, **exact)
    last = [image[2:] for image in images], {name: value[2:] for name, value in exact.items()}
    alone, _ = ExactGuidance(estimator=ZeroFlow(), noise=FlowNoise())(*last[0], **last[1])
    assert torch.equal(one[2:], alone)  # no sample depends on its neighbours


def test_estimated_flow_where_there_is_no_exact_one(folder):
    images, exact = batch_of(folder)
    settings = {"estimator": DIS(), "mask_images": True, "resolution": None}
    wanted = FlowGuidance(**settings)(*images)
    for guidance, given in ((ExactGuidance(**settings), {}), (ExactGuidance(**settings, share=0.0), exact)):
        assert all(torch.equal(a, b) for a, b in zip(guidance(*images, **given), wanted, strict=True))
    half, _ = ExactGuidance(**settings, share=0.5)(*images, **exact)
    true, _ = ExactGuidance(**settings)(*images, **exact)
    estimated = [torch.equal(flow, other) for flow, other in zip(half, wanted[0], strict=True)]
    taken = [torch.equal(flow, other) for flow, other in zip(half, true, strict=True)]
    assert all(a != b for a, b in zip(estimated, taken, strict=True))


def test_module_hands_exact_flow_to_guidance_that_takes_it(folder):
    batch = collate([unchanged(folder)[index] for index in range(2)])
    model = GuidedInpainting(generator=torch.nn.Identity(), guidance=ExactGuidance(estimator=ZeroFlow(), inpaint=False))
    _, _, flows, errors = model.prepare(batch)["inputs"]
    known = batch["flows_valid"][:, 0] > 0
    assert torch.equal(flows * known, batch["flows"][:, 0]) and errors.shape == (2, 2, 1, SIZE, SIZE)
    assert model.prepare(batch, with_sources=False)["inputs"][2].shape == (2, 0, 2, SIZE, SIZE)
    del batch["flows"]
    assert not model.prepare(batch)["inputs"][2].any()
    blind = GuidedInpainting(generator=torch.nn.Identity(), guidance=FlowGuidance(estimator=ZeroFlow()))
    assert not blind.prepare(batch)["inputs"][2].any()


def test_impossible_settings(folder):
    with pytest.raises(InputError, match="share"):
        ExactGuidance(estimator=ZeroFlow(), share=1.5)
    with pytest.raises(InputError, match="failures"):
        FlowNoise(failures=2.0)
    with pytest.raises(InputError, match="blob_size"):
        FlowNoise(blob_size=-1.0)
    images, exact = batch_of(folder)
    with pytest.raises(InputError, match="do not fit"):
        ExactGuidance(estimator=ZeroFlow())(*images, **{**exact, "flows": exact["flows"][:, :, :1]})
    with pytest.raises(InputError, match="parts"):
        Mixture(parts={})


def test_mixture_takes_turns(folder):
    large, small = pairs(folder, exact_flow=False), pairs(folder, exact_flow=False, seed=5, length=4)
    mixture = Mixture(parts={"large": large, "small": small})
    assert len(mixture) == 8
    assert [mixture[0, i]["name"].split("/")[0] for i in range(8)] == ["large", "small"] * 4
    assert torch.equal(mixture[3, 5]["image"], small[3, 2]["image"])
    assert torch.equal(mixture[4]["image"], large[2]["image"])
    with pytest.raises(IndexError):
        mixture[8]
