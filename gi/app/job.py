"""A job: its command, its progress, and what its folder shows about it."""
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WAITING, RUNNING, CANCELLING, DONE, FAILED, CANCELLED = (
    "waiting", "running", "cancelling", "done", "failed", "cancelled")
ENDED = DONE, FAILED, CANCELLED
MEASURE, YIELDING = "measure", "yielding"  # a kind of job, and its state while it makes room for another
LOG = 4000  # characters that the page gets


@dataclass
class Job:
    """words: the command line after `python -m MODULE`. result: name of the file or folder it makes in its folder."""

    id: str
    kind: str
    method: str
    project: str | None
    words: list[str]
    result: str
    options: dict[str, Any] = field(default_factory=dict)
    module: str = "gi"
    about: dict[str, Any] = field(default_factory=dict)  # values for the time when it has finished
    state: str = WAITING
    created: float = 0.0
    started: float | None = None
    finished: float | None = None
    seconds: float = 0.0  # of computing, over all attempts
    interruptions: int = 0
    attempts: int = 0
    error: str | None = None
    what: str = ""
    done: int = 0
    total: int = 0
    seconds_left: float | None = None
    stages: dict[str, float] = field(default_factory=dict)  # seconds after the start that a kind of work began
    version: int = 0

    @property
    def active(self) -> bool:
        return self.state in (RUNNING, CANCELLING, YIELDING)

    def is_sound(self) -> bool:
        """Whether it is safe to show, and to send its result, even if its file comes from elsewhere."""
        return (isinstance(self.words, list) and all(isinstance(word, str) for word in self.words)
                and isinstance(self.result, str) and Path(self.result).name == self.result not in ("", "..")
                and self.state in (WAITING, RUNNING, CANCELLING, YIELDING, *ENDED))

    def names(self, upload: str) -> bool:
        """Whether its command line leads into an upload."""
        return any(upload in Path(word).parts for word in self.words)


def log_of(folder: Path) -> str:
    """The end of a job's log."""
    try:
        with open(folder / "log.txt", "rb") as file:
            file.seek(max(0, file.seek(0, 2) - LOG))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def shell_command(job: Job) -> str:
    """The equivalent command line."""
    words = list(job.words)
    for option in "--progress", "--preview":
        if option in words:
            del words[words.index(option):words.index(option) + 2]
    return shlex.join(["gi", *words]) if job.module == "gi" else ""


def ready_frames(folder: Path) -> list[list[int]]:
    """[[first, stop], …] of the pictures 000012.jpg in a folder."""
    try:
        names = [item.name for item in folder.iterdir()]
    except OSError:
        return []
    numbers = sorted(int(name[:-4]) for name in names if re.fullmatch(r"\d{6,}\.jpg", name))
    ready: list[list[int]] = []
    for number in numbers:
        if ready and ready[-1][1] == number:
            ready[-1][1] += 1
        else:
            ready.append([number, number + 1])
    return ready
