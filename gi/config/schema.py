"""Checks YAML values against the signatures of what they configure.

A *node* is a mapping `{target: package.module.Name, params: {…}}`; it stands for the object its target returns. Every
problem is an InputError of one line: YAML path, what was found there, the nearest right name.
"""
import collections.abc
import difflib
import inspect
import re
import types
import typing
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Literal, Union

from gi.config.targets import find_target, nearest
from gi.errors import InputError

Make = Callable[[Any, str], Any]  # (node, path) -> what replaces the node
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_LISTS = (list, set, frozenset, collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection)
_DICTS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)


def is_node(value: object) -> bool:
    """Whether a value of YAML is a mapping with a target, and so stands for an object."""
    return isinstance(value, dict) and isinstance(value.get("target"), str)


def parameters(target: Callable) -> tuple[dict[str, tuple[Any, inspect.Parameter]], bool]:
    """{name: (type hint, parameter)} of a callable and whether it takes any other name."""
    try:
        signature = inspect.signature(target)
    except (TypeError, ValueError):  # classes written in C
        return {}, True
    try:
        hints = typing.get_type_hints(target.__init__ if isinstance(target, type) else target)  # type: ignore[misc]
    except Exception:  # names that only exist for type checkers
        hints = {}
    options, open_ended = {}, False
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            open_ended = True
        elif parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            hint = hints.get(name, parameter.annotation)
            hint = Any if hint is parameter.empty or isinstance(hint, str) else hint
            options[name] = (Union[hint, None] if parameter.default is None else hint, parameter)  # noqa: UP007
    owner = getattr(target, "__self__", None)
    if open_ended and isinstance(owner, type):  # a classmethod that passes options on to its class, and makes the rest
        inherited, open_ended = parameters(owner)
        options = {name: option for name, option in inherited.items()
                   if option[1].default is not option[1].empty} | options
    return options, open_ended


def node_arguments(node: Any, path: str, make: Make, provided: Collection[str] = ()) -> tuple[Callable, dict[str, Any]]:
    """(target, converted params) of a node.

    `make(node, path)` is called for every node inside; `provided` names the arguments the program adds itself.
    """
    _check_keys(node, path)
    if not is_node(node):
        raise InputError(f"{path}: found {_show(node)}, expected a node with 'target' and 'params'")
    target, params = find_target(node["target"], path), node.get("params")
    params = {} if params is None else params
    if not isinstance(params, dict):
        raise InputError(f"{path}.params: found {_show(params)}, expected a mapping")
    return target, arguments(target, params, f"{path}.params", make, provided=provided, name=node["target"])


def _check_keys(node, path):
    for key in node if isinstance(node, dict) else ():
        if key not in ("target", "params"):
            raise InputError(f"{path}.{key}: a node has only 'target' and 'params'{nearest(key, ['target', 'params'])}")


def arguments(target: Callable, params: Mapping[str, Any], path: str, make: Make, *, provided: Collection[str] = (),
              name: str | None = None) -> dict[str, Any]:
    """The mapping `params`, checked against and converted to the signature of `target`."""
    name = name or target.__qualname__
    known, open_ended = parameters(target)
    offered = [key for key in known if key not in provided]
    for key in params:
        if key in provided:
            raise InputError(f"{path}.{key}: is set by the program, not in a configuration")
        if key not in known and not open_ended:
            hint = nearest(key, offered, f"; it has {', '.join(offered) or 'none'}")
            raise InputError(f"{path}.{key}: {name} has no such parameter{hint}")
    for key, (hint, parameter) in known.items():
        if parameter.default is parameter.empty and key not in params and key not in provided:
            raise InputError(f"{path}.{key}: is missing, {name} needs it ({describe(hint)})")
    return {key: convert(value, known[key][0] if key in known else Any, f"{path}.{key}", make)
            for key, value in params.items()}


def convert(value: Any, hint: Any, path: str, make: Make) -> Any:
    """`value` as the type `hint` wants it, the nodes in it replaced by `make(node, path)`.

    Accepted are an int or a numeric string (YAML 1.1 reads `1e-4` as a string) for a float, a whole float such as `1e6`
    for an int, a list for a tuple, a string for a path. A bool is never a number.
    """
    if is_node(value):
        target = find_target(value["target"], path)
        if not _provides(target, hint):
            raise InputError(f"{path}: {value['target']} is not {describe(hint)}")
        return make(value, path)
    if _is_open(hint):
        if not isinstance(value, dict | list):
            return value
        hint = type(value)
    origin, args = typing.get_origin(hint) or hint, typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return convert(value, Any, path, make) if Any in args else _convert_union(value, hint, path, make)
    if origin is Literal:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        for choice in args:
            if type(choice) is type(value) and choice == value or number and choice == str(value):
                return choice  # a choice may be written as a number, such as precision 32
        raise InputError(f"{path}: found {_show(value)}, expected {describe(hint)}{nearest(value, args)}")
    if origin is tuple and isinstance(value, list):
        each = args if args and args[-1] is not ... else [*args, Any][:1] * len(value)
        if len(each) != len(value):
            raise InputError(f"{path}: has {len(value)} entries, expected {len(each)}")
        return tuple(convert(v, h, f"{path}.{i}", make) for i, (v, h) in enumerate(zip(value, each, strict=True)))
    if origin in _LISTS and isinstance(value, list):
        items = [convert(v, args[0] if args else Any, f"{path}.{i}", make) for i, v in enumerate(value)]
        return origin(items) if origin in (set, frozenset) else items
    if origin in _DICTS and isinstance(value, dict):
        keys, values = args or (Any, Any)
        return {convert(k, keys, path, make): convert(v, values, f"{path}.{k}", make) for k, v in value.items()}
    return _convert_scalar(value, hint, path)


def _convert_scalar(value, hint, path):
    if value is None and hint in (None, types.NoneType) or hint in (bool, str) and isinstance(value, hint):
        return value
    if hint is Path and isinstance(value, str):
        return Path(value)
    if hint in (int, float) and isinstance(value, int | float) and not isinstance(value, bool):
        if hint is float or isinstance(value, int) or value.is_integer():
            return hint(value)
    if hint is float and isinstance(value, str) and _NUMBER.fullmatch(value):
        return float(value)
    if isinstance(value, dict) and isinstance(hint, type) and difflib.get_close_matches("target", map(str, value)):
        _check_keys(value, path)  # a node whose target is misspelt
    quotes = "; put it in quotes" if hint is str and isinstance(value, int | float) else ""
    raise InputError(f"{path}: found {_show(value)}, expected {describe(hint)}{quotes}")


def _convert_union(value, hint, path, make):
    options = typing.get_args(hint)
    for kind, origins in (list, (*_LISTS, tuple)), (dict, _DICTS):  # if only one fits, errors keep their path
        fitting = [option for option in options if (typing.get_origin(option) or option) in origins]
        if isinstance(value, kind) and len(fitting) == 1:
            return convert(value, fitting[0], path, make)
    for option in sorted(options, key=lambda option: option is not type(value)):  # 1 stays an int beside a float
        try:
            return convert(value, option, path, make)
        except InputError:
            continue
    choices = [c for option in options if typing.get_origin(option) is Literal for c in typing.get_args(option)]
    raise InputError(f"{path}: found {_show(value)}, expected {describe(hint)}{nearest(value, choices)}")


def _is_open(hint):
    return hint in (Any, object) or isinstance(hint, typing.TypeVar | typing.ForwardRef)


def _provides(target, hint):
    """Whether calling `target` can give an object of type `hint`, as far as classes and annotations tell."""
    if _is_open(hint):
        return True
    if typing.get_origin(hint) in (Union, types.UnionType):
        return any(_provides(target, option) for option in typing.get_args(hint))
    kind = typing.get_origin(hint) or hint
    if not isinstance(target, type):
        try:
            target = typing.get_type_hints(target).get("return")
        except Exception:
            target = None
    if not isinstance(kind, type) or not isinstance(target, type) or getattr(kind, "_is_protocol", False):
        return kind is not Literal
    return issubclass(target, kind)


def describe(hint: Any) -> str:
    """A type hint in words."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint in (None, types.NoneType):
        return "null"
    if hint is bool:
        return "true or false"
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(describe(option) for option in args))
    if origin is Literal:
        return "one of " + ", ".join(map(str, args)) if len(args) > 1 else str(args[0])
    if origin is tuple or (origin or hint) in _LISTS:
        inner = [describe(arg) for arg in args if arg is not ...]
        return "a list" + (f" of ({', '.join(inner)})" if len(inner) > 1 else f" of {inner[0]}" if inner else "")
    if (origin or hint) in _DICTS:
        return "a mapping" + (f" to {describe(args[1])}" if args else "")
    if isinstance(hint, type):
        plain = hint.__module__ == "builtins" or hint is Path
        return hint.__name__ if plain else f"a node with a target of type {hint.__name__}"
    return str(hint).replace("typing.", "")


def _show(value):
    if isinstance(value, dict):
        return f"a mapping with {', '.join(map(str, value))}"[:80] if value else "an empty mapping"
    if value is None:
        return "null"
    text = repr(value)
    return f"{text if len(text) < 80 else f'{text[:76]} …'} ({type(value).__name__})"
