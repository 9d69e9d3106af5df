"""What the paper reports (`paper.yaml`). A configuration states which row its results stand beside:

    paper: {row: ours, tables: {two: 4, four: 2}}

the table for each test set by its name. Results without a row of the paper stand alone.
"""
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

import yaml

from gi.config.schema import nearest
from gi.errors import InputError

TABLES: dict[int, dict] = yaml.safe_load((resources.files("gi.report") / "paper.yaml").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Row:
    """A row of one of the paper's tables."""

    table: int
    row: str

    @property
    def scores(self) -> dict:
        """By the keys of our scores."""
        return TABLES[self.table]["rows"][self.row]

    @property
    def label(self) -> str:
        return f"{self.row} (paper, table {self.table})"

    @property
    def note(self) -> str:
        return f"The paper's figures are of {TABLES[self.table]['of']}; others have other scores."


def find_row(table: object, row: object, path: str = "paper") -> Row:
    """Raises InputError, naming `path`, unless the paper has such a table and row."""
    if type(table) is not int or table not in TABLES:
        raise InputError(f"{path}: the paper has no table {table!r} of results, only {', '.join(map(str, TABLES))}")
    rows = TABLES[table]["rows"]
    if not isinstance(row, str) or row not in rows:
        raise InputError(f"{path}: table {table} of the paper has no row {row!r}, only {', '.join(rows)}"
                         f"{nearest(row, rows)}")
    return Row(table, row)


def parse_row(text: str) -> Row:
    """Of a command line: "4:ours". Raises InputError for something else."""
    table, colon, row = text.partition(":")
    if not colon:
        raise InputError(f"--paper {text}: expected TABLE:ROW, such as 4:ours")
    return find_row(int(table) if table.isdecimal() else table, row, f"--paper {text}")


def stated_rows(config: Mapping) -> dict[str, Row]:
    """{test set: row} as the section `paper` of a configuration states; {} without a row there. Raises InputError for a
    table or row that the paper does not have, and for other keys.
    """
    section = config.get("paper") or {}
    tables = section.get("tables") or {} if isinstance(section, Mapping) else None
    if not isinstance(tables, Mapping):
        raise InputError("paper: expected a row and the tables of test sets: {row: ours, tables: {two: 4, four: 2}}")
    for key in section:
        if key not in ("row", "tables"):
            raise InputError(f"paper.{key}: no such key{nearest(key, ['row', 'tables'])}; it has row, tables")
    row = section.get("row")
    if row is None:
        return {}
    if not tables:
        raise InputError("paper.tables: is missing, expected the table for each test set, such as {two: 4, four: 2}")
    return {name: find_row(table, row, f"paper.tables.{name}") for name, table in tables.items()}
