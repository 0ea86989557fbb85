"""Draws Initial Alignment against the gain over one's own untrained net, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from dc_hpc.report.figures.style import GREY, MARKERS, MOST_GROUPS, PALETTE, canvas, key, parted, set_ticks, wrapped
from dc_hpc.report.panels.grouping import Cell
from dc_hpc.report.panels.panel import Panel
from dc_hpc.report.statistics import FEWEST_RANKED, regression, spearman, spearman_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_COLUMNS = 4
Pairs = Sequence[tuple[float, float]]  # (IA, gain in points) of each net


def draw(panel: Panel, found: Sequence[tuple[Cell, Mapping[str, Pairs]]]) -> Figure | None:
    """An axes for each layer, a dot for each net, the least-squares line and rho. found: of each group its layers."""
    groups = [(group, layers) for group, layers in found if any(layers.values())][:MOST_GROUPS]
    if not groups:
        return None
    layers = list(dict.fromkeys(layer for _, known in groups for layer in known if known[layer]))
    title, own = parted([group for group, _ in groups], also=panel.fixed)
    columns = min(_MOST_COLUMNS, len(layers))
    rows = math.ceil(len(layers) / columns)
    figure, axes = canvas(columns, rows, width=3.3, height=3.1, share_x=True)
    places = [ax for row in axes for ax in row]
    for layer, ax in zip(layers, places):
        results = []
        for index, ((_, known), words) in enumerate(zip(groups, own)):
            if known.get(layer):
                results.append(_scatter(ax, known[layer], index, words))
        ax.axhline(0, color=GREY, linewidth=1, linestyle="--", label="no gain")
        ax.set_title("\n".join([layer, *results]), fontsize=9)
        set_ticks(ax.xaxis, nbins=5)
    for ax in places[len(layers) :]:
        ax.set_visible(False)
    for place, ax in enumerate(places[: len(layers)]):
        if place + columns >= len(layers):  # the lowest of its column, whose ticks shared axes would hide
            ax.set_xlabel("IA (NMI)")
            ax.tick_params(labelbottom=True)
        if place % columns == 0:
            ax.set_ylabel("gain (points)")
    figure.suptitle(wrapped(title, 100), fontsize=10)
    key(figure, places[: len(layers)], ncols=3)
    return figure


def _scatter(ax: Axes, pairs: Pairs, index: int, words: str) -> str:
    """The nets of one group; returns n and rho for the title. Too few nets have no line and no rho."""
    ia, gain = [x for x, _ in pairs], [y for _, y in pairs]
    colour = PALETTE[index]
    label = ", ".join(part for part in (words, "a net") if part)
    ax.scatter(
        ia, gain, s=26, color=colour, marker=MARKERS[index], edgecolor="white", linewidth=0.5, zorder=3, label=label
    )
    result = f"n = {len(pairs)}"
    line, rho, interval = regression(ia, gain), spearman(ia, gain), spearman_interval(ia, gain)
    if len(pairs) >= FEWEST_RANKED and line and rho is not None and interval:
        ends = np.array([min(ia), max(ia)])
        ax.plot(ends, line[0] * ends + line[1], color=colour, linewidth=1.3, label="least-squares line")
        result += f", rho {rho:.2f} ({interval.low:.2f} to {interval.high:.2f})"
    return result
