"""Draws how well measures predict accuracy: the rank correlation of each, with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dc_hpc.report.figures.style import GREY, PALETTE, RED, canvas, key, name_of, note, wrapped
from dc_hpc.report.panels.grouping import Cell, group_columns

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from dc_hpc.report.questions.prediction import Prediction

_ROW = 0.3  # inches of a line of a figure
_COLUMNS = 4  # axes beside each other
_WITH_LABELS = "ami_true"


def forest(group: Cell, found: Sequence[tuple[Prediction, str]]) -> Figure:
    """An axes for each of seeds, k and cycles: the rho of each measure with its interval; IA, with labels, in red."""
    parts = list(dict.fromkeys((one.over, one.k) for one, _ in found))
    titles = list(dict.fromkeys(title for _, title in found))
    columns = min(len(parts), _COLUMNS)
    rows = -(-len(parts) // columns)
    figure, axes = canvas(columns, rows, width=3.1, height=1.4 + _ROW * len(titles), share_x=True, share_y=True)
    every = [ax for row in axes for ax in row]
    for ax in every[len(parts) :]:
        ax.set_visible(False)
    for (over, k), ax in zip(parts, every):
        ax.axvline(0, color=GREY, linewidth=0.8)
        inside = [(one, title) for one, title in found if (one.over, one.k) == (over, k)]
        for one, title in inside:
            height, colour = len(titles) - 1 - titles.index(title), RED if one.column == _WITH_LABELS else PALETTE[0]
            interval = one.rho.interval
            if interval:
                ax.plot(interval, [height, height], color=colour, linewidth=1.6)
            ax.plot([one.rho.value or 0.0], [height], "o", color=colour, markersize=6)
        counts = sorted({one.rho.n for one, _ in inside})
        n = " to ".join(dict.fromkeys((str(counts[0]), str(counts[-1]))))
        # small, so that the longest ends before the next one begins
        ax.set_title(f"over {over}{'' if k is None else f', k {k}'}, n = {n}", fontsize=9)
        ax.set_yticks(range(len(titles)), titles[::-1])
        ax.set_xlim(-1.05, 1.05)
        ax.set_xlabel("Spearman's rho with accuracy")
        ax.tick_params(labelbottom=True)
    note(axes[0][0], "with labels", color=RED, marker="o", linestyle="-")
    note(axes[0][0], "without; bars: 95 % intervals", color=PALETTE[0], marker="o", linestyle="-")
    figure.suptitle(wrapped(name_of(group, group_columns([group])), 40 * columns), fontsize=10)
    key(figure, axes[0], ncols=2)
    return figure
