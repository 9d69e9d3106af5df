"""Masks by clicks, as a job: of one frame, or with --carry of all.

    python -m gi.app.clicks VIDEO FOLDER --sam2 WEIGHTS --frame 12 --point 100,80,1 --point 20,5,0 [--carry] [--fps 25]
"""
import argparse
import json
import os
import shutil
import time
from pathlib import Path

from gi.media import io
from gi.media.files import open_video, parse_rate


def main() -> None:
    """Writes FOLDER/000012.png, 255 = object, and prints progress as `gi propagate-masks --progress json` does."""
    parser = argparse.ArgumentParser()
    parser.add_argument("video", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sam2", required=True)
    parser.add_argument("--frame", type=int, required=True)
    parser.add_argument("--point", action="append", required=True)
    parser.add_argument("--carry", action="store_true")
    parser.add_argument("--fps")
    args = parser.parse_args()
    from gi.video.sam2 import Click, ClickedObject
    clicks = [Click(float(x), float(y), int(label)) for x, y, label in (point.split(",") for point in args.point)]
    video = open_video(args.video, rate=parse_rate(args.fps))
    clicked, unfinished = ClickedObject(args.sam2), args.folder.with_name(f".{args.folder.name}")
    for left in unfinished, args.folder:  # by an earlier run
        shutil.rmtree(left, ignore_errors=True)
    start, total = time.monotonic(), video.count if args.carry else 1
    for done, (number, mask) in enumerate(clicked.masks(video, args.frame, clicks, carry=args.carry), start=1):
        io.write_image(unfinished / f"{number:06d}.png", 255 * mask)
        left = (time.monotonic() - start) / done * (total - done)
        print(json.dumps({"what": "masks found", "done": done, "total": total, "seconds_left": round(left, 1)}))
    os.replace(unfinished, args.folder)


if __name__ == "__main__":
    main()
