"""Ablation study of the video pipeline; also draws the pictures of docs/video.md.

    python -m tools.video_study data/davis --out docs/video

DAVIS: a folder of VIDEO/frames and VIDEO/masks, two videos or more. Every video is filled with its own masks, and with
those of the next video moving over it, where the ground truth is known. Writes results.json, table.md, scores.png and,
per case, a strip of frames and a slice through time.
"""
import json
from pathlib import Path

from gi.commands import script
from gi.media import io
from gi.video.method import METHODS
from tools.video_study import study


def main(argv: list[str] | None = None) -> int:
    parser = script.Parser(prog="python -m tools.video_study", description=__doc__, formatter_class=script.Layout)
    parser.add_argument("root", metavar="DAVIS", type=Path)
    parser.add_argument("--method", action="append", metavar="NAME", help=f"{', '.join(METHODS)} or package.module.Name"
                        ", with options: 'NAME key=value …'; repeatable; default: the pipeline's steps and all others")
    parser.add_argument("--checkpoint", help="default: the small one of this repository")
    parser.add_argument("--config", help="the network's YAML; default: that of the run the checkpoint is in")
    parser.add_argument("--flow", help="raft or dis; default: as in training")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--frames", type=int, default=100, help="of every video, at most")
    script.allow_option(parser)
    parser.add_argument("--device", default="auto")
    args = parser.parse_args(argv)

    offered = {name: getattr(args, name) for name in ("checkpoint", "config", "flow", "device")
               if getattr(args, name) is not None}
    script.trust(args.method)
    methods = study.methods(args.method or (), offered)
    cases = study.cases(args.root, longest=args.frames)
    rows = {}
    with script.progress("videos filled", len(cases) * len(methods)) as advance:
        for case in cases:
            results = {}
            for name, method in methods.items():
                rows[case.name, name], results[name] = study.measure(case, method)
                advance()
            study.write_pictures(args.out, case, results)
    table = study.table(rows)
    study.plot(args.out / "scores.png", rows)
    with io.atomic_write(args.out / "results.json") as temporary:
        temporary.write_text(json.dumps([{"case": case, "method": method, **row} for (case, method), row
                                         in rows.items()], indent=1, default=float) + "\n")
    with io.atomic_write(args.out / "table.md") as temporary:
        temporary.write_text(table)
    print(table)
    return 0


if __name__ == "__main__":
    script.run(main)
