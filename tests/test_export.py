"""Weights handed on without their training: the same network comes back from the file."""
import json
import shutil
import stat

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from safetensors import safe_open
from safetensors.torch import save_file

from gi.config import instantiate, load_config
from gi.errors import InputError
from gi.photo import Inpainter
from gi.video import VideoInpainter
from gi.weights.checkpoint import load_generator
from gi.weights.export import export_generator
from gi.weights.pretrained import SMALL, load_trained
from tests.families import CONFIGS, random_inputs

CONFIG = """
model:
  params:
    generator:
      target: gi.models.guided_copy.GuidedCopy
      params:
        pixel_width: 8
        network:
          target: gi.models.two_stream.TwoStreamGenerator
          params: {ngf: 8, n_blocks: 1, n_cross: 1, n_latents: 16, latent_width: 32, heads: 4}
"""


@pytest.fixture
def run(tmp_path):
    """Configuration and a checkpoint as a training leaves it, with averaged weights."""
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG)
    weights = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        generator = instantiate(load_config([config]).model.params.generator)
        for parameter in generator.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
        weights.append(generator.state_dict())
    state = {f"generator.{name}": value for name, value in weights[0].items()}
    state |= {f"average.module.{name}": value for name, value in weights[1].items()}
    torch.save({"state_dict": {**state, "average.n_averaged": torch.tensor(3)}, "loops": {}}, tmp_path / "last.ckpt")
    return config, tmp_path / "last.ckpt"


@pytest.mark.parametrize("half, tolerance", [(False, 0.0), (True, 2e-3)])
def test_same_network(run, tmp_path, half, tolerance):
    config, checkpoint = run
    out = tmp_path / "some" / "small.safetensors"
    size = export_generator(config, checkpoint, out, half=half, metadata={"steps": 3})
    assert size == out.stat().st_size < checkpoint.stat().st_size / (3 if half else 1.5)
    inputs = random_inputs(1, 2, 40, 48)
    before, after = (load_generator(config, path) for path in (checkpoint, out))
    with torch.no_grad():
        difference = (before(*inputs) - after(*inputs)).abs().max()
    assert difference <= tolerance
    assert torch.equal(before.state_dict()["network.decoder.upsample.1.running_var"],
                       after.state_dict()["network.decoder.upsample.1.running_var"])
    with safe_open(out, "pt") as file:
        about = file.metadata()
    assert about["steps"] == "3" and json.loads(about["generator"])["params"]["pixel_width"] == 8
    export_generator(config, checkpoint, out, metadata={"generator": "x"})  # comes from the network alone
    assert load_trained(out, flow="zero").generator.pixel_write is not None


def test_a_network_that_was_fitted_to_a_video_is_told(tmp_path):
    node = {"target": "gi.internal.networks.Base"}
    torch.save({"state_dict": {f"generator.{key}": value for key, value in instantiate(node).state_dict().items()}},
               tmp_path / "fitted.ckpt")
    (tmp_path / "fitted.yaml").write_text(json.dumps({"model": {"params": {"generator": node}}}))
    with pytest.raises(InputError, match="fitted.ckpt: Base fills no target by keyframes.*start_from"):
        load_trained(tmp_path / "fitted.ckpt", config=tmp_path / "fitted.yaml", flow="zero")


def test_checkpoint_of_another_network(run, tmp_path):
    config, checkpoint = run
    other = tmp_path / "other.yaml"
    other.write_text(CONFIG.replace("ngf: 8", "ngf: 16"))
    with pytest.raises(InputError, match="misshapen"):
        export_generator(other, checkpoint, tmp_path / "x.safetensors")
    assert not (tmp_path / "x.safetensors").exists()


def test_part_of_another_run(run, tmp_path):
    config, checkpoint = run
    other = tmp_path / "other"
    (other / "configs").mkdir(parents=True)
    (other / "checkpoints").mkdir()
    node = {"target": "gi.models.guided_copy.GuidedCopy", "params": {"pixel_width": 8}}
    (other / "configs" / "config.yaml").write_text(json.dumps({"model": {"params": {"generator": node}}}))
    trusted = instantiate(node)
    torch.nn.init.constant_(trusted.pixel_write.head[0].weight, 0.5)
    part = other / "checkpoints" / "last.ckpt"
    torch.save({"state_dict": {f"generator.{name}": value for name, value in trusted.state_dict().items()}}, part)
    out = tmp_path / "joint.safetensors"
    export_generator(config, checkpoint, out, half=False, parts={"pixel_write": part})
    joint, before = (load_generator(config, path).state_dict() for path in (out, checkpoint))
    for name, value in joint.items():
        expected = trusted.state_dict()[name] if name.startswith("pixel_write.") else before[name]
        assert torch.equal(value, expected)
    with pytest.raises(InputError, match="no part 'network'"):
        export_generator(config, checkpoint, out, parts={"network": part})
    for own, parts in (checkpoint, {}), (out, {"pixel_write": checkpoint}):
        with pytest.raises(InputError, match="is a file to be exported"):
            export_generator(config, own, checkpoint, parts=parts)
    assert stat.S_IMODE(out.stat().st_mode) == stat.S_IMODE(checkpoint.stat().st_mode)


def test_trusted_copy():
    """What a network that changes it has before it has learned anything."""
    torch.manual_seed(0)
    trusted = instantiate(load_config([CONFIGS / "small" / "trusted_copy.yaml"]).model.params.generator).eval()
    whole = instantiate(load_config([CONFIGS / "small" / "ours_small.yaml"]).model.params.generator).eval()
    whole.pixel_write.load_state_dict(trusted.pixel_write.state_dict())
    for t in (0, 2):
        inputs = random_inputs(1, t, 48, 40)
        with torch.no_grad():
            assert torch.allclose(trusted(*inputs), whole(*inputs), atol=1e-6)


def test_the_file_that_comes_along_fits_its_configuration():
    path, config = CONFIGS.parent / "checkpoints" / "ours_small.safetensors", CONFIGS / "small" / "ours_small.yaml"
    generator = load_generator(config, path)
    with safe_open(path, "pt") as file:
        about = {name: json.loads(file.metadata()[name]) for name in ("generator", "guidance")}
    params = OmegaConf.to_container(load_config([config]).model.params, resolve=True)
    assert about == {name: params[name] for name in about}
    with torch.no_grad():
        predicted = generator(*random_inputs(1, 3, 60, 77))
    assert predicted.shape == (1, 3, 60, 77) and 0 <= predicted.min() <= predicted.max() <= 1
    assert path.stat().st_size < 20e6


# Handing on -----------------------------------------------------------------------------------------------------------

def test_what_is_handed_on_gives_the_same_to_the_bit(tmp_path):
    image, mask = np.random.default_rng(0).integers(0, 256, (2, 40, 48, 3), dtype=np.uint8)[0], np.zeros((40, 48), bool)
    mask[10:20, 12:30] = True
    keyframe = np.roll(image, 2, axis=1)
    inpainter = Inpainter.from_checkpoint(device="cpu")
    inpainter.save_pretrained(tmp_path / "folder")
    names = "README.md", "config.yaml", "model.safetensors"
    assert tuple(sorted(path.name for path in (tmp_path / "folder").iterdir())) == names
    assert (tmp_path / "folder" / "README.md").read_text() == SMALL.with_suffix(".md").read_text()
    alone = shutil.copy(tmp_path / "folder" / "model.safetensors", tmp_path / "alone.safetensors")
    expected = inpainter(image, mask, [keyframe])
    for path in tmp_path / "folder", alone, shutil.copy(SMALL, tmp_path):
        again = Inpainter.from_pretrained(path, device="cpu")
        np.testing.assert_array_equal(again(image, mask, [keyframe]), expected)
        for name, value in inpainter.generator.state_dict().items():
            assert torch.equal(again.generator.state_dict()[name], value)

    video = VideoInpainter.from_pretrained(alone, device="cpu", every=2, flow="dis")
    video.save_pretrained(tmp_path / "again")  # with the flow that was chosen
    assert "Inpainter.from_pretrained" in (tmp_path / "again" / "README.md").read_text()
    again = VideoInpainter.from_pretrained(tmp_path / "again", device="cpu", every=2)
    frames = [np.roll(image, number, axis=1) for number in range(3)]
    for first, second in zip(*(method(frames, [mask] * 3) for method in (video, again)), strict=True):
        np.testing.assert_array_equal(first, second)
    made = Inpainter(generator=inpainter.generator, guidance=inpainter.guidance, device="cpu")
    with pytest.raises(InputError, match="from a checkpoint"):
        made.save_pretrained(tmp_path / "made")
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "README.md").write_text("of the project")
    with pytest.raises(InputError, match="has a README.md of something else"):
        inpainter.save_pretrained(tmp_path / "project")
    assert (tmp_path / "project" / "README.md").read_text() == "of the project"


@pytest.mark.parametrize("metadata, message", [
    ({"generator": '{"target": "os.system", "params": {"command": "touch SPOILT"}}'}, "os.system is not allowed"),
    ({"generator": '{"target": "torch.nn.Identity"}', "guidance": '{"target": "subprocess.run"}'}, "is not allowed"),
    ({"generator": '{"target": "torch.nn.Identity", "params": {"x": "${oc.env:HOME}"}}'}, "reference of the form"),
    ({"generator": "[" * 10000}, "x.safetensors, generator.*YAML"),
    ({"generator": "[1]", "guidance": "{}"}, "expected a mapping"),
    ({"other": "1"}, "does not lie in the folder of a run"),
])
def test_a_configuration_in_a_file_is_trusted_as_little_as_any(metadata, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_file({"weight": torch.zeros(1)}, "x.safetensors", metadata)
    with pytest.raises(InputError, match=f"x.safetensors.*{message}" if message[0] != "x" else message):
        Inpainter.from_pretrained("x.safetensors", flow="config" if "guidance" in metadata else "dis")
    assert not (tmp_path / "SPOILT").exists()


def test_folders_and_files_that_are_none(tmp_path):
    (tmp_path / "bad.safetensors").write_bytes(b"123456789")
    for name, message in (".", "no config.yaml in it"), ("bad.safetensors", "damaged"), ("none", "no such checkpoint"):
        with pytest.raises(InputError, match=message):
            Inpainter.from_pretrained(tmp_path / name)
