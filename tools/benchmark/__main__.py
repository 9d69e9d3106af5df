"""Times what users wait for, and compares it with a lower bound for this machine.

    gi benchmark --config configs/ours.yaml --out before.json
    gi benchmark --config configs/ours.yaml --paths predict train_step --precision bf16-mixed
    gi benchmark --compare before.json after.json

Paths: data, flow, predict, train_step, evaluate, fid, video, video_targets, internal (docs/speed.md). Networks have
random weights, and so have auxiliary networks whose files are missing: times do not depend on weights. On a CPU
everything can take half an hour with a large network.
"""
from pathlib import Path

from gi.commands import script
from gi.errors import InputError


def main(argv: list[str] | None = None) -> None:
    """Raises InputError."""
    parser = script.Parser(prog="gi benchmark", description=__doc__, formatter_class=script.Layout)
    parser.add_argument("--config", type=Path, metavar="F.yaml", help="configuration of the networks to time")
    parser.add_argument("--paths", nargs="+", metavar="PATH", help="some of the paths above; default: all")
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="timed laps of each, after the warm-up")
    script.allow_option(parser)
    parser.add_argument("--device", default="auto", help="auto, cuda, cuda:1, mps, cpu")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads; default: as many as torch takes")
    parser.add_argument("--precision", default="32-true", help="as of Lightning's Trainer")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--size", type=int, default=256, metavar="N", help="images of N x N; videos are 432x240")
    parser.add_argument("--out", type=Path, metavar="F.json", help="write the results to this file")
    parser.add_argument("--compare", nargs=2, type=Path, metavar=("A.json", "B.json"), help="compare two such files")
    args = parser.parse_args(argv)
    import cv2
    import torch

    from gi.config import load_config
    from gi.config.device import find_device
    from gi.report.results import write_json
    from gi.report.tables import print_table
    from tools.benchmark.parts import PRECISIONS, Settings
    from tools.benchmark.paths import PATHS
    from tools.benchmark.report import read_report, run_paths
    from tools.benchmark.table import benchmark_table, comparison_table, differences, remarks
    if args.compare:
        first, second = map(read_report, args.compare)
        print_table(comparison_table(first, second, tuple(path.stem for path in args.compare)))
        for line in differences(first, second):
            print(f"differs: {line}")
        return
    args.paths = args.paths or list(PATHS)
    for option, names, known in ("--paths", args.paths, PATHS), ("--precision", [args.precision], PRECISIONS):
        for name in names:
            if name not in known:
                raise InputError(f"{option} {name}: expected one of {', '.join(known)}")
    if args.config is None:
        raise InputError("nothing to do: give --config F.yaml or --compare A.json B.json (--help lists the options)")
    if args.out is not None and args.out.suffix != ".json":
        raise InputError(f"--out {args.out}: expected a name ending in .json")
    if args.threads is not None:
        if args.threads < 1:
            raise InputError(f"--threads: expected at least 1, got {args.threads}")
        torch.set_num_threads(args.threads)
        cv2.setNumThreads(args.threads)
    settings = Settings(config=load_config(args.config), device=find_device(args.device), precision=args.precision,
                        batch_size=args.batch_size, size=args.size, repeats=args.repeats)
    with script.progress("paths", len(args.paths)) as advance:
        # After every path, so that an interruption does not lose what is done.
        report = run_paths(settings, args.paths, name=args.config.stem, advance=advance,
                           keep=lambda report: args.out and write_json(args.out, report))
    print_table(benchmark_table(report))
    for line in remarks(report):
        print(line)


if __name__ == "__main__":
    script.run(main)
