"""Draws lines: accuracy over halting positions (Figure 5, Table A.1) and over layers; agreement over the cycles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dc_hpc.report.figures.style import (
    AXIS_NAMES,
    GREY,
    MARKERS,
    MOST_GROUPS,
    PALETTE,
    RED,
    canvas,
    drawable,
    parted,
    set_ticks,
    wrapped,
)
from dc_hpc.report.panels.grouping import Cell, order, shown
from dc_hpc.report.panels.panel import Comparison, Panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def halting(panel: Panel, comparisons: Sequence[Comparison]) -> Figure | None:
    """Accuracy against the cycle after which clustering halts (Figure 5), `never` at the right end.

    Runs with leaked labels are a dashed line of their own.
    """
    groups = drawable(comparisons, "accuracy")
    if not groups:
        return None
    halts = sorted(
        {cell.settings["halt_cycle"] for _, cells in groups for cell in cells if cell.values("accuracy")},
        key=lambda halt: order("halt_cycle", halt),
    )
    figure, axes = canvas(1, width=6.2, height=4.2)
    ax = axes[0][0]
    title, own = parted([group for group, _ in groups], also=panel.fixed)
    for index, ((_, cells), name) in enumerate(zip(groups, own)):
        for leaked in (False, True):
            series = [cell for cell in cells if (cell.settings.get("resume_leak") is not None) == leaked]
            plain = "clean" if len(panel.axis) > 1 else "ours" if panel.paper else ""
            parts = [name, "labels leaked" if leaked else plain]
            _line(ax, halts, series, index, ", ".join(part for part in parts if part), leaked)
    for halt, printed in panel.paper.items():
        if halt in halts:
            ax.plot(halts.index(halt), printed, "x", color=RED, markersize=8, markeredgewidth=2, zorder=5)
    if panel.paper:
        ax.plot([], [], "x", color=RED, markersize=8, markeredgewidth=2, label="the paper")
    ax.set_xticks(range(len(halts)), [shown("halt_cycle", halt) for halt in halts])
    ax.set_xlim(-0.4, len(halts) - 0.6)
    ax.set_xlabel(AXIS_NAMES["halt_cycle"])
    ax.set_ylabel("accuracy (%)")
    ax.set_title(title)
    figure.legend(loc="outside lower center")
    return figure


def _line(ax: Axes, halts: list[Any], series: Sequence[Cell], index: int, name: str, leaked: bool) -> None:
    found = {
        halts.index(cell.settings["halt_cycle"]): list(cell.values("accuracy").values())
        for cell in series
        if cell.values("accuracy")
    }
    if not found:
        return
    places = sorted(found)
    colour = PALETTE[(index + 3 * leaked) % len(PALETTE)]
    counts = sorted(len(values) for values in found.values())
    n = f"n = {' to '.join(str(n) for n in dict.fromkeys((counts[0], counts[-1])))}"
    ax.plot(
        places,
        [float(np.median(found[place])) for place in places],
        color=colour,
        linewidth=1.8,
        linestyle="--" if leaked else "-",
        marker=MARKERS[index % len(MARKERS)],
        markersize=6,
        label=", ".join(part for part in (name, n) if part),
    )
    for place in places:
        if len(found[place]) > 1:
            ax.scatter([place] * len(found[place]), found[place], s=14, color=colour, alpha=0.5, linewidth=0)


def layer_profiles(cells: Sequence[Cell], layers: Sequence[str], training: tuple[str, str, str]) -> Figure | None:
    """Accuracy by probed layer: the random floor, what clustering adds, the supervised ceiling.

    training: the cells' values of the setting `training` for a random, a clustered and a supervised net.
    """
    if not layers:
        return None
    figure, axes = canvas(1, width=6.2, height=4.2)
    title, own = parted(cells, skip=("training", "cycles"))
    looks = dict(zip(training, ((GREY, ":"), (None, "-"), ("#222222", "--"))))
    for index, (cell, name) in enumerate(zip(cells, own)):
        colour, dashes = looks[cell.settings["training"]]
        found = {
            place: list(values.values())
            for place, layer in enumerate(layers)
            if (values := cell.values(f"accuracy_{layer}"))
        }
        counts = sorted({len(values) for values in found.values()})
        parts = [
            cell.settings["training"],
            f"{cell.settings['cycles']} cycles",
            name,
            f"n = {counts[0]}" + (f" to {counts[-1]}" if len(counts) > 1 else ""),
        ]
        _profile(axes[0][0], found, colour or PALETTE[index % len(PALETTE)], dashes, index, parts)
    axes[0][0].set_xticks(range(len(layers)), layers)
    axes[0][0].set_xlabel("probed layer")
    axes[0][0].set_ylabel("accuracy (%)")
    axes[0][0].set_title(title)
    figure.legend(loc="outside lower center")
    return figure


def _profile(ax: Axes, found: dict[int, list[float]], colour: str, dashes: str, index: int, parts: list[str]) -> None:
    ax.plot(
        list(found),
        [float(np.median(values)) for values in found.values()],
        color=colour,
        linestyle=dashes,
        linewidth=1.8,
        marker=MARKERS[index % len(MARKERS)],
        markersize=6,
        label=", ".join(part for part in parts if part),
    )
    for place, values in found.items():
        ax.scatter([place] * len(values), values, s=12, color=colour, alpha=0.45, linewidth=0)


def curves(panel: Panel, groups: Sequence[Cell], cycles: pd.DataFrame) -> Figure | None:
    """Section 3.2's two agreements over the cycles: median of the runs, band between their quartiles."""
    found = []
    for group in groups:
        runs = {row["run_id"] for row in group.runs("nmi_true_last").values()}  # one a seed, as the table counts
        table = cycles[cycles["run_id"].isin(runs)]
        if len(table):
            found.append((group, table))
    if not found:
        return None
    found = found[:MOST_GROUPS]
    figure, axes = canvas(2, width=5, height=3.9)
    title, own = parted([group for group, _ in found], also=panel.fixed)
    for index, ((_, table), name) in enumerate(zip(found, own)):
        legend = ", ".join(part for part in (name, f"n = {table['run_id'].nunique()}") if part)
        _band(axes[0][0], table, "nmi_true", PALETTE[index], legend)
        _band(axes[0][1], table, "nmi_prev", PALETTE[index], legend)
        chance = table.groupby("cycle")["nmi_true_chance"].median()
        axes[0][0].plot(
            chance.index.to_numpy(int),
            chance.to_numpy(float),
            color=PALETTE[index],
            linestyle=":",
            linewidth=1.2,
        )
    axes[0][0].set_title(f"{wrapped(title)}\nNMI with the truth (dotted: chance)")
    axes[0][1].set_title("NMI with the cycle before")
    for ax in axes[0]:
        ax.set_xlabel("cycle")
        ax.set_ylabel("NMI")
        set_ticks(ax.xaxis, integer=True)
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center")
    return figure


def _band(ax: Axes, table: pd.DataFrame, name: str, colour: str, label: str) -> None:
    known = table[table[name].notna()]
    quartiles = known.groupby("cycle")[name].quantile(np.array([0.25, 0.5, 0.75])).unstack()
    if quartiles.empty:
        return
    x = quartiles.index.to_numpy(int)
    low, middle, high = (quartiles[q].to_numpy(float) for q in (0.25, 0.5, 0.75))
    ax.plot(x, middle, color=colour, linewidth=1.8, label=label, marker="o" if len(x) < 8 else None, markersize=4)
    ax.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
