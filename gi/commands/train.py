"""`gi train`, and with `test` true `gi test`: flags -> configuration -> run -> results."""
import logging
import os
import sys
import time
import warnings
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from gi import resources
from gi.commands.arguments import parse_args
from gi.config import check, load_config
from gi.config.origins import with_origins
from gi.errors import InputError


def main(argv: Sequence[str] | None = None, *, test: bool = False) -> None:
    """Runs the command; an early end of the training is one line. Raises InputError for wrong arguments or
    configurations.
    """
    args = parse_args(sys.argv[1:] if argv is None else argv, test=test)
    from gi.training.module import NonFiniteLoss
    from gi.training.signals import StopRequested
    try:
        _run(args)
    except NonFiniteLoss as error:
        _wait_for_first_process()
        sys.exit(f"error: {error}; training stopped, the last good checkpoint stays")
    except InputError:
        _wait_for_first_process()
        raise
    except StopRequested as stop:
        from pytorch_lightning.utilities import rank_zero_only
        if rank_zero_only.rank == 0:  # others end quietly: Lightning kills the first process when another has failed
            print(f"{stop}: state saved; resume with -r and the run's folder", file=sys.stderr)
            sys.exit(128 + stop.signum)


def _wait_for_first_process():
    """Waits in all processes but the first, which ends the others: so an error that all of them have is one line."""
    from pytorch_lightning.utilities import rank_zero_only
    if rank_zero_only.rank != 0:
        time.sleep(3)


def run_from(argv: Sequence[str]) -> dict:
    """The results of a run with these arguments, {test set: scores}. Raises InputError, NonFiniteLoss, StopRequested.
    """
    return _run(parse_args(argv))


def _run(args: Namespace) -> dict:
    if args.resume is not None and args.resume.is_file():  # a checkpoint of the run instead of its folder
        args.resume, args.resume_from_checkpoint = args.resume.absolute().parent.parent, args.resume
    try:
        logdir = make_logdir(args)
        base = [logdir / "configs" / "config.yaml"] if args.resume and not args.base else args.base
        overrides = [*args.overrides, *([f"seed={args.seed}"] if args.seed is not None else [])]
        if args.print_config:
            print(with_origins(base, overrides), end="")
            return {}
        dropped: list[str] = []
        cfg = load_config(base, overrides, dropped)
        from pytorch_lightning.utilities import rank_zero_info

        from gi.report.paper import stated_rows
        from gi.training.run import run
        from gi.training.trainer import MODULE_OPTIONS
        _quieten_lightning()
        for note in [*args.notes, *dropped, *(f"{path}: nothing of that name here, taken from {resources.find(path)}"
                                    for path in args.base if resources.find(path) != path)]:
            rank_zero_info(note)
        check(cfg, provided={"model": MODULE_OPTIONS})
        if getattr(args, "print_memory", False):
            from gi.diffusion.memory import of_config
            print(of_config(cfg))
            return {}
        stated_rows(cfg)
        return run(cfg, args, logdir)
    finally:
        os.environ.pop("GI_LOGDIR", None)  # the next run of this process gets a folder of its own


def make_logdir(args: Namespace) -> Path:
    """Folder of this run. Processes that Lightning starts find it in the environment, so that all of them agree."""
    if args.resume is not None:
        if not (args.resume / "configs" / "config.yaml").is_file():
            raise InputError(f"{args.resume}: no run to resume there, expected configs/config.yaml in it")
        return args.resume
    stem = f"{time.strftime('%Y-%m-%dT%H-%M-%S')}_{args.name or args.base[-1].stem}"
    logdir, number = args.logdir / stem, 2
    while logdir.exists():
        logdir, number = args.logdir / f"{stem}_{number}", number + 1
    if str(logdir).encode(errors="replace").decode() != str(logdir):
        raise InputError(f"{logdir}: expected a name in UTF-8, as TensorBoard takes no other")
    return Path(os.environ.setdefault("GI_LOGDIR", str(logdir)))


def _quieten_lightning():
    """Hides Lightning's advertisements at every start, and its warnings about deprecated functions that it uses
    itself.
    """
    warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\)` is deprecated")
    logging.getLogger("pytorch_lightning.utilities.rank_zero").addFilter(lambda record: "💡" not in record.getMessage())
