"""Initial Alignment against accuracy over runs (Figures 3 and A.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dc_hpc.report.figures.scatter import relation
from dc_hpc.report.panels.comparisons import comparisons, joined
from dc_hpc.report.panels.grouping import Cell, Row, group_columns
from dc_hpc.report.panels.matching import accuracy_rows, alignment_rows
from dc_hpc.report.panels.panel import FigureSources, Panel, PanelRows
from dc_hpc.report.statistics import spearman, spearman_interval
from dc_hpc.report.tables.cell_items import (
    ALIGNMENT_HEADS,
    POINT_DIGITS,
    SHARE_DIGITS,
    median_items,
    missing_items,
    setting_items,
    statistics_items,
    visible_settings,
)
from dc_hpc.report.tables.text_tables import Item, Table, number, span, table_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class RelationPanel(Panel):
    """Initial Alignment against accuracy, a dot for each run."""

    def select(self, rows: Sequence[Row]) -> PanelRows:
        """The runs with an accuracy, and all runs with the same first clustering."""
        return PanelRows(
            accuracy=comparisons(self, accuracy_rows(self, rows), "accuracy"),
            alignment=comparisons(self, alignment_rows(self, rows), "ia"),
        )

    def tables(self, rows: PanelRows) -> list[Table]:
        """Spearman's rho, a line for each setting; then every run."""
        pairs = _pairs(rows)
        cells = [accuracy if accuracy.rows else alignment for accuracy, alignment in pairs]
        columns = group_columns(cells)
        visible = visible_settings(cells, columns)
        lines, points = [], []
        for (accuracy, alignment), cell in zip(pairs, cells):
            settings = setting_items(cell, columns, visible)
            lines.append(
                [
                    *settings,
                    *_rho_items(accuracy.pairs()),
                    *statistics_items(accuracy, "accuracy", few=True),
                    *statistics_items(alignment, "ia", few=True),
                    *median_items(alignment, ALIGNMENT_HEADS),
                    *missing_items(accuracy, "accuracy"),
                ]
            )
            points += [[*settings, *_point_items(*pair)] for pair in accuracy.pairs()]
        counted = [Cell(cell.settings, accuracy.rows) for (accuracy, _), cell in zip(pairs, cells)]
        caption = self.caption(
            "Spearman's rho of IA and accuracy over runs", counted, columns, "accuracy", runs="runs with an accuracy"
        )
        return [
            table_of(self.name, caption, lines),
            table_of(f"{self.name}_points", f"{caption} Each run.", points),
        ]

    def figure(self, rows: PanelRows, sources: FigureSources) -> Figure | None:
        """A scatter plot with the regression line, and the distribution of IA where it was sampled."""
        return relation(self, _pairs(rows))

    def compared(self, rows: PanelRows) -> list[Cell]:
        """Each setting's runs with an accuracy, followed by its runs with an IA."""
        return [cell for pair in _pairs(rows) for cell in pair if cell.rows]


def _pairs(rows: PanelRows) -> list[tuple[Cell, Cell]]:
    return joined(rows.cells("accuracy"), rows.cells("ia"))


def _rho_items(pairs: Sequence[tuple[int, float, float]]) -> list[Item]:
    alignments, accuracies = [ia for _, ia, _ in pairs], [accuracy for _, _, accuracy in pairs]
    rho, interval = spearman(alignments, accuracies), spearman_interval(alignments, accuracies)
    low, high = interval or (None, None)
    return [
        Item("rho_n", len(pairs), "n", str(len(pairs))),
        Item("rho", rho, "rho", number(rho, 2)),
        Item("rho_low", low),
        Item("rho_high", high),
        Item(None, head="95 % interval", text=span(low, high, 2)),
    ]


def _point_items(seed: int, ia: float, accuracy: float) -> list[Item]:
    return [
        Item("seed", seed, "seed", str(seed)),
        Item("ia", ia, "IA", number(ia, SHARE_DIGITS)),
        Item("accuracy", accuracy, "accuracy %", number(accuracy, POINT_DIGITS)),
    ]
