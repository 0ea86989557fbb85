"""What the random grey filter in front of the net keeps of the brightness, against the Initial Alignment.

The authors' code overwrites the Sobel layer, so that its first part, a 1 x 1 convolution from three colours to one, has
three random weights w. Its luminance |w_R + w_G + w_B| / (sqrt(3) |w|) is 1 where grey images keep their contrast and
0 where they vanish. `luminance.csv` has it for the seeds 0 to 1000, as the product draws them; a test draws them again.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dc_hpc.report.figures.luminance import draw
from dc_hpc.report.panels.comparisons import comparisons
from dc_hpc.report.panels.grouping import Cell, Row, group_columns
from dc_hpc.report.panels.matching import alignment_rows
from dc_hpc.report.panels.panel import FigureSources, Panel, PanelRows
from dc_hpc.report.statistics import spearman, spearman_interval
from dc_hpc.report.tables.cell_items import SHARE_DIGITS
from dc_hpc.report.tables.text_tables import Item, Table, number, span, table_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DARK, BRIGHT = 0.22, 0.5  # luminance below which nothing is seen, and above which the net sees as with the true filter


@dataclass(frozen=True)
class LuminancePanel(Panel):
    """Initial Alignment against the luminance of the random filter, by k; the true filter for comparison."""

    def select(self, rows: Sequence[Row]) -> PanelRows:
        """The runs with a random filter of our draws, and those with the true one, compared along k."""
        drawn = [row for row in alignment_rows(self, rows) if row.get("draws") in (None, "ours")]
        found = comparisons(self, drawn, "ia")
        return PanelRows(alignment=[one for one in found if one.group.settings.get("sobel") in ("random", "fixed")])

    def tables(self, rows: PanelRows) -> list[Table]:
        """A line for each k: rho of luminance and IA, and how the seeds spread."""
        lines, cells = [], []
        for comparison in rows.alignment:
            if comparison.group.settings.get("sobel") != "random":
                continue
            for cell in comparison.cells:
                found = pairs(cell)
                if len(found) > 1:
                    cells.append(cell)
                    lines.append(_line(cell, found, _true_filter(rows, cell)))
        what = "rank correlation (rho) of the luminance of the grey filter and Initial Alignment (NMI), by k"
        caption = self.caption(what, cells, group_columns(cells, self.axis), "ia")
        return [table_of(self.name, caption, lines)]

    def figure(self, rows: PanelRows, sources: FigureSources) -> Figure | None:
        """A dot for each seed, for each k; the range of the seeds with the true filter behind them."""
        drawn = [
            (cell, pairs(cell), _true_filter(rows, cell))
            for one in rows.alignment
            if one.group.settings.get("sobel") == "random"
            for cell in one.cells
            if len(pairs(cell)) > 1
        ]
        return draw(drawn)


@cache
def luminances() -> dict[int, float]:
    """Seed -> luminance of its random grey filter."""
    with Path(__file__).with_name("luminance.csv").open(encoding="utf-8", newline="") as file:
        return {int(row["seed"]): float(row["luminance"]) for row in csv.DictReader(file)}


def pairs(cell: Cell) -> list[tuple[float, float]]:
    """(luminance, IA) of the seeds whose filter is known, by seed."""
    known = luminances()
    return [(known[seed], ia) for seed, ia in cell.values("ia").items() if seed in known]


def _true_filter(rows: PanelRows, cell: Cell) -> list[float]:
    """The IA with the true filter at the same data and k; of another protocol by name, since `text` alone has it."""
    same = ("dataset", "k", "pca", "kmeans_init", "data_digest", "mean")
    for other in rows.cells("ia"):
        if other.settings.get("sobel") == "fixed" and all(
            other.settings.get(name) == cell.settings.get(name) for name in same
        ):
            return list(other.values("ia").values())
    return []


def _line(cell: Cell, found: list[tuple[float, float]], true: list[float]) -> list[Item]:
    light, ia = (np.array(side) for side in zip(*found))
    rho, interval = spearman(light.tolist(), ia.tolist()), spearman_interval(light.tolist(), ia.tolist())
    low, high = interval or (None, None)
    dark, bright = light < DARK, light > BRIGHT
    # The lowest eighth of the seeds, those that Figure B.1's distributions have far below the others.
    lowest = np.argsort(ia)[: max(1, round(0.13 * len(ia)))]
    spreads = {
        "ia_sd": _sd(ia),
        "bright_sd": _sd(ia[bright]),
        "true_sd": _sd(np.array(true)),
    }
    heads = {"ia_sd": "sd", "bright_sd": f"sd, luminance > {BRIGHT:g}", "true_sd": "sd, true filter"}
    return [
        Item("k", cell.settings["k"], "k", str(cell.settings["k"]), role="setting"),
        Item("rho_n", len(found), "n", str(len(found))),
        Item("rho", rho, "rho", number(rho, 2)),
        Item("rho_low", low),
        Item("rho_high", high),
        Item(None, head="95 % interval", text=span(low, high, 2)),
        Item("dark_n", int(dark.sum()), f"n, luminance < {DARK:g}", str(int(dark.sum()))),
        Item("bright_n", int(bright.sum()), f"n, luminance > {BRIGHT:g}", str(int(bright.sum()))),
        Item("lowest_n", len(lowest)),
        Item(
            "lowest_luminance_max",
            float(light[lowest].max()),
            f"largest luminance of the {len(lowest)} lowest IA",
            number(float(light[lowest].max()), 2),
        ),
        *(Item(name, value, heads[name], number(value, SHARE_DIGITS)) for name, value in spreads.items()),
    ]


def _sd(values: np.ndarray) -> float | None:
    return float(values.std(ddof=1)) if len(values) > 1 else None
