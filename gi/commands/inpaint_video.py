"""Removes or replaces what masks mark in a video: every 20th frame is filled by the network, guided by frames before
and after it; the frames between follow along optical flow. --method chooses another way.

  gi inpaint-video frames/ mask.png out.mp4 --keyframe 40=edited.png
  gi inpaint-video VIDEO MASKS OUT --method per-frame max_side=432

VIDEO: mp4, mov, mkv, webm, avi, ts, or a folder of frames. MASKS: a video, a folder with as many (of the same numbers),
or one image for all frames; bright is missing (docs/masks.md). OUT: a video, or a folder of PNG files; docs/video.md
tells what is kept. The same command continues an interrupted run.
"""
import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from gi.commands import script, stream
from gi.errors import InputError

EPILOG = """\
Methods, each with options key=value, which --method NAME --help describes:
{methods}
  package.module.Name: a gi.video.method.VideoMethod of your own. All else: docs/commands.md
"""


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """`options` are those of the method that were given. Raises InputError."""
    from gi.media.writer import QUALITY
    from gi.video.method import describe_methods, describe_options, parse_options
    method_help = describe_options(sys.argv if argv is None else argv)
    parser = script.Parser(prog="gi inpaint-video", usage="gi inpaint-video VIDEO MASKS OUT [options] [key=value …]",
                           description=method_help or __doc__, allow_abbrev=False,
                           epilog=EPILOG.format(methods=describe_methods()), formatter_class=script.Wide)
    parser.add_argument("video", metavar="VIDEO", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("masks", metavar="MASKS", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("out", metavar="OUT", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--method", metavar="NAME", help="see below (default: keyframes)")
    parser.add_argument("--no-network", action="store_true", help=argparse.SUPPRESS)  # --method flow
    parser.add_argument("--keyframe", action="append", default=[], metavar="N=FILE",
                        help="frame N (from 0), edited by hand: kept as it is, guides the others; repeatable")
    parser.add_argument("--dilate", type=int, metavar="N",
                        help="grow the masks by N pixels (default: 4 at 432x240, more in larger videos)")
    parser.add_argument("--quality", type=int, default=QUALITY, metavar="CRF",
                        help="of a video file: 0 (lossless) to 51 (default %(default)s)")
    parser.add_argument("--fps", help="frames per second of VIDEO, if it is a folder (default 25)")
    parser.add_argument("--preview", metavar="DIR", type=Path, help="write each frame there as soon as it is filled")
    stream.add_option(parser)
    parser.add_argument("--chunk", metavar="i/n", help="compute only the i-th of n parts; without it, all are joined")
    script.allow_option(parser)
    options = _method_options(parser)
    args = parser.parse_intermixed_args(argv)
    if args.method and args.no_network:
        raise InputError("--method and --no-network: expected one of them")
    args.options = script.given_options(args, options)
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


def _method_options(parser):
    """Adds their group; options that are not given are left out of the parsed arguments."""
    from gi.weights.pretrained import FLOWS
    options = parser.add_argument_group("options of methods", argument_default=argparse.SUPPRESS)
    options.add_argument("--checkpoint", help="ours, the original release's or a folder (default: the small one)")
    options.add_argument("--config", help="the network's YAML (default: the checkpoint's own)")
    options.add_argument("--guides", metavar="6|14|LIST",
                         help="keyframes of a key target: 6, 14 (default), 0, or offsets: --guides=-9,9")
    options.add_argument("--every", type=int, metavar="N", help="frames between key targets (default 20)")
    options.add_argument("--no-prealign", dest="prealign", action="store_false",
                         help="do not first copy into key targets what other frames show")
    options.add_argument("--flow", choices=sorted(FLOWS), metavar="NAME",
                         help=f"optical flow by {', '.join(sorted(FLOWS))} (default: as in training; alone, dis)")
    options.add_argument("--max-side", type=int, metavar="N", help="work at no more than N pixels for the longer side")
    options.add_argument("--resize", metavar="WxH", help="work at this size")
    options.add_argument("--minutes", type=float, help="how long --method internal or refine is fitted to the video "
                         "(default 10)")
    options.add_argument("--steps", type=int, help="the same in steps; for --method diffusion, of sampling (25)")
    options.add_argument("--keep-network", metavar="FILE.pt", help="where to keep the fitted network")
    options.add_argument("--start-from", metavar="FILE", help="a network fitted to another video as the start")
    options.add_argument("--device", help="auto (default), cuda, cuda:1, mps, cpu")
    options.add_argument("words", nargs="*", metavar="key=value", default=[],
                         help="any other option, or value of the configuration: key.path=value")
    return options


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
    from gi.video.method import share
    share([], int(number), int(of))
    return int(number), int(of)


def _edited(texts, video):
    from gi.media import io
    frames = {}
    for text in texts:
        number, path = script.file_of_frame("--keyframe", text)
        if number >= video.count:
            raise InputError(f"--keyframe {text}: {video.path} has frames 0 to {video.count - 1}")
        if number in frames:
            raise InputError(f"--keyframe {text}: frame {number} has a picture already")
        frames[number] = frame = io.read_image(path)
        if frame.shape[:2] != (video.height, video.width):
            raise InputError(f"{path}: {frame.shape[1]}x{frame.shape[0]}, expected {video.width}x{video.height} as "
                             f"{video.path}")
    return frames


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status. Raises InputError."""
    with stream.open_stream(argv) as json_stream:
        return _inpaint(parse_args(argv), json_stream)


def _inpaint(args, json_stream):
    from gi.media.files import open_video, parse_rate
    from gi.media.masks import open_masks
    from gi.media.writer import remarks
    from gi.video.job import VideoJob
    from gi.video.method import build_method
    video = open_video(args.video, rate=parse_rate(args.fps))
    masks = open_masks(args.masks, video, dilate=args.dilate)
    edited = _edited(args.keyframe, video)
    if masks.rule.full == masks.rule.total and not edited:
        raise InputError(f"{args.masks}: everything is missing in all frames, and there is no --keyframe")
    script.trust([args.method or ""])
    method = build_method("flow" if args.no_network else args.method or "keyframes", args.options)
    job = VideoJob(method, video, masks, args.out, edited=edited, preview=args.preview, quality=args.quality)
    print(*remarks(args.out, video), masks.remark, sep="\n", file=sys.stderr)
    for folder, busy in job.leftovers:
        hint = "another run is working there" if busy else "delete the folder if you do not want them any more"
        print(f"{folder}: chunks of other inputs, settings or versions, not used; {hint}", file=sys.stderr)
    selected = job.share(*args.chunk) if args.chunk else job.parts
    todo = [part for part in job.missing if part in selected]
    if len(todo) < len(selected):
        print(f"{len(selected) - len(todo)} of {len(selected)} chunks are finished already", file=sys.stderr)
    script.follow(json_stream.watch(job.run(selected if args.chunk else None)))
    people = sys.stderr if json_stream.enabled else sys.stdout
    if args.chunk:
        print(f"share {args.chunk[0]} of {args.chunk[1]} is finished, {len(job.missing)} of {len(job.parts)} chunks "
              "are still missing; run without --chunk to join them", file=people)
        json_stream.end(None, sum(len(part.frames) for part in selected))
        return 0
    print(f"{args.out}: {video.count} frames", file=people)
    json_stream.end(args.out, video.count)
    return 0
