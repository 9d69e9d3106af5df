"""Steps of a run that may be cut off at any time: each is isolated, limited in time, and on disk when it is done."""
import os
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gi.report.results import write_json
from gi.training.signals import StopRequested

TRACEBACK_LINES = 12
AGAIN = 5.0  # seconds after which OutOfTime is raised again in a step that swallowed it


class OutOfTime(BaseException):
    """A step exceeded its time. Not an Exception, since libraries catch these."""


class Stopped(BaseException):
    """SIGTERM arrived."""


@dataclass(frozen=True)
class Step:
    """A part of a run.

    Attributes:
        name: key of its results in the report.
        work: function that fills the dictionary it is given; entries are kept even if it fails later.
        needs: seconds that must be left for it to be started.
        limit: seconds after which it is interrupted, between two operations of Python.
    """

    name: str
    work: Callable[[dict], object]
    needs: float
    limit: float


class Recorder:
    """Runs steps within `minutes` since `start` (of time.monotonic), and keeps report.json and log.txt in `out`.

    Attributes:
        report: content of report.json. `steps` has, for each step, its "status" (done, failed, skipped, running, out of
            time or stopped), "seconds", "result", and "error" if it raised one: type, message, end of the traceback.
    """

    def __init__(self, out: Path, minutes: float, settings: dict, start: float | None = None):
        self.out = out
        self.start = time.monotonic() if start is None else start
        self.end = self.start + 60 * minutes
        self.report = {"version": 1, "complete": False, "settings": {**settings, "minutes": minutes}, "steps": {}}
        out.mkdir(parents=True, exist_ok=True)
        (out / "log.txt").write_text("")
        self.write()

    @property
    def left(self) -> float:
        """Seconds."""
        return self.end - time.monotonic()

    def say(self, line: str) -> None:
        """Prints a line with the time since the start, and appends it to log.txt."""
        line = f"[{time.monotonic() - self.start:6.1f} s] {line}"
        print(line, flush=True)
        with open(self.out / "log.txt", "a", encoding="utf-8") as file:
            file.write(line + "\n")

    def write(self) -> None:
        self.report["seconds"] = time.monotonic() - self.start
        write_json(self.out / "report.json", self.report)

    def run(self, steps: list[Step]) -> None:
        """Runs them one after the other. Raises Stopped after a SIGTERM, with everything on disk."""
        for step in steps:  # so that the report lists steps that were never reached
            self.report["steps"][step.name] = {"status": "skipped", "note": "the run ended before", "result": {}}
        with _handler(signal.SIGTERM, _stop):
            try:
                for step in steps:
                    self._run(step)
                self.report["complete"] = True
            finally:
                self.write()

    def _run(self, step):
        entry = self.report["steps"][step.name]
        if self.left < step.needs:
            entry["note"] = f"{self.left:.0f} s left, {step.needs:.0f} s needed"
            self.say(f"{step.name}: skipped, {entry['note']}")
            self.write()
            return
        entry.pop("note")
        entry["status"] = "running"
        self.say(f"{step.name}: begins")
        self.write()
        start = time.monotonic()
        try:
            with _time_limit(min(step.limit, self.left)):
                step.work(entry["result"])
            entry["status"] = "done"
        except OutOfTime:
            entry["status"] = "out of time"
        except (Stopped, StopRequested, KeyboardInterrupt) as stop:
            entry["status"] = "stopped"
            if isinstance(stop, Stopped):
                raise
            raise Stopped from stop
        except BaseException as error:  # whatever a step raises, SystemExit included, the others go on
            entry["status"] = "failed"
            lines = "".join(traceback.format_exception(error)).splitlines()
            entry["error"] = {"type": type(error).__name__, "message": str(error)[:2000],
                              "traceback": lines[-TRACEBACK_LINES:]}
            self.say(f"{step.name}: {type(error).__name__}: {str(error)[:300]}")
        finally:
            entry["seconds"] = time.monotonic() - start
            self.say(f"{step.name}: {entry['status']} after {entry['seconds']:.1f} s")
            self.write()


class _time_limit:
    """`with _time_limit(seconds):` raises OutOfTime in the main thread after this time."""

    def __init__(self, seconds: float):
        self.seconds = max(seconds, 0.01)

    def __enter__(self):
        self.before = signal.signal(signal.SIGALRM, _out_of_time)
        signal.setitimer(signal.ITIMER_REAL, self.seconds, AGAIN)

    def __exit__(self, *error):
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self.before)


class _handler:
    """`with _handler(signum, raises):` handles a signal in this process; forked workers still exit at the signal."""

    def __init__(self, signum, raises):
        self.signum, self.raises, self.pid = signum, raises, os.getpid()

    def __enter__(self):
        def handle(signum, frame):
            if os.getpid() != self.pid:
                os._exit(128 + signum)
            self.raises(signum, frame)

        self.before = signal.signal(self.signum, handle)

    def __exit__(self, *error):
        signal.signal(self.signum, self.before)


def _out_of_time(signum, frame):
    raise OutOfTime


def _stop(signum, frame):
    raise Stopped
