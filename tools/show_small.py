"""Draws what the small network of this repository makes of photographs that come with scikit-image (docs/small.png).

    python -m tools.show_small --out docs/small.png

A row a photograph, none of which it was trained on: target with its hole, two keyframes with theirs, the keyframes
copied along the same optical flow with cv2.inpaint for the rest, the network's composite, the truth.
"""
from pathlib import Path

import torch
from torchvision.utils import make_grid

from gi.commands import script
from gi.compositing import composite, masked
from gi.data.pairs import GuidedPairs
from gi.data.photometric import Photometric
from gi.data.sources import BundledPhotographs
from gi.media import io
from gi.metrics.functional import psnr
from gi.models.classical import copy_keyframe
from gi.report.pictures import hatch, to_uint8
from gi.weights.pretrained import load_parts

PHOTOGRAPHS = ["astronaut.png", "coffee.png", "rocket.jpg"]


@torch.inference_mode()
def main(argv: list[str] | None = None) -> None:
    parser = script.Parser(prog="python -m tools.show_small", description=__doc__, formatter_class=script.Layout)
    parser.add_argument("--out", type=Path, default=Path("docs/small.png"), help="picture to write")
    parser.add_argument("--seed", type=int, default=0, help="of crops, motions and holes")
    args = parser.parse_args(argv)
    generator, guidance = load_parts()
    true_colours = Photometric(clahe_probability=0, brightness_probability=0, hsv_probability=0)
    pairs = GuidedPairs(images=BundledPhotographs(names=PHOTOGRAPHS), seed=args.seed, view_photometric=true_colours)
    tiles = []
    for number in range(len(pairs)):
        sample = pairs[number]
        image, sources = (sample[name][None].float() / 255 for name in ("image", "sources"))
        mask, source_masks = (sample[name][None].float() for name in ("mask", "source_masks"))
        flows, errors = guidance(image, mask, sources, source_masks)
        drawn = generator(masked(image, mask), masked(sources, source_masks), flows, errors)
        copied = copy_keyframe(image, mask, sources, source_masks, flows, errors)
        filled = composite(drawn, image, mask)
        print(f"{sample['name']}: PSNR in the hole, copied {psnr(copied, image, mask).item():.1f} dB, network "
              f"{psnr(filled, image, mask).item():.1f} dB")
        frames = torch.cat([image, sources[0]]), torch.cat([mask, source_masks[0]])
        tiles += [hatch(frame.permute(1, 2, 0).numpy(), hole[0].numpy()) for frame, hole in zip(*frames, strict=True)]
        tiles += [to_uint8(x[0].permute(1, 2, 0).numpy()) for x in (copied, filled, image)]
    grid = make_grid([torch.from_numpy(tile).permute(2, 0, 1) for tile in tiles], nrow=len(tiles) // len(pairs),
                     padding=4, pad_value=255)
    io.write_image(args.out, grid.permute(1, 2, 0).numpy())
    print(args.out)


if __name__ == "__main__":
    script.run(main)
