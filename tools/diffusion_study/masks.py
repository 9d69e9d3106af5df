"""Draws holes as generated in training (docs/diffusion_masks.png): one row per pattern, time runs to the right.

    python -m tools.diffusion_study.masks --out docs/diffusion_masks.png
"""
from pathlib import Path

import cv2
import numpy as np

from gi.commands import script
from gi.data import masks
from gi.data.mask_paths import Motion, MovingMask
from gi.media.io import write_image

STILL = {"still": 0.0, "shift": 0.0, "growth": 1.0, "rotation": 0.0, "deformation": 0.0}
SQUARE = masks.CentralSquare(share=0.4)
ROWS = {
    "full": MovingMask(kind=masks.Full(), motion=Motion(still=1)),
    "grid": MovingMask(kind=masks.Grid(), motion=Motion(still=1)),
    "scribble": MovingMask(kind=masks.Strokes(), motion=Motion(still=1)),
    "square": MovingMask(kind=masks.Boxes(), motion=Motion(still=1)),
    "inversion": MovingMask(kind=masks.Boxes(), motion=Motion(still=1), inversion=1.0),
    "path": MovingMask(kind=SQUARE, motion=Motion(**STILL | {"shift": 1.0})),
    "growth": MovingMask(kind=SQUARE, motion=Motion(**STILL | {"growth": 2.0})),
    "rotation": MovingMask(kind=SQUARE, motion=Motion(**STILL | {"rotation": 90.0})),
    "deformation": MovingMask(kind=SQUARE, motion=Motion(**STILL | {"deformation": 0.3})),
    "scribble, all": MovingMask(kind=masks.Strokes(), motion=Motion(still=0)),
    "square, all": MovingMask(kind=masks.Boxes(), motion=Motion(still=0)),
}
GAP, LABEL, BACK = 3, 118, 128


def picture(*, frames: int, size: int, seed: int) -> np.ndarray:
    """uint8 (H, W): white is missing, black known."""
    rows = []
    for number, (name, path) in enumerate(ROWS.items()):
        clip_masks = path(np.random.default_rng((seed, number)), frames, size, size)
        label = np.full((size, LABEL), BACK, np.uint8)
        cv2.putText(label, name, (6, size // 2 + 5), cv2.FONT_HERSHEY_SIMPLEX, 0.45, 255, 1, cv2.LINE_AA)
        row = [label, *(255 * mask for mask in clip_masks)]
        rows.append(np.concatenate([np.pad(part, ((0, GAP), (0, GAP)), constant_values=BACK) for part in row], axis=1))
    return np.concatenate(rows)


def main(argv: list[str] | None = None) -> None:
    parser = script.Parser(prog="python -m tools.diffusion_study.masks", description=__doc__,
                           formatter_class=script.Layout)
    parser.add_argument("--out", type=Path, default=Path("docs/diffusion_masks.png"))
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--size", type=int, default=48, help="pixels")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    write_image(args.out, np.repeat(picture(frames=args.frames, size=args.size, seed=args.seed)[..., None], 3, axis=2))
    print(args.out)


if __name__ == "__main__":
    script.run(main)
