"""Makes an edited keyframe of a video, for gi inpaint-video --keyframe: with any image tool, or the photo inpainter.

cut:    gi edit-keyframe VIDEO MASKS --frame 40 --cut cut.png
    the square around the frame's hole, with cut_mask.png (white is missing) and cut.json (where it belongs)
        then fill the white part of cut.png with the tool of your choice, and save its result as a picture
paste:  gi edit-keyframe VIDEO MASKS --paste edited.png key.png --place cut.json
    the whole frame, with that result in its hole; all other pixels as they were
fill:   gi edit-keyframe VIDEO MASKS --frame 40 --fill key.png
    the whole frame, its hole filled by the network of gi inpaint

VIDEO and MASKS as in gi inpaint-video, with the same --dilate; frames count from 0.
"""
import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gi.commands import script
from gi.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from gi.media.crop import Box

SIDE = 768  # of the cut, as in the paper's supplement
STRETCH = 0.02  # by which the proportions of what is pasted may differ


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """One of `cut`, `paste` and `fill` is given. Raises InputError."""
    parser = script.Parser(prog="gi edit-keyframe", usage="gi edit-keyframe VIDEO MASKS (--cut|--paste|--fill) …",
                           description=__doc__, allow_abbrev=False, formatter_class=script.Wide)
    parser.add_argument("video", metavar="VIDEO", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("masks", metavar="MASKS", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--frame", type=int, metavar="N", help="number of the frame, for --cut and --fill")
    actions = parser.add_mutually_exclusive_group(required=True)
    actions.add_argument("--cut", type=Path, metavar="FILE.png", help="write the region around the hole")
    actions.add_argument("--paste", type=Path, nargs=2, metavar=("EDITED", "OUT.png"),
                         help="put what a tool made of a cut into the frame's hole; it may have another size")
    actions.add_argument("--fill", type=Path, metavar="OUT.png", help="fill the hole without another tool")
    parser.add_argument("--size", type=int, default=SIDE, metavar="N",
                        help="pixels of the cut's side; a larger region is reduced (default %(default)s)")
    parser.add_argument("--place", type=Path, metavar="FILE.json",
                        help="for --paste, the file that --cut wrote (default: beside EDITED, of its name)")
    parser.add_argument("--soften", type=int, default=0, metavar="N",
                        help="for --paste, let a step of brightness at the hole's border fade over N pixels inside")
    parser.add_argument("--dilate", type=int, metavar="N",
                        help="grow the masks by N pixels (default: as gi inpaint-video, and for --paste as --cut did)")
    parser.add_argument("--checkpoint", help="for --fill, the network of gi inpaint (default: the small one)")
    parser.add_argument("--device", default="auto", help="for --fill: auto (default), cuda, cuda:1, mps, cpu")
    args = parser.parse_args(argv)
    if (args.frame is None) == (args.paste is None):
        raise InputError("--frame: " + ("expected, to say which frame" if args.paste is None else
                                        "the file of --place says which frame is pasted into"))
    for path in filter(None, [args.cut, args.fill, args.paste and args.paste[1]]):
        if path.suffix.lower() != ".png":
            raise InputError(f"{path}: expected a name ending with .png; other formats would change the known pixels")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status. Raises InputError."""
    args = parse_args(argv)
    from gi.media import io
    from gi.media.files import open_video
    video = open_video(args.video)
    for path in _outputs(args):
        for source in args.video, args.masks:
            output, origin = path.resolve(), source.resolve()
            if output == origin or origin == output.parent or io.same_file(path, source):
                raise InputError(f"{path}: would overwrite the input or be a frame of it, {source}")
    print((_cut if args.cut else _paste if args.paste else _fill)(args, video))
    return 0


def square(hole: "np.ndarray", side: int) -> "Box":
    """The region around a hole, bool (H, W), that is cut out: a square of `side`, or twice as long as the hole, or as
    large as the picture has room for; wider or higher only if the hole is.
    """
    from gi.media.crop import context_box
    box = context_box(hole, min(side, *hole.shape))
    return box if box.size[0] == box.size[1] else context_box(hole, min(hole.shape), times=1)


def paste(edited: "np.ndarray", frame: "np.ndarray", hole: "np.ndarray", box: "Box", soften: int = 0) -> "np.ndarray":
    """`frame` (H, W, 3) with `edited` (h, w, 3), resized to the box, in its hole, bool (H, W); uint8.

    soften: see `gi.diffusion.filler.fade_seam`.
    """
    import cv2

    from gi.diffusion.filler import fade_seam
    from gi.media.crop import resize
    shrinks = edited.shape[0] > box.size[0]
    content = resize(edited, box.size, cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC).astype("float32")
    result, inside = frame.copy(), box.of(hole)
    box.of(result)[inside] = fade_seam(content, box.of(frame), inside, soften)[inside].round().clip(0, 255)
    return result


def _outputs(args):
    """All files that are written."""
    if args.cut:
        return [args.cut, *_companions(args.cut)]
    return [args.fill or args.paste[1]]


def _companions(cut):
    """The mask of a cut, and the file that says where it belongs."""
    return [cut.with_name(f"{cut.stem}{ending}") for ending in ("_mask.png", ".json")]


def _cut(args, video):
    import cv2

    from gi.errors import expect_at_least, expect_within
    from gi.media import io
    from gi.media.crop import limited, resize
    expect_at_least(16, **{"--size": args.size})
    expect_within(0, max(video.width, video.height), **{"--dilate": args.dilate or 0})
    frame, hole = _frame_and_hole(args, video, args.frame, args.dilate)
    box = square(hole, args.size)
    size = limited(box.size, args.size)
    mask, place = _companions(args.cut)
    io.write_image(args.cut, resize(box.of(frame), size, cv2.INTER_AREA))
    missing = resize(box.of(hole).astype("float32"), size, cv2.INTER_AREA) > 0  # every pixel that the hole touches
    io.write_image(mask, missing.astype("uint8") * 255)
    with io.atomic_write(place) as temporary:
        temporary.write_text(json.dumps({"frame": args.frame, "box": box, "dilate": args.dilate}), encoding="utf-8")
    return (f"{args.cut}: {size[1]}x{size[0]} pixels, of frame {args.frame}\n{mask}: white is to be filled\n"
            f"{place}: for --paste")


def _paste(args, video):
    from gi.media import io
    edited, out = args.paste
    place = args.place or edited.with_suffix(".json")
    number, box, dilate = _read_place(place, video)
    frame, hole = _frame_and_hole(args, video, number, dilate if args.dilate is None else args.dilate)
    pixels = io.read_image(edited)
    (height, width), (rows, columns) = pixels.shape[:2], box.size
    if abs(height * columns / (width * rows) - 1) > STRETCH:
        raise InputError(f"{edited}: {width}x{height}, expected the proportions of the cut, {columns}x{rows}")
    return _written(out, paste(pixels, frame, hole, box, args.soften), number, inputs=(edited, place))


def _fill(args, video):
    frame, hole = _frame_and_hole(args, video, args.frame, args.dilate)
    from gi.photo import Inpainter
    inpainter = Inpainter.from_checkpoint(args.checkpoint, device=args.device, flow="zero")
    return _written(args.fill, inpainter(frame, hole), args.frame)


def _frame_and_hole(args, video, number, dilate):
    """Frame uint8 (H, W, 3), and hole bool (H, W)."""
    from gi.media.masks import open_masks
    if not 0 <= number < video.count:
        raise InputError(f"frame {number}: {args.video} has frames 0 to {video.count - 1}")
    masks = open_masks(args.masks, video, dilate=dilate)
    frame, mask = (next(source.frames(number, number + 1)) for source in (video, masks))
    if not mask.any():
        raise InputError(f"{args.masks}: nothing is missing in frame {number}")
    return frame, mask != 0


def _read_place(path, video):
    """Number, box and dilation of a cut. The file may come from anywhere."""
    from gi.media.crop import Box
    if not path.is_file():
        raise InputError(f"{path}: no such file; name the one that --cut wrote by --place FILE.json")
    try:
        place = json.loads(path.read_text(encoding="utf-8"))
        number, dilate, box = place["frame"], place["dilate"], Box(*place["box"])
        numbers = number, *box, 0 if dilate is None else dilate
        fits = all(type(value) is int for value in numbers) and 0 <= numbers[-1] <= max(video.width, video.height)
        fits &= 0 <= box.top < box.bottom <= video.height and 0 <= box.left < box.right <= video.width
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: not a file of --cut ({error})") from error
    if not fits:
        raise InputError(f"{path}: the cut lies outside {video.path}, which has {video.width}x{video.height} pixels")
    return number, box, dilate


def _written(out, frame, number, inputs=()):
    from gi.media import io
    if any(io.same_file(out, path) for path in inputs):
        raise InputError(f"{out}: is one of the inputs, which would be lost")
    io.write_image(out, frame)
    return f"{out}: frame {number}, for gi inpaint-video … --keyframe {number}={out}"
