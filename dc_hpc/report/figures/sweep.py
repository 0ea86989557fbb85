"""Draws a person's own sweep: means with their intervals over the swept setting, a line for each value of a second."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dc_hpc.report.figures.style import (
    AXIS_NAMES,
    GREY,
    LEAST_SPAN,
    MARKERS,
    MOST_GROUPS,
    PALETTE,
    canvas,
    keep_span,
    key,
    wrapped,
)
from dc_hpc.report.panels.grouping import RANDOM_FLOOR, order, shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from dc_hpc.report.claims.rules import Measured
    from dc_hpc.report.sweeps.points import Point, Quantity

MOST_SETTINGS = 3  # x axis, lines, and a row of axes for each value of the third
_MOST_ROWS = 4
_LOGARITHMIC = 20  # values that lie so many times apart have a logarithmic axis


def draw(axis: Sequence[str], points: Sequence[Point], quantities: Sequence[Quantity], title: str) -> Figure | None:
    """A column for each quantity, a row for each value of the third setting. axis: the swept settings.

    None where nothing, or too much, was swept, or nothing is done.
    """
    swept = _swept(axis, points)
    bounds = [point for point in points if point not in swept]
    rows = _values(swept, axis[2]) if len(axis) > 2 else [None]
    if not axis or len(axis) > MOST_SETTINGS or len(rows) > _MOST_ROWS or not quantities:
        return None
    figure, axes = canvas(len(quantities), len(rows), width=5.0 if len(quantities) < 3 else 4.2, height=3.6)
    for value, row in zip(rows, axes):
        inside = [point for point in swept if len(axis) < 3 or point.cell.settings[axis[2]] == value]
        for one, ax in zip(quantities, row):
            _lines(ax, axis, inside, one, _values(swept, axis[0]), bool(bounds))
            for bound in bounds:
                _bound(ax, bound, one)
            if one.name in LEAST_SPAN:
                keep_span(ax, one.name)
            ax.set_ylabel(one.axis)
            parts = [f"{axis[2]} {shown(axis[2], value)}"] if len(axis) > 2 else []
            ax.set_title(", ".join([*parts, _n(inside, one)]))
    figure.suptitle(wrapped(f"{title}: means, bars 95 % intervals, dots seeds", 46 * len(quantities)), fontsize=10)
    key(figure, [ax for row in axes for ax in row], ncols=4)
    return figure


def left_out(axis: Sequence[str], points: Sequence[Point]) -> str:
    """What the figure does not show of a sweep, in a sentence; empty where it shows all."""
    swept = _swept(axis, points)
    if len(axis) > MOST_SETTINGS:
        return "More than three settings: no figure."
    if len(axis) > 2 and len(_values(swept, axis[2])) > _MOST_ROWS:
        return f"More than {_MOST_ROWS} values of {axis[2]}: no figure."
    if len(axis) > 1 and len(_values(swept, axis[1])) > MOST_GROUPS:
        return f"The figure has the first {MOST_GROUPS} values of {axis[1]} only."
    return ""


def _swept(axis: Sequence[str], points: Sequence[Point]) -> list[Point]:
    """The points without the bounds, which lack the settings of the axis."""
    return [point for point in points if point.cell.settings.keys() >= set(axis)]


def _values(points: Sequence[Point], name: str) -> list[Any]:
    return sorted({point.cell.settings[name] for point in points}, key=lambda value: order(name, value))


def _n(points: Sequence[Point], one: Quantity) -> str:
    """How many seeds the points of an axes have."""
    counts = sorted({len(point.values(one.name)) for point in points if point.values(one.name)})
    return f"n = {' to '.join(str(n) for n in dict.fromkeys((counts[0], counts[-1])))}" if counts else "n = 0"


def _lines(
    ax: Axes, axis: Sequence[str], points: Sequence[Point], one: Quantity, values: Sequence[Any], bounded: bool
) -> None:
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    logarithmic = numeric and min(values) > 0 and max(values) / min(values) >= _LOGARITHMIC
    places = {value: float(value) if numeric else float(index) for index, value in enumerate(values)}
    names = _values(points, axis[1])[:MOST_GROUPS] if len(axis) > 1 else [None]
    for index, name in enumerate(names):
        line = [point for point in points if len(axis) < 2 or point.cell.settings[axis[1]] == name]
        found = {
            places[p.cell.settings[axis[0]]]: (p.values(one.name), p.mean(one.name)) for p in line if p.values(one.name)
        }
        if found:
            apart = _dodged(list(found), index - (len(names) - 1) / 2, places, logarithmic)
            text = f"{axis[1]} {shown(axis[1], name)}" if len(axis) > 1 else "clustered" if bounded else ""
            _line(ax, dict(zip(apart, found.values())), index, text)
    ax.set_xlabel(AXIS_NAMES.get(axis[0], axis[0]))
    if logarithmic:
        ax.set_xscale("log")
    ticks = list(places.values())
    if not numeric or len(ticks) <= 8:
        ax.set_xticks(ticks, [shown(axis[0], value) for value in places])
        ax.minorticks_off()
    ax.margins(x=0.08)


def _dodged(places: Sequence[float], step: float, every: dict[Any, float], logarithmic: bool) -> list[float]:
    """The places of a line, moved a little so that the bars of several lines do not cover each other."""
    if logarithmic:
        return [place * (max(every.values()) / min(every.values())) ** (0.012 * step) for place in places]
    reach = max(every.values()) - min(every.values()) or 1.0
    return [place + 0.012 * step * reach for place in places]


def _line(ax: Axes, found: dict[float, tuple[list[float], Measured]], index: int, text: str) -> None:
    """Means with their intervals and every seed. A line joins them only where no point is a single seed."""
    colour = PALETTE[index % len(PALETTE)]
    joined = len(found) > 1 and min(mean.n for _, mean in found.values()) > 1
    ax.plot(
        list(found),
        [mean.value or 0.0 for _, mean in found.values()],
        color=colour,
        linewidth=1.5,
        linestyle="-" if joined else "none",
        marker=MARKERS[index % len(MARKERS)],
        markersize=6,
        label=text,
    )
    for place, (values, mean) in found.items():
        if mean.interval:
            ax.vlines(place, *mean.interval, color=colour, linewidth=1.5)
        if len(values) > 1:
            ax.scatter([place] * len(values), values, s=12, color=colour, alpha=0.4, linewidth=0)


def _bound(ax: Axes, bound: Point, one: Quantity) -> None:
    values = bound.values(one.name)
    if values:
        ax.axhline(
            float(np.mean(values)),
            color=GREY if bound.training == RANDOM_FLOOR else "#222222",
            linestyle=":" if bound.training == RANDOM_FLOOR else "--",
            linewidth=1.4,
            label=f"{bound.training}, n = {len(values)}",
        )
