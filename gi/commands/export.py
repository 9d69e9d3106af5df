"""Writes the weights of a run's network, the averaged ones if there are any, to a small .safetensors file.

    gi export logs/<run>/checkpoints/last.ckpt --out ours_small.safetensors

The network's configuration is in the file, so that it can be used like a checkpoint: `gi inpaint --checkpoint
ours_small.safetensors …`, `Inpainter.from_pretrained("ours_small.safetensors")`.
"""
from pathlib import Path

from gi.commands import script
from gi.errors import InputError


def main(argv: list[str] | None = None) -> None:
    """Raises InputError."""
    parser = script.Parser(prog="gi export", description=__doc__, formatter_class=script.Layout)
    parser.add_argument("checkpoint", type=Path, help="ours, or the original release's")
    parser.add_argument("--out", type=Path, required=True, help="file to write, ending in .safetensors")
    parser.add_argument("--config", type=Path, help="the network's configuration; default: that of the run")
    script.allow_option(parser)
    parser.add_argument("--full", action="store_true", help="32 bits; default: 16 for the larger weights")
    parser.add_argument("--part", nargs="*", default=[], metavar="PART=CHECKPOINT",
                        help="parts of the network to take from other runs, such as pixel_write=FILE")
    parser.add_argument("--about", nargs="*", default=[], metavar="KEY=VALUE", help="for the file's metadata")
    args = parser.parse_args(argv)
    if args.out.suffix != ".safetensors":
        raise InputError(f"--out {args.out}: expected a name ending in .safetensors")
    from gi.weights.export import export_generator
    metadata, parts = (dict(entry.partition("=")[::2] for entry in entries) for entries in (args.about, args.part))
    size = export_generator(args.config, args.checkpoint, args.out, half=not args.full,
                            metadata=metadata, parts=parts)
    print(f"{args.out}: {size:,} bytes")
