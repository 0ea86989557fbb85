"""Accuracy along an axis: by k (Figure 4), by halting position (Figure 5, Table A.1), by PCA components (Table A.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dc_hpc.report.figures.distributions import boxes
from dc_hpc.report.figures.lines import halting
from dc_hpc.report.panels.comparisons import comparisons
from dc_hpc.report.panels.grouping import Cell, Row, group_columns, median
from dc_hpc.report.panels.matching import accuracy_rows
from dc_hpc.report.panels.panel import FigureSources, Panel, PanelRows
from dc_hpc.report.tables.cell_items import (
    POINT_DIGITS,
    missing_items,
    setting_items,
    statistics_items,
    visible_settings,
)
from dc_hpc.report.tables.text_tables import Item, Table, number, table_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class AccuracyPanel(Panel):
    """Accuracy along an axis: boxes, or lines where the axis is the halting position."""

    def select(self, rows: Sequence[Row]) -> PanelRows:
        """The trained and probed runs, compared along the axis."""
        return PanelRows(accuracy=comparisons(self, accuracy_rows(self, rows), "accuracy"))

    def tables(self, rows: PanelRows) -> list[Table]:
        """One table, a line for each cell."""
        cells = rows.cells("accuracy")
        columns = group_columns(cells, self.axis)
        visible = visible_settings(cells, columns, self.axis)
        lines = [
            [
                *setting_items(cell, columns, visible),
                *statistics_items(cell, "accuracy"),
                *self._other_accuracies(cell),
                *missing_items(cell, "accuracy"),
            ]
            for cell in cells
        ]
        caption = self.caption(f"accuracy (%) by {self.axis[0]}", cells, columns, "accuracy")
        return [table_of(self.name, caption, lines)]

    def figure(self, rows: PanelRows, sources: FigureSources) -> Figure | None:
        """Lines over the halting positions (Figure 5), else a box for each value of the axis (Figure 4)."""
        draw = halting if self.axis[0] == "halt_cycle" else boxes
        return draw(self, rows.accuracy)

    def _other_accuracies(self, cell: Cell) -> list[Item]:
        """The best epoch's accuracy, that of all batches, and the one that the paper prints.

        The last epoch's accuracy swings by as much as many figures show, so that the table has the best one beside it.
        """
        best, batches = (median(cell.values(name).values()) for name in ("accuracy_best", "accuracy_batch_mean"))
        printed = self.paper.get(cell.settings[self.axis[0]])
        return [
            Item("accuracy_best_median", best, "best epoch %", number(best, POINT_DIGITS)),
            Item("accuracy_batch_mean_median", batches),
            Item("accuracy_paper", printed, "paper", number(printed, POINT_DIGITS)),
        ]
