"""The questions beyond the paper: of each one statistic, where it would lie if the answer is yes, and its verdict.

They are judged by the rules of the claims (`claims.rules`), with a planned n of their own (`beyond.plans`). They are no
claims of the paper: they stand in a table of their own, and Holm's correction is over them alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dc_hpc.config.baselines import BASELINES
from dc_hpc.report.questions.plans import PLANS
from dc_hpc.report.claims.rules import Measured, Window, judge, p_words, rule_text
from dc_hpc.report.claims.settings import unlike_paper
from dc_hpc.report.panels.grouping import Cell, group_columns, label
from dc_hpc.report.panels.panel import Comparison, PanelRows
from dc_hpc.report.statistics import holm
from dc_hpc.report.tables.text_tables import Item, Table, number, span, table_of

if TYPE_CHECKING:
    from dc_hpc.report.questions.panel import QuestionPanel


@dataclass(frozen=True)
class Question:
    """One question about one panel.

    words: the question, as a statement. measure: of the runs of one setting and the rows of the panel, what `statistic`
    says. window: where it lies if the statement holds.
    """

    name: str
    words: str
    statistic: str
    measure: Callable[[Comparison, PanelRows], Measured]
    window: Window


@dataclass(frozen=True)
class Line:
    """The verdict on a question for one setting. other: how the setting differs from the planned one."""

    question: Question
    panel: str
    dataset: str
    setting: str
    other: str
    measured: Measured
    verdict: str
    reason: str
    p: float | None
    p_holm: float | None = None


def lines(panel: QuestionPanel, rows: PanelRows) -> list[Line]:
    """The verdicts on the questions of a panel, of each setting that was run; one line where none was."""
    found = list(_lines(panel, rows))
    tested = [place for place, one in enumerate(found) if one.p is not None and not one.other]
    for place, adjusted in zip(tested, holm([found[place].p or 0.0 for place in tested])):
        found[place] = replace(found[place], p_holm=adjusted)
    return found


def all_lines(panels: Sequence[tuple[QuestionPanel, PanelRows]]) -> list[Line]:
    """The verdicts of several panels; Holm's correction is over all of them."""
    found = [line for panel, rows in panels for line in lines(panel, rows)]
    tested = [place for place, one in enumerate(found) if one.p_holm is not None]
    for place, adjusted in zip(tested, holm([found[place].p or 0.0 for place in tested])):
        found[place] = replace(found[place], p_holm=adjusted)
    return found


def questions_table(name: str, title: str, found: Sequence[Line]) -> Table:
    """The verdicts for people, and all their numbers for programs."""
    counts = {verdict: sum(line.verdict == verdict for line in found) for verdict in dict.fromkeys(_verdicts(found))}
    counted = ", ".join(f"{n} {verdict}" for verdict, n in counts.items())
    return table_of(name, f"{title}: {counted}.", [_items(line) for line in found])


def _verdicts(found: Sequence[Line]) -> Iterator[str]:
    return (line.verdict for line in found)


def _lines(panel: QuestionPanel, rows: PanelRows) -> Iterator[Line]:
    groups = [one for one in rows.accuracy if one.group.values("accuracy")]
    columns = group_columns([one.group for one in groups]) if groups else []
    for question in panel.questions:
        plan = PLANS[f"{panel.name}.{question.name}"]
        for one in groups:
            measured = question.measure(one, rows)
            judged = judge(measured, question.window, plan.n)
            own = [name for name in columns if name not in ("dataset", "protocol", "sobel")]
            unlike = unlike_paper(panel, one.group, plan).replace("the paper:", "planned:").split("; ")
            other = "; ".join(part for part in unlike if not part.startswith("dataset "))
            where = label(one.group.settings, own)
            dataset = str(one.group.settings["dataset"])
            yield Line(
                question, panel.name, dataset, where, other, measured, judged.verdict, judged.reason, judged.p
            )  # fmt: skip
        if not groups:
            dataset = BASELINES[panel.base]["dataset"]
            yield Line(question, panel.name, dataset, "", "", Measured(lacks="no run"), "not run", "no run", None)


def _items(line: Line) -> list[Item]:
    question, measured = line.question, line.measured
    plan = PLANS[f"{line.panel}.{question.name}"]
    low, high = measured.interval or (None, None)
    digits = 3 if "rho" in question.statistic or "share" in question.statistic else 2
    interval = f" ({span(low, high, digits)})" if low is not None else ""
    values: list[tuple[str, Any, str | None, str]] = [
        ("figure", line.panel, "panel", line.panel),
        ("claim", question.name, None, ""),
        ("verdict", line.verdict, "verdict", line.verdict),
        ("words", question.words, "question, as a statement", question.words),
        ("dataset", line.dataset, "data set", line.dataset),
        ("setting", line.setting, "setting", line.setting),
        ("statistic", question.statistic, "measured", question.statistic),
        ("rule", rule_text(question.window), "where it should lie", rule_text(question.window)),
        ("value", measured.value, "found (95 % interval)", number(measured.value, digits) + interval),
        ("low", low, None, ""),
        ("high", high, None, ""),
        ("n", measured.n, "n", str(measured.n)),
        ("planned_n", plan.n, "planned n", str(plan.n)),
        ("declared", plan.declared, None, ""),
        ("p", line.p, "p", p_words(line.p)),
        ("p_holm", line.p_holm, "p, Holm", p_words(line.p_holm)),
        ("reason", line.reason, "why", "; ".join(filter(None, (line.reason, line.other)))),
        ("unlike_paper", line.other, None, ""),
    ]
    return [Item(name, value, head, text) for name, value, head, text in values]


def cell_of(comparison: Comparison, arm: str) -> Cell:
    """The runs of one arm of a comparison; without a run where nobody has run it."""
    return next((cell for cell in comparison.cells if cell.settings.get("arm") == arm), Cell({"arm": arm}, []))
