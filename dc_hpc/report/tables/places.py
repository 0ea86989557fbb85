"""Numbers of the tables in the running text of a document.

A place is written `<!-- =REFERENCE -->.640<!-- end -->`. A reference is `TABLE.COLUMN:FORMAT`, with what tells its row
apart between them:

    claims.fig_3a.ia_range.value            of the claims: the figure and the claim; their first row, at the paper's
    claims.fig_3a.ia_range[protocol=text].n     settings, unless brackets name another
    fig_4a[k=5].accuracy_median:1           of another table: the columns and values of one row; 1 decimal
    fig_5b[sobel=random,halt_cycle=1].accuracy_median - fig_5b[sobel=random,halt_cycle=10].accuracy_median:0

FORMAT is the number of decimals; `%` after it gives percent of a share, `+` before it the sign. Without one, a word
stands as it is, an integer has commas from 1,000 on, and another number has two decimals, three where it is smaller
than 1. A number smaller than 1 has no zero before its point.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

from dc_hpc.errors import InputError

Rows = Sequence[Mapping[str, str]]

START = "<!-- ="
PLACE = re.compile(r"(<!-- =([^>]+?) -->)((?:(?!<!--).)*)(<!-- end -->)", re.DOTALL)
_REFERENCE = re.compile(r"([a-z0-9_]+)((?:\.[a-z0-9_]+)*?)(?:\[([^]]*)])?\.([a-z0-9_]+)")
_FORMAT = re.compile(r"\+?\d?%?")
_PATH = {"claims": ("figure", "claim")}  # what the words between the name of a table and its column stand for


def fill(text: str, tables: Path, *, document: Path) -> str:
    """The text with the number of each place from the CSV files of the folder `tables`.

    InputError: a reference that is none, or names no table, no row, several rows, or no column.
    """

    @cache
    def rows_of(name: str) -> Rows:
        try:
            with (tables / f"{name}.csv").open(encoding="utf-8", newline="") as file:
                return list(csv.DictReader(file))
        except OSError:
            raise InputError(f"{tables} has no table {name}") from None

    def filled(found: re.Match[str]) -> str:
        try:
            return found[1] + number_of(found[2], rows_of) + found[4]
        except InputError as error:
            raise InputError(f"--document {document}, place <!-- ={found[2]} -->: {error}") from None

    return PLACE.sub(filled, text)


def number_of(reference: str, rows_of: Callable[[str], Rows]) -> str:
    """The text of a reference. rows_of: name of a table -> its rows."""
    body, _, form = reference.partition(":")
    if not _FORMAT.fullmatch(form):
        raise InputError(f"the format {form!r} is none; give a number of decimals, such as :1 or :0%")
    parts = body.split(" - ")
    cells = [_cell(part, rows_of) for part in parts]
    if "" in cells:  # a sentence would lose its number
        raise InputError(f"{parts[cells.index('')]} is empty; give a number that the runs have")
    if len(cells) == 1 and not form and (not _is_number(cells[0]) or cells[0].lstrip("-").isdigit()):
        return f"{int(cells[0]):,}" if _is_number(cells[0]) else cells[0]
    for part, cell in zip(parts, cells):
        if not _is_number(cell):
            raise InputError(f"{part} is {cell!r} and no number")
    numbers = [float(cell) for cell in cells]
    return _written(numbers[0] - sum(numbers[1:]), form)


def _cell(part: str, rows_of: Callable[[str], Rows]) -> str:
    found = _REFERENCE.fullmatch(part)
    if not found:
        raise InputError("a reference is TABLE.COLUMN or TABLE[name=value].COLUMN")
    table, path, brackets, column = found.groups()
    keys = _PATH.get(table, ())
    words = path.split(".")[1:]
    if len(words) != len(keys):
        raise InputError(f"{table} takes {' and '.join(keys) or 'no words'} before its column")
    pairs = [pair.partition("=") for pair in (brackets or "").split(",") if pair]
    if wrong := [name for name, sign, _ in pairs if not sign]:
        raise InputError(f"[{wrong[0]}] names no row; give [name=value,...]")
    wanted = dict(zip(keys, words)) | {name: value for name, _, value in pairs}
    rows = rows_of(table)
    if rows and (unknown := [name for name in (*wanted, column) if name not in rows[0]]):
        raise InputError(f"{table} has no column {unknown[0]}; it has {', '.join(rows[0])}")
    chosen = [row for row in rows if all(row[name] == value for name, value in wanted.items())]
    if not chosen or (len(chosen) > 1 and not keys):
        raise InputError(f"{len(chosen)} rows of {table} are meant; name one by [name=value,...]")
    return chosen[0][column]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _written(value: float, form: str) -> str:
    share, sign = form.endswith("%"), "+" if form.startswith("+") else ""
    value = 100 * value if share else value
    digits = form.strip("+%")
    decimals = int(digits) if digits else 0 if share else 2 if abs(value) >= 1 else 3
    text = f"{value:{sign}.{decimals}f}"
    if float(text) == 0:
        text = text.lstrip("-")
    return re.sub(r"^([+-]?)0\.", r"\1.", text)
