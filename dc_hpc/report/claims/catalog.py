"""Judges the claims of the paper by the runs.

THE RULE. A claim puts one statistic of its planned seeds (`plans`) into a window (above 0, between 30 and 50, ...).
Runs of other seeds, which were chosen later or otherwise, count for nothing. The statistic has a 95 % interval over
runs or, where a seed was run at several values, over the seeds that have all of them: of a mean, Student's; of a
share of seeds, Wilson's; of Spearman's rho over runs, Fisher's z with the variance of Bonett and Wright; of a median
or a difference of two, the percentile bootstrap, 10,000 resamples, fixed seed. An interval of accuracies covers other
test images as well as other seeds (`report.test_sets`). The verdict:

    undecided      fewer seeds have run than the claim planned, whatever the interval says by then; or the
                   interval crosses an end of the window; or there is none: n < 3, and n < 5 for medians and rho
    supported      the whole interval lies inside the window
    contradicted   the whole interval lies outside
    not run        there is nothing to measure

p is the smallest level at which the interval still decides. p_holm is p after Holm's correction over all claims at the
paper's settings that reached their n: it bounds the chance that any of these verdicts is wrong.

Each data set, protocol, Sobel filter and other difference in settings is judged by itself. Where the paper has a
word and no number, the window is ours, and the column `rule` has it: "no relation" is a rho within .3 of 0, which takes
44 runs at least; "approximately one degree" lies between 0 and 2 points; "approximately 40 degrees" between 30 and 50;
"the same" is within 2 points of accuracy or .01 of IA; a range of IA holds when at least three quarters of the seeds
lie in it, a range of accuracies of five runs when more than half of them do, each read to half of its last digit.
"Enormously" less time is more than half of it. A row whose settings are not the paper's (`unlike_paper`) says
something about those settings and nothing about the paper.

Halting positions are compared by differences that are fixed beforehand: clustering once with the next position, 10,
and that with never halting. The lowest of all positions would be low by noise alone.

Accuracy is that of the probe's last epoch. The paper does not say whether it took the last epoch or the best one, so
`best_epoch` gives what the same rule says of the best: a verdict that holds for one of them only is weak.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from dc_hpc.config.baselines import BASELINES
from dc_hpc.report.claims.measures import (
    Measure,
    descending_medians,
    difference,
    least_of,
    level,
    median_difference,
    relation,
    share_inside,
    share_of_clustering,
    trend,
    trend_with_median_ia,
)
from dc_hpc.report.claims.plans import PLANS, Plan
from dc_hpc.report.claims.rules import VERDICTS, Judged, Measured, Window, above, below, judge, rule_text
from dc_hpc.report.claims.settings import command, unlike_paper
from dc_hpc.report.panels.comparisons import cells_along
from dc_hpc.report.panels.grouping import Cell, Row, base_of, group_columns, label, numerics_note
from dc_hpc.report.panels.panel import Panel, PanelRows
from dc_hpc.report.panels.paper import PANELS
from dc_hpc.report.statistics import holm

COLUMNS = (
    "claim", "figure", "dataset", "protocol", "sobel", "setting", "words", "statistic", "value", "low",
    "high", "n", "rule", "verdict", "reason", "unlike_paper", "best_epoch", "best_epoch_value", "best_epoch_low",
    "best_epoch_high", "planned_n", "declared", "p", "p_holm", "missing", "command",
)  # fmt: skip


class Claim(NamedTuple):
    """One claim about one panel.

    words: the claim, in the paper's words where it has any. statistic: what `measure` measures. window: where the
    claim says that it lies. value: the number that the claim is about, `accuracy`, `ia` or `ia_ami`; it decides which
    settings must agree. beside: panels whose Initial Alignments the measure needs, too.
    """

    name: str
    panel: str
    words: str
    statistic: str
    measure: Measure
    window: Window
    value: str = "accuracy"
    beside: tuple[str, ...] = ()

    @property
    def full_name(self) -> str:
        """`fig_5b.dip`: what `submit --claim` calls it."""
        return f"{self.panel}.{self.name}"

    @property
    def plan(self) -> Plan:
        """The seeds and the setting that the claim planned."""
        return PLANS[self.full_name]

    def has_planned(self, row: Row) -> bool:
        """Whether the seed of a run is one of the planned ones."""
        return row["seed"] in self.plan.seeds


_RHO, _POINTS = "Spearman's rho", "mean difference, points"
_ABOUT_1 = "continuous clustering improved the accuracy, approximately one degree"
_ONCE_TO_ALWAYS = difference("halt_cycle", None, 1)
_DIP = least_of("halt_cycle", [(1, 10), (None, 10)])
_ONCE_OVER_ALL = least_of("halt_cycle", [(1, 10), (1, 30), (1, 50), (1, None)])
_COMPLEXITY = "the suitability of random filters decreases with the complexity of the data"


def _ia_range(panel: str, half: float) -> Claim:
    """The range of IA that the panel declares, to half of its last digit."""
    band = PANELS[panel].ia_range
    assert band is not None
    low, high = band
    words = f"IA lies between {low:g} and {high:g}".replace("0.", ".")
    statistic = f"share of seeds from {low - half:g} to {high + half:g}".replace("0.", ".")
    return Claim("ia_range", panel, words, statistic, share_inside("ia", low - half, high + half), above(0.75), "ia")


def _ia_level(k: int) -> Claim:
    window = Window(*PANELS["fig_b1"].ia_ranges[k])
    words = f"median IA is {rule_text(window).replace('0.', '.')} at k {k}"
    return Claim(f"ia_k{k}", "fig_b1", words, "median IA", level("ia", "k", k), window, "ia")


def _accuracy_level(k: int) -> Claim:
    """The range of the accuracies of all runs, to half of its last digit."""
    low, high = PANELS["fig_6"].accuracy_ranges[k]
    words = f"accuracy ranges between {low:g} and {high:g} at k {k}"
    inside = share_inside("accuracy", low - 0.5, high + 0.5, "k", k)
    statistic = f"share of seeds from {low - 0.5:g} to {high + 0.5:g}"
    return Claim(f"accuracy_k{k}", "fig_6", words, statistic, inside, above(0.5))


def _trend(panel: str) -> Measure:
    """Of accuracy with k, over the k that the plan asks for: those of the panel, or fewer."""
    (settings,) = PLANS[f"{panel}.k_accuracy"].grids.values()
    return trend("k", settings.get("k", PANELS[panel].values))


def _dip(panel: str) -> Claim:
    words = "accuracy decreases as we perform clustering before it increases again"
    return Claim("dip", panel, words, "mean fall from 1 to 10, or rise from 10 to never, points", _DIP, above(0))


def _saves_time(panel: str) -> Claim:
    words = "stopping the clustering phase enormously reduces the training time"
    statistic = "mean share of clustering in the time of the cycles"
    return Claim("halting_saves_time", panel, words, statistic, share_of_clustering, above(0.5))


def _sobel(panel: str) -> Claim:
    words = "transforming images using the Sobel filter performed better (IA, true filter against none)"
    measure = median_difference("ia", "sobel", "fixed", "off")
    return Claim("sobel_ia", panel, words, "difference of medians", measure, above(0), "ia")


def _suitability(panel: str, k: int, *datasets: str, beside: tuple[str, ...]) -> Claim:
    words = f"{_COMPLEXITY} ({', '.join(datasets)}; k {k})"
    measure = descending_medians("ia_ami", k, datasets)
    return Claim(f"suitability_k{k}", panel, words, "least fall of median AMI", measure, above(0), "ia_ami", beside)


CLAIMS: tuple[Claim, ...] = (
    _ia_range("fig_3a", 0.005),
    _ia_range("fig_3b", 0.005),
    _ia_range("fig_3c", 0.0005),
    Claim("ia_accuracy", "fig_3a", "IA and accuracy are not related", _RHO, relation, Window(-0.3, 0.3)),
    Claim("ia_accuracy", "fig_3b", "accuracy rises with IA", _RHO, relation, above(0)),
    Claim("ia_accuracy", "fig_3c", "accuracy rises with IA", _RHO, relation, above(0)),
    Claim("ia_accuracy", "fig_a1", "accuracy rises with IA", _RHO, relation, above(0)),
    _suitability("ia_k_fmnist", 10, "fmnist", "svhn", "cifar10", beside=("fig_b1", "ia_k_cifar10")),
    _suitability("fig_b1", 10, "svhn", "cifar10", beside=("ia_k_cifar10",)),
    _suitability("fig_b1", 100, "svhn", "cifar10", beside=("ia_k_cifar10",)),
    _sobel("sobel_svhn"), _sobel("sobel_cifar10"),
    Claim("k_accuracy", "fig_4a", "accuracy falls with k", "mean rho within seeds", _trend("fig_4a"), below(0)),
    Claim("k_accuracy", "fig_4b", "accuracy rises with k", "mean rho within seeds", _trend("fig_4b"), above(0)),
    Claim("k_accuracy", "fig_4c", "accuracy rises with k", "mean rho within seeds", _trend("fig_4c"), above(0)),
    Claim("continuous_clustering", "fig_5a", _ABOUT_1, _POINTS, _ONCE_TO_ALWAYS, Window(0, 2)),
    Claim("continuous_clustering", "fig_5c", _ABOUT_1, _POINTS, _ONCE_TO_ALWAYS, Window(0, 2)),
    Claim("halting_spread", "fig_5b", "an effect of approximately 40 degrees in accuracy",
          "mean difference of halts 1 and 10, points", difference("halt_cycle", 1, 10), Window(30, 50)),
    Claim("once_is_best", "fig_5b", "clustering once performed better than clustering for 10, 30, 50, and 100 cycles",
          "least mean lead over another position, points", _ONCE_OVER_ALL, above(0)),
    _dip("fig_5a"), _dip("fig_5b"), _dip("fig_5c"),
    _saves_time("fig_5a"), _saves_time("fig_5b"), _saves_time("fig_5c"),
    _ia_level(10), _ia_level(50), _ia_level(100), _ia_level(500),
    _accuracy_level(10), _accuracy_level(50), _accuracy_level(100), _accuracy_level(500),
    Claim("ia_500_100", "fig_b1", "median IA at k 500 is .04 above that at k 100", "difference of medians",
          median_difference("ia", "k", 500, 100), Window(0.03, 0.05), "ia"),
    Claim("accuracy_500_100", "fig_6", "median accuracies at k 500 and 100 differ by less than 2 points",
          "difference of medians, points", median_difference("accuracy", "k", 500, 100), Window(-2, 2)),
    Claim("ia_accuracy_by_k", "fig_6", "the higher the median IA, the higher the median accuracy (across k)",
          "mean rho within seeds", trend_with_median_ia("k", PANELS["fig_6"].values), above(0), beside=("fig_6",)),
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
    found = [line for claim in CLAIMS for line in _lines(claim, selected)]
    tested = [line for line in found if line["p"] is not None and not line["unlike_paper"]]
    for line, adjusted in zip(tested, holm([line["p"] for line in tested])):
        line["p_holm"] = adjusted
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


def _lines(claim: Claim, selected: Mapping[str, PanelRows]) -> Iterator[dict[str, Any]]:
    """The rows of one claim: those at the paper's settings first."""
    panel = PANELS[claim.panel]
    run = [group for group, _ in selected[claim.panel].comparisons(claim.value) if group.values(claim.value)]
    groups = [group for group in run if _planned(claim, group).values(claim.value)]
    if not groups:
        nothing = Cell({"dataset": BASELINES[panel.base]["dataset"]}, [])
        yield _line(claim, panel, nothing, (), Measured(lacks="no run of a planned seed" if run else "no run"))
        return
    columns = group_columns(groups)
    beside = [selected[name] for name in claim.beside]
    wholes = [_planned(claim, Cell(group.settings, [*group.rows, *_rows_beside(group, beside)])) for group in groups]
    for whole in sorted(wholes, key=lambda whole: bool(unlike_paper(panel, whole, claim.plan))):
        yield _line(claim, panel, whole, columns, claim.measure(whole))


def _planned(claim: Claim, group: Cell) -> Cell:
    """The group without the numbers of seeds that the claim has not planned: those were chosen later, or otherwise.

    Rows without the number stay: a claim about accuracies may need the Initial Alignments of more seeds.
    """
    return Cell(group.settings, [row for row in group.rows if claim.has_planned(row) or row.get(claim.value) is None])


def _rows_beside(group: Cell, others: Sequence[PanelRows]) -> Iterator[dict[str, Any]]:
    """The rows of the first comparison of IA in each other panel that may stand beside the group.

    They may be trained in any way, so that their accuracies do not belong to the group and are taken away.
    """
    known = {row["run_id"] for row in group.rows}
    for rows in others:
        alike = [one.group for one in rows.alignment if _may_stand_beside(one.group, group)]
        found = [row for row in (alike[0].rows if alike else ()) if row["run_id"] not in known]
        yield from (row | {"accuracy": None, "accuracy_best": None} for row in found)


def _may_stand_beside(one: Cell, group: Cell) -> bool:
    """Whether the first clusterings of one were made as those of the group.

    Of the same data set in every setting that both have. Another data set has settings of its own, which follow from
    the protocol; where that is `mixed`, the Sobel filter must be the same one.
    """
    if base_of(one.settings["dataset"]) == base_of(group.settings["dataset"]):
        names = set(one.settings) & set(group.settings)
    else:
        names = {"protocol", "draws"} | ({"sobel"} if group.settings.get("protocol") == "mixed" else set())
    return all(one.settings.get(name) == group.settings.get(name) for name in names)


def _line(claim: Claim, panel: Panel, group: Cell, columns: Sequence[str], measured: Measured) -> dict[str, Any]:
    plan, unlike = claim.plan, unlike_paper(panel, group, claim.plan)
    judged: Judged = judge(measured, claim.window, plan.n)
    low, high = measured.interval or (None, None)
    by_epoch = claim.value == "accuracy" and claim.measure is not share_of_clustering
    best = claim.measure(_by_the_best_epoch(group)) if by_epoch else Measured(lacks="no accuracy")
    best_low, best_high = best.interval or (None, None)
    own = [name for name in columns if name not in ("dataset", "protocol", "sobel")]
    missing = max(0, plan.n - measured.n)
    mixed = numerics_note(_measured_rows(claim, panel, group))
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
        "reason": "; ".join(filter(None, (judged.reason, mixed[:-1].lower()))),
        "unlike_paper": unlike,
        "best_epoch": None if best.lacks else judge(best, claim.window, plan.n).verdict,
        "best_epoch_value": best.value,
        "best_epoch_low": best_low,
        "best_epoch_high": best_high,
        "planned_n": plan.n,
        "declared": plan.declared,
        "p": judged.p,
        "missing": missing,
        "command": command(claim.full_name, panel, group, plan) if missing else "",
    }


def _measured_rows(claim: Claim, panel: Panel, group: Cell) -> list[Row]:
    """The runs whose numbers a claim is measured of: one for each seed and place on the axis, as `Cell.runs` has it."""
    numbers = ("ia", "accuracy") if claim.value == "accuracy" else (claim.value,)
    cells = cells_along(panel.axis, group)
    return [row for cell in cells for name in numbers for row in cell.runs(name).values()]


def _by_the_best_epoch(group: Cell) -> Cell:
    """The same runs, with the accuracy of the probe's best epoch as their accuracy."""
    return Cell(
        group.settings,
        [row | {"accuracy": row.get("accuracy_best"), "correct": row.get("correct_best")} for row in group.rows],
    )
