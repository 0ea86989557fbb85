"""Draws lines: accuracy over halting positions (Figure 5, Table A.1) and over layers; agreement over the cycles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from dc_hpc.report.figures.printed import cross
from dc_hpc.report.figures.style import (
    AXIS_NAMES,
    GREY,
    MARKERS,
    MOST_GROUPS,
    PALETTE,
    canvas,
    dodged,
    drawable,
    keep_span,
    key,
    note,
    parted,
    set_ticks,
    wrapped,
)
from dc_hpc.report.panels.grouping import Cell, order, shown
from dc_hpc.report.panels.panel import Comparison, Panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_HOLLOW: dict[str, Any] = {"markerfacecolor": "white"}
_KEY_LINE = 0.22  # inches that an entry of the key adds to the height of a figure


class Series(NamedTuple):
    """Numbers of runs by place on the axis and seed (`found`), how they look, and their name in the key."""

    found: Mapping[int, Mapping[int, float]]
    look: Mapping[str, Any]
    name: str


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
    title, own = parted([group for group, _ in groups], also=panel.fixed)
    drawn = [
        one
        for index, ((_, cells), name) in enumerate(zip(groups, own))
        for one in _halting_series(panel, halts, cells, index, name)
    ]
    figure, axes = canvas(1, width=6.2, height=3.7 + _KEY_LINE * (len(drawn) + 2))
    ax = axes[0][0]
    for halt, printed in panel.paper.items():
        if halt in halts:
            cross(ax, panel, halts.index(halt), printed)
    _all_series(ax, drawn)
    ax.set_xticks(range(len(halts)), [shown("halt_cycle", halt) for halt in halts])
    ax.set_xlim(-0.5, len(halts) - 0.5)
    ax.set_xlabel(AXIS_NAMES["halt_cycle"])
    ax.set_ylabel("accuracy (%)")
    ax.set_title(wrapped(title, 74))
    keep_span(ax, "accuracy")
    key(figure, [ax])
    return figure


def _halting_series(panel: Panel, halts: list[Any], cells: Sequence[Cell], index: int, name: str) -> list[Series]:
    """The clean runs of a setting, and those with leaked labels, if there are any."""
    drawn = []
    for leaked in (False, True):
        series = [cell for cell in cells if (cell.settings.get("resume_leak") is not None) == leaked]
        found = {
            halts.index(cell.settings["halt_cycle"]): values for cell in series if (values := cell.values("accuracy"))
        }
        plain = "clean" if len(panel.axis) > 1 else "ours" if panel.paper else ""
        parts = [name, "labels leaked" if leaked else plain]
        look = {
            "color": PALETTE[(index + 3 * leaked) % len(PALETTE)],
            "linestyle": "--" if leaked else "-",
            "marker": MARKERS[index % len(MARKERS)],
        }
        if found:
            drawn.append(Series(found, look, ", ".join(part for part in parts if part) or "accuracy"))
    return drawn


def layer_profiles(cells: Sequence[Cell], layers: Sequence[str], training: tuple[str, str, str]) -> Figure | None:
    """Accuracy by probed layer: the random floor, what clustering adds, the supervised ceiling.

    training: the cells' values of the setting `training` for a random, a clustered and a supervised net.
    """
    if not layers:
        return None
    title, own = parted(cells, skip=("training", "cycles"))
    words = dict(zip(training, ("random floor", "clustered", "supervised ceiling")))
    looks = dict(zip(training, ((GREY, ":"), (None, "-"), ("#222222", "--"))))
    drawn = []
    for index, (cell, name) in enumerate(zip(cells, own)):
        kind = cell.settings["training"]
        colour, dashes = looks[kind]
        found = {place: values for place, layer in enumerate(layers) if (values := cell.values(f"accuracy_{layer}"))}
        cycles = "" if kind == training[0] else f"{cell.settings['cycles']} cycles"
        look = {
            "color": colour or PALETTE[index % len(PALETTE)],
            "linestyle": dashes,
            "marker": MARKERS[index % len(MARKERS)],
        }
        drawn.append(Series(found, look, ", ".join(part for part in (words[kind], cycles, name) if part)))
    figure, axes = canvas(1, width=6.2, height=3.7 + _KEY_LINE * (len(drawn) + 3))
    ax = axes[0][0]
    _all_series(ax, drawn)
    for kind in (training[0], training[2]):
        if not any(cell.settings["training"] == kind for cell in cells):
            note(ax, f"{words[kind]}: not run")
    ax.set_xticks(range(len(layers)), layers)
    ax.set_xlim(-0.5, len(layers) - 0.5)
    ax.set_xlabel("probed layer")
    ax.set_ylabel("accuracy (%)")
    ax.set_title(wrapped(title, 74))
    keep_span(ax, "accuracy")
    key(figure, [ax])
    return figure


def _all_series(ax: Axes, drawn: Sequence[Series]) -> None:
    """Series beside each other, and what their markers mean."""
    for index, one in enumerate(drawn):
        _series(ax, one, dodged(index, len(drawn)))
    counts = [len(values) for one in drawn for values in one.found.values()]
    look: dict[str, Any] = {"marker": "o", "color": "#555555", "markersize": 6}
    if max(counts) > 1:
        note(ax, "large: median", **look)
        note(ax, "small: a run", **(look | {"markersize": 3.5, "alpha": 0.5}))
    if min(counts) == 1:
        note(ax, "hollow: one run, no trend", **look, **_HOLLOW)
    if any(set(a) != set(b) for one in drawn for a, b in pairwise(one.found[place] for place in sorted(one.found))):
        note(ax, "no line where the seeds are not the same")


def _series(ax: Axes, series: Series, aside: float) -> None:
    """Medians and runs by place. A line joins medians of the same seeds, two at least; one run stands alone, hollow.

    Medians of other seeds differ by the seeds as well as by the place, so that no line may lead from one to the next.
    """
    found, look = series.found, series.look
    places = sorted(found)
    medians = {place: float(np.median(list(found[place].values()))) for place in places}
    line: dict[str, Any] = {"linestyle": look["linestyle"], "linewidth": 1.8}
    marker: dict[str, Any] = {"color": look["color"], "marker": look["marker"], "markersize": 6}
    joined = [(a, b) for a, b in pairwise(places) if len(found[a]) > 1 and set(found[a]) == set(found[b])]
    for pair in joined:
        ax.plot([place + aside for place in pair], [medians[place] for place in pair], color=look["color"], **line)
    for place, values in found.items():
        single = _HOLLOW if len(values) == 1 else {}
        ax.plot([place + aside], [medians[place]], linestyle="none", **marker, **single, zorder=4)
        if len(values) > 1:
            ax.scatter(
                [place + aside] * len(values), list(values.values()), s=14, color=look["color"], alpha=0.5, linewidth=0
            )
    counts = sorted(len(values) for values in found.values())
    n = f"n = {' to '.join(str(n) for n in dict.fromkeys((counts[0], counts[-1])))}"
    note(ax, f"{series.name}, {n}", **(line if joined else {}), **marker, **(_HOLLOW if counts[-1] == 1 else {}))


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
    figure, axes = canvas(2, width=5, height=3.6 + _KEY_LINE * (len(found) + 1), share_x=True, share_y=True)
    title, own = parted([group for group, _ in found], also=panel.fixed)
    for index, ((_, table), name) in enumerate(zip(found, own)):
        count = table["run_id"].nunique()
        legend = ", ".join(part for part in (name, f"n = {count}") if part)
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
    note(axes[0][0], "dotted: chance (left)", color="#555555", linestyle=":")
    if any(table["run_id"].nunique() > 1 for _, table in found):
        note(axes[0][0], "line: median of the runs; band: between their quartiles", color="#555555", linestyle="-")
    axes[0][0].set_title(f"{wrapped(title)}\nNMI with the truth")
    axes[0][1].set_title("NMI with the cycle before")
    for ax in axes[0]:
        ax.set_xlabel("cycle")
        set_ticks(ax.xaxis, integer=True)
    axes[0][0].set_ylabel("NMI")
    keep_span(axes[0][0], "nmi")
    key(figure, axes[0])
    return figure


def _band(ax: Axes, table: pd.DataFrame, name: str, colour: str, label: str) -> None:
    """Median and quartiles by cycle; of a single run its curve alone, of a single cycle a marker."""
    known = table[table[name].notna()]
    quartiles = known.groupby("cycle")[name].quantile(np.array([0.25, 0.5, 0.75])).unstack()
    if quartiles.empty:
        return
    x = quartiles.index.to_numpy(int)
    low, middle, high = (quartiles[q].to_numpy(float) for q in (0.25, 0.5, 0.75))
    line = "-" if len(x) > 1 else "none"
    marker: dict[str, Any] = {"marker": "o", "markersize": 4} if len(x) < 8 else {}
    ax.plot(x, middle, color=colour, linewidth=1.8, linestyle=line, label=label, **marker)
    if known["run_id"].nunique() > 1:
        ax.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
