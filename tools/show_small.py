"""Draws results of this repository's small network on photographs that come with scikit-image (docs/small.jpg).

    python -m tools.show_small --out docs/small.jpg

The images are the first ones of the demo; each row is a sample of `tools.demo.scenes.photographs`.
"""
from pathlib import Path

import numpy as np
from PIL import Image

from gi.commands import script
from gi.media.io import atomic_write
from gi.training.comparison import METHODS
from tools.demo import scenes, shipped


def main(argv: list[str] | None = None) -> None:
    parser = script.Parser(prog="python -m tools.show_small", description=__doc__, formatter_class=script.Layout)
    parser.add_argument("--out", type=Path, default=Path("docs/small.jpg"), help="JPEG file to write")
    parser.add_argument("--seed", type=int, default=0, help="of crops, motions and holes")
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 2, 3], help="numbers of the pictures")
    args = parser.parse_args(argv)
    data, contest, strips = scenes.photographs(seed=args.seed, length=1 + max(args.rows)), shipped.Contest("cpu"), []
    for number, (sample, filled, scores) in enumerate(contest.score(data)):
        print(sample["name"], *(f"{METHODS[name]} {score.images[-1]['composite/psnr_hole']:.1f} dB"
                                for name, score in scores.items()), sep=", ")
        if number in args.rows:
            strips.append(shipped.strip(sample, filled, {"keyframes": "network", "inpaint": "cv2.inpaint"}))
    strips[1:] = [row[shipped.BAR:] for row in strips[1:]]  # labels above the first row are enough
    with atomic_write(args.out) as temporary:
        Image.fromarray(np.concatenate(strips)).save(temporary, format="JPEG", quality=88, subsampling=0)
    print(args.out)


if __name__ == "__main__":
    script.run(main)
