"""Trains a small network of every family with the same budget, seed and data, and compares them.

    python -m tools.train_small --train PHOTOGRAPHS --test OTHER_PHOTOGRAPHS --out logs/small
    python -m tools.train_small --train A --test B --out logs/small --only ours lama:1 --steps 200 --count 20 --seeds 1

If interrupted, the same command continues. OUT gets report.html, report.md and results.json with the scores inside the
holes, learning curves, training time and size of each family.
"""
from pathlib import Path

from gi.commands import script
from gi.errors import InputError
from gi.report.tables import print_table
from tools.families import EXTRA, Budget, families, gather, named, run_family


def main(argv: list[str] | None = None) -> None:
    known = families()
    parser = script.Parser(prog="python -m tools.train_small", description=__doc__, formatter_class=script.Layout)
    parser.add_argument("--train", type=Path, default=Path("data/photos/train"), help="photographs to train on")
    parser.add_argument("--test", type=Path, default=Path("data/photos/val"), help="photographs to score on")
    parser.add_argument("--out", type=Path, default=Path("logs/small"), help="folder of all runs and the report")
    parser.add_argument("--only", nargs="+", metavar="FAMILY[:SEED]",
                        default=[name for name in known if name not in EXTRA],
                        help=f"some of {', '.join(known)}, with a seed of the weights, 0 by default; default: all but "
                             f"{' and '.join(EXTRA)}")
    parser.add_argument("--steps", type=int, help="optimiser steps; default: as configured")
    parser.add_argument("--count", type=int, help="samples a test set; default: one a photograph")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds of the test samples")
    parser.add_argument("--report", action="store_true", help="only report what has been trained so far")
    args = parser.parse_args(argv)
    for name in args.only:
        named(name)
    for option in "steps", "count", "seeds":
        if (number := getattr(args, option)) is not None and number < 1:
            raise InputError(f"--{option}: expected at least 1, got {number}")
    budget = Budget(train=args.train, test=args.test, steps=args.steps, count=args.count, seeds=args.seeds)
    for name in args.only if not args.report else ():
        run_family(name, args.out, budget)
    tables, facts, _ = gather(args.only, args.out)
    for table in tables:
        print_table(table)
    for name, text in facts:
        print(f"{name}: {text}")
    print(f"report: {args.out / 'report.html'}")


if __name__ == "__main__":
    script.run(main)
