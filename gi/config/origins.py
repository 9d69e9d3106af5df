"""Where each value of a merged configuration comes from."""
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml
from omegaconf import OmegaConf

from gi import resources
from gi.config.load import load_config, parse_value
from gi.config.yaml_files import read_inherited

COMMAND_LINE, DEFAULT = "command line", "default"


def with_origins(paths: Sequence[str | Path], overrides: Sequence[str] = ()) -> str:
    """The configuration that `load_config` makes of these arguments, as YAML with the origin of each value as a
    comment.

    A value belongs to the last file that sets it: mappings are merged key by key, so nothing later has touched it.
    """
    config = OmegaConf.to_container(load_config(paths, overrides))
    files = [read_inherited(resources.find(path), {}).layers for path in paths]
    layers = [(str(path), content) for layer in files for path, content in layer.items()]
    override_keys = [override.partition("=")[0].split(".") for override in overrides]

    def origin(keys: list[str]) -> str:
        if any(key[:len(keys)] == keys or keys[:len(key)] == key for key in override_keys):
            return COMMAND_LINE
        return next((name for name, content in reversed(layers) if _sets(content, keys)), DEFAULT)

    lines = list(_lines(config, [], origin))
    if "seed" not in config:
        lines.append(f"seed: 0  # {DEFAULT}")
    return "\n".join(lines) + "\n"


def _sets(content, keys):
    for key in keys:
        if not isinstance(content, dict) or key not in content:
            return False
        content = content[key]
    return True


def _lines(node, keys, origin) -> Iterator[str]:
    for key, value in node.items():
        path, start = [*keys, str(key)], f"{'  ' * len(keys)}{_in_a_line(key)}:"
        if isinstance(value, dict) and value:
            yield start
            yield from _lines(value, path, origin)
        else:
            yield f"{start} {_in_a_line(value)}  # {origin(path)}"


def _in_a_line(value):
    text = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), allow_unicode=True)
    text = text.removesuffix("...\n").rstrip("\n")
    plain = "\n" not in text and parse_value(text, "") == value  # false for "1e-5": OmegaConf reads a number
    return text if plain else json.dumps(value)
