"""The settings of the paper's models, as the original release's configurations and the supplement have them."""
import inspect

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from gi.config import instantiate, load_config
from gi.flow.estimate import RAFT
from gi.flow.guidance import FlowGuidance
from gi.training.module import GuidedInpainting
from tests.families import CONFIGS

BLOCKS = {"ours": (4, 2), "ours_big": (12, 2), "ours_no_ffc": (6, 2), "transformer": (6, 2),
          "lama_spectralfuse": (6, 2)}


def generator_of(name):
    return load_config([CONFIGS / f"{name}.yaml"]).model.params.generator


@pytest.mark.parametrize("name", [*BLOCKS, "lama", "ours_unguided"])
def test_training(name):
    config = load_config([CONFIGS / f"{name}.yaml"])
    model, data = config.model.params, config.data.params
    objective = model.objective.params
    assert {term: value.params.weight for term, value in objective.terms.items()} == {
        "l1": 10, "adversarial": 10, "feature_matching": 100, "perceptual": 30}
    assert objective.discriminator.params.r1 == 0.001
    assert (model.base_lr, model.warmup_steps, model.decay_steps) == (1e-5, 1000, 1_000_000)
    assert data.batch_size * config.lightning.trainer.accumulate_grad_batches * 2 == 32  # on the paper's two GPUs
    pairs = data.train.params
    assert (pairs.size, pairs.margin) == (256, 200)
    assert pairs.n_sources == (2 if name in BLOCKS else 0)
    if name in BLOCKS:
        generator = model.generator.params
        assert (generator.n_blocks, generator.n_cross) == BLOCKS[name]
        assert {test: value.params.n_sources for test, value in data.test.items()} == {"two": 2, "four": 4}
        assert config.lightning.callbacks.best.params.monitor == "val/two/fid"


@pytest.mark.parametrize("function, expected", [
    (GuidedInpainting, {"discriminator_lr_factor": 0.1, "betas": None, "average_every": 10, "average_start": 30_000}),
    (RAFT, {"iterations": 20}),
    (FlowGuidance, {"resolution": 256, "mask_images": False, "inpaint": True}),
])
def test_defaults(function, expected):
    parameters = inspect.signature(function).parameters
    assert {name: parameters[name].default for name in expected} == expected


@pytest.mark.parametrize("name, millions, gflop", [("ours", 47.6, 164), ("ours_big", 132.3, 283),
                                                   ("ours_no_ffc", 43.9, 115)])
def test_size_and_work(name, millions, gflop):
    """Parameters, and operations of a prediction at 256x256 with two keyframes, without Fourier transforms and what
    goes by element. The original does a little more besides: the deformable write's query on the target, which cancels.
    """
    with FakeTensorMode():  # shapes without numbers
        generator = instantiate(generator_of(name)).eval().requires_grad_(False)
        inputs = torch.rand(1, 4, 256, 256), torch.rand(1, 2, 4, 256, 256), torch.rand(1, 2, 2, 256, 256), torch.rand(
            1, 2, 1, 256, 256)
        with FlopCounterMode(display=False) as counter:
            generator(*inputs)
    assert sum(p.numel() for p in generator.parameters()) / 1e6 == pytest.approx(millions, abs=0.05)
    assert 0.9 < counter.get_total_flops() / 1e9 / gflop < 1


def test_initial_weights():
    """N(0, 0.02) with bias 0 for convolutions, linear layers and latents; the rest as torch draws it."""
    generator = instantiate(generator_of("ours_no_ffc")).requires_grad_(False)
    assert generator.latents.std() == pytest.approx(0.02, rel=0.05)
    drawn = transposed = 0
    for layer in generator.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            assert abs(layer.weight.mean()) < 0.1 * 0.02 and layer.weight.std() == pytest.approx(0.02, rel=0.05)
            assert layer.bias is None or not layer.bias.any()
            drawn += 1
        elif isinstance(layer, nn.ConvTranspose2d):  # uniform, its bound 1 / sqrt of the kernel's inputs
            assert layer.weight.abs().max() == pytest.approx((layer.out_channels * 9) ** -0.5, rel=0.01)
            transposed += 1
    assert drawn > 50 and transposed == 3
