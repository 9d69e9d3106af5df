"""Prints the results of runs side by side, like Table 2 of the paper, with the rows of the paper that they state.

    gi compare logs/2026-01-31T12-00-00_ours logs/2026-02-03T09-30-00_lama other_method.json

A run is its folder, with metrics/<set>.json in it, or a file that `gi evaluate` wrote.
"""
from pathlib import Path

from gi.commands import script


def main(argv: list[str] | None = None) -> None:
    """Prints a table for each test set. Raises InputError for what is no run, or no row of the paper, and for results
    with and without masks beside each other.
    """
    parser = script.Parser(prog="gi compare", description=__doc__, formatter_class=script.Layout)
    parser.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="folder of a run, or a file of results")
    parser.add_argument("--paper", metavar="TABLE:ROW", action="append", default=[],
                        help="a row of the paper to show as well, such as 4:transformer; repeatable")
    args = parser.parse_args(argv)
    from gi.report.paper import parse_row
    from gi.report.results import read_run
    from gi.report.scores import comparison_table, expect_masks_alike
    from gi.report.tables import print_table
    rows = [parse_row(text) for text in args.paper]
    sets: dict[str, list] = {}
    for run in args.runs:
        for result in read_run(run):
            sets.setdefault(result["set"], []).append((run, result))
    for results in sets.values():
        expect_masks_alike(results)
    for name, results in sets.items():
        named = [(result["run"] if run.is_file() else run.resolve().name, result) for run, result in results]
        print_table(comparison_table(named, name, rows))
