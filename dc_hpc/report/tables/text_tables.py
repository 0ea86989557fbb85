"""Writes a table in two forms: all numbers for a program (CSV), few and rounded for a person (Markdown)."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from dc_hpc.report.frames.schema import csv_text

# The columns that a narrow table leaves out first.
RANGES = ("quartiles", "range", "IA range")
_LEAST = (*RANGES, "n, IA", "n, last NMI")


@dataclass(frozen=True)
class Table:
    """A table of the report.

    columns, rows: exact, for CSV. heads, lines: for people, all text; roles: of the heads, as of Item. caption: one
    line with data set, protocol and n.
    """

    name: str
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    heads: Sequence[str]
    lines: Sequence[Sequence[str]]
    roles: Sequence[str] = ()


class Item(NamedTuple):
    """One cell of a table: `value` under `name` for programs, `text` under `head` for people.

    Without a name programs do not get it; without a head people do not. role: `setting` where it tells which runs the
    line is about, `note` where it is for the person who works on the runs and not for a reader of the results.
    """

    name: str | None
    value: Any = None
    head: str | None = None
    text: str = ""
    role: str = ""


def table_of(name: str, caption: str, rows: Sequence[Sequence[Item]]) -> Table:
    """A table of rows of items, all with the same names and heads. People see no column that is empty."""
    first = rows[0] if rows else []
    filled = [i for i, item in enumerate(first) if item.head is not None and any(row[i].text for row in rows)]
    return Table(
        name,
        caption,
        [item.name for item in first if item.name is not None],
        [[item.value for item in row if item.name is not None] for row in rows],
        [str(first[i].head) for i in filled],
        [[row[i].text for i in filled] for row in rows],
        [first[i].role for i in filled],
    )


def csv_of(table: Table) -> str:
    """The exact numbers."""
    return csv_text(table.columns, table.rows)


def markdown_of(table: Table, *, most: int | None = None, width: int | None = None) -> str:
    """A padded pipe table that reads well as plain text, too.

    most: lines to show. width: the number of characters a line may have; columns are left out until the table fits, and
    the caption is folded.
    """
    lines = list(table.lines[:most])
    heads, kept = _fitting(table.heads, lines, width)
    cells = [[_markdown(cell) for cell in row] for row in [heads, *([line[i] for i in kept] for line in lines)]]
    widths = [max(3, *(len(row[i]) for row in cells)) for i in range(len(heads))]
    right = [all(is_number(row[i]) for row in cells[1:]) for i in range(len(heads))]
    text = [_padded(cells[0], widths, right)]
    text.append("|" + "|".join("-" * (w + 1) + (":" if r else "-") for w, r in zip(widths, right)) + "|")
    text += [_padded(row, widths, right) for row in cells[1:]]
    if len(table.lines) > len(lines):
        text.append(f"\n... and {len(table.lines) - len(lines)} more lines in {table.name}.csv")
    caption = textwrap.wrap(table.caption, width or len(table.caption) + 1, break_on_hyphens=False)
    return "\n".join([*caption, "", *text]) + "\n"


def number(value: float | None, digits: int) -> str:
    """A rounded number, nothing for None."""
    return "" if value is None else f"{value:.{digits}f}"


def span(low: float | None, high: float | None, digits: int) -> str:
    """Two ends of a range, nothing for None."""
    return "" if low is None or high is None else f"{low:.{digits}f} to {high:.{digits}f}"


def is_number(text: str) -> bool:
    """Whether a cell holds a plain number or nothing, so that its column is set to the right."""
    return text == "" or text.lstrip("-").replace(".", "", 1).isdigit()


def _fitting(heads: Sequence[str], lines: Sequence[Sequence[str]], width: int | None) -> tuple[list[str], list[int]]:
    """The heads and places of the columns that fit; ranges are left out first, then columns from the right."""
    kept = list(range(len(heads)))
    widths = [
        max(3, len(head), *(len(_markdown(line[i])) for line in lines)) if lines else max(3, len(head))
        for i, head in enumerate(heads)
    ]
    leaving = [i for name in _LEAST for i in kept if heads[i] == name]
    leaving += [i for i in reversed(kept) if i not in leaving]
    while width is not None and len(kept) > 1 and sum(widths[i] + 3 for i in kept) + 1 > width:
        kept.remove(leaving.pop(0))
    return [heads[i] for i in kept], kept


def _padded(row: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    return "| " + " | ".join(cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(row, widths, right)) + " |"


def _markdown(text: str) -> str:
    return " ".join(text.replace("\\", "\\\\").replace("|", "\\|").split())
