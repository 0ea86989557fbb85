"""How much of the spread of Initial Alignment is that of k-means: the same nets, from other first centroids."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from dc_hpc.report.figures.scatter import same_nets
from dc_hpc.report.panels.comparisons import comparisons
from dc_hpc.report.panels.grouping import Cell, Row, group_columns, shown
from dc_hpc.report.panels.matching import alignment_rows
from dc_hpc.report.panels.panel import FigureSources, Panel, PanelRows
from dc_hpc.report.statistics import FEWEST_RANKED, spearman
from dc_hpc.report.tables.text_tables import Item, Table, number, span, table_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NORMAL = 1.959963984540054


@dataclass(frozen=True)
class KmeansSharePanel(Panel):
    """Initial Alignment of the same nets, clustered twice."""

    def select(self, rows: Sequence[Row]) -> PanelRows:
        """The runs with the panel's first clustering, compared along the initialisation of k-means."""
        return PanelRows(alignment=comparisons(self, alignment_rows(self, rows), "ia"))

    def tables(self, rows: PanelRows) -> list[Table]:
        """A line for each pair of initialisations: their correlation, and the share of variance that is k-means'."""
        lines = []
        for first, second, found in twice(rows):
            one, other = ([float(pair[place]) for pair in found] for place in (0, 1))
            r = float(np.corrcoef(one, other)[0, 1]) if len(set(one)) > 1 and len(set(other)) > 1 else None
            rho, mean = spearman(one, other), float(np.mean(np.subtract(one, other)))
            low, high = _interval(r, len(found)) if r is not None and len(found) >= FEWEST_RANKED else (None, None)
            share = None if r is None else 1 - r
            names = [shown(self.axis[0], cell.settings[self.axis[0]]) for cell in (first, second)]
            lines.append(
                [
                    Item("first", names[0], "first", names[0], role="setting"),
                    Item("second", names[1], "second", names[1], role="setting"),
                    Item("ia_n", len(found), "n", str(len(found))),
                    Item("r", r, "correlation", number(r, 3)),
                    Item("r_low", low),
                    Item("r_high", high),
                    Item(None, head="95 % interval", text=span(low, high, 3)),
                    Item("spearman", rho, "rho", number(rho, 3)),
                    Item("difference_mean", mean, "mean difference", number(mean, 4)),
                    Item("kmeans_share", share, "share of k-means in the variance", number(share, 3)),
                ]
            )
        cells = rows.cells("ia")
        caption = self.caption("correlation over seeds", cells, group_columns(cells, self.axis), "ia", runs="nets")
        return [table_of(self.name, caption, lines)]

    def figure(self, rows: PanelRows, sources: FigureSources) -> Figure | None:
        """A dot for each net, one clustering against the other."""
        return same_nets(self, twice(rows))


def twice(rows: PanelRows) -> list[tuple[Cell, Cell, list[tuple[float, float]]]]:
    """(cell, other cell, IA of the seeds in both) of each two cells that are compared."""
    found = []
    for comparison in rows.alignment:
        for first, second in combinations(comparison.cells, 2):
            one, other = first.values("ia"), second.values("ia")
            both = [(one[seed], other[seed]) for seed in one if seed in other]
            if len(both) > 1:
                found.append((first, second, both))
    return found


def _interval(r: float, n: int) -> tuple[float, float]:
    """Fisher's 95 % interval of Pearson's correlation."""
    if abs(r) >= 1:
        return r, r
    z, reach = math.atanh(r), _NORMAL / math.sqrt(n - 3)
    return math.tanh(z - reach), math.tanh(z + reach)
