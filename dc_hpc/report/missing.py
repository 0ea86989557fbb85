"""The table of what is missing: of each panel the seeds that are not done, and the command that runs them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from dc_hpc.report.findings import PanelFindings
from dc_hpc.report.grid_states import command, missing_seeds
from dc_hpc.report.panels.grouping import ACCURACY, Cell, group_columns, shown, split
from dc_hpc.report.tables.text_tables import Item, Table, table_of


def missing_table(panels: Sequence[PanelFindings], outputs: Path) -> Table:
    """A line for each panel, grid and setting with missing seeds. outputs: where the runs are.

    The command runs whatever is missing of the grid. A run that no grid of the panel asks for, such as a failed one of
    a person's own grid, has none: submit its grid again.
    """
    lines = [
        [
            Item("panel", panel),
            Item("grid", grid),
            Item("settings", settings),
            Item("missing", len(seeds)),
            Item("seeds", " ".join(map(str, seeds))),
            Item("command", line),
        ]
        for found in panels
        for panel, grid, settings, seeds, line in (*_of_grids(found, outputs), *_of_other_runs(found))
    ]
    if lines:
        return table_of("missing", "The runs that are missing.", lines)
    return Table(
        "missing", "No run is missing.", ["panel", "grid", "settings", "missing", "seeds", "command"], [], [], []
    )


def _of_grids(found: PanelFindings, outputs: Path) -> Iterator[tuple[str, str, str, list[int], str]]:
    for state in found.grids:
        for settings, seeds in missing_seeds(state):
            yield found.panel.name, state.name, settings, seeds, command(state, outputs)


def _of_other_runs(found: PanelFindings) -> Iterator[tuple[str, str, str, list[int], str]]:
    """The runs of the panel that are there, not done, and in none of its grids."""
    asked = {name for state in found.grids for name in state.runs}
    cells = split(_rows_of(found), ACCURACY)
    columns = group_columns(cells, found.panel.axis)
    for cell in cells:
        undone = [row for row in cell.rows if row["state"] not in ("done", "absent") and row["run_id"] not in asked]
        if undone:
            yield found.panel.name, "", _text(cell, columns), sorted({row["seed"] for row in undone}), ""


def _rows_of(found: PanelFindings) -> Iterable[dict[str, object]]:
    comparisons = (*found.rows.accuracy, *found.rows.alignment)
    return {row["run_id"]: row for comparison in comparisons for row in comparison.group.rows}.values()


def _text(cell: Cell, columns: Sequence[str]) -> str:
    return " ".join(f"{name} {shown(name, cell.settings[name])}" for name in columns)
