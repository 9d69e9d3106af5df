"""Downloads the weights that a configuration needs, or those that are named: raft, ade20k, inception, vgg16,
alexnet, i3d, vgg19.

    gi fetch --config configs/ours.yaml
    gi fetch inception vgg16 --mirror /media/weights

Every file is verified. Existing files are left alone, and interrupted downloads are resumed. ade20k is for training
only. checkpoints/README.md says what each file is for and where it comes from.
"""
import sys
from pathlib import Path

from gi import resources
from gi.commands import script


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status. Raises InputError."""
    parser = script.Parser(prog="gi fetch", description=__doc__, formatter_class=script.Layout)
    parser.add_argument("names", metavar="NAME", nargs="*", help="one of those above")
    parser.add_argument("--config", type=Path, help="configuration; default: configs/ours.yaml, if nothing is named")
    parser.add_argument("--mirror", help="base URL or folder to take the files from instead of their projects")
    parser.add_argument("--to", type=Path, default=resources.home(),
                        help="folder that has checkpoints/..., where the files are put")
    script.allow_option(parser)
    args = parser.parse_args(argv)
    from gi.commands.weights import file_named
    from gi.weights.fetch import FetchError, fetch, required_by_config
    items = [file_named(name) for name in dict.fromkeys(args.names)]
    if args.config is not None or not items:
        items += [item for item in required_by_config(args.config or "configs/ours.yaml")
                  if item not in items]
    failed = 0
    for item in items:
        try:
            with script.download_progress() as progress:
                task = progress.add_task(item.file.name, total=None)
                status = fetch(item, args.to, mirror=args.mirror,
                               progress=lambda done, total: progress.update(task, completed=done, total=total))  # noqa: B023
            print(f"{item.file.name}: {item.path}: {status}")
        except FetchError as error:
            print(f"{item.file.name}: {error}", file=sys.stderr)
            failed += 1
    if not items:
        print(f"{args.config}: needs no weights from elsewhere")
    if failed:
        print(f"{failed} of {len(items)} files could not be fetched", file=sys.stderr)
    return int(failed > 0)
