"""Draws a distribution for each value of an axis: accuracies (Figure 4, Table A.2) and IA (Figures B.1, B.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dc_hpc.report.figures.printed import cross, ia_band
from dc_hpc.report.figures.style import (
    AXIS_NAMES,
    GREY,
    PALETTE,
    RED,
    canvas,
    chance_text,
    drawable,
    keep_span,
    key,
    name_of,
    note,
    set_ticks,
    wrapped,
)
from dc_hpc.report.panels.grouping import Cell, group_columns, order, shown
from dc_hpc.report.panels.panel import Comparison, Panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BINS = 20
BOX_FROM = 5  # of fewer runs a box, or a bar between quartiles, hides more than it shows


def boxes(panel: Panel, comparisons: Sequence[Comparison]) -> Figure | None:
    """Accuracy over the values of the axis (Figure 4): every run a dot; a median from two runs on, a box from five."""
    groups = drawable(comparisons, "accuracy")
    if not groups:
        return None
    figure, axes = canvas(len(groups), share_y=True, height=4.0)
    columns = group_columns([group for group, _ in groups])
    for (group, cells), ax in zip(groups, axes[0]):
        shown_cells = [cell for cell in cells if cell.values("accuracy")]
        for place, cell in enumerate(shown_cells):
            _strip(ax, place, list(cell.values("accuracy").values()), PALETTE[0])
            printed = panel.paper.get(cell.settings[panel.axis[0]])
            if printed is not None:
                cross(ax, panel, place, printed)
        _ticks(ax, panel.axis[0], shown_cells)
        ax.set_title(wrapped(name_of(group, columns)))
    axes[0][0].set_ylabel("accuracy (%)")
    keep_span(axes[0][0], "accuracy")
    key(figure, axes[0], ncols=2)
    return figure


def _strip(ax: Axes, place: float, values: list[float], colour: str) -> None:
    """Dots beside each other, a median line from two runs on, and a box where there are enough of them."""
    jitter = np.random.default_rng(len(values)).uniform(-0.13, 0.13, len(values)) if len(values) > 1 else [0]
    ax.scatter(place + np.asarray(jitter), values, s=20, color=colour, alpha=0.55, linewidth=0, zorder=3, label="a run")
    if len(values) >= BOX_FROM:
        ax.boxplot(
            [values],
            positions=[place],
            widths=0.5,
            showfliers=False,
            manage_ticks=False,
            zorder=2,
            medianprops={"color": RED, "linewidth": 1.6},
            boxprops={"color": "#555555"},
            whiskerprops={"color": "#555555"},
            capprops={"color": "#555555"},
        )
        box = {"marker": "s", "markersize": 11, "markerfacecolor": "none", "markeredgecolor": "#555555"}
        note(ax, "quartiles; whiskers reach 1.5 times as far", **box)
        note(ax, "median", color=RED, linewidth=1.6, linestyle="-")
    elif len(values) > 1:
        ax.hlines(
            float(np.median(values)), place - 0.22, place + 0.22, color=RED, linewidth=1.6, zorder=4, label="median"
        )


def _ticks(ax: Axes, name: str, cells: Sequence[Cell]) -> None:
    labels = [f"{shown(name, cell.settings[name])}\nn={len(cell.values('accuracy'))}" for cell in cells]
    ax.set_xticks(range(len(cells)), labels)
    ax.set_xlim(-0.6, len(cells) - 0.4)
    ax.grid(False, axis="x")
    ax.set_xlabel(AXIS_NAMES.get(name, name))


def histograms(panel: Panel, comparisons: Sequence[Comparison]) -> Figure | None:
    """Distributions of IA (Figures B.1, B.2): a row a setting, a column a value, on the same axes."""
    groups = drawable(comparisons, "ia")
    if not groups:
        return None
    name = panel.axis[0]
    values = sorted(
        {cell.settings[name] for _, cells in groups for cell in cells if cell.values("ia")},
        key=lambda value: order(name, value),
    )
    bins = bins_of([cell for _, cells in groups for cell in cells])
    figure, axes = canvas(
        len(values), len(groups), width=max(2.7, 7 / len(values)), height=2.4, share_x=True, share_y=True
    )
    columns = group_columns([group for group, _ in groups])
    for (group, cells), row in zip(groups, axes):
        by_value = {cell.settings[name]: cell for cell in cells if cell.values("ia")}
        for value, ax in zip(values, row):
            if value in by_value:
                ax.set_title(f"{name} {shown(name, value)}: {histogram(ax, by_value[value], bins)}")
                ax.set_xlabel("IA (NMI)")
            else:
                ax.set_axis_off()
        first = next(ax for value, ax in zip(values, row) if value in by_value)
        first.set_ylabel(f"{wrapped(name_of(group, columns), 26)}\n\nruns (%)")
    keep_span(axes[0][0], "ia", "x")
    for row in axes:
        for value, ax in zip(values, row):
            if ax.axison:
                ia_band(ax, panel, value)
            ax.label_outer()
    key(figure, [ax for row in axes for ax in row], ncols=min(len(values), 4))
    return figure


def bins_of(cells: Sequence[Cell]) -> Any:
    """The edges of the bins in which the IA of all the cells are counted, or 1 where all are equal."""
    every = [ia for cell in cells for ia in cell.values("ia").values()]
    return np.linspace(min(every), max(every), _BINS + 1) if max(every) > min(every) else 1


def histogram(ax: Axes, cell: Cell, bins: Any) -> str:
    """The IA of a cell in percent of its runs, the median in red, chance where it is near; returns both in words."""
    values = list(cell.values("ia").values())
    chance = list(cell.values("ia_chance").values())
    ax.hist(
        values,
        bins=bins,
        weights=np.full(len(values), 100 / len(values)),
        color=PALETTE[5],
        edgecolor="white",
        linewidth=0.5,
        label="runs, by IA",
    )
    middle = float(np.median(values))
    ax.axvline(middle, color=RED, linewidth=1.8, label="median of the runs")
    text = f"median {middle:.3f}\nn = {len(values)}"
    if chance:
        level = float(np.median(chance))
        text += f", chance {chance_text(level)}"
        low, high = (bins[0], bins[-1]) if not isinstance(bins, int) else (middle, middle)
        if level > low - (high - low):  # further away it would only squeeze the distribution
            ax.axvline(level, color=GREY, linewidth=1.2, linestyle=":", label="chance")
    set_ticks(ax.yaxis, nbins=5)
    set_ticks(ax.xaxis, nbins=5)
    ax.grid(False, axis="x")
    return text
