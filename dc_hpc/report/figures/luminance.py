"""Draws Initial Alignment against the luminance of the random filter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dc_hpc.report.figures.style import GREY, PALETTE, canvas, keep_span, key, name_of, set_ticks, wrapped
from dc_hpc.report.panels.grouping import Cell
from dc_hpc.report.statistics import spearman

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(drawn: Sequence[tuple[Cell, list[tuple[float, float]], list[float]]]) -> Figure | None:
    """A dot a seed, an axes for each k; behind the dots, from the lowest to the highest seed with the true filter.

    drawn: of each k its cell, (luminance, IA) of its seeds, and the IA with the true filter.
    """
    if not drawn:
        return None
    kept = [one for one in drawn if one[2]] or list(drawn)
    figure, axes = canvas(len(kept), width=3.2, height=3.4, share_y=True)
    for (cell, found, true), ax in zip(kept, axes[0]):
        light, ia = zip(*found)
        if true:
            ax.axhspan(min(true), max(true), color=GREY, alpha=0.25, linewidth=0, label="seeds with the true filter")
        ax.scatter(light, ia, s=16, color=PALETTE[0], alpha=0.7, linewidth=0, label="a seed with a random filter")
        rho = spearman(light, ia)
        title = f"k {cell.settings['k']}, n = {len(found)}"
        ax.set_title(f"{title}, rho {rho:.2f}" if rho is not None else title)
        ax.set_xlabel("luminance of the grey filter")
        ax.set_xlim(-0.03, 1.03)
        set_ticks(ax.xaxis, nbins=5)
    axes[0][0].set_ylabel("IA (NMI)")
    keep_span(axes[0][0], "ia")
    figure.suptitle(wrapped(name_of(kept[0][0], ["dataset", "protocol", "sobel"]), 100), fontsize=10)
    key(figure, axes[0], ncols=2)
    return figure
