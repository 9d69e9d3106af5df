"""Finds an object in a whole video that is marked in one frame, or in some: makes the masks for gi inpaint-video.

  gi propagate-masks video.mp4 first.png masks/
  gi propagate-masks video.mp4 first.png masks/ --mask 40=later.png --overlay look.mp4

VIDEO: as for gi inpaint-video. MASK: an image of the video's size, bright where the object is. OUT: a folder of PNG
files, 0 and 255, or a video. The same command continues an interrupted run. docs/masks.md tells how it works.
"""
import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from gi.commands import script, stream
from gi.errors import InputError


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """`options` are those of the method that were given. Raises InputError."""
    from gi.video.follow_methods import METHODS
    from gi.video.method import describe_methods, describe_options, parse_options
    parser = script.Parser(prog="gi propagate-masks", usage="gi propagate-masks VIDEO MASK OUT [options] [key=value …]",
                           description=describe_options(sys.argv if argv is None else argv, METHODS) or __doc__,
                           epilog=f"Methods, or package.module.Name:\n{describe_methods(METHODS)}", allow_abbrev=False,
                           formatter_class=script.Wide)
    parser.add_argument("video", metavar="VIDEO", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("first", metavar="MASK", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("out", metavar="OUT", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--frame", type=int, default=0, metavar="N", help="the frame of MASK, from 0 (default 0)")
    parser.add_argument("--mask", action="append", default=[], metavar="N=FILE",
                        help="the mask of another frame; an empty one says that the object is not there; repeatable")
    parser.add_argument("--method", metavar="NAME", default="flow", help="see below (default: %(default)s)")
    parser.add_argument("--overlay", metavar="FILE", type=Path, help="also write a video with the masks drawn on it")
    parser.add_argument("--dilate", type=int, default=0, metavar="N", help="grow all masks by N pixels (default 0; "
                        "gi inpaint-video grows them as well)")
    parser.add_argument("--components", type=int, metavar="N",
                        help="keep the N largest parts of each mask (default: all but specks)")
    parser.add_argument("--max-side", type=int, metavar="N",
                        help="work at no more than N pixels for the longer side (default 432)")
    parser.add_argument("--fps", help="frames per second of VIDEO, if it is a folder (default 25)")
    stream.add_option(parser)
    options = parser.add_argument_group("options of methods", argument_default=argparse.SUPPRESS)
    options.add_argument("--threshold", type=float, metavar="P",
                         help="how sure the method has to be of a pixel, 0 to 1 (default 0.5)")
    options.add_argument("--minutes", type=float, help="how long a network is fitted (default 10)")
    options.add_argument("--steps", type=int, help="the same in steps, for results that do not depend on the clock")
    options.add_argument("--device", help="auto (default), cuda, cuda:1, mps, cpu")
    options.add_argument("words", nargs="*", metavar="key=value", default=[], help="any other option of the method")
    args = parser.parse_intermixed_args(argv)
    args.options = script.given_options(args, options) | parse_options(args.words)
    return args


def _annotations(args, video):
    from gi.media import io
    files = {args.frame: args.first}
    for text in args.mask:
        number, path = script.file_of_frame("--mask", text)
        if number in files:
            raise InputError(f"--mask {text}: frame {number} has a mask already, {files[number]}")
        files[number] = path
    annotations = {}
    for number, path in files.items():
        if not 0 <= number < video.count:
            raise InputError(f"{path}: is to be the mask of frame {number}, but {video.path} has frames 0 to "
                             f"{video.count - 1}")
        annotations[number], remark = io.read_mask_with_remark(path)
        print(f"{path}: frame {number}, {remark}", file=sys.stderr)
        if (size := annotations[number].shape) != (video.height, video.width):
            raise InputError(f"{path}: {size[1]}x{size[0]}, expected {video.width}x{video.height} as {video.path}")
    return annotations


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status. Raises InputError."""
    with stream.open_stream(argv) as json_stream:
        return _propagate(parse_args(argv), json_stream)


def _propagate(args, json_stream):
    from gi.media.files import open_video, parse_rate
    from gi.video.follow_methods import METHODS
    from gi.video.method import build
    from gi.video.propagate import MAX_SIDE, MaskPropagation
    from gi.video.propagate_flow import Follower
    video = open_video(args.video, rate=parse_rate(args.fps))
    annotations = _annotations(args, video)
    script.trust([args.method])
    follower = build(args.method, args.options, table=METHODS, kind=Follower)
    job = MaskPropagation(follower, video, annotations, args.out, overlay=args.overlay,
                          max_side=MAX_SIDE if args.max_side is None else args.max_side,
                          dilate=args.dilate, components=args.components)
    script.follow(json_stream.watch(job.run()))
    if job.empty:
        print(f"{args.out}: nothing was found in {_ranges(job.empty)}; if the object is there, mark it in one of these "
              "frames with --mask N=FILE", file=sys.stderr)
    print(f"{args.out}: {video.count} masks", file=sys.stderr if json_stream.enabled else sys.stdout)
    json_stream.end(args.out, video.count)
    return 0


def _ranges(numbers):
    """"frames 3 to 7, 9", of sorted numbers."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and spans[-1][1] == number - 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    texts = [str(first) if first == last else f"{first} to {last}" for first, last in spans[:10]]
    return f"frame{'s' * (len(numbers) > 1)} {', '.join(texts)}{' …' * (len(spans) > 10)}"
