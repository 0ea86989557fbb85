"""The base of the panels that ask questions of ours, and of those that show the runs of their own grids only."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from dc_hpc.algorithm.schedule import last_phase
from dc_hpc.config.baselines import BASELINES
from dc_hpc.report.panels.grouping import Cell, Row
from dc_hpc.report.panels.matching import accuracy_rows
from dc_hpc.report.panels.panel import Comparison, Panel, PanelRows
from dc_hpc.report.questions.plans import plans_of
from dc_hpc.report.questions.question import Question, Verdict, questions_table, verdicts_of
from dc_hpc.report.tables.text_tables import Table


@dataclass(frozen=True)
class QuestionPanel(Panel):
    """A panel with questions, each of which has a plan in `questions.plans`."""

    @abstractmethod
    def asks(self) -> Sequence[Question]:
        """The questions, declared before there are runs."""

    def of_planned_seeds(self, rows: Iterable[Row]) -> list[Row]:
        """The runs of planned seeds: others were known before the questions, or came after their n was reached."""
        seeds = {seed for plan in plans_of(self.name) for seed in plan.seeds}
        return [row for row in rows if row["seed"] in seeds]

    def settings_run(self, rows: PanelRows) -> list[Comparison]:
        """The runs by setting, each of which the questions are judged for."""
        return [one for one in rows.accuracy if one.group.values("accuracy")]

    def verdicts(self, rows: PanelRows) -> list[Verdict]:
        """The verdicts on the questions; each is `not run` where there is no run."""
        return verdicts_of(self, self.asks(), self.settings_run(rows), rows)

    def answers(self, rows: PanelRows) -> list[Table]:
        """The table of the questions, for the report; empty where the panel has no run."""
        found = questions_table(f"{self.name}_questions", self.title, self.verdicts(rows))
        return [found] if self.settings_run(rows) else []


@dataclass(frozen=True)
class OwnGridsPanel(QuestionPanel):
    """A panel of the runs of its own grids. `values` are the numbers of clusters that it shows.

    halts: the halting positions that it shows; other figures have others, at some of its seeds. questions: what it
    asks.
    """

    halts: tuple[int | None, ...] = (None,)
    questions: Sequence[Question] = ()

    def asks(self) -> Sequence[Question]:
        """The declared questions."""
        return self.questions

    def members(self, rows: PanelRows, asked: Collection[str]) -> list[Row]:
        """The runs of the panel's grids: others with the same settings belong to the paper, or to a person.

        A copy of the data set has other digests than the grid, and so other names.
        """
        official = BASELINES[self.base]["dataset"]
        return [row for row in super().members(rows, asked) if row["run_id"] in asked or row["dataset"] != official]

    def trained(self, rows: Iterable[Row]) -> list[Row]:
        """The trained and probed runs with the panel's settings, k and halts, of planned protocol and seeds."""
        protocols = {one.protocol for one in plans_of(self.name)}
        return [
            row
            for row in self.of_planned_seeds(accuracy_rows(self, rows))
            if row.get("k") in self.values
            and row.get("protocol") in protocols
            and (row.get("halt_rule") or row.get("halt_cycle") in self.halts)
        ]

    def positions(self, group: Cell) -> list[int | None]:
        """The halting positions of the runs of a group; in runs shorter than planned the late ones are `never`."""
        end = last_phase(group.settings["cycles"], group.settings["last_cycle"])
        return [halt for halt in self.halts if halt is None or halt < end]
