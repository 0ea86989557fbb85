"""Initial Alignment against what the authors published for the same seeds, run by run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from dc_hpc.report.figures.identity import identity
from dc_hpc.report.panels.comparisons import comparisons
from dc_hpc.report.panels.grouping import Cell, Row, group_columns
from dc_hpc.report.panels.matching import alignment_rows
from dc_hpc.report.panels.panel import FigureSources, Panel, PanelRows, n_words
from dc_hpc.report.tables.cell_items import SHARE_DIGITS, missing_items, setting_items, visible_settings
from dc_hpc.report.tables.text_tables import Item, Table, number, table_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DIGITS = 5  # decimals of a difference
_SAME = 1e-9  # numbers of equal pseudo-labels differ by the rounding of a logarithm only


class Pair(NamedTuple):
    """A seed, the published number and ours."""

    seed: int
    published: float
    ours: float

    @property
    def difference(self) -> float:
        """Ours less the published number."""
        return self.ours - self.published


@dataclass(frozen=True)
class SeedBySeedPanel(Panel):
    """Ours against the published number, a dot for each seed.

    published: seed -> Initial Alignment. tolerance: the difference up to which two numbers count as the same.
    """

    published: Mapping[int, float] = field(default_factory=dict)
    tolerance: float = 0.0005

    def select(self, rows: Sequence[Row]) -> PanelRows:
        """The runs with the panel's first clustering, however long; none with other draws."""
        draws = self.fixed.get("draws", "ours")
        same_draws = [row for row in alignment_rows(self, rows) if row.get("draws") == draws]
        return PanelRows(alignment=comparisons(self, same_draws, "ia"))

    def tables(self, rows: PanelRows) -> list[Table]:
        """How well the numbers agree, a line for each setting; then every seed."""
        cells = [cell for cell in rows.cells("ia") if self.pairs(cell)]
        columns = group_columns(cells)
        visible = visible_settings(cells, columns)
        lines, seeds = [], []
        for cell in cells:
            settings, found = setting_items(cell, columns, visible), self.pairs(cell)
            lines.append([*settings, *self._agreement_items(found), *missing_items(cell, "ia")])
            seeds += [[*settings, *_seed_items(pair)] for pair in found]
        n = n_words([len(self.pairs(cell)) for cell in cells]) if cells else ""
        caption = self.caption("Initial Alignment (NMI) against the published numbers", cells, columns, "ia", n=n)
        return [
            table_of(self.name, caption, lines),
            table_of(f"{self.name}_seeds", f"{caption} Each seed.", seeds),
        ]

    def figure(self, rows: PanelRows, sources: FigureSources) -> Figure | None:
        """Ours against the published number with the line of identity; beside it the differences."""
        cells = [cell for cell in rows.cells("ia") if self.pairs(cell)]
        return identity([(cell, self.pairs(cell)) for cell in cells], self.tolerance, self.source)

    def pairs(self, cell: Cell) -> list[Pair]:
        """The seeds of a cell whose number is published, by seed."""
        return [
            Pair(seed, self.published[seed], ours) for seed, ours in cell.values("ia").items() if seed in self.published
        ]

    def _agreement_items(self, pairs: Sequence[Pair]) -> list[Item]:
        """Statistics of the differences, all without a sign."""
        sizes = [abs(pair.difference) for pair in pairs]
        largest = max(pairs, key=lambda pair: abs(pair.difference))
        within, same = (sum(size <= bound for size in sizes) for bound in (self.tolerance, _SAME))
        middle, most = float(np.median(sizes)), abs(largest.difference)
        return [
            Item("ia_n", len(pairs), "n", str(len(pairs))),
            Item("within", within, f"within {self.tolerance:g}".replace("0.", ".", 1), str(within)),
            Item("same", same, "same", str(same)),
            Item("difference_median", middle, "median difference", number(middle, _DIGITS)),
            Item("difference_largest", most, "largest", number(most, _DIGITS)),
            Item("difference_largest_seed", largest.seed, "of seed", str(largest.seed)),
        ]


def _seed_items(pair: Pair) -> list[Item]:
    return [
        Item("seed", pair.seed, "seed", str(pair.seed)),
        Item("published", pair.published, "published", number(pair.published, SHARE_DIGITS)),
        Item("ia", pair.ours, "ours", number(pair.ours, SHARE_DIGITS)),
        Item("difference", pair.difference, "difference", number(pair.difference, _DIGITS)),
    ]
