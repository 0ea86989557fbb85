"""Makes outputs/report.html: one file that opens anywhere, without a network. `page.html` is its template."""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from dc_hpc.config.baselines import BASELINES
from dc_hpc.report.claims.table import claims_table
from dc_hpc.report.findings import Findings, PanelFindings
from dc_hpc.report.grid_states import GridState, command, missing_text
from dc_hpc.report.panels.grouping import Row, dataset_title
from dc_hpc.report.panels.panel import Panel
from dc_hpc.report.panels.paper import ENTRIES, Entry
from dc_hpc.report.run_tables import STATES, provenance_table, settings_table, slowest_table, troubled_table
from dc_hpc.report.text_tables import Table, is_number

_MOST_LINES = 60
_SIGNS = {"supported": "✓", "contradicted": "✕", "undecided": "?", "not run": "–"}
_SHOWN_DPI = 96 / 160  # figures are drawn with 160 dots an inch


@dataclass(frozen=True)
class ShownTable:
    """A table as the template shows it: its first lines, and how many more there are in its CSV.

    right: whether a column holds numbers only. count: all lines.
    """

    name: str
    caption: str
    heads: Sequence[str]
    right: Sequence[bool]
    lines: Sequence[Line]
    count: int

    @property
    def more(self) -> int:
        """The number of lines that are not shown."""
        return self.count - len(self.lines)


@dataclass(frozen=True)
class Line:
    """A line of a shown table. mark: a CSS class, or nothing."""

    cells: Sequence[str]
    mark: str = ""


def page(findings: Findings, *, outputs: Path) -> str:
    """The whole page. It holds no time, so that equal runs give an equal page. The template escapes all texts."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent, encoding="utf-8"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    rows = findings.rows
    counts = {state: sum(row["state"] == state for row in rows) for state in STATES}
    text = environment.get_template("page.html").render(
        signs=_SIGNS,
        counts={state: count for state, count in counts.items() if count or state == "done"},
        hours=sum(row.get("seconds") or 0 for row in rows) / 3600,
        claims=_claims(findings.verdicts),
        of_the_paper=findings.of_the_paper,
        entries=[
            entry
            for one in (_sweeps(findings), *ENTRIES.values())
            if (entry := _entry(one, findings.shown, outputs))["panels"]
        ],
        not_run=list(_not_run(findings.panels, outputs)),
        run_tables=_run_tables(rows),
        provenance=_shown(provenance_table(rows)),
        provenance_flags=_provenance_flags(rows),
    )
    return text.lstrip()


def _claims(verdicts: pd.DataFrame) -> dict[str, ShownTable]:
    """The judged claims, and the open ones, which have no run."""
    table = claims_table(verdicts)
    marks = ["unlike" if unlike else "" for unlike in verdicts["unlike_paper"]]
    lines = [Line(cells, mark) for cells, mark in zip(table.lines, marks)]
    is_open = [verdict == "not run" for verdict in verdicts["verdict"]]
    return {
        "judged": _shown(table, [line for line, unjudged in zip(lines, is_open) if not unjudged]),
        "open": _shown(table, [Line(line.cells) for line, unjudged in zip(lines, is_open) if unjudged]),
    }


def _sweeps(findings: Findings) -> Entry:
    """A person's own sweeps as the first entry of the page."""
    panels = tuple(found.panel for found in findings.sweeps)
    return Entry("sweeps", "Your own sweeps", "yours", panels, "Your sweeps")


def _entry(entry: Entry, panels: Sequence[PanelFindings], outputs: Path) -> dict[str, Any]:
    where = {"ours": "Beside the paper", "yours": "Runs whose settings no table or figure of the paper has"}.get(
        entry.section, f"Section {entry.section} of the paper"
    )
    cards = [_card(found, outputs) for found in panels if found.tables and found.panel in entry.panels]
    return {"name": entry.name, "title": entry.title, "short": entry.short, "where": where, "panels": cards}


def _card(found: PanelFindings, outputs: Path) -> dict[str, Any]:
    table, *others = (_shown(table) for table in found.tables)
    return {
        "name": found.panel.name,
        "dataset": _dataset(found.panel),
        "says": found.panel.says,
        "picture": _picture(found.pictures["png"]) if "png" in found.pictures else None,
        "error": found.error,
        "table": table,
        "others": others,
        "mixed": found.mixed,
        "grids": [_grid(state, outputs) for state in found.grids if state.missing or state.problem],
    }


def _picture(png: bytes) -> dict[str, Any]:
    width = struct.unpack(">I", png[16:20])[0]  # the first chunk of a PNG starts with its width
    return {"data": base64.b64encode(png).decode("ascii"), "width": round(width * _SHOWN_DPI)}


def _grid(state: GridState, outputs: Path) -> dict[str, Any]:
    return {
        "path": state.path,
        "problem": state.problem,
        "missing": missing_text(state),
        "command": command(state, outputs),
    }


def _not_run(panels: Iterable[PanelFindings], outputs: Path) -> Iterable[dict[str, Any]]:
    """The panels without a single run, with the commands that make the runs. A shared grid counts once."""
    counted: set[str] = set()
    for found in panels:
        if found.tables:
            continue
        grids = [state for state in found.grids if not state.problem]
        runs = sum(len(state.missing) for state in grids if state.name not in counted)
        counted |= {state.name for state in grids}
        commands = [command(state, outputs) for state in grids]
        yield {"name": found.panel.name, "title": found.panel.title, "runs": runs, "commands": commands}


def _run_tables(rows: Sequence[Row]) -> dict[str, ShownTable]:
    return {
        "Failed": _shown(troubled_table(rows, "failed")),
        "Damaged": _shown(troubled_table(rows, "damaged")),
        "Slowest": _shown(slowest_table(rows)),
        "Every setting": _shown(settings_table(rows)),
    }


def _provenance_flags(rows: Sequence[Row]) -> list[str]:
    done = [row for row in rows if row["state"] == "done"]
    commits = {row.get("commit") for row in done}
    changed = sum(bool(row.get("dirty")) for row in done)
    flags = [f"The done runs are of {len(commits)} commits."] if len(commits) > 1 else []
    return flags + ([f"Code changed since its commit made {changed} run{'s' * (changed != 1)}."] if changed else [])


def _shown(table: Table, lines: Sequence[Line] | None = None) -> ShownTable:
    """A table for the template. lines: those of the table unless given."""
    every = [Line(cells) for cells in table.lines] if lines is None else lines
    shown = every[:_MOST_LINES]
    right = [all(is_number(line.cells[column]) for line in shown) for column in range(len(table.heads))]
    return ShownTable(table.name, table.caption, table.heads, right, shown, len(every))


def _dataset(panel: Panel) -> str:
    if panel.base not in BASELINES:
        return panel.title
    base = BASELINES[panel.base]
    return dataset_title(base["dataset"]) + (", AlexNet" if base["net"] == "alexnet" else "")
