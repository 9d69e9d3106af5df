import io as bytes_io
import json
import os
import struct
import subprocess
import sys
import zlib
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from gi import Inpainter
from gi.commands import inpaint
from gi.config import instantiate
from gi.config.device import find_device
from gi.errors import InputError
from gi.flow.aligned import Aligned
from gi.flow.estimate import DIS, ZeroFlow
from gi.flow.guidance import FlowGuidance
from gi.flow.keypoints import Detector
from gi.flow.unseen import grow_hole, smooth_fill
from gi.media import io
from gi.media.crop import Box, context_box, fit_known, resize_known
from gi.media.photos import mask_of, pixels_of, read_photo, write_photo
from gi.media.samples import find_samples
from gi.models.guided_copy import GuidedCopy
from tests.families import tiny_generator, tiny_node
from tests.test_io import bomb

NODE = {"n_blocks": 1, "n_cross": 1}


def picture(height, width, seed=0, channels=(3,), dtype=np.uint8):
    top = np.iinfo(dtype).max + 1
    return np.random.default_rng(seed).integers(0, top, (height, width, *channels)).astype(dtype)


def view(height, width, shift=0):
    """A part of a photograph, as a camera sees it that has moved by so many pixels."""
    return data.astronaut()[50 + shift : 50 + shift + height, 150 + shift : 150 + shift + width]


def hole(height, width):
    mask = np.zeros((height, width), bool)
    mask[height // 4 : height // 2 + 1, width // 3 : width // 2 + 1] = True
    return mask


@pytest.fixture(scope="module")
def inpainter():
    return make("ours")


def make(name, max_side=64, estimator=None, **params):
    guidance = FlowGuidance(estimator=estimator or DIS(), mask_images=True)
    return Inpainter(generator=tiny_generator(name, **params), guidance=guidance, device="cpu", max_side=max_side)


# Arrays ---------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("height", "width"), [(1, 4), (5, 9), (33, 47), (64, 64), (101, 160), (300, 10)])
@pytest.mark.parametrize("n_keyframes", [0, 2])
def test_any_size_keeps_known_pixels(inpainter, height, width, n_keyframes):
    image, mask = picture(height, width), hole(height, width)
    result = inpainter(image, mask, [picture(height, width, seed) for seed in range(1, 1 + n_keyframes)])
    assert result.dtype == np.uint8 and result.shape == image.shape
    np.testing.assert_array_equal(result[~mask], image[~mask])
    assert (result[mask] != image[mask]).any()


@pytest.mark.parametrize("name", ["transformer", "lama", "lama_spectralfuse"])
def test_small_pictures_suit_every_family(name):
    image, mask = picture(7, 20), hole(7, 20)
    result = make(name, estimator=ZeroFlow())(image, mask, [image])
    np.testing.assert_array_equal(result[~mask], image[~mask])


@pytest.mark.parametrize("size", [(48, 56), (150, 170)])  # as it is; cut out, coarse flow, reduced
def test_what_is_in_the_holes_does_not_matter(inpainter, size):
    mask, source_mask = hole(*size), np.roll(hole(*size), 9, axis=1)
    images, keyframes = (np.stack([picture(*size, seed), picture(*size, seed + 1)]) for seed in (0, 5))
    images[:, ~mask], keyframes[:, ~source_mask] = view(*size)[~mask], view(*size, shift=2)[~source_mask]
    results = [inpainter(image, mask, [keyframe], [source_mask]) for image, keyframe in
               zip(images, keyframes, strict=True)]
    np.testing.assert_array_equal(results[0], results[1])
    changed = inpainter(images[0], mask, [view(*size, shift=3)], [source_mask])
    assert (changed != results[0]).any()  # while the known part of a keyframe does


def test_details_agree_with_the_generator_itself():
    """In a picture that needs no resizing, the hole is the generator's prediction, rounded."""
    inpainter = make("ours_unguided", estimator=ZeroFlow())
    image, mask = picture(40, 64), hole(40, 64)
    result, details = inpainter(image, mask, return_details=True)
    target = torch.from_numpy(np.dstack([image / 255 * ~mask[..., None], mask]).astype(np.float32)).permute(2, 0, 1)
    empty = (torch.zeros(1, 0, channels, 40, 64) for channels in (4, 2, 1))
    with torch.no_grad():
        expected = inpainter.generator(target[None], *empty)[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(details["prediction"], expected, atol=1e-5)
    np.testing.assert_allclose(result[mask], 255 * expected[mask], atol=0.501)
    assert details["box"] == (0, 0, 40, 64) and details["flows"].shape == (0, 2, 40, 64)


def test_depth_and_channels_stay(inpainter):
    mask = hole(20, 30)
    for channels, dtype in [((), np.uint8), ((1,), np.uint8), ((4,), np.uint8), ((), np.uint16), ((3,), np.uint16)]:
        image = picture(20, 30, channels=channels, dtype=dtype)
        result = inpainter(image, mask, [picture(20, 30)])
        assert result.dtype == dtype and result.shape == image.shape
        np.testing.assert_array_equal(result[~mask], image[~mask])
        assert result[mask].astype(int).std() > 0 or channels == (1,)
        if channels == (4,):
            assert (result[mask][:, 3] == 255).all()
    # 16 bits are the same picture as 8 bits, only finer
    image = picture(20, 30)
    fine, coarse = inpainter(image.astype(np.uint16) * 257, mask), inpainter(image, mask)
    np.testing.assert_allclose(fine[mask] / 257, coarse[mask], atol=0.51)


def test_pil_images_and_kinds_of_masks(inpainter):
    image, mask = picture(20, 30), hole(20, 30)
    expected = inpainter(image, mask)
    grey = mask.astype(np.uint8) * 255
    palette = Image.fromarray(mask.astype(np.uint8), "P")
    palette.putpalette([0, 0, 0, 255, 255, 255])
    for other in (mask.astype(np.uint8), mask.astype(np.float32), grey, np.dstack([grey] * 3), grey.astype(np.int64),
                  grey.astype(np.uint16) * 257, Image.fromarray(grey), Image.fromarray(mask), palette,
                  Image.fromarray(np.dstack([grey] * 3 + [np.full_like(grey, 255)])),
                  Image.fromarray(grey.astype(np.uint16) * 257)):
        np.testing.assert_array_equal(inpainter(Image.fromarray(image), other), expected)
    for other in (torch.from_numpy(mask), torch.from_numpy(mask)[None].float(), mask[..., None], mask[None],
                  mask * np.uint8(3), mask * np.uint16(255), mask * np.uint16(1000),
                  np.dstack([np.full_like(grey, 255)] * 3 + [grey]), grey[..., None] * np.array([0, 90, 0], np.uint8)):
        np.testing.assert_array_equal(inpainter(image, other, None), expected)
    untouched = inpainter(image, np.zeros_like(mask))
    np.testing.assert_array_equal(untouched, image)
    assert untouched is not image
    turned = Image.Exif()
    turned[0x0112] = 6
    buffer = bytes_io.BytesIO()
    Image.fromarray(np.rot90(image)).save(buffer, "PNG", exif=turned)
    np.testing.assert_array_equal(inpainter(Image.open(buffer), mask), expected)


def test_keyframes_of_other_sizes_are_resized_but_not_stretched(inpainter):
    image, mask = view(80, 120), hole(80, 120)
    keyframe = view(80, 120, shift=2)
    larger = keyframe.repeat(2, 0).repeat(2, 1)
    result = inpainter(image, mask, [keyframe])
    np.testing.assert_array_equal(inpainter(image, mask, [larger]), result)
    assert (result != inpainter(image, mask)).any() and str(inpainter.report) == "[]"
    # The left part of a keyframe, twice as large: it comes out as the whole keyframe without its right part.
    beside = np.zeros((80, 120), bool)
    beside[:, 80:] = True
    expected = inpainter(image, mask, [keyframe], [beside])
    np.testing.assert_array_equal(inpainter(image, mask, [larger[:, :160]]), expected)


def test_keyframes_of_other_proportions_are_not_stretched(inpainter):
    """Against Pillow's reduction: the whole keyframe in the middle, the rest missing."""
    image, mask, tall = picture(40, 60), hole(40, 60), np.asarray(Image.fromarray(picture(20, 15)).resize((60, 80)))
    inner = np.asarray(Image.fromarray(tall).resize((30, 40), Image.Resampling.BOX))
    fitted, missing = fit_known(tall, np.zeros((80, 60), bool), (40, 60))
    np.testing.assert_allclose(fitted[:, 15:45].astype(int), inner, atol=1)
    assert not missing[:, 15:45].any() and missing[:, :15].all() and missing[:, 45:].all()
    wide, missing = fit_known(picture(31, 120), np.eye(31, 120) > 0, (40, 60))
    assert missing[:12].all() and missing[28:].all() and not missing[12:28].all() and wide.shape == (40, 60, 3)
    for size in ((80, 120), (13, 20), (20, 30)):  # the same proportions, rounded
        assert not fit_known(picture(*size), np.zeros(size, bool), (40, 60))[1].any()
    padded = np.zeros_like(image)
    padded[:, 15:45] = fitted[:, 15:45]
    sides = np.ones((40, 60), bool)
    sides[:, 15:45] = False
    np.testing.assert_array_equal(inpainter(image, mask, [tall]), inpainter(image, mask, [padded], [sides]))


def test_results_that_are_not_numbers_are_refused():
    broken = make("ours", estimator=ZeroFlow())
    for parameter in broken.generator.parameters():
        parameter.data.fill_(float("nan"))
    with pytest.raises(InputError, match="not finite"):
        broken(picture(20, 30), hole(20, 30))


def test_large_pictures_are_filled_at_full_resolution_around_small_holes(inpainter):
    image, mask = picture(300, 400), np.zeros((300, 400), bool)
    mask[100:130, 350:380] = True
    result, details = inpainter(image, mask, return_details=True)
    box = details["box"]
    assert box.size == details["prediction"].shape[:2] == (64, 64)
    np.testing.assert_allclose(result[mask], 255 * details["prediction"][box.of(mask)], atol=0.501)
    far = image.copy()
    far[200:] = 0  # not in the network's view
    np.testing.assert_array_equal(inpainter(far, mask)[mask], result[mask])


def test_box_around_a_mask():
    mask = np.zeros((30, 40), np.uint8)
    assert Box.around(mask) is None
    mask[3, 7] = mask[12, 5] = 1
    assert Box.around(mask) == (3, 5, 13, 8) and Box.around(mask > 0) == (3, 5, 13, 8)
    assert Box.around(np.ones((1, 4), bool)) == (0, 0, 1, 4)


def test_context_box():
    mask = np.zeros((300, 400), bool)
    mask[10:20, 390:400] = True
    assert context_box(mask, 64) == (0, 336, 64, 400)
    mask[10:90, 390:400] = True
    assert context_box(mask, 64) == (0, 240, 160, 400)  # 160 = 2 x 80, moved inside the picture
    assert context_box(mask, 400) == (0, 0, 300, 400)
    assert context_box(~np.zeros_like(mask), 64) == (0, 0, 300, 400)


def test_keyframes_are_cut_out_where_they_show_the_same():
    """A camera that moved by 60 pixels: the view of the keyframe moves along, and shows the very same pixels."""
    photograph, seen = data.astronaut(), []
    image, keyframe = photograph[:, 60:], photograph[:, :-60]
    mask = np.zeros(image.shape[:2], bool)
    mask[150:200, 200:240] = True
    inpainter = make("ours", max_side=128)
    hook = inpainter.generator.register_forward_pre_hook(lambda module, inputs: seen.append(inputs))
    inpainter(np.where(mask[..., None], 0, image), mask, [keyframe])
    hook.remove()
    target, sources, flows, _ = seen[0]
    known = target[0, 3] == 0
    assert flows[0, 0].abs().median() < 3  # of 60
    error = (target[0, :3] - sources[0, 0, :3])[:, known].abs().mean()
    apart = (target[0, :3] - torch.from_numpy(context_of(keyframe, mask, 128)))[:, known].abs().mean()
    assert error < 0.5 * apart


def test_another_hole_costs_no_other_keypoints_of_keyframes(monkeypatch):
    photograph, looked, detect, generator = data.astronaut(), [], Detector._detect, GuidedCopy()
    monkeypatch.setattr(Detector, "_detect", lambda self, grey, scale: [detect(self, grey, scale), looked.append(1)][0])
    image, keyframes = photograph[:, 60:], [photograph[:, :-60], photograph[40:, 30:-30]]
    masks = np.zeros((2, *image.shape[:2]), bool)
    masks[0, 150:200, 200:240] = masks[1, 300:340, 100:160] = True

    def inpainter():
        guidance = FlowGuidance(estimator=Aligned(estimator=DIS()), resolution=None, mask_images=True, planar=True)
        return Inpainter(generator=generator, guidance=guidance, device="cpu", max_side=128)

    same, counts = inpainter(), []
    for mask in masks:
        filled = same(image, mask, keyframes)
        assert np.abs(filled[mask].astype(int) - image[mask]).mean() < 6
        counts.append(len(looked))
    assert counts == [3, 4]
    assert np.array_equal(filled, inpainter()(image, masks[1], keyframes))
    looked.clear()
    same(image, masks[1], [keyframes[0] // 2, keyframes[1]])
    assert len(looked) == 1


def context_of(image, mask, side):
    return context_box(mask, side).of(image).transpose(2, 0, 1).astype(np.float32) / 255


def test_flow_does_not_follow_holes():
    """Both pictures have their hole at the same place, as behind a watermark; the scene moves by (6, -8)."""
    photograph = data.coffee()
    image, keyframe = photograph[60:316, 100:356], photograph[68:324, 94:350]
    mask = np.zeros((256, 256), bool)
    mask[90:160, 80:180] = True
    _, details = make("ours", max_side=256)(image, mask, [keyframe], [mask], return_details=True)
    error = np.abs(details["flows"][0] - np.array([6, -8])[:, None, None]).mean(axis=0)[mask].mean()
    missing = torch.from_numpy(mask.astype(np.float32))[None, None]
    frames = [torch.from_numpy(x.transpose(2, 0, 1)[None].astype(np.float32) / 255) for x in (image, keyframe)]
    frames = [frame * (1 - missing) for frame in frames]
    black, _ = FlowGuidance(estimator=DIS())(frames[0], missing, frames[1][None], missing[None])
    error_of_black = (black[0, 0].numpy() - np.array([6, -8])[:, None, None])[:, mask]
    assert error < 1 < 3 < np.abs(error_of_black).mean()


def test_smooth_fill():
    ramp = torch.linspace(0, 1, 64).expand(1, 3, 50, 64)
    mask = torch.zeros(1, 1, 50, 64)
    mask[..., 10:30, 20:40] = 1
    filled = smooth_fill(torch.where(mask > 0, 77.0, ramp), mask)
    assert torch.equal(filled[mask.expand_as(filled) == 0], ramp[mask.expand_as(ramp) == 0])
    assert (filled - ramp).abs().max() < 0.2
    assert torch.isfinite(smooth_fill(ramp, torch.ones_like(mask))).all()
    assert grow_hole(mask, 5).sum() > mask.sum() and torch.equal(grow_hole(torch.ones_like(mask), 5), mask * 0 + 1)
    assert grow_hole(mask, 500).mean() <= (1 + mask.mean()) / 2


def test_resized_pixels_next_to_a_hole_do_not_darken():
    image, mask = np.full((90, 70, 3), 200, np.uint8), hole(90, 70)
    for size in [(31, 47), (123, 99), (50, 90)]:
        pixels, missing = resize_known(image, mask, size)
        assert missing.any() and (pixels[~missing] == 200).all()


def test_wrong_arguments_are_named(inpainter):
    image, mask = picture(20, 30), hole(20, 30)
    for match, arguments in {
        "mask: is 20x30, expected 30x20": (image, mask.T),
        "mask of keyframe 2: is 30x20, expected 12x10": (image, mask, [image, picture(10, 12)], [mask, mask]),
        "keyframe_masks: 1 for 2": (image, mask, [image, image], [mask]),
        r"image: is float64 .* \(255 \* x\)": (image / 255, mask),
        r"image: is the name of a file": ("photo.jpg", mask),
        r"image: is uint8 \(3, 20, 30\)": (image.transpose(2, 0, 1), mask),
        "image: has no pixels": (image[:0], mask),
        r"mask: is .* \(5, 20, 30\)": (image, np.stack([mask] * 5)),
        "mask: has values below 0": (image, mask - 1.0),
        "keyframe 1: is": (image, mask, [image.astype(np.int32)]),
        r"keyframes: is one array \(20, 30, 3\), expected a list": (image, mask, image),
        "keyframes: is a Image, expected a list": (image, mask, Image.fromarray(image)),
        r"keyframe_masks: is one array \(20, 30\), expected a list": (image, mask, [image], mask),
        "mask: everything is missing, and no keyframe": (image, np.ones_like(mask)),
        "mask: everything is missing, and no": (image, np.ones_like(mask), [image], [np.ones_like(mask)]),
        "mask: everything is missing, so": (image, np.ones_like(mask), [image]),
    }.items():
        with pytest.raises(InputError, match=match):
            inpainter(*arguments)
    with pytest.raises(InputError, match="max_side"):
        make("ours", max_side=3)
    for device in ("toaster", "cuda:99"):
        with pytest.raises(InputError, match=device):
            find_device(device)


@pytest.mark.parametrize(("error", "expected", "message"), [
    (RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"), InputError, "not enough memory on cpu: lower"),
    (RuntimeError("DefaultCPUAllocator: not enough memory: you tried"), InputError, "not enough memory on cpu: lower"),
    (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), InputError, "lower max_side, which is 64"),
    (torch.OutOfMemoryError("CUDA out of memory."), InputError, "not enough memory on cpu: lower"),
    (MemoryError(), InputError, "not enough memory on cpu: lower"),
    (NotImplementedError("no such operator on this device"), NotImplementedError, "no such operator"),
    (RuntimeError("CUDA error: an illegal memory access"), RuntimeError, "illegal memory access"),
    (RuntimeError("sizes do not match"), RuntimeError, "sizes do not match"),
])
def test_too_little_memory_is_told_from_other_errors(monkeypatch, error, expected, message):
    inpainter = make("ours_unguided", estimator=ZeroFlow())

    def fail(*inputs):
        raise error

    monkeypatch.setattr(inpainter.generator, "forward", fail)
    with pytest.raises(expected, match=message):
        inpainter(picture(20, 30), hole(20, 30))


# Files ----------------------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """The folder of a run: a checkpoint and its configuration; the estimator of `raft.yaml` has no weights here."""
    root = tmp_path_factory.mktemp("run")
    node = tiny_node("ours", **NODE)
    node["params"] = json.loads(json.dumps(node["params"], default=list))
    torch.manual_seed(0)
    state = {f"generator.{name}": value for name, value in instantiate(node).state_dict().items()}
    for name, estimator in {"config": "DIS", "raft": "RAFT"}.items():
        guidance = {"target": "gi.flow.guidance.FlowGuidance",
                    "params": {"estimator": {"target": f"gi.flow.estimate.{estimator}"}}}
        config = {"model": {"target": "gi.training.module.GuidedInpainting",
                            "params": {"generator": node, "guidance": guidance}}}
        (root / "configs").mkdir(exist_ok=True)
        (root / "configs" / f"{name}.yaml").write_text(json.dumps(config))
    (root / "checkpoints").mkdir()
    torch.save({"state_dict": state}, root / "checkpoints" / "last.ckpt")
    return SimpleNamespace(checkpoint=root / "checkpoints" / "last.ckpt", configs=root / "configs")


@pytest.fixture
def program():
    return lambda *words: inpaint.main([str(word) for word in words])


def test_from_checkpoint(run_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # no weights of RAFT here
    checkpoint = run_folder.checkpoint
    inpainter = Inpainter.from_checkpoint(checkpoint, device="cpu")
    assert type(inpainter.guidance.estimator).__name__ == "DIS"
    image, mask = picture(20, 30), hole(20, 30)
    expected = inpainter(image, mask, [image])
    elsewhere = tmp_path / "moved.ckpt"
    elsewhere.write_bytes(checkpoint.read_bytes())
    raft = run_folder.configs / "raft.yaml"
    other = Inpainter.from_checkpoint(elsewhere, config=raft, flow="dis", device="cpu")
    np.testing.assert_array_equal(other(image, mask, [image]), expected)
    lone = Inpainter.from_checkpoint(checkpoint, flow="zero", overrides=["model.params.guidance.params.inpaint=false"])
    assert isinstance(lone.guidance.estimator, ZeroFlow) and not lone.guidance.inpaint
    for match, arguments in {
        "moved.ckpt: does not lie in the folder of a run": {"checkpoint": elsewhere},
        "none.ckpt: no such checkpoint": {"checkpoint": tmp_path / "none.ckpt"},
        "raft-things.pth.*flow 'dis'": {"checkpoint": checkpoint, "config": raft},
        "flow: expected one of config, raft": {"checkpoint": checkpoint, "flow": "pwc"},
        "none.yaml: no such configuration": {"checkpoint": checkpoint, "config": tmp_path / "none.yaml"},
    }.items():
        with pytest.raises(InputError, match=match) as caught:
            Inpainter.from_checkpoint(**arguments)
        assert "\n" not in str(caught.value)


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def save_deep(path, pixels):
    order = {2: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[pixels.ndim if pixels.ndim == 2 else pixels.shape[2]]
    path.write_bytes(cv2.imencode(path.suffix, pixels if pixels.ndim == 2 else pixels[..., order])[1].tobytes())
    return path


def test_photographs_keep_depth_channels_and_profile(tmp_path):
    for name, pixels in {
        "grey.png": picture(8, 9, channels=()),
        "grey.tif": picture(8, 9, channels=()),
        "rgba.png": picture(8, 9, channels=(4,)),
        "rgb.bmp": picture(8, 9),
    }.items():
        np.testing.assert_array_equal(read_photo(save(tmp_path / name, pixels)).pixels, pixels)
    for channels in ((), (3,), (4,)):
        pixels = picture(8, 9, channels=channels, dtype=np.uint16)
        for suffix in (".png", ".tif"):
            read = read_photo(save_deep(tmp_path / f"deep{suffix}", pixels)).pixels
            if (channels, suffix) == ((4,), ".tif") and read.dtype == np.uint8:
                continue  # kinds of alpha that Pillow and OpenCV take differently are left to Pillow
            np.testing.assert_array_equal(read, pixels)
        write_photo(tmp_path / "again.png", pixels)
        np.testing.assert_array_equal(read_photo(tmp_path / "again.png").pixels, pixels)
    image = Image.fromarray(picture(8, 9, channels=(2,)), "LA")
    image.save(tmp_path / "la.png")
    np.testing.assert_array_equal(read_photo(tmp_path / "la.png").pixels, np.asarray(image.convert("RGBA")))
    profile = b"colours as I mean them"
    photo = read_photo(save(tmp_path / "profile.png", picture(8, 9), icc_profile=profile))
    write_photo(tmp_path / "copy.png", photo.pixels, photo.profile)
    assert photo.profile == read_photo(tmp_path / "copy.png").profile == profile


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_the_same_for_all_readers(tmp_path, orientation):
    pixels = picture(8, 9, dtype=np.uint16)
    path = save_deep(tmp_path / "a.png", pixels)
    content, exif = path.read_bytes(), Image.Exif()
    exif[0x0112] = orientation
    chunk = b"eXIf" + exif.tobytes().removeprefix(b"Exif\0\0")
    path.write_bytes(content[:33] + struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
                     + content[33:])
    deep, rgb = read_photo(path).pixels, io.read_image(path)
    assert deep.dtype == np.uint16 and np.abs((deep >> 8).astype(int) - rgb).max() <= 1


def test_one_picture(run_folder, program, tmp_path):
    scene, mask = data.camera()[60:124, 200:280], hole(64, 80)
    image = 257 * scene.astype(np.uint16)
    save_deep(tmp_path / "i.png", image)
    save(tmp_path / "m.png", mask.astype(np.uint8) * 255)
    save(tmp_path / "k.jpg", np.repeat(scene[:, :64, None], 3, axis=2))
    save(tmp_path / "km.png", hole(64, 64))
    common = ["--checkpoint", run_folder.checkpoint, "--device", "cpu", "--image", tmp_path / "i.png"]
    with_mask = [*common, "--mask", tmp_path / "m.png"]
    out = tmp_path / "new" / "o.png"
    keyframe = ["--keyframe", tmp_path / "k.jpg"]
    assert program(*with_mask, "--out", out) == 0
    alone = read_photo(out).pixels
    np.testing.assert_array_equal(alone[~mask], image[~mask])
    assert program(*with_mask, *keyframe, "--keyframe-mask", tmp_path / "km.png", *keyframe, "--out", out) == 0
    inpainter = Inpainter.from_checkpoint(run_folder.checkpoint, device="cpu")
    second = np.asarray(Image.open(tmp_path / "k.jpg"))
    expected = inpainter(image, mask, [second, second], [hole(64, 64), None])
    np.testing.assert_array_equal(read_photo(out).pixels, expected)
    assert (expected != alone).any()
    assert [path.name for path in out.parent.iterdir()] == ["o.png"]

    whole = save(tmp_path / "whole.png", picture(20, 30))
    (tmp_path / "cut.png").write_bytes(whole.read_bytes()[:500])
    (tmp_path / "bomb.png").write_bytes(bomb(60000, 60000, depth=16))
    save(tmp_path / "wide.png", np.zeros((80, 64), np.uint8))
    for match, words in {
        r"km.png: is 64x64, expected 80x64 as its image .*i\.png": [*common, "--mask", tmp_path / "km.png"],
        r"m.png: is 80x64, expected 64x64 as its image .*k\.jpg":
            [*with_mask, *keyframe, "--keyframe-mask", tmp_path / "m.png"],
        "wide.png: is 64x80, expected 80x64 .* when that is turned as its EXIF":
            [*common, "--mask", tmp_path / "wide.png"],
        "k2.jpg: unexpected, each picture has an option": [*with_mask, *keyframe, "k2.jpg"],
        "cut.png: cannot read": [*with_mask, "--keyframe", tmp_path / "cut.png"],
        "bomb.png.*pixels": [*with_mask, "--image", tmp_path / "bomb.png"],
        "none.png: cannot read": [*with_mask, "--image", tmp_path / "none.png"],
        "--keyframe-mask .*expected after": [*with_mask, "--keyframe-mask", tmp_path / "m.png"],
        "cannot be combined": [*with_mask, "--folder", tmp_path],
        "give --image and --mask": common,
        "unrecognized|--kyframe": [*with_mask, "--kyframe", tmp_path / "k.jpg"],
        "one of the inputs": [*with_mask, "--out", tmp_path / "i.png"],
        r"o\.jpg: expected a name ending with .png": [*with_mask, "--out", tmp_path / "o.jpg"],
    }.items():
        with pytest.raises(InputError, match=match) as caught:
            program("--out", tmp_path / "bad.png", *words)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "bad.png").exists()


def write_samples(folder, count):
    for n in range(count):
        save(folder / f"{n}.jpg", picture(20, 30, n))
        save(folder / f"{n}_mask.png", hole(20, 30).astype(np.uint8) * 255)
        save(folder / f"{n}_src_000000.png", picture(20, 30, n + 50))
        save(folder / f"{n}_src_000000_m.png", hole(20, 30).astype(np.uint8) * 255)


def test_folder_with_three_bad_pictures(run_folder, program, tmp_path, capsys):
    folder, out = tmp_path / "in", tmp_path / "in" / "out"
    write_samples(folder, 10)
    (folder / "2.jpg").write_bytes((folder / "2.jpg").read_bytes()[:300])
    (folder / "5_src_000000.png").unlink()
    (folder / "4_src_000000_m.png").unlink()  # all of it is known
    (folder / "9_mask.png").rename(folder / "9_mask001.png")  # as LaMa has them
    save(folder / "7_mask.png", hole(30, 20))
    words = ["--checkpoint", run_folder.checkpoint, "--folder", folder, "--out", out, "--device", "cpu"]
    assert program(*words) == 1
    good = [f"{n}.png" for n in (0, 1, 3, 4, 6, 8, 9)]
    assert sorted(path.name for path in out.iterdir()) == good
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 3
    for line, match in zip(sorted(errors), ["2.jpg: cannot read", "5_src_000000.png: no such file",
                                            "7_mask.png: is 20x30, expected 30x20"], strict=True):
        assert match in line
    np.testing.assert_array_equal(io.read_image(out / "0.png")[~hole(20, 30)],
                                  io.read_image(folder / "0.jpg")[~hole(20, 30)])

    times = {name: (out / name).stat().st_mtime_ns for name in good}
    (out / "4.png").unlink()  # as if interrupted before it
    save(folder / "7_mask.png", hole(20, 30))
    assert program(*words) == 1
    assert {name: (out / name).stat().st_mtime_ns for name in good if name != "4.png"}.items() <= times.items()
    assert (out / "4.png").exists() and (out / "7.png").exists()
    save(folder / "2.jpg", picture(20, 30))
    save(folder / "5_src_000000.png", picture(20, 30))
    assert program(*words, "--overwrite") == 0
    assert (out / "0.png").stat().st_mtime_ns > times["0.png"] and len(list(out.iterdir())) == 10


def test_what_does_not_fit_in_a_folder(program, run_folder, tmp_path):
    pixels = picture(4, 4)
    for name in ("a.png", "a.jpg", "a_mask.png", "b.png", "c_mask.png", "d.png", "d_mask.png", "d_src_000001.png",
                 "d_src_000001_m.png", "e.png", "e_mask.tif", "e_src_0_m.png", "sub/f.png", "sub/f_mask.png"):
        save(tmp_path / "in" / name, pixels)
    problems = {sample.name: sample.problem for sample in find_samples(tmp_path / "in")}
    expected = {"a": "is there twice", "b": "b_mask.png: no such file", "c": "c.png: no such file",
                "d": "d_src_000000.png: no such file", "e": "e_src_000000.png: no such file"}
    assert problems.pop("sub/f") is None
    for name, match in expected.items():
        assert match in problems.pop(name)
    assert not problems
    (tmp_path / "empty").mkdir()
    words = ["--checkpoint", run_folder.checkpoint, "--out", tmp_path / "out"]
    for folder, match in {"empty": "no image", "none": "no such folder"}.items():
        with pytest.raises(InputError, match=match):
            program(*words, "--folder", tmp_path / folder)
    with pytest.raises(InputError, match="would be lost"):
        program(*words, "--folder", tmp_path / "in", "--out", tmp_path / "in")


def test_arrays_are_not_taken_for_what_they_are_not():
    assert pixels_of(Image.new("1", (3, 2)), "a").shape == (2, 3)
    for image in (Image.new("F", (3, 2)), Image.fromarray(np.full((2, 3), 70000, np.int32))):
        with pytest.raises(InputError, match="^a: .*8 or 16 bits"):
            pixels_of(image, "a")
    np.testing.assert_array_equal(mask_of(np.array([[0, 127, 128, 255]]), "m"), [[False, False, True, True]])
    np.testing.assert_array_equal(mask_of(np.array([[0.4, 0.5, 1]]), "m"), [[False, True, True]])


@pytest.mark.slow
def test_the_program_itself(root, run_folder, tmp_path):
    """From another folder, uninstalled; an error is one line and status 2; `import gi` alone stays quick."""
    save(tmp_path / "i.png", picture(20, 30))
    save(tmp_path / "m.png", np.zeros((20, 30), np.uint8))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, root / "scripts" / "inpaint.py", "--checkpoint", run_folder.checkpoint,
               "--image", "i.png", "--mask", "m.png", "--out", "o.png"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "nothing is missing" in done.stdout
    np.testing.assert_array_equal(io.read_image(tmp_path / "o.png"), io.read_image(tmp_path / "i.png"))
    done = subprocess.run([*command, "--flow", "pwc"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("error: argument --flow") and done.stderr.count("\n") == 1
    code = "import gi, sys; assert not {'gi.photo', 'torchvision', 'pytorch_lightning'} & sys.modules.keys()"
    done = subprocess.run([sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("guidance, message", [
    ("x", "model.params.guidance: found 'x'"), ("{params: {resolution: '${none.x}'}}", "resolution: Interpolation key"),
])
def test_damaged_configurations_are_named(tmp_path, guidance, message):
    network = "{target: gi.models.lama.LaMaGenerator, params: {ngf: 8}}"
    (tmp_path / "c.yaml").write_text(f"model: {{params: {{generator: {network}, guidance: {guidance}}}}}\n")
    with pytest.raises(InputError, match=message):
        Inpainter.from_checkpoint(config=tmp_path / "c.yaml", flow="dis")
