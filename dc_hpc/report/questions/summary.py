"""The table of all questions beyond the paper, with Holm's correction over them."""

from __future__ import annotations

from collections.abc import Iterable

from dc_hpc.report.questions.catalog import BEYOND
from dc_hpc.report.questions.question import all_lines, questions_table
from dc_hpc.report.findings import PanelFindings
from dc_hpc.report.tables.text_tables import Table

TITLE = "What the paper leaves open"


def summary_tables(panels: Iterable[PanelFindings]) -> list[Table]:
    """`beyond_questions`, where any of the panels is one of them; a question without a run is in it as not run."""
    own = {panel.name: panel for one in BEYOND for panel in one.panels}
    found = [(own[one.panel.name], one.rows) for one in panels if one.panel.name in own]
    return [questions_table("beyond_questions", TITLE, all_lines(found))] if found else []
