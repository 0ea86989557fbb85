"""Questions of ours: the arms of the valley, halts, views, IA and gain; on made-up runs whose answer is known."""

from __future__ import annotations

import zlib

import numpy as np
import pandas as pd
import pytest
from support.recorded_runs import JOBS, config_of, frame, row_of, selected, tables_of

from dc_hpc.config.grid import read_grid
from dc_hpc.report.claims.catalog import claims
from dc_hpc.report.claims.plans import PLANS
from dc_hpc.report.figures.style import style
from dc_hpc.report.panels.findings.luminance import luminances
from dc_hpc.report.panels.panel import FigureSources, PanelRows
from dc_hpc.report.panels.paper import PANELS
from dc_hpc.report.questions.catalog import QUESTIONS
from dc_hpc.report.questions.plans import PLANS as QUESTION_PLANS
from dc_hpc.report.questions.plans import plans_of

ANSWERS = [("supported", 1.0), ("contradicted", -1.0), ("undecided", 0.0)]


def grid(name, **overrides):
    return list(read_grid(JOBS / f"{name}.yaml", data_root=JOBS, overrides=overrides).runs.values())


def lines_of(table):
    return [dict(zip(table.columns, row)) for row in table.rows]


def verdicts(tables):
    return {line["question"]: line for line in lines_of(tables[-1])}


def noise(*key):
    return float(np.random.default_rng(zlib.crc32(repr(key).encode())).normal())


# Every question has a plan, and its grid has the planned seeds at the planned settings.


def test_every_panel_of_questions_has_a_plan_and_none_is_a_claim():
    panels = [panel for one in QUESTIONS for panel in one.panels]
    assert {panel.name for panel in panels} == {name.split(".")[0] for name in QUESTION_PLANS}
    assert not any(name.split(".")[0] in QUESTION_PLANS for name in PLANS)
    for panel in panels:
        names = [one.name for one in panel.asks()]
        assert len(names) == len(set(names)) > 0 and panel.name in QUESTION_PLANS
        of_one = [name.split(".")[1] for name in QUESTION_PLANS if name.startswith(f"{panel.name}.")]
        assert set(of_one) <= set(names)
        assert set(panel.grids) == {grid for plan in plans_of(panel.name) for grid in plan.grids}


@pytest.mark.parametrize("name", ["valley_arms", "valley_halts", "ia_layers_fixed", "ia_layers_random"])
def test_the_grid_of_a_question_has_the_planned_seeds(name):
    plan, (grid_name,) = QUESTION_PLANS[name], QUESTION_PLANS[name].grids
    seeds = {run.seed for run in grid(grid_name) if run.cycles and not run.labels}
    assert seeds == set(plan.seeds) and plan.declared == "2026-11-29"


def test_the_seeds_of_the_grids_are_what_their_comments_say():
    bright = [seed for seed in range(1, 101) if luminances()[seed] > 0.3]
    assert QUESTION_PLANS["valley_arms"].seeds == tuple(bright[:6])
    assert QUESTION_PLANS["valley_halts"].seeds == tuple(bright[:5])
    runs = pd.read_csv(JOBS.parent / "docs" / "results" / "tables" / "runs.csv", low_memory=False)
    runs = runs[(runs.dataset == "svhn-derived") & (runs.k == 200) & (runs.pca.astype(str) == "256")]
    runs = runs[
        (runs.draws == "ours") & (runs.kmeans_init == "random") & (runs.cycles == 0) & runs.seed.between(1, 100)
    ]
    for sobel, known in (("fixed", range(1, 101)), ("random", bright)):
        found = runs[(runs.sobel == sobel) & runs.seed.isin(list(known))].sort_values("cycles").drop_duplicates("seed")
        by_ia = found.sort_values("ia")["seed"].tolist()
        assert len(by_ia) == len(known)
        chosen = tuple(by_ia[round(step * (len(by_ia) - 1) / 15)] for step in range(16))
        assert chosen == QUESTION_PLANS[f"ia_layers_{sobel}"].seeds


def test_the_papers_verdicts_do_not_know_the_questions():
    """The claims of the paper, their p and Holm's correction are the same with the runs of all questions beside."""
    rows = [
        row_of(config_of("fmnist", seed=seed, halt_cycle=halt), ia=0.4, accuracy=80.0 + seed / 9 + (halt or 0) / 99)
        for seed in (61, 6, 39, 19, 50)
        for halt in (1, 10, 30, None)
    ]
    ours = [
        row_of(run, ia=None if run.labels else 0.1 + run.seed / 999, accuracy=50.0 + run.seed)
        for name in ("svhn_valley", "svhn_valley_20", "svhn_ia_layers", "svhn_ia_layers_random")
        for run in grid(name)
    ]
    before, after = claims(selected(frame(rows))), claims(selected(frame([*rows, *ours])))
    columns = ["claim", "figure", "value", "n", "verdict", "p", "p_holm"]
    decided = [one[(one.unlike_paper == "") & one.p.notna()][columns].reset_index(drop=True) for one in (before, after)]
    pd.testing.assert_frame_equal(*decided)
    assert len(decided[0]) > 0
    assert len(after[after.figure.isin(QUESTION_PLANS)]) == 0


# The arms of the valley.


def valley(shallower, seeds=range(1, 7), runs=None):
    """The runs of the grid, whose base falls by .15 and each other arm by `shallower` hundredths less."""
    rows, cycles = [], []
    for run in runs or grid("svhn_valley", seed=list(seeds)):
        row = row_of(run, ia=0.17)
        base = run == base_of_seed(run.seed)
        depth = 0.15 - (0 if base else 0.01 * shallower) + 0.002 * noise(run.seed, str(run))
        rows.append(row)
        curve = [0.2, 0.2 - depth / 2, 0.2 - depth, 0.2 - depth + 0.01]
        cycles += [{"run_id": row["run_id"], "cycle": i, "nmi_true": value} for i, value in enumerate(curve)]
    panel, cycles = PANELS["valley_arms"], pd.DataFrame(cycles)
    found = panel.select(rows)
    return panel, PanelRows(found.accuracy, cycles=cycles), cycles


def base_of_seed(seed):
    return config_of("svhn", seed=seed, k=500, cycles=4)


@pytest.mark.parametrize("verdict, sign", ANSWERS)
def test_an_arm_is_judged_by_the_depth_of_its_valley(verdict, sign):
    panel, rows, _ = valley(sign)
    arms, table, asked = panel.tables(rows)
    found = verdicts([asked])
    assert set(found) == {
        "training_view_flip", "training_view_none", "pca_32", "pca_off", "lr_0.01", "per_image_standardization_on",
        "sobel_fixed",
    }  # fmt: skip
    for line in found.values():
        assert line["n"] == line["planned_n"] == 6 and line["missing"] == 0 and line["unlike_plan"] == ""
        assert line["value"] == pytest.approx(0.01 * sign, abs=0.004) and line["p_holm"] >= line["p"]
    counts = [line["verdict"] for line in found.values()].count(verdict)
    assert counts == 7 if sign else counts >= 5
    base = [line for line in lines_of(table) if line["arm"] == "base"] if "arm" in table.columns else []
    assert [line["cycle"] for line in base] == [0, 1, 2, 3] and base[0]["nmi_true_mean"] == pytest.approx(0.2)
    first = lines_of(arms)[0]
    assert (first["arm"], first["nmi_true_n"], len(arms.rows)) == ("base", 6, 8)
    assert first["fall_mean"] == pytest.approx(first["nmi_true_first_mean"] - first["nmi_true_lowest_mean"])
    assert first["nmi_true_first_mean"] == pytest.approx(0.2) and first["fall_mean"] == pytest.approx(0.15, abs=0.004)


def test_the_depth_is_the_fall_to_the_lowest_cycle_by_hand():
    arm = config_of("svhn", seed=1, k=500, cycles=4, pca=32)
    rows = [row_of(base_of_seed(1), ia=0.2), row_of(arm, ia=0.2)]
    curves = [[0.20, 0.05, 0.10, 0.30], [0.18, 0.17, 0.12, 0.15]]  # falls of .15 and .06
    cycles = pd.DataFrame(
        [{"run_id": row["run_id"], "cycle": i, "nmi_true": v} for row, c in zip(rows, curves) for i, v in enumerate(c)]
    )
    panel = PANELS["valley_arms"]
    line = verdicts(panel.tables(PanelRows(panel.select(rows).accuracy, cycles=cycles)))["pca_32"]
    assert line["value"] == pytest.approx(0.15 - 0.06) and line["low"] is None
    assert (line["verdict"], line["reason"], line["missing"]) == ("undecided", "1 of 6 seeds", 5)
    assert line["command"] == "python -m dc_hpc.submit --claim valley_arms"


@pytest.mark.parametrize("n", [2, 5])
def test_fewer_seeds_than_planned_decide_nothing(n):
    panel, rows, _ = valley(5.0, seeds=range(1, n + 1))
    for line in verdicts(panel.tables(rows)).values():
        assert (line["verdict"], line["reason"], line["p"]) == ("undecided", f"{n} of 6 seeds", None)


def test_a_run_that_differs_in_two_settings_is_no_arm_and_the_seeds_are_paired():
    text = config_of("svhn", protocol="text", seed=1, k=500, cycles=4)  # flip and the true filter
    other = config_of("svhn", seed=99, k=500, cycles=4)  # a base that no arm has the seed of
    runs = [*grid("svhn_valley", seed=[1, 2, 3]), text, other]
    panel, rows, _ = valley(1.0, runs=runs)
    table, _, asked = panel.tables(rows)
    assert {line["nmi_true_n"] for line in lines_of(table)} == {3} and {line["n"] for line in lines_of(asked)} == {3}


def test_trials_of_other_lengths_show_only_where_nothing_else_is_there():
    short = grid("svhn_valley", cycles=2, seed=[1, 2])
    panel, rows, _ = valley(1.0, runs=short)
    table, _, asked = panel.tables(rows)
    assert {line["cycles"] for line in lines_of(table)} == {2} and {
        line["unlike_plan"] for line in lines_of(asked)
    } == {"cycles=2"}
    assert all(line["command"].endswith(" --set cycles=2") for line in lines_of(asked))
    panel, rows, _ = valley(1.0, runs=[*short, *grid("svhn_valley")])
    assert {line["cycles"] for line in lines_of(panel.tables(rows)[0])} == {4}
    assert valley(1.0, runs=grid("svhn_valley", cycles=100))[1].accuracy == [], "longer runs are other figures'"


def test_the_arms_are_drawn_with_the_base_in_black():
    panel, rows, cycles = valley(1.0)
    with style():
        figure = panel.figure(rows, FigureSources(cycles, None, lambda name: None))
    (ax,) = figure.axes
    labels = [line.get_label() for line in ax.get_lines()]
    assert labels[0] == "base, n = 6" and len(labels) == 8 and ax.get_lines()[0].get_color() == "#222222"


@pytest.mark.parametrize("name", ["valley_svhn_k500", "nmi_svhn_k500"])
def test_the_arms_do_not_crowd_the_curves_of_the_papers_runs(name):
    """Where the paper's hundred cycles were run, their curves are shown without those of other lengths."""
    long = [row_of(config_of("svhn", seed=seed, k=500), ia=0.1, accuracy=50.0) for seed in (1, 2)]
    short = [row_of(run, ia=0.1, accuracy=50.0) for run in grid("svhn_valley")]
    alone, both = (PANELS[name].select(rows).accuracy for rows in (short, [*long, *short]))
    assert {cell.settings["cycles"] for _, cells in alone for cell in cells} == {4}
    assert {cell.settings["cycles"] for _, cells in both for cell in cells} == {100}


# Halts and views.


def halts(name, effect, configs=None, **overrides):
    """Accuracies of a grid: `effect` points more when halted after 1."""
    return [
        row_of(run, ia=0.1, accuracy=70 + run.seed + effect * (run.halt_cycle == 1) + 0.2 * noise(run.seed, str(run)))
        | {"test_images": 10_000_000}
        for run in (configs or grid(name, **overrides))
    ]


@pytest.mark.parametrize("verdict, sign", ANSWERS)
def test_halting_before_the_valley(verdict, sign):
    found = verdicts(tables_of(PANELS["valley_halts"], halts("svhn_valley_20", 3 * sign)))
    pairs = [f"halt_cycle_{more}_never_sobel_{sobel}" for sobel in ("fixed", "random") for more in (1, 4)]
    sobels = [f"sobel_fixed_random_{halt}" for halt in ("halted_after_1", "halted_after_4", "never_halted")]
    assert set(found) == {*pairs, *sobels}
    for sobel in ("random", "fixed"):
        line = found[f"halt_cycle_1_never_sobel_{sobel}"]
        assert (line["n"], line["planned_n"], line["unlike_plan"]) == (5, 5, "")
        assert line["verdict"] == verdict and line["value"] == pytest.approx(3 * sign, abs=0.4)
        assert line["words"] == f"accuracy is higher halted after 1 than never halted, sobel {sobel}"


def test_halts_of_four_seeds_decide_nothing():
    rows = halts("svhn_valley_20", 9.0, seed=[1, 2, 3, 4])
    assert {line["reason"] for line in verdicts(tables_of(PANELS["valley_halts"], rows)).values()} == {"4 of 5 seeds"}


def test_the_arm_that_is_run_first_is_shown_without_a_verdict():
    tables = tables_of(PANELS["valley_halts"], halts("svhn_valley_20", 30.0, sobel=["random"], seed=[1, 2]))
    assert [line["halt_cycle"] for line in lines_of(tables[0])] == [1, 4, "never"]
    found = verdicts(tables)
    assert found["halt_cycle_1_never_sobel_random"]["reason"] == "2 of 5 seeds"
    assert found["halt_cycle_1_never_sobel_random"]["value"] == pytest.approx(30, abs=1)
    assert found["sobel_fixed_random_never_halted"]["verdict"] == "not run"


def views(effect, seeds=range(1, 6)):
    """Fashion-MNIST by view and halt: box_per_image has `effect` points more than both others, at either halt."""
    configs = [
        config_of("fmnist", seed=seed, training_view=view, halt_cycle=halt)
        for seed in seeds
        for view in ("box_per_batch", "box_per_image", "none")
        for halt in (1, None)
    ]
    rows = halts("", 0.0, configs)
    return [row | {"accuracy": row["accuracy"] + effect * (row["training_view"] == "box_per_image")} for row in rows]


@pytest.mark.parametrize("verdict, sign", ANSWERS)
def test_views_are_compared_at_each_halt(verdict, sign):
    found = verdicts(tables_of(PANELS["views_fmnist"], views(3 * sign)))
    assert len(found) == 9 and {line["n"] for line in found.values()} == {5}
    for halt in ("halted_after_1", "never_halted"):
        line = found[f"training_view_box_per_image_box_per_batch_{halt}"]
        assert line["verdict"] == verdict and line["value"] == pytest.approx(3 * sign, abs=0.4)
        assert found[f"training_view_box_per_batch_none_{halt}"]["verdict"] == "undecided"
    halted = found["halt_cycle_1_never_training_view_none"]
    assert halted["words"] == "accuracy is higher halted after 1 than never halted, training_view none"


def test_views_of_two_seeds_have_no_interval():
    found = verdicts(tables_of(PANELS["views_fmnist"], views(3.0, seeds=(1, 2))))
    assert {(line["verdict"], line["low"]) for line in found.values()} == {("undecided", None)}


def test_other_halts_and_single_runs_of_other_figures_do_not_move_a_view():
    alone = [row_of(config_of("fmnist", seed=seed), ia=0.1, accuracy=10.0) for seed in range(50, 60)]
    later = [row_of(config_of("fmnist", seed=seed, halt_cycle=30), ia=0.1, accuracy=10.0) for seed in range(1, 6)]
    table, asked = tables_of(PANELS["views_fmnist"], [*views(3.0), *alone, *later])
    assert {line["accuracy_n"] for line in lines_of(table)} == {5} and {line["n"] for line in lines_of(asked)} == {5}


def test_one_view_alone_compares_nothing():
    assert tables_of(PANELS["views_fmnist"], [row for row in views(3.0) if row["training_view"] == "none"]) == []


def test_an_interval_of_accuracies_covers_the_test_images():
    """The same accuracies of 100 test images have a wider interval than of ten million."""
    wide, narrow = (
        verdicts(tables_of(PANELS["views_fmnist"], [row | {"test_images": n} for row in views(3.0)]))
        for n in (100, 10_000_000)
    )
    name = "training_view_box_per_image_none_never_halted"
    assert wide[name]["high"] - wide[name]["low"] > 3 * (narrow[name]["high"] - narrow[name]["low"])


def test_a_line_for_each_view():
    panel = PANELS["views_fmnist"]
    rows = panel.select(views(3.0))
    with style():
        figure = panel.figure(rows, FigureSources(pd.DataFrame(), None, lambda name: None))
    assert [group.settings["training_view"] for group, _ in rows.accuracy] == ["box_per_batch", "box_per_image", "none"]
    assert figure is not None and "never" in [tick.get_text() for tick in figure.axes[0].get_xticklabels()]


# IA and gain.


def layers(sign, *, name="svhn_ia_layers", gain=1.0, runs=None):
    """Accuracy rises with IA by `sign`; all of it lies in the untrained nets, where `gain` is 0."""
    rows = []
    for run in runs or grid(name):
        plan = QUESTION_PLANS["ia_layers_random" if run.sobel == "random" else "ia_layers_fixed"].seeds
        rank = plan.index(run.seed) if run.seed in plan else run.seed % 16
        untrained = 30 + 0.5 * sign * rank + (0.5 * noise(run.seed) if not sign else 0)
        added = 10 + 0.3 * sign * rank * gain + 0.05 * noise("gain", run.seed)
        accuracy = 90.0 if run.labels else untrained + (added if run.cycles else 0)
        every = {layer: accuracy + place for place, layer in enumerate(run.probe)}
        rows.append(row_of(run, ia=None if run.labels else 0.18 + rank / 400, accuracy=accuracy, layers=every))
    return rows


@pytest.mark.parametrize(
    "panel, name", [("ia_layers_fixed", "svhn_ia_layers"), ("ia_layers_random", "svhn_ia_layers_random")]
)
@pytest.mark.parametrize("verdict, sign", ANSWERS)
def test_ia_against_accuracy_and_gain_at_seven_layers(panel, name, verdict, sign):
    table, points, asked = tables_of(PANELS[panel], layers(sign, name=name))
    found = verdicts([asked])
    assert len(found) == 14 and {line["n"] for line in found.values()} == {16}
    assert found["accuracy_relu5"]["verdict"] == found["gain_fc1"]["verdict"] == verdict
    first = lines_of(table)[0]
    assert [line["layer"] for line in lines_of(table)] == ["relu1", "relu2", "relu3", "relu4", "relu5", "fc1", "fc2"]
    assert (first["clustered_n"], first["untrained_n"], first["supervised_n"]) == (16, 16, 5)
    assert first["accuracy_supervised_median"] == 91.0 and len(points.rows) == 7 * 16
    if sign:
        assert first["rho_accuracy"] == pytest.approx(sign)


def test_accuracy_that_the_untrained_nets_have_already_is_no_gain():
    found = verdicts(tables_of(PANELS["ia_layers_fixed"], layers(1.0, gain=0.0)))
    assert found["accuracy_relu5"]["verdict"] == "supported"
    assert found["gain_relu5"]["verdict"] == "undecided" and abs(found["gain_relu5"]["value"]) < 0.6


def test_the_gain_is_over_the_same_seed_by_hand():
    rows = []
    for seed, (untrained, trained) in {24: (30.0, 37.0), 57: (50.0, 52.0)}.items():
        settings = dict(seed=seed, sobel="fixed", probe=("relu5",))
        rows.append(row_of(config_of("svhn", cycles=0, **settings), ia=0.1 + seed / 999, accuracy=untrained))
        rows.append(
            row_of(config_of("svhn", cycles=20, halt_cycle=1, **settings), ia=0.1 + seed / 999, accuracy=trained)
        )
    table, points, asked = tables_of(PANELS["ia_layers_fixed"], rows)
    assert [(line["seed"], line["gain"]) for line in lines_of(points)] == [(24, 7.0), (57, 2.0)]
    line = verdicts([asked])["gain_relu5"]
    assert (line["verdict"], line["reason"]) == ("undecided", "2 of 16 seeds")


def test_nets_without_their_untrained_net_have_no_gain():
    rows = [row for row in layers(1.0) if row["cycles"] or row["seed"] != 24]
    found = verdicts(tables_of(PANELS["ia_layers_fixed"], rows))
    assert (found["accuracy_relu5"]["n"], found["gain_relu5"]["n"]) == (16, 15)
    assert found["gain_relu5"]["reason"] == "15 of 16 seeds"


def test_dark_filters_and_other_filters_are_left_out():
    dark = next(seed for seed in range(1, 101) if luminances()[seed] < 0.3)
    runs = [config_of("svhn", seed=dark, cycles=20, halt_cycle=1, probe=("relu5", "relu1"))]
    rows = [*layers(1.0, name="svhn_ia_layers_random"), *layers(1.0, runs=runs), *layers(1.0)]
    found = verdicts(tables_of(PANELS["ia_layers_random"], rows))
    assert {line["n"] for line in found.values()} == {16}


def test_the_gain_is_drawn_for_each_layer():
    panel = PANELS["ia_layers_fixed"]
    rows = panel.select(layers(1.0))
    with style():
        figure = panel.figure(rows, FigureSources(pd.DataFrame(), None, lambda name: None))
    drawn = [ax for ax in figure.axes if ax.get_visible()]
    assert [ax.get_title(loc="left").splitlines()[0] for ax in drawn] == [
        "relu1", "relu2", "relu3", "relu4", "relu5", "fc1", "fc2",
    ]  # fmt: skip
    assert all("n = 16, rho " in ax.get_title(loc="left") for ax in drawn)
