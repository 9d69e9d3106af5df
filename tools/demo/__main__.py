"""Shows what the project can do, then what training looks like.

    ./scripts/demo.sh                   # both parts: three minutes
    ./scripts/demo.sh --no-training     # the first part alone
    ./scripts/demo.sh --max_steps 200   # any option of gi train

Part 1 fills photographs and a video with the network that is shipped and, for comparison, with methods that need no
training. Part 2 trains a small network for two minutes (configs/demo.yaml) and tests it. OUT/report.html shows all
results.
"""
import time
from pathlib import Path

import gi  # noqa: F401  before everything that imports torchvision

# isort: split
from gi.commands import script
from gi.config.device import find_device
from gi.report.page import Report, Section, write_report
from gi.report.tables import print_table
from tools.demo import scenes, shipped, trained

TITLE = "What the shipped network does with pictures it never saw"
PHOTOGRAPHS = (
    "Two other views of each photograph, as if the camera had moved, turned and zoomed, are its keyframes; each has a "
    "hole of its own. The network copies what keyframes show where it trusts the alignment, and continues smoothly "
    "where none shows anything.")
STEREO = (
    "A real second view: the right picture of a stereo pair guides the left one. The scene has many depths, so flow is "
    "harder to find than above.")


def main(argv: list[str] | None = None) -> None:
    parser = script.Parser(prog="scripts/demo.sh", description=__doc__, formatter_class=script.Layout,
                           allow_abbrev=False)
    parser.add_argument("--out", type=Path, default=Path("logs/demo"), help="folder of the report")
    parser.add_argument("--photographs", type=int, default=4, help="pictures to fill")
    parser.add_argument("--frames", type=int, default=20, help="of the video")
    parser.add_argument("--device", default="auto", help="auto, cuda, mps, cpu")
    parser.add_argument("--no-training", action="store_true", help="only the first part")
    args, training = parser.parse_known_args(argv)
    trained.check(training)
    start, device = time.monotonic(), str(find_device(args.device))
    print("1. The network that is shipped (checkpoints/ours_small.safetensors)")
    report = Report(TITLE, sections=first_part(args, device))
    report.facts = [("device", device), ("time", f"{time.monotonic() - start:.0f} s")]
    write_report(args.out / "report.html", report)
    print(f"report of part 1: {args.out / 'report.html'} ({time.monotonic() - start:.0f} s)")
    if args.no_training:
        return
    print("\n2. A network trained here, for two minutes (configs/demo.yaml)")
    run = trained.train(training)
    report.sections, report.curves = [*report.sections, trained.section(run)], trained.curves(run)
    write_report(args.out / "report.html", report)
    print(f"{report.sections[-1].text}\nreport of both parts: {args.out / 'report.html'}")


def first_part(args, device: str) -> list[Section]:
    """The sections of photographs, stereo pair and video; tables are printed as they are known."""
    sets = {"photographs": (PHOTOGRAPHS, scenes.photographs(length=args.photographs)),
            "stereo pair": (STEREO, scenes.stereo(length=max(1, args.photographs // 2)))}
    contest, sections = shipped.Contest(device), []
    for title, (text, data) in sets.items():
        with script.progress("pictures", len(data)) as advance:
            sections.append(shipped.pictures(args.out, title, text, data, contest, advance))
        print_table(sections[-1].tables[0])
    pair = shipped.write_video(args.out / "video", args.frames)
    with script.progress("videos", len(shipped.VIDEO_METHODS)) as advance:
        sections.append(shipped.video(args.out, pair, device, advance))
    print_table(sections[-1].tables[0])
    return sections


if __name__ == "__main__":
    script.run(main)
