"""How much of the spread of Initial Alignment is that of k-means: the same nets, from other first centroids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import pearsonr

from dc_hpc.report.figures.scatter import same_nets
from dc_hpc.report.panels.comparisons import comparisons
from dc_hpc.report.panels.grouping import Cell, Row, group_columns, shown
from dc_hpc.report.panels.matching import alignment_rows
from dc_hpc.report.panels.panel import FigureSources, Panel, PanelRows, n_words
from dc_hpc.report.statistics import FEWEST_RANKED, LEVEL, spearman
from dc_hpc.report.tables.text_tables import Item, Table, number, span, table_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
            rho, mean = spearman(one, other), float(np.mean(np.subtract(one, other)))
            r, low, high = _correlation(one, other) if rho is not None else (None, None, None)
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
        n = n_words([len(found) for _, _, found in twice(rows)], "nets") if lines else ""
        caption = self.caption("correlation over seeds", cells, group_columns(cells, self.axis), "ia", n=n)
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


def _correlation(x: Sequence[float], y: Sequence[float]) -> tuple[float, float | None, float | None]:
    """Pearson's correlation and its 95 % interval by Fisher's z; no interval for fewer than five pairs."""
    found = pearsonr(x, y)
    low, high = found.confidence_interval(LEVEL) if len(x) >= FEWEST_RANKED else (None, None)
    return float(found.statistic), low if low is None else float(low), high if high is None else float(high)
