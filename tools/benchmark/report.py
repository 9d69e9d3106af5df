"""Runs a benchmark into a JSON-compatible mapping, and reads such files."""
import json
import os
import platform
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

import gi
from gi.errors import InputError
from tools.benchmark.bounds import Limits, measure_limits
from tools.benchmark.parts import PRECISIONS, Parts, Settings
from tools.benchmark.paths import PATHS

VERSION = 1


def run_paths(settings: Settings, names: Sequence[str], *, name: str, advance: Callable[[], None] = lambda: None,
              keep: Callable[[dict], object] = lambda report: None, **limits: int) -> dict:
    """Runs paths of `PATHS` and returns {"version", "machine", "settings", "limits", "warnings", "cases"}.

    Args:
        name: of the configuration.
        advance: called after each path; so is `keep`, with the report so far.
        limits: options of `measure_limits`.

    A path that runs out of the GPU's memory is a warning, and the others go on.
    """
    dtype = PRECISIONS[settings.precision] or torch.float32
    best = measure_limits(settings.device, dtype, **limits)
    report = {
        "version": VERSION,
        "machine": describe_machine(settings.device),
        "settings": {"config": name, "precision": settings.precision, "batch_size": settings.batch_size,
                     "size": settings.size, "repeats": settings.repeats, "video": list(settings.video)},
        "limits": asdict(best),
        "warnings": load_warning(),
        "cases": {},
    }
    with Parts(settings) as parts:
        for path in names:
            try:
                for case, result in PATHS[path](parts):
                    report["cases"][case] = result.to_dict()
            except torch.OutOfMemoryError:
                report["warnings"].append(f"{path}: out of memory")
            keep(report)
            advance()
    best = best.best(measure_limits(settings.device, dtype, **limits))
    report["limits"] = asdict(best)
    if not any(warning.startswith("load") for warning in report["warnings"]):
        report["warnings"] += load_warning()
    keep(report)
    return report


def describe_machine(device: torch.device) -> dict[str, object]:
    """What times depend on besides the settings; without names of hosts, users or folders, so fit for publication."""
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type}: {_processor()}",
        "system": platform.system(),
        "cores": cores(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "tf32 convolutions": torch.backends.cudnn.conv.fp32_precision == "tf32" if device.type == "cuda" else None,
        "commit": _commit(),
    }


def cores() -> int:
    """Number of CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def load_warning() -> list[str]:
    """A warning if more processes want to run than there are cores, else nothing."""
    if not hasattr(os, "getloadavg"):  # Windows
        return []
    load = os.getloadavg()[0]
    return [f"load {load:.1f} on {cores()} cores: others use this machine too, times are too long"] * (load > cores())


def read_report(path: str | Path) -> dict:
    """What `run_paths` returned.

    Raises:
        InputError: naming the file, if it is missing or something else.
    """
    try:
        report = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not JSON"
        raise InputError(f"{path}: cannot be read as a benchmark: {reason}") from error
    sections = ("machine", "settings", "limits", "cases")
    if not isinstance(report, dict) or not all(isinstance(report.get(key), dict) for key in sections):
        raise InputError(f"{path}: expected a benchmark, a mapping with {', '.join(sections)}")
    if report.get("version") != VERSION:
        raise InputError(f"{path}: a benchmark of version {report.get('version')!r}, expected {VERSION}")
    for name, case in report["cases"].items():
        if not isinstance(case, dict) or not _numbers(case.get("seconds")) or not _numbers([case.get("median")]):
            raise InputError(f"{path}: cases.{name}: expected times, seconds and their median")
        if not isinstance(case.get("unit"), str) or not isinstance(case.get("cpu_seconds", []), list):
            raise InputError(f"{path}: cases.{name}: expected unit, a text, and cpu_seconds, a list")
    if not _numbers([report["limits"].get(key) for key in Limits.__dataclass_fields__]):
        raise InputError(f"{path}: limits: expected {' and '.join(Limits.__dataclass_fields__)}, above 0")
    return report


def _numbers(values):
    return isinstance(values, list) and bool(values) and all(isinstance(v, int | float) and v > 0 for v in values)


def _processor():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def _commit():
    """The commit of this code, with "-dirty" if it was changed; None where there is no git or no repository."""
    root = Path(gi.__file__).resolve().parents[1]
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        process = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return None
    return process.stdout.strip() or None if (root / ".git").exists() and process.returncode == 0 else None
