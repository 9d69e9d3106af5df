"""Synchronisation with a device, and the peak memory of work on it."""
import gc
import sys
from pathlib import Path

import torch

from gi.heap import release_freed

try:
    import resource
except ImportError:  # Windows
    resource = None

_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")  # Linux


def synchronize(device: torch.device) -> None:
    """Waits until all work submitted to the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


class PeakMemory:
    """The largest peak between any `start` and `stop`.

    Attributes:
        peak: bytes. On CUDA, everything allocated on the device, weights included. Elsewhere the growth of the
            process's resident memory since this object was made, so without weights; None where the system does not
            tell, as when an earlier peak of the process was higher and the system cannot forget it (not Linux).
    """

    def __init__(self, device: torch.device):
        self.device = device
        self.peak: int | None = None
        gc.collect()  # freed memory that the process still holds would be reused, and so hide the next allocations
        release_freed()
        self._before = 0 if device.type == "cuda" else _status("VmRSS")

    def start(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        self._reset = self.device.type != "cuda" and self._before is not None and _forget_peak()
        self._highest = None if self._reset else _highest()

    def stop(self) -> None:
        if self.device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(self.device)
        elif self._reset:
            peak = max(0, _status("VmHWM") - self._before)
        else:
            highest = _highest()
            peak = highest - self._highest if highest is not None and highest > self._highest else None
        if peak is not None:
            self.peak = max(peak, self.peak or 0)


def _forget_peak() -> bool:
    try:
        _CLEAR.write_text("5")  # resets VmHWM, the highest resident memory so far
    except OSError:
        return False
    return True


def _status(key: str) -> int | None:
    """An entry of /proc/self/status in bytes; None where there is no such file."""
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(f"{key}:")), None)


def _highest() -> int | None:
    if resource is None:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
