"""Fills holes in a video; see --help."""
import argparse
import sys
from pathlib import Path

import gi  # noqa: F401  # before everything that imports torchvision

# isort: split
from gi.commands.script import Parser, allow_option, follow, trust
from gi.errors import InputError
from gi.media import io
from gi.media.files import open_video
from gi.media.masks import open_masks
from gi.media.writer import QUALITY
from gi.video.job import VideoJob
from gi.video.method import build_method, describe_methods, parse_options, share
from gi.weights.pretrained import FLOWS

DESCRIPTION = """\
Removes or replaces what masks mark in a video: every 20th frame is filled by the network, guided by frames before and
after it; the frames between follow along optical flow. --method chooses another way.

  scripts/inpaint_video.py VIDEO MASKS OUT
  scripts/inpaint_video.py frames/ mask.png out.mp4 --keyframe 40=edited.png
  scripts/inpaint_video.py VIDEO MASKS OUT --method per-frame max_side=432

VIDEO: mp4, mov, mkv, webm, or a folder of frames. MASKS: a video, a folder with as many, or one image for all frames;
bright is missing. OUT: a video (H.264 with the source's rate, size, pixel aspect, rotation and sound; VP9 for webm) or
a folder of PNG files, in which known pixels are the input's, bit for bit.
"""
EPILOG = f"""\
Methods, each with the keyword arguments of its class as options key=value (of keyframes also the flags above):
{describe_methods()}
  package.module.Name: a gi.video.method.VideoMethod of your own

Memory does not grow with the length of the video. With a large picture, --max-side bounds it: holes are then filled at
the reduced size and put into the full-resolution frames.

An interrupted run is continued by the same command: finished chunks lie in a hidden folder beside OUT until OUT is
complete. Machines that share a disk can share the work: --chunk 1/4 … --chunk 4/4 compute a quarter each, and the same
command without --chunk then joins them; the result is that of a single run. A method that learns from the video does
so in the first of them, which the others have to wait for.

Exit status: 0; 2 for bad input, 1 for a full disk and its like, 130 after an interruption.
"""


def parse_args(argv):
    parser = Parser(description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
                    allow_abbrev=False)
    parser.add_argument("video", metavar="VIDEO", type=Path)
    parser.add_argument("masks", metavar="MASKS", type=Path)
    parser.add_argument("out", metavar="OUT", type=Path)
    parser.add_argument("--method", metavar="NAME", help="see below (default: keyframes)")
    parser.add_argument("--no-network", action="store_true", help="the same as --method flow")
    parser.add_argument("--keyframe", action="append", default=[], metavar="N=FILE",
                        help="frame N (from 0), edited by hand: it is kept as it is and guides the others; repeatable")
    parser.add_argument("--dilate", type=int, metavar="N",
                        help="grow the masks by N pixels (default: 4 at 432x240, more in larger videos), as soft "
                             "edges, motion blur and compression carry an object's colours over its outline")
    parser.add_argument("--quality", type=int, default=QUALITY, metavar="CRF",
                        help="of a video file: 0 (lossless) to 51 (default %(default)s)")
    parser.add_argument("--chunk", metavar="i/n", help="compute only the i-th of n parts, see below")
    allow_option(parser)
    options = parser.add_argument_group("options of methods", argument_default=argparse.SUPPRESS)
    options.add_argument("--checkpoint", help="ours or the original release's (default: the small one of this "
                                              "repository)")
    options.add_argument("--config", help="the network's YAML (default: of the run the checkpoint lies in)")
    options.add_argument("--guides", metavar="6|14|LIST",
                         help="keyframes of a key target: the paper's 6 or 14 (default), 0, or offsets: --guides=-9,9")
    options.add_argument("--every", type=int, metavar="N", help="frames between key targets (default 20)")
    options.add_argument("--no-prealign", dest="prealign", action="store_false",
                         help="do not copy into key targets what other frames show before the network fills the rest")
    options.add_argument("--flow", choices=sorted(FLOWS),
                         help="estimator of optical flow (default config: as in training; dis without a network)")
    options.add_argument("--max-side", type=int, metavar="N", help="work at no more than N pixels for the longer side")
    options.add_argument("--resize", metavar="WxH", help="work at this size")
    options.add_argument("--minutes", type=float, help="how long --method internal is fitted to the video (default 10)")
    options.add_argument("--steps", type=int, help="that in steps instead, for results that do not depend on the clock")
    options.add_argument("--keep-network", metavar="FILE", help="where to keep the fitted network")
    options.add_argument("--start-from", metavar="FILE", help="a network fitted to another video as the start")
    options.add_argument("--device", help="auto (default), cuda, cuda:1, mps, cpu")
    options.add_argument("words", nargs="*", metavar="key=value", default=[],
                         help="any other option; any value of the network's configuration: key.path=value")
    args = parser.parse_intermixed_args(argv)
    if args.method and args.no_network:
        raise InputError("--method and --no-network: expected one of them")
    args.options = {action.dest: getattr(args, action.dest) for action in options._group_actions
                    if action.dest in args and action.dest != "words"}
    if "max_side" in args.options and "resize" in args.options:
        raise InputError("--max-side and --resize: expected one of them")
    # Not by argparse's types, which would replace these messages by one of its own.
    for name, read in ("guides", _guides), ("resize", _size):
        if name in args.options:
            args.options[name] = read(args.options[name])
    args.chunk = args.chunk and _share(args.chunk)
    overrides = [word for word in args.words if "." in word.partition("=")[0]]
    args.options |= parse_options(word for word in args.words if word not in overrides)
    if overrides:
        args.options["overrides"] = overrides
    return args


def _guides(text):
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"--guides {text}: expected 6, 14, 0 or offsets such as -10,10,30") from None
    return numbers if len(numbers) > 1 else numbers[0]


def _size(text):
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise InputError(f"--resize {text}: expected WIDTHxHEIGHT such as 432x240")
    return [int(width), int(height)]


def _share(text):
    number, _, of = text.partition("/")
    if not (number.isdecimal() and of.isdecimal()):
        raise InputError(f"--chunk {text}: expected i/n such as 2/4")
    share([], int(number), int(of))
    return int(number), int(of)


def _edited(texts, video):
    frames = {}
    for text in texts:
        number, _, path = text.partition("=")
        if not (number.isdecimal() and path):
            raise InputError(f"--keyframe {text}: expected N=FILE such as 40=edited.png")
        if int(number) >= video.count:
            raise InputError(f"--keyframe {text}: {video.path} has frames 0 to {video.count - 1}")
        frames[int(number)] = frame = io.read_image(path)
        if frame.shape[:2] != (video.height, video.width):
            raise InputError(f"{path}: {frame.shape[1]}x{frame.shape[0]}, expected {video.width}x{video.height} as "
                             f"{video.path}")
    return frames


def main(argv=None):
    """Returns the exit status. Raises InputError."""
    args = parse_args(argv)
    video = open_video(args.video)
    masks = open_masks(args.masks, video, dilate=args.dilate)
    edited = _edited(args.keyframe, video)
    trust([args.method or ""])
    method = build_method("flow" if args.no_network else args.method or "keyframes", args.options)
    job = VideoJob(method, video, masks, args.out, edited=edited, quality=args.quality)
    if job.others:
        print(f"{job.others[0]}: chunks of other inputs, settings or versions, not used", file=sys.stderr)
    wanted = job.share(*args.chunk) if args.chunk else job.parts
    todo = [part for part in job.missing if part in wanted]
    if len(todo) < len(wanted):
        print(f"{len(wanted) - len(todo)} of {len(wanted)} chunks are finished already", file=sys.stderr)
    follow(job.run(wanted if args.chunk else None))
    if args.chunk:
        print(f"share {args.chunk[0]} of {args.chunk[1]} is finished, {len(job.missing)} of {len(job.parts)} chunks "
              "are still missing; run without --chunk to join them")
        return 0
    print(args.out)
    return 0
