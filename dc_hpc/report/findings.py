"""Collects what the report knows: the runs, the claims, and of each panel its tables and its grids."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from dc_hpc.config.yaml_reader import did_you_mean
from dc_hpc.errors import InputError
from dc_hpc.report.claims.catalog import claims
from dc_hpc.report.frames.csv_files import read_tables
from dc_hpc.report.frames.runs import load, records
from dc_hpc.report.grid_states import GridState, absent_rows, grid_states
from dc_hpc.report.panels.grouping import Row, group_columns, label, varying_settings
from dc_hpc.report.panels.panel import Panel, PanelRows
from dc_hpc.report.panels.paper import ENTRIES, PANELS
from dc_hpc.report.sweeps.own_runs import is_of_the_paper, own_runs, sweeps_of
from dc_hpc.report.tables.text_tables import Table
from dc_hpc.report.test_sets import with_predictions

SWEEP = "sweep"  # what --only calls a person's own sweeps
_MIXED_NAMED = 3
_UNKNOWN = "none recorded"
# column -> what people call several of it. Runs that differ in one of these should not be compared.
_NEVER_MIXED = {
    "commit": "commits",
    "engine": "k-means backends",
    "protocol": "protocols",
    "numerics": "numerics",
}


@dataclass
class PanelFindings:
    """A panel and what was found for it.

    rows: the panel's own runs, selected once. mixed: the warnings of `mixed`. pictures: `png` and `pdf`, set when the
    figure is drawn; error: why it could not be drawn.
    """

    panel: Panel
    rows: PanelRows
    tables: list[Table]
    grids: list[GridState]
    mixed: list[str]
    pictures: dict[str, bytes] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True)
class Findings:
    """Everything that the report is made of.

    runs, cycles: the frames of `frames.runs.load`. rows: `runs` as dictionaries. verdicts: of `claims.catalog.claims`.
    panels: the panels that were asked for. sweeps: a person's own, each a panel. of_the_paper: whether any run has a
    data set of the paper; where none has, the paper has nothing to say and its panels and claims are not shown.
    """

    runs: pd.DataFrame
    cycles: pd.DataFrame
    rows: list[Row]
    verdicts: pd.DataFrame
    panels: list[PanelFindings]
    sweeps: list[PanelFindings]
    of_the_paper: bool

    @property
    def shown(self) -> list[PanelFindings]:
        """All that has a table: a person's own sweeps first."""
        return [found for found in (*self.sweeps, *self.panels) if found.tables]

    def of_panels(self, panels: Collection[Panel]) -> Findings:
        """The same with the claims of these panels only."""
        names = [panel.name for panel in panels]
        return replace(self, verdicts=self.verdicts[self.verdicts["figure"].isin(names)])


def read(outputs: Path, tables: Sequence[Path] = ()) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The runs and the cycles of a folder of runs, or of one or more runs.csv and the cycles.csv beside each.

    InputError where there is no run, or a folder or file cannot be read.
    """
    if tables:
        return read_tables(tables)
    try:
        return load(outputs)
    except InputError as error:
        raise InputError(f"--outputs: {error}") from None
    except OSError as error:
        raise InputError(f"--outputs {outputs} cannot be read ({error.strerror})") from None


def collect(
    runs: pd.DataFrame,
    cycles: pd.DataFrame,
    panels: Collection[Panel],
    *,
    jobs: Path,
    data: Path,
    with_sweeps: bool = True,
    outputs: Path | None = None,
) -> Findings:
    """The findings of the panels, not drawn yet, and the verdicts of all claims. jobs: the folder of the grids.

    outputs: the folder of the run directories, where the runs come from one, for the predictions of the runs.
    with_sweeps: whether a person's own sweeps are looked for, too.
    """
    rows = records(runs) if outputs is None else with_predictions(records(runs), outputs)
    of_the_paper = any(is_of_the_paper(row) for row in rows)
    panels = panels if of_the_paper else []
    of_grids = PANELS.values() if with_sweeps and of_the_paper else panels
    grids = grid_states((name for panel in of_grids for name in panel.grids), jobs, data, rows)
    selected = {name: replace(found, cycles=cycles) for name, found in select_all(rows, grids).items()}
    found = [_panel_findings(panel, selected[panel.name], grids) for panel in panels]
    own = (
        sweeps_of(own_runs(rows, selected, {name: state.runs for name, state in grids.items()})) if with_sweeps else []
    )
    sweeps = [_panel_findings(panel, panel.select(rows), grids) for panel in own]
    return Findings(runs, cycles, rows, claims(selected), found, sweeps, of_the_paper)


def select_all(rows: Sequence[Row], grids: Mapping[str, GridState]) -> dict[str, PanelRows]:
    """The rows of each panel of the paper, by its name. grids: those whose absent runs count as missing."""
    return {panel.name: panel.select([*rows, *absent_rows(_grids_of(panel, grids), rows)]) for panel in PANELS.values()}


def panels_of(only: Sequence[str]) -> list[Panel]:
    """The panels of the named entries (or the named panels); all panels where no name is given. SWEEP names none.

    InputError for another name.
    """
    panels = [panel for entry in ENTRIES.values() for panel in entry.panels]
    known = {entry.name: entry.panels for entry in ENTRIES.values()} | {panel.name: (panel,) for panel in panels}
    known[SWEEP] = ()
    for name in only:
        if name not in known:
            raise InputError(
                f"--only {name}: no such table or figure{did_you_mean(name, tuple(known))}; allowed: "
                f"{SWEEP}, {', '.join(ENTRIES)}, or one of their parts, such as fig_4b"
            )
    chosen = [panel for name in only for panel in known[name]]
    return [panel for panel in panels if panel in chosen or not only]


def mixed(panel: Panel, rows: PanelRows) -> list[str]:
    """Warnings of cells whose runs differ in what should not be mixed (_NEVER_MIXED): a few lines at most."""
    cells = panel.compared(rows)
    lines, varying = [], varying_settings(cells, group_columns(cells, panel.axis))
    for cell in cells:
        where = label(cell.settings, [name for name in varying if name in cell.settings]) or "all"
        where = where if "cycles" in cell.settings else f"IA, {where}"
        for name, noun in _NEVER_MIXED.items():
            values = sorted({str(row.get(name) or _UNKNOWN)[:12] for row in cell.rows if row["state"] == "done"})
            if len(values) > 1:
                lines.append(f"{where}: runs of {len(values)} {noun} ({', '.join(values)})")
    lines = list(dict.fromkeys(lines))
    more = len(lines) - _MIXED_NAMED
    return lines[:_MIXED_NAMED] + ([f"and {more} more"] if more > 0 else [])


def _panel_findings(panel: Panel, rows: PanelRows, grids: Mapping[str, GridState]) -> PanelFindings:
    tables = [table for table in panel.tables(rows) if table.rows]
    return PanelFindings(panel, rows, tables, list(_grids_of(panel, grids)), mixed(panel, rows) if tables else [])


def _grids_of(panel: Panel, grids: Mapping[str, GridState]) -> Iterable[GridState]:
    return (grids[name] for name in panel.grids if name in grids)
