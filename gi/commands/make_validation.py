"""Makes a validation set with keyframes from a folder of photographs.

    gi make-validation photographs data/my_validation --keyframes 4 --count 2000 --seed 0

The files are named as in the original release and load with gi.data.validation.GuidedFolder. The same command
continues an interrupted run. Files are stored without compression, 0.25 MB a frame at 256x256, so that they are the
same on every machine. Exit status: 1 if samples are missing because photographs are bad.
"""
import os
import sys
from pathlib import Path

from gi.commands import script


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status. Raises InputError."""
    parser = script.Parser(prog="gi make-validation", description=__doc__, formatter_class=script.Layout)
    parser.add_argument("images", metavar="IMAGES", type=Path, help="folder of photographs, with the folders below it")
    parser.add_argument("out", metavar="OUT", type=Path, help="folder of the set; new, or to be continued")
    parser.add_argument("--keyframes", type=int, default=4, help="per sample")
    parser.add_argument("--count", type=int, default=2000, help="number of samples, each of another photograph")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=256, help="side in pixels")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="number of processes")
    args = parser.parse_args(argv)
    from gi.data.make_validation import MANIFEST, Settings, make_validation
    settings = Settings(seed=args.seed, count=args.count, keyframes=args.keyframes, size=args.size)
    with script.progress("samples", args.count) as advance:
        outcome = make_validation(args.images, args.out, settings, workers=args.workers, advance=advance)
    for entry, reason in sorted(outcome.bad.items()):
        print(f"bad photograph: {entry}: {reason}", file=sys.stderr)
    kept = f", {outcome.kept} of them there before and intact" if outcome.kept else ""
    print(f"{args.out}: {outcome.count} samples{kept}; {MANIFEST} describes them")
    if outcome.count < args.count:
        print(f"{args.count - outcome.count} samples are missing, as {len(outcome.bad)} photographs are bad",
              file=sys.stderr)
    return int(outcome.count < args.count)
