"""The command line of `gi train` and `gi test`: flags become overrides of the configuration.

    --base configs/ours.yaml more.yaml   --gpus 0,1   --max_steps 100   model.params.learning_rate=1e-4
"""
import argparse
import functools
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

from gi.commands import script
from gi.config import parse_value, schema
from gi.config.load import MANAGED
from gi.config.targets import nearest
from gi.errors import InputError

_OVERRIDE = re.compile(r"[A-Za-z_][\w.-]*=")


def parse_args(argv: Sequence[str], *, test: bool = False) -> argparse.Namespace:
    """The flags by their long names, without --gpus and the Trainer's, and two lists of strings.

    overrides: for load_config, those that --gpus and the Trainer's options stand for among them; notes: lines to print
    at the start. test: those of `gi test`, which takes a run or a checkpoint as well. Raises InputError; prints the
    usage and exits for --help.
    """
    parser = _parser(test)
    if {"-h", "--help"}.isdisjoint(argv):
        _add_trainer_options(parser)
    takes_value = {option for action in parser._actions if action.nargs is None for option in action.option_strings}
    overrides, words = [], []
    for before, word in zip([None, *argv], argv, strict=False):
        is_override = before not in takes_value and _OVERRIDE.match(word) and not Path(word).exists()
        (overrides if is_override else words).append(word)
    args, rest = parser.parse_known_args(words)
    for word in rest:
        if word.startswith("-"):
            word = word.partition("=")[0]
            if word[2:] in MANAGED:
                raise InputError(f"{word}: the program sets that; lightning.callbacks and lightning.logger have nodes")
            known = [option for action in parser._actions for option in action.option_strings]
            raise InputError(f"{word}: no such option{nearest(word, known, '; --help lists them')}")
        raise InputError(f"{word}: expected key.path=value, or a flag before it (--base {word}?)")
    if test:
        args.train, args.test = False, True
        _take_trained(args)
    if not args.base and args.resume is None:
        expected = "a run, a checkpoint, or --base CONFIG.yaml" if test else "--base CONFIG.yaml or --resume LOGDIR"
        raise InputError(f"nothing to do: give {expected} (--help lists the options)")
    devices, args.notes = _devices(args.gpus) if args.gpus is not None else ([], [])
    args.overrides = [*devices, *args.trainer, *overrides]
    return args


def _take_trained(args):
    """Resolves what `gi test` is given: the folder of a run, a checkpoint in one, or weights for the network of
    --base.
    """
    swallowed = [path for path in args.base if path.suffix not in (".yaml", ".yml")]  # parsed as values of --base
    paths = [*([args.trained] if args.trained else []), *swallowed]
    if len(paths) > 1:
        raise InputError(f"{paths[1]}: expected one run or checkpoint, there is {paths[0]} already")
    args.base = [path for path in args.base if path not in swallowed]
    for path in paths:
        if not path.exists():
            raise InputError(f"{path}: no such run or checkpoint")
        if args.base and path.is_file():
            args.resume_from_checkpoint = path
        elif path.is_dir() or (path.absolute().parent.parent / "configs" / "config.yaml").is_file():
            args.resume = path
        else:
            raise InputError(f"{path}: does not lie in the folder of a run; name its configuration, with the test "
                             "sets, by --base")


def _parser(test):
    if test:
        parser = script.Parser(prog="gi test", allow_abbrev=False, formatter_class=script.Wide,
                               usage="gi test [RUN|CHECKPOINT] [--base CONFIG.yaml …] [options] [key.path=value …]",
                               description="Scores a trained network on the test sets of a configuration.",
                               epilog=_EPILOG)
        parser.add_argument("trained", metavar="RUN|CHECKPOINT", nargs="?", type=Path, help="folder of a run, or one "
                            "of its checkpoints: with the run's configuration; or with --base any weights")
    else:
        parser = script.Parser(prog="gi train", allow_abbrev=False, epilog=_EPILOG, formatter_class=script.Wide,
                               usage="gi train --base CONFIG.yaml [MORE.yaml …] [options] [key.path=value …]",
                               description="Trains a network, then scores it on the test sets.")
    switch = {"nargs": "?", "metavar": "true|false"}
    parser.add_argument("-b", "--base", nargs="+", action="extend", default=[], type=Path, metavar="F",
                        help="configurations, later ones on top")
    if not test:
        parser.add_argument("-t", "--train", default=True, const=True, type=_boolean, **switch,
                            help="whether to train (default true); with false only the test runs")
        parser.add_argument("--no-test", "--no_test", dest="test", default=True, const=False,
                            type=lambda text: not _boolean(text), **switch, help="skip the test at the end")
    parser.add_argument("--gpus", metavar="0,1|0,|2", help="these GPUs (a comma makes a list) or that many; default: "
                        "what the machine has")
    parser.add_argument("--resume_from_checkpoint", type=Path, metavar="F",
                        help="start from the state of this checkpoint")
    parser.add_argument("-r", "--resume", type=Path, metavar="LOGDIR",
                        help="continue the run in this folder, with its configuration")
    parser.add_argument("-n", "--name", help="name of the run, part of its folder")
    parser.add_argument("-s", "--seed", type=int, metavar="N",
                        help="seed of what is random and has no seed of its own in the configuration (default: the"
                             " configuration's)")
    parser.add_argument("-l", "--logdir", type=Path, default=Path("logs"), metavar="DIR",
                        help="where the folders of runs go (default logs)")
    parser.add_argument("--print-config", action="store_true",
                        help="print the merged configuration, with the file behind each value, and end")
    if not test:
        parser.add_argument("--print-memory", action="store_true", help="print what a step of training takes on each "
                            "GPU, counted without one, and end; for diffusion's networks")
    script.allow_option(parser)
    return parser


_EPILOG = ("Any option of Lightning's Trainer is taken by its own name, such as --max_steps 100; key.path=value sets "
           "any\nvalue of the configuration.")


def _add_trainer_options(parser):
    from pytorch_lightning import Trainer  # takes seconds, which --help does not
    for name, (hint, _) in schema.parameters(Trainer)[0].items():
        if name not in (*MANAGED, "self"):
            parser.add_argument(f"--{name}", dest="trainer", action="append", default=[], nargs="?", const="true",
                                type=functools.partial(_trainer_override, name, hint), help=argparse.SUPPRESS)


def _trainer_override(name, hint, text):
    """The value as YAML, quoted where only the plain text has the right type."""
    for value in text, json.dumps(text):
        try:
            schema.convert(parse_value(value, name), hint, name, lambda node, path: node)
            return f"lightning.trainer.{name}={value}"
        except InputError:
            continue
    raise argparse.ArgumentTypeError(f"{text} is not {schema.describe(hint)}")


def _boolean(text):
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if text.lower() not in words:
        raise argparse.ArgumentTypeError(f"{text} is not true or false")
    return words[text.lower()]


def _devices(text):
    """--gpus as overrides of the Trainer's options, and notes for the user."""
    if not re.fullmatch(r"-1|\d+|\d+(,\d+)*,?", text.replace(" ", "")):
        raise InputError(f"--gpus: {text!r}, expected numbers of GPUs (0,1 or 0,) or how many (2)")
    import torch
    ids = [int(part) for part in text.split(",") if part.strip()] if "," in text else []
    count = len(ids) or int(text)
    available = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0 or available == 0:
        cores = f"this machine has no CUDA GPU, running on the CPU ({os.cpu_count()} cores)"
        notes = [f"--gpus {text}: {cores}"] if count else []
        return ["lightning.trainer.accelerator=cpu", "lightning.trainer.devices=1"], notes
    if count > available or max(ids, default=0) >= available or len(set(ids)) < len(ids):
        names = ", ".join(map(str, range(available)))
        raise InputError(f"--gpus: {text}, but the GPUs of this machine are {names}")
    return ["lightning.trainer.accelerator=gpu", f"lightning.trainer.devices={ids or count}".replace(" ", "")], []
