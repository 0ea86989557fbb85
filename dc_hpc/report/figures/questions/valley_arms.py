"""Draws the arms of an experiment over the cycles: the base in black, each arm in a colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dc_hpc.report.figures.style import MARKERS, MOST_GROUPS, PALETTE, canvas, key, parted, set_ticks, wrapped
from dc_hpc.report.panels.grouping import Cell
from dc_hpc.report.panels.panel import Panel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BLACK = "#222222"


def draw(panel: Panel, found: Sequence[tuple[Cell, Mapping[str, Mapping[int, Sequence[float]]]]]) -> Figure | None:
    """Mean NMI with the truth by cycle; the dots are the seeds. An axes for each group of runs.

    found: of each group its arms, the base first: name -> cycle -> NMI of each seed.
    """
    groups = [(group, arms) for group, arms in found if any(arms.values())][:MOST_GROUPS]
    if not groups:
        return None
    names = list(dict.fromkeys(name for _, arms in groups for name in arms))
    title, own = parted([group for group, _ in groups], also=panel.fixed)
    figure, axes = canvas(len(groups), width=6.4, height=4.6, share_y=True)
    for (_, arms), words, ax in zip(groups, own, axes[0]):
        for name, curve in arms.items():
            place = names.index(name)
            colour = PALETTE[(place - 1) % len(PALETTE)] if place else _BLACK
            look: dict[str, Any] = {
                "color": colour,
                "marker": MARKERS[place % len(MARKERS)],
                "linewidth": 1.6 if place else 2.4,
            }
            means = [float(np.mean(values)) for values in curve.values()]
            n = max(map(len, curve.values()), default=0)
            ax.plot(list(curve), means, label=f"{name}, n = {n}", markersize=5, **look)
            for cycle, values in curve.items():
                ax.scatter([cycle] * len(values), values, s=8, color=colour, alpha=0.35, linewidth=0)
        ax.set_title(wrapped(words, 70))
        ax.set_xlabel("cycle")
        set_ticks(ax.xaxis, integer=True)
    axes[0][0].set_ylabel("NMI with the truth")
    axes[0][0].set_ylim(bottom=0)
    figure.suptitle(wrapped(title, 80), fontsize=10)
    key(figure, axes[0], ncols=2)
    return figure
