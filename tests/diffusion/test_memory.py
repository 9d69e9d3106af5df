"""The real sizes, on the meta device: parameters, what is trained, and what a step keeps in memory."""
import pytest
import torch
from omegaconf import OmegaConf

from gi.commands import train
from gi.config import instantiate
from gi.diffusion import memory
from gi.errors import InputError

pytest.importorskip("diffusers")
SVD = {"target": "gi.diffusion.backbone.StableVideoDiffusion"}


@pytest.fixture(scope="module")
def svd():
    return memory.on_meta({**SVD, "params": {"dtype": "bfloat16"}})  # as svd_xt_stage1.yaml has it


def count(parameters):
    return sum(parameter.numel() for parameter in parameters)


@pytest.mark.slow
def test_parameters_of_svd(svd):
    """The numbers of SVD's paper and of its files, and of LoRA of rank 32 on the layers that the paper names."""
    trained = svd.trained_state()
    adapters = {name: value.numel() for name, value in trained.items() if "lora" in name}
    assert len(adapters) == 2 * 256
    assert sum(adapters.values()) == 13_279_232 and count(trained.values()) == 13_314_112
    assert set(trained) - set(adapters) == {"unet.conv_in.weight", "unet.conv_in.bias"}
    assert count(svd.unet.parameters()) - sum(adapters.values()) - 4 * 9 * 320 == 1_524_623_082
    attentions = {name.rsplit(".lora_", 1)[0] for name in adapters}
    for kind in "transformer_blocks", "temporal_transformer_blocks":
        for attention in "attn1", "attn2":
            names = {name for name in attentions if f".{kind}.0.{attention}." in name}
            assert len(names) == 64 and {name.split(f"{attention}.")[1] for name in names} == {
                "to_q", "to_k", "to_v", "to_out.0"}
    idle = sum(size for name, size in adapters.items() if "attn2.to_q" in name or "attn2.to_k" in name)
    assert idle == 3_444_736
    assert round(count(svd.codec.parameters()) / 1e6, 1) == 97.7
    assert round(count(svd.token.parameters()) / 1e6, 1) == 632.1
    assert svd.frames == 25 and {p.device.type for p in svd.parameters()} == {"meta"}


@pytest.mark.slow
@pytest.mark.parametrize(("frames", "height", "width", "plain", "diffusers", "all_blocks"), [
    (14, 320, 576, 30.4, 9.7, 1.2), (25, 320, 576, 54.4, 17.5, 2.2), (25, 576, 1024, 329, 55.9, 6.9)])
def test_memory_of_all_sizes(svd, frames, height, width, plain, diffusers, all_blocks):
    """GiB without checkpointing, with diffusers' own, which leaves the temporal blocks out, and with ours."""
    svd.checkpointing(False)
    kept = [memory.step(svd, 1, frames, height, width).kept]
    svd.unet.enable_gradient_checkpointing()
    kept.append(memory.step(svd, 1, frames, height, width).kept)
    svd.checkpointing()
    step = memory.step(svd, 1, frames, height, width)
    kept.append(step.kept)
    assert step.optimiser == 3 * 4 * 13_314_112 and step.weights == sum(p.nbytes for p in svd.parameters())
    assert [size / memory.GIB for size in kept] == pytest.approx([plain, diffusers, all_blocks], rel=0.01, abs=0.05)


def test_counted_as_it_is(svd_folder):
    """What is counted on the meta device is what a step on the CPU keeps, checkpointed: attention then differs not."""
    node = {**SVD, "params": {"backbone": str(svd_folder), "rank": 4}}
    blank, half = memory.on_meta(node), memory.on_meta({**SVD, "params": {**node["params"], "dtype": "bfloat16"}})
    assert {p.element_size() for p in half.unet.parameters() if not p.requires_grad} == {2}
    blank.checkpointing()
    real = instantiate(node).train()
    real.checkpointing()
    inputs = torch.randn(2, 5, 12, 16, 24), torch.ones(2), torch.randn(2, 1, 32), torch.ones(2, 3)
    kept = memory.kept_bytes(real.unet, lambda: real.unet(*inputs, return_dict=False))
    assert memory.step(blank, 2, 5, 32, 48, dtype=torch.float32).kept == pytest.approx(kept, rel=0.02)


def test_copies_in_16_bits_count(svd_folder):
    """Those that autocast makes of weights in 32 bits, for a clip so small that they are most of what is kept."""
    node = {**SVD, "params": {"backbone": str(svd_folder), "rank": 4}}
    blank, real = memory.on_meta(node), instantiate(node).train()
    inputs = torch.randn(1, 2, 12, 2, 2), torch.ones(1), torch.randn(1, 1, 32), torch.ones(1, 3)
    with torch.autocast("cpu", torch.bfloat16):
        kept = memory.kept_bytes(real.unet, lambda: real.unet(*inputs, return_dict=False))
    assert memory.step(blank, 1, 2, 4, 4).kept == pytest.approx(kept, rel=0.01)


def small_config(**changes):
    train = {"target": "torch.nn.Identity", "params": {"source": {"target": "gi.diffusion.backbone.SmallDiffusion",
                                                                  "params": {"frames": 4, "height": 32, "width": 64}}}}
    return OmegaConf.create({
        "model": {"params": {"generator": {"target": "gi.diffusion.backbone.SmallDiffusion"}, "checkpointing": True}},
        "data": {"params": {"batch_size": 2, "train": train}}, "lightning": {"trainer": {"precision": "bf16-mixed"}},
    } | changes)


def test_a_line_for_a_configuration(svd_folder):
    line = memory.of_config(small_config())
    assert line.startswith("2 clips of 4x32x64, 16 bits, checkpointing on: weights 0.01 GiB, kept for the backward ")
    half = {"params": {"generator": {**SVD, "params": {"backbone": str(svd_folder), "rank": 2, "dtype": "bfloat16"}}}}
    line = memory.of_config(small_config(model=half, lightning={"trainer": {"precision": "32-true"}}))
    assert ", 16 bits, checkpointing off" in line  # as it is computed, where frozen weights are
    with pytest.raises(InputError, match="TwoStreamGenerator: its memory cannot be told beforehand"):
        train.main(["--base", "configs/ours.yaml", "--print-memory"])
    with pytest.raises(InputError, match="data.params.train: says no frames, height and width"):
        memory.of_config(small_config(data={"params": {"batch_size": 2, "train": None}}))
