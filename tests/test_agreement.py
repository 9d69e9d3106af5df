"""Keyframes of another exposure, and keyframes that show something else."""
import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data
from skimage.metrics import peak_signal_noise_ratio
from torch import Tensor

from gi import Inpainter
from gi.commands import inpaint
from gi.flow.agreement import judge
from gi.flow.exposure import match_exposure

SIZE = 160, 224
SHIFT = 12
HOLE = slice(50, 110), slice(80, 150)


def views(photograph=None, shift=SHIFT):
    """A target, its mask and a keyframe whose camera moved, uint8."""
    photograph = data.chelsea() if photograph is None else photograph
    height, width = SIZE
    mask = np.zeros(SIZE, bool)
    mask[HOLE] = True
    return (photograph[60:60 + height, 60:60 + width], mask,
            photograph[60:60 + height, 60 - shift:60 - shift + width])


def tensors(*arrays):
    """(1, C, H, W) each, in [0, 1]."""
    return [torch.from_numpy(np.atleast_3d(x).transpose(2, 0, 1)[None].astype(np.float32) / (255 if x.max() > 1 else 1))
            for x in arrays]


def exact_flow() -> Tensor:
    return torch.tensor([SHIFT, 0.0]).view(1, 2, 1, 1).expand(1, 2, *SIZE)


def exposed(image, how):
    """uint8 -> uint8, as another exposure would have it."""
    values = image / 255
    across = np.linspace(-1, 1, image.shape[1])[None, :, None]
    values = {"darker": 0.6 * values, "brighter": 1.2 * values, "warmer": values * [1.1, 0.95, 0.75],
              "contrast": values**1.4, "uneven": values * (0.85 + 0.15 * across)}[how]
    return (255 * values.clip(0, 1)).round().astype(np.uint8)


@pytest.fixture(scope="module")
def inpainter():
    return Inpainter.from_checkpoint(device="cpu")


def hole_psnr(result):
    target, mask, _ = views()
    return peak_signal_noise_ratio(target[mask], result[mask])


@pytest.mark.parametrize("how", ["darker", "brighter", "warmer", "contrast", "uneven"])
def test_exposure_is_matched(how):
    target, mask, keyframe = views()
    image, hole, source, wanted = tensors(target, mask, exposed(keyframe, how), keyframe)
    known = torch.zeros_like(hole)
    matched = match_exposure(image, hole, source, known, exact_flow())
    # Where the keyframe shows the hole: what is there in the target is not known.
    region = ..., HOLE[0], slice(HOLE[1].start + SHIFT, HOLE[1].stop + SHIFT)
    before, after = ((x[region] - wanted[region]).abs().mean().item() for x in (source, matched))
    assert before > 0.03 and after < before / 4
    # What holes show has no influence.
    other = torch.where(hole > 0, 1 - image, image)
    torch.testing.assert_close(match_exposure(other, hole, source, known, exact_flow()), matched, rtol=0, atol=0)


def test_one_exposure_is_left_alone():
    target, mask, keyframe = views()
    image, hole, source = tensors(target, mask, keyframe)
    noisy = (source + 0.01 * torch.randn(source.shape, generator=torch.manual_seed(0))).clamp(0, 1)
    for keyframe in (source, noisy):
        assert torch.equal(match_exposure(image, hole, keyframe, torch.zeros_like(hole), exact_flow()), keyframe)


def test_no_box_in_a_clear_sky(inpainter):
    """A sky that darkens towards one side, above a photograph that is there to be aligned."""
    photograph = data.chelsea().copy()
    photograph[:190] = np.linspace(170, 230, photograph.shape[1])[None, :, None] * [0.7, 0.85, 1]
    target, mask, keyframe = views(photograph)
    result = inpainter(target, mask, [exposed(keyframe, "darker")])
    assert str(inpainter.report[0]) == "used"
    assert np.abs(result[mask].astype(int) - target[mask]).max() <= 4


def test_photographs_of_another_exposure_help_as_much(inpainter):
    target, mask, keyframe = views()
    alone = hole_psnr(inpainter(target, mask))
    same = hole_psnr(inpainter(target, mask, [keyframe]))
    for how in ("darker", "warmer"):
        assert hole_psnr(inpainter(target, mask, [exposed(keyframe, how)])) > min(same, 40) - 2 > alone + 6


def test_what_shows_something_else_is_ignored(inpainter):
    target, mask, keyframe = views()
    other = data.astronaut()[:300, :420]
    alone, same = inpainter(target, mask), inpainter(target, mask, [keyframe])
    assert inpainter.report[0].aligned and str(inpainter.report[0]) == "used"
    np.testing.assert_array_equal(inpainter(target, mask, [other]), alone)
    assert [str(verdict) for verdict in inpainter.report] == ["could not be aligned, ignored"]
    np.testing.assert_array_equal(inpainter(target, mask, [other, keyframe]), same)
    assert [verdict.aligned for verdict in inpainter.report] == [False, True]
    # A picture that shows the same, but not what is missing.
    assert inpainter(target, mask, [keyframe], [np.roll(mask, SHIFT, axis=1)]) is not None
    assert str(inpainter.report[0]) == "aligned, but shows nothing of the hole that can be used"


def test_what_disagrees_in_part_is_used_in_part():
    target, mask, keyframe = views()
    half = keyframe.copy()
    half[80:] = data.astronaut()[:80, 100:100 + SIZE[1]]
    image, hole, source = tensors(target, mask, half)
    usable, verdict = judge(image, hole, source, torch.zeros_like(hole), exact_flow(), torch.zeros_like(hole))
    assert verdict.aligned and 0.3 < verdict.share < 0.7 and "in part" in str(verdict)
    assert usable[..., :60, :].max() == 0 and usable[..., 100:, SHIFT:].min() == 1
    # Flow that leads there and not back is a guess, whatever it shows.
    assert not judge(image, hole, source, torch.zeros_like(hole), exact_flow(), hole * 0 + 9)[1].aligned


def test_the_command_says_a_line_for_each_keyframe(tmp_path, capsys):
    target, mask, keyframe = views()
    names = dict(i=target, m=255 * mask.astype(np.uint8), k=keyframe, o=data.astronaut()[:300, :420])
    for name, pixels in names.items():
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    files = {name: str(tmp_path / f"{name}.png") for name in (*names, "out")}
    words = ["--image", files["i"], "--mask", files["m"], "--keyframe", files["k"], "--keyframe", files["o"]]
    assert inpaint.main([*words, "--out", files["out"], "--device", "cpu"]) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    assert lines == [f"{files['k']}: used", f"{files['o']}: could not be aligned, ignored"]
