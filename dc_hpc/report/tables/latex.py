"""Writes a table as LaTeX that fits the text of an article: smaller, without its ranges, or folded."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from dc_hpc.report.tables.text_tables import RANGES, Table, is_number

TEXT_WIDTH = 345.0  # points; of \documentclass{article} with its default options
_LONGEST, _LONGEST_FOLDED = 20, 6  # lines of a table that is not broken over pages; of one with folded texts
_WIDEST = 1.03  # the widths below leave out kerning and the widths of a few signs

# name of a size -> points of an em of cmr10's widths at that size, points on either side of a column.
_SIZES = {"normalsize": (10.0, 6.0), "small": (9.26, 5.0), "footnotesize": (8.5, 4.0), "scriptsize": (7.97, 3.0)}
_SMALLEST = "scriptsize"
# Widths of the letters of Computer Modern (cmr10), thousandths of an em; the others are as wide as a digit, 500.
_WIDTHS = {letter: width for letters, width in {
    "il.,:;'|!": 278, "jf": 306, " -": 333, "rstc()": 420, "ez": 444, "bdhnpukqvxy": 545, "w": 722, "m%+=<>~": 833,
    "I": 361, "ABCDEFGHJKLNOPQRSTUVXYZ": 750, "MW": 1028,
}.items() for letter in letters}  # fmt: skip
_ESCAPED = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_\allowbreak{}", "{": r"\{",
    "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}",
}  # fmt: skip


@dataclass(frozen=True)
class _Column:
    head: str
    cells: Sequence[str]
    role: str

    @property
    def right(self) -> bool:
        return all(is_number(cell) for cell in self.cells)

    @property
    def natural(self) -> float:
        """The width of its widest cell, in ems of cmr10."""
        return max(map(_width, (self.head, *self.cells)))

    @property
    def least(self) -> float:
        """The width of its widest word, below which it cannot be folded, in ems of cmr10."""
        return max(_width(word) for text in (self.head, *self.cells) for word in re.split(r"(?<=[ _-])", text))


def latex_of(table: Table) -> str:
    """A booktabs table to \\input into a paper, no wider than the text of an article.

    It has no column that is a note for the person who works on the runs. Where the rest is too wide, the letters become
    smaller, then the ranges are left out, then texts are folded, and last the settings share a column.
    """
    roles = table.roles or [""] * len(table.heads)
    columns = [
        _Column(head, [line[i] for line in table.lines], roles[i])
        for i, head in enumerate(table.heads)
        if roles[i] != "note"
    ]
    columns, size, places = _fitted(columns)
    rows = [" & ".join(_cell(column.cells[i]) for column in columns) + r" \\" for i in range(len(table.lines))]
    head = " & ".join(_escaped(column.head) for column in columns) + r" \\"
    open_group = rf"\{size}\setlength{{\tabcolsep}}{{{_SIZES[size][1]:g}pt}}"
    named = rf"\caption{{{_escaped(table.caption)}}}\label{{tab:{table.name}}}"
    if len(rows) > (_LONGEST_FOLDED if "p{" in places else _LONGEST):
        lines = [
            "% needs \\usepackage{array,booktabs,longtable}", rf"{{{open_group}",
            rf"\begin{{longtable}}{{{places}}}", named + r"\\", r"\toprule", head, r"\midrule", r"\endfirsthead",
            r"\toprule", head, r"\midrule", r"\endhead", *rows, r"\bottomrule", r"\end{longtable}}",
        ]  # fmt: skip
    else:
        lines = [
            "% needs \\usepackage{array,booktabs}", r"\begin{table}", r"\centering" + open_group, named,
            rf"\begin{{tabular}}{{{places}}}", r"\toprule", head, r"\midrule", *rows, r"\bottomrule", r"\end{tabular}",
            r"\end{table}",
        ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _fitted(columns: list[_Column]) -> tuple[list[_Column], str, str]:
    """The columns that fit the text, the size of the letters, and the places of the columns for a tabular."""
    ranges = [column for name in RANGES for column in columns if column.head == name]
    for size in (*_SIZES, *[_SMALLEST for _ in ranges]):
        if sum(column.natural for column in columns) * _SIZES[size][0] <= _room(columns, size):
            return columns, size, _places([("r" if column.right else "l") for column in columns])
        if size == _SMALLEST and ranges:
            columns = [column for column in columns if column is not ranges[0]]
            del ranges[0]
    found = _folded(columns)
    if found is None and sum(column.role == "setting" for column in columns) > 1:
        columns = _settings_joined(columns)
        found = _folded(columns)
    while found is None:
        columns = columns[:-1]
        found = _folded(columns)
    return columns, _SMALLEST, found


def _folded(columns: Sequence[_Column]) -> str | None:
    """The places of the columns where texts are folded as much as is needed; None where they cannot be."""
    em = _SIZES[_SMALLEST][0]
    widths = [(column.natural if column.right else column.least) * em for column in columns]
    left = _room(columns, _SMALLEST) - sum(widths)
    if left < 0 and len(columns) > 1:
        return None
    # What is left goes to the folded columns, to each as much of what it wants as to the others.
    wanted = [column.natural * em - width for column, width in zip(columns, widths)]
    share = min(1.0, max(0.0, left) / sum(wanted)) if sum(wanted) > 0 else 0.0
    places = []
    for column, width, more in zip(columns, widths, wanted):
        folded = rf">{{\raggedright\arraybackslash}}p{{{(width + share * more) / TEXT_WIDTH:.4f}\linewidth}}"
        places.append("r" if column.right else "l" if share == 1.0 or more == 0 else folded)
    return _places(places)


def _settings_joined(columns: Sequence[_Column]) -> list[_Column]:
    """The columns with one for all settings, `k 10, pca off`, in the place of the first."""
    settings = [column for column in columns if column.role == "setting"]
    cells = [
        ", ".join(f"{column.head} {column.cells[i]}" for column in settings if column.cells[i])
        for i in range(len(settings[0].cells))
    ]
    joined = _Column("settings", cells, "setting")
    return [joined if column is settings[0] else column for column in columns if column not in settings[1:]]


def _room(columns: Sequence[_Column], size: str) -> float:
    """The points that the cells may take."""
    return TEXT_WIDTH - 2 * _SIZES[size][1] * (len(columns) - 1)


def _places(places: Sequence[str]) -> str:
    return "@{}" + "".join(places) + "@{}"


def _width(text: str) -> float:
    return _WIDEST * sum(_WIDTHS.get(letter, 500) for letter in text) / 1000


def _cell(text: str) -> str:
    """A text with its signs escaped, and the hyphen before a number as a minus."""
    return re.sub(r"(?<![^ (])-(?=[.0-9])", "$-$", _escaped(text))


def _escaped(text: str) -> str:
    return "".join(_ESCAPED.get(letter, letter) for letter in text)
