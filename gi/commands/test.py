"""`gi test`: scores a trained network on the test sets of a configuration."""
from collections.abc import Sequence

from gi.commands import train


def main(argv: Sequence[str] | None = None) -> None:
    """As `gi train --train false`, with the run's folder or the checkpoint as its first word."""
    train.main(argv, test=True)
