"""Each verdict for each kind of rule, on made-up runs whose answer is known."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.recorded_runs import config_of, frame, row_of, selected, with_planned_seeds

from dc_hpc.report.claims import catalog as claims_module
from dc_hpc.report.claims.catalog import CLAIMS, COLUMNS, claims, count_verdicts
from dc_hpc.report.claims.rules import VERDICTS, Measured, Window, above, below, judge
from dc_hpc.report.claims.table import claims_table
from dc_hpc.report.statistics import FEWEST, Interval, mean_rho_interval
from dc_hpc.report.tables.text_tables import csv_of, markdown_of


def claims_on(runs):
    return claims(selected(runs))


def verdicts(rows, name: str, figure: str) -> list[dict]:
    found = claims_on(frame(with_planned_seeds(rows, f"{figure}.{name}")))
    return found[(found.claim == name) & (found.figure == figure)].to_dict("records")


def verdict(rows, name: str, figure: str) -> str:
    (one,) = verdicts(rows, name, figure)
    return one["verdict"]


def fixed(low: float, high: float, n: int) -> Measured:
    """A statistic with one interval at every level."""
    return Measured((low + high) / 2, lambda level: Interval(low, high), n)


# The rule itself.


@pytest.mark.parametrize(
    "low, high, window, expected",
    [
        (0.1, 0.5, above(0), "supported"),
        (-0.5, -0.1, above(0), "contradicted"),
        (-0.1, 0.5, above(0), "undecided"),
        (0.0, 0.5, above(0), "undecided"),
        (-0.5, 0.0, above(0), "contradicted"),
        (-0.5, -0.1, below(0), "supported"),
        (0.1, 0.5, below(0), "contradicted"),
        (0.2, 1.8, Window(0, 2), "supported"),
        (-1.0, 1.0, Window(0, 2), "undecided"),
        (-1.0, 3.0, Window(0, 2), "undecided"),
        (2.5, 3.0, Window(0, 2), "contradicted"),
    ],
)
def test_the_interval_decides(low, high, window, expected):
    assert judge(fixed(low, high, 5), window).verdict == expected


def test_few_runs_decide_nothing_and_say_so():
    for at in (lambda level: None, lambda level: Interval(0.8, 1.0)):
        judged = judge(Measured(0.9, at, 2), above(0))
        assert (judged.verdict, judged.reason) == ("undecided", "n = 2: too few for an interval")


@settings(max_examples=100)
@given(st.floats(-9, 9), st.floats(0, 9), st.floats(-9, 9), st.floats(0.1, 9))
def test_no_interval_is_both(low, width, start, length):
    window = Window(start, start + length)
    inside = judge(fixed(low, low + width, 9), window).verdict
    outside = [
        judge(fixed(low, low + width, 9), w).verdict
        for w in (Window(-math.inf, window.low), Window(window.high, math.inf))
    ]
    if inside == "supported":
        assert "supported" not in outside
    if "supported" in outside:
        assert inside == "contradicted"


# Claims on runs.


def relation_rows(base: str, slope: float, noise: float, n: int = 12):
    rng = np.random.default_rng(0)
    middle = {"fmnist": 0.39, "svhn": 0.10, "cifar10": 0.075}[base]
    ia = middle + 0.002 * np.arange(n)
    return [
        row_of(
            config_of(base, seed=seed),
            ia=float(ia[seed]),
            accuracy=50 + slope * seed + noise * float(rng.normal()),
        )
        for seed in range(n)
    ]


@pytest.mark.parametrize(
    "slope, noise, expected", [(1, 0.1, "supported"), (-1, 0.1, "contradicted"), (0, 5, "undecided")]
)
def test_accuracy_rises_with_ia(slope, noise, expected):
    assert verdict(relation_rows("svhn", slope, noise), "ia_accuracy", "fig_3b") == expected


def test_no_relation_needs_many_runs_to_be_supported():
    assert verdict(relation_rows("fmnist", 1, 0.1, n=47), "ia_accuracy", "fig_3a") == "contradicted"
    assert verdict(relation_rows("fmnist", 0, 5, n=47), "ia_accuracy", "fig_3a") == "undecided"
    rows = [row | {"accuracy": 50.0 + abs(row["seed"] - 23)} for row in relation_rows("fmnist", 0, 0, n=47)]
    assert verdict(rows, "ia_accuracy", "fig_3a") == "supported"


def test_seeds_that_were_not_planned_count_for_nothing():
    rows = with_planned_seeds(relation_rows("svhn", 1, 0.1, n=30), "fig_3b.ia_accuracy")
    (one,) = verdicts(rows, "ia_accuracy", "fig_3b")
    assert (one["n"], one["planned_n"], one["verdict"]) == (10, 10, "supported")
    others = [row for row in rows if row["seed"] >= 1000]
    assert len(others) == 20
    found = claims_on(frame(others))
    (one,) = found[(found.claim == "ia_accuracy") & (found.figure == "fig_3b")].to_dict("records")
    assert (one["verdict"], one["reason"], one["n"]) == ("not run", "no run of a planned seed", 0)


def k_rows(base: str, ks, trend: float, seeds: int = 10, noise: float = 0.1, **settings):
    rng = np.random.default_rng(1)
    rows = [
        row_of(
            config_of(base, k=k, seed=seed, **settings),
            accuracy=50 + 3 * seed + trend * place + noise * float(rng.normal()),
            ia=0.05,
        )
        for seed in range(seeds)
        for place, k in enumerate(ks)
    ]
    return with_planned_seeds(rows, {"fmnist": "fig_4a", "svhn": "fig_4b"}[base] + ".k_accuracy")


def test_the_mean_of_correlations_has_an_interval_of_correlations():
    rows = [
        row_of(config_of("fmnist", k=k, seed=seed), accuracy=accuracy, ia=0.4)
        for seed, found in enumerate([(9, 8, 7), (9, 7, 8), (7, 9, 8)] * 4)
        for k, accuracy in zip((5, 20, 200), found)
    ]
    (one,) = verdicts(rows, "k_accuracy", "fig_4a")
    assert one["value"] == pytest.approx(-0.4) and -1 <= one["low"] < one["high"] <= 1
    assert one["verdict"] == "undecided"


@pytest.mark.parametrize("trend, expected", [(-1, "supported"), (1, "contradicted")])
def test_accuracy_falls_with_k_on_fashion_mnist(trend, expected):
    assert verdict(k_rows("fmnist", (5, 20, 200), trend), "k_accuracy", "fig_4a") == expected


@pytest.mark.parametrize(
    "trend, noise, expected", [(1, 0.1, "supported"), (-1, 0.1, "contradicted"), (0, 5, "undecided")]
)
def test_accuracy_rises_with_k_on_svhn(trend, noise, expected):
    assert verdict(k_rows("svhn", (10, 50, 100, 500), trend, noise=noise), "k_accuracy", "fig_4b") == expected


def test_a_seed_counts_where_it_has_every_k():
    whole, half = k_rows("svhn", (10, 50, 100, 500), 1, seeds=5), k_rows("svhn", (10, 50), 1, seeds=5)
    (one,) = verdicts(half, "k_accuracy", "fig_4b")
    assert (one["verdict"], one["reason"], one["missing"]) == ("not run", "no seed with k 10, 50, 100, 500", 5)
    mixed = [row for row in whole if row["seed"] in (12, 45)] + [row for row in half if row["seed"] not in (12, 45)]
    (one,) = verdicts(mixed, "k_accuracy", "fig_4b")
    assert (one["verdict"], one["reason"], one["value"]) == ("undecided", "2 of 5 seeds", 1.0)


def test_correlations_that_differ_in_their_last_bits_are_equal():
    low, high = mean_rho_interval([0.8, 0.8 + 2e-16, 0.8], 4)
    assert low < 0.5 and high > 0.9


def test_equal_correlations_are_no_certainty():
    """Of four places the exchange of two neighbours lowers rho by .2: one of the five counts as that much lower."""
    (one,) = verdicts(k_rows("svhn", (10, 50, 100, 500), 1, seeds=5), "k_accuracy", "fig_4b")
    by_hand = np.array([0.8, 1, 1, 1, 1])
    reach = 2.776445 * by_hand.std(ddof=1) / math.sqrt(5)
    assert one["value"] == one["high"] == 1.0 and one["low"] == pytest.approx(by_hand.mean() - reach)


@pytest.mark.parametrize("sobel", ["fixed", "off"])
def test_data_sets_are_compared_under_one_filter(sobel):
    """AMI at k 10: with the true filter SVHN's is above CIFAR10's, without a filter below."""
    levels = {("svhn", "fixed"): 0.09, ("cifar10", "fixed"): 0.02, ("svhn", "off"): 0.01, ("cifar10", "off"): 0.06}
    rng = np.random.default_rng(6)
    rows = [
        row_of(config_of(base, seed=seed, k=10, sobel=name, cycles=0, probe=()), ia=level)
        | {"ia_ami": level + 0.001 * float(rng.normal())}
        for (base, name), level in levels.items()
        for seed in range(1, 21)
    ]
    found = [one for one in verdicts(rows, "suitability_k10", "fig_b1") if one["sobel"] == sobel]
    expected = levels["svhn", sobel] - levels["cifar10", sobel]
    assert [one["protocol"] for one in found] == ["mixed"] and found[0]["value"] == pytest.approx(expected, abs=0.002)


def test_two_seeds_are_too_few():
    (one,) = verdicts(k_rows("svhn", (10, 50, 100, 500), 1, seeds=2), "k_accuracy", "fig_4b")
    assert one["verdict"] == "undecided" and one["reason"] == "2 of 5 seeds" and one["value"] == 1.0
    assert 2 < FEWEST <= one["planned_n"] and (one["missing"], one["p"]) == (3, None)


def halt_rows(base: str, accuracies: dict, seeds: int = 5, **settings):
    rng = np.random.default_rng(2)
    return [
        row_of(
            config_of(base, seed=seed, halt_cycle=halt, **settings),
            accuracy=accuracy + 5 * seed + 0.1 * float(rng.normal()),
            ia=0.1,
        )
        for seed in range(seeds)
        for halt, accuracy in accuracies.items()
    ]


@pytest.mark.parametrize(
    "gain, expected", [(1.0, "supported"), (5.0, "contradicted"), (-3.0, "contradicted"), (2.0, "undecided")]
)
def test_continuous_clustering_is_worth_about_one_point(gain, expected):
    rows = halt_rows("fmnist", {1: 80.0, 10: 79.0, None: 80.0 + gain})
    assert verdict(rows, "continuous_clustering", "fig_5a") == expected


@pytest.mark.parametrize("ten, expected", [(79.0, "supported"), (81.0, "contradicted"), (79.7, "undecided")])
def test_the_dip(ten, expected):
    assert verdict(halt_rows("fmnist", {1: 80.0, 10: ten, None: 82.0}), "dip", "fig_5a") == expected


@pytest.mark.parametrize(
    "once, spread, best", [(90.0, "supported", "supported"), (51.0, "contradicted", "contradicted")]
)
def test_clustering_once_on_svhn(once, spread, best):
    rows = halt_rows("svhn", {1: once, 10: 50.0, 30: 51.0, 50: 52.0, None: 54.0}, k=500)
    assert verdict(rows, "halting_spread", "fig_5b") == spread
    assert verdict(rows, "once_is_best", "fig_5b") == best


def test_a_trial_without_the_halts_between_is_not_run():
    (one,) = verdicts(halt_rows("fmnist", {1: 80.0, None: 81.0}, cycles=2), "dip", "fig_5a")
    assert one["verdict"] == "not run" and one["reason"] == "no seed with halt_cycle 1, 10, never"
    assert one["unlike_paper"] == "cycles 2 (the paper: 50)" and "2 cycles" in one["setting"]


def ia_rows(levels: dict, seeds: int = 100, spread: float = 0.001, axis: str = "k", base: str = "svhn"):
    rng = np.random.default_rng(3)
    offsets = spread * rng.normal(size=seeds)
    return [
        row_of(config_of(base, seed=seed, cycles=0, probe=(), **{axis: value}), ia=level + float(offsets[seed]))
        for seed in range(seeds)
        for value, level in levels.items()
    ]


def test_the_levels_of_ia_on_svhn():
    rows = ia_rows({10: 0.03, 50: 0.08, 100: 0.09, 500: 0.15})
    assert verdict(rows, "ia_k10", "fig_b1") == "supported"
    assert verdict(rows, "ia_k50", "fig_b1") == "undecided"
    assert verdict(rows, "ia_k100", "fig_b1") == "contradicted"
    assert verdict(rows, "ia_k500", "fig_b1") == "supported"
    assert verdict(rows, "ia_500_100", "fig_b1") == "contradicted"
    assert verdict(ia_rows({100: 0.11, 500: 0.15}), "ia_500_100", "fig_b1") == "supported"


@pytest.mark.parametrize("gap, expected", [(0.0, "supported"), (0.05, "contradicted"), (0.0101, "undecided")])
def test_pca_does_not_change_ia(gap, expected):
    rows = ia_rows({32: 0.1, 256: 0.1}, axis="pca")
    rng = np.random.default_rng(4)
    for row in rows:
        if row["pca"] == 256:
            row["ia"] += gap + 0.002 * float(rng.normal())
    assert verdict(rows, "pca_ia", "fig_b2") == expected


@pytest.mark.parametrize("gap, expected", [(0.0, "supported"), (5.0, "contradicted"), (2.0, "undecided")])
def test_pca_does_not_change_accuracy(gap, expected):
    rng = np.random.default_rng(5)
    rows = [
        row_of(
            config_of("svhn", seed=seed, pca=pca),
            ia=0.1,
            accuracy=50 + 4 * seed + gap * (pca == 256) + 0.3 * float(rng.normal()),
        )
        for seed in range(10)
        for pca in (32, 256)
    ]
    assert verdict(rows, "pca_accuracy", "fig_b3") == expected


@pytest.mark.parametrize(
    "low, high, expected", [(0.37, 0.41, "supported"), (0.2, 0.3, "contradicted"), (0.3555, 0.41, "undecided")]
)
def test_the_range_of_ia(low, high, expected):
    values = np.linspace(low, high, 100)
    rows = [row_of(config_of("fmnist", seed=seed, cycles=0, probe=()), ia=float(ia)) for seed, ia in enumerate(values)]
    assert verdict(rows, "ia_range", "fig_3a") == expected


def test_a_range_names_the_values_that_count_as_inside():
    named = {claim.full_name: claim.statistic for claim in CLAIMS if claim.statistic.startswith("share of seeds")}
    assert named["fig_3a.ia_range"] == "share of seeds from .365 to .415"  # printed as .37 to .41
    assert named["fig_3c.ia_range"] == "share of seeds from .0645 to .0855"
    assert named["fig_6.accuracy_k10"] == "share of seeds from 19.5 to 40.5"


def test_the_accuracies_of_figure_6():
    few = k_rows("svhn", (10, 50, 100, 500), 0.0, seeds=4)
    assert verdict(few, "accuracy_k10", "fig_6") == "undecided"
    rows = [row | {"accuracy": row["accuracy"] - 8} for row in k_rows("svhn", (10, 50, 100, 500), -1.0, seeds=5)]
    assert verdict(rows, "accuracy_k10", "fig_6") == "contradicted"  # all above 41
    assert verdict(rows, "accuracy_k500", "fig_6") == "supported"  # all between 39 and 52
    one_out = [row | {"accuracy": 61.0} if (row["k"], row["seed"]) == (500, 12) else row for row in rows]
    assert verdict(one_out, "accuracy_k500", "fig_6") == "undecided"  # four of five
    assert verdict(rows, "accuracy_500_100", "fig_6") == "supported"


def test_the_appendix_has_one_seed_so_it_is_undecided():
    rows = [
        row_of(config_of("cifar10_alexnet", seed=42, cycles=150, halt_cycle=halt), accuracy=accuracy)
        for halt, accuracy in ((15, 62.0), (30, 64.06), (50, 65.18), (100, 66.98))
    ]
    (one,) = verdicts(rows, "halting_gain", "table_a1")
    assert (one["verdict"], one["reason"]) == ("undecided", "1 of 5 seeds") and one["unlike_paper"] == ""
    assert one["value"] == pytest.approx(4.98)
    more = [
        row_of(config_of("cifar10_alexnet", seed=seed, cycles=150, halt_cycle=halt), accuracy=62 + gain)
        for seed in range(5)
        for halt, gain in ((15, 0.0), (100, 5.0))
    ]
    assert verdict(more, "halting_gain", "table_a1") == "supported"


# The other reading of accuracy.


def test_a_verdict_of_the_last_epoch_only_is_seen():
    """Accuracy falls with k in the last epoch; in the best one it rises, does neither, or was not recorded."""
    rows = k_rows("fmnist", (5, 20, 200), -1)
    places = {5: 0, 20: 1, 200: 2}
    rising = [row | {"accuracy_best": 80.0 + places[row["k"]] + row["seed"] / 10} for row in rows]
    flat = [row | {"accuracy_best": 80.0 + (places[row["k"]] * 2 + row["seed"]) % 3} for row in rows]
    unknown = [row | {"accuracy_best": None} for row in rows]
    for changed, expected in ((rising, "contradicted"), (flat, "undecided"), (unknown, None)):
        (one,) = verdicts(changed, "k_accuracy", "fig_4a")
        assert (one["verdict"], one["best_epoch"]) == ("supported", expected)
        assert (one["best_epoch_value"] is None) == (expected is None)
    (one,) = verdicts(rising, "k_accuracy", "fig_4a")
    assert one["best_epoch_value"] == pytest.approx(1.0) and 0.8 < one["best_epoch_low"] < 1.0
    assert "by the best epoch contradicted: 1.00 (0." in markdown_of(claims_table(claims_on(frame(rising))))
    same = [row | {"accuracy_best": row["accuracy"]} for row in rows]
    assert "by the best epoch" not in markdown_of(claims_table(claims_on(frame(same))))


def test_the_ia_has_no_epochs():
    found = claims_on(frame([row_of(config_of("fmnist", seed=seed, cycles=0), ia=0.39) for seed in range(9)]))
    assert set(found[found.claim == "ia_range"].best_epoch) == {None}


def test_the_papers_settings_are_counted_apart():
    rows = [*k_rows("svhn", (10, 50, 100, 500), 1), *k_rows("svhn", (10, 50, 100, 500), -1, cycles=2)]
    found = claims_on(frame(rows))
    paper, other = (Counter(found[found.unlike_paper.ne("") == unlike].verdict) for unlike in (False, True))
    assert other["supported"] and other["contradicted"] and paper["not run"] > paper["undecided"] > 0
    apart = [", ".join(f"{counts[name]} {name}" for name in VERDICTS if counts[name]) for counts in (paper, other)]
    assert count_verdicts(found) == "at the paper's settings {}; at other settings {}".format(*apart)
    assert "at other settings" not in count_verdicts(claims_on(frame([])))


# Groups, and nothing at all.


def test_protocols_are_judged_one_by_one_and_the_papers_settings_come_first():
    code = k_rows("svhn", (10, 50, 100, 500), 1)
    text = k_rows("svhn", (10, 50, 100, 500), -1, protocol="text")
    trial = k_rows("svhn", (10, 50, 100, 500), -1, cycles=2)
    found = verdicts([*trial, *code, *text], "k_accuracy", "fig_4b")
    assert [(one["protocol"], one["verdict"], bool(one["unlike_paper"])) for one in found] == [
        ("code", "supported", False),
        ("text", "contradicted", False),
        ("code", "contradicted", True),
    ]


def test_no_run_gives_each_claim_one_row():
    found = claims_on(frame([]))
    assert tuple(found.columns) == COLUMNS and len(found) == len(CLAIMS)
    assert set(found.verdict) == {"not run"}


def test_failed_and_damaged_runs_are_no_evidence():
    rows = [
        row | {"state": state}
        for row, state in zip(k_rows("svhn", (10, 50, 100, 500), 1), ["failed", "damaged", "new", "running"] * 5)
    ]
    assert set(claims_on(frame(rows)).verdict) == {"not run"}


def test_the_rule_is_written_down():
    text = claims_module.__doc__
    assert all(
        word in text for word in ("supported", "contradicted", "undecided", "not run", "bootstrap", "Student", "n < 3")
    )


def test_equal_runs_give_equal_claims_whatever_their_order():
    rows = [*k_rows("svhn", (10, 50, 100, 500), 1), *relation_rows("cifar10", 1, 2)]
    assert csv_of(claims_table(claims_on(frame(rows)))) == csv_of(claims_table(claims_on(frame(rows[::-1]))))


def test_the_table_of_claims_reads_well():
    text = markdown_of(claims_table(claims_on(frame(k_rows("svhn", (10, 50, 100, 500), 1)))))
    assert "supported" in text and "accuracy rises with k" in text and "svhn, code, sobel random" in text
