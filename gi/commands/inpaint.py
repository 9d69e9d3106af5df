"""Fills holes in one's own pictures; see --help."""
import argparse
import sys
from pathlib import Path

import gi  # before everything that imports torchvision

# isort: split
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from gi.commands import script
from gi.errors import InputError
from gi.media.photos import inpaint_file, inpaint_samples, result_path
from gi.media.samples import SampleFiles, find_samples
from gi.weights.pretrained import FLOWS

DESCRIPTION = """\
Fills the hole of a picture, guided by any number of other pictures of the same scene (keyframes), also none.

one picture:  scripts/inpaint.py --image I --mask M [--keyframe K [--keyframe-mask KM]] ... --out O.png
a folder:     scripts/inpaint.py --folder DIR --out DIR
    with X.jpg, X_mask.png and, per keyframe, X_src_000000.jpg and X_src_000000_m.png, of any suffix; result X.png
"""
EPILOG = """\
Masks: bright (128 and more of 255) is missing; as large as their picture. Keyframes of another size than the picture
are resized to fit into it, and given its exposure. What became of each is said in a line: used, used in part, or
ignored because it could not be aligned. Known pixels of the result are the input's, bit for bit: 8 and 16 bits, grey,
RGB and RGBA stay as they are (palettes and CMYK become RGB of 8 bits), the EXIF orientation is applied, colour
profiles are kept.

Large pictures: the network works on a square around the hole, reduced to --max-side; a hole of up to half of that is
filled at full resolution. Memory of ours on a CPU by --max-side, without / with 2 keyframes:
1.0 / 1.2 GiB at 512, 1.7 / 2.7 at 1024, 4.4 / 8.4 at 2048, and 0.1 more for a picture of 4096 x 4096.

Exit status: 0; 1 if pictures of a folder could not be filled, which are listed at the end; 2 for any other bad input.
"""


class Parser(argparse.ArgumentParser):
    def error(self, message):
        raise InputError(f"{message} (--help explains)")


class Keyframe(argparse.Action):
    def __call__(self, parser, namespace, value, option_string=None):
        namespace.keyframes = [*namespace.keyframes, (value, None)]


class KeyframeMask(argparse.Action):
    def __call__(self, parser, namespace, value, option_string=None):
        if not namespace.keyframes or namespace.keyframes[-1][1] is not None:
            raise InputError(f"--keyframe-mask {value}: expected after the --keyframe it belongs to, one each")
        namespace.keyframes = [*namespace.keyframes[:-1], (namespace.keyframes[-1][0], value)]


def parse_args(argv):
    parser = Parser(description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
                    allow_abbrev=False)
    parser.add_argument("--checkpoint", type=Path,
                        help="ours or the original release's (default: the small one of this repository)")
    parser.add_argument("--config", type=Path, help="the network's YAML (default: of the run the checkpoint lies in)")
    parser.add_argument("--image", type=Path)
    parser.add_argument("--mask", type=Path)
    parser.add_argument("--keyframe", type=Path, action=Keyframe, dest="keyframes", default=[], help="may be repeated")
    parser.add_argument("--keyframe-mask", type=Path, action=KeyframeMask,
                        help="mask of the keyframe before it (default: all of it is known)")
    parser.add_argument("--folder", type=Path, help="instead of --image: all pictures in it")
    parser.add_argument("--out", type=Path, required=True, help="PNG file, or with --folder a folder")
    parser.add_argument("--overwrite", action="store_true",
                        help="with --folder: fill again what --out has already, from whatever network")
    parser.add_argument("--flow", default="config", choices=sorted(FLOWS),
                        help="estimator of optical flow (default config: as in training)")
    parser.add_argument("--max-side", type=int, default=512, help="of the network's input, in pixels (default 512)")
    script.allow_option(parser)
    parser.add_argument("--device", default="auto", help="auto (default), cuda, cuda:1, mps, cpu")
    parser.add_argument("overrides", nargs="*", metavar="key.path=value", help="any value of the configuration")
    args = parser.parse_args(argv)
    single = args.image or args.mask or args.keyframes
    if args.folder and single:
        raise InputError("--folder: cannot be combined with --image, --mask and --keyframe")
    if not args.folder and not (args.image and args.mask):
        raise InputError("nothing to do: give --image and --mask, or --folder (--help explains)")
    return args


def load(args, samples):
    flow = args.flow if any(sample.keyframes for sample in samples) else "zero"  # no weights for what is not needed
    return gi.Inpainter.from_checkpoint(args.checkpoint, config=args.config, device=args.device, flow=flow,
                                        max_side=args.max_side, overrides=args.overrides)


def inpaint_folder(args):
    """Returns the exit status."""
    if args.out.resolve() == args.folder.resolve():
        raise InputError(f"{args.out}: --out is the folder of the inputs, which would be lost")
    samples = find_samples(args.folder, without=args.out)
    todo = [sample for sample in samples if args.overwrite or not result_path(sample, args.out).exists()]
    if len(todo) < len(samples):
        print(f"{len(samples) - len(todo)} of {len(samples)} are in {args.out} already", file=sys.stderr)
    problems = []
    if any(sample.problem is None for sample in todo):
        inpainter = load(args, todo)
        columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
                   TextColumn("left"), TimeRemainingColumn()]
        with Progress(*columns) as progress:
            task = progress.add_task("pictures", total=len(todo))
            for problem, remark in inpaint_samples(inpainter, todo, args.out):
                problems += [problem] if problem else []
                if remark:
                    progress.console.print(remark, markup=False, soft_wrap=True)
                progress.advance(task)
    else:
        problems = [sample.problem for sample in todo]
    print(f"{len(todo) - len(problems)} filled, {len(problems)} with problems, in {args.out}")
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if problems else 0


def main(argv=None):
    """Returns the exit status. Raises InputError."""
    args = parse_args(argv)
    if args.folder:
        return inpaint_folder(args)
    sample = SampleFiles(args.image.stem, args.image, args.mask, args.keyframes)
    remark = inpaint_file(load(args, [sample]), sample, args.out)
    if remark:
        print(remark, file=sys.stderr)
    return 0
