"""Which runs of a panel may be compared with each other, and the cells along the axis of the panel."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from dc_hpc.report.panels.grouping import ALIGNMENT, Cell, Row, fields_of, setting, split
from dc_hpc.report.panels.panel import Comparison, Panel


def comparisons(panel: Panel, rows: Sequence[Row], value: str) -> list[Comparison]:
    """The rows of a panel by everything but its axis and the seed, each group with its cells along the axis."""
    groups = _groups(panel, rows, value)
    return [Comparison(group, cells_along(panel.axis, group)) for group in groups]


def cells_along(axis: Sequence[str], group: Cell) -> list[Cell]:
    """The cells of a group along an axis, in order; without an axis the group itself."""
    return [Cell(group.settings | cell.settings, cell.rows) for cell in split(group.rows, axis)]


def joined(accuracies: Sequence[Cell], alignments: Sequence[Cell]) -> list[tuple[Cell, Cell]]:
    """(accuracy cell, IA cell) of equal settings, then the IA cells without an accuracy; the other may be empty."""

    def key(cell: Cell) -> tuple[Any, ...]:
        return tuple(cell.settings.get(name) for name in ALIGNMENT)

    by_key = {key(cell): cell for cell in alignments}
    pairs = [(cell, by_key.get(key(cell), Cell(cell.settings, []))) for cell in accuracies]
    taken = {key(cell) for cell in accuracies}
    return pairs + [(Cell({}, []), cell) for cell in alignments if key(cell) not in taken]


def _groups(panel: Panel, rows: Sequence[Row], value: str) -> list[Cell]:
    """The rows of a panel by everything but its axis and the seed.

    Grids share runs, so that some runs belong to a panel by chance. Three kinds are left out, each only where something
    better is there: values that the paper does not show, settings run at one value, seeds run at one value.
    """
    fields = [name for name in fields_of(value) if name not in panel.axis]
    if panel.axis == ("sobel",):
        fields.remove("protocol")  # a protocol is one of these filters and would separate what is compared
    if not panel.axis:
        return split(rows, fields)
    inside = [row for row in rows if row.get(panel.axis[0]) in panel.values]
    groups = split(inside if any(row["state"] != "absent" for row in inside) else rows, fields)
    several = [group for group in groups if len({place for _, place in _places(panel, group)}) > 1]
    if value == "ia":
        return several or groups
    return [Cell(group.settings, _without_single_values(panel, group)) for group in several or groups]


def _places(panel: Panel, group: Cell) -> set[tuple[int, tuple[Any, ...]]]:
    """(seed, place on the axis) of the runs that have a directory."""
    return {
        (row["seed"], tuple(setting(row, name) for name in panel.axis))
        for row in group.rows
        if row["state"] != "absent"
    }


def _without_single_values(panel: Panel, group: Cell) -> list[Row]:
    """The rows without the seeds that other figures ran at one value only, which would move that value alone."""
    counts = Counter(seed for seed, _ in _places(panel, group))
    if max(counts.values()) == 1:
        return group.rows
    return [row for row in group.rows if row["state"] == "absent" or counts[row["seed"]] > 1]
