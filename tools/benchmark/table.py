"""Benchmarks as tables: one by itself, and two side by side."""
import statistics

from gi.report.tables import Table
from tools.benchmark.bounds import Limits, bound

_NOTE = ("per unit; bound: the larger of FLOPs (of products, convolutions, attention, Fourier transforms) over the "
         "rate of a large matrix product and bytes (all that operators read and write) over the bandwidth of a copy")


def benchmark_table(report: dict) -> Table:
    """Every case with its median, range, time on all cores, peak memory, work and bound."""
    heading = ["", "median", "least … most", "per second", "CPU time", "peak memory", "GFLOP", "GB", "bound",
               "bound / median"]
    limits = Limits(**report["limits"])
    rows = []
    for name, case in report["cases"].items():
        least = bound(case.get("flops"), case.get("bytes"), limits)
        rows.append([
            f"{name}, {case['unit']}", duration(case["median"]), spread(case["seconds"]), f"{1 / case['median']:.3g}",
            duration(statistics.median(case["cpu_seconds"])) if case.get("cpu_seconds") else "",
            amount(case.get("memory"), 1 << 20, "MiB"), amount(case.get("flops"), 1e9), amount(case.get("bytes"), 1e9),
            duration(least) if least else "", f"{least / case['median']:.0%}" if least else "",
        ])
    machine, settings = report["machine"], report["settings"]
    title = (f"{settings.get('config')}, {settings.get('size')}x{settings.get('size')}, {settings.get('precision')}, "
             f"{machine.get('device')}, {machine.get('threads')} threads: "
             f"{limits.flops / 1e9:.3g} GFLOP/s, {limits.bandwidth / 1e9:.3g} GB/s")
    return Table(heading, rows, title=title, note=_NOTE)


def remarks(report: dict) -> list[str]:
    """Lines below the table: findings and notes of the cases, and warnings."""
    lines = []
    for name, case in report["cases"].items():
        lines += [f"{name}: {'; '.join(case['notes'])}"] if case.get("notes") else []
        lines += [f"{name}: {key} {value:.3g}" for key, value in (case.get("findings") or {}).items()]
    return [*lines, *(f"warning: {warning}" for warning in report.get("warnings", []))]


def comparison_table(first: dict, second: dict, names: tuple[str, str]) -> Table:
    """Cases of both: medians, and how many times as long the second took, marked where the ranges do not meet."""
    heading = ["", f"A: {names[0]}", "least … most", f"B: {names[1]}", "least … most", "B / A", "least … most",
               "CPU time B / A"]
    rows, marks = [], {}
    for row, name in enumerate([*first["cases"], *(name for name in second["cases"] if name not in first["cases"])]):
        a, b = (report["cases"].get(name) for report in (first, second))
        cells = [text for case in (a, b)
                 for text in ((duration(case["median"]), spread(case["seconds"])) if case else ("", ""))]
        if a and b:
            low, high = min(b["seconds"]) / max(a["seconds"]), max(b["seconds"]) / min(a["seconds"])
            cpu = [statistics.median(case["cpu_seconds"]) for case in (a, b) if case.get("cpu_seconds")]
            cells += [f"{b['median'] / a['median']:.3g}", f"{low:.3g} … {high:.3g}",
                      f"{cpu[1] / cpu[0]:.3g}" if len(cpu) == 2 and cpu[0] > 0 else ""]
            if high < 1 or low > 1:
                marks[row, 5] = "better" if high < 1 else "worse"
        rows.append([f"{name}, {(a or b)['unit']}", *cells, *[""] * (len(heading) - 1 - len(cells))])
    return Table(heading, rows, marks=marks, note="green, red: faster or slower in every lap of B than in any of A")


def differences(first: dict, second: dict) -> list[str]:
    """Differences in machine, settings and notes, and warnings of either, which make the two hard to compare."""
    lines = []
    for section in "machine", "settings":
        keys = [*first[section], *(key for key in second[section] if key not in first[section])]
        for key in keys:
            a, b = first[section].get(key), second[section].get(key)
            if a != b:
                lines.append(f"{section}, {key}: A {a}, B {b}")
    for name, a in first["cases"].items():
        b = second["cases"].get(name)
        if b and a.get("notes") != b.get("notes"):
            lines.append(f"{name}: A {'; '.join(a.get('notes') or [])}, B {'; '.join(b.get('notes') or [])}")
    return lines + [f"{which}: {warning}" for which, report in (("A", first), ("B", second))
                    for warning in report.get("warnings", [])]


def duration(seconds: float) -> str:
    """0.0123 -> "12.3 ms"."""
    for scale, unit in ((1, "s"), (1e-3, "ms")):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} us"


def spread(seconds: list[float]) -> str:
    return f"{duration(min(seconds))} … {duration(max(seconds))}"


def amount(value: float | None, scale: float, unit: str = "") -> str:
    return "" if value is None else f"{value / scale:.3g} {unit}".rstrip()
