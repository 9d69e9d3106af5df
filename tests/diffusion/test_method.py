"""The method `diffusion`: whole videos with a tiny network of random weights."""
import importlib
import inspect
import itertools
import logging
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from gi.diffusion import method as module
from gi.diffusion.backbone import SmallDiffusion, StableVideoDiffusion
from gi.diffusion.codec import PixelShuffle
from gi.diffusion.filler import fade_seam, frame_noise
from gi.diffusion.method import Diffusion
from gi.diffusion.plan import coarse_to_fine
from gi.errors import InputError
from gi.media import io
from gi.video.method import build_method, describe_options
from tests.video_helpers import pictures, video_job, write_folders

pytest.importorskip("diffusers")
HEIGHT, WIDTH, FRAMES = 18, 26, 8  # of which the network takes 20x28


def scene(count, seed=0):
    """frames and masks: noise, and a hole that moves; nothing is missing in the first frame and every ninth."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        if number and number % 9 != 4:
            mask[5:12, number % 15:number % 15 + 8] = 1
        yield rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8), mask


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("network") / "tiny.safetensors"
    SmallDiffusion(widths=(32, 32), token_dim=8, codec=PixelShuffle(factor=2), frames=FRAMES).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def build(checkpoint):
    standard = {"checkpoint": checkpoint, "steps": 2, "guidance": 1, "device": "cpu"}
    return lambda **options: Diffusion(**standard | options)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_folders(tmp_path_factory.mktemp("video"), scene(60))


def calls_of(method):
    """A list that grows by the number of frames at each call of the network."""
    calls = []
    method.filler.network.register_forward_pre_hook(lambda network, inputs: calls.append(inputs[0].shape[1]))
    return calls


def run(method, count=FRAMES, **options):
    frames, masks = zip(*scene(count), strict=True)
    return np.stack(list(method(list(frames), list(masks), **options))), np.stack(frames), np.stack(masks)


@pytest.mark.parametrize("plan", ["coarse_to_fine", pytest.param("multidiffusion", marks=pytest.mark.slow)])
def test_interrupted_video_goes_on(build, video, tmp_path, plan):
    """60 frames, one of them edited by hand: stopped among the anchors, in a window, and killed between."""
    edited = {17: np.full((HEIGHT, WIDTH, 3), 200, np.uint8)}
    method = build(plan=plan)
    calls = calls_of(method)
    list(video_job(method, video, tmp_path / "whole", edited=edited).run())
    made = coarse_to_fine(60, FRAMES, edited)
    clips = len(made.coarse) + len(made.windows) if plan == "coarse_to_fine" else 14
    assert len(calls) == 2 * clips and max(calls) <= FRAMES
    whole, frames, masks = (pictures(folder, reader) for folder, reader in (
        (tmp_path / "whole", io.read_image), (video / "frames", io.read_image), (video / "masks", io.read_mask)))
    assert np.array_equal(whole[17], edited[17])
    masks[17] = 0
    masks = masks[..., None].repeat(3, axis=3)
    known = np.arange(60) != 17
    assert np.array_equal(whole[known][masks[known] == 0], frames[known][masks[known] == 0])
    assert (whole[masks > 0] != frames[masks > 0]).mean() > 0.95
    total = 0
    for taken in (3, 30, None):
        other = build(plan=plan)
        calls = calls_of(other)
        steps = video_job(other, video, tmp_path / "parts", edited=edited).run()
        list(itertools.islice(steps, taken))
        steps.close()
        total += len(calls)
    assert total <= 2 * clips + 2 + 2  # a clip that was interrupted begins again, in each of two interruptions
    assert np.array_equal(pictures(tmp_path / "parts"), whole)
    assert not list(tmp_path.glob(".gi-*"))


def test_windows_are_their_own(build, tmp_path):
    """Each window's fill is the same whichever others are made, and on whichever machine."""
    video = write_folders(tmp_path / "video", scene(22))
    method, other = build(steps=1), build(steps=1)
    list(video_job(method, video, tmp_path / "whole").run())
    for number in (1, 3, 2):
        apart = video_job(other, video, tmp_path / "parts")
        list(apart.run(apart.share(number, 3)))
    list(video_job(other, video, tmp_path / "parts").run())
    assert np.array_equal(pictures(tmp_path / "parts"), pictures(tmp_path / "whole"))


def test_anchors_are_handed_over_as_they_are(build, tmp_path):
    """Windows get the pixels of the result, known ones included, and give them back."""
    seen, method = {}, build()
    fill = method.filler.view

    def look(frames, holes, start=0):
        seen.setdefault(len(seen), (frames.copy(), holes.copy()))
        return fill(frames, holes, start)

    method.filler.view = look
    result, frames, masks = run(method, 15)
    plan = coarse_to_fine(15, FRAMES)
    for which, window in enumerate(plan.windows, len(plan.coarse)):
        pictures, holes = seen[which]
        for place, number in enumerate(range(window.start, window.end)):
            assert holes[place].any() == (number not in plan.anchors and masks[number].any())
            if number in plan.anchors:
                assert np.array_equal(pictures[place], result[number])


def test_short_videos_and_sizes(build):
    """A single frame, fewer than a window; sizes that are no multiple; a working size of one's own."""
    method = build()
    calls = calls_of(method)
    for count in (1, 2, 5):
        result, frames, masks = run(method, count)
        assert result.shape == frames.shape and np.array_equal(result[masks == 0], frames[masks == 0])
    assert calls == [2, 2, 5, 5]  # nothing is missing in frame 0
    larger, frames, masks = run(build(resize=[40, 24]))
    assert np.array_equal(larger[masks == 0], frames[masks == 0]) and not np.array_equal(larger, run(build())[0])


def test_stable_video_diffusion(svd_folder, tmp_path, capsys, caplog):
    """The real classes, small: LoRA's file, and the backbone's folder, which is not where the file says any more."""
    network = StableVideoDiffusion(backbone=str(shutil.copytree(svd_folder, tmp_path / "svd")), rank=2, frames=4,
                                   max_side=64, dtype="bfloat16")
    for parameter in network.trainable_parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    network.save_pretrained(tmp_path / "lora.safetensors")
    (tmp_path / "svd").rename(tmp_path / "elsewhere")
    logger = logging.getLogger("diffusers")
    logger.addHandler(caplog.handler)
    for precision, dtype in ("bf16", torch.bfloat16), ("32", torch.float32), ("auto", torch.float32):
        method = Diffusion(checkpoint=tmp_path / "lora.safetensors", backbone=tmp_path / "elsewhere", steps=1,
                           device="cpu", precision=precision, codec_chunk=2)
        assert {parameter.dtype for parameter in method.filler.network.unet.parameters()} == {dtype}
        assert capsys.readouterr().err == f"{tmp_path / 'elsewhere'}: licence: small-test-licence\n"
    logger.removeHandler(caplog.handler)
    assert not caplog.text  # diffusers' own `to` warns of layers that are not there
    assert method.filler.multiple == 4 and method.filler.levels[0] == 700 and method.max_side == 64
    codec = method.filler.network.codec
    assert (codec.chunk, codec.overlap) == (2, 1)  # of which a file has 8 and 3
    calls = calls_of(method)
    result, frames, masks = run(method)
    assert np.array_equal(result[masks == 0], frames[masks == 0]) and calls == [4] * 4


def test_nothing_missing(build, tmp_path):
    frames, _ = zip(*scene(20), strict=True)
    write_folders(tmp_path, ((frame, np.zeros((HEIGHT, WIDTH), np.uint8)) for frame in frames))
    for plan in ("coarse_to_fine", "multidiffusion"):
        method = build(plan=plan)
        calls = calls_of(method)
        list(video_job(method, tmp_path, tmp_path / plan).run())
        assert np.array_equal(pictures(tmp_path / plan), np.stack(frames)) and not calls


def test_options_change_the_result(build):
    """And the seed; what is in holes does not."""
    plain, frames, masks = run(build())
    for options in {"seed": 1}, {"guidance": [1, 3]}, {"steps": 3}, {"soften": 3}:
        assert not np.array_equal(run(build(**options))[0], plain), options
    emptied = [frame * (mask == 0)[..., None] for frame, mask in zip(frames, masks, strict=True)]
    assert np.array_equal(np.stack(list(build()(emptied, list(masks)))), plain)
    edited = run(build(), edited={3: frames[3]})[0]
    assert not np.array_equal(edited[2], plain[2])


def test_guidance_takes_both_branches_at_once(build):
    """And the network is told what the options say."""
    method, seen = build(guidance=[1, 3], fps=24, motion_bucket=20, augmentation=0.5), []
    method.filler.network.register_forward_pre_hook(lambda network, inputs: seen.append(inputs))
    run(method)
    assert [len(inputs[0]) for inputs in seen] == [2, 2] and seen[0][3].tolist() == [[23, 20, 0.5]] * 2


def test_noise_belongs_to_its_frame():
    assert torch.equal(frame_noise(0, 7, (3, 4, 4)), frame_noise(0, 7, (3, 4, 4)))
    many = torch.stack([frame_noise(seed, number, (64,)) for seed in (0, 1) for number in range(20)])
    assert (torch.corrcoef(many) - torch.eye(40)).abs().max() < 0.6 and abs(many.std() - 1) < 0.05


def test_soft_edge():
    """A fill that is 20 too bright: 20 · (1 − 1/3) are taken away at the border, nothing from the third pixel on."""
    hole = np.zeros((20, 20), bool)
    hole[5:15, 5:15] = True
    frame, content = np.full((20, 20, 3), 100, np.uint8), np.full((20, 20, 3), 120, np.float32)
    row = fade_seam(content, frame, hole, 2)[10, 5:10, 0]
    np.testing.assert_allclose(row, [120 - 20 * 2 / 3, 120 - 20 / 3, 120, 120, 120], atol=0.01)
    assert fade_seam(content, frame, hole, 0) is content and fade_seam(content, frame, np.ones_like(hole), 2) is content


@pytest.mark.parametrize("options, message", [
    ({"steps": 0}, "steps: expected at least 1"),
    ({"guidance": [1, 2, 3]}, "guidance: expected one number or two"),
    ({"frames": 2}, "frames: expected at least 3"),
    ({"seed": -1}, "seed: expected at least 0"),
    ({"codec_chunk": 0}, "codec_chunk: expected at least 1"),
    ({"checkpoint": "nowhere.safetensors"}, "nowhere.safetensors: no such file"),
    ({"plan": "fine_to_coarse"}, "expected one of coarse_to_fine, multidiffusion"),
    ({"resize": [4, 4]}, "resize: expected width and height of 8"),
])
def test_options(checkpoint, options, message):
    with pytest.raises(InputError, match=message):
        method = build_method("diffusion", {"checkpoint": str(checkpoint), "device": "cpu"} | options)
        run(method)


def test_what_is_missing(checkpoint, monkeypatch, tmp_path):
    monkeypatch.setattr(module, "SMALL", tmp_path / "small.safetensors")
    with pytest.raises(InputError, match="small.safetensors is not there; expected checkpoint=FILE.safetensors"):
        build_method("diffusion")
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(InputError, match=r'diffusion needs diffusers: pip install "\.\[diffusion\]"'):
        build_method("diffusion", {"checkpoint": str(checkpoint)})


def test_failures_in_one_line(build, monkeypatch):
    with pytest.raises(InputError, match="edited frame 9: the video has frames 0 to 7"):
        run(build(), edited={9: np.zeros((HEIGHT, WIDTH, 3), np.uint8)})
    with pytest.raises(InputError, match="edited frame 2: 8x8, but the video is 26x18"):
        run(build(), edited={2: np.zeros((8, 8, 3), np.uint8)})
    frames, masks = zip(*scene(3), strict=True)
    with pytest.raises(InputError, match="expected a call of fit before"):
        list(build().fill(frames, masks, edited={}, part=module.Part(0, 3, 0, 3, 3)))
    method = build()
    next(method.filler.network.unet.parameters()).data.fill_(torch.nan)
    with pytest.raises(InputError, match="not finite"):
        run(method)

    def fail(*_):
        raise RuntimeError("CUDA out of memory. Tried to allocate 3.00 GiB")

    method = build()
    monkeypatch.setattr(method.filler.network, "forward", fail)
    with pytest.raises(InputError, match="8 frames of 26x18 at once; a smaller max_side=N or frames=N helps"):
        run(method)


def test_options_are_described():
    told = describe_options(["--method", "diffusion", "--help"])
    for name in set(inspect.signature(Diffusion).parameters) - {"device"}:
        assert re.search(rf"^    (\w+, )*{name}(, \w+)*: ", told, re.MULTILINE), name
    assert describe_options(["--method=flow", "--help"]).count("Args:") == 1  # those of the class it makes
    assert not describe_options(["--method", "diffusion"]) and not describe_options(["--help"])


def test_command_line(checkpoint, video, tmp_path):
    main = importlib.import_module("gi.commands.inpaint_video").main
    io.write_image(tmp_path / "edited.png", np.full((HEIGHT, WIDTH, 3), 90, np.uint8))
    assert main([str(video / "frames"), str(video / "masks"), str(tmp_path / "out"), "--method", "diffusion",
                 "--checkpoint", str(checkpoint), "--keyframe", f"30={tmp_path / 'edited.png'}", "--steps", "1",
                 "--dilate", "0", "--device", "cpu", "guidance=1", "frames=25"]) == 0
    assert (pictures(tmp_path / "out")[30] == 90).all()


@pytest.mark.slow
def test_memory_does_not_grow_with_the_length(checkpoint, tmp_path):
    """Of a process that fills 1,000 frames, compared with one that fills 64."""
    peaks = []
    for count in (64, 1000):
        write_folders(tmp_path / str(count), scene(count))
        code = f"""
import resource
from gi.commands.inpaint_video import main
main(["{tmp_path / str(count)}/frames", "{tmp_path / str(count)}/masks", "{tmp_path}/out{count}", "--method",
      "diffusion", "--checkpoint", "{checkpoint}", "--steps", "1", "--dilate", "0", "--device", "cpu", "guidance=1"])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"""
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        peaks.append(int(result.stdout.split()[-1]) / 1024)
    print(f"peak of {peaks[0]:.0f} MB for 64 frames, {peaks[1]:.0f} MB for 1,000")
    assert peaks[1] - peaks[0] < 20
