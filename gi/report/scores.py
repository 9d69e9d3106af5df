"""Tables of results, ours and the paper's, as `ImageScores.to_dict` and `VideoScores.compute` give them.

Which columns and rows there are, and how they are written, is all in the "measures" of a result.
"""
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from gi.errors import InputError
from gi.metrics.metric import HOLE, mean, read_measures
from gi.report.paper import Row, find_row
from gi.report.tables import Table


def score_table(result: Mapping) -> Table:
    """One run on one set, measures below each other: composite, the paper's row and the difference, raw prediction.

    result: with "run" and "set"; "paper" (a table and a row) if it is to stand beside one. Without masks
    ("masks": False) there is one score of the whole image.
    """
    masks, row = result.get("masks", True), paper_row(result)
    totals = result["totals"] if "composite" in result["totals"] else {"composite": result["totals"]}  # videos: no raw
    views = list(totals) if masks else ["composite"]
    heading = ["", "composite" if masks else "whole image", *([row.label, "difference"] if row else []),
               *["raw prediction"] * ("raw" in views)]
    rows, marks = [], {}
    for key, measure in read_measures(result["measures"]).items():
        if key not in totals["composite"] or (key.endswith(HOLE) and not masks):
            continue
        values = {view: totals[view][key] if result["count"] > 1 else mean(totals[view][key]) for view in views}
        cells = [measure.heading, measure.text(values["composite"])]
        if row:
            text, mark = measure.difference(values["composite"], row.scores.get(key))
            cells += [measure.text(row.scores.get(key)), text]
            if mark:
                marks[len(rows), 3] = mark
        rows.append(cells + ([measure.text(values["raw"])] if "raw" in views else []))
    frames = f", {_count(result['frames'], 'frame')}" if "frames" in result else ""
    title = f"{result['run']} on {result['set']}: {_count(result['count'], 'video' if frames else 'image')}{frames}"
    return Table(heading, rows, marks, title, row.note if row else "")


def bin_table(result: Mapping) -> Table:
    """Mean scores of the composites per tenth of hole area, tenths without images left out."""
    measures = read_measures(result["measures"])
    rows = [[entry["range"].replace("-", "–"), f"{entry['count']:,}",
             *(measure.text(mean(entry["composite"][key])) for key, measure in measures.items())]
            for entry in result["bins"] if entry["count"]]
    return Table(["hole", "images", *(measure.heading for measure in measures.values())], rows,
                 title="Composites, means by size of the hole")


def video_table(result: Mapping) -> Table:
    """A row a video."""
    measures = {key: measure for key, measure in read_measures(result["measures"]).items()
                if any(key in video for video in result["videos"])}
    rows = [[video["name"], f"{video['frames']:,}", f"{100 * video['hole_area']:.1f}%",
             *(measure.text(video[key]) for key, measure in measures.items())] for video in result["videos"]]
    headings = [measure.heading for measure in measures.values()]
    return Table(["video", "frames", "hole", *headings], rows, title="Each video")


def comparison_table(results: Iterable[tuple[str, Mapping]], set_name: str, rows: Iterable[Row] = ()) -> Table:
    """Composites of several runs on one set, [(name, result)], below each other, the best bold if all are of the same
    images and holes; before them `rows` of the paper and those that the results state. Where one says how long it was
    trained, steps are a column. Without any masks, scores are those of whole images.
    """
    results, measures = list(results), {}
    alike = len({frozenset((image["name"], image["hole_area"]) for image in result["images"])
                 for _, result in results}) == 1
    stepped = any(result.get("step") for _, result in results)
    for _, result in results:
        measures |= {key: measure for key, measure in read_measures(result["measures"]).items()
                     if key not in measures and not key.endswith(HOLE)}
    totals_of = [[result["totals"]["composite"].get(key) for _, result in results] for key in measures]
    counts = [{total["count"] for total in totals if isinstance(total, Mapping)} for totals in totals_of]
    alike = alike and all(len(numbers) < 2 for numbers in counts)  # once, infinite scores were left out

    def texts(scores: Mapping) -> list[str]:
        return [measure.text(scores.get(key)) for key, measure in measures.items()]

    rows = list(dict.fromkeys([*rows, *(row for _, result in results if (row := paper_row(result)))]))
    count_headings = ["steps", "images"] if stepped else ["images"]
    blank = [""] * len(count_headings)
    lines = [([row.label, *blank, *texts(row.scores)], ["muted"] * (1 + len(blank) + len(measures))) for row in rows]
    best = [measure.best(totals) for measure, totals in zip(measures.values(), totals_of, strict=True)]
    for index, (name, result) in enumerate(results):
        totals = result["totals"]["composite"]
        steps = [f"{result['step']:,}" if result.get("step") else ""] if stepped else []
        lines.append(([name, *steps, f"{result['count']:,}", *texts(totals)],
                      ["", *blank, *("best" if alike and len(results) > 1 and first == index else ""
                                     for first in best)]))
        if row := paper_row(result):
            differences = [measure.difference(totals.get(key), row.scores.get(key))
                           for key, measure in measures.items()]
            lines.append(([f"  against {row.label}", *blank, *(text for text, _ in differences)],
                          ["", *blank, *(mark for _, mark in differences)]))
    marks = {(r, c): mark for r, (_, line) in enumerate(lines) for c, mark in enumerate(line) if mark}
    notes = [rows[0].note] if rows else []
    notes += [] if alike else ["The results are means of different images, so that none is the best."]
    of = "composites" if any(result.get("masks", True) for _, result in results) else "whole images"
    return Table(["", *count_headings, *(measure.heading for measure in measures.values())],
                 [cells for cells, _ in lines], marks, title=f"{set_name}: {of}", note=" ".join(notes))


def expect_masks_alike(results: Sequence[tuple[Path, Mapping]]) -> None:
    """Raises InputError, naming the file or run, if one of the results of a set is of whole images, without masks, and
    another one of composites.
    """
    without = [path for path, result in results if not result.get("masks", True)]
    if 0 < len(without) < len(results):
        raise InputError(f"{without[0]}: has scores of whole images, others of composites: evaluate it with --masks")


def paper_row(result: Mapping) -> Row | None:
    """The row of the paper that a result states. Raises InputError if there is no such row."""
    stated = result.get("paper")
    return find_row(stated.get("table"), stated.get("row")) if isinstance(stated, Mapping) else None


def _count(count: int, of: str) -> str:
    return f"{count:,} {of}{'' if count == 1 else 's'}"
