"""SVD's folders, good and bad, and the file of a trained network."""
import json
import logging
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from gi.diffusion import diffusers_folder, files, lora
from gi.diffusion.backbone import SmallDiffusion, StableVideoDiffusion
from gi.diffusion.extra import extra
from gi.diffusion.network import KeyframeDiffusion
from gi.errors import InputError, MissingFile
from gi.weights.checkpoint import load_generator_weights
from gi.weights.export import export_generator
from gi.weights.files import file_sha256
from gi.weights.pretrained import load_trained
from tests.diffusion.svd import make_unet

pytest.importorskip("diffusers")


def svd(folder, **options):
    """With all that is trained changed a little, as after a training."""
    torch.manual_seed(0)
    network = StableVideoDiffusion(backbone=str(folder), **{"rank": 4, **options}).eval()
    for parameter in network.trainable_parameters():
        nn.init.normal_(parameter, std=0.1)
    return network


@torch.no_grad()
def answer(network):
    generator = torch.Generator().manual_seed(1)
    pixels, z_sigma = (torch.rand(1, 3, channels, size, size, generator=generator) for channels, size in
                       ((3, 16), (network.codec.channels, 16 // network.codec.factor)))
    masks = torch.zeros(1, 3, 1, 16, 16)
    masks[:, 1:, :, 4:9, 5:12] = 1
    ids = torch.tensor([[6.0, 127.0, 0.0]])
    return network(z_sigma, torch.tensor([0.7]), network.conditions(pixels, masks), ids)


@pytest.mark.parametrize("condition", ["symmetric", "downsampled"])
def test_a_saved_network_answers_the_same_to_the_bit(svd_folder, tmp_path, condition):
    for make in (lambda: svd(svd_folder, condition=condition, alpha=2.0),
                 lambda: SmallDiffusion(widths=(32, 32), token_dim=8, condition=condition).eval()):
        network, path = make(), tmp_path / "network.safetensors"
        network.save_pretrained(path)
        loaded = KeyframeDiffusion.from_pretrained(path)
        assert type(loaded) is type(network) and not loaded.training
        assert torch.equal(answer(loaded), answer(network))
        with safe_open(path, "pt") as file:
            assert set(file.keys()) == set(network.trained_state())
        full = path.stat().st_size
        network.save_pretrained(path, half=True)
        assert path.stat().st_size < 0.7 * full
        halved = answer(KeyframeDiffusion.from_pretrained(path))
        assert 0 < (halved - answer(network)).abs().max() < 0.02
    with pytest.raises(InputError, match="network.bin: expected a name ending in .safetensors"):
        network.save_pretrained(tmp_path / "network.bin")


def test_a_file_for_another_network_is_refused(svd_folder, tmp_path):
    path = tmp_path / "network.safetensors"
    svd(svd_folder).save_pretrained(path)
    for options, message in (({"rank": 8}, "its rank is 4, this network's 8"),
                             ({"condition": "downsampled"}, "its condition is symmetric, this network's downsampled"),
                             ({"target_modules": ("to_v",)}, r"its target_modules is \['to_q', .*'to_v'\]")):
        with pytest.raises(InputError, match=message):
            load_generator_weights(svd(svd_folder, **options), path)
    with pytest.raises(InputError, match="holds gi.diffusion.backbone.StableVideoDiffusion, this network is"):
        load_generator_weights(SmallDiffusion(), path)
    same = svd(svd_folder)
    nn.init.zeros_(same.unet.conv_in.weight)
    load_generator_weights(same, path)
    assert torch.equal(answer(same), answer(svd(svd_folder)))

    shorter = shutil.copytree(svd_folder, tmp_path / "base")
    make_unet(num_frames=14).save_pretrained(shorter / "unet")
    with pytest.raises(InputError, match="was trained on a backbone with num_frames 25, this one has 14"):
        KeyframeDiffusion.from_pretrained(path, shorter)


def test_what_a_network_was_trained_on_is_kept(svd_folder, tmp_path):
    """Frames of a clip and longer side; another stage may have others."""
    path = tmp_path / "network.safetensors"
    svd(svd_folder, frames=14, max_side=576).save_pretrained(path)
    loaded = KeyframeDiffusion.from_pretrained(path)
    assert (loaded.frames, loaded.max_side) == (14, 576)
    following = svd(svd_folder)
    assert (following.frames, following.max_side) == (25, 1024)
    load_generator_weights(following, path)
    assert (following.frames, following.max_side) == (25, 1024)
    for options, message in ({"frames": 10**9}, "frames: expected"), ({"max_side": 0}, "max_side: expected"):
        with pytest.raises(InputError, match=message):
            svd(svd_folder, **options)


def test_another_backbone_of_the_same_form_is_a_warning(svd_folder, tmp_path, caplog):
    """As weights in 16 bits are; they lie where they lie."""
    path, moved = tmp_path / "network.safetensors", shutil.copytree(svd_folder, tmp_path / "moved")
    svd(svd_folder).save_pretrained(path)
    unet = extra("diffusers").UNetSpatioTemporalConditionModel.from_pretrained(moved / "unet")
    (moved / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    unet.half().save_pretrained(moved / "unet", variant="fp16")
    loaded = KeyframeDiffusion.from_pretrained(path, moved)
    assert "was trained on a backbone with sha256" in caplog.text
    difference = (answer(loaded) - answer(svd(svd_folder))).abs().max()
    assert 0 < difference < 0.02
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}


def test_damaged_and_foreign_files(svd_folder, tmp_path):
    path = tmp_path / "network.safetensors"
    with pytest.raises(MissingFile, match="no such file"):
        KeyframeDiffusion.from_pretrained(path)
    torch.save({"state_dict": {}}, tmp_path / "last.ckpt")
    with pytest.raises(InputError, match="last.ckpt: holds no diffusion model, expected .*network.safetensors"):
        KeyframeDiffusion.from_pretrained(tmp_path / "last.ckpt")
    path.write_bytes(b"no weights")
    with pytest.raises(InputError, match="not a .safetensors file, or damaged"):
        KeyframeDiffusion.from_pretrained(path)
    save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(InputError, match="holds no diffusion model"):
        KeyframeDiffusion.from_pretrained(path)
    for node in ({"target": "torch.nn.Linear", "params": {"in_features": 2, "out_features": 2}}, {"params": {}},
                 {"target": "os.system"}):
        files.write(path, {"weight": torch.zeros(2)}, node, {})
        with pytest.raises(InputError, match="network.safetensors, diffusion"):
            KeyframeDiffusion.from_pretrained(path)
    network = SmallDiffusion(widths=(32, 32))
    network.save_pretrained(path)
    state, node, _ = files.read(path)
    huge = {**node, "params": {**node["params"], "widths": [32 * 10**5, 32 * 10**5]}}
    files.write(path, state, huge, {})
    with pytest.raises(InputError, match="does not fit SmallDiffusion: .* misshapen: unet.conv_in.weight"):
        KeyframeDiffusion.from_pretrained(path)
    own = network.state_dict()
    torch.save({"state_dict": {f"generator.{name}": value for name, value in own.items()}}, tmp_path / "last.ckpt")
    (tmp_path / "config.yaml").write_text(json.dumps({"model": {"params": {"generator": node}}}))
    with pytest.raises(InputError, match="last.ckpt: is of a diffusion model.*network.safetensors"):
        export_generator(tmp_path / "config.yaml", tmp_path / "last.ckpt", tmp_path / "x.safetensors")
    with pytest.raises(InputError, match="last.ckpt: is of a diffusion model.*--method diffusion"):
        load_trained(tmp_path / "last.ckpt", config=tmp_path / "config.yaml", flow="zero")
    for name, value in ("layers", 100_000), ("widths", [32] * 1000), ("frames", 10**9), ("max_side", 0):
        files.write(path, state, {**node, "params": {**node["params"], name: value}}, {})
        with pytest.raises(InputError, match=f"{name}: expected a number in"):
            KeyframeDiffusion.from_pretrained(path)
    state.pop("unet.conv_in.bias")
    files.write(path, state, node, {})
    with pytest.raises(InputError, match="does not fit SmallDiffusion: 1 missing: unet.conv_in.bias$"):
        KeyframeDiffusion.from_pretrained(path)


@pytest.fixture
def copied(svd_folder, tmp_path):
    return shutil.copytree(svd_folder, tmp_path / "svd")


def change(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}), encoding="utf-8")


def test_digest_and_licence_are_told(svd_folder, caplog):
    with caplog.at_level(logging.INFO):
        network = StableVideoDiffusion(backbone=str(svd_folder), rank=4)
    weights = svd_folder / "unet" / "diffusion_pytorch_model.safetensors"
    assert f"{weights}: SHA-256 {file_sha256(weights)}" in caplog.text
    assert network.licence() == f"{svd_folder}: licence: small-test-licence"
    assert "23,456 of the UNet's 1,329,552 parameters are trained" in caplog.text


@pytest.mark.parametrize(("file", "values", "message"), [
    ("unet/config.json", {"_class_name": "UNet2DConditionModel"}, "of class 'UNet2DConditionModel', expected UNetSp"),
    ("image_encoder/config.json", {"architectures": ["CLIPModel"]}, "is of class 'CLIPModel', expected CLIPVision"),
    ("unet/config.json", {"block_out_channels": [10**9, 64]}, "block_out_channels: expected a name, or numbers from"),
    ("unet/config.json", {"layers_per_block": 10**4}, "layers_per_block: expected a name, or numbers from 0 to 64"),
    ("unet/config.json", {"down_block_types": {"a": 1}}, "down_block_types: expected a name, or numbers"),
    ("unet/config.json", {"quantization_config": "x"}, "no UNetSpatio.* can be made of this: .*quantization_config"),
    ("unet/config.json", {"down_block_types": ["os", "system"]}, "can be made of this: os does not exist"),
    ("vae/config.json", {"block_out_channels": [33, 33]}, "no AutoencoderKL.* can be made of this"),
    ("unet/config.json", {"cross_attention_dim": 64}, "does not fit UNetSpatioTemporalConditionModel: .* misshapen"),
    ("scheduler/scheduler_config.json", {"prediction_type": "epsilon"}, "prediction_type 'epsilon'"),
    ("scheduler/scheduler_config.json", {"sigma_max": "many"}, "sigma_max 'many', expected"),
])
def test_hostile_configurations(copied, file, values, message):
    change(copied / file, **values)
    with pytest.raises(InputError, match=message) as caught:
        StableVideoDiffusion(backbone=str(copied), rank=4)
    assert "\n" not in str(caught.value) and str(copied) in str(caught.value)


def test_parts_that_do_not_go_together(copied):
    unet = make_unet()
    lora.widen(unet, 12)  # saved after it was widened
    unet.save_pretrained(copied / "unet")
    with pytest.raises(InputError, match=r"are \(12, 4, 32\), expected \(8, 4, 32\)"):
        StableVideoDiffusion(backbone=str(copied), rank=4)
    (copied / "vae" / "config.json").write_text("[" * 100_000, encoding="utf-8")
    with pytest.raises(InputError, match="vae/config.json: cannot be read as JSON"):
        StableVideoDiffusion(backbone=str(copied), rank=4)


def test_what_is_missing_is_named(copied):
    weights = copied / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(MissingFile, match="model.safetensors: no such file .a pickle is there, which is not read.;"):
        StableVideoDiffusion(backbone=str(copied), rank=4)
    shutil.rmtree(copied / "image_encoder")
    weights.with_suffix(".bin").rename(weights)
    with pytest.raises(MissingFile, match="image_encoder/config.json: no such file"):
        StableVideoDiffusion(backbone=str(copied), rank=4)
    with pytest.raises(MissingFile, match="nowhere: no such folder; expected one .* svd-xt or svd-base"):
        StableVideoDiffusion(backbone="nowhere")


def test_from_the_hubs_cache_and_never_from_the_hub(svd_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(extra("huggingface_hub").constants, "HF_HUB_CACHE", str(tmp_path))
    repository = diffusers_folder.REPOSITORIES["svd-xt"]
    message = rf"svd-xt: not in the hub's cache \({tmp_path}\).*: hf download {repository} unet/config.json .* 6.1 GB"
    with pytest.raises(MissingFile, match=message):
        StableVideoDiffusion(backbone="svd-xt")
    cached = tmp_path / f"models--{repository.replace('/', '--')}"
    shutil.copytree(svd_folder, cached / "snapshots" / ("0" * 40))
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("0" * 40)
    assert torch.equal(answer(svd("svd-xt")), answer(svd(svd_folder)))
    shutil.rmtree(cached / "snapshots" / ("0" * 40) / "vae")
    with pytest.raises(MissingFile, match="vae/config.json: no such file; not in the hub's cache"):
        StableVideoDiffusion(backbone="svd-xt")


@pytest.mark.slow
def test_without_the_extra(monkeypatch):
    """Modules can be imported, without any of its packages; what needs them says what to install."""
    code = ("import sys, gi, gi.diffusion.backbone, gi.diffusion.memory, gi.diffusion.files\n"
            "print(*{'diffusers', 'transformers', 'peft', 'accelerate', 'huggingface_hub'} & set(sys.modules))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
    for name, make in (("diffusers", SmallDiffusion), ("huggingface_hub", StableVideoDiffusion)):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, name, None)
            with pytest.raises(InputError, match=rf'diffusion needs {name}: pip install "\.\[diffusion'):
                make()
