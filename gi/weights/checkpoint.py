"""Reading checkpoints: ours, and those of the original release and of LaMa.

This is the only place that knows the originals' parameter names. Reading is strict, and never runs code from the file
(`gi.weights.unpickle`).
"""
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from gi.config import instantiate, load_config
from gi.errors import InputError
from gi.weights.files import load_strict
from gi.weights.unpickle import read_checkpoint

GENERATOR = "generator."
DISCRIMINATOR = "discriminator."
AVERAGE = "average.module."  # running average of the generator's weights, where a checkpoint has one


def load_generator(config: str | Path | DictConfig, checkpoint: str | Path) -> nn.Module:
    """A generator in eval mode from a config and a checkpoint.

    config: path of a YAML (or a loaded config) whose `model.params.generator` describes the network. checkpoint: path
    of one of our checkpoints, or of a file with the original's parameter names under "state_dict", "generator.…". Where
    it holds averaged weights, these are used. Raises InputError that lists what is missing, unexpected or misshapen.
    """
    cfg = load_config([config]) if isinstance(config, str | Path) else config
    generator = instantiate(cfg.model.params.generator, path="model.params.generator")
    load_generator_weights(generator, checkpoint)
    return generator.eval()


def load_generator_weights(generator: nn.Module, path: str | Path) -> None:
    """Copies the weights of the checkpoint at `path` into a generator; see `load_generator`."""
    if hasattr(generator, "load_pretrained") and Path(path).suffix == ".safetensors":
        return generator.load_pretrained(path)  # which also reads the file's metadata
    part = generator.trained_state() if hasattr(generator, "trained_state") else None
    state = _state_dict(path)
    count = state.get(AVERAGE.replace("module.", "n_averaged"))
    averaged = count is not None and count.numel() == 1 and count.dtype == torch.int64 and count > 0
    for prefix in (AVERAGE, GENERATOR, "") if averaged else (GENERATOR, ""):
        if weights := _with_prefix(state, prefix):
            if load := getattr(generator, "load_trained", None):  # some of its weights are frozen, and in other files
                return load({name: weights[name] for name in generator.trained_state().keys() & weights.keys()}, path)
            names = original_generator_names(weights) if _is_original(weights) else {}
            return load_strict(generator, rename(weights, names), path, names=_inverse(names), part=part)
    raise InputError(f"{path}: holds no generator; expected a state_dict with names such as '{GENERATOR}…'")


def load_discriminator_weights(discriminator: nn.Module, path: str | Path) -> bool:
    """Copies the discriminator's weights of the checkpoint at `path`, ours or the original's; False if it has none."""
    weights = _with_prefix(_state_dict(path), DISCRIMINATOR)
    if weights:
        names = original_discriminator_names(weights)
        load_strict(discriminator, rename(weights, names), path, names=_inverse(names))
    return bool(weights)


def is_resumable(path: str | Path) -> bool:
    """Whether the checkpoint at `path` holds the state of one of our trainings, and not only weights."""
    content = read_checkpoint(path)
    if not isinstance(content, dict) or not {"state_dict", "optimizer_states", "loops"} <= content.keys():
        return False
    weights = _with_prefix(_tensors(content), GENERATOR)
    return bool(weights) and not _is_original(weights)


def trained_steps(path: str | Path) -> int | None:
    """The optimiser steps that the checkpoint at `path` was trained for; None if it does not say."""
    content = read_checkpoint(path)
    steps = content.get("global_step") if isinstance(content, dict) else None
    return steps if type(steps) is int and 0 < steps < 2**63 else None


def _state_dict(path):
    return _tensors(read_checkpoint(path))


def _tensors(content):
    """The named tensors of a checkpoint's state_dict, under current names."""
    state = content.get("state_dict", content) if isinstance(content, dict) else {}
    state = state if isinstance(state, dict) else {}
    return present_names({key: value for key, value in state.items()
                          if isinstance(key, str) and isinstance(value, torch.Tensor)})


def _with_prefix(state, prefix):
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def present_names(state: dict[str, Any]) -> dict[str, Any]:
    """A state_dict of ours under current names: earlier, `gi.models.guided_copy` was a part of the generator."""
    for prefix in (AVERAGE, GENERATOR, ""):
        if {f"{prefix}pixel_write.error_scale", f"{prefix}latents"} <= state.keys():
            state = {f"{prefix}network.{key.removeprefix(prefix)}" if key.startswith(prefix)
                     and not key.startswith(f"{prefix}pixel_write.") else key: value for key, value in state.items()}
    return state


# The originals' names -------------------------------------------------------------------------------------------------

def _is_original(weights):
    return any(key.startswith("model.") for key in weights)


def rename(weights: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    """Weights under the names that `names`, {original: ours}, gives them; where two get one name, they are
    concatenated.

    Our FFC layers have one convolution for paths with one input and one BatchNorm for all channels, local ones first.
    """
    parts = {}
    for original in sorted(weights, key=lambda key: re.search(r"\.(convl2g|bn_g)\.", key) is not None):
        parts.setdefault(names.get(original, original), []).append(weights[original])
    return {ours: _join(values) for ours, values in parts.items()}


def _join(values):
    first, *others = values
    if first.ndim == 0 or any(other.shape[1:] != first.shape[1:] for other in others):
        return first  # the counter of a BatchNorm; or a wrong shape, which strict loading will report
    return torch.cat(values) if others else first


def _inverse(names):
    """{our name: original name(s)}, for messages."""
    inverse = {}
    for original, ours in names.items():
        inverse[ours] = f"{inverse[ours]} + {original}" if ours in inverse else original
    return inverse


def original_discriminator_names(weights: Iterable[str]) -> dict[str, str]:
    """{original: ours}: model0 … model4 are the stages, model5 is the head."""
    rules = [(r"^model5\.0\.", "head."), (r"^model(\d)\.", r"stages.\1.")]
    return {key: _substitute(key, rules) for key in weights if key.startswith("model")}


def original_generator_names(weights: Iterable[str]) -> dict[str, str]:
    """{original: ours} for the parameters of a generator of any depth and width; unknown names are left out.

    The originals number all layers in one list: "model.1" to "model.4" are the encoder, then come positions and latents
    (two-stream only), the blocks, and, nameless, transposed convolutions, BatchNorms and the last convolution.
    """
    layers = {}
    for key in weights:
        if match := re.match(r"model\.(\d+)\.(.+)", key):
            layers.setdefault(int(match[1]), []).append(match[2])
    encoders, blocks = ([n for n in sorted(layers) if any(re.match(start, rest) for rest in layers[n])]
                        for start in (r"(conv|ffc)\.", r"(read|write|attn1|conv1)\."))
    plain = [n for n in sorted(layers) if all(rest in _PLAIN for rest in layers[n])]
    places = {n: ("", [(r"^project\.", "positions.project.")]) for n in layers if "latents" in layers[n]}
    places |= {n: (f"encoder.layers.{i}.", _ENCODER) for i, n in enumerate(encoders)}
    places |= {n: (f"blocks.{i}.", _BLOCK) for i, n in enumerate(blocks)}
    # Transposed convolutions and BatchNorms alternate; in `upsample` a ReLU follows each pair.
    places |= {n: (f"decoder.upsample.{3 * (i // 2) + i % 2}.", []) for i, n in enumerate(plain[:-1])}
    places |= {n: ("decoder.to_rgb.", []) for n in plain[-1:]}
    names = {f"model.{n}.{rest}": prefix + _substitute(rest, rules)
             for n, (prefix, rules) in places.items() for rest in layers[n]}
    return names | {key: _substitute(key, _DEFORMABLE) for key in weights if key.startswith("deformable_writes.")}


def _substitute(name, rules):
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


_PLAIN = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
_DEFORMABLE = [(r"\.q\.", ".query."), (r"\.v\.", ".value.")]
_ENCODER = [(r"^(conv|ffc\.convl2[lg])\.", "0."), (r"^(norm|bn_[lg])\.", "1.")]
_BLOCK = [
    (r"^(read|write)\.to_logits", r"\1.scores"),
    (r"^(read|write)\.to_values", r"\1.values"),
    (r"^(read|write)\.ln([12])", r"\1.norm\2"),
    (r"^(read|write|attn\d)\.projection", r"\1.project"),
    (r"\.mlp\.dense1", ".mlp.0"),
    (r"\.mlp\.dense2", ".mlp.2"),
    (r"^attn(\d)\.attn\.layernorm1", r"attn\1.norm1"),
    (r"^attn(\d)\.attn\.", r"attn\1."),
    (r"^attn(\d)\.ln_premlp", r"attn\1.norm2"),
    (r"^attn", "attention"),
    # local blocks: block1 and block2 of a two-stream block; a LaMa block is such a local block itself
    (r"^block([12])\.conv\.", lambda m: f"local.{int(m[1]) - 1}.layers.0."),
    (r"^block([12])\.norm\.", lambda m: f"local.{int(m[1]) - 1}.layers.1."),
    (r"^block([12])\.conv([12])\.", lambda m: f"local.{int(m[1]) - 1}.layers.{int(m[2]) - 1}."),
    (r"^conv([12])\.", lambda m: f"layers.{int(m[1]) - 1}."),
    (r"\.ffc\.convl2[lg]", ".from_local"),
    (r"\.ffc\.convg2l", ".global_to_local"),
    (r"\.ffc\.convg2g\.conv1", ".global_to_global.reduce"),
    (r"\.ffc\.convg2g\.conv2", ".global_to_global.expand"),
    (r"\.ffc\.convg2g\.fu\.conv_layer", ".global_to_global.fourier.conv"),
    (r"\.ffc\.convg2g\.fu\.bn", ".global_to_global.fourier.norm"),
    (r"\.bn_[lg]\.", ".norm."),
]
