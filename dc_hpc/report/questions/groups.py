"""Which runs answer a question of ours: those of its grid, and others with the same settings."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from typing import Any

from dc_hpc.report.panels.grouping import ACCURACY, Cell, Row, split


def groups_apart_from(axis: Collection[str], rows: Sequence[Row]) -> list[Cell]:
    """The rows by all that decides an accuracy but the axis, the seed and the protocol.

    A protocol is a reading of settings, some of which these questions change on purpose.
    """
    return split(rows, [name for name in ACCURACY if name not in (*axis, "protocol")])


def with_protocol(cell: Cell) -> Cell:
    """The cell with the protocol of its runs among its settings, where they all have one."""
    found = {row.get("protocol") for row in cell.rows}
    return Cell(cell.settings | {"protocol": found.pop()}, cell.rows) if len(found) == 1 else cell


def seeds_in_several(places: Sequence[tuple[Hashable, Row]]) -> list[Any]:
    """The rows of the seeds that were run at two places at least; those of all seeds where there is no such seed."""
    known: dict[int, set[Hashable]] = {}
    for place, row in places:
        if row["state"] != "absent":
            known.setdefault(row["seed"], set()).add(place)
    several = {seed for seed, found in known.items() if len(found) > 1}
    return [row for _, row in places if row["seed"] in several] if several else [row for _, row in places]
