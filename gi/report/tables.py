"""Tables of text, the same for the console and for a report."""
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import rich.table
from rich import box, markup
from rich.console import Console

STYLES = {"best": "bold", "better": "green", "worse": "red", "muted": "dim"}


@dataclass
class Table:
    """Text by rows under a heading of the same length, with a note for the reader.

    marks: {(row, column): what to show of a cell besides its text}: "best" of its column, "better" or "worse" than what
    it is compared with, "muted" for what others report.
    """

    heading: Sequence[str]
    rows: Sequence[Sequence[str]]
    marks: Mapping[tuple[int, int], str] = field(default_factory=dict)
    title: str = ""
    note: str = ""


def console_table(table: Table) -> rich.table.Table:
    """The table as rich draws it."""
    drawn = rich.table.Table(title=escape(table.title) or None, caption=escape(table.note) or None, box=box.SIMPLE_HEAD,
                             pad_edge=False, collapse_padding=True)
    for column, heading in enumerate(table.heading):
        lines = escape(heading).replace(" in the hole", "\nin the hole")  # narrow enough for 80 characters
        drawn.add_column(lines, justify="right" if column else "left", no_wrap=True)
    for r, row in enumerate(table.rows):
        styles = [STYLES.get(table.marks.get((r, c), "")) for c in range(len(row))]
        drawn.add_row(*(f"[{style}]{escape(cell)}[/]" if style else escape(cell)
                        for cell, style in zip(row, styles, strict=True)))
    return drawn


def escape(text: str) -> str:
    """Text that rich and the terminal show as it is: names from elsewhere must not clear the screen."""
    return markup.escape(re.sub(r"[\x00-\x1f\x7f-\x9f]", "\N{REPLACEMENT CHARACTER}", text))


def print_table(table: Table) -> None:
    """Prints to standard output; where that is no terminal, as wide as the table needs."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a character the terminal lacks must not end an evaluation
    console = Console()
    if not console.is_terminal:
        console.width = 400  # wider than any table of ours
    console.print(console_table(table))


def markdown_table(table: Table) -> list[str]:
    """Lines of the table in Markdown, without title and note; the best of a column is bold."""
    rows = [[f"**{cell}**" if table.marks.get((r, c)) == "best" else cell for c, cell in enumerate(row)]
            for r, row in enumerate(table.rows)]
    lines = [" | ".join(["", *row, ""]).strip() for row in (table.heading, *rows)]
    return [lines[0], "|---" * len(table.heading) + "|", *lines[1:]]


def printable(value: object) -> str:
    """Text that can be encoded in UTF-8: file names may hold bytes that are not text (surrogates)."""
    return str(value).encode("utf-8", "replace").decode("utf-8")
