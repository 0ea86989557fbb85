"""Judges the claims of the paper by the runs.

THE RULE. A claim puts one statistic into a window (above 0, between 30 and 50, ...). The statistic has a 95 %
interval over runs or, where a seed was run at several values, over seeds as blocks: of a mean, Student's; of a
share of seeds, Wilson's; of Spearman's rho over runs, Fisher's z with the variance of Bonett and Wright; of a median
or a difference of two, the percentile bootstrap, 10,000 resamples, fixed seed. The verdict:

    supported      the whole interval lies inside the window
    contradicted   the whole interval lies outside
    undecided      the interval crosses an end of the window, or there is none: n < 3, and n < 5 for medians and rho
    not run        there is nothing to measure

Each data set, protocol, Sobel filter and other difference in settings is judged by itself. Where the paper has a
word and no number, the window is ours, and the column `rule` has it: "no relation" is a rho within .3 of 0; "about 1
point" lies between 0 and 2; "about 40 points" between 30 and 50; "the same" is within 2 points of accuracy or
.01 of IA; a range of IA holds when at least three quarters of the seeds lie in it. A row whose settings are
not the paper's (`unlike_paper`) says something about those settings and nothing about the paper.

Accuracy is that of the probe's last epoch. The paper does not say whether it took the last epoch or the best one, so
`best_epoch` gives what the same rule says of the best: a verdict that holds for one of them only is weak.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from dc_hpc.config.baselines import BASELINES, PROTOCOLS
from dc_hpc.config.run_config import RunConfig
from dc_hpc.report.claims.rules import (
    VERDICTS,
    Judged,
    Measure,
    Measured,
    Window,
    above,
    below,
    difference,
    dip,
    judge,
    level,
    median_difference,
    once_over_best,
    relation,
    share_inside,
    spread,
    trend,
)
from dc_hpc.report.frames.schema import setting_cell
from dc_hpc.report.panels.grouping import Cell, group_columns, label, numerics_note, setting, shown
from dc_hpc.report.panels.panel import Panel, PanelRows
from dc_hpc.report.panels.paper import PANELS

COLUMNS = (
    "claim", "figure", "dataset", "protocol", "sobel", "setting", "words", "statistic", "value", "low",
    "high", "n", "rule", "verdict", "reason", "unlike_paper", "best_epoch", "best_epoch_value", "best_epoch_low",
    "best_epoch_high",
)  # fmt: skip


class Claim(NamedTuple):
    """One claim about one panel.

    words: the claim as a person would say it. statistic: what `measure` measures. window: where the claim says that it
    lies. value: the number that the claim is about, `accuracy` or `ia`; it decides which settings must agree.
    """

    name: str
    panel: str
    words: str
    statistic: str
    measure: Measure
    window: Window
    value: str = "accuracy"


_RHO, _POINTS = "Spearman's rho", "mean difference, points"
_ABOUT_1 = "always clustering is worth about 1 point over clustering once"
_ONCE_TO_ALWAYS = difference("halt_cycle", None, 1)


def rule_text(window: Window) -> str:
    """A window in words."""
    if window.high == float("inf"):
        return f"above {window.low:g}"
    if window.low == -float("inf"):
        return f"below {window.high:g}"
    return f"between {window.low:g} and {window.high:g}"


def _ia_range(panel: str, half: float) -> Claim:
    """The range of IA that the panel declares, to half of its last digit."""
    band = PANELS[panel].ia_range
    assert band is not None
    low, high = band
    words = f"IA lies between {low:g} and {high:g}".replace("0.", ".")
    inside = share_inside(low - half, high + half)
    return Claim("ia_range", panel, words, "share of seeds in the range", inside, above(0.75), "ia")


def _ia_level(k: int) -> Claim:
    window = Window(*PANELS["fig_b1"].ia_ranges[k])
    words = f"median IA is {rule_text(window).replace('0.', '.')} at k {k}"
    return Claim(f"ia_k{k}", "fig_b1", words, "median IA", level("ia", "k", k), window, "ia")


def _accuracy_level(k: int) -> Claim:
    low, high = PANELS["fig_6"].accuracy_ranges[k]
    words = f"accuracy lies between {low:g} and {high:g} at k {k}"
    return Claim(f"accuracy_k{k}", "fig_6", words, "median accuracy, %", level("accuracy", "k", k), Window(low, high))


def _dip(panel: str) -> Claim:
    return Claim("dip", panel, "accuracy falls before it rises again", "mean depth, points", dip, above(0))


CLAIMS: tuple[Claim, ...] = (
    _ia_range("fig_3a", 0.005),
    _ia_range("fig_3b", 0.005),
    _ia_range("fig_3c", 0.0005),
    Claim("ia_accuracy", "fig_3a", "IA and accuracy are not related", _RHO, relation, Window(-0.3, 0.3)),
    Claim("ia_accuracy", "fig_3b", "accuracy rises with IA", _RHO, relation, above(0)),
    Claim("ia_accuracy", "fig_3c", "accuracy rises with IA", _RHO, relation, above(0)),
    Claim("ia_accuracy", "fig_a1", "accuracy rises with IA", _RHO, relation, above(0)),
    Claim("k_accuracy", "fig_4a", "accuracy falls with k", "mean rho within seeds", trend("k"), below(0)),
    Claim("k_accuracy", "fig_4b", "accuracy rises with k", "mean rho within seeds", trend("k"), above(0)),
    Claim("k_accuracy", "fig_4c", "accuracy rises with k", "mean rho within seeds", trend("k"), above(0)),
    Claim("continuous_clustering", "fig_5a", _ABOUT_1, _POINTS, _ONCE_TO_ALWAYS, Window(0, 2)),
    Claim("continuous_clustering", "fig_5c", _ABOUT_1, _POINTS, _ONCE_TO_ALWAYS, Window(0, 2)),
    Claim("halting_spread", "fig_5b", "about 40 points lie between the halting positions",
          "mean of largest - smallest, points", spread, Window(30, 50)),
    Claim("once_is_best", "fig_5b", "clustering once beats 10, 30, 50 and 100 cycles of it",
          "mean lead over the best other, points", once_over_best, above(0)),
    _dip("fig_5a"), _dip("fig_5b"), _dip("fig_5c"),
    _ia_level(10), _ia_level(50), _ia_level(100), _ia_level(500),
    _accuracy_level(10), _accuracy_level(50), _accuracy_level(100), _accuracy_level(500),
    Claim("ia_500_100", "fig_b1", "median IA at k 500 is .04 above that at k 100", "difference of medians",
          median_difference("ia", "k", 500, 100), Window(0.03, 0.05), "ia"),
    Claim("accuracy_500_100", "fig_6", "median accuracies at k 500 and 100 differ by less than 2 points",
          "difference of medians, points", median_difference("accuracy", "k", 500, 100), Window(-2, 2)),
    Claim("pca_ia", "fig_b2", "PCA components do not change IA (256 against 32)", "difference of medians",
          median_difference("ia", "pca", 256, 32), Window(-0.01, 0.01), "ia"),
    Claim("pca_accuracy", "fig_b3", "PCA components do not change accuracy (256 against 32)", _POINTS,
          difference("pca", 256, 32), Window(-2, 2)),
    Claim("pca_accuracy", "table_a2", "PCA components change accuracy little: +.50 points from 32 to 256",
          _POINTS, difference("pca", 256, 32), Window(-2, 2)),
    Claim("halting_gain", "table_a1", "accuracy is 4.98 points higher halted after 100 cycles than after 15",
          _POINTS, difference("halt_cycle", 100, 15), Window(2.98, 6.98)),
)  # fmt: skip


def claims(selected: Mapping[str, PanelRows]) -> pd.DataFrame:
    """The verdict on every claim for every setting that was run: a frame with the columns COLUMNS.

    selected: the rows of each panel, by its name. A claim without runs has one row, `not run`. The module's docstring
    has the rule.
    """
    found = [line for claim in CLAIMS for line in _put(claim, selected[claim.panel])]
    return pd.DataFrame({name: pd.Series([line.get(name) for line in found], dtype=object) for name in COLUMNS})


def count_verdicts(found: pd.DataFrame) -> str:
    """How many claims have each verdict, at the paper's settings and, separately, at others; in words."""
    paper = found["unlike_paper"] == ""
    parts = [f"at the paper's settings {_counted(found[paper]) or 'none'}"]
    if not paper.all():
        parts.append(f"at other settings {_counted(found[~paper])}")
    return "; ".join(parts)


def _counted(found: pd.DataFrame) -> str:
    counts = found["verdict"].value_counts()
    return ", ".join(f"{counts[name]} {name}" for name in VERDICTS if counts.get(name))


def _put(claim: Claim, rows: PanelRows) -> Iterator[dict[str, Any]]:
    """The rows of one claim: those at the paper's settings first."""
    panel = PANELS[claim.panel]
    groups = [group for group, _ in rows.comparisons(claim.value) if group.values(claim.value)]
    if not groups:
        nothing = Cell({"dataset": BASELINES[panel.base]["dataset"]}, [])
        yield _line(claim, panel, nothing, (), Measured(lacks="no run"))
        return
    columns = group_columns(groups)
    for group in sorted(groups, key=lambda group: bool(_unlike_paper(panel, group))):
        yield _line(claim, panel, group, columns, claim.measure(group))


def _line(claim: Claim, panel: Panel, group: Cell, columns: Sequence[str], measured: Measured) -> dict[str, Any]:
    judged: Judged = judge(measured, claim.window)
    low, high = measured.interval or (None, None)
    best = Measured(lacks="no accuracy") if claim.value == "ia" else claim.measure(_by_the_best_epoch(group))
    best_low, best_high = best.interval or (None, None)
    own = [name for name in columns if name not in ("dataset", "protocol", "sobel")]
    return {
        "claim": claim.name,
        "figure": panel.name,
        "dataset": group.settings["dataset"],
        "protocol": group.settings.get("protocol"),
        "sobel": group.settings.get("sobel"),
        "setting": label(group.settings, own),
        "words": claim.words,
        "statistic": claim.statistic,
        "value": measured.value,
        "low": low,
        "high": high,
        "n": measured.n,
        "rule": rule_text(claim.window),
        "verdict": judged.verdict,
        "reason": "; ".join(filter(None, (judged.reason, numerics_note(group.rows)[:-1].lower()))),
        "unlike_paper": _unlike_paper(panel, group),
        "best_epoch": None if best.lacks else judge(best, claim.window).verdict,
        "best_epoch_value": best.value,
        "best_epoch_low": best_low,
        "best_epoch_high": best_high,
    }


def _by_the_best_epoch(group: Cell) -> Cell:
    """The same runs, with the accuracy of the probe's best epoch as their accuracy."""
    return Cell(group.settings, [row | {"accuracy": row.get("accuracy_best")} for row in group.rows])


def _unlike_paper(panel: Panel, group: Cell) -> str:
    """The settings of a group that neither protocol has: `cycles 2 (the paper: 100)`."""
    neutral = {name: field.default for name, field in RunConfig.model_fields.items() if not field.is_required()}
    expected = neutral | BASELINES[panel.base] | dict(panel.fixed)
    own = {name for fields in PROTOCOLS[panel.base].values() for name in fields} | {
        "data_digest",
        *panel.axis,
    }
    wrong = []
    if group.settings.get("protocol") == "mixed":
        wrong.append("protocol mixed")
    for name, value in group.settings.items():
        paper = setting({name: setting_cell(name, expected[name])}, name) if name in expected else value
        if name not in own and name != "protocol" and value != paper:
            wrong.append(f"{name} {shown(name, value)} (the paper: {shown(name, paper)})")
    return "; ".join(wrong)
