"""Agreement over the cycles: NMI with the truth and with the cycle before (section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dc_hpc.report.figures.lines import curves
from dc_hpc.report.panels.comparisons import comparisons
from dc_hpc.report.panels.grouping import Row, group_columns
from dc_hpc.report.panels.matching import accuracy_rows, of_planned_length
from dc_hpc.report.panels.panel import FigureSources, Panel, PanelRows
from dc_hpc.report.tables.cell_items import median_items, setting_items, visible_settings
from dc_hpc.report.tables.text_tables import Item, Table, table_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_HEADS = {
    "ia": "IA", "ia_ami": "IA, AMI", "ia_chance": "chance", "nmi_true_last": "NMI, truth",
    "ami_true_last": "AMI, truth", "nmi_prev_last": "NMI, before", "ami_prev_last": "AMI, before",
}  # fmt: skip


@dataclass(frozen=True)
class CurvesPanel(Panel):
    """Agreement over the cycles, a curve for each setting."""

    def select(self, rows: Sequence[Row]) -> PanelRows:
        """The trained and probed runs by their settings."""
        trained = of_planned_length(self, accuracy_rows(self, rows))
        return PanelRows(accuracy=comparisons(self, trained, "accuracy"))

    def tables(self, rows: PanelRows) -> list[Table]:
        """The two ends of the curves: medians at the first clustering and at the last."""
        cells = rows.cells("accuracy")
        columns = group_columns(cells)
        visible = visible_settings(cells, columns)
        lines = []
        for cell in cells:
            n = len(cell.values("nmi_true_last"))
            lines.append(
                [
                    *setting_items(cell, columns, visible),
                    Item("nmi_true_last_n", n, "n", str(n)),
                    *median_items(cell, _HEADS),
                ]
            )
        what = "medians at the first clustering (IA) and at the last"
        return [table_of(self.name, self.caption(what, cells, columns, "nmi_true_last"), lines)]

    def figure(self, rows: PanelRows, sources: FigureSources) -> Figure | None:
        """The median over the cycles, with a band between the quartiles."""
        return curves(self, rows.cells("accuracy"), sources.cycles)
