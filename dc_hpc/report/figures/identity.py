"""Draws our numbers against published ones, seed by seed, with the line on which both are equal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from dc_hpc.report.figures.style import GREY, MOST_GROUPS, PALETTE, PAPER, canvas, key, name_of, wrapped
from dc_hpc.report.panels.grouping import Cell, group_columns

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class Numbers(Protocol):
    """What two sources say of one seed."""

    @property
    def seed(self) -> int: ...
    @property
    def published(self) -> float: ...
    @property
    def ours(self) -> float: ...
    @property
    def difference(self) -> float: ...


def identity(settings: Sequence[tuple[Cell, Sequence[Numbers]]], tolerance: float, source: str) -> Figure | None:
    """Ours against the published number, and the difference of each seed; a row for each setting.

    tolerance: the differences that count as none, a band. source: who published the numbers. None without a number.
    """
    found = [(cell, pairs) for cell, pairs in settings if pairs][:MOST_GROUPS]
    if not found:
        return None
    figure, axes = canvas(2, len(found), height=3.8)
    columns = group_columns([cell for cell, _ in found])
    for (cell, pairs), (left, right) in zip(found, axes):
        _numbers(left, pairs, source, name_of(cell, columns))
        _differences(right, pairs, tolerance)
    key(figure, [ax for row in axes for ax in row], ncols=2)
    return figure


def _numbers(ax: Axes, pairs: Sequence[Numbers], source: str, title: str) -> None:
    theirs, ours = [pair.published for pair in pairs], [pair.ours for pair in pairs]
    low, high = min(*theirs, *ours), max(*theirs, *ours)
    margin = 0.05 * (high - low) or 0.01
    ends = (low - margin, high + margin)
    ax.plot(ends, ends, color=GREY, linewidth=1.0, label="equal numbers")
    ax.scatter(theirs, ours, **_dots(), label="a seed")
    ax.set(xlim=ends, ylim=ends, xlabel=f"IA (NMI), {source}", ylabel="IA (NMI), ours", aspect="equal")
    ax.set_title(f"{wrapped(title)}\nn = {len(pairs)}")


def _differences(ax: Axes, pairs: Sequence[Numbers], tolerance: float) -> None:
    largest = max(pairs, key=lambda pair: abs(pair.difference))
    within = sum(abs(pair.difference) <= tolerance for pair in pairs)
    shown = f"{tolerance:g}".replace("0.", ".", 1)
    ax.axhspan(-tolerance, tolerance, color=PAPER, alpha=0.13, linewidth=0, zorder=0, label=f"difference up to {shown}")
    ax.scatter([pair.seed for pair in pairs], [pair.difference for pair in pairs], **_dots())
    reach = 1.15 * max(tolerance, abs(largest.difference))
    ax.set(ylim=(-reach, reach), xlabel="seed", ylabel="ours - published")
    size = f"{abs(largest.difference):.5f}".replace("0.", ".", 1)
    ax.set_title(f"{within} of {len(pairs)} within {shown};\nlargest difference {size} (seed {largest.seed})")


def _dots() -> dict[str, Any]:
    return {"s": 26, "color": PALETTE[0], "alpha": 0.8, "edgecolor": "white", "linewidth": 0.5, "zorder": 3}
