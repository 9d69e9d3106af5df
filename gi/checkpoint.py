"""Reading checkpoints: ours, and those of the original release and of LaMa.

This is the only place that knows the originals' parameter names. Reading is strict, and never runs code from the file
(`gi.unpickle`).
"""

import re
from pathlib import Path

import torch

from gi.config import instantiate, load_config
from gi.errors import InputError
from gi.unpickle import read_checkpoint
from gi.weights import load_strict

GENERATOR = "generator."
AVERAGE = "average.module."  # running average of the generator's weights, where a checkpoint has one


def load_generator(config, checkpoint, map_location="cpu"):
    """A generator in eval mode from a config and a checkpoint.

    config: path of a YAML (or a loaded config) whose `model.params.generator` describes the network. checkpoint: path
    of one of our checkpoints, or of a file with the original's parameter names under "state_dict", "generator.…"; other
    entries do not matter. Where the file holds averaged weights, these are used, as in evaluation during training.
    Raises InputError that lists what is missing, unexpected or of another shape.
    """
    cfg = load_config([config]) if isinstance(config, str | Path) else config
    generator = instantiate(cfg.model.params.generator, path="model.params.generator")
    load_strict(generator, generator_weights(checkpoint), checkpoint)
    return generator.to(map_location).eval()


def generator_weights(path):
    """{our parameter name: tensor} of the generator in the checkpoint at `path`, whichever names the file uses."""
    content = read_checkpoint(path)
    state = content.get("state_dict", content) if isinstance(content, dict) else {}
    averaged = state.get("average.n_averaged", 0) > 0
    for prefix in (AVERAGE, GENERATOR, "") if averaged else (GENERATOR, ""):
        weights = {key[len(prefix) :]: value for key, value in state.items() if _is_weight(key, value, prefix)}
        if weights:
            return convert_original(weights) if _is_original(weights) else weights
    raise InputError(f"{path}: holds no generator; expected a state_dict with names such as '{GENERATOR}…'")


def _is_weight(key, value, prefix):
    return isinstance(key, str) and key.startswith(prefix) and isinstance(value, torch.Tensor)


def is_resumable(path):
    """Whether the checkpoint at `path` holds the state of one of our trainings, and not only weights."""
    content = read_checkpoint(path)
    if not isinstance(content, dict) or not {"state_dict", "optimizer_states", "loops"} <= content.keys():
        return False
    return not _is_original({key.removeprefix(GENERATOR): None for key in content["state_dict"]})


# The originals' names -------------------------------------------------------------------------------------------------


def _is_original(weights):
    return any(key.startswith("model.") for key in weights)


def convert_original(weights):
    """Renames a generator's {original name: tensor} to our names. Works for every depth and width.

    The originals number all layers in one list: "model.1" to "model.4" are the encoder, then come positions and latents
    (two-stream only), the blocks, and, nameless, transposed convolutions, BatchNorms and the last convolution.
    """
    numbers = {}
    for key in weights:
        match = re.match(r"model\.(\d+)\.(.+)", key)
        if match:
            numbers.setdefault(int(match[1]), set()).add(match[2])
    is_block = {n: any(re.match(r"(read|conv1)\.", rest) for rest in rests) for n, rests in numbers.items()}
    is_encoder = {n: any(re.match(r"(conv|ffc)\.", rest) for rest in rests) for n, rests in numbers.items()}
    position, encoder, block, plain = {}, 0, 0, []
    for n in sorted(numbers):
        if is_block[n]:
            position[n], block = f"blocks.{block}.", block + 1
        elif is_encoder[n]:
            position[n], encoder = f"encoder.layers.{encoder}.", encoder + 1
        elif "latents" in numbers[n]:
            position[n] = ""
        else:
            plain.append(n)
    for i, n in enumerate(
        plain
    ):  # transposed convolution and BatchNorm take turns; in `upsample` a ReLU follows each pair
        position[n] = f"decoder.upsample.{3 * (i // 2) + i % 2}." if n != plain[-1] else "decoder.to_rgb."

    renamed = {}
    for key, value in weights.items():
        match = re.match(r"model\.(\d+)\.(.+)", key)
        if not match:
            renamed[_substitute(key, _DEFORMABLE)] = value
            continue
        n, rest = int(match[1]), match[2]
        rules = _BLOCK if is_block[n] else _ENCODER if is_encoder[n] else _POSITIONS if "latents" in numbers[n] else []
        renamed[position[n] + _substitute(rest, rules)] = value
    return _join_ffc_paths(renamed)


def _substitute(name, rules):
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


_DEFORMABLE = [(r"\.q\.", ".query."), (r"\.v\.", ".value.")]
_POSITIONS = [(r"^project\.", "positions.project.")]
_ENCODER = [(r"^conv\.", "0."), (r"^norm\.", "1."), (r"^ffc\.(convl2[lg])", r"\1"), (r"^bn_", "1.bn_")]
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
    (r"\.ffc\.convg2l", ".global_to_local"),
    (r"\.ffc\.convg2g\.conv1", ".global_to_global.reduce"),
    (r"\.ffc\.convg2g\.conv2", ".global_to_global.expand"),
    (r"\.ffc\.convg2g\.fu\.conv_layer", ".global_to_global.fourier.conv"),
    (r"\.ffc\.convg2g\.fu\.bn", ".global_to_global.fourier.norm"),
    (r"\.ffc\.(convl2[lg])", r".\1"),
    (r"\.bn_([lg])\.", r".norm.bn_\1."),
]


def _join_ffc_paths(weights):
    """Our FFC layers have one convolution for paths with the same input, one BatchNorm for all channels, local first."""
    joined = {}
    for key, value in weights.items():
        if re.search(r"\.convl2g\.|\.bn_g\.", key):
            continue  # joined with its local sibling, which every original layer has
        if ".convl2l." in key:
            in_encoder = key.startswith("encoder.")
            name = key.replace(".convl2l.", ".0." if in_encoder else ".from_local.")
            sibling = key.replace(".convl2l.", ".convl2g.")
        elif ".bn_l." in key:
            name, sibling = key.replace(".bn_l.", "."), key.replace(".bn_l.", ".bn_g.")
        else:
            joined[key] = value
            continue
        joined[name] = torch.cat([value, weights[sibling]]) if sibling in weights and value.ndim else value
    return joined
