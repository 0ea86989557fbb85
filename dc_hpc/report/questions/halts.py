"""Accuracy halted early and never halted, in one setting or in several that are compared at each halt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from dc_hpc.report.claims.measures import difference
from dc_hpc.report.claims.rules import Measured
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
from dc_hpc.report.questions.panel import QuestionPanel
from dc_hpc.report.questions.question import Question
from dc_hpc.report.tables.text_tables import Table

_STATISTIC = "mean difference of accuracy, points"
_HALT = "halt_cycle"


@dataclass(frozen=True)
class HaltsPanel(QuestionPanel, AccuracyPanel):
    """Accuracy by halting position, and differences that were fixed beforehand, paired by seed.

    halts: the positions that are compared, (more, less); None is never. settings: a further setting -> the pairs of
    its values that are compared at each of those positions.
    """

    halts: Sequence[tuple[Any, Any]] = ()
    settings: Mapping[str, Sequence[tuple[Any, Any]]] = field(default_factory=dict)

    def select(self, rows: Sequence[Row]) -> PanelRows:
        """The trained and probed runs, in the groups of `_whole`, parted by the further settings."""
        probed = self.of_planned_seeds(accuracy_rows(self, rows))
        shown_rows = [row for row in probed if row.get(_HALT) in self.values]
        found = []
        for whole in self._whole(of_planned_length(self, shown_rows, longer=False)):
            for part in split(whole.rows, list(self.settings)) if self.settings else [whole]:
                group = with_protocol(Cell(whole.settings | part.settings, part.rows))
                found.append(Comparison(group, cells_along(self.axis, group)))
        return PanelRows(accuracy=found)

    def tables(self, rows: PanelRows) -> list[Table]:
        """A line for each setting and halting position; then one for each question."""
        return [*super().tables(rows), *self.answers(rows)]

    def settings_run(self, rows: PanelRows) -> list[Comparison]:
        """The groups of `_whole`, which have all values of the further settings."""
        members = {id(row): row for comparison in rows.accuracy for row in comparison.group.rows}
        return [Comparison(whole, [whole]) for whole in self._whole(list(members.values()))]

    def asks(self) -> list[Question]:
        """Between two values of a further setting at each halt, then between two halts in each setting."""
        positions = list(dict.fromkeys(halt for pair in self.halts for halt in pair))
        asked = [
            _question(name, more, less, {_HALT: halt})
            for name, pairs in self.settings.items()
            for halt in positions
            for more, less in pairs
        ]
        values = [list(dict.fromkeys(value for pair in pairs for value in pair)) for pairs in self.settings.values()]
        for chosen in product(*values):
            where = dict(zip(self.settings, chosen))
            asked += [_question(_HALT, more, less, where) for more, less in self.halts]
        return asked

    def _whole(self, rows: Sequence[Row]) -> list[Cell]:
        """The rows by everything but the halt and the further settings, without the seeds at one place only.

        Groups with one halt are other panels'. So are those with one value of a further setting, unless the panel fixes
        the number of cycles: no other panel has runs of that length, and the first of ours may lack an arm.
        """
        axis = (*self.axis, *self.settings)
        varied = self.axis if "cycles" in self.fixed else axis
        found = []
        for group in groups_apart_from(axis, rows):
            places = [(tuple(setting(row, name) for name in axis), row) for row in group.rows]
            kept = seeds_in_several(places)
            done = [row for row in group.rows if row["state"] != "absent"]
            if all(len({setting(row, name) for row in done}) > 1 for name in varied):
                found.append(Cell(group.settings, kept))
        return found


def _question(axis: str, more: Any, less: Any, where: Mapping[str, Any]) -> Question:
    """Whether accuracy is higher at one value of the axis than at another, among the runs with the settings `where`."""

    def measure(one: Comparison, rows: PanelRows) -> Measured:
        own = [row for row in one.group.rows if all(row.get(name) == value for name, value in where.items())]
        return difference(axis, more, less)(Cell(one.group.settings, own))

    place = "".join(f", {_words(name, value)}" for name, value in where.items())
    high, low = _words(axis, more), _words(axis, less)
    name = f"{axis}_{shown(axis, more)}_{shown(axis, less)}{place.replace(',', '').replace(' ', '_')}"
    words = f"accuracy is higher {high} than {low}{place}"
    if axis != _HALT:
        words = f"accuracy is higher with {high} than with {low.removeprefix(f'{axis} ')}{place}"
    return Question(name, words, _STATISTIC, measure)


def _words(axis: str, value: Any) -> str:
    if axis != _HALT:
        return f"{axis} {shown(axis, value)}"
    return "never halted" if value is None else f"halted after {value}"
