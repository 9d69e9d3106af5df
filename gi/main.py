"""`python gi/main.py …` is `gi train …`, from any folder and without installing anything. The files of scripts/ begin
here, too.

    python gi/main.py --base configs/ours.yaml
    python gi/main.py --base configs/ours.yaml --train false --resume_from_checkpoint models/ours.ckpt
    python gi/main.py -r logs/2026-01-31T12-00-00_ours
"""
import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:  # run as a file: the package is beside it, and gi/ itself is no place to find modules in
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from gi.__main__ import main as command
from gi.__main__ import run_module  # noqa: F401  for scripts/


def main(argv: Sequence[str] | None = None) -> dict:
    """For Python: `gi train` with these arguments. Returns the results; raises InputError, and whatever ends a training
    early.
    """
    from gi.commands.train import run_from
    return run_from(sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    command(["train", *sys.argv[1:]])
