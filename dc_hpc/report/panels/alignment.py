"""Initial Alignment along an axis: by k (Figure B.1), by PCA components (Figure B.2), by filter or initialisation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dc_hpc.report.figures.distributions import histograms
from dc_hpc.report.panels.comparisons import comparisons
from dc_hpc.report.panels.grouping import Row, group_columns
from dc_hpc.report.panels.matching import alignment_rows
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
class AlignmentPanel(Panel):
    """The distribution of Initial Alignment for each value of an axis."""

    def select(self, rows: Sequence[Row]) -> PanelRows:
        """The runs with the panel's first clustering, however long, compared along the axis."""
        return PanelRows(alignment=comparisons(self, alignment_rows(self, rows), "ia"))

    def tables(self, rows: PanelRows) -> list[Table]:
        """One table, a line for each cell."""
        cells = rows.cells("ia")
        columns = group_columns(cells, self.axis)
        visible = visible_settings(cells, columns, self.axis)
        lines = [
            [
                *setting_items(cell, columns, visible),
                *statistics_items(cell, "ia"),
                *median_items(cell, ALIGNMENT_HEADS),
                *missing_items(cell, "ia"),
            ]
            for cell in cells
        ]
        caption = self.caption(f"Initial Alignment (NMI) by {self.axis[0]}", cells, columns, "ia")
        return [table_of(self.name, caption, lines)]

    def figure(self, rows: PanelRows, sources: FigureSources) -> Figure | None:
        """A histogram for each value of the axis."""
        return histograms(self, rows.alignment)
