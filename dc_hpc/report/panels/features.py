"""The feature space of a random net by t-SNE (Figure 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dc_hpc.report.figures import feature_map
from dc_hpc.report.panels.grouping import Cell, Row, shown
from dc_hpc.report.panels.matching import alignment_rows
from dc_hpc.report.panels.panel import Comparison, FigureSources, Panel, PanelRows
from dc_hpc.report.tables.cell_items import SHARE_DIGITS
from dc_hpc.report.tables.text_tables import Item, Table, number, table_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SETTINGS = ("dataset", "protocol", "sobel", "net", "k", "pca", "seed")
_HEADS = {"ia": "IA", "ia_ami": "AMI", "ia_chance": "chance"}


@dataclass(frozen=True)
class FeaturesPanel(Panel):
    """The features of fresh nets in two dimensions, one run for each data set, protocol and Sobel filter."""

    def select(self, rows: Sequence[Row]) -> PanelRows:
        """The done run with dumped features and the lowest seed, one for each data set, protocol and Sobel filter."""
        done = [
            row
            for row in alignment_rows(self, rows)
            if row["state"] == "done" and row.get("features") not in (None, "none")
        ]
        first: dict[tuple[Any, ...], Row] = {}
        for row in sorted(done, key=lambda row: (row["cycles"], row["seed"], row["run_id"])):
            first.setdefault((row["dataset"], row["protocol"], row["sobel"]), row)
        cells = [Cell({name: row[name] for name in _SETTINGS}, [row]) for row in first.values()]
        return PanelRows(alignment=[Comparison(cell, [cell]) for cell in cells])

    def tables(self, rows: PanelRows) -> list[Table]:
        """One table, a line for each net."""
        runs = _runs(rows)
        lines = [
            [
                Item("run_id", row["run_id"]),
                *(Item(name, row[name], name, shown(name, row[name])) for name in _SETTINGS),
                *(Item(name, row[name], head, number(row[name], SHARE_DIGITS)) for name, head in _HEADS.items()),
            ]
            for row in runs
        ]
        sets = ", ".join(dict.fromkeys(row["dataset"] for row in runs))
        return [table_of(self.name, f"{self.title}. {sets}: n = 1 net a line.", lines)]

    def figure(self, rows: PanelRows, sources: FigureSources) -> Figure | None:
        """A map of the features of each net whose dump is on this machine."""
        return feature_map.draw(_runs(rows), outputs=sources.outputs, labels_of=sources.labels_of)


def _runs(rows: PanelRows) -> list[Row]:
    return [row for cell in rows.cells("ia") for row in cell.rows]
