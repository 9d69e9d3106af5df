"""YAML configurations: inheritance, merging, overrides, and building what they describe.

    cfg = load_config(["configs/ours.yaml"], ["model.params.learning_rate=1e-4"])
    check(cfg)
    model = instantiate(cfg.model, "model")

A file may name others it builds on, `inherit: base.yaml` or a list, relative to itself; it is merged on top of them.
Mappings are merged key by key, everything else (lists too) is replaced. But a node `{target: …, params: {…}}` that
names another target than the node below it replaces that one wholesale, its params included.
"""
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gi import resources
from gi.config import earlier, schema
from gi.config.targets import nearest
from gi.config.yaml_files import check_form, check_size, first_line, merge, note_dropped, read_inherited
from gi.errors import InputError, one_line

SECTIONS = ("model", "data", "lightning", "paper", "name", "seed")
LIGHTNING = ("trainer", "callbacks", "logger")
# Trainer options that only the program sets.
MANAGED = ("callbacks", "logger", "default_root_dir", "use_distributed_sampler")


def load_config(paths: str | Path | Sequence[str | Path | dict], overrides: Sequence[str] = (),
                notes: list[str] | None = None) -> DictConfig:
    """The files merged left to right, then the overrides ("a.b=value"), as a read-only DictConfig.

    A mapping may be given instead of a file. A path that does not exist may name a bundled file, see `gi.resources`.
    Interpolations (`${model.params.width}`) refer to the merged whole. See `gi.config.earlier` for older forms.
    notes: a list that gets a line for each node that was replaced together with its params.
    """
    merged, cache = {}, {}
    for path in [paths] if isinstance(paths, str | Path) else paths:
        merged = merge(merged, path if isinstance(path, dict)
                       else read_inherited(resources.find(path), cache, notes=notes).content, notes)
    for override in overrides:
        _override(merged, override, overrides, notes)
    earlier.update(merged)
    check_size(merged)
    return OmegaConf.create(merged, flags={"struct": True, "readonly": True})


def save_config(config: DictConfig, path: str | Path) -> None:
    """Writes the merged configuration, interpolations kept, so that load_config reads the same again."""
    temporary = Path(f"{path}.tmp")
    temporary.write_text(OmegaConf.to_yaml(config), encoding="utf-8")
    os.replace(temporary, path)


def parse_value(text: str, path: str) -> Any:
    """The value a string such as "1e-4", "[1, 2]" or "bf16-mixed" stands for in YAML."""
    check_form(text, path)
    try:
        return OmegaConf.to_container(OmegaConf.from_dotlist([f"value={text}"]))["value"]
    except (yaml.YAMLError, OmegaConfBaseException, UnicodeEncodeError) as error:  # a file name may not be valid text
        raise InputError(f"{path}: {text!r} is not valid YAML: {first_line(error)}") from error


def _override(config, override, overrides, notes):
    """Applies one of all `overrides`, "a.b.c=value", in place. Numbers address entries of lists."""
    key, equals, text = override.partition("=")
    parts = key.split(".")
    if not equals or not all(parts):
        raise InputError(f"{override!r}: expected an override of the form key.path=value")
    value, section, last = parse_value(text, key), config, len(parts) - 1
    for depth, part in enumerate(parts):
        path = ".".join(parts[:depth + 1])
        if isinstance(section, list):
            if not part.isdecimal() or int(part) >= len(section):
                raise InputError(f"{path}: the list has {len(section)} entries, the first is 0")
            part = int(part)
        elif isinstance(section, dict):
            section.setdefault(part, None)
        else:
            raise InputError(f"{path}: {'.'.join(parts[:depth])} is {section!r}, not a section")
        if depth == last:
            if part == "target" and section[part] not in (None, value):
                node, start = ".".join(parts[:depth]), len(f"{'.'.join(parts[:depth])}.params.")
                names = [entry[start:].partition("=")[0].partition(".")[0] for entry in overrides
                         if entry.startswith(f"{node}.params.")]
                note_dropped(section, {"target": value, "params": dict.fromkeys(names)}, notes, node)
                section.pop("params", None)  # the same rule as in merge
            section[part] = merge(section[part], value, notes, path)
        elif section[part] is None:
            section[part] = {}
        section = section[part]


def instantiate(node: DictConfig | Mapping[str, Any], path: str = "model", **extra: Any) -> Any:
    """The object a node stands for: its target called with its params, of which nodes are built first, and `extra`.

    The whole node is checked before anything is built. Raises InputError with the YAML path `path`….
    """
    node = plain(node, path)
    _check_node(node, path, extra)
    return _build(node, path, **extra)


def instantiate_all(nodes: DictConfig | Mapping[str, Any] | None, path: str) -> dict[str, Any]:
    """{name: object} for a mapping of named nodes, such as lightning.callbacks; entries set to null are left out."""
    nodes = plain(nodes, path) or {}
    return {name: instantiate(node, f"{path}.{name}") for name, node in nodes.items() if node is not None}


def trainer_options(config: DictConfig) -> dict[str, Any]:
    """Arguments for pl.Trainer: lightning.trainer, with the types it expects."""
    lightning = plain(config, "").get("lightning") or {}
    return _check_trainer(lightning.get("trainer") or {}, _build)


def _build(node, path, **extra):
    target, arguments = schema.node_arguments(node, path, _build, extra)
    try:
        return target(**arguments, **extra)
    except InputError as error:  # of this constructor, as the nodes inside have been built already
        raise type(error)(f"{path}: {error}") from error
    except OSError:  # names its file
        raise
    except Exception as error:  # a value that only the constructor checks, or a missing package
        raise InputError(f"{path}: {one_line(error)}") from error


def check(config: DictConfig, *, require: Collection[str] = ("model", "data"),
          provided: Mapping[str, Collection[str]] | None = None) -> None:
    """Compares every node of the configuration with the signature of its target, without building anything.

    `provided` names the arguments the program will add, by section: {"model": ("learning_rate",)}. Raises InputError
    for the first mistake, one line with its YAML path and the nearest right name.
    """
    config, provided = plain(config, ""), provided or {}
    _only(config, SECTIONS, "section")
    for key, kind in ("name", str), ("seed", int):
        schema.convert(config.get(key), kind | None, key, _check_node)
    for section in ("model", "data"):
        if config.get(section):
            _check_node(config[section], section, provided.get(section, ()))
        elif section in require:
            raise InputError(f"{section}: this section is missing")
    lightning = config.get("lightning") or {}
    _only(lightning, LIGHTNING, "key", "lightning.")
    _check_trainer(lightning.get("trainer") or {}, _check_node)
    for section in ("callbacks", "logger"):
        nodes = lightning.get(section) or {}
        if schema.is_node(nodes) or not isinstance(nodes, dict):
            raise InputError(f"lightning.{section}: expected named nodes, such as '{section}: {{name: {{target: …}}}}'")
        for name, node in nodes.items():
            if node is not None:  # null switches an inherited one off
                _check_node(node, f"lightning.{section}.{name}")


def _check_node(node, path, provided=()):
    schema.node_arguments(node, path, _check_node, provided)


def _check_trainer(options, make):
    from pytorch_lightning import Trainer  # takes seconds to import, and networks alone do without it
    if not isinstance(options, dict):
        raise InputError("lightning.trainer: expected a mapping of Trainer options")
    return schema.arguments(Trainer, options, "lightning.trainer", make, provided=MANAGED, name="the Trainer")


def _only(mapping, known, kind, path=""):
    if not isinstance(mapping, dict):
        raise InputError(f"{path.rstrip('.')}: expected a mapping with {', '.join(known)}")
    for key in mapping:
        if key not in known:
            hint = nearest(key, known, f"; there are {', '.join(known)}")
            raise InputError(f"{path}{key}: no such {kind}{hint}")


def plain(node: Any, path: str) -> Any:
    """Plain containers with the interpolations resolved."""
    if not isinstance(node, DictConfig):
        return node
    try:
        return OmegaConf.to_container(node, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        key_path = str(error.full_key or "") or path
        raise InputError(f"{key_path}: {first_line(error)}") from error
