"""Reading checkpoints: whichever names they use, strictly, and saying what does not fit."""
import json

import numpy as np
import pytest
import torch

from gi.config import instantiate, load_config
from gi.errors import InputError
from gi.models.discriminator import PatchDiscriminator
from gi.training.checkpoint_io import SafeCheckpointIO
from gi.weights.checkpoint import is_resumable, load_discriminator_weights, load_generator
from tests.families import CONFIGS, tiny_generator, tiny_node


@pytest.fixture(scope="module")
def original(reference):
    """{original name: tensor} of a published kind of checkpoint, "ours w/o FFC" and the discriminator."""
    state = {}
    for prefix, network in (("generator.", "generator_ours_no_ffc"), ("discriminator.", "discriminator")):
        spec = json.loads((reference.folder / "keys" / f"{network}.json").read_text())
        for key, shape in spec.items():
            value = reference.fill.weight(key, shape, reference.fill.GAIN[network])
            state[prefix + key] = torch.from_numpy(np.asarray(value))
    return state


def save(state, path, **other):
    torch.save({"state_dict": state, **other}, path)
    return path


def test_original_names_load_completely(original, tmp_path):
    path = save({**original, "val_evaluator_two.loss.weight": torch.zeros(3)}, tmp_path / "published.ckpt")
    generator = load_generator(CONFIGS / "ours_no_ffc.yaml", path)
    assert not generator.training
    own = generator.state_dict()
    torch.testing.assert_close(own["latents"], original["generator.model.5.latents"])
    theirs = original["generator.model.9.attn2.attn.key.weight"]
    torch.testing.assert_close(own["blocks.3.attention2.key.weight"], theirs)
    assert sum(v.double().sum() for v in own.values()) == pytest.approx(
        sum(v.double().sum().item() for k, v in original.items() if k.startswith("generator.")), rel=1e-6
    )
    discriminator = PatchDiscriminator()
    assert load_discriminator_weights(discriminator, path)
    torch.testing.assert_close(discriminator.head.weight, original["discriminator.model5.0.weight"])
    assert not is_resumable(path)


@pytest.mark.parametrize("change, words", [
    (lambda s: s.pop("generator.model.6.read.ln1.weight"), ["missing", "blocks.0.read.norm1.weight"]),
    (lambda s: s.update({"generator.model.99.foo": torch.zeros(1)}), ["unexpected", "model.99.foo"]),
    (lambda s: s.update({"generator.model.23.bias": torch.zeros(4)}), ["misshapen", "model.23.bias", "(4,)", "(3,)"]),
    (lambda s: s.update({"generator.other": torch.zeros(1)}), ["unexpected", "other"]),
])  # fmt: skip
def test_what_does_not_fit_is_listed(change, words, original, tmp_path):
    state = dict(original)
    change(state)
    with pytest.raises(InputError) as error:
        load_generator(CONFIGS / "ours_no_ffc.yaml", save(state, tmp_path / "other.ckpt"))
    assert "\n" not in str(error.value)
    for word in ["other.ckpt", *words]:
        assert word in str(error.value)


def test_another_family_is_told(original, tmp_path):
    path = save(original, tmp_path / "published.ckpt")
    with pytest.raises(InputError, match="LaMaGenerator: .* missing: .* more; .* unexpected: "):
        load_generator(CONFIGS / "lama.yaml", path)


def test_misshapen_ffc_path(reference, tmp_path):
    """The two halves of a joined convolution must fit together as well."""
    spec = json.loads((reference.folder / "keys" / "generator_lama.json").read_text())
    state = {f"generator.{key}": torch.zeros(shape) for key, shape in spec.items()}
    state["generator.model.5.conv1.ffc.convl2g.weight"] = torch.zeros(384, 128, 5, 5)
    with pytest.raises(InputError, match=r"from_local\.weight \(.*convl2l.*convl2g"):
        load_generator(CONFIGS / "lama.yaml", save(state, tmp_path / "lama.ckpt"))


@pytest.mark.parametrize("layout", ["bare", "generator"])
def test_own_weights_round_trip(layout, tmp_path):
    generator = tiny_generator("ours")
    prefix = "generator." if layout == "generator" else ""
    path = save({prefix + key: value for key, value in generator.state_dict().items()}, tmp_path / "own.ckpt")
    config = tmp_path / "tiny.yaml"
    config.write_text(json.dumps({"model": {"params": {"generator": tiny_node("ours")}}}))
    loaded = load_generator(config, path)
    for key, value in generator.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[key])


@pytest.mark.parametrize("prefix", ["", "generator.", "average.module."])
def test_copies_inside_the_network_are_around_it_now(prefix, tmp_path):
    """Names of before: all that is the network's now stood beside `pixel_write`."""
    node = {"target": "gi.models.guided_copy.GuidedCopy", "params": {"network": tiny_node("ours_no_ffc")}}
    state = instantiate(node).state_dict()
    before = {prefix + name.removeprefix("network."): value for name, value in state.items()}
    assert f"{prefix}encoder.layers.0.0.weight" in before
    other = {"average.n_averaged": torch.tensor(1), "discriminator.head.bias": torch.zeros(1)} if prefix else {}
    (tmp_path / "tiny.yaml").write_text(json.dumps({"model": {"params": {"generator": node}}}))
    loaded = load_generator(tmp_path / "tiny.yaml", save(before | other, tmp_path / "old.ckpt")).state_dict()
    assert loaded.keys() == state.keys() and all(torch.equal(value, loaded[name]) for name, value in state.items())
    resumed = SafeCheckpointIO().load_checkpoint(tmp_path / "old.ckpt")["state_dict"]
    assert resumed.keys() == {prefix + name for name in state} | other.keys()


def test_a_file_without_a_generator(tmp_path):
    path = save({"discriminator.head.bias": torch.zeros(1)}, tmp_path / "d.ckpt")
    with pytest.raises(InputError, match="d.ckpt"):
        load_generator(CONFIGS / "ours.yaml", path)
    training = {"optimizer_states": [], "loops": {}}
    for content in ([1, 2], {"state_dict": 5, **training}, {"state_dict": [1], **training},
                    {"state_dict": {3: torch.zeros(1)}, **training}):
        torch.save(content, tmp_path / "other.ckpt")
        assert not is_resumable(tmp_path / "other.ckpt")
        with pytest.raises(InputError, match="other.ckpt: holds no generator"):
            load_generator(CONFIGS / "ours.yaml", tmp_path / "other.ckpt")
    for count in torch.zeros(2, dtype=torch.int64), torch.ones((), dtype=torch.complex64):
        path = save({"average.n_averaged": count, "generator.nothing": torch.zeros(1)}, tmp_path / "average.ckpt")
        with pytest.raises(InputError, match="average.ckpt.*nothing"):
            load_generator(CONFIGS / "ours.yaml", path)


def test_config_can_be_loaded_already():
    cfg = load_config([CONFIGS / "ours.yaml"], ["model.params.generator.params.n_blocks=2"])
    with torch.device("meta"):
        assert len(instantiate(cfg.model.params.generator).blocks) == 2
