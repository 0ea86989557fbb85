"""Judges questions of ours by the rule of the paper's claims: a declared number of seeds, an interval, a window.

Questions are none of the claims of the paper: they stand in tables of their own, and Holm's correction is over the
questions of one panel that reached their n at the planned settings.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from dc_hpc.config.baselines import BASELINES, PROTOCOLS
from dc_hpc.config.run_config import RunConfig
from dc_hpc.report.claims.plans import Plan
from dc_hpc.report.claims.question_plans import QUESTION_PLANS
from dc_hpc.report.claims.rules import Measured, Window, above, judge, p_words, rule_text
from dc_hpc.report.frames.schema import setting_cell
from dc_hpc.report.panels.grouping import DIGESTS, Cell, setting, shown
from dc_hpc.report.panels.panel import Panel
from dc_hpc.report.statistics import holm
from dc_hpc.report.tables.text_tables import Item, Table, number, span, table_of


class Question(NamedTuple):
    """One question about a group of runs.

    name: of its line, for programs. words: what would be so if the answer is yes. statistic: what was measured.
    window: where it lies if the answer is yes. digits: decimals for people.
    """

    name: str
    words: str
    statistic: str
    measured: Measured
    window: Window = above(0)
    digits: int = 2


def verdict_table(panel: Panel, asked: Sequence[tuple[Cell, Question]]) -> Table:
    """A line for each question and group of runs, as `<panel>_verdicts`.

    Columns: question, dataset, setting (how the group differs from the plan), words, statistic, value, low, high, n,
    planned_n, declared, rule, verdict, reason, p, p_holm, missing, command.
    """
    plan = QUESTION_PLANS[panel.name]
    lines = [_line(panel, plan, group, question) for group, question in asked]
    corrected = [line for line in lines if line["p"] is not None and not line["setting"]]
    for line, adjusted in zip(corrected, holm([line["p"] for line in corrected])):
        line["p_holm"] = adjusted
    caption = (
        f"{panel.title}: questions of ours, {plan.n} seeds planned on {plan.declared}. Holm's correction is over the "
        f"{len(corrected)} that reached their n at the planned settings."
    )
    return table_of(f"{panel.name}_verdicts", caption, [list(_items(line)) for line in lines])


def unlike_plan(panel: Panel, group: Cell) -> str:
    """The settings of a group that the plan does not have, as --set gives them: `per_image_standardization=on`."""
    return " ".join(f"{name}={shown(name, value)}" for name, value in _differences(panel, group))


def _differences(panel: Panel, group: Cell) -> Iterator[tuple[str, Any]]:
    neutral = {name: field.default for name, field in RunConfig.model_fields.items() if not field.is_required()}
    protocol = PROTOCOLS[panel.base][QUESTION_PLANS[panel.name].protocol]
    expected = neutral | BASELINES[panel.base] | protocol | dict(panel.fixed)
    for name, value in group.settings.items():
        if name in (*DIGESTS, *panel.axis, "dataset", "protocol") or name not in expected:
            continue
        if value != setting({name: setting_cell(name, expected[name])}, name):
            yield name, value


def _line(panel: Panel, plan: Plan, group: Cell, question: Question) -> dict[str, Any]:
    measured = question.measured
    judged = judge(measured, question.window, plan.n)
    low, high = measured.interval or (None, None)
    missing = max(0, plan.n - measured.n)
    return {
        "question": question.name,
        "dataset": group.settings["dataset"],
        "setting": unlike_plan(panel, group),
        "words": question.words,
        "statistic": question.statistic,
        "value": measured.value,
        "low": low,
        "high": high,
        "n": measured.n,
        "planned_n": plan.n,
        "declared": plan.declared,
        "rule": rule_text(question.window),
        "verdict": judged.verdict,
        "reason": judged.reason,
        "p": judged.p,
        "p_holm": None,
        "missing": missing,
        "command": _command(panel, plan, group) if missing else "",
        "digits": question.digits,
    }


def _command(panel: Panel, plan: Plan, group: Cell) -> str:
    """The command that runs what is missing in the settings of a group."""
    (grid,) = plan.grids
    sets = dict(_differences(panel, group))
    if group.settings["dataset"] != BASELINES[panel.base]["dataset"]:
        sets["dataset"] = group.settings["dataset"]
    words = [f" --set {shlex.quote(f'{name}={shown(name, value)}')}" for name, value in sets.items()]
    return f"python -m dc_hpc.submit --grid jobs/{grid}.yaml{''.join(words)}"


def _items(line: dict[str, Any]) -> Iterator[Item]:
    for name, value in line.items():
        if name != "digits":
            yield Item(name, value)
    early = line["verdict"] == "undecided" and line["n"] < line["planned_n"]
    value, interval = number(line["value"], line["digits"]), span(line["low"], line["high"], line["digits"])
    yield Item(None, head="verdict", text=f"{line['verdict']} ({line['reason']})" if early else line["verdict"])
    yield Item(None, head="question", text=line["words"], role="setting")
    yield Item(None, head="data", text=line["dataset"], role="setting")
    yield Item(None, head="other settings", text=line["setting"], role="setting")
    yield Item(None, head="found (95 % interval)", text=f"{value} ({interval})" if interval else value)
    yield Item(None, head="n", text=str(line["n"]))
    yield Item(None, head="p", text=p_words(line["p"]))
    yield Item(None, head="p, Holm", text=p_words(line["p_holm"]))
    yield Item(None, head="measured: yes where it is", text=f"{line['statistic']}: {line['rule']}")
    yield Item(None, head="why", text="" if early else line["reason"])
