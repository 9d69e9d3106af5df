"""The command line of main.py: its flags become overrides of the configuration.

    --base configs/ours.yaml more.yaml   --gpus 0,1   --max_steps 100   model.params.learning_rate=1e-4
"""
import argparse
import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import torch

from gi.config import MANAGED, allow, parse_value, schema
from gi.config.targets import nearest
from gi.errors import InputError

_OVERRIDE = re.compile(r"[A-Za-z_][\w.-]*=")
_USAGE = """\
gi/main.py --base CONFIG.yaml [MORE.yaml ...] [options] [key.path=value ...]

  -b, --base F [F ...]          configurations, later ones on top
  -t, --train true|false        whether to train (default true); with false only the test runs
      --no-test                 leave the test at the end out
      --gpus 0,1 | 0, | 2       these GPUs (a comma makes a list) or that many; default: what the machine has
      --resume_from_checkpoint F   start from the state of this checkpoint
  -r, --resume LOGDIR           continue the run in this folder, with its configuration
  -n, --name NAME               name of the run, part of its folder
  -s, --seed N                  seed of everything random (default: the configuration's)
  -l, --logdir DIR              where the folders of runs go (default logs)
      --allow PACKAGE           configurations may name code of this package of yours; repeatable
      --max_steps N, ...        any option of Lightning's Trainer by its own name
  key.path=value                any value of the configuration
"""


@dataclass
class Arguments:
    base: list[Path] = field(default_factory=list)
    overrides: list[str] = field(default_factory=list)  # for load_config; Trainer options and --gpus are among them
    train: bool = True
    test: bool = True
    resume_from_checkpoint: Path | None = None
    resume: Path | None = None
    name: str | None = None
    seed: int | None = None
    logdir: Path = Path("logs")
    notes: list[str] = field(default_factory=list)  # lines to print at the start


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise InputError(message)


def parse_args(argv):
    """Arguments for a list of words. Raises InputError; prints the usage and exits for --help."""
    parser = _Parser(usage=_USAGE, allow_abbrev=False, add_help=False)
    flag = {"nargs": "?", "const": "true"}  # a switch, with or without true or false after it
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("-b", "--base", nargs="+", action="extend", default=[])
    parser.add_argument("-t", "--train", default="true", **flag)
    parser.add_argument("--no-test", "--no_test", default="false", **flag)
    parser.add_argument("--gpus")
    parser.add_argument("--resume_from_checkpoint", type=Path)
    parser.add_argument("-r", "--resume", type=Path)
    parser.add_argument("-n", "--name")
    parser.add_argument("-s", "--seed", type=int)
    parser.add_argument("-l", "--logdir", type=Path, default=Path("logs"))
    parser.add_argument("--allow", action="append", default=[])
    options = _trainer_hints()
    for name in options:
        parser.add_argument(f"--{name}", dest=f"trainer.{name}", default=None, **flag)
    found, rest = parser.parse_known_args(argv)
    if found.help:
        print("usage:", _USAGE, end="")
        raise SystemExit(0)
    allow(*found.allow)

    for word in rest:
        if word.startswith("-"):
            word = word.partition("=")[0]
            known = [option for action in parser._actions for option in action.option_strings]
            raise InputError(f"{word}: no such option{nearest(word, known, '; --help lists them')}")
        if not _OVERRIDE.match(word):
            raise InputError(f"{word}: expected key.path=value, or a flag before it (--base {word}?)")
    overrides = list(rest)

    def take(value):
        """argparse gives a switch or --base the override that follows it; this moves it to where it belongs."""
        if _OVERRIDE.match(value) and not Path(value).exists():
            overrides.append(value)
            return None
        return value

    base = [Path(value) for value in found.base if take(value)]
    train, no_test = take(found.train) or "true", take(found.no_test) or "true"
    trainer = []
    for name, hint in options.items():
        text = getattr(found, f"trainer.{name}")
        if text is not None:
            trainer.append(f"lightning.trainer.{name}={_trainer_value(take(text) or 'true', hint, name)}")
    if not base and found.resume is None:
        raise InputError("nothing to do: give --base CONFIG.yaml or --resume LOGDIR (--help lists the options)")
    overrides.sort(key=list(argv).index)  # of two overrides of one key, the later one on the command line counts
    devices, notes = _devices(found.gpus) if found.gpus is not None else ([], [])
    return Arguments(base=base, overrides=[*devices, *trainer, *overrides], train=_boolean(train, "--train"),
                     test=not _boolean(no_test, "--no-test"), resume_from_checkpoint=found.resume_from_checkpoint,
                     resume=found.resume, name=found.name, seed=found.seed, logdir=found.logdir, notes=notes)


def processes(options):
    """How many processes (one per device) a Trainer with these options, a mapping, runs on all nodes together."""
    nodes = int(options.get("num_nodes") or 1)
    accelerator, devices = options.get("accelerator", "auto"), options.get("devices", "auto")
    if isinstance(devices, str) and devices not in ("auto", ""):
        devices = [d for d in devices.split(",") if d.strip()] if "," in devices else int(devices)
    if isinstance(devices, list | tuple):
        return nodes * len(devices)
    on_gpus = accelerator in ("gpu", "cuda", "auto") and torch.cuda.is_available()
    if devices in ("auto", "", None, -1):
        return nodes * (torch.cuda.device_count() if on_gpus else 1)
    return nodes * int(devices)


def _trainer_hints():
    from pytorch_lightning import Trainer  # after gi, which makes torchvision importable
    return {name: hint for name, (hint, _) in schema.parameters(Trainer)[0].items() if name not in (*MANAGED, "self")}


def _trainer_value(text, hint, name):
    """The value as YAML, quoted where only the plain text has the right type."""
    try:
        schema.convert(parse_value(text, f"--{name}"), hint, f"--{name}", _no_node)
        return text
    except InputError as error:
        try:
            schema.convert(text, hint, f"--{name}", _no_node)
            return json.dumps(text)
        except InputError:
            raise InputError(f"--{name}: {text} is not {schema.describe(hint)}") from error


def _no_node(node, path):
    raise InputError(f"{path}: cannot be given on the command line, write it into a configuration")


def _boolean(text, name):
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if text.lower() not in words:
        raise InputError(f"{name}: {text} is not true or false")
    return words[text.lower()]


def _devices(text):
    """--gpus as overrides of the Trainer's options, and what there is to say about it."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or not all(re.fullmatch(r"-?\d+", part) for part in parts) or ("," not in text and int(text) < -1):
        raise InputError(f"--gpus: {text!r}, expected numbers of GPUs (0,1 or 0,) or how many (2)")
    ids = [int(part) for part in parts] if "," in text else None
    count = len(ids) if ids else int(text)
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    cpu = ["lightning.trainer.accelerator=cpu", "lightning.trainer.devices=1"]
    if count == 0:
        return cpu, []
    if there == 0:
        return cpu, [f"--gpus {text}: this machine has no CUDA GPU, running on the CPU ({os.cpu_count()} cores)"]
    if count > there or ids and (not all(0 <= i < there for i in ids) or len(set(ids)) < len(ids)):
        names = ", ".join(map(str, range(there)))
        raise InputError(f"--gpus: {text}, but the GPUs of this machine are {names}")
    return ["lightning.trainer.accelerator=gpu", f"lightning.trainer.devices={ids or count}".replace(" ", "")], []
