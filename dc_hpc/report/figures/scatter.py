"""Draws Initial Alignment against accuracy: Figures 3, 6, A.1 and B.3."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dc_hpc.report.figures.distributions import BOX_FROM, bins_of, histogram
from dc_hpc.report.figures.printed import ia_band, region, words
from dc_hpc.report.figures.style import (
    GREY,
    MARKERS,
    MOST_GROUPS,
    PALETTE,
    canvas,
    keep_span,
    key,
    name_of,
    note,
    set_ticks,
    wrapped,
)
from dc_hpc.report.panels.grouping import ALIGNMENT, Cell, group_columns, shown
from dc_hpc.report.panels.panel import Band, Panel
from dc_hpc.report.statistics import FEWEST_RANKED, describe, regression, spearman, spearman_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST = 3  # settings below each other


def relation(panel: Panel, settings: Sequence[tuple[Cell, Cell]]) -> Figure | None:
    """IA against accuracy with the regression line; beside it, where IA was sampled, the distribution of IA.

    settings: of each setting the runs with an accuracy, and all runs with the same IA. Figure A.1 has both. Settings
    without a run that has an accuracy show their distribution alone. More than _MOST settings would be taller than a
    page; the table has them all.
    """
    known = [(group, every) for group, every in settings if every.values("ia")]
    paired = [(group, every) for group, every in known if group.pairs()]
    first = sorted(paired or known, key=_mixed_and_small_last)[:_MOST]
    found = [one for one in paired or known if one in first]
    if not found:
        return None
    sampled = not paired or any(len(every.values("ia")) >= 2 * len(group.pairs()) for group, every in found)
    figure, axes = canvas(sampled + bool(paired), len(found), height=3.2, share_x="all", share_y="col")
    columns = group_columns([group if group.rows else every for group, every in found])
    bins = bins_of([every for _, every in found])
    for (group, every), row in zip(found, axes):
        if sampled:
            name = name_of(every, [column for column in columns if column in ALIGNMENT])
            row[0].set_title(f"{wrapped(name)}\n{histogram(row[0], every, bins)}".rstrip())
            row[0].set_ylabel("runs (%)")
        if paired:
            _scatter(row[-1], group.pairs(), name_of(group, columns))
    every_ax = [ax for row in axes for ax in row]
    keep_span(axes[0][0], "ia", "x")
    if paired:
        keep_span(axes[0][-1], "accuracy")
    for ax in every_ax:
        ia_band(ax, panel)
    for ax in axes[-1]:
        ax.set_xlabel("IA (NMI)")
    key(figure, every_ax, ncols=3 if sampled and paired else 1)
    return figure


def _mixed_and_small_last(setting: tuple[Cell, Cell]) -> tuple[bool, int]:
    group, every = setting
    return (group if group.rows else every).settings.get("protocol") == "mixed", -len(group.pairs())


def _scatter(axes: Axes, found: list[tuple[int, float, float]], title: str) -> None:
    """A dot a run. Fewer runs than FEWEST_RANKED have no line and no rank correlation: any three nearly lie on one."""
    ia, accuracy = [x for _, x, _ in found], [y for _, _, y in found]
    look: dict[str, Any] = {"s": 42, "color": PALETTE[0], "alpha": 0.85, "edgecolor": "white", "linewidth": 0.6}
    axes.scatter(ia, accuracy, **look, zorder=3, label="a run with IA and accuracy")
    result = f"n = {len(found)}"
    if len(found) >= FEWEST_RANKED:
        line, rho, interval = regression(ia, accuracy), spearman(ia, accuracy), spearman_interval(ia, accuracy)
        if line:
            ends = np.array([min(ia), max(ia)])
            axes.plot(ends, line[0] * ends + line[1], color=PALETTE[1], linewidth=1.6, label="least-squares line")
        if rho is not None:
            result += f", Spearman's rho {rho:.2f}"
            result += f" (95 % interval {interval.low:.2f} to {interval.high:.2f})" if interval else ""
    else:
        result += ": too few for a line"
    axes.set_title("\n".join(wrapped(part) for part in (title, result) if part))
    axes.set_ylabel("accuracy (%)")
    axes.margins(0.08)
    set_ticks(axes.xaxis, nbins=6)


def same_nets(panel: Panel, found: Sequence[tuple[Cell, Cell, list[tuple[float, float]]]]) -> Figure | None:
    """IA of one clustering against that of another, a dot a net, with the line on which both are the same.

    found: of each two settings their cells, and the IA of the seeds that both have.
    """
    if not found:
        return None
    found = found[:MOST_GROUPS]
    figure, axes = canvas(len(found), width=4.2, height=4.0)
    for (first, second, pairs), ax in zip(found, axes[0]):
        one, other = (np.array(side) for side in zip(*pairs))
        ends = [min(one.min(), other.min()), max(one.max(), other.max())]
        ax.plot(ends, ends, color=GREY, linewidth=1, linestyle="--", label="the same in both")
        ax.scatter(one, other, s=16, color=PALETTE[0], alpha=0.7, linewidth=0, label="a net")
        names = [shown(panel.axis[0], cell.settings[panel.axis[0]]) for cell in (first, second)]
        ax.set_xlabel(f"IA, {names[0]}")
        ax.set_ylabel(f"IA, {names[1]}")
        ax.set_title(wrapped(f"{name_of(first, ['dataset', 'protocol', 'sobel', 'k'])}, n = {len(pairs)}", 46))
    key(figure, axes[0], ncols=2)
    return figure


def both(panel: Panel, pairs: Sequence[tuple[Cell, Cell]]) -> Figure | None:
    """Median IA against median accuracy, a marker for each value of the axis (Figures 6 and B.3).

    pairs: (accuracy cell, IA cell) of each value of the axis and each setting.
    """
    found = [(acc, ia) for acc, ia in pairs if acc.values("accuracy") and ia.values("ia")]
    name = panel.axis[0]
    groups: dict[tuple[tuple[str, Any], ...], list[tuple[Cell, Cell]]] = {}
    for acc, ia in found:
        setting = tuple((field, value) for field, value in acc.settings.items() if field != name)
        groups.setdefault(setting, []).append((acc, ia))
    if not groups:
        return None
    groups = dict(list(groups.items())[:MOST_GROUPS])
    values = list(dict.fromkeys(acc.settings[name] for cells in groups.values() for acc, _ in cells))
    figure, axes = canvas(len(groups), width=5.2, height=4.4, share_x=True, share_y=True)
    columns = group_columns([Cell(dict(setting), []) for setting in groups])
    for (setting, cells), ax in zip(groups.items(), axes[0]):
        for acc, ia in cells:
            _crossed(ax, ia, acc, values.index(acc.settings[name]), f"{name} {shown(name, acc.settings[name])}")
        ax.set_title(wrapped(name_of(Cell(dict(setting), []), columns)))
        ax.set_xlabel("median IA (NMI)")
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), fontsize=8.5, ncols=2)
    axes[0][0].set_ylabel("accuracy (%)")
    keep_span(axes[0][0], "ia", "x")
    keep_span(axes[0][0], "accuracy")
    _regions(panel, axes[0])
    _explain(axes[0][0], figure, found)
    return figure


def _regions(panel: Panel, axes: Sequence[Axes]) -> None:
    """What the paper says of IA and accuracy, a rectangle for the values of the axis of which it says the same."""
    name = panel.axis[0]
    same: dict[tuple[Band, Band], list[str]] = {}
    for value, ia in panel.ia_ranges.items():
        same.setdefault((ia, panel.accuracy_ranges[value]), []).append(shown(name, value))
    for index, ((ia, accuracy), values) in enumerate(same.items()):
        text = f"{panel.source}, {name} {' and '.join(values)}: IA {words(ia)}, accuracy {words(accuracy)}"
        for ax in axes:
            region(ax, text, ia, accuracy, ("", "///", "...")[index % 3])


def _explain(ax: Axes, figure: Figure, found: Sequence[tuple[Cell, Cell]]) -> None:
    """The key of what all axes have in common."""
    from matplotlib.lines import Line2D

    look: dict[str, Any] = {"color": "#555555", "linestyle": "none"}
    entries = [(Line2D([], [], marker="o", markersize=8, **look), "medians; bars: quartiles, from 5 runs on")]
    if any(len(acc.values("accuracy")) > 1 for acc, _ in found):
        entries.append((Line2D([], [], marker="o", markersize=4, alpha=0.45, **look), "small dots: runs"))
    handles = [handle for handle, _ in entries] + list(ax.patches)
    texts = [text for _, text in entries] + [str(patch.get_label()) for patch in ax.patches]
    figure.legend(handles, texts, loc="outside lower center")


def _crossed(ax: Axes, ia_cell: Cell, accuracy_cell: Cell, index: int, name: str) -> None:
    ia, accuracy = list(ia_cell.values("ia").values()), list(accuracy_cell.values("accuracy").values())
    x, y, colour = describe(ia), describe(accuracy), PALETTE[index % len(PALETTE)]
    if len(accuracy) > 1:
        ax.scatter([x["median"]] * len(accuracy), accuracy, s=16, color=colour, alpha=0.45, linewidth=0)
    ax.errorbar(
        [x["median"]],
        [y["median"]],
        xerr=[[x["median"] - x["q25"]], [x["q75"] - x["median"]]] if len(ia) >= BOX_FROM else None,
        yerr=[[y["median"] - y["q25"]], [y["q75"] - y["median"]]] if len(accuracy) >= BOX_FROM else None,
        color=colour,
        linewidth=1.4,
        capsize=3,
        marker=MARKERS[index % len(MARKERS)],
        markersize=8,
        linestyle="none",
    )
    note(
        ax,
        f"{name}, n = {len(accuracy)} (IA: {len(ia)})",
        color=colour,
        marker=MARKERS[index % len(MARKERS)],
        markersize=8,
    )
