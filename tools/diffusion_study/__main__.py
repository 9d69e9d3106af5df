"""Scores small diffusion models on held-out clips, next to baselines without a network.

    gi train --base configs/diffusion/small.yaml --no-test
    python -m tools.diffusion_study logs/RUN/checkpoints/network.safetensors --photographs data/photos/val --out study

Each model has a column; several may differ in their seeds or conditions. Writes table.md, results.json and, per kind of
clips, a picture: for each clip its frames, the frames with holes, and the result of each model and way to fill. The
means over seeds are printed by `python -m tools.diffusion_study.compare`.
"""
import json
from pathlib import Path

import numpy as np

from gi.commands import script
from gi.config.device import find_device
from gi.diffusion.callbacks import clip_rows
from gi.diffusion.network import KeyframeDiffusion
from gi.media import io
from gi.report.tables import markdown_table
from tools.diffusion_study import study


def main(argv: list[str] | None = None) -> int:
    parser = script.Parser(prog="python -m tools.diffusion_study", description=__doc__, formatter_class=script.Layout)
    parser.add_argument("models", nargs="+", metavar="FILE", help=".safetensors of a training")
    parser.add_argument("--photographs", metavar="DIR", help="none that a model was trained on; default: synthetic "
                        "textures and shapes")
    parser.add_argument("--videos", metavar="DIR", help="instead of photographs: a folder with `frames` and "
                        "`masks`, in each a folder of every video; masks mark its object")
    parser.add_argument("--rate", type=float, default=12.5, help="frames per second of clips of videos, out of 25")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=64, help="of each kind")
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--size", type=int, default=64, help="pixels, height and width, as in training")
    parser.add_argument("--steps", type=int, default=16, help="of sampling")
    parser.add_argument("--draws", type=int, default=1, help="noise samples that first estimates are averaged over")
    parser.add_argument("--seed", type=int, default=7, help="of clips and noise")
    parser.add_argument("--shown", type=int, default=3, help="clips in each picture")
    parser.add_argument("--show", nargs="+", choices=study.WAYS, metavar="WAY", help=", ".join(study.WAYS),
                        default=["copy_flow", "inpaint", "estimate", "estimate_alone", "sample", "sample_alone"])
    parser.add_argument("--device", default="auto")
    args = parser.parse_args(argv)

    device, names = find_device(args.device), study.labels_of(args.models)
    sets = study.clip_sets(args.videos or args.photographs, rate=args.rate if args.videos else None, count=args.clips,
                           frames=args.frames, size=args.size, seed=args.seed)
    scores, borders = ({name: {} for name in sets} for _ in range(2))
    rows = {name: [] for name in sets}
    with script.progress("models and sets", len(sets) * (1 + len(names))) as advance:
        for name, clips in sets.items():
            filled = study.without_network(clips)
            if name == "random":
                del filled["copy_hole"]  # these holes move independently of the content
            scores[name][""] = {way: study.hole_scores(clips, x) for way, x in filled.items()}
            rows[name] += [filled[way] for way in args.show if way in filled]
            advance()
        for label, path in zip(names, args.models, strict=True):
            network = KeyframeDiffusion.from_pretrained(path, device=device)
            for name, clips in sets.items():
                filled = study.by_network(network, clips, steps=args.steps, seed=args.seed, draws=args.draws)
                scores[name][label] = {way: study.hole_scores(clips, x) for way, x in filled.items()}
                for way in ("sample", "estimate"):
                    borders[name][f"{label}: {way}"] = study.leakage(clips, filled[way])
                rows[name] += [filled[way] for way in args.show if way in filled]
                advance()
    tables = study.score_table(scores), study.leakage_table(borders)
    table = "\n".join(line for part in tables for line in [*markdown_table(part), ""])
    for name, clips in sets.items():
        selection = slice(args.shown)
        io.write_image(args.out / f"{name}.png", clip_rows(clips.pixels[selection], clips.whole_first[selection],
                                                           [x[selection] for x in rows[name]]))
    folders = "out", "photographs", "videos"
    content = {"settings": {name: value for name, value in vars(args).items() if name not in folders},
               "clips": {name: clips.names for name, clips in sets.items()}, "psnr_hole": scores, "border": borders}
    with io.atomic_write(args.out / "results.json") as temporary:
        temporary.write_text(json.dumps(content, indent=1, default=_plain) + "\n")
    with io.atomic_write(args.out / "table.md") as temporary:
        temporary.write_text(table)
    print(table)
    return 0


def _plain(value):
    return [None if np.isnan(x) else round(float(x), 3) for x in value] if isinstance(value, np.ndarray) else str(value)


if __name__ == "__main__":
    script.run(main)
