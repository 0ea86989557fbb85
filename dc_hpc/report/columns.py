"""Describes every column of the tables that aggregate writes: its type, unit and meaning.

Settings, metrics and results have their declarations elsewhere. A column `accuracy_median` is a number and a statistic;
what is neither is declared here.
"""

from __future__ import annotations

from collections.abc import Mapping

from dc_hpc.algorithm.net_specs import NET_SPECS
from dc_hpc.config.run_config import RunConfig
from dc_hpc.report.frames.schema import declaration, kind_of
from dc_hpc.report.questions.columns import COLUMNS as BEYOND_COLUMNS
from dc_hpc.report.questions.columns import VERDICT_COLUMNS
from dc_hpc.storage.metrics import DType, Metric

# The statistics of a number over the seeds of a cell: what follows the name of the number in a column.
STATISTICS = {
    one.name: one
    for one in (
        Metric("n", "int", "", "number of seeds that have the number"),
        Metric("median", "float", "", "median over the seeds"),
        Metric("low", "float", "", "lower end of the 95 % interval of the median"),
        Metric("high", "float", "", "upper end of the 95 % interval of the median"),
        Metric("q1", "float", "", "first quartile"),
        Metric("q3", "float", "", "third quartile"),
        Metric("iqr", "float", "", "distance of the quartiles"),
        Metric("min", "float", "", "smallest value"),
        Metric("max", "float", "", "largest value"),
        Metric("mean", "float", "", "mean over the seeds"),
        Metric("sd", "float", "", "standard deviation of the sample"),
        Metric("mean_low", "float", "", "lower end of the 95 % interval of the mean"),
        Metric("mean_high", "float", "", "upper end of the 95 % interval of the mean"),
        Metric("paper", "float", "", "number that the paper prints"),
    )
}
_PANEL = (
    Metric("test_images", "int", "images", "number of test images that the accuracy is of"),
    Metric("training", "text", "", "net of the line: a random floor, clustered, or a supervised ceiling"),
    Metric("layer", "text", "", "probed layer"),
    Metric(
        "rho", "float", "", "Spearman's rank correlation that the caption names; over k and cycles its mean over seeds"
    ),
    Metric("rho_n", "int", "", "number of runs with both numbers, or of seeds where rho is a mean within seeds"),
    Metric("rho_low", "float", "", "lower end of the 95 % interval of rho"),
    Metric("rho_high", "float", "", "upper end of the 95 % interval of rho"),
    Metric("setting", "text", "", "hyperparameter of the search"),
    Metric("value", "text", "", "value of the hyperparameter"),
    Metric("settings", "int", "", "number of settings with that value"),
    Metric("best", "float", "%", "best accuracy of the settings with that value"),
    Metric("paper", "text", "", "number that the paper prints; in a search, an x at the value of the paper's baseline"),
    Metric("ours", "text", "", "an x at the value of the best setting found here"),
    Metric("published", "float", "", "Initial Alignment that the authors published for the seed"),
    Metric("difference", "float", "", "our Initial Alignment less the published one"),
    Metric("within", "int", "", "number of seeds whose difference counts as none"),
    Metric("same", "int", "", "number of seeds whose difference is below 1e-9"),
    Metric("difference_median", "float", "", "median of the differences without their sign"),
    Metric("difference_largest", "float", "", "largest of the differences without their sign"),
    Metric("difference_largest_seed", "int", "", "seed of the largest difference"),
    Metric("standard_error", "float", "points", "standard error of the median accuracy by the test images alone"),
    Metric("share_median", "float", "", "median over the runs of the share of clustering in clustering and training"),
    Metric("share_min", "float", "", "smallest share of a run"),
    Metric("share_max", "float", "", "largest share of a run"),
    Metric("seconds_clustered_median", "float", "s", "median over the runs of the seconds of clustering of a cycle"),
    Metric("seconds_trained_median", "float", "s", "median over the runs of the seconds of training of a cycle"),
    Metric("device", "text", "", "processor of the last attempt"),
    Metric("resumed", "int", "", "number of runs that needed more than one attempt"),
    Metric("hours", "float", "h", "hours of all attempts of the runs"),
    Metric("dark_n", "int", "", "number of seeds whose grey filter has a luminance below .22"),
    Metric("bright_n", "int", "", "number of seeds whose grey filter has a luminance above .5"),
    Metric("lowest_n", "int", "", "number of seeds in the lowest 13 % of Initial Alignment"),
    Metric("lowest_luminance_max", "float", "", "largest luminance of the grey filter among these"),
    Metric("bright_sd", "float", "", "standard deviation of Initial Alignment of the seeds of luminance above .5"),
    Metric("true_sd", "float", "", "standard deviation of Initial Alignment of the seeds with the true filter"),
    Metric("first", "text", "", "initialisation of k-means of the first clustering"),
    Metric("second", "text", "", "initialisation of k-means of the second clustering of the same nets"),
    Metric("r", "float", "", "Pearson's correlation of the two Initial Alignments of a net"),
    Metric("r_low", "float", "", "lower end of its 95 % interval"),
    Metric("r_high", "float", "", "upper end of its 95 % interval"),
    Metric("spearman", "float", "", "Spearman's rank correlation of the two"),
    Metric("difference_mean", "float", "", "mean difference of the two; of accuracies in points"),
    Metric("kmeans_share", "float", "", "share of the variance over seeds that the two do not have in common: 1 - r"),
    Metric("inertia_per_point_median", "float", "", "median over the runs of the inertia per image"),
    Metric("nmi_brightness_median", "float", "", "median over the runs of the NMI with deciles of image brightness"),
    Metric("effective_rank_median", "float", "", "median over the runs of the effective rank of the features"),
    Metric("components_alive_median", "float", "", "median over the runs of the PCA components with variance"),
    Metric("runs", "int", "", "number of runs"),
    Metric("done", "int", "", "number of runs that are done"),
    Metric("reason", "text", "", "why the run failed or is damaged"),
)
_CLAIMS = (
    Metric("claim", "text", "", "name of the claim"),
    Metric("figure", "text", "", "panel that the claim is about"),
    Metric("dataset", "text", "", "data set of the runs"),
    Metric("protocol", "text", "", "protocol of the runs"),
    Metric("sobel", "text", "", "Sobel setting of the runs"),
    Metric("setting", "text", "", "further settings that tell the runs apart from those of other lines"),
    Metric("words", "text", "", "claim in the words of the paper"),
    Metric("statistic", "text", "", "what is measured"),
    Metric("value", "float", "", "value of the statistic"),
    Metric("low", "float", "", "lower end of its 95 % interval"),
    Metric("high", "float", "", "upper end of its 95 % interval"),
    Metric("n", "int", "", "number of runs, or of seeds where each was run at several values"),
    Metric("rule", "text", "", "window in which the statistic lies if the claim holds"),
    Metric("verdict", "text", "", "supported, contradicted, undecided or not run"),
    Metric("reason", "text", "", "why there is no verdict"),
    Metric("unlike_paper", "text", "", "settings of the runs that neither protocol of the paper has"),
    Metric("best_epoch", "text", "", "verdict by the accuracy of the probe's best epoch"),
    Metric("best_epoch_value", "float", "", "value of the statistic by the best epoch"),
    Metric("best_epoch_low", "float", "", "lower end of its 95 % interval"),
    Metric("best_epoch_high", "float", "", "upper end of its 95 % interval"),
    Metric("planned_n", "int", "", "number of seeds that the claim planned; with fewer the verdict is undecided"),
    Metric("declared", "text", "", "day on which the claim planned its seeds and its setting"),
    Metric("p", "float", "", "smallest level at which the interval still decides; none before the planned n"),
    Metric("p_holm", "float", "", "p after Holm's correction over all claims at the paper's settings that have one"),
    Metric("missing", "int", "", "number of seeds that are missing"),
    Metric("command", "text", "", "command that computes what is missing"),
)
_MISSING = (
    Metric("panel", "text", "", "panel with missing runs"),
    Metric("grid", "text", "", "grid that asks for the runs"),
    Metric("settings", "text", "", "settings of the missing runs"),
    Metric("missing", "int", "", "number of missing seeds"),
    Metric("seeds", "text", "", "missing seeds"),
    Metric("command", "text", "", "command that computes them"),
)
_CYCLES = (
    Metric("seconds_clustered", "float", "s", "time of the cycle's clustering"),
    Metric("seconds_trained", "float", "s", "time of the cycle's training"),
)
# Table -> the columns that have a meaning of their own in it. Every other table is that of a panel, or of all runs.
TABLES: Mapping[str, Mapping[str, Metric]] = {
    name: {one.name: one for one in columns}
    for name, columns in {
        "claims": _CLAIMS,
        "missing": _MISSING,
        "cycles": _CYCLES,
        "panels": (*_PANEL, *BEYOND_COLUMNS),
        "verdicts on questions": VERDICT_COLUMNS,
    }.items()
}


def describe_column(table: str, name: str) -> Metric | None:
    """The declaration of a column of a table (`runs`, `cycles`, `claims`, `missing`, or a panel); None if unknown."""
    own = TABLES.get(table, {} if table == "runs" else TABLES["panels"])
    if table.endswith("questions"):
        own = {**own, **TABLES["claims"], **TABLES["verdicts on questions"]}
    if name in own:
        return own[name]
    if table in ("claims", "missing"):
        return None
    if table == "cycles" and name == "reassign":  # a setting, too: every how many cycles
        return declaration(name)
    return _setting(name) or declaration(name) or _layer(name) or _statistic(name)


def _setting(name: str) -> Metric | None:
    if name not in RunConfig.declared:
        return None
    kinds: Mapping[str, DType] = {"int": "int", "float": "float", "flag": "flag"}
    return Metric(name, kinds.get(kind_of(name), "text"), "", RunConfig.declared[name].meaning)


def _layer(name: str) -> Metric | None:
    """accuracy_<layer> for the layers of the nets."""
    layers = {layer for net in NET_SPECS.values() for layer in net.layers}
    layer = name.removeprefix("accuracy_")
    if layer == name or layer not in layers:
        return None
    return Metric(name, "float", "%", f"test accuracy of the probe's last epoch at the layer {layer}")


def _statistic(name: str) -> Metric | None:
    """A statistic of a number, or a statistic alone, in a table that has one number."""
    if name in STATISTICS:
        return STATISTICS[name]
    for suffix in sorted(STATISTICS, key=len, reverse=True):
        number = name.removesuffix(f"_{suffix}")
        found = declaration(number) or _layer(number) if number != name else None
        if found:
            one = STATISTICS[suffix]
            return Metric(name, one.dtype, "" if suffix == "n" else found.unit, f"{one.meaning}, of {number}")
    return None
