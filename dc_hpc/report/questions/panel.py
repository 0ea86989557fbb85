"""The base of the panels beyond the paper: which runs they have, and their questions as a table of their own."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from dc_hpc.report.questions.plans import PLANS
from dc_hpc.report.questions.question import Question, lines, questions_table
from dc_hpc.report.panels.grouping import Row
from dc_hpc.report.panels.matching import accuracy_rows
from dc_hpc.report.panels.panel import Panel, PanelRows
from dc_hpc.report.tables.text_tables import Table


@dataclass(frozen=True)
class QuestionPanel(Panel):
    """Runs of one data set that answer some questions; `values` are the numbers of clusters that it shows.

    questions: about the panel; each has a plan in `beyond.plans`.
    """

    questions: Sequence[Question] = ()

    def members(self, rows: PanelRows, asked: Collection[str]) -> list[Row]:
        """The runs of the panel's grids: others with the same settings belong to the paper, or to a person."""
        return [row for row in super().members(rows, asked) if row["run_id"] in asked]

    def trained(self, rows: Iterable[Row]) -> list[Row]:
        """The trained and probed runs with the panel's settings and numbers of clusters, of planned protocol and seeds.

        Runs of other seeds were known before the questions were declared, or came after their n was reached.
        """
        plans = [PLANS[f"{self.name}.{one.name}"] for one in self.questions]
        seeds, protocols = {seed for one in plans for seed in one.seeds}, {one.protocol for one in plans}
        return [
            row
            for row in accuracy_rows(self, rows)
            if row.get("k") in self.values and row["seed"] in seeds and row.get("protocol") in protocols
        ]

    def answers(self, rows: PanelRows) -> list[Table]:
        """The table of the questions, for the report; empty where the panel has no run."""
        table = questions_table(f"{self.name}_questions", self.title, lines(self, rows))
        return [table] if rows.cells("accuracy") else []
