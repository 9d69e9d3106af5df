"""Repeats the same work in laps: some to warm up, some timed, and one in which its operations are counted."""
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import torch

from tools.benchmark.bounds import WorkCounter
from tools.benchmark.device import PeakMemory, synchronize


@dataclass
class Result:
    """What one case of a path took, per unit: an image, a sample, a step.

    Attributes:
        unit: what the numbers are per.
        seconds: wall time of every timed lap; `cpu_seconds` the process's time on all cores, empty on a GPU.
        memory: peak in bytes, see `PeakMemory`; None where that cannot be told.
        flops, bytes: counted, see `WorkCounter`; None where the work is not torch's.
        findings: further numbers, by description.
        notes: remarks for the reader.
    """

    unit: str
    seconds: list[float]
    cpu_seconds: list[float] = field(default_factory=list)
    memory: int | None = None
    flops: float | None = None
    bytes: float | None = None
    findings: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict:
        """A JSON-compatible mapping, with the median."""
        return {**asdict(self), "median": statistics.median(self.seconds)}


class Meter:
    """Measures each of `meter.laps` laps of the same work that is run as `with meter:`.

    Args:
        device: waited for at the start and the end of a lap.
        repeats: timed laps, 1 or more; `warmup`: laps before them.
        count: add one lap in which FLOPs and bytes are counted, which takes longer than the others.
    """

    def __init__(self, device: torch.device, *, repeats: int, warmup: int = 2, count: bool = True):
        self.device, self.warmup, self.repeats = device, warmup, repeats
        self.laps = warmup + repeats + count
        self.memory = PeakMemory(device)
        self.seconds: list[float] = []
        self.cpu_seconds: list[float] = []
        self.counter: WorkCounter | None = None
        self._lap = 0

    def __enter__(self):
        if self._lap >= self.warmup + self.repeats:
            self.counter = WorkCounter()
            self.counter.__enter__()
        else:
            self.memory.start()
        synchronize(self.device)
        self._start = time.perf_counter(), time.process_time()

    def __exit__(self, *error):
        synchronize(self.device)
        wall, cpu = time.perf_counter() - self._start[0], time.process_time() - self._start[1]
        if self.counter is not None:
            self.counter.__exit__(*error)
        else:
            self.memory.stop()
            if self._lap >= self.warmup:
                self.seconds.append(wall)
                self.cpu_seconds.append(cpu)
        self._lap += 1

    def result(self, unit: str, units: int = 1, notes: list[str] | tuple[str, ...] = ()) -> Result:
        """The result of all laps, each of which did `units` units."""
        cpu = [] if self.device.type == "cuda" else [seconds / units for seconds in self.cpu_seconds]
        work = self.counter
        return Result(unit, [seconds / units for seconds in self.seconds], cpu, self.memory.peak,
                      None if work is None else work.flops / units, None if work is None else work.bytes / units,
                      notes=list(notes))


def run_laps(*pairs: tuple[Meter, Callable[[int], object]]) -> None:
    """Runs all laps of several (meter, function of the lap's number) in turn.

    Interleaving spreads other load on the machine evenly over all of them; the order is reversed in every other lap.
    """
    for lap in range(max(meter.laps for meter, _ in pairs)):
        for meter, function in pairs[:: -1 if lap % 2 else 1]:
            if lap < meter.laps:
                with meter:
                    function(lap)


def ratios(slow: Result, fast: Result) -> dict[str, float]:
    """How many times as long one took as the other, lap by lap: median and range, and of the time on all cores."""
    quotients = [a / b for a, b in zip(slow.seconds, fast.seconds, strict=True)]
    named = {"ratio": statistics.median(quotients), "ratio, least": min(quotients), "ratio, most": max(quotients)}
    if slow.cpu_seconds and min(fast.cpu_seconds) > 0:
        cpu = [a / b for a, b in zip(slow.cpu_seconds, fast.cpu_seconds, strict=True)]
        named["ratio of CPU time"] = statistics.median(cpu)
    return named
