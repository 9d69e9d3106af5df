"""What the paper reports, and tables that put it beside our results.

Tables 1 (no keyframes), 2 (four) and 4 (two) of the paper: FID, LPIPS and SSIM of composites on 2,000 images of the
Places validation split at 256x256. On any other images the numbers are different ones.
"""
import math
import re
from collections.abc import Iterable, Mapping

import rich.table
from rich import box
from rich.markup import escape

from gi.report.tables import Table, console_table, marked, print_table

__all__ = ["ROWS", "VIDEO_ROWS", "comparison_table", "each_video", "method_of", "name_of_run", "print_table",
           "result_rows", "result_table", "video_rows"]

METHODS = {
    "lama_spectralfuse": "LaMa + SpectralFuse",
    "lama": "LaMa",
    "transformer": "Transformer",
    "ours_no_ffc": "ours w/o FFC",
    "ours": "ours",
    "ours_big": "ours (big)",
}
TITLES = {"none": "table 1", "two": "table 4", "four": "table 2"}  # by number of keyframes


def _row(fid, lpips, lpips_std, ssim, ssim_std):
    return {"fid": fid, "lpips": {"mean": lpips, "std": lpips_std}, "ssim": {"mean": ssim, "std": ssim_std}}


ROWS = {
    "none": {
        "transformer": _row(15.19, 0.173, 0.072, 0.814, 0.097),
        "ours_no_ffc": _row(14.19, 0.155, 0.075, 0.831, 0.096),
        "lama": _row(13.73, 0.147, 0.077, 0.836, 0.096),
        "ours": _row(13.15, 0.145, 0.074, 0.837, 0.095),
    },
    "two": {
        "lama_spectralfuse": _row(26.74, 0.212, 0.116, 0.759, 0.139),
        "transformer": _row(18.87, 0.181, 0.096, 0.802, 0.130),
        "ours_no_ffc": _row(17.62, 0.157, 0.091, 0.833, 0.118),
        "ours": _row(16.90, 0.154, 0.089, 0.834, 0.118),
        "ours_big": _row(15.45, 0.148, 0.084, 0.849, 0.111),
    },
    "four": {
        "lama_spectralfuse": _row(26.40, 0.211, 0.115, 0.794, 0.138),
        "transformer": _row(18.18, 0.175, 0.094, 0.821, 0.128),
        "ours_no_ffc": _row(14.78, 0.140, 0.082, 0.851, 0.110),
        "ours": _row(14.29, 0.137, 0.080, 0.848, 0.110),
        "ours_big": _row(13.09, 0.130, 0.074, 0.865, 0.101),
    },
}

# Name in our scores: label, decimals, whether higher is better.
MEASURES = {
    "fid": ("FID", 2, False),
    "lpips": ("LPIPS", 3, False),
    "ssim": ("SSIM", 3, True),
    "psnr": ("PSNR", 2, True),
    "l1": ("L1", 4, False),
    "ssim_hole": ("SSIM in the hole", 3, True),
    "psnr_hole": ("PSNR in the hole", 2, True),
    "l1_hole": ("L1 in the hole", 4, False),
    "lpips_fid_f1": ("F1 of LPIPS and FID", 3, True),
    "ssim_fid_f1": ("F1 of SSIM and FID", 3, True),
}
# Table 3: video, 20 frames apart, with 14 or 6 keyframes each; SSIM there is of data range 2.
VIDEO_ROWS = {
    "14, prealigned": {"fid": 4.34, "lpips": 0.0034, "ssim2": 0.9630, "vfid": 0.0543, "pvcs": 0.2263, "pcons": 42.39},
    "14": {"fid": 4.45, "lpips": 0.0042, "ssim2": 0.9597, "vfid": 0.0542, "pvcs": 0.2339, "pcons": 41.45},
    "6": {"fid": 4.68, "lpips": 0.0051, "ssim2": 0.9581, "vfid": 0.0561, "pvcs": 0.2443, "pcons": 41.14},
}
VIDEO_MEASURES = {
    "fid": ("FID", 2, False),
    "lpips": ("LPIPS", 4, False),
    "ssim2": ("SSIM, data range 2", 4, True),
    "vfid": ("VFID", 4, False),
    "vfid_clips": ("VFID of clips", 4, False),
    "pvcs": ("PVCS", 4, False),
    "pcons": ("PCons", 2, True),
    "psnr": ("PSNR", 2, True),
    "ssim": ("SSIM", 4, True),
    "psnr_hole": ("PSNR in the hole", 2, True),
    "ssim_hole": ("SSIM in the hole", 4, True),
    "warp_error": ("warp error", 5, False),
    "warp_error_hole": ("warp error in the hole", 5, False),
}
_SIDE_BY_SIDE = ("fid", "lpips", "ssim", "psnr", "l1")


def set_of(name: str) -> str | None:
    """Which of the paper's sets a set's name stands for: "two", or "two_keyframes" -> "two"; None for others."""
    match = re.match(r"(none|two|four)(?![a-z0-9])", name.lower())
    return match[1] if match else None


def method_of(run: str, set_name: str) -> str | None:
    """Key of the paper's row that a run on a set compares with, by the name of its configuration; None for no row.

    The time in front that folders of runs have does not count. Without keyframes the paper trained without them too:
    that row is for the configurations "*_unguided", and for LaMa, which never sees any.

    >>> method_of("2026-01-31T12-00-00_ours", "four"), method_of("ours_unguided", "none"), method_of("ours", "none")
    ('ours', 'ours', None)
    """
    run = re.sub(r"^\d{4}-\d{2}-\d{2}T\d{2}-\d{2}-\d{2}_", "", run.rstrip("/").rpartition("/")[2])
    model, unguided = run.removesuffix("_unguided"), run.endswith("_unguided")
    if unguided and model == "lama_spectralfuse":
        model = "lama"  # with nothing to fuse it is the same network
    which = set_of(set_name)
    if which is None or (which == "none") != (unguided or model == "lama"):
        return None
    return model if model in ROWS[which] else None


def name_of_run(*names: str) -> str:
    """The first of these names that the paper has a row for on any set, or else the last one."""
    return next((name for name in names if any(method_of(name, which) for which in ROWS)), names[-1])


def result_table(result: Mapping, run: str, set_name: str) -> rich.table.Table:
    """`result_rows` for the console."""
    return console_table(result_rows(result, run, set_name))


def result_rows(result: Mapping, run: str, set_name: str) -> Table:
    """One run on one set, measures below each other: composite, the paper's row and the difference, raw prediction.

    result: as `ImageScores.to_dict()` gives it, {"count", "totals", ...}; without masks ("masks": False) there is one
    score of the whole image.
    """
    method, totals, masks = method_of(run, set_name), result["totals"], result.get("masks", True)
    heading, note = ["", "composite" if masks else "whole image"], ""
    if method is not None:
        heading += [f"paper, {TITLES[set_of(set_name)]}", "difference"]
        if result["count"] != 2000:
            note = "The paper's 2,000 images are of Places; other images have other scores."
    reported = ROWS[set_of(set_name)][method] if method is not None else {}
    rows, marks = [], {}
    for key, (_, decimals, _) in MEASURES.items():
        if key not in totals["composite"] or (key.endswith("_hole") and not masks):
            continue
        cells = [measure(key), score_text(totals["composite"][key], decimals)]
        if key in reported:
            difference, mark = _difference(totals["composite"][key], reported[key], key)
            cells += [score_text(reported[key], decimals), difference]
            if mark:
                marks[len(rows), 3] = mark
        elif method is not None:
            cells += ["", ""]
        rows.append(cells + [score_text(totals["raw"][key], decimals)] * bool(masks))
    title = f"{run} on {set_name}: {result['count']:,} image{'' if result['count'] == 1 else 's'}"
    return Table([*heading, *["raw prediction"] * bool(masks)], rows, marks, title, note)


def bin_rows(result: Mapping) -> Table:
    """Mean scores of the composites per tenth of hole area, tenths without images left out; `result` as above."""
    keys = [key for key in MEASURES if key in result["totals"]["composite"]]
    rows = [[entry["range"].replace("-", "–"), f"{entry['count']:,}",
             *(score_text(_mean(entry["composite"][key]), MEASURES[key][1]) for key in keys)]
            for entry in result["bins"] if entry["count"]]
    return Table(["hole", "images", *map(measure, keys)], rows, title="Composites, means by size of the hole")


def video_rows(result: Mapping) -> Table:
    """Means over videos, measures below each other, beside Table 3 of the paper.

    result: as `VideoScores.compute()` gives it, with "run" and "set".
    """
    rows = []
    for key, (_, decimals, _) in VIDEO_MEASURES.items():
        if key in result["totals"]:
            score = result["totals"][key] if result["count"] > 1 else _mean(result["totals"][key])
            reported = [score_text(row[key], decimals) if key in row else "" for row in VIDEO_ROWS.values()]
            rows.append([measure(key, VIDEO_MEASURES), score_text(score, decimals), *reported])
    heading = ["", "composite", *(f"paper, {row}" for row in VIDEO_ROWS)]
    title = f"{result['run']} on {result['set']}: {_number(result['count'], 'video')}, " \
            f"{_number(result['frames'], 'frame')}"
    note = "The paper's numbers (table 3, by keyframes) are of its own videos and masks; others have other scores."
    return Table(heading, rows, title=title, note=note)


def each_video(result: Mapping) -> Table:
    """A row a video; `result` as above."""
    keys = [key for key in VIDEO_MEASURES if any(key in video for video in result["videos"])]
    rows = [[video["name"], f"{video['frames']:,}", f"{100 * video['hole_area']:.1f}%",
             *(score_text(video[key], VIDEO_MEASURES[key][1]) for key in keys)] for video in result["videos"]]
    return Table(["video", "frames", "hole", *(measure(key, VIDEO_MEASURES) for key in keys)], rows,
                 title="Each video")


def comparison_table(results: Iterable[tuple[str, Mapping]], set_name: str) -> rich.table.Table:
    """Several runs on one set below each other, [(name, result)], after the paper's rows; composites, the best bold."""
    results, which = list(results), set_of(set_name)
    keys = [key for key in _SIDE_BY_SIDE if any(key in result["totals"]["composite"] for _, result in results)]
    table = rich.table.Table(title=escape(f"{set_name}: composites"), box=box.SIMPLE_HEAD)
    table.add_column("")
    table.add_column("images", justify="right")
    for key in keys:
        table.add_column(measure(key), justify="right", no_wrap=True)
    for method, row in ROWS.get(which, {}).items():
        cells = [score_text(row[key], MEASURES[key][1]) if key in row else "" for key in keys]
        table.add_row(f"{METHODS[method]} (paper, {TITLES[which]})", "2,000", *cells, style="dim")
    if which is not None:
        table.add_section()
    best = {key: _best([_mean(result["totals"]["composite"].get(key)) for _, result in results], MEASURES[key][2])
            for key in keys}
    for name, result in results:
        scores, cells = result["totals"]["composite"], []
        for key in keys:
            text = score_text(scores[key], MEASURES[key][1]) if key in scores else ""
            cells.append(marked(text, "best" if len(results) > 1 and _mean(scores.get(key)) == best[key] else None))
        table.add_row(escape(name), f"{result['count']:,}", *cells)
        method = method_of(result.get("run", name), set_name) or method_of(name, set_name)
        if method is not None:
            cells = [marked(*_difference(scores[key], ROWS[which][method][key], key))
                     if key in scores and key in ROWS[which][method] else "" for key in keys]
            table.add_row(f"  against {METHODS[method]} (paper)", "", *cells)
    return table


def measure(key: str, measures: Mapping[str, tuple[str, int, bool]] = MEASURES) -> str:
    """Label of a score with the direction in which it gets better."""
    label, _, higher = measures[key]
    return f"{label} {'↑' if higher else '↓'}"


def _number(count: int, of: str) -> str:
    return f"{count:,} {of}{'' if count == 1 else 's'}"


def _mean(score: Mapping | float | None) -> float:
    if score is None:
        return math.nan
    return float(score["mean"] if isinstance(score, Mapping) else score)


def _best(values: list[float], higher: bool) -> float | None:
    values = [value for value in values if math.isfinite(value)]
    return (max if higher else min)(values) if values else None


def score_text(score: Mapping | float, decimals: int) -> str:
    """"0.145 ± 0.074", "13.15", or "n/a" for what there is no score of."""
    mean = _mean(score)
    if math.isnan(mean):
        return "n/a"
    spread = f" ± {score['std']:.{decimals}f}" if isinstance(score, Mapping) else ""
    return f"{mean:.{decimals}f}{spread}"


def _difference(score: Mapping | float, reported: Mapping | float, key: str) -> tuple[str, str | None]:
    """Text and whether that is better or worse."""
    _, decimals, higher = MEASURES[key]
    difference = _mean(score) - _mean(reported)
    if math.isnan(difference):
        return "n/a", None
    text = f"{difference:+.{decimals}f}"
    if float(text) == 0:
        return text, None
    return text, "better" if (difference > 0) == higher else "worse"
