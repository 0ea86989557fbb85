"""Draws what the paper prints: crosses for the values of its tables, bands for the ranges in its words."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from dc_hpc.report.figures.style import PAPER
from dc_hpc.report.panels.panel import Band, Panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BESIDE = 0.33  # a cross stands beside the dots of its value


def cross(ax: Axes, panel: Panel, place: float, accuracy: float) -> None:
    """The accuracy that the paper prints for one value of the axis."""
    ax.plot(place + _BESIDE, accuracy, "x", color=PAPER, markersize=8, markeredgewidth=2, zorder=5, label=panel.source)


def ia_band(ax: Axes, panel: Panel, value: Any = None) -> None:
    """A vertical band over the range of IA, of the median at one value of the axis or of all runs.

    Nothing is drawn where the paper gives none. An open end reaches the end of the axis. Call it after drawing.
    """
    what, band = ("median IA", panel.ia_ranges[value]) if value in panel.ia_ranges else ("IA", panel.ia_range)
    if band is None:
        return
    low, high = ax.get_xlim()
    ends = [end for end in band if math.isfinite(end)]
    margin = 0.05 * (max(high, *ends) - min(low, *ends))  # the whole band shows, also where no run lies in it
    low = min(ends) - margin if min(ends) <= low else low
    high = max(ends) + margin if max(ends) >= high else high
    label = f"{panel.source}: {what} {words(band)}"
    ax.axvspan(max(band.low, low), min(band.high, high), color=PAPER, alpha=0.13, linewidth=0, zorder=0, label=label)
    ax.set_xlim(low, high)


def region(ax: Axes, label: str, ia: Band, accuracy: Band, hatch: str) -> None:
    """A rectangle over a range of IA and one of accuracy; open ends reach the axes' ends. Call it after drawing."""
    from matplotlib.patches import Rectangle

    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    left, right = min(left, _inner(ia)), max(right, _inner(ia))
    bottom, top = min(bottom, accuracy.low - 2), max(top, accuracy.high + 2)
    x, y = max(ia.low, left), max(accuracy.low, bottom)
    width, height = min(ia.high, right) - x, min(accuracy.high, top) - y
    look: dict[str, Any] = {
        "facecolor": (*_rgb(), 0.10),
        "edgecolor": (*_rgb(), 0.45),
        "hatch": hatch,
        "linewidth": 0.8,
    }
    ax.add_patch(Rectangle((x, y), width, height, zorder=0, label=label, **look))
    ax.set(xlim=(left, right), ylim=(bottom, top))


def words(band: Band) -> str:
    """`.37 to .41`, `below .08`, `above .1`."""
    low, high = (f"{end:g}".replace("0.", ".", 1) if abs(end) < 1 else f"{end:g}" for end in band)
    if band.low == -float("inf"):
        return f"below {high}"
    return f"above {low}" if band.high == float("inf") else f"{low} to {high}"


def _inner(band: Band) -> float:
    """An end of the band that is a number."""
    return band.high if band.low == -float("inf") else band.low


def _rgb() -> tuple[float, float, float]:
    from matplotlib.colors import to_rgb

    return to_rgb(PAPER)
