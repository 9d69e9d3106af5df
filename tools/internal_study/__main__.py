"""Ablation study of internal learning on videos with ground truth; docs/internal.md shows the results.

    python -m tools.internal_study data/davis --out logs/internal_study --steps 1500

DAVIS: a folder of VIDEO/frames and VIDEO/masks, two videos or more. Writes results.json after every fit, and table.md.
Fits that results.json already has are not repeated.
"""
import functools
import json
import multiprocessing
from pathlib import Path

import numpy as np

from gi.commands import script
from gi.errors import InputError
from gi.media import io
from gi.report.results import write_json
from gi.report.tables import Table, markdown_table
from tools.internal_study import study


def main(argv: list[str] | None = None) -> int:
    parser = script.Parser(prog="python -m tools.internal_study", description=__doc__, formatter_class=script.Layout)
    parser.add_argument("root", metavar="DAVIS", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", type=int, nargs=2, default=(112, 64), metavar=("W", "H"))
    parser.add_argument("--frames", type=int, default=50, help="of every video, at most (default %(default)s)")
    parser.add_argument("--steps", type=int, default=1500, help="of every fit (default %(default)s)")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--variants", nargs="+", default=[*study.VARIANTS], choices=study.VARIANTS, metavar="NAME",
                        help=", ".join(study.VARIANTS))
    parser.add_argument("--cases", nargs="+", metavar="NAME", help="such as 'blackswan, centre' (default: all)")
    parser.add_argument("--jobs", type=int, default=1, help="processes, of one thread each")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bf16", action="store_true", help="fit in bfloat16 where that is safe")
    args = parser.parse_args(argv)

    path = args.out / "results.json"
    rows = json.loads(path.read_text())["fits"] if path.is_file() else []
    finished = {(row["case"], row["variant"], row["seed"]) for row in rows}
    selected = study.cases(args.root, tuple(args.size), args.frames)
    known = [case.name for case in selected]
    if unknown := set(args.cases or ()) - set(known):
        raise InputError(f"--cases {', '.join(sorted(unknown))}: expected some of {known}")
    selected = [case for case in selected if not args.cases or case.name in args.cases]
    rows += [study.baseline(case) for case in selected if (case.name, "cv2.inpaint", 0) not in finished]
    todo = [task for task in study.jobs(selected, args.variants, args.seeds)
            if (task[0].name, *task[1:]) not in finished]
    work = functools.partial(study.job, steps=args.steps, every=max(1, args.steps // 8), device=args.device,
                             bf16=args.bf16)
    with multiprocessing.get_context("spawn").Pool(args.jobs) as pool, script.progress("fits", len(todo)) as advance:
        for row in pool.imap_unordered(work, todo):
            rows.append(row)
            write_json(path, {"fits": rows})
            with io.atomic_write(args.out / "table.md") as temporary:
                temporary.write_text(table(rows), encoding="utf-8")
            advance()
    print(table(rows))
    return 0


def table(rows: list[dict]) -> str:
    """Means over seeds, for each case a table of variants; the spread is that between seeds."""
    text = ""
    for case in dict.fromkeys(row["case"] for row in rows):
        lines = []
        for variant in dict.fromkeys(row["variant"] for row in rows):
            own = [row for row in rows if (row["case"], row["variant"]) == (case, variant)]
            if own:
                spread = np.std([row["psnr_hole"] for row in own])
                lines.append([variant, f"{np.mean([row['psnr_hole'] for row in own]):.2f} ± {spread:.2f}",
                              *(f"{np.mean([row[name] for row in own]):.{digits}f}" for name, digits in
                                (("ssim_hole", 3), ("psnr", 2), ("ssim", 4), ("pcons", 2), ("warp_error_hole", 5))),
                              f"{np.mean([row['seconds'] for row in own]):.0f}", str(len(own))])
        heading = ["", "PSNR in the hole", "SSIM in the hole", "PSNR", "SSIM", "PCons", "warp error in the hole",
                   "CPU s", "seeds"]
        text += "\n".join([f"**{case}**", "", *markdown_table(Table(heading, lines)), "", ""])
    return text


if __name__ == "__main__":
    script.run(main)
