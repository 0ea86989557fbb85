"""Draws Initial Alignment against accuracy: Figures 3, 6, A.1 and B.3."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dc_hpc.report.figures.distributions import histogram
from dc_hpc.report.figures.style import MARKERS, MOST_GROUPS, PALETTE, canvas, name_of, set_ticks, wrapped
from dc_hpc.report.panels.grouping import Cell, group_columns, shown
from dc_hpc.report.panels.panel import Panel
from dc_hpc.report.statistics import FEWEST, describe, regression, spearman, spearman_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def relation(settings: Sequence[tuple[Cell, Cell]]) -> Figure | None:
    """IA against accuracy with the regression line; beside it, where IA was sampled, the distribution of IA.

    settings: of each setting the runs with an accuracy, and all runs with the same IA. Figure A.1 has both. Settings
    without a run that has an accuracy show their distribution alone.
    """
    known = [(group, every) for group, every in settings if every.values("ia")]
    paired = [(group, every) for group, every in known if group.pairs()]
    found = (paired or known)[:MOST_GROUPS]
    if not found:
        return None
    sampled = not paired or any(len(every.values("ia")) >= 2 * len(group.pairs()) for group, every in found)
    figure, axes = canvas(sampled + bool(paired), len(found))
    columns = group_columns([group if group.rows else every for group, every in found])
    for (group, every), row in zip(found, axes):
        name = name_of(group if group.rows else every, columns)
        if sampled:
            histogram(row[0], every, list(every.values("ia").values()))
            row[0].set_title(f"{wrapped(name)}\n{row[0].get_title(loc='left')}")
        if paired:
            _scatter(row[-1], group.pairs(), "" if sampled else name)
    return figure


def _scatter(axes: Axes, found: list[tuple[int, float, float]], title: str) -> None:
    ia, accuracy = [x for _, x, _ in found], [y for _, _, y in found]
    axes.scatter(ia, accuracy, s=42, color=PALETTE[0], alpha=0.85, edgecolor="white", linewidth=0.6, zorder=3)
    line = regression(ia, accuracy) if len(found) >= FEWEST else None
    if line:
        ends = np.array([min(ia), max(ia)])
        axes.plot(ends, line[0] * ends + line[1], color=PALETTE[1], linewidth=1.6)
    rho, interval = spearman(ia, accuracy), spearman_interval(ia, accuracy)
    result = f"n = {len(found)}"
    if rho is not None:
        ends_of_rho = f" ({interval.low:.2f} to {interval.high:.2f})" if interval else ""
        result = f"Spearman's rho {rho:.2f}{ends_of_rho}, {result}"
    axes.set_title(wrapped(", ".join(part for part in (title, result) if part)))
    axes.set_xlabel("IA (NMI)")
    axes.set_ylabel("accuracy (%)")
    axes.margins(0.08)
    set_ticks(axes.xaxis, nbins=6)


def both(panel: Panel, pairs: Sequence[tuple[Cell, Cell]]) -> Figure | None:
    """Median IA against accuracy, a cross for each value of the axis (Figures 6 and B.3); bars are quartiles.

    pairs: (accuracy cell, IA cell) of each value of the axis and each setting.
    """
    found = [(acc, ia) for acc, ia in pairs if acc.values("accuracy") and ia.values("ia")]
    name = panel.axis[0]
    groups: dict[tuple[tuple[str, Any], ...], list[tuple[Cell, Cell]]] = {}
    for acc, ia in found:
        key = tuple((field, value) for field, value in acc.settings.items() if field != name)
        groups.setdefault(key, []).append((acc, ia))
    if not groups:
        return None
    groups = dict(list(groups.items())[:MOST_GROUPS])
    figure, axes = canvas(len(groups), width=5.2, height=4, share_y=True)
    columns = group_columns([Cell(dict(key), []) for key in groups])
    for (key, cells), ax in zip(groups.items(), axes[0]):
        for index, (acc, ia) in enumerate(cells):
            _crossed(
                ax,
                list(ia.values("ia").values()),
                list(acc.values("accuracy").values()),
                index,
                f"{name} {shown(name, acc.settings[name])}, n = {len(acc.values('accuracy'))} "
                f"(IA: {len(ia.values('ia'))})",
            )
        ax.set_title(wrapped(name_of(Cell(dict(key), []), columns)))
        ax.set_xlabel("median IA (NMI)")
        ax.legend(loc="best", fontsize=8.5)
    axes[0][0].set_ylabel("accuracy (%)")
    return figure


def _crossed(ax: Axes, ia: list[float], accuracy: list[float], index: int, name: str) -> None:
    x, y, colour = describe(ia), describe(accuracy), PALETTE[index % len(PALETTE)]
    ax.scatter([x["median"]] * len(accuracy), accuracy, s=16, color=colour, alpha=0.45, linewidth=0)
    ax.errorbar(
        [x["median"]],
        [y["median"]],
        xerr=[[x["median"] - x["q25"]], [x["q75"] - x["median"]]],
        yerr=[[y["median"] - y["q25"]], [y["q75"] - y["median"]]],
        color=colour,
        linewidth=1.4,
        capsize=3,
        marker=MARKERS[index % len(MARKERS)],
        markersize=8,
        label=name,
    )
