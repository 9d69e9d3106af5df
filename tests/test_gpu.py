"""On a CUDA device: training and resuming, photos, videos, and checkpoints that go from one processor to the other.

    python -m pytest -m gpu tests/test_gpu.py
    GI_GPU_TESTS=cpu python -m pytest -m gpu tests/test_gpu.py   # rehearses them where there is none; mps: Apple's
"""
import contextlib
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from gi import Inpainter
from gi.flow.estimate import DIS
from gi.flow.guidance import FlowGuidance
from gi.main import main
from gi.models.fold import prepare_for_inference
from gi.video import VideoInpainter
from gi.video.keyframes.frame_streams import FrameStreams
from gi.weights.checkpoint import load_generator
from gi.weights.export import export_generator
from gi.weights.pretrained import load_trained
from gi.weights.unpickle import read_checkpoint
from tests.families import random_inputs, tiny_generator

ROOT = Path(__file__).resolve().parents[1]
DEVICE = os.environ.get("GI_GPU_TESTS", "cuda")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(DEVICE == "cuda" and not torch.cuda.is_available(), reason="no CUDA device"),
]
PRECISIONS = "32-true", "bf16-mixed", "16-mixed"


@pytest.fixture(autouse=True)
def exact_products():
    """Without TF32, so that results can be compared with the CPU's; through the interface that sets all of torch."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    from gi.media.io import write_image

    folder = tmp_path_factory.mktemp("photographs")
    for i in range(10):
        write_image(folder / f"{i}.png", smooth(64, 72, seed=i))
    return folder


def smooth(height, width, seed=0, shift=0.0):
    """A picture of waves, uint8 (H, W, 3), seen `shift` pixels further to the right."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [(random.uniform(-0.35, 0.35, 2), random.uniform(0, 7, 3)) for _ in range(12)]
    sums = sum(np.sin(f[0] * (x + shift)[..., None] + f[1] * y[..., None] + p) for f, p in waves)
    return np.clip(127 + 15 * sums, 0, 255).astype(np.uint8)


def run(photographs, logdir, *options):
    places = ("train", "validation.small", "test.small")
    roots = [f"data.params.{place}.params.images.params.root={photographs}" for place in places]
    main([f"--base={ROOT / 'tests' / 'tiny.yaml'}", f"--logdir={logdir}", "--no-test",
          f"--accelerator={'gpu' if DEVICE == 'cuda' else DEVICE}", "--devices=1", *options, *roots])
    (folder,) = Path(logdir).iterdir()
    return folder


def weights(folder):
    return read_checkpoint(folder / "checkpoints" / "last.ckpt")["state_dict"]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_training_and_resuming(precision, photographs, tmp_path):
    """Eight steps at once, and four, then four more: as close to each other as eight steps at once are to themselves.

    A card does not add in the same order twice, and Adam's first steps make much of little: measured, not guessed.
    """
    if precision == "16-mixed" and DEVICE == "cpu":
        pytest.skip("float16 trains on cards only")
    whole = run(photographs, tmp_path / "whole", f"--precision={precision}")
    half = run(photographs, tmp_path / "half", f"--precision={precision}", "--max_steps=4",
               "model.params.decay_steps=20")
    assert read_checkpoint(half / "checkpoints" / "last.ckpt")["global_step"] == 4
    at_four = weights(half)
    main(["-r", str(half), "--no-test", "--max_steps=8"])
    assert read_checkpoint(half / "checkpoints" / "last.ckpt")["global_step"] == 8
    again = weights(run(photographs, tmp_path / "again", f"--precision={precision}"))
    once, twice = weights(whole), weights(half)
    assert once.keys() == twice.keys() and all(value.isfinite().all() for value in once.values())
    moved = distance(once, at_four)
    assert moved > 1e-4
    assert distance(once, twice) < 2 * distance(once, again) + 0.02 * moved


def distance(first, second):
    """Norm of the difference of all parameters of the generator."""
    names = [name for name in first if name.startswith("generator.") and name.endswith("weight")]
    return torch.cat([(first[name] - second[name]).flatten().cpu() for name in names]).norm().item()


def test_a_checkpoint_of_the_card_serves_the_cpu(photographs, tmp_path):
    from gi.config import load_config

    folder = run(photographs, tmp_path, "--max_steps=2", "--limit_val_batches=0")
    config, checkpoint = folder / "configs" / "config.yaml", folder / "checkpoints" / "last.ckpt"
    generator = load_generator(load_config([config]), checkpoint)
    assert {p.device.type for p in generator.parameters()} == {"cpu"}
    inputs = random_inputs(1, 2, 32, 32)
    with torch.no_grad():
        expected = generator(*inputs)
        found = generator.to(DEVICE)(*(x.to(DEVICE) for x in inputs)).cpu()
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    export_generator(config, checkpoint, tmp_path / "small.safetensors", half=False)
    exported = load_generator(load_config([config]), tmp_path / "small.safetensors")
    with torch.no_grad():
        torch.testing.assert_close(exported(*inputs), expected)


@pytest.mark.parametrize("n_keyframes", [0, 2])
def test_photos_are_those_of_the_cpu(n_keyframes):
    image = smooth(90, 131)  # does not divide by what networks reduce it to
    mask = np.zeros(image.shape[:2], bool)
    mask[30:60, 40:80] = True
    keyframes = [smooth(90, 131, shift=shift) for shift in (3.0, -5.0)][:n_keyframes]
    results = []
    for device in DEVICE, "cpu":
        small = load_trained(flow="dis")  # the small network of the repository
        inpainter = Inpainter(generator=small.generator, guidance=small.guidance, device=device)
        results.append(inpainter(image, mask, keyframes))
    found, expected = (result.astype(int) for result in results)
    np.testing.assert_array_equal(found[~mask], image[~mask])
    assert np.abs(found - expected)[mask].mean() < 0.5  # of 255; flow sees 8-bit images, whose rounding may differ


def test_videos_are_nearly_those_of_the_cpu():
    frames = [smooth(64, 112, shift=1.5 * i) for i in range(12)]
    masks = [np.zeros((64, 112), np.uint8) for _ in frames]
    for i, mask in enumerate(masks):
        mask[20:36, 60 - 2 * i : 76 - 2 * i] = 1
    results = []
    for device in DEVICE, "cpu":
        guidance = FlowGuidance(estimator=DIS(), resolution=64, mask_images=True)
        inpainter = VideoInpainter(generator=tiny_generator("ours", n_blocks=2, n_cross=1), guidance=guidance,
                                   device=device, every=5, guides=[-8, -3, 3, 8])
        results.append(np.stack(list(inpainter(iter(frames), iter(masks)))).astype(int))
    hole = np.stack(masks) > 0
    found, expected = results
    assert found.shape == (12, 64, 112, 3)
    np.testing.assert_array_equal(found[~hole], np.stack(frames)[~hole])
    assert np.abs(found - expected)[hole].mean() < 1.0  # of 255; a pixel's way may end elsewhere by rounding


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_kept_streams_are_the_generator(dtype):
    """Keyframes' streams, made once for several targets on the card, give what the whole generator gives."""
    generator = tiny_generator("ours").to(DEVICE)
    target, sources, flows, errors = (x.to(DEVICE) for x in random_inputs(1, 3, 64, 64))
    streams = FrameStreams(generator)
    guides = [(i, lambda i=i: sources[:, i]) for i in range(3)]
    autocast = contextlib.nullcontext() if dtype == torch.float32 else torch.autocast(torch.device(DEVICE).type, dtype)
    with torch.no_grad(), autocast:
        expected = generator(target, sources, flows, errors)
        found = streams.predict(target, guides, flows, errors)
    torch.testing.assert_close(found.float(), expected.float(), atol=1e-4 if dtype == torch.float32 else 3e-2, rtol=0)


def test_half_precision_predictions_are_finite_and_near():
    generator = prepare_for_inference(tiny_generator("ours"))
    inputs = random_inputs(2, 2, 96, 72)
    with torch.inference_mode():
        expected = generator(*inputs)
        generator.to(DEVICE)
        for dtype in torch.bfloat16, torch.float16:
            with torch.autocast(torch.device(DEVICE).type, dtype):
                found = generator(*(x.to(DEVICE) for x in inputs)).float().cpu()
            assert found.isfinite().all()
            assert (found - expected).abs().mean() < 0.02
