"""What the command lines in scripts/ share: how they end, and their progress bar."""
import argparse
import sys
from collections.abc import Callable, Mapping
from typing import NoReturn

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from gi.errors import InputError


class Layout(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """--help with the description as it is written, and defaults."""


class Parser(argparse.ArgumentParser):
    """An argparse parser whose complaints are one line, like those of everything else here."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; --help lists the options")


def run(main: Callable[[], int | None]) -> NoReturn:
    """Runs a program and exits with what it returns; with one line and 2 for bad input, 1 for a full disk and its like.
    """
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a name or sign that the terminal cannot show is no reason to stop
    try:
        sys.exit(main() or 0)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def progress() -> Progress:
    """A progress bar with the time that is left, on standard error, so that output can go to a file."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
               TextColumn("left"), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True))


def report_problems(problems: Mapping[str, str], *, total: int, shown: int = 20) -> int:
    """Names what was left out of `total` items, on standard error, and returns the exit status: 1 if there is any."""
    for name, problem in list(problems.items())[:shown]:
        print(f"left out: {name}: {problem}", file=sys.stderr)
    if len(problems) > shown:
        print(f"left out: {len(problems) - shown} more", file=sys.stderr)
    if problems:
        print(f"{len(problems)} of {total} left out", file=sys.stderr)
    return int(bool(problems))
