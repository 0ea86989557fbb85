"""Draws a distribution for each value of an axis: accuracies (Figure 4, Table A.2) and IA (Figures B.1, B.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dc_hpc.report.figures.style import AXIS_NAMES, GREY, PALETTE, RED, canvas, drawable, name_of, set_ticks, wrapped
from dc_hpc.report.panels.grouping import Cell, group_columns, order, shown
from dc_hpc.report.panels.panel import Comparison, Panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BINS = 20
_BOX_FROM = 5  # of fewer runs a box hides more than it shows


def boxes(panel: Panel, comparisons: Sequence[Comparison]) -> Figure | None:
    """Accuracy over the values of the axis (Figure 4): every run a dot; a box from five runs on."""
    groups = drawable(comparisons, "accuracy")
    if not groups:
        return None
    figure, axes = canvas(len(groups), share_y=True)
    columns = group_columns([group for group, _ in groups])
    for (group, cells), ax in zip(groups, axes[0]):
        shown_cells = [cell for cell in cells if cell.values("accuracy")]
        for place, cell in enumerate(shown_cells):
            _strip(ax, place, list(cell.values("accuracy").values()), PALETTE[0])
            printed = panel.paper.get(cell.settings[panel.axis[0]])
            if printed is not None:
                ax.plot(
                    place,
                    printed,
                    "x",
                    color=RED,
                    markersize=8,
                    markeredgewidth=2,
                    zorder=5,
                    label="the paper" if place == 0 else None,
                )
        _ticks(ax, panel.axis[0], shown_cells)
        ax.set_title(wrapped(name_of(group, columns)))
    if panel.paper:
        figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center")
    axes[0][0].set_ylabel("accuracy (%)")
    return figure


def _strip(ax: Axes, place: float, values: list[float], colour: str) -> None:
    """Dots beside each other, a median line, and a box where there are enough of them."""
    jitter = np.random.default_rng(len(values)).uniform(-0.13, 0.13, len(values)) if len(values) > 1 else [0]
    ax.scatter(place + np.asarray(jitter), values, s=20, color=colour, alpha=0.55, linewidth=0, zorder=3)
    if len(values) >= _BOX_FROM:
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
    else:
        ax.hlines(float(np.median(values)), place - 0.22, place + 0.22, color=RED, linewidth=1.6, zorder=4)


def _ticks(ax: Axes, name: str, cells: Sequence[Cell]) -> None:
    labels = [f"{shown(name, cell.settings[name])}\nn={len(cell.values('accuracy'))}" for cell in cells]
    ax.set_xticks(range(len(cells)), labels)
    ax.set_xlim(-0.6, len(cells) - 0.4)
    ax.grid(False, axis="x")
    ax.set_xlabel(AXIS_NAMES.get(name, name))


def histograms(panel: Panel, comparisons: Sequence[Comparison]) -> Figure | None:
    """Distributions of IA (Figures B.1, B.2): a row a setting, a column a value, the median in red."""
    groups = drawable(comparisons, "ia")
    if not groups:
        return None
    name = panel.axis[0]
    values = sorted(
        {cell.settings[name] for _, cells in groups for cell in cells if cell.values("ia")},
        key=lambda value: order(name, value),
    )
    every = [ia for _, cells in groups for cell in cells for ia in cell.values("ia").values()]
    figure, axes = canvas(len(values), len(groups), width=3.7, height=2.9, share_x=True)
    columns = group_columns([group for group, _ in groups])
    for (group, cells), row in zip(groups, axes):
        by_value = {cell.settings[name]: cell for cell in cells if cell.values("ia")}
        for value, ax in zip(values, row):
            if value in by_value:
                histogram(ax, by_value[value], every)
                ax.set_title(f"{name} {shown(name, value)}\n{ax.get_title(loc='left')}")
            else:
                ax.set_axis_off()
        row[0].set_ylabel("runs")
        # a title may reach over the next axes; other text would push them away
        row[0].set_title(f"{name_of(group, columns)}\n{row[0].get_title(loc='left')}".rstrip())
    return figure


def histogram(ax: Axes, cell: Cell, every: Sequence[float]) -> None:
    """The IA of a cell, its median in red, chance where it is near. every: the numbers that the bins must hold."""
    values = list(cell.values("ia").values())
    chance = list(cell.values("ia_chance").values())
    spread = max(every) - min(every)
    bins: Any = np.linspace(min(every), max(every), _BINS + 1) if spread > 0 else 1
    ax.hist(values, bins=bins, color=PALETTE[5], edgecolor="white", linewidth=0.5)
    middle = float(np.median(values))
    ax.axvline(middle, color=RED, linewidth=1.8)
    title = f"median {middle:.3f}, n = {len(values)}"
    if chance:
        level = float(np.median(chance))
        title += f" (chance {level:.3f})"
        if level > min(every) - spread:  # further away it would only squeeze the distribution
            ax.axvline(level, color=GREY, linewidth=1.2, linestyle=":")
    set_ticks(ax.yaxis, integer=True)
    set_ticks(ax.xaxis, nbins=5)
    ax.grid(False, axis="x")
    ax.set_xlabel("IA (NMI)")
    ax.set_ylabel("runs")
    ax.set_title(title)
