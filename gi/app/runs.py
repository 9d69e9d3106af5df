"""Training runs of a folder as they lie on disk: event files, image grids, results, the report. Nothing is computed."""
import contextlib
import os
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gi.app.folder import Problem
from gi.app.safety import is_plain
from gi.errors import InputError
from gi.media import io

POINTS = 1000  # of a curve at most: means over equal parts of longer ones
DEEPEST = 3  # folders below that of the runs
MOST = 500  # runs
RECENT = 120  # seconds since something was written, for a run that counts as running
MEDIA_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".json": "application/json",
               ".csv": "text/csv; charset=utf-8", ".yaml": "text/plain; charset=utf-8"}
Curves = Mapping[str, tuple[Sequence[int], Sequence[float]]]


class Runs:
    """The runs below a folder; of each, curves are read again when its event files have grown."""

    def __init__(self, folder: Path):
        self.folder = folder.resolve()
        self._curves: dict[Path, tuple[Any, Curves]] = {}
        self._lock = threading.Lock()

    def list(self) -> list[dict]:
        """As the page gets them, the newest first."""
        runs = [self._describe(path) for path in self._find(self.folder, DEEPEST)]
        return sorted(runs, key=lambda run: -run["modified"])[:MOST]

    def _find(self, folder, depth):
        with contextlib.suppress(OSError):
            for item in sorted(folder.iterdir()):
                if item.is_symlink() or not item.is_dir() or item.name.startswith("."):
                    continue
                if any((item / name).exists() for name in ("tensorboard", "metrics", "report.html")):
                    yield item
                elif depth > 1:
                    yield from self._find(item, depth - 1)

    def _describe(self, path: Path) -> dict:
        events = _event_files(path)
        files = [*events, *path.glob("metrics/*.json"), *path.glob("report.html"), *path.glob("checkpoints/*")]
        modified = max((_modified(file) for file in files), default=_modified(path))
        curves: Curves = {}
        with contextlib.suppress(Problem):
            curves = self._read(path)
        images = [image.relative_to(path).as_posix() for image in sorted(path.glob("images/*/*.png"))]
        return {"name": path.relative_to(self.folder).as_posix(), "modified": modified,
                "running": time.time() - modified < RECENT and not (path / "report.html").is_file(),
                "steps": max((steps[-1] for steps, _ in curves.values() if steps), default=None),
                "has_report": (path / "report.html").is_file(), "curves": sorted(curves), "images": images,
                "results": sorted(file.stem for file in path.glob("metrics/*.json"))}

    def curve(self, name: str, tag: str) -> dict:
        """The points of a curve. Raises Problem if there is none."""
        curves = self._read(self._run(name))
        if tag not in curves:
            raise Problem(f"{tag}: no such curve in this run", 404)
        steps, values = curves[tag]
        width = -(-len(steps) // POINTS)
        groups = [slice(start, start + width) for start in range(0, len(steps), width or 1)]
        points = [[steps[group][-1], _mean(values[group])] for group in groups]
        return {"tag": tag, "points": [point for point in points if point[1] is not None]}

    def file(self, name: str, inside: str) -> tuple[Path, str]:
        """A picture or table of a run and its media type. Raises Problem for any other file."""
        path = _inside(self._run(name), inside, "the run")
        if not path.is_relative_to(self.folder):
            raise Problem("this path leads out of the run", 403)
        if path.suffix.lower() not in MEDIA_TYPES or not path.is_file():
            raise Problem(f"{inside}: no such picture or table", 404)
        return path, MEDIA_TYPES[path.suffix.lower()]

    def report(self, name: str) -> Path:
        """The report of a run. Raises Problem if there is none."""
        path = self._run(name) / "report.html"
        if not path.is_file() or not path.resolve().is_relative_to(self.folder):
            raise Problem("this run has no report yet", 404)
        return path

    def _run(self, name: str) -> Path:
        path = _inside(self.folder, name, "the folder of the runs")
        if not path.is_dir():
            raise Problem(f"{name}: no such run", 404)
        return path

    def _read(self, run: Path) -> Curves:
        from gi.report.plots import read_curves  # importing matplotlib takes long
        files = _event_files(run)
        inside = [file for file in files if file.is_file() and file.resolve().is_relative_to(self.folder)]
        state = [(file.name, file.stat().st_size) for file in inside]
        with self._lock:
            if self._curves.get(run, (None, {}))[0] != state:
                try:
                    self._curves[run] = state, read_curves(run / "tensorboard") if len(state) == len(files) else {}
                except InputError as error:
                    raise Problem(str(error), 409) from None
            return self._curves[run][1]


def _inside(folder: Path, name: str, label: str) -> Path:
    try:
        path = io.resolve_inside(folder, name)
    except (InputError, OSError, ValueError):
        path = None
    if path is None or not is_plain(name):
        raise Problem(f"this path leads out of {label}", 403)
    return path


def _event_files(run: Path) -> list[Path]:
    return sorted((run / "tensorboard").glob("*tfevents*"))


def _modified(path: Path) -> float:
    with contextlib.suppress(OSError):
        return os.stat(path).st_mtime
    return 0.0


def _mean(values: Sequence[float]) -> float | None:
    finite = [value for value in values if value == value and abs(value) != float("inf")]
    return sum(finite) / len(finite) if finite else None
