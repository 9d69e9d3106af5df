"""Tiny runs of the program for tests: their arguments, as processes of their own, and what they leave behind."""
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from gi.weights.unpickle import read_checkpoint

ROOT = Path(__file__).resolve().parents[1]
TINY = ROOT / "tests" / "tiny.yaml"


def tiny_run(photographs, folder, *overrides, base=TINY, logdir="logs"):
    """Arguments of main, the run's folder below `folder`."""
    places = ("train", "validation.small", "test.small")
    roots = [f"data.params.{place}.params.images.params.root={photographs}" for place in places]
    return [f"--base={base}", f"--logdir={folder / logdir}", "--no-test", *roots, *overrides]


def callback(name, **params):
    """Overrides that add a callback of tests/helpers.py."""
    target = f"lightning.callbacks.{name.lower()}.target=tests.helpers.{name}"
    return [target, *(f"lightning.callbacks.{name.lower()}.params.{key}={value}" for key, value in params.items())]


def last_checkpoint(logs):
    (path,) = Path(logs).glob("*/checkpoints/last.ckpt")
    return read_checkpoint(path)


def start(arguments):
    """The program as a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "gi/main.py", "--allow=tests", *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True, **pipes)


def finish(process, status=0, seconds=180):
    """Output of a process that has to end with this status in this time, and so have all that it started."""
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise AssertionError(f"still running after {seconds} seconds:\n{process.communicate()[0]}") from None
    assert process.returncode == status, output
    return output


def wait_for(path, process):
    give_up = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None and time.monotonic() < give_up, process.communicate()[0]
        time.sleep(0.05)
