"""What a sweep shows: its quantities, and a point for each of its settings and bounds."""

from __future__ import annotations

from typing import NamedTuple

from dc_hpc.report.claims.measures import measured_mean_of
from dc_hpc.report.claims.rules import Measured
from dc_hpc.report.panels.grouping import Cell


class Quantity(NamedTuple):
    """A number that a sweep shows: its name in frames, its head in tables, its axis in figures, its decimals."""

    name: str
    head: str
    axis: str
    digits: int


QUANTITIES = (
    Quantity("accuracy", "accuracy %", "accuracy (%)", 1),
    Quantity("ia", "IA", "Initial Alignment (NMI)", 3),
    Quantity("nmi_true_last", "last NMI", "last NMI with the truth", 3),
)


class Point(NamedTuple):
    """One setting of a sweep, or one of its bounds. training: `clustered`, `random floor`, ...

    values: name of a quantity -> the cell of the runs that have it.
    """

    cell: Cell
    training: str
    cells: dict[str, Cell]

    def values(self, name: str) -> list[float]:
        """The number of each seed."""
        return list(self.cells[name].values(name).values()) if name in self.cells else []

    def mean(self, name: str) -> Measured:
        """The mean over the seeds, with its interval."""
        return measured_mean_of(self.cells.get(name, Cell({}, [])), name)
