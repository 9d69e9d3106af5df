"""What the commands share: how they end, and how they show progress."""
import argparse
import contextlib
import itertools
import operator
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from gi.config import allow
from gi.errors import InputError
from gi.heap import share_heap

if TYPE_CHECKING:
    from rich.progress import Progress

INTERVAL = 30  # seconds between lines of progress where there is no terminal


class Wide(argparse.RawDescriptionHelpFormatter):
    """--help with the description as it is written, as wide as that is, so that it fits a screen."""

    def __init__(self, prog: str):
        super().__init__(prog, max_help_position=30, width=118)


class Layout(Wide, argparse.ArgumentDefaultsHelpFormatter):
    """With defaults as well."""


class Parser(argparse.ArgumentParser):
    """An argparse parser whose errors are one line, like all others here."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; --help lists the options")


class _Allow(argparse.Action):
    def __call__(self, parser, namespace, value, option_string=None):
        allow(value)


def allow_option(parser: argparse.ArgumentParser) -> None:
    """Adds --allow, for programs that build what a configuration says."""
    parser.add_argument("--allow", action=_Allow, metavar="PACKAGE", default=argparse.SUPPRESS,
                        help="configurations may name code of this package of yours; repeatable")


def trust(names: Iterable[str] | None) -> None:
    """Allows the modules of what a user has typed: of "package.module.Name key=value", package.module."""
    words = [name.split()[0] for name in names or () if name.strip()]
    allow(*(word.rpartition(".")[0] for word in words if "." in word))


def given_options(args: argparse.Namespace, group: argparse._ArgumentGroup) -> dict[str, object]:
    """The options of a group that were given, by their names; the group's argument_default is argparse.SUPPRESS."""
    return {action.dest: getattr(args, action.dest) for action in group._group_actions
            if action.option_strings and action.dest in args}


def file_of_frame(option: str, text: str) -> tuple[int, Path]:
    """The frame's number and the file of an option's N=FILE. Raises InputError for other text."""
    number, _, path = text.partition("=")
    if not (number.isdecimal() and path):
        raise InputError(f"{option} {text}: expected N=FILE such as 40=picture.png")
    return int(number), Path(path).expanduser()  # a shell expands ~ only where a word begins


def run(main: Callable[[], int | None]) -> NoReturn:
    """Exits with the status that `main` returns; with one line and 2 for bad input, or 1 for errors such as a full
    disk.
    """
    share_heap()
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # what the terminal cannot encode is no reason to fail
    try:
        sys.exit(main() or 0)
    except (InputError, OSError) as error:
        named = isinstance(error, OSError) and error.filename is not None
        print(f"error: {error.filename}: {error.strerror}" if named else f"error: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, InputError) else 1)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


@contextlib.contextmanager
def progress(label: str, total: int) -> Iterator[Callable[[], None]]:
    """`with progress("images", 1000) as advance:`, to be called after each; shows the time left on standard error.

    A bar on a terminal, a line every half minute elsewhere.
    """
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress
    console, start, done, shown = Console(stderr=True), time.monotonic(), 0, 0.0
    if console.is_terminal:
        with Progress(*Progress.get_default_columns(), MofNCompleteColumn(), console=console) as bar:
            task = bar.add_task(label, total=total)
            yield lambda: bar.advance(task)
        return

    def advance() -> None:
        nonlocal done, shown
        done += 1
        elapsed = time.monotonic() - start
        if done == total or elapsed - shown > INTERVAL:
            shown, left = elapsed, timedelta(seconds=round(elapsed / done * (total - done)))
            print(f"{label} {done}/{total}, {left} left", file=sys.stderr, flush=True)

    yield advance


def follow(steps: Iterable[tuple[str, int, int]], name: str = "") -> None:
    """Runs through the (stage, done, total) of some work, and shows `progress` for each stage, from where it starts."""
    for stage, steps_of_stage in itertools.groupby(steps, key=operator.itemgetter(0)):
        _, before, total = next(steps_of_stage)
        with progress(f"{name}: {stage}" if name else stage, total - before) as advance:
            for _, done, _ in steps_of_stage:  # noqa: B031
                for _ in range(before, done):
                    advance()
                before = done


def download_progress() -> "Progress":
    """A bar for bytes that disappears when it is done; nothing where there is no terminal."""
    from rich.console import Console
    from rich.progress import DownloadColumn, Progress, TransferSpeedColumn
    console = Console(stderr=True)
    return Progress(*Progress.get_default_columns(), DownloadColumn(), TransferSpeedColumn(), console=console,
                    transient=True, disable=not console.is_terminal)


def report_problems(problems: Mapping[str, str], *, total: int, limit: int = 20) -> int:
    """Names what was left out of `total` items, on standard error, and returns the exit status: 1 if there is any."""
    lines = [f"left out: {name}: {problem}" for name, problem in problems.items()]
    if len(lines) > limit:
        lines[limit:] = [f"left out: {len(problems) - limit} more"]
    if problems:
        print(*lines, f"{len(problems)} of {total} left out", sep="\n", file=sys.stderr)
    return int(bool(problems))
