"""The generators against the original release's outputs, with its weights taken through the checkpoint importer."""
import json

import numpy as np
import pytest
import torch

from gi.config import load_config
from gi.weights.checkpoint import load_generator
from tests.families import CONFIGS

TWO_STREAM = "gi.models.two_stream.TwoStreamGenerator"
CASES = [  # tag, network, config, params on top, (B, T, H, W)
    ("ours_256", "ours", "ours", {}, (1, 2, 256, 256)),
    ("ours_200x264", "ours", "ours", {}, (2, 3, 200, 264)),
    pytest.param("ours_big_256", "ours_big", "ours_big", {}, (1, 4, 256, 256), marks=pytest.mark.slow),
    ("ours_no_ffc_256", "ours_no_ffc", "ours_no_ffc", {}, (1, 2, 256, 256)),
    ("ours_attention_only_256", "ours_attention_only", "ours", {"deformable_write": False}, (1, 2, 256, 256)),
    ("ours_unguided_256", "ours_unguided", "ours_unguided", {}, (1, 1, 256, 256)),
    ("lama_256", "lama", "lama", {}, (1, 0, 256, 256)),
]


@pytest.mark.parametrize("tag, network, config, params, shape", CASES,
                         ids=[getattr(case, "values", case)[0] for case in CASES])
def test_reproduces_the_original(tag, network, config, params, shape, reference, tmp_path):
    state = {f"generator.{key}": torch.from_numpy(np.asarray(value)) for key, value in _weights(reference, network)}
    state["flow.raft.fnet.conv1.weight"] = torch.zeros(1)  # other networks share the published files
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "original.ckpt")
    overrides = [f"model.params.generator.params.{key}={value}" for key, value in params.items()]
    generator = load_generator(load_config([CONFIGS / f"{config}.yaml"], overrides), tmp_path / "original.ckpt")

    outputs = {}
    for i, block in enumerate(generator.blocks if hasattr(generator, "latents") else []):
        block.read.softmax.register_forward_hook(lambda m, a, out, i=i: outputs.update({f"read_{i}": out}))
        block.write.gate.register_forward_hook(lambda m, a, out, i=i: outputs.update({f"write_{i}": out}))
    with torch.no_grad():
        outputs["output"] = generator(*_inputs(reference.fill, tag, *shape))

    expected = reference.load(f"generator_{tag}")
    names = {key.rsplit("_", 1)[0] for key in expected}
    assert names <= outputs.keys()
    for name in names:
        stats, sample = reference.fill.summary(outputs[name].numpy())
        assert np.abs(sample - expected[f"{name}_sample"]).max() < 2e-5, name
        assert np.abs(stats - expected[f"{name}_stats"]).max() < 2e-5, name


def _weights(reference, network):
    spec = json.loads((reference.folder / "keys" / f"generator_{network}.json").read_text())
    gain = reference.fill.GAIN[f"generator_{network}"]
    return [(key, reference.fill.weight(key, shape, gain)) for key, shape in spec.items()]


def _inputs(fill, tag, b, t, h, w):
    frames = [fill.image(f"{tag}/image", b, 3, h, w)[:, None], fill.image(f"{tag}/srcs", b, t, 3, h, w)]
    masks = [fill.mask(f"{tag}/mask", b, 1, h, w)[:, None]]
    masks.append(fill.mask(f"{tag}/srcs_masks", b, t, 1, h, w) if t else np.zeros((b, 0, 1, h, w), np.float32))
    frames, masks = (torch.from_numpy(np.concatenate(x, axis=1)) for x in (frames, masks))
    frames = torch.cat([frames * (1 - masks), masks], dim=2)
    flows = torch.from_numpy(fill.flow(f"{tag}/flows", b, t, 2, h, w))
    errors = torch.from_numpy(fill.image(f"{tag}/flow_errs", b, t, 1, h, w))
    return frames[:, 0], frames[:, 1:], flows, errors
