"""Describes the columns of the tables of our questions that no other table has."""

from __future__ import annotations

from dc_hpc.storage.metrics import Metric

COLUMNS = (
    Metric("nmi_true_first_mean", "float", "", "mean over the runs of the NMI with the truth of the first clustering"),
    Metric("nmi_true_lowest_mean", "float", "", "mean over the runs of the lowest NMI with the truth of their cycles"),
    Metric("fall_mean", "float", "", "mean over the runs of the first NMI with the truth less the lowest"),
    Metric("nmi_brightness_first_mean", "float", "", "mean NMI with deciles of brightness, first clustering"),
    Metric("nmi_brightness_last_mean", "float", "", "mean NMI with deciles of brightness, last clustering"),
    Metric("arm", "text", "", "what follows the first clustering: a halting position, a rule, resets, another teacher"),
    Metric("difference_low", "float", "points", "lower end of the 95 % interval of the mean difference"),
    Metric("difference_high", "float", "points", "upper end of the 95 % interval of the mean difference"),
    Metric("clusterings_saved", "float", "", "mean share of the reference's clusterings that the arm does not need"),
    Metric("clustering_seconds", "float", "s", "median number of clusterings times the seconds of one clustering"),
    Metric("over", "text", "", "what is chosen among: seeds, k, or cycles"),
    Metric("at_k", "int", "clusters", "number of clusters of the runs; none where k is chosen"),
    Metric("measure", "text", "", "measure that predicts the accuracy: its column in metrics.csv"),
    Metric("points_lost", "float", "points", "best accuracy less that of the run the measure prefers, mean"),
)

# What a verdict on a question has otherwise than one on a claim of the paper.
VERDICT_COLUMNS = (
    Metric("panel", "text", "", "panel that asks the question"),
    Metric("question", "text", "", "name of the question"),
    Metric("unlike_plan", "text", "", "settings of the runs that the plan does not have, as --set gives them"),
    Metric("words", "text", "", "the question, as a statement"),
    Metric("rule", "text", "", "window in which the statistic lies if the statement holds"),
    Metric("planned_n", "int", "", "number of seeds that the question planned; with fewer the verdict is undecided"),
    Metric("declared", "text", "", "day on which the question planned its seeds and its setting"),
    Metric("p_holm", "float", "", "p after Holm's correction over the questions of the panel that have one as planned"),
)

# The columns of a table of verdicts, in their order.
VERDICTS = (
    "panel", "question", "verdict", "words", "dataset", "setting", "unlike_plan", "statistic", "rule", "value", "low",
    "high", "n", "planned_n", "declared", "p", "p_holm", "reason", "missing", "command",
)  # fmt: skip
