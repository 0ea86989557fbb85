"""The valley: what happens to the clusters of never-halted runs while they lose the classes and find them again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from dc_hpc.data.catalog import DATASETS
from dc_hpc.report.figures.valley import draw
from dc_hpc.report.panels.comparisons import comparisons
from dc_hpc.report.panels.grouping import Cell, Row, base_of, group_columns
from dc_hpc.report.panels.matching import accuracy_rows, of_planned_length
from dc_hpc.report.panels.panel import FigureSources, Panel, PanelRows
from dc_hpc.report.tables.cell_items import SHARE_DIGITS, setting_items, visible_settings
from dc_hpc.report.tables.text_tables import Item, Table, number, table_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NOT_MEASURED = "not measured"
# column -> its head and its decimals. Runs of earlier versions lack the last three, and have the inertia of all images.
_NUMBERS = {
    "nmi_true": ("NMI, truth", SHARE_DIGITS),
    "nmi_prev": ("NMI, before", SHARE_DIGITS),
    "inertia_per_point": ("inertia per image", 3),
    "nmi_brightness": ("NMI, brightness", SHARE_DIGITS),
    "effective_rank": ("effective rank", 1),
    "components_alive": ("components alive", 0),
}
_PLACES = (0, 1, 2, 3, 5, 10, 20, 30, 40, 60, 80)


@dataclass(frozen=True)
class ValleyPanel(Panel):
    """Medians over never-halted runs by cycle, at some cycles and at the last."""

    def select(self, rows: Sequence[Row]) -> PanelRows:
        """The trained runs that never halt, by their settings."""
        trained = of_planned_length(self, accuracy_rows(self, rows))
        never = [row for row in trained if row.get("halt_cycle") is None and not row.get("labels")]
        return PanelRows(accuracy=comparisons(self, never, "accuracy"))

    def tables(self, rows: PanelRows) -> list[Table]:
        """A line for each setting and cycle."""
        found = series(rows.cells("accuracy"), rows.cycles)
        cells = [cell for cell, _ in found]
        columns = group_columns(cells)
        visible = visible_settings(cells, columns)
        lines = []
        for cell, table in found:
            last = int(table["cycle"].max())
            for cycle in sorted({*(place for place in _PLACES if place < last), last}):
                now = table[table["cycle"] == cycle]
                n = int(now["run_id"].nunique())
                numbers = [_item(name, now, *shape) for name, shape in _NUMBERS.items()]
                lines.append(
                    [
                        *setting_items(cell, columns, visible),
                        Item("cycle", cycle, "cycle", str(cycle), role="setting"),
                        Item("runs", n, "n", str(n)),
                        *numbers,
                    ]
                )
        return [table_of(self.name, self.caption("medians by cycle", cells, columns, "nmi_true_last"), lines)]

    def figure(self, rows: PanelRows, sources: FigureSources) -> Figure | None:
        """Agreement with the classes and with the cycle before, and inertia, over the cycles."""
        return draw(self, series(rows.cells("accuracy"), sources.cycles))


def series(cells: Sequence[Cell], cycles: pd.DataFrame | None) -> list[tuple[Cell, pd.DataFrame]]:
    """The cycles of each cell, with `inertia_per_point` also for runs that recorded the inertia of all images."""
    found = []
    for cell in cells:
        runs = {row["run_id"] for row in cell.runs("nmi_true_last").values()}
        table = cycles[cycles["run_id"].isin(runs)] if cycles is not None else pd.DataFrame()
        if len(table):
            found.append((cell, _per_image(cell, table)))
    return found


def _per_image(cell: Cell, table: pd.DataFrame) -> pd.DataFrame:
    dataset = DATASETS.get(base_of(cell.settings["dataset"]))
    own = table["inertia_per_point"] if "inertia_per_point" in table else pd.Series(float("nan"), table.index)
    if dataset is None:
        return table.assign(inertia_per_point=own)
    return table.assign(inertia_per_point=own.astype(float).fillna(table["inertia"] / dataset.train_images))


def _item(name: str, now: pd.DataFrame, head: str, digits: int) -> Item:
    known = now[name].dropna() if name in now else pd.Series(dtype=float)
    value: Any = float(known.median()) if len(known) else None
    absent = "" if name == "nmi_prev" else NOT_MEASURED
    return Item(f"{name}_median", value, head, absent if value is None else number(value, digits))
