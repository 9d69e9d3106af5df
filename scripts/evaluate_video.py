"""Scores anyone's inpainted videos as the paper's table 3 does, and shows them beside the truth.

    python scripts/evaluate_video.py data/devil/input other_method/ --out other_report
    python scripts/evaluate_video.py data/davis other_method/
    python scripts/evaluate_video.py truth.mp4 filled.mp4 --masks holes.mp4

GT_AND_MASKS and PREDICTIONS are one of these, for one video or with a folder for each:
  the DEVIL benchmark's  frame_0000_gt.png, frame_0000_mask.png (black = missing!)  and  frame_0000_pred.png
  plain                  VIDEO/frames/*.png, VIDEO/masks/*.png (white = missing; of palettes: all but the first colour)
                         and  VIDEO/*.png  or  VIDEO.mp4
  files                  a video file, with --masks a video, folder or still (white = missing)  and  a video file
Composites are scored: the prediction in the hole, the truth elsewhere. PREDICTIONS_scores (or --out) gets report.html,
its pictures, results.json and results.csv. FID, LPIPS, VFID and PVCS need weights (checkpoints/README.md); those that
lack theirs are left out with a note. Videos that are missing or bad are left out and reported, and the exit status is
1; with --strict, the first stops everything.
"""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the package need not be installed

import gi  # noqa: F401  before everything that imports torchvision

# isort: split
import torch

from gi.commands import script
from gi.config.device import find_device
from gi.metrics.metric import choices, with_weights
from gi.metrics.video import VIDEO_METRICS
from gi.metrics.video_folder import find_videos, name_of
from gi.metrics.video_scores import VideoScores
from gi.report.paper import parse_row
from gi.report.results import write_results
from gi.report.scores import score_table
from gi.report.tables import print_table
from gi.report.video import write_page
from gi.video.evaluation import open_clips, score_clips, stop_at


def main() -> int:
    parser = script.Parser(description=__doc__, formatter_class=script.Layout)
    parser.add_argument("truth", metavar="GT_AND_MASKS", type=Path, help="complete videos and their masks")
    parser.add_argument("predictions", metavar="PREDICTIONS", type=Path, help="what a method made of them")
    parser.add_argument("--masks", type=Path, help="video, folder or still, if GT_AND_MASKS is only a video")
    parser.add_argument("--invert-masks", action="store_true", help="masks are the other way round than said above")
    parser.add_argument("--metrics", nargs="+", metavar="METRIC", help="some of "
                        f"{', '.join(choices(VIDEO_METRICS))}, or module.name; None: all whose weights are there")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the report; None: PREDICTIONS_scores")
    parser.add_argument("--name", help="name of the method; None: that of PREDICTIONS")
    parser.add_argument("--set", help="name of the set; None: that of GT_AND_MASKS")
    parser.add_argument("--paper", metavar="TABLE:ROW", help="row of the paper to stand beside, such as 3:14_keyframes")
    parser.add_argument("--strict", action="store_true", help="stop at the first video that is missing or bad")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    device, row = find_device(args.device), parse_row(args.paper) if args.paper else None

    pairs, problems = find_videos(args.truth, args.predictions, args.masks, inverted=args.invert_masks)
    clips, unfit = open_clips(pairs)
    problems |= unfit
    if args.strict:
        stop_at(problems)
    metrics, notes = (args.metrics, []) if args.metrics else with_weights(VIDEO_METRICS)
    for note in notes:
        print(f"not computed: {note}", file=sys.stderr)
    scores = VideoScores(metrics=metrics, device=device)
    run, name = args.name or name_of(args.predictions), args.set or name_of(args.truth)
    out = args.out or args.predictions.resolve().with_name(f"{name_of(args.predictions)}_scores")
    with script.progress("frames", sum(clip.count for clip in clips)) as advance:
        found, films, unreadable = score_clips(clips, scores, out, advance=advance, strict=args.strict)
    problems |= unreadable

    settings = {"truth": args.truth, "predictions": args.predictions, "masks": args.masks,
                "metrics": ", ".join(metrics), "inverted masks": args.invert_masks, "left out": ", ".join(problems)}
    settings = {name: str(value) for name, value in settings.items() if value}
    result = {"run": run, "set": name, **found, "settings": settings, "not computed": notes, "problems": problems}
    result |= {"paper": vars(row)} if row else {}
    write_results(result, out / "results.json")
    write_page(out / "report.html", result, films, [*settings.items(), *(("not computed", note) for note in notes)])
    print_table(score_table(result))
    print(f"{out / 'report.html'} shows each video")
    return script.report_problems(problems, total=found["count"] + len(problems))


if __name__ == "__main__":
    script.run(main)
