"""Converts a user's masks, one picture for all frames, a video or a folder, into the PNG files of a project.

    python -m gi.app.masks VIDEO MASKS FOLDER [--fps 25]
"""
import argparse
from pathlib import Path

from gi.media import io
from gi.media.files import open_video, parse_rate
from gi.media.masks import open_masks


def main() -> None:
    """Raises InputError if they do not belong to the video."""
    parser = argparse.ArgumentParser()
    parser.add_argument("video", type=Path)
    parser.add_argument("masks", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--fps")
    args = parser.parse_args()
    video = open_video(args.video, rate=parse_rate(args.fps))
    for number, mask in enumerate(open_masks(args.masks, video, dilate=0).frames()):
        io.write_image(args.folder / f"{number:06d}.png", 255 * mask)


if __name__ == "__main__":
    main()
