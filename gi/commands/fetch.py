"""Downloads the weights that a configuration needs, or those that are named: raft, ade20k, inception, vgg16,
alexnet, i3d, vgg19.

    python scripts/fetch_weights.py --config configs/ours.yaml
    python scripts/fetch_weights.py inception vgg16 --mirror /media/weights

Every file is verified. What is there is left alone, and an interrupted download goes on where it was. ade20k is for
training only. checkpoints/README.md says what each file is for and where it comes from.
"""
import sys
from pathlib import Path

import gi  # noqa: F401  before everything that imports torchvision

# isort: split
from gi.commands import script
from gi.commands.weights import FILES, wanted
from gi.weights.fetch import FetchError, fetch, wanted_by_config

ROOT = Path(__file__).resolve().parent.parent.parent


def main(argv: list[str] | None = None) -> int:
    parser = script.Parser(description=__doc__, formatter_class=script.Layout)
    parser.add_argument("names", metavar="NAME", nargs="*", help=f"some of {', '.join(FILES)}")
    parser.add_argument("--config", type=Path, help="configuration; None: configs/ours.yaml, if nothing is named")
    parser.add_argument("--mirror", help="base URL or folder to take the files from instead of their projects")
    parser.add_argument("--to", type=Path, default=ROOT, help="folder that their places (checkpoints/...) are below")
    script.allow_option(parser)
    args = parser.parse_args(argv)
    items = [wanted(name) for name in dict.fromkeys(args.names)]
    if args.config is not None or not items:
        items += [item for item in wanted_by_config(args.config or ROOT / "configs" / "ours.yaml")
                  if item not in items]
    failed = 0
    for item in items:
        try:
            with script.download_progress() as progress:
                task = progress.add_task(item.file.name, total=None)
                done = fetch(item, args.to, mirror=args.mirror,
                             progress=lambda done, total: progress.update(task, completed=done, total=total))  # noqa: B023
            print(f"{item.file.name}: {item.path}: {done}")
        except FetchError as error:
            print(f"{item.file.name}: {error}", file=sys.stderr)
            failed += 1
    if not items:
        print(f"{args.config}: needs no weights from elsewhere")
    if failed:
        print(f"{failed} of {len(items)} files could not be fetched", file=sys.stderr)
    return int(failed > 0)
