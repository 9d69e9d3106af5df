"""Scores inpainted videos of any method as the paper's table 3 does, and shows them beside the ground truth.

    gi evaluate-video data/devil/input other_method/ --out other_report
    gi evaluate-video truth.mp4 filled.mp4 --masks holes.mp4
    gi evaluate-video data/davis ours/ --method keyframes --method "flow max_side=432"

A video is a file, a folder of the DEVIL benchmark, or VIDEO/frames with VIDEO/masks; or a folder of several of them
(docs/commands.md). PREDICTIONS_scores (or --out) gets report.html, its pictures, results.json and results.csv. With
--method, the holes are filled first, into a folder for each method below PREDICTIONS. Exit status: 1 if videos are
missing or bad, which are left out.
"""
import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from gi.commands import script
from gi.errors import InputError

if TYPE_CHECKING:
    from gi.metrics.video_folder import Clip
    from gi.report.paper import Row
    from gi.report.tables import Table
    from gi.video.method import VideoMethod


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status. Raises InputError."""
    parser = script.Parser(prog="gi evaluate-video", description=__doc__, formatter_class=script.Layout)
    parser.add_argument("truth", metavar="GT_AND_MASKS", type=Path, help="complete videos and their masks")
    parser.add_argument("predictions", metavar="PREDICTIONS", type=Path, help="a method's results")
    parser.add_argument("--method", action="append", metavar="NAME", help="fill the videos by it first: "
                        "'NAME key=value …' as in gi inpaint-video --help; repeatable")
    parser.add_argument("--masks", type=Path, help="video, folder or still, if GT_AND_MASKS is only a video")
    parser.add_argument("--invert-masks", action="store_true", help="masks are inverted: known and missing exchanged")
    parser.add_argument("--metrics", nargs="+", metavar="METRIC", help="some of those of docs/metrics.md, or "
                        "module.name; default: all for videos whose weights are there")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the report; default: PREDICTIONS_scores")
    parser.add_argument("--name", help="name of the method; default: that of PREDICTIONS")
    parser.add_argument("--set", help="name of the set; default: that of GT_AND_MASKS")
    parser.add_argument("--paper", metavar="TABLE:ROW", help="row of the paper to show as well, such as 3:14_keyframes")
    parser.add_argument("--fps", help="frames per second of folders, for the page's films; default: 25")
    parser.add_argument("--strict", action="store_true", help="stop at the first video that is missing or bad")
    script.allow_option(parser)
    parser.add_argument("--device", help="default: a CUDA GPU if there is one, else the CPU")
    args = parser.parse_args(argv)
    from gi.config.device import cuda_or_cpu
    from gi.media.files import parse_rate
    from gi.metrics.metric import with_weights
    from gi.metrics.video import VIDEO_METRICS
    from gi.metrics.video_folder import find_videos, name_of
    from gi.report.paper import parse_row
    from gi.report.results import file_name
    from gi.report.tables import print_table
    from gi.video.evaluation import only_common, open_clips, side_by_side, stop_at
    from gi.video.method import build_method
    args.device = str(cuda_or_cpu(args.device))
    args.fps = parse_rate(args.fps)
    row = parse_row(args.paper) if args.paper else None
    script.trust([*(args.metrics or ()), *(args.method or ())])
    metrics, notes = (args.metrics, []) if args.metrics else with_weights(VIDEO_METRICS)
    out = args.out or args.predictions.resolve().with_name(f"{name_of(args.predictions)}_scores")
    if args.method is None:
        pairs, problems = find_videos(args.truth, args.predictions, args.masks, inverted=args.invert_masks)
        clips, unfit = open_clips(pairs, args.fps)
        name = args.name or name_of(args.predictions)
        return score(args, clips, problems | unfit, name, out, metrics, notes, row)[0]
    methods = {text: build_method(text, offered={"device": args.device}) for text in args.method}
    filled = {text: fill(args, method, args.predictions / file_name(text)) for text, method in methods.items()}
    statuses, tables, common = [], {}, only_common(filled)
    if not any(clips for clips, _ in common.values()):
        stop_at(next(problems for _, problems in common.values()))
    for text, (clips, problems) in common.items():
        if not clips:
            print(f"{text}: no video is left to score", file=sys.stderr)
            statuses.append(script.report_problems(problems, total=len(problems)))
            continue
        status, tables[text] = score(args, clips, problems, text, out / file_name(text), metrics, notes, row)
        statuses.append(status)
    if len(tables) > 1:
        print_table(side_by_side(tables))
    return max(statuses)


def fill(args: argparse.Namespace, method: "VideoMethod", folder: Path) -> tuple[list["Clip"], dict[str, str]]:
    """Ground truth with the method's results, in `folder`, and {name: what is wrong} of the others."""
    from gi.metrics.video_folder import find_videos
    from gi.video.evaluation import fill_video, open_clips, stop_at
    truths, problems = find_videos(args.truth, None, args.masks, inverted=args.invert_masks)
    pairs = []
    for pair in truths:
        try:
            script.follow(fill_video(pair, method, folder / pair.name), f"{folder.name}, {pair.name}")
            pairs.append(replace(pair, prediction=folder / pair.name))
        except InputError as error:
            problems[pair.name] = str(error)
            if args.strict:
                stop_at(problems)
    clips, unfit = open_clips(pairs, args.fps)
    if args.strict:
        stop_at(unfit)
    return clips, problems | unfit


def score(args: argparse.Namespace, clips: list["Clip"], problems: dict[str, str], run: str, out: Path,
          metrics: Sequence[str], notes: Sequence[str], row: "Row | None") -> tuple[int, "Table"]:
    """The exit status and the table of scores of predictions, after files and a page about them."""
    from gi.metrics.video_folder import name_of
    from gi.metrics.video_scores import VideoScores
    from gi.report.results import write_results
    from gi.report.scores import score_table
    from gi.report.tables import print_table
    from gi.report.video import write_page
    from gi.video.evaluation import score_clips, stop_at
    if args.strict or not clips:
        stop_at(problems)
    for line in (*(remark for clip in clips for remark in clip.remarks), *(f"not computed: {note}" for note in notes)):
        print(line, file=sys.stderr)
    scores = VideoScores(metrics=metrics, device=args.device)
    name = args.set or name_of(args.truth)
    with script.progress("frames", sum(clip.count for clip in clips)) as advance:
        summary, films, unreadable = score_clips(clips, scores, out, advance=advance, strict=args.strict)
    problems |= unreadable
    share = sum(video["hole_area"] for video in summary["videos"]) / summary["count"]
    mask = f"masks: {100 * share:.2f} % missing on average"
    for remark in [mask + "; if that is what is known, add --invert-masks" * (share > 0.5), *scores.remarks()]:
        print(remark, file=sys.stderr)

    settings = {"truth": args.truth, "predictions": args.predictions, "masks": args.masks,
                "metrics": ", ".join(metrics), "inverted masks": args.invert_masks, "left out": ", ".join(problems)}
    settings = {name: str(value) for name, value in settings.items() if value}
    result = {"run": run, "set": name, **summary, "settings": settings, "not computed": notes, "problems": problems}
    result |= {"paper": vars(row)} if row else {}
    write_results(result, out / "results.json")
    write_page(out / "report.html", result, films, [*settings.items(), *(("not computed", note) for note in notes)])
    table = score_table(result)
    print_table(table)
    print(f"{out / 'report.html'} shows each video")
    return script.report_problems(problems, total=summary["count"] + len(problems)), table
