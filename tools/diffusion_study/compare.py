"""Compares conditions over seeds, from the results of one or more runs of the study on the same clips.

    python -m tools.diffusion_study.compare study/results.json … --against downsampled

Models whose names differ only in a number at the end (symmetric_0, symmetric_1) are seeds of the same condition. For
each way to fill holes: the mean over seeds and clips ± its standard error over clips, with each seed's mean in
brackets, and the paired difference to the condition named by --against. For the borders: means ± standard errors over
seeds.
"""
import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gi.commands import script
from gi.errors import InputError
from gi.report.tables import Table, markdown_table
from tools.diffusion_study.study import BORDERS, WAYS, mean_text

GAINS = {"sample": "one sample: gain by the keyframe", "estimate": "first step's estimate: gain by the keyframe"}


def gathered(paths: Sequence[Path]) -> tuple[dict, dict]:
    """{set: {group: {way: (seeds, clips)}}} of PSNR, and {set: {"group: way": (seeds, 4)}} of the borders.

    Raises InputError for runs on other clips than the first one's.
    """
    contents = [json.loads(path.read_text()) for path in paths]
    scores: dict = {}
    borders: dict = {}
    for path, content in zip(paths, contents, strict=True):
        if content["psnr_hole"]["object"][""] != contents[0]["psnr_hole"]["object"][""]:
            raise InputError(f"{path}: of other clips than {paths[0]}")
        for name, models in content["psnr_hole"].items():
            for model, ways in models.items():
                if model:
                    kept = scores.setdefault(name, {}).setdefault(_group(model), {})
                    for way, values in ways.items():
                        kept.setdefault(way, []).append(np.array(values, float))
        for name, models in content["border"].items():
            for model, row in models.items():
                label, way = model.split(": ")
                borders.setdefault(name, {}).setdefault(f"{_group(label)}: {way}", []).append(list(row.values()))
    return ({name: {group: {way: np.stack(rows) for way, rows in ways.items()} for group, ways in groups.items()}
             for name, groups in scores.items()},
            {name: {label: np.array(rows) for label, rows in labels.items()} for name, labels in borders.items()})


def _group(model: str) -> str:
    return re.sub(r"[_-]?\d+$", "", model)


def score_table(groups: dict[str, dict[str, np.ndarray]], against: str | None) -> Table:
    """The table of one set's `gathered` scores."""
    for ways in groups.values():
        for way in GAINS:
            ways[f"{way}_gain"] = ways[way] - ways[f"{way}_alone"]
    labels = {way: label for way, label in WAYS.items() if way in next(iter(groups.values()))}
    labels |= {f"{way}_gain": label for way, label in GAINS.items()}
    rivals = [group for group in groups if against in groups and group != against]
    rows = []
    for way, label in labels.items():
        cells = [_text(ways[way]) for ways in groups.values()]
        for group in rivals:
            ours, theirs = groups[group][way], groups[str(against)][way]
            pairs = min(len(ours), len(theirs))
            cells.append(_text(ours[:pairs] - theirs[:pairs], "+"))
        rows.append([label, *cells])
    return Table(["PSNR in the holes, dB", *groups, *(f"{group} − {against}" for group in rivals)], rows)


def _text(values: np.ndarray, sign: str = "") -> str:
    """values: (seeds, clips), not finite where a clip has no hole."""
    clips = values[:, np.isfinite(values).all(axis=0)]
    seeds = ", ".join(f"{x:{sign}.2f}" for x in clips.mean(axis=1))
    return mean_text(clips.mean(axis=0), f"{sign}.2f") + (f" ({seeds})" if len(clips) > 1 else "")


def border_table(labels: dict[str, np.ndarray]) -> Table:
    """The table of one set's `gathered` errors at the borders."""
    rows = []
    for label, values in sorted(labels.items(), key=lambda item: item[0].split(": ")[::-1]):
        rows.append([label, *(mean_text(column) for column in values.T)])
    return Table(["error at the border, 1/255", *BORDERS], rows)


def main(argv: list[str] | None = None) -> int:
    parser = script.Parser(prog="python -m tools.diffusion_study.compare", description=__doc__,
                           formatter_class=script.Layout)
    parser.add_argument("results", nargs="+", type=Path, metavar="FILE", help="results.json of the study")
    parser.add_argument("--against", metavar="NAME", help="condition the others are compared with, such as downsampled")
    args = parser.parse_args(argv)
    scores, borders = gathered(args.results)
    for name in scores:
        print(f"\n{name}\n", *markdown_table(score_table(scores[name], args.against)), "",
              *markdown_table(border_table(borders[name])), sep="\n")
    return 0


if __name__ == "__main__":
    script.run(main)
