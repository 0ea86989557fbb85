"""Draws the valley: agreement and inertia of never-halted runs over the cycles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from dc_hpc.report.figures.style import MOST_GROUPS, PALETTE, canvas, key, parted, set_ticks, wrapped
from dc_hpc.report.panels.grouping import Cell
from dc_hpc.report.panels.panel import Panel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SHOWN = {
    "nmi_true": "NMI with the truth",
    "nmi_prev": "NMI with the cycle before",
    "inertia_per_point": "inertia per image",
    "nmi_brightness": "NMI with deciles of brightness",
}


def draw(panel: Panel, found: Sequence[tuple[Cell, pd.DataFrame]]) -> Figure | None:
    """An axes for each quantity that was measured: the median over the runs, a line for each setting."""
    found = list(found)[:MOST_GROUPS]
    measured = [name for name in _SHOWN if any(name in table and table[name].notna().any() for _, table in found)]
    if not measured:
        return None
    title, own = parted([cell for cell, _ in found], also=panel.fixed)
    figure, axes = canvas(len(measured), width=3.6, height=3.4, share_x=True)
    for name, ax in zip(measured, axes[0]):
        for index, ((_, table), words) in enumerate(zip(found, own)):
            if name in table:
                middle = table[table[name].notna()].groupby("cycle")[name].median()
                label = ", ".join(part for part in (words, f"n = {table['run_id'].nunique()}") if part)
                ax.plot(middle.index.to_numpy(int), middle.to_numpy(float), color=PALETTE[index], label=label)
        ax.set_title(_SHOWN[name])
        ax.set_xlabel("cycle")
        ax.set_ylim(bottom=0)
        set_ticks(ax.xaxis, integer=True)
    figure.suptitle(wrapped(title, 110), fontsize=10)
    key(figure, axes[0])
    return figure
