"""One table, two faces: all numbers for a program (CSV), few and rounded ones for a person (Markdown, LaTeX)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dc_hpc.report.tables import csv_text

_LATEX = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
          "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}"}  # fmt: skip


@dataclass(frozen=True)
class Table:
    """A table of the report.

    columns, rows: exact, for CSV. heads, lines: for people, all text. caption: one line with data set, protocol and n.
    notes: what is missing or mixed, a line each.
    """

    name: str
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    heads: Sequence[str]
    lines: Sequence[Sequence[str]]
    notes: Sequence[str] = ()


def csv_of(table: Table) -> str:
    """The exact numbers."""
    return csv_text(table.columns, table.rows)


def markdown_of(table: Table, *, most: int | None = None, width: int | None = None) -> str:
    """A padded pipe table that reads well as plain text, too; then the notes.

    most: lines to show. width: columns on the right are left out until it fits.
    """
    lines = list(table.lines[:most])
    heads, kept = _fitting(table.heads, lines, width)
    cells = [[_markdown(cell) for cell in row] for row in [heads, *([line[i] for i in kept] for line in lines)]]
    widths = [max(3, *(len(row[i]) for row in cells)) for i in range(len(heads))]
    right = [all(_numeric(row[i]) for row in cells[1:]) for i in range(len(heads))]
    text = [_padded(cells[0], widths, right)]
    text.append("|" + "|".join("-" * (w + 1) + (":" if r else "-") for w, r in zip(widths, right)) + "|")
    text += [_padded(row, widths, right) for row in cells[1:]]
    if len(table.lines) > len(lines):
        text.append(f"\n... and {len(table.lines) - len(lines)} more lines")
    notes = [f"- {note}" for note in table.notes]
    return "\n".join([table.caption, "", *text, *([""] if notes else []), *notes]) + "\n"


def latex_of(table: Table) -> str:
    """A booktabs table to \\input into a paper."""
    right = [all(_numeric(line[i]) for line in table.lines) for i in range(len(table.heads))]
    lines = ["% needs \\usepackage{booktabs}", r"\begin{table}", r"\centering", rf"\caption{{{_latex(table.caption)}}}",
             rf"\label{{tab:{table.name}}}", rf"\begin{{tabular}}{{{''.join('r' if r else 'l' for r in right)}}}",
             r"\toprule", " & ".join(_latex(head) for head in table.heads) + r" \\", r"\midrule"]  # fmt: skip
    lines += [" & ".join(_latex(cell) for cell in line) + r" \\" for line in table.lines]
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines += [rf"\par\small {_latex(note)}" for note in table.notes]
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def number(value: float | None, digits: int) -> str:
    """A rounded number, nothing for None."""
    return "" if value is None else f"{value:.{digits}f}"


def span(low: float | None, high: float | None, digits: int) -> str:
    """Two ends of a range, nothing for None."""
    return "" if low is None or high is None else f"{low:.{digits}f} to {high:.{digits}f}"


def _fitting(heads: Sequence[str], lines: Sequence[Sequence[str]], width: int | None) -> tuple[list[str], list[int]]:
    """The columns that fit; those named last among _LEAST go first, then from the right."""
    kept = list(range(len(heads)))
    widths = [max(3, len(head), *(len(_markdown(line[i])) for line in lines)) if lines else max(3, len(head))
              for i, head in enumerate(heads)]  # fmt: skip
    leaving = [i for name in ("mean", "range", "quartiles", "chance", "AMI") for i in kept if heads[i] == name]
    leaving += [i for i in reversed(kept) if i not in leaving]
    while width is not None and len(kept) > 1 and sum(widths[i] + 3 for i in kept) + 1 > width:
        kept.remove(leaving.pop(0))
    return [heads[i] for i in kept], kept


def _padded(row: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    return "| " + " | ".join(cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(row, widths, right)) + " |"


def _numeric(text: str) -> bool:
    return text == "" or text.lstrip("-").replace(".", "", 1).isdigit()


def _markdown(text: str) -> str:
    return " ".join(text.replace("\\", "\\\\").replace("|", "\\|").split())


def _latex(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in text)
