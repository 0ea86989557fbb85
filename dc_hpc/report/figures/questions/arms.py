"""Draws the accuracies of several arms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from dc_hpc.report.claims.measures import measured_mean_of
from dc_hpc.report.figures.style import GREY, RED, canvas, keep_span, key, name_of, note, wrapped
from dc_hpc.report.panels.grouping import group_columns, label, varying_settings
from dc_hpc.report.panels.panel import Comparison

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ROW = 0.3  # inches of a line of a figure


def draw(comparisons: Sequence[Comparison]) -> Figure | None:
    """An axes for each setting: the accuracies of each arm, a dot for each seed, the mean with its interval."""
    found = [one for one in comparisons if one.group.values("accuracy")]
    if not found:
        return None
    names = list(dict.fromkeys(str(cell.settings["arm"]) for one in found for cell in one.cells))
    figure, axes = canvas(len(found), width=4.2, height=1.8 + _ROW * len(names), share_x=True, share_y=True)
    groups = [one.group for one in found]
    columns = group_columns(groups)
    varying = varying_settings(groups, columns)
    for one, ax in zip(found, axes[0]):
        for cell in one.cells:
            values = list(cell.values("accuracy").values())
            height = len(names) - 1 - names.index(str(cell.settings["arm"]))
            interval = measured_mean_of(cell, "accuracy").interval
            ax.plot(values, [height] * len(values), "o", color=GREY, alpha=0.5, markersize=4)
            if interval:
                ax.plot(interval, [height, height], color=RED, linewidth=1.8)
            if values:
                ax.plot([float(np.mean(values))], [height], "D", color=RED, markersize=6)
        counts = sorted({n for cell in one.cells if (n := len(cell.values("accuracy")))})
        runs = "n = " + " to ".join(dict.fromkeys((str(counts[0]), str(counts[-1]))))
        ax.set_title(", ".join(filter(None, (label(one.group.settings, varying), runs))))
        ax.set_yticks(range(len(names)), names[::-1])
        ax.set_ylim(-0.5, len(names) - 0.5)
        ax.set_xlabel("accuracy (%)")
    keep_span(axes[0][0], "accuracy", "x")
    note(axes[0][0], "a seed", color=GREY, marker="o", alpha=0.5, markersize=4)
    note(axes[0][0], "mean, 95 % interval", color=RED, marker="D", linestyle="-")
    shared = [name for name in columns if name not in varying]
    figure.suptitle(wrapped(name_of(groups[0], shared), 56 * len(found)), fontsize=10)
    key(figure, axes[0], ncols=2)
    return figure
