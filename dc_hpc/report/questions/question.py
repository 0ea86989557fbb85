"""A question of ours: one statistic, where it would lie if the answer is yes, and its verdict.

Verdicts follow the rules of the paper's claims (`claims.rules`), with a planned n of their own (`questions.plans`).
Questions are no claims of the paper: they stand in tables of their own, and Holm's correction is over the questions of
one panel that reached their n at the planned settings.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dc_hpc.config.baselines import BASELINES
from dc_hpc.report.claims.plans import Plan
from dc_hpc.report.claims.rules import Judged, Measured, Window, above, judge, p_words, rule_text, why_words
from dc_hpc.report.frames.schema import setting_cell
from dc_hpc.report.panels.grouping import ACCURACY, DIGESTS, Cell, label, numerics_note, setting, shown, split
from dc_hpc.report.panels.panel import Comparison, Panel, PanelRows
from dc_hpc.report.questions.plans import PLANS, name_of_plan
from dc_hpc.report.statistics import holm
from dc_hpc.report.tables.text_tables import Item, Table, number, span, table_of


@dataclass(frozen=True)
class Question:
    """One question of a panel.

    name: of its line, for programs. words: the question, as a statement. statistic: what `measure` gives for the runs
    of one setting, in words. window: where it lies if the statement holds. digits: decimals for people.
    """

    name: str
    words: str
    statistic: str
    measure: Callable[[Comparison, PanelRows], Measured]
    window: Window = above(0)
    digits: int = 2


@dataclass(frozen=True)
class Verdict:
    """The verdict on a question for one setting.

    setting: its values on the axis of the panel, in words. unlike_plan: its settings that the plan does not have, as
    --set gives them: `per_image_standardization=on`. command: what runs the missing seeds; empty where none is.
    """

    question: Question
    panel: str
    dataset: str
    setting: str
    unlike_plan: str
    measured: Measured
    judged: Judged
    command: str
    p_holm: float | None = None

    @property
    def plan(self) -> Plan:
        """The plan of the question."""
        return PLANS[name_of_plan(self.panel, self.question.name)]

    @property
    def missing(self) -> int:
        """The number of planned seeds that have not run."""
        return max(0, self.plan.n - self.measured.n)


def verdicts_of(
    panel: Panel, questions: Sequence[Question], groups: Sequence[Comparison], rows: PanelRows
) -> list[Verdict]:
    """The verdict on each question in each setting that was run; `not run` where none was."""
    if not groups:
        return [_without_runs(panel, question) for question in questions]
    found = [_verdict(panel, question, one, rows) for one in groups for question in questions]
    tested = [(place, one.judged.p) for place, one in enumerate(found) if not one.unlike_plan]
    known = [(place, p) for place, p in tested if p is not None]
    for (place, _), adjusted in zip(known, holm([p for _, p in known])):
        found[place] = replace(found[place], p_holm=adjusted)
    return found


def questions_table(name: str, title: str, found: Sequence[Verdict], *, run_only: bool = False) -> Table:
    """The verdicts for people, and all their numbers for programs. run_only: people see those that have runs."""
    counts = Counter(one.judged.verdict for one in found)
    counted = ", ".join(f"{n} {verdict}" for verdict, n in counts.items())
    note = "Holm's correction is over the questions of one panel that reached their n at the planned settings."
    table = table_of(name, f"{title}: {counted}. {note}", [_items(one) for one in found])
    if not run_only:
        return table
    seen = table_of(name, "", [_items(one) for one in found if one.judged.verdict != "not run"])
    return replace(table, heads=seen.heads or table.heads, lines=seen.lines, roles=seen.roles)


def cell_of(comparison: Comparison, arm: str) -> Cell:
    """The runs of one arm of a comparison; without a run where nobody has run it."""
    return next((cell for cell in comparison.cells if cell.settings.get("arm") == arm), Cell({"arm": arm}, []))


def _without_runs(panel: Panel, question: Question) -> Verdict:
    lacking = Measured(lacks="no run")
    command = f"python -m dc_hpc.submit --claim {name_of_plan(panel.name, question.name)}"
    dataset = BASELINES[panel.base]["dataset"]
    return Verdict(question, panel.name, dataset, "", "", lacking, judge(lacking, question.window), command)


def _verdict(panel: Panel, question: Question, one: Comparison, rows: PanelRows) -> Verdict:
    name = name_of_plan(panel.name, question.name)
    plan = PLANS[name]
    planned = of_seeds(one, plan.seeds)
    measured, settings = question.measure(planned, rows), one.group.settings
    own = label(settings, [axis for axis in panel.axis if axis in settings])
    sets = dict(_differences(panel, one.group, plan))
    if settings["dataset"] != BASELINES[panel.base]["dataset"]:
        sets["dataset"] = settings["dataset"]
    words = {key: f"{key}={shown(key, value)}" for key, value in sets.items()}
    command = " ".join(
        [f"python -m dc_hpc.submit --claim {name}", *(f"--set {shlex.quote(word)}" for word in words.values())]
    )
    judged = judge(measured, question.window, plan.n)
    mixed = numerics_note(row for cell in split(planned.group.rows, ACCURACY) for row in cell.runs("accuracy").values())
    return Verdict(
        question=question,
        panel=panel.name,
        dataset=str(settings["dataset"]),
        setting=own,
        unlike_plan=" ".join(word for key, word in words.items() if key != "dataset"),
        measured=measured,
        judged=replace(judged, reason="; ".join(filter(None, (judged.reason, mixed[:-1].lower())))),
        command=command if measured.n < plan.n else "",
    )


def of_seeds(one: Comparison, seeds: Collection[int]) -> Comparison:
    """The same comparison with the runs of these seeds only."""
    group, *cells = (
        Cell(cell.settings, [row for row in cell.rows if row["seed"] in seeds]) for cell in (one.group, *one.cells)
    )
    return Comparison(group, cells)


def _differences(panel: Panel, group: Cell, plan: Plan) -> Iterator[tuple[str, Any]]:
    """(name, value) of the settings of a group that the plan does not have."""
    expected = panel.baseline_settings(plan.protocol)
    for name, value in group.settings.items():
        if name in (*DIGESTS, *panel.axis, "dataset", "protocol") or name not in expected:
            continue
        if value != setting({name: setting_cell(name, expected[name])}, name):
            yield name, value


def _items(one: Verdict) -> list[Item]:
    question, measured, judged, plan = one.question, one.measured, one.judged, one.plan
    low, high = measured.interval or (None, None)
    early = judged.verdict == "undecided" and measured.n < plan.n
    interval = f" ({span(low, high, question.digits)})" if low is not None else ""
    return [
        Item("panel", one.panel),
        Item("question", question.name),
        Item("verdict", judged.verdict, "verdict", f"{judged.verdict} ({judged.reason})" if early else judged.verdict),
        Item("words", question.words, "question, as a statement", question.words, role="setting"),
        Item("dataset", one.dataset, "data set", one.dataset, role="setting"),
        Item("setting", one.setting, "setting", one.setting, role="setting"),
        Item("unlike_plan", one.unlike_plan, "unlike the plan", one.unlike_plan, role="setting"),
        Item("statistic", question.statistic, "measured", question.statistic),
        Item("rule", rule_text(question.window), "yes where it is", rule_text(question.window)),
        Item("value", measured.value, "found (95 % interval)", number(measured.value, question.digits) + interval),
        Item("low", low),
        Item("high", high),
        Item("n", measured.n, "n", str(measured.n)),
        Item("planned_n", plan.n, "planned n", str(plan.n)),
        Item("declared", plan.declared),
        Item("p", judged.p, "p", p_words(judged.p)),
        Item("p_holm", one.p_holm, "p, Holm", p_words(one.p_holm)),
        Item("reason", judged.reason, "why", "" if early else why_words(judged.verdict, judged.reason, one.p_holm)),
        Item("missing", one.missing),
        Item("command", one.command),
    ]
