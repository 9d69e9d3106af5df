"""Coarse to fine against temporal MultiDiffusion: over how many frames the content of a keyframe is preserved.

    python -m tools.diffusion_study.long --checkpoint network.safetensors --out docs/diffusion_long

Clips are four windows long: an object moves over a moving background, the holes cover it in every frame but the first,
which is the keyframe. Scores per frame, in the hole: PSNR against the clip, and the distance of its colours from those
in the hole of the keyframe (half the L1 distance of histograms, 0 to 1), for which the clip itself is the reference.
Writes results.json, table.md, curves.png and, of the first clips, strip_N.png. In the table, PSNR / distance of
colours.
"""
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from gi.commands import script

WINDOWS = 4
BINS = 6  # of a histogram, for each channel
STRIPS = 3
# How a clip is filled: options of the method `diffusion`, and whether it gets the keyframe. None: the clip itself.
ROWS: dict[str, tuple[dict, bool] | None] = {
    "coarse to fine": ({"plan": "coarse_to_fine"}, True),
    "MultiDiffusion": ({"plan": "multidiffusion"}, True),
    "coarse to fine, no keyframe": ({"plan": "coarse_to_fine"}, False),
    "the clip itself": None,
}


def object_clips(photographs: str | None, *, frames: int, size: int, count: int,
                 seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields clips, uint8 (N, H, W, 3), with the region of an object and a margin around it, bool (N, H, W)."""
    from gi.compositing import pixels_of_tensor
    from tools.diffusion_study.study import clip_sets
    clips = clip_sets(photographs, frames=frames, size=size, count=count, seed=seed)["object"]
    for pixels, masks in zip(clips.pixels, clips.masks, strict=True):
        yield pixels_of_tensor(pixels), masks[:, 0].numpy() > 0


def psnr(picture: np.ndarray, truth: np.ndarray, hole: np.ndarray) -> float:
    """PSNR in dB of the pixels of a hole, bool (H, W); NaN for an empty hole, and where both images are the same."""
    error = (picture[hole].astype(np.float64) - truth[hole]) ** 2 / 255**2
    return float(-10 * np.log10(error.mean())) if error.any() else float("nan")


def colours(picture: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """Histogram (BINS³,) of the pixels of a hole, with sum 1; NaN for an empty one."""
    places = (picture[hole].astype(int) * BINS // 256) @ [BINS**2, BINS, 1]
    return np.bincount(places, minlength=BINS**3) / (len(places) or np.nan)


def scores(filled: np.ndarray, frames: np.ndarray, holes: np.ndarray) -> np.ndarray:
    """(2, N): PSNR in the hole, and distance of its colours from those in the first frame."""
    keyframe = colours(frames[0], holes[0])
    return np.array([[psnr(*each) for each in zip(filled, frames, holes, strict=True)],
                     [abs(colours(picture, hole) - keyframe).sum() / 2
                      for picture, hole in zip(filled, holes, strict=True)]])


def mean(values: np.ndarray, axis: int | tuple[int, ...]) -> np.ndarray:
    """The mean without NaN values; NaN where there are no others."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.nanmean(values, axis=axis)


def table(results: Mapping[str, np.ndarray], length: int) -> str:
    """Markdown, by distance in steps of a window; results: (clips, 2, N). Each cell is a mean ± its standard error over
    clips; the last rows are the differences of coarse to fine to each other filled row.
    """
    from tools.diffusion_study.study import mean_text
    ours, count = results["coarse to fine"], next(iter(results.values())).shape[-1]
    rivals = [name for name, row in ROWS.items() if row is not None and name in results and name != "coarse to fine"]
    rows = dict(results) | {f"coarse to fine − {name}": ours - results[name] for name in rivals}
    parts = [(first, min(first + length - 1, count)) for first in range(1, count, length - 1)]
    head = ["", *(f"{first}–{stop - 1}" for first, stop in parts)]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name, values in rows.items():
        sign = "+" if "−" in name else ""
        cells = []
        for first, stop in parts:
            each = mean(values[:, :, first:stop], axis=2).T
            cells.append(f"{mean_text(each[0], sign + '.2f')} / {mean_text(each[1], sign + '.3f')}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def draw_curves(results: Mapping[str, np.ndarray], path: Path) -> None:
    """Both scores over the distance to the keyframe."""
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 3.5))
    for which, (axis, label) in enumerate(zip(axes, ("PSNR in the hole, dB", "distance of colours to the keyframe"),
                                              strict=True)):
        for name, values in results.items():
            if np.isfinite(values[:, which, 1:]).any():
                axis.plot(range(1, values.shape[-1]), mean(values[:, which, 1:], axis=0), label=name)
        axis.set(xlabel="frames from the keyframe", ylabel=label)
    axes[1].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=100)


def draw_strip(rows: Sequence[np.ndarray], path: Path, pictures: int = 8) -> None:
    """Some frames of each of `rows`, uint8 (N, H, W, 3), side by side; a row below the other."""
    from gi.media import io
    chosen = np.linspace(0, len(rows[0]) - 1, pictures).round().astype(int)
    io.write_image(path, np.concatenate([np.concatenate(list(row[chosen]), axis=1) for row in rows]))


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status. Raises InputError."""
    parser = script.Parser(prog="python -m tools.diffusion_study.long", description=__doc__,
                           formatter_class=script.Layout)
    parser.add_argument("--photographs", metavar="DIR", help="none that the model was trained on; default: synthetic "
                        "textures and shapes")
    parser.add_argument("--checkpoint", type=Path, help="default: the small model of this repository")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=16)
    parser.add_argument("--samples", type=int, default=2, help="number of samples per clip, from different noise")
    parser.add_argument("--size", type=int, default=64, help="height and width of the clips")
    parser.add_argument("--steps", type=int, default=25, help="of sampling; 1: the mean of all plausible contents")
    parser.add_argument("--guidance", type=float, nargs=2, default=[1, 3], metavar=("LOW", "HIGH"))
    parser.add_argument("--seed", type=int, default=5000, help="of the clips")
    parser.add_argument("--device", default="auto")
    args = parser.parse_args(argv)
    from gi.diffusion.method import Diffusion

    def build(seed: int, **options: str) -> Diffusion:
        return Diffusion(checkpoint=args.checkpoint, steps=args.steps, guidance=args.guidance, max_side=args.size,
                         device=args.device, seed=seed, **options)

    length = build(0).plan.frames
    clips = object_clips(args.photographs, frames=WINDOWS * (length - 1) + 1, size=args.size, count=args.clips,
                         seed=args.seed)
    collected: dict[str, list] = {name: [] for name in ROWS}
    with script.progress("fills", args.clips * args.samples * len(ROWS)) as advance:
        for number, (frames, regions) in enumerate(clips):
            holes = regions.copy()
            holes[0] = False
            strip = [np.where(holes[..., None], np.uint8(128), frames)]
            for name, row in ROWS.items():
                for seed in range(args.samples):
                    filled = frames
                    if row is not None:
                        options, with_keyframe = row
                        missing = holes if with_keyframe else regions
                        filled = np.stack(list(build(seed, **options)(frames, missing.astype(np.uint8))))
                    collected[name].append(scores(filled, frames, regions))
                    advance()
                strip.append(filled)
            if number < STRIPS:
                draw_strip(strip, args.out / f"strip_{number}.png")
    results = {name: mean(np.stack(values).reshape(args.clips, args.samples, 2, -1), axis=1)
               for name, values in collected.items()}
    text = table(results, length)
    (args.out / "table.md").write_text(text, encoding="utf-8")
    draw_curves(results, args.out / "curves.png")
    settings = {"checkpoint": str(args.checkpoint), **{name: getattr(args, name) for name in (
        "clips", "samples", "size", "steps", "guidance", "seed")}, "frames": length}
    curves = {name: [[None if np.isnan(x) else round(float(x), 4) for x in curve] for curve in mean(values, axis=0)]
              for name, values in results.items()}
    (args.out / "results.json").write_text(json.dumps({"about": settings, **curves}), encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    script.run(main)
