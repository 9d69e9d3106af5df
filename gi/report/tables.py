"""Tables as text by rows: one content, drawn on the console or in a report."""
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import rich.table
from rich import box
from rich.console import Console
from rich.markup import escape

STYLES = {"best": "bold", "better": "green", "worse": "red"}


@dataclass
class Table:
    """Text by rows under a heading of the same length.

    Attributes:
        marks: {(row, column): what to show of a cell besides its text}: "best" of its column, "better" or "worse" than
            what it is compared with.
        note: what to know when reading it.
    """

    heading: Sequence[str]
    rows: Sequence[Sequence[str]]
    marks: Mapping[tuple[int, int], str] = field(default_factory=dict)
    title: str = ""
    note: str = ""


def console_table(table: Table) -> rich.table.Table:
    """The table as `print_table` takes it."""
    drawn = rich.table.Table(title=escape(table.title) or None, caption=escape(table.note) or None, box=box.SIMPLE_HEAD)
    for column, heading in enumerate(table.heading):
        drawn.add_column(escape(heading), justify="right" if column else "left", no_wrap=True)
    for r, row in enumerate(table.rows):
        drawn.add_row(*(marked(escape(cell), table.marks.get((r, c))) for c, cell in enumerate(row)))
    return drawn


def markdown_table(table: Table) -> list[str]:
    """Lines of the table in Markdown, without title and note; the best of a column is bold."""
    rows = [[f"**{cell}**" if table.marks.get((r, c)) == "best" else cell for c, cell in enumerate(row)]
            for r, row in enumerate(table.rows)]
    lines = [" | ".join(["", *row, ""]).strip() for row in (table.heading, *rows)]
    return [lines[0], "|---" * len(table.heading) + "|", *lines[1:]]


def marked(text: str, mark: str | None) -> str:
    """Text for the console in the style of its mark, if it has one."""
    return f"[{STYLES[mark]}]{text}[/]" if mark else text


def print_table(table: rich.table.Table) -> None:
    """Prints to standard output; where that is no terminal, as wide as the table needs."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # after hours of evaluation, a sign the terminal lacks stops nothing
    console = Console()
    if not console.is_terminal:
        console = Console(width=max(console.width, 160))
    console.print(table)
