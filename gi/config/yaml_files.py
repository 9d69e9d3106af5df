"""YAML files of configurations: inheritance and merging, and limits on how far an untrusted file can expand.

A file may inherit from any other, wherever it lies: reading YAML has no side effects, and its content is sent nowhere.
"""
import functools
import io
import re
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gi import resources
from gi.config.targets import nearest
from gi.errors import InputError, MissingFile

MAX_BYTES = 1 << 20  # of one file
MAX_SIZE = 1_000_000  # entries and characters in total, with references expanded
REFERENCE = re.compile(r"\$\{([A-Za-z_][\w.-]*)\}")


def merge(lower: Any, upper: Any, notes: list[str] | None = None, path: str = "") -> Any:
    """`upper` on top of `lower`: mappings key by key, where both are nodes of one target; see `gi.config.load`.

    notes: gets a line for each node, at `path`…, whose values are dropped because another target replaces it.
    """
    if not isinstance(lower, dict) or not isinstance(upper, dict):
        return upper
    if "target" in lower and upper.get("target", lower["target"]) != lower["target"]:
        note_dropped(lower, upper, notes, path)
        return upper
    return {**lower, **{key: merge(lower[key], value, notes, f"{path}.{key}" if path else str(key)) if key in lower
                        else value for key, value in upper.items()}}


class Merged(NamedTuple):
    """A file on top of those it inherits from, and {file: its own content} of all of them, the lowest first."""

    content: dict
    layers: dict[Path, dict]


def note_dropped(lower: dict, upper: dict, notes: list[str] | None, path: str) -> None:
    """Adds a line to `notes` if the node `lower` has values that `upper`, which replaces it, does not give anew."""
    old, new = (node.get("params") if isinstance(node.get("params"), dict) else {} for node in (lower, upper))
    dropped = {key: "…" if isinstance(value, dict | list) else value for key, value in old.items() if key not in new}
    if notes is not None and dropped:
        notes.append(f"{path}: {upper['target']} in the place of {lower['target']}, whose values are dropped: "
                     f"{', '.join(f'{key}={value}' for key, value in dropped.items())}")


def read_inherited(path: Path, cache: dict[Path, Merged | None], by: Path | None = None,
                   notes: list[str] | None = None) -> Merged:
    """A file as plain containers, merged on top of those it inherits from.

    cache: the files that were read already, each of which is read once; None for those being read. notes: see `merge`.
    """
    key = path.resolve()
    if key in cache:
        if cache[key] is None:
            raise InputError(f"{path}: inherits from itself, via {by}")
        return cache[key]
    cache[key] = None
    content = _read(path, by)
    inherit = content.pop("inherit", None) or []
    inherit = [inherit] if isinstance(inherit, str) else inherit
    if not isinstance(inherit, list) or not all(isinstance(entry, str) for entry in inherit):
        raise InputError(f"{path}: inherit: expected a file name or a list of file names")
    below = [read_inherited(resources.find(entry, path.parent), cache, path, notes) for entry in inherit]
    layers: dict[Path, dict] = {}
    for file in below:
        layers = {layer_path: own for layer_path, own in layers.items() if layer_path not in file.layers} | file.layers
    merged = functools.reduce(lambda lower, upper: merge(lower, upper, notes),
                              [*(file.content for file in below), content])
    cache[key] = Merged(merged, {**layers, path: content})
    return cache[key]


def _read(path: Path, by: Path | None) -> dict:
    try:
        if not path.exists():
            folder = path.parent if path.parent.is_dir() else Path(".")
            hint = nearest(path, [folder / sibling.name for sibling in folder.glob("*.yaml")])
            raise MissingFile(f"{path}: no such configuration{f' (inherited by {by})' if by else ''}{hint}")
        if not path.is_file() or path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path}: expected a file of at most {MAX_BYTES} bytes")
        text = path.read_text(encoding="utf-8-sig")
    except InputError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as YAML: {first_line(error)}") from error
    return parse_mapping(text, str(path))


def parse_mapping(text: str, path: str) -> dict:
    """A mapping in YAML or JSON as plain containers. Raises InputError that begins with `path` for anything else."""
    if len(text) > MAX_BYTES:
        raise InputError(f"{path}: has {len(text)} characters, expected at most {MAX_BYTES}")
    try:
        for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            if isinstance(event, yaml.ScalarEvent):
                check_form(event.value, f"{path}:{event.start_mark.line + 1}")
                # YAML also has sexagesimal numbers; parsing them takes time quadratic in their length.
                if event.implicit[0] and re.fullmatch(r"[-+.:\w]{1000,}", event.value):
                    raise InputError(f"{path}:{event.start_mark.line + 1}: too long a number, put texts in quotes")
        content = OmegaConf.load(io.StringIO(text))  # with a limit on aliases of aliases
        content = OmegaConf.to_container(content) if content else {}
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise InputError(f"{path}{line}: not valid YAML: {error.problem or error.context}") from error
    except InputError:
        raise
    except (OSError, ValueError, RecursionError, yaml.YAMLError, OmegaConfBaseException) as error:
        raise InputError(f"{path}: cannot be read as YAML: {first_line(error)}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a mapping")
    return content


def check_form(text: str, path: str) -> None:
    """Refuses a value with a `${…}` other than `${path.to.key}`.

    OmegaConf would read environment variables (`${oc.env:HOME}`), and take hours for nested references.
    """
    if "${" in REFERENCE.sub("", text):
        raise InputError(f"{path}: found {text!r:.80}, expected a reference of the form ${{path.to.key}}")


def check_size(config: dict) -> None:
    """Refuses references that expand exponentially: ten that refer to ten of the next, and so on, fill any memory."""
    sizes = {}

    def size(value):
        if isinstance(value, dict | list):
            return 1 + sum(map(size, value.values() if isinstance(value, dict) else value))
        return len(value) + sum(map(size_of, REFERENCE.findall(value))) if isinstance(value, str) else 1

    def size_of(key):
        if key not in sizes:
            sizes[key] = 0  # a circle, for OmegaConf to report
            value = config
            for part in key.split("."):
                keys = value if isinstance(value, dict) else dict(enumerate(value)) if isinstance(value, list) else {}
                value = keys.get(int(part) if isinstance(value, list) and part.isdecimal() else part)
            sizes[key] = size(value)
        return sizes[key]

    try:
        total = size(config)
    except RecursionError:
        raise InputError("the configuration has too long a chain of references") from None
    if total > MAX_SIZE:
        raise InputError(f"the configuration stands for more than {MAX_SIZE} entries and characters")


def first_line(error: Exception) -> str:
    """The first line of its message; of an empty one, the name of its type."""
    return (str(error).splitlines() or [type(error).__name__])[0]
