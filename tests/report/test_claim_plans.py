"""A verdict waits for its planned seeds; p, Holm's correction, and the runs that a claim asks for."""

from __future__ import annotations

import math

import numpy as np
import pytest
from support.recorded_runs import JOBS, config_of, frame, row_of, selected

from dc_hpc.config.baselines import BASELINES, PROTOCOLS
from dc_hpc.config.grid import read_grid
from dc_hpc.errors import InputError
from dc_hpc.report import statistics
from dc_hpc.report.claims import catalog
from dc_hpc.report.claims.catalog import CLAIMS, claims
from dc_hpc.report.claims.measures import Measured, least_of, share_inside
from dc_hpc.report.claims.plans import PLANS
from dc_hpc.report.claims.rules import Window, above, judge
from dc_hpc.report.claims.table import claims_table
from dc_hpc.report.panels.grouping import Cell
from dc_hpc.report.panels.paper import PANELS
from dc_hpc.report.questions.plans import plan_of
from dc_hpc.report.statistics import Interval, mean_interval
from dc_hpc.report.tables.text_tables import markdown_of


def mean_of(values) -> Measured:
    return Measured(float(np.mean(values)), lambda level: mean_interval(values, level), len(values))


def halts(accuracies: dict, seeds: int, noise: float, seed: int = 0, **settings) -> Cell:
    """Runs of each halting position with normal noise; the accuracies are the true means."""
    rng = np.random.default_rng(seed)
    rows = [
        {"seed": one, "state": "done", "run_id": f"{one}-{halt}", "cycles": 100, "halt_cycle": halt, "dataset": "svhn"}
        | {"accuracy": accuracy + noise * float(rng.normal()), "test_images": 10_000_000}
        for one in range(seeds)
        for halt, accuracy in accuracies.items()
    ]
    return Cell(settings, rows)


# An early look.


def test_an_early_look_cannot_decide():
    """Of the very same runs the verdict is open at every n below the planned one, however clear they are."""
    values = 5 + 0.01 * np.random.default_rng(0).normal(size=6)
    for n in range(1, 6):
        early = judge(mean_of(values[:n]), above(0), 6)
        assert (early.verdict, early.reason, early.p) == ("undecided", f"{n} of 6 seeds", None)
    assert judge(mean_of(values), above(0), 6).verdict == "supported"


def looks(planned_n: int, studies: int = 200, n: int = 10) -> float:
    """The share of studies of a true mean at the bound that decide at any look, from the third seed to the last."""
    rng, wrong = np.random.default_rng(1), 0
    for _ in range(studies):
        values = rng.normal(size=n)
        verdicts = {judge(mean_of(values[:seen]), above(0), planned_n).verdict for seen in range(3, n + 1)}
        wrong += bool(verdicts & {"supported", "contradicted"})
    return wrong / studies


def test_the_error_rate_holds_only_with_a_plan():
    """At the bound either verdict is an error: 5 % of studies make one. Looking at each seed makes it far more."""
    assert looks(planned_n=10) == pytest.approx(0.05, abs=0.03)
    assert looks(planned_n=0) > 2 * looks(planned_n=10)


@pytest.mark.parametrize("true, expected", [(2.0, "supported"), (-2.0, "contradicted")])
def test_a_true_effect_is_found(true, expected):
    rng = np.random.default_rng(2)
    found = [judge(mean_of(true + rng.normal(size=6)), above(0), 6).verdict for _ in range(200)]
    assert found.count(expected) > 180


@pytest.mark.parametrize(
    "truth", [{1: 80.0, 10: 80.0, 30: 80.0, None: 80.0}, {1: 79.0, 10: 80.0, 30: 81.0, None: 82.0}]
)
def test_a_dip_is_not_made_of_noise(truth):
    """Of equal and of rising accuracies the lowest position is always low. The fixed differences do not say so."""
    dip = least_of("halt_cycle", [(1, 10), (None, 10)])
    found = [judge(dip(halts(truth, 5, 2.0, seed)), above(0), 5).verdict for seed in range(80)]
    assert found.count("supported") <= 0.05 * 80
    clear = [judge(dip(halts({1: 80.0, 10: 70.0, None: 80.0}, 5, 2.0, seed)), above(0)).verdict for seed in range(20)]
    assert clear.count("supported") > 17


def test_once_is_best_is_not_denied_by_noise():
    """Once truly leads each other by 3 points; the best of four others is better than once in many seeds by chance."""
    truth = {1: 83.0, 10: 80.0, 30: 80.0, 50: 80.0, None: 80.0}
    best = least_of("halt_cycle", [(1, 10), (1, 30), (1, 50), (1, None)])
    found = [judge(best(halts(truth, 5, 3.0, seed)), above(0)).verdict for seed in range(40)]
    assert found.count("contradicted") <= 0.05 * 40
    equal = dict.fromkeys(truth, 80.0)
    found = [judge(best(halts(equal, 5, 3.0, seed)), above(0)).verdict for seed in range(40)]
    assert found.count("supported") <= 0.05 * 40


# p.


@pytest.mark.parametrize("seed", range(5))
def test_p_is_that_of_the_test_that_the_interval_inverts(seed):
    from scipy.stats import ttest_1samp

    values = np.random.default_rng(seed).normal(0.4, 1, 12)
    p = judge(mean_of(values), above(0)).p
    assert p == pytest.approx(max(ttest_1samp(values, 0).pvalue, statistics.LEAST_P), abs=2e-6)


def test_p_and_verdict_agree():
    for seed in range(40):
        rng = np.random.default_rng(seed)
        judged = judge(mean_of(rng.normal(rng.uniform(-1, 3), 1, 8)), Window(0, 2))
        assert (judged.verdict != "undecided") == (judged.p < 0.05)


def test_p_is_small_where_everything_decides_and_one_where_nothing_does():
    assert judge(Measured(1.0, lambda level: Interval(0.5, 1.5), 9), above(0)).p == statistics.LEAST_P
    assert judge(Measured(0.0, lambda level: Interval(-1, 1), 9), above(0)).p == 1.0


def test_holm_by_hand():
    # sorted: .01 * 4, .02 * 3, .03 * 2, .5 * 1, each at least the one before
    assert statistics.holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert statistics.holm([]) == [] and statistics.holm([0.9, 0.8]) == [1.0, 1.0]


def test_holm_counts_the_claims_at_the_papers_settings_that_reached_their_n():
    def rows(dataset, n):
        return [
            row_of(config_of("fmnist", seed=seed, cycles=0, probe=()) if dataset == "fmnist" else
                   config_of("cifar10", seed=seed, cycles=0, probe=()), ia=0.1 + 0.001 * seed)
            for seed in range(1, n + 1)
        ]  # fmt: skip

    found = claims(selected(frame([*rows("fmnist", 100), *rows("cifar10", 99)])))
    ranges = found[found.claim == "ia_range"].set_index("figure")
    assert ranges.loc["fig_3a", "p_holm"] == ranges.loc["fig_3a", "p"] is not None
    assert ranges.loc["fig_3c", "reason"] == "99 of 100 seeds" and ranges.loc["fig_3c", "p_holm"] is None


def test_a_range_of_five_runs_can_be_supported_and_contradicted():
    cell = Cell({}, [row for row in halts({1: 50.0}, 5, 0.1).rows])
    assert judge(share_inside("accuracy", 40, 60)(cell), above(0.5), 5).verdict == "supported"
    assert judge(share_inside("accuracy", 60, 70)(cell), above(0.5), 5).verdict == "contradicted"


def test_no_relation_needs_44_runs():
    """What the catalog and the results say of Figure 3a: of a rho of 0 the interval of 44 runs lies within .3."""
    window = Window(-0.3, 0.3)
    fewest = next(n for n in range(5, 99) if math.tanh(1.959964 / math.sqrt(n - 3)) < window.high)
    assert fewest == 44 and PLANS["fig_3a.ia_accuracy"].n >= fewest


# The plans.


def test_every_claim_has_a_plan():
    assert {claim.full_name for claim in CLAIMS} == set(PLANS) and len(CLAIMS) == len(PLANS)


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.full_name)
def test_the_runs_of_a_plan_reach_its_n_at_the_papers_settings(claim, monkeypatch):
    """When all that `submit --claim` asks for is done, nothing is missing."""
    plan, base = PLANS[claim.full_name], PANELS[claim.panel].base
    assert plan.protocol in PROTOCOLS[base]
    runs = {
        name: run
        for grid in plan.grids
        for name, run in read_grid(JOBS / f"{grid}.yaml", data_root=JOBS, overrides=plan.overrides(grid)).runs.items()
    }
    rows = [
        row_of(
            run, ia=0.1 + run.seed / 1000 + run.k * 1e-6, accuracy=50 + run.seed + run.k / 1e3 if run.probe else None
        )
        | {"seconds_clustered": 1.0, "seconds_trained": 2.0}
        for run in runs.values()
    ]
    monkeypatch.setattr(catalog, "CLAIMS", (claim,))  # the others take their time
    one = claims(selected(frame(rows))).to_dict("records")[0]
    assert (one["planned_n"], one["n"], one["missing"], one["command"]) == (plan.n, plan.n, 0, "")
    assert one["unlike_paper"] == "" and one["dataset"] == BASELINES[base]["dataset"]


def test_the_command_names_the_claim_and_the_settings():
    rows = [
        row_of(config_of("svhn", seed=seed, dataset="svhn-derived", sobel="fixed", k=k), accuracy=50.0 + k, ia=0.1)
        for seed in (12, 45)
        for k in (10, 50, 100, 500)
    ]
    found = claims(selected(frame(rows)))
    one = found[(found.claim == "k_accuracy") & (found.figure == "fig_4b")].to_dict("records")[0]
    assert one["missing"] == 3
    assert one["command"] == (
        "python -m dc_hpc.submit --claim fig_4b.k_accuracy --set dataset=svhn-derived --set sobel=fixed"
    )
    assert "undecided (2 of 5 seeds)" in markdown_of(claims_table(found))


def fig_3a(**settings):
    """The row of Figure 3a's claim for three runs with these settings."""
    rows = [row_of(config_of("fmnist", seed=seed, **settings), ia=seed / 9, accuracy=80.0 + seed) for seed in (1, 2, 3)]
    found = claims(selected(frame(rows)))
    return found[(found.claim == "ia_accuracy") & (found.figure == "fig_3a")].to_dict("records")[0]


@pytest.mark.parametrize(
    "settings, protocol, unlike, command",
    [
        (dict(protocol="code_2021", training_view="box_per_batch"), "code_2021", "", ""),
        (
            dict(protocol="code_2021", training_view="box_per_batch", draws="authors"),
            "code_2021",
            "draws authors (planned: ours)",
            " --set draws=authors",
        ),
        (dict(protocol="code_2021"), "code_2021", "", " --set training_view=box_per_image"),
        (dict(protocol="code"), "code", "protocol code (the paper: code_2021)", " --set protocol=code"),
        (dict(protocol="text"), "text", "", " --set protocol=text --set training_view=flip"),
    ],
)
def test_figure_3a_belongs_to_the_job_of_2021_with_either_view(settings, protocol, unlike, command):
    one = fig_3a(**settings)
    assert (one["protocol"], one["unlike_paper"]) == (protocol, unlike)
    assert one["reason"] == "3 of 47 seeds"
    assert one["command"] == f"python -m dc_hpc.submit --claim fig_3a.ia_accuracy{command}"


@pytest.mark.parametrize("view", ["box_per_batch", "box_per_image"])
def test_the_command_of_figure_3a_runs_the_setting_of_its_row(view):
    """The grid and the plan fix a view; what --set adds must win over both."""
    plan = PLANS["fig_3a.ia_accuracy"]
    own = {} if view == "box_per_batch" else {"training_view": view}
    overrides = plan.overrides("fmnist_ia_accuracy", own)
    points = read_grid(JOBS / "fmnist_ia_accuracy.yaml", data_root=JOBS, overrides=overrides).points
    assert {(one.protocol, one.training_view, one.last_cycle, one.draws) for one in points} == {
        ("code_2021", view, "train", "ours")
    }
    assert len(points) == 47


def test_a_data_set_replaces_only_the_one_it_is_a_copy_of():
    plan = plan_of("ia_k_fmnist.suitability_k10")
    assert plan.overrides("svhn_k_ia", {"dataset": "svhn-derived"})["dataset"] == "svhn-derived"
    assert "dataset" not in plan.overrides("fmnist_k_ia", {"dataset": "svhn-derived"})


@pytest.mark.parametrize("name, meant", [("fig_5b.dp", "fig_5b.dip"), ("valley_arm", "valley_arms")])
def test_an_unknown_claim_is_one_line(name, meant):
    with pytest.raises(InputError, match=f'--claim {name}: no such claim; did you mean "{meant}"'):
        plan_of(name)
