"""Median Initial Alignment against accuracy, by the values of an axis (Figures 6 and B.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dc_hpc.report.figures.scatter import both
from dc_hpc.report.panels.comparisons import comparisons, joined
from dc_hpc.report.panels.grouping import Cell, Row, group_columns
from dc_hpc.report.panels.matching import accuracy_rows, alignment_rows
from dc_hpc.report.panels.panel import FigureSources, Panel, PanelRows
from dc_hpc.report.tables.cell_items import (
    ALIGNMENT_HEADS,
    median_items,
    missing_items,
    setting_items,
    statistics_items,
    visible_settings,
)
from dc_hpc.report.tables.text_tables import Table, table_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class BothPanel(Panel):
    """Median Initial Alignment against accuracy, a cross for each value of the axis."""

    def select(self, rows: Sequence[Row]) -> PanelRows:
        """The accuracies and the Initial Alignments, each compared along the axis."""
        return PanelRows(
            accuracy=comparisons(self, accuracy_rows(self, rows), "accuracy"),
            alignment=comparisons(self, alignment_rows(self, rows), "ia"),
        )

    def tables(self, rows: PanelRows) -> list[Table]:
        """One table, a line for each value of the axis and each setting."""
        pairs = joined(rows.cells("accuracy"), rows.cells("ia"))
        cells = [accuracy if accuracy.rows else alignment for accuracy, alignment in pairs]
        columns = group_columns(cells, self.axis)
        visible = visible_settings(cells, columns, self.axis)
        lines = [
            [
                *setting_items(cell, columns, visible),
                *statistics_items(alignment, "ia", few=True),
                *median_items(alignment, ALIGNMENT_HEADS),
                *statistics_items(accuracy, "accuracy"),
                *missing_items(accuracy, "accuracy"),
            ]
            for (accuracy, alignment), cell in zip(pairs, cells)
        ]
        what = f"median IA and accuracy (%) by {self.axis[0]}"
        counted = [Cell(cell.settings, accuracy.rows) for (accuracy, _), cell in zip(pairs, cells)]
        caption = self.caption(what, counted, columns, "accuracy", runs="runs with an accuracy")
        return [table_of(self.name, caption, lines)]

    def figure(self, rows: PanelRows, sources: FigureSources) -> Figure | None:
        """Medians with bars between the quartiles, every run's accuracy a dot."""
        return both(self, joined(rows.cells("accuracy"), rows.cells("ia")))
