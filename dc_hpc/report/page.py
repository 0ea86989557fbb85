"""Makes outputs/report.html: one file that opens anywhere, without a network. `page.html` is its template."""

from __future__ import annotations

import base64
import os
import struct
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from dc_hpc.config.baselines import BASELINES
from dc_hpc.report.claims.catalog import count_verdicts
from dc_hpc.report.claims.table import claims_table, measured_words, verdict_words
from dc_hpc.report.findings import Findings, PanelFindings
from dc_hpc.report.frames.runs import records
from dc_hpc.report.grid_states import GridState, command, missing_text
from dc_hpc.report.panels.grouping import Row, dataset_title
from dc_hpc.report.panels.panel import Panel
from dc_hpc.report.panels.paper import ENTRIES, PANELS, Entry
from dc_hpc.report.run_tables import provenance_table, settings_table, slowest_table, troubled_table
from dc_hpc.report.tables.text_tables import Table, is_number

_MOST_LINES, _HOSTS_NAMED = 60, 3
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
    """The whole page. The template escapes all texts. outputs: where `submit` is to go on, for the commands.

    Equal runs give an equal page but for the date; with SOURCE_DATE_EPOCH, the seconds that reproducible builds set,
    the date is equal, too.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent, encoding="utf-8"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    rows = findings.rows
    entries = [
        entry
        for one in (_sweeps(findings), *ENTRIES.values())
        if (entry := _entry(one, findings.shown, outputs))["panels"]
    ]
    text = environment.get_template("page.html").render(
        signs=_SIGNS,
        made=_date(),
        data=_data(rows),
        hosts=_hosts(rows),
        computed=_duration(sum(row.get("seconds") or 0 for row in rows)),
        counts=_counts(findings),
        claims=_claims(findings.verdicts),
        of_the_paper=findings.of_the_paper,
        verdicts=_verdicts(findings.verdicts, {panel["name"] for entry in entries for panel in entry["panels"]}),
        verdict_counts=count_verdicts(findings.verdicts),
        entries=entries,
        incomplete=_incomplete(findings.panels, outputs),
        not_run=list(_not_run(findings.panels, outputs)),
        troubled=_troubled_tables(rows),
        run_tables=_run_tables(rows),
        provenance=_shown(provenance_table(rows)),
        provenance_flags=_provenance_flags(rows),
    )
    return text.lstrip()


def _date() -> str:
    seconds = os.environ.get("SOURCE_DATE_EPOCH", "")
    made = datetime.fromtimestamp(int(seconds), UTC) if seconds.isdigit() else datetime.now(UTC)
    return made.strftime("%Y-%m-%d %H:%M UTC")


def _data(rows: Sequence[Row]) -> str:
    """The data sets with their numbers of runs, the most first: `Fashion-MNIST (12 runs), MNIST (1 run)`."""
    counts = Counter(row["dataset"] for row in rows if row.get("dataset"))
    return ", ".join(f"{dataset_title(name)} ({n} run{'s' * (n != 1)})" for name, n in counts.most_common())


def _hosts(rows: Sequence[Row]) -> str:
    """The hosts of the done runs with their devices: `node1 (cpu-1)`, the first few by name."""
    hosts: dict[str, set[str]] = {}
    for row in rows:
        if row["state"] == "done" and row.get("host"):
            hosts.setdefault(row["host"], set()).add(row.get("device") or "device not recorded")
    named = [f"{host} ({', '.join(sorted(devices))})" for host, devices in sorted(hosts.items())]
    more = f" and {len(named) - _HOSTS_NAMED} more" if len(named) > _HOSTS_NAMED else ""
    return ", ".join(named[:_HOSTS_NAMED]) + more


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:.1f} hours" if seconds >= 3600 else f"{seconds / 60:.1f} minutes"


def _counts(findings: Findings) -> list[dict[str, Any]]:
    """How many runs are done, under way, failed, and missing in the grids that were begun."""
    states = Counter(row["state"] for row in findings.rows)
    known = {row["run_id"] for row in findings.rows}
    begun = [state for found in findings.panels for state in found.grids if state.started]
    missing = {key for state in begun for key in state.missing if key not in known}
    return [
        {"count": states["done"], "words": "done", "link": "runs", "bad": False},
        {
            "count": states["running"] + states["new"] + states["resumable"],
            "words": "running or waiting",
            "link": "runs",
            "bad": False,
        },
        {
            "count": (troubled := states["failed"] + states["damaged"]),
            "words": "failed or damaged",
            "link": "runs",
            "bad": troubled > 0,
        },
        {
            "count": len(missing),
            "words": "missing of begun grids",
            "link": "not-run" if findings.of_the_paper else "runs",
            "bad": False,
        },
    ]


def _verdicts(verdicts: pd.DataFrame, panels: Collection[str]) -> list[dict[str, Any]]:
    """The verdicts at the paper's settings, in the order of the paper. panels: those that the page shows."""
    table = claims_table(verdicts)
    found = []
    for claim, cells in zip(records(verdicts), table.lines):
        if claim["verdict"] == "not run" or claim["unlike_paper"]:
            continue
        by_head = dict(zip(table.heads, cells))
        figure = claim["figure"]
        found.append(
            {
                "verdict": claim["verdict"],
                "verdict_words": verdict_words(claim),
                "words": claim["words"],
                "runs": by_head.get("runs", ""),
                "statistic": claim["statistic"],
                "found": measured_words(claim) or claim["reason"],
                "n": claim["n"],
                "figure": title.partition(":")[0] if ":" in (title := PANELS[figure].title) else figure,
                "link": figure if figure in panels else "",
            }
        )
    return found


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
        "flags": [*found.mixed, *(_problem(state) for state in found.grids if state.problem)],
        "grids": [_grid(state, outputs) for state in found.grids if state.missing],
        "missing": len({key for state in found.grids for key in state.missing}),
    }


def _picture(png: bytes) -> dict[str, Any]:
    width = struct.unpack(">I", png[16:20])[0]  # the first chunk of a PNG starts with its width
    return {"data": base64.b64encode(png).decode("ascii"), "width": round(width * _SHOWN_DPI)}


def _grid(state: GridState, outputs: Path) -> dict[str, Any]:
    return {
        "path": state.path,
        "missing": missing_text(state),
        "command": command(state, outputs),
    }


def _problem(state: GridState) -> str:
    return f"{state.path} cannot be read: {state.problem}"


def _incomplete(panels: Iterable[PanelFindings], outputs: Path) -> list[dict[str, Any]]:
    """The grids that were begun and miss runs, each once."""
    grids = {state.name: state for found in panels for state in found.grids if state.missing and state.started}
    return [_grid(state, outputs) for state in grids.values()]


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


def _troubled_tables(rows: Sequence[Row]) -> dict[str, ShownTable]:
    return {"Failed": _shown(troubled_table(rows, "failed")), "Damaged": _shown(troubled_table(rows, "damaged"))}


def _run_tables(rows: Sequence[Row]) -> dict[str, ShownTable]:
    return {
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
