"""Accuracy halted early and never halted, in one setting or in several that are compared at each halt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dc_hpc.report.claims.measures import difference
from dc_hpc.report.panels.accuracy import AccuracyPanel
from dc_hpc.report.panels.comparisons import cells_along
from dc_hpc.report.panels.grouping import Cell, Row, setting, shown, split
from dc_hpc.report.panels.matching import accuracy_rows, of_planned_length
from dc_hpc.report.panels.panel import Comparison, PanelRows
from dc_hpc.report.questions.groups import (
    groups_apart_from,
    seeds_in_several,
    with_protocol,
)
from dc_hpc.report.questions.verdicts import Question, verdict_table
from dc_hpc.report.tables.text_tables import Table

_STATISTIC = "mean difference of accuracy, points"
_HALT = "halt_cycle"


@dataclass(frozen=True)
class HaltsPanel(AccuracyPanel):
    """Accuracy by halting position, and differences that were fixed beforehand, paired by seed.

    halts: the positions that are compared, (more, less); None is never. settings: a further setting -> the pairs of
    its values that are compared at each of those positions.
    """

    halts: Sequence[tuple[Any, Any]] = ()
    settings: Mapping[str, Sequence[tuple[Any, Any]]] = field(default_factory=dict)

    def select(self, rows: Sequence[Row]) -> PanelRows:
        """The trained and probed runs, in the groups of `_whole`, parted by the further settings."""
        shown_rows = [row for row in accuracy_rows(self, rows) if row.get(_HALT) in self.values]
        found = []
        for whole in self._whole(of_planned_length(self, shown_rows, longer=False)):
            for part in split(whole.rows, list(self.settings)) if self.settings else [whole]:
                group = with_protocol(Cell(whole.settings | part.settings, part.rows))
                found.append(Comparison(group, cells_along(self.axis, group)))
        return PanelRows(accuracy=found)

    def tables(self, rows: PanelRows) -> list[Table]:
        """A line for each setting and halting position; then one for each question."""
        members = {id(row): row for comparison in rows.accuracy for row in comparison.group.rows}
        asked = [pair for whole in self._whole(list(members.values())) for pair in self._questions(whole)]
        return [*super().tables(rows), verdict_table(self, asked)]

    def _whole(self, rows: Sequence[Row]) -> list[Cell]:
        """The rows by everything but the halt and the further settings, without the seeds at one place only.

        Groups with one value of a further setting, or of the halt where there is none, compare nothing.
        """
        axis = (*self.axis, *self.settings)
        found = []
        for group in groups_apart_from(axis, rows):
            places = [(tuple(setting(row, name) for name in axis), row) for row in group.rows]
            kept = seeds_in_several(places)
            compared = list(self.settings) or list(self.axis)
            done = [row for row in group.rows if row["state"] != "absent"]
            if all(len({setting(row, name) for row in done}) > 1 for name in compared):
                found.append(Cell(group.settings, kept))
        return found

    def _questions(self, whole: Cell) -> Iterator[tuple[Cell, Question]]:
        """Between two values of a further setting at each halt, then between two halts in each setting."""
        positions = list(dict.fromkeys(halt for pair in self.halts for halt in pair))
        for name, pairs in self.settings.items():
            for halt in positions:
                part = Cell(whole.settings, [row for row in whole.rows if row.get(_HALT) == halt])
                for more, less in pairs:
                    yield whole, _question(part, name, more, less, f", {_words(_HALT, halt)}")
        parts = split(whole.rows, list(self.settings)) if self.settings else [Cell({}, whole.rows)]
        for part in parts:
            where = "".join(f", {name} {shown(name, value)}" for name, value in part.settings.items())
            for more, less in self.halts:
                yield whole, _question(Cell(whole.settings, part.rows), _HALT, more, less, where)


def _question(part: Cell, axis: str, more: Any, less: Any, where: str) -> Question:
    one, other = _words(axis, more), _words(axis, less).replace(f"{axis} ", "")
    name = f"{axis}_{shown(axis, more)}_{shown(axis, less)}{where.replace(',', '').replace(' ', '_')}"
    words = f"accuracy is higher {one} than {other}{where}"
    return Question(name, words, _STATISTIC, difference(axis, more, less)(part))


def _words(axis: str, value: Any) -> str:
    if axis != _HALT:
        return f"with {axis} {shown(axis, value)}"
    return "never halted" if value is None else f"halted after {value}"
