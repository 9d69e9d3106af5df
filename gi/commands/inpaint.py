"""Fills holes in pictures, guided by any number of other pictures of the same scene (keyframes), or by none.

one picture:  gi inpaint --image I --mask M [--keyframe K [--keyframe-mask KM]] ... --out O.png
a folder:     gi inpaint --folder DIR --out DIR
    with X.jpg, X_mask.png and, per keyframe, X_src_000000.jpg (and X_src_000000_m.png), of any suffix; result X.png

Masks: bright is missing, or any label but 0 (docs/masks.md); as large as their picture.
"""
import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gi.commands import script
from gi.errors import InputError

if TYPE_CHECKING:
    from gi.media.samples import SampleFiles
    from gi.photo import Inpainter

EPILOG = """\
Exit status: 0; 1 if pictures of a folder could not be filled, which are listed at the end; 2 for any other bad input.
Large pictures, bit depths and memory: docs/commands.md
"""


class Keyframe(argparse.Action):
    """Adds one more keyframe, without a mask, to those before it."""

    def __call__(self, parser, namespace, value, option_string=None):
        namespace.keyframes = [*namespace.keyframes, (value, None)]


class KeyframeMask(argparse.Action):
    """Gives the last keyframe its mask. Raises InputError where there is none without one."""

    def __call__(self, parser, namespace, value, option_string=None):
        if not namespace.keyframes or namespace.keyframes[-1][1] is not None:
            raise InputError(f"--keyframe-mask {value}: expected after the --keyframe it belongs to, one each")
        namespace.keyframes = [*namespace.keyframes[:-1], (namespace.keyframes[-1][0], value)]


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """`keyframes` is [(picture, its mask or None)]. Raises InputError."""
    parser = script.Parser(prog="gi inpaint", description=__doc__, epilog=EPILOG, allow_abbrev=False,
                           formatter_class=script.Wide)
    parser.add_argument("--checkpoint", type=Path,
                        help="ours, the original release's or a folder (default: the small bundled one)")
    parser.add_argument("--config", type=Path, help="the network's YAML (default: the checkpoint's own)")
    parser.add_argument("--image", type=Path)
    parser.add_argument("--mask", type=Path)
    parser.add_argument("--keyframe", type=Path, action=Keyframe, dest="keyframes", default=[], help="may be repeated")
    parser.add_argument("--keyframe-mask", type=Path, action=KeyframeMask,
                        help="mask of the keyframe before it (default: all of it is known)")
    parser.add_argument("--folder", type=Path, help="instead of --image: all pictures in it")
    parser.add_argument("--out", type=Path, required=True, help="PNG file, or with --folder a folder")
    parser.add_argument("--overwrite", action="store_true",
                        help="with --folder: fill again what --out has already")
    from gi.weights.pretrained import FLOWS
    parser.add_argument("--flow", default="config", choices=sorted(FLOWS),
                        help="estimator of optical flow (default config: as in training)")
    parser.add_argument("--max-side", type=int, default=512, help="of the network's input, in pixels (default 512)")
    script.allow_option(parser)
    parser.add_argument("--device", default="auto", help="auto (default), cuda, cuda:1, mps, cpu")
    parser.add_argument("overrides", nargs="*", metavar="key.path=value", help="any value of the configuration")
    args = parser.parse_args(argv)
    for word in args.overrides:
        if "=" not in word:
            raise InputError(f"{word}: unexpected, each picture has an option of its own: --image, --mask, and for "
                             "every keyframe another --keyframe")
    single = args.image or args.mask or args.keyframes
    if args.folder and single:
        raise InputError("--folder: cannot be combined with --image, --mask and --keyframe")
    if not args.folder and not (args.image and args.mask):
        raise InputError("nothing to do: give --image and --mask, or --folder (--help explains)")
    return args


def load(args: argparse.Namespace, samples: Sequence["SampleFiles"]) -> "Inpainter":
    """The network that the arguments name; flow is only estimated where one of the samples has keyframes."""
    from gi.photo import Inpainter
    flow = args.flow if any(sample.keyframes for sample in samples) else "zero"  # so no weights are needed for it
    return Inpainter.from_checkpoint(args.checkpoint, config=args.config, device=args.device, flow=flow,
                                     max_side=args.max_side, overrides=args.overrides)


def inpaint_folder(args: argparse.Namespace) -> int:
    """Returns the exit status. Raises InputError for a folder without pictures, or that is its own result."""
    from gi.media.photos import inpaint_samples, result_path
    from gi.media.samples import find_samples
    if args.out.resolve() == args.folder.resolve():
        raise InputError(f"{args.out}: --out is the folder of the inputs, which would be lost")
    samples = find_samples(args.folder, exclude=args.out)
    todo = [sample for sample in samples if args.overwrite or not result_path(sample, args.out).exists()]
    if len(todo) < len(samples):
        print(f"{len(samples) - len(todo)} of {len(samples)} are in {args.out} already", file=sys.stderr)
    problems, remarks = [], []
    if any(sample.problem is None for sample in todo):
        inpainter = load(args, todo)
        with script.progress("pictures", len(todo)) as advance:
            for problem, filled in inpaint_samples(inpainter, todo, args.out):
                problems += [problem] if problem else []
                # A plain mask needs no remark among many.
                remarks += [filled.remark] if filled and not filled.remark.endswith("% missing") else []
                remarks += [line for line in filled.verdicts if line.endswith("ignored")] if filled else []
                advance()
    else:
        problems = [sample.problem for sample in todo]
    print(*remarks, f"{len(todo) - len(problems)} filled, {len(problems)} with problems, in {args.out}", sep="\n")
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if problems else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status. Raises InputError."""
    args = parse_args(argv)
    if args.folder:
        return inpaint_folder(args)
    from gi.media.photos import inpaint_file
    from gi.media.samples import SampleFiles
    sample = SampleFiles(args.image.stem, args.image, args.mask, args.keyframes)
    filled = inpaint_file(load(args, [sample]), sample, args.out)
    print(f"{args.out}: {filled}")
    return 0
