"""`--progress json`: lines of JSON on standard output, for programs that start a command and follow it.

    {"what": "frames filled", "done": 3, "total": 60, "seconds_left": 12.3}
    {"result": "out.mp4", "frames": 60}        or        {"error": "masks.png: …"}

Text for the user stays on standard error.
"""
import argparse
import contextlib
import json
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from gi.commands.script import Parser
from gi.errors import InputError

INTERVAL = 0.2  # seconds between lines, except for the first and the last of a kind of work


def add_option(parser: argparse.ArgumentParser) -> None:
    """Adds --progress."""
    parser.add_argument("--progress", choices=["json"], help="also print lines of JSON to be read by programs")


class Stream:
    """Lines of JSON for the program that started a command; none unless `enabled`."""

    def __init__(self, enabled: bool):
        self.enabled = enabled

    def watch(self, steps: Iterable[tuple[str, int, int]]) -> Iterator[tuple[str, int, int]]:
        """Yields the (stage, done, total) of some work unchanged, and tells them with the time that is left."""
        current, start, before, reported = None, 0.0, 0, 0.0
        for stage, done, total in steps:
            now = time.monotonic()
            if stage != current:
                current, start, before, reported = stage, now, done, -INTERVAL
            if done == total or now - reported >= INTERVAL:
                reported = now
                left = (now - start) / (done - before) * (total - done) if done > before else None
                self.tell({"what": stage, "done": done, "total": total,
                           "seconds_left": None if left is None else round(left, 1)})
            yield stage, done, total

    def end(self, result: Path | None, frames: int) -> None:
        """The last line: what was written, None for a share of it that others will complete."""
        self.tell({"result": None if result is None else str(result), "frames": frames})

    def tell(self, line: dict) -> None:
        """Prints a line, at once."""
        if self.enabled:
            print(json.dumps(line), flush=True)


@contextlib.contextmanager
def open_stream(argv: Sequence[str] | None) -> Iterator[Stream]:
    """The stream of a command with these words, if they ask for one (None: those of this process). It also tells of the
    InputError or OSError that ends the command, and hands it on to `script.run`.
    """
    parser = Parser(add_help=False, allow_abbrev=False)
    add_option(parser)
    stream = Stream(parser.parse_known_args(sys.argv[1:] if argv is None else argv)[0].progress == "json")
    try:
        yield stream
    except (InputError, OSError) as error:
        stream.tell({"error": str(error)})
        raise
