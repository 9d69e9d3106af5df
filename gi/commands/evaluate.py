"""Scores the pictures of any method with the code that scores our own.

    gi evaluate data/my_validation other_method/ --masks data/my_validation --out other.json

Files are matched by their names, whatever their suffix. With masks (bright = missing, see docs/masks.md), composites
are scored too, inside the hole as well. FID and LPIPS need weights (gi fetch inception vgg16), and are left out
without them.
Pictures that are missing or bad are left out and reported, and the exit status is 1. Results written with --out can be
set beside others with `gi compare`.
"""
import sys
from pathlib import Path

from gi.commands import script
from gi.errors import InputError


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status. Raises InputError."""
    parser = script.Parser(prog="gi evaluate", description=__doc__, formatter_class=script.Layout)
    parser.add_argument("truth", metavar="TRUTH", type=Path, help="folder of the complete images")
    parser.add_argument("predictions", metavar="PREDICTIONS", type=Path, help="folder of a method's results")
    parser.add_argument("--masks", type=Path, help="folder of masks; may be TRUTH")
    parser.add_argument("--metrics", nargs="+", metavar="METRIC",
                        help="some of those of docs/metrics.md, or module.name; default: all whose weights are there")
    parser.add_argument("--out", type=Path, metavar="F.json", help="write results there, and a table to F.csv")
    parser.add_argument("--name", help="name of the method; default: the folder's")
    parser.add_argument("--set", help="name of the set; default: TRUTH's")
    parser.add_argument("--paper", metavar="TABLE:ROW", help="row of the paper to show as well, such as 4:ours")
    parser.add_argument("--cache", type=Path, default=Path("~/.cache/gi"), help="folder that caches features of images")
    parser.add_argument("--batch-size", type=int, default=8)
    script.allow_option(parser)
    parser.add_argument("--device", help="default: a CUDA GPU if there is one, else the CPU")
    args = parser.parse_args(argv)
    if args.out is not None and args.out.suffix != ".json":
        raise InputError(f"--out {args.out}: expected a name ending in .json")
    if args.batch_size < 1:
        raise InputError(f"--batch-size: expected at least 1, got {args.batch_size}")
    from gi.config.device import cuda_or_cpu
    from gi.metrics.feature_cache import CachedFeatures
    from gi.metrics.folder import build_metrics, find_pairs, score_pairs
    from gi.metrics.functional import IMAGE_METRICS
    from gi.metrics.metric import with_weights
    from gi.report.paper import parse_row
    from gi.report.results import describe, write_results
    from gi.report.scores import score_table
    from gi.report.tables import print_table
    device, row = cuda_or_cpu(args.device), parse_row(args.paper) if args.paper else None

    pairs, problems = find_pairs(args.truth, args.predictions, args.masks)
    script.trust(args.metrics)
    names, notes = (args.metrics, []) if args.metrics else with_weights(IMAGE_METRICS)
    metrics = build_metrics(names, cache=args.cache.expanduser()).to(device)
    with script.progress("images", len(pairs)) as advance:
        scores, unreadable = score_pairs(pairs, metrics, batch_size=args.batch_size, advance=advance)
    problems |= unreadable
    remarks = scores.remarks(masks=args.masks is not None)
    if args.masks is not None and scores.count:
        share = sum(image["hole_area"] for image in scores.images) / scores.count
        remarks.insert(0, f"{args.masks}: {100 * share:.2f} % missing on average")
    for line in [*(f"not computed: {note}" for note in notes), *(["; ".join(remarks)] if remarks else [])]:
        print(line, file=sys.stderr)
    run, name = args.name or args.predictions.resolve().name, args.set or args.truth.resolve().name
    metadata = {"masks": args.masks is not None, "problems": problems}
    result = describe(scores, run=run, set_name=name, paper=row, metadata=metadata)
    if args.out is not None:
        write_results(result, args.out)
    if scores.count:
        print_table(score_table(result))
    for network in metrics.networks.values():
        if isinstance(network, CachedFeatures) and network.cached:
            print(f"features of {network.cached} images came from {args.cache}")
    return script.report_problems(problems, total=scores.count + len(problems))
