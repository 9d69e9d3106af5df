"""Child processes of the server, which end with it: `python -m gi.app.child MODULE WORDS…` runs a module as a program.

The server holds the other end of the child's standard input. When that is closed, because the server says so or because
it is gone, however it ended, the child is interrupted as by Ctrl-C, and ends within `PATIENCE` seconds.
"""
import asyncio
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import gi
from gi.errors import InputError

PATIENCE = 20
# The folder that has the package, as working directory: otherwise Python would look for modules where uploads lie.
PLACE = Path(gi.__file__).resolve().parents[1]


async def start(module: str, words: Sequence[str], *, stdout: int | IO[bytes], stderr: int | IO[bytes],
                limit: int = 2**16) -> asyncio.subprocess.Process:
    """Starts a child. `limit`: bytes of its longest line. Raises OSError, and ValueError for words with null bytes."""
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gi.app.child", module, *words, cwd=PLACE, env=_environment(), limit=limit,
        stdin=subprocess.PIPE, stdout=stdout, stderr=stderr, start_new_session=True)


async def end(process: asyncio.subprocess.Process) -> None:
    """Ends a child that has nothing to lose, if it still runs."""
    if process.returncode is None:
        process.kill()
    await process.wait()
    process.stdin.close()


def _environment():
    """The environment of a child, which finds this very package and does not buffer its output."""
    return {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": os.pathsep.join(
        [str(PLACE), *filter(None, [os.environ.get("PYTHONPATH")])])}


def _wait_for_the_end() -> None:
    while os.read(0, 4096):
        pass
    signal.raise_signal(signal.SIGINT)
    time.sleep(PATIENCE)
    os._exit(130)


if __name__ == "__main__":
    # A server that a shell has started in the background ignores SIGINT, and so would its children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=_wait_for_the_end, daemon=True).start()
    if hasattr(os, "nice"):
        os.nice(5)  # so that the page stays responsive
    del sys.argv[0]
    try:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    except (InputError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
