"""Statistics against scipy and by hand; cells in which nothing is pooled that differs."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from support.recorded_runs import config_of, frame, row_of

from dc_hpc.config.run_config import RunConfig
from dc_hpc.report import statistics
from dc_hpc.report.panels.grouping import group_summary


def test_describe_by_hand():
    stats = statistics.describe([4.0, 1.0, 2.0, 3.0])
    assert (stats["n"], stats["median"], stats["q25"], stats["q75"], stats["iqr"]) == (
        4,
        2.5,
        1.75,
        3.25,
        1.5,
    )
    assert (stats["min"], stats["max"], stats["mean"]) == (1.0, 4.0, 2.5)
    assert stats["sd"] == pytest.approx(math.sqrt(5 / 3))
    assert stats["low"] is stats["high"] is None  # the range of four holds the median with 88 % only
    # The median of 5 draws is the smallest value in 5.8 % and the largest in 5.8 % of samples.
    five = statistics.describe([4.0, 1.0, 2.0, 3.0, 5.0])
    assert (five["low"], five["high"]) == (1.0, 5.0)


def test_describe_is_honest_about_few():
    assert statistics.describe([])["n"] == 0 and statistics.describe([])["median"] is None
    assert statistics.describe([5.0])["sd"] is None
    assert statistics.describe([5.0, 6.0])["low"] is None


@pytest.mark.parametrize("seed", range(3))
def test_the_bootstrap_agrees_with_scipy(seed):
    values = np.random.default_rng(seed).normal(50, 5, 40)
    theirs = scipy.stats.bootstrap((values,), np.median, method="percentile", n_resamples=10_000, rng=seed)
    assert statistics.median_interval(values) == pytest.approx(tuple(theirs.confidence_interval), abs=0.25)


@pytest.mark.parametrize("n", [3, 5, 40])
def test_the_interval_of_a_mean_is_scipys(n):
    values = np.random.default_rng(n).normal(50, 5, n)
    theirs = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert statistics.mean_interval(values) == pytest.approx(tuple(theirs))
    assert statistics.mean_interval(values[:2]) is None


def test_the_interval_of_rho_by_hand():
    # rho .6 of 14 pairs: z .6931, half width 1.96 * sqrt(1.18 / 11) = .6419
    x, y = np.arange(14), [0, 3, 1, 2, 8, 5, 4, 12, 13, 6, 11, 10, 9, 7]
    rho = statistics.spearman(x, y)
    z, half = math.atanh(rho), 1.959964 * math.sqrt((1 + rho**2 / 2) / 11)
    assert statistics.spearman_interval(x, y) == pytest.approx((math.tanh(z - half), math.tanh(z + half)))


def test_order_in_a_few_pairs_is_no_certainty():
    assert statistics.spearman_interval([1, 2, 3, 4], [1, 2, 3, 4]) is None  # chance in one of 12 cases
    low, high = statistics.spearman_interval(range(5), range(5))
    assert 0 < low < 0.5 and high == 1
    assert statistics.spearman_interval(range(5), range(5, 0, -1)) == (-high, -low)
    almost = statistics.spearman_interval(range(5), [0, 1, 2, 4, 3])
    assert almost.low < low and almost.high < 1
    assert statistics.spearman_interval(range(5), [1] * 5) is None


@pytest.mark.parametrize("rho", [0.0, 0.7])
@pytest.mark.parametrize("n", [5, 14])
def test_intervals_hold_the_truth_as_often_as_they_say(n, rho):
    """400 samples of normal pairs: 95 % within four standard errors; the bootstrap of a mean of five holds 84 %."""
    rng = np.random.default_rng(n)
    truth = 6 / math.pi * math.asin(rho / 2)
    held = {"mean": 0, "rho": 0}
    for _ in range(400):
        x = rng.normal(size=n)
        y = rho * x + math.sqrt(1 - rho**2) * rng.normal(size=n)
        for name, interval, value in (
            ("mean", statistics.mean_interval(x), 0),
            ("rho", statistics.spearman_interval(x, y), truth),
        ):
            held[name] += interval.low <= value <= interval.high
    assert min(held.values()) > 400 * (0.95 - 4 * math.sqrt(0.95 * 0.05 / 400))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=2, max_size=12))
def test_spearman_agrees_with_scipy(points):
    x, y = zip(*points)
    ours = statistics.spearman(x, y)
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert ours is None
    else:
        assert ours == pytest.approx(scipy.stats.spearmanr(x, y).statistic)


def test_wilson_by_the_book():
    # Newcombe 1998, table I: 81 of 263 and 15 of 148.
    assert statistics.share_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert statistics.share_interval(15, 148) == pytest.approx((0.0624, 0.1605), abs=1e-4)
    assert statistics.share_interval(2, 2) is None
    assert statistics.share_interval(0, 14)[0] == 0 and statistics.share_interval(14, 14)[1] == 1  # not by a hair


def test_the_regression_is_numpys():
    x, y = [0.1, 0.2, 0.4, 0.5], [3.0, 2.0, 5.0, 9.0]
    assert statistics.regression(x, y) == pytest.approx(tuple(np.polyfit(x, y, 1)))
    assert statistics.regression([1, 1], [2, 3]) is None


# Groups.

OTHER = {
    "k": 6, "cycles": 49, "last_cycle": "train", "batch_norm": False, "lr": 0.2, "momentum": 0.3,
    "weight_decay": 0.0, "batch_size": 64, "kmeans_init": "random", "resize": 45, "mean": (0.5,),
    "std": (0.4,),
    "training_view": "none", "data_digest": "0" * 64, "train_digest": "0" * 64, "test_digest": "0" * 64,
    "net_digest": "0" * 64, "pca": 40, "halt_cycle": 3, "reassign": 2, "epochs_per_cycle": 2, "kmeans_iterations": 10,
    "draws": "authors", "per_image_standardization": True, "halt_rule": "plateau", "soft_reset": 0.5,
    "kmeans_n_init": 10, "labels": True, "probe": ("conv1",), "probe_flip": False,
    "probe_crop": True,
    "probe_average_pool": 2, "probe_epochs": 5, "probe_lr": 0.1, "probe_momentum": 0.5,
    "probe_weight_decay": 0.0, "probe_batch_size": 64, "dataset": "mnist",
}  # fmt: skip


@pytest.mark.parametrize("name", OTHER)
def test_runs_that_differ_in_anything_are_never_pooled(name):
    one, other = config_of("fmnist", seed=1), config_of("fmnist", seed=2, **{name: OTHER[name]})
    summary = group_summary(frame([row_of(one, accuracy=80.0), row_of(other, accuracy=90.0)]))
    assert sorted(summary["median"]) == [80.0, 90.0] and summary["n"].tolist() == [1, 1]


def test_the_list_of_settings_above_is_whole():
    # net, crop and sobel go with the data set; resume_leak and teacher_seed need a halt, patience and tolerance a rule;
    # seed and features are no settings.
    bound = {"net", "crop", "sobel", "resume_leak", "halt_patience", "halt_tolerance", "teacher_seed"}
    assert set(OTHER) | bound | {"seed", "features", "protocol"} == set(RunConfig.model_fields)


def test_protocols_and_sobel_are_never_pooled():
    rows = [row_of(config_of("svhn", seed=1, protocol=p), accuracy=float(i)) for i, p in enumerate(("text", "code"))]
    rows.append(row_of(config_of("svhn", seed=1, sobel="off"), accuracy=2.0))
    summary = group_summary(frame(rows))
    assert summary[["protocol", "sobel", "median"]].values.tolist() == [
        ["code", "random", 1.0],
        ["mixed", "off", 2.0],
        ["text", "fixed", 0.0],
    ]


def test_further_probed_layers_change_no_accuracy_and_part_no_cell():
    rows = [
        row_of(config_of("fmnist", seed=seed, probe=probe), accuracy=80.0 + seed)
        for seed, probe in ((1, ("conv2",)), (2, ("conv2", "fc1")), (1, ("conv2", "fc1")))
    ]
    summary = group_summary(frame(rows))
    assert summary["n"].tolist() == [2] and summary["median"].tolist() == [81.5]


def test_missing_seeds_are_named():
    configs = [config_of("fmnist", seed=seed) for seed in (1, 2, 3, 4)]
    rows = [
        row_of(configs[0], accuracy=80.0),
        row_of(configs[1], state="failed"),
        row_of(configs[2], state="new"),
        row_of(configs[3], state="damaged"),
    ]
    summary = group_summary(frame(rows))
    assert summary["n"].tolist() == [1] and summary["missing"].tolist() == ["2 3"]


def test_ia_of_a_seed_counts_once_whatever_the_length_of_its_run():
    rows = [
        row_of(config_of("svhn", seed=1, cycles=0, probe=()), ia=0.10),
        row_of(config_of("svhn", seed=1), ia=0.10, accuracy=40.0),
        row_of(config_of("svhn", seed=2, cycles=3, momentum=0.9), ia=0.20, accuracy=30.0),
    ]
    summary = group_summary(frame(rows), "ia")
    assert summary["n"].tolist() == [2] and summary["median"].tolist() == [pytest.approx(0.15)]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([5, 20]), st.integers(0, 5), st.floats(0, 100)), min_size=1, max_size=15))
def test_a_summary_loses_and_invents_no_run(cells):
    rows = {(k, seed): row_of(config_of("fmnist", k=k, seed=seed), accuracy=value) for k, seed, value in cells}
    summary = group_summary(frame(list(rows.values())), axis=("k",))
    assert summary["n"].sum() == len(rows) and summary["k"].is_monotonic_increasing
    assert (summary["min"] <= summary["median"]).all() and (summary["median"] <= summary["max"]).all()
