"""The questions beyond the paper: arms, predictions, verdicts, plans, and that the paper's own verdicts stay."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from support.recorded_runs import JOBS, config_of, frame, row_of, rows_of

from dc_hpc.config.grid import read_grid
from dc_hpc.report.claims.catalog import CLAIMS
from dc_hpc.report.claims.plans import PLANS as PAPER_PLANS
from dc_hpc.report.claims.rules import Measured
from dc_hpc.report.columns import describe_column
from dc_hpc.report.figures.questions.forest import forest
from dc_hpc.report.figures.style import figure_bytes, style
from dc_hpc.report.findings import PanelFindings, collect, panels_of
from dc_hpc.report.output_files import all_questions
from dc_hpc.report.panels.grouping import Cell
from dc_hpc.report.panels.panel import FigureSources
from dc_hpc.report.questions.arms import ORACLE, arm_of, difference, saved_share
from dc_hpc.report.questions.catalog import QUESTIONS
from dc_hpc.report.questions.choosing import predictions
from dc_hpc.report.questions.plans import PLANS, plan_of
from dc_hpc.report.questions.prediction import Prediction
from dc_hpc.report.questions.question import cell_of
from dc_hpc.report.statistics import spearman
from dc_hpc.report.tables.text_tables import csv_of

PANELS = {panel.name: panel for one in QUESTIONS if one.name.startswith("beyond") for panel in one.panels}
EFFECTS = {"once": 70.0, "always": 74.0, "halted": 72.0, "rule effective_rank": 75.0, "rule plateau": 74.5,
           "soft reset": 76.0, "another": 69.8}  # fmt: skip


def rows_of_grids(*names, seeds=None, **overrides):
    """Every run of the grids, done: an accuracy by its arm and seed, and clusterings as its arm has."""
    found = []
    for name in names:
        for config in read_grid(JOBS / f"{name}.yaml", data_root=JOBS, overrides=overrides).runs.values():
            if seeds is None or config.seed in seeds:
                row = row_of(config, ia=0.3 + 0.001 * config.seed, accuracy=1.0)
                effect = next(value for arm, value in EFFECTS.items() if arm_of(row)[2].startswith(arm))
                noise = 0.1 * np.sin(config.seed * 1.7 + len(arm_of(row)[2]))
                clusterings = config.halt_cycle or (8 if config.halt_rule else config.cycles)
                cells = {
                    "accuracy": effect + 0.5 * config.seed % 3 + noise + config.k / 1000,
                    "clusterings": clusterings,
                }
                cells |= {"nmi_true_last": 0.4 - 0.01 * abs(5 - clusterings), "seconds_clustered": 2.0 * clusterings}
                cells |= {"test_images": 10_000_000}
                found.append(row | cells)
    return found


def cycles_of(rows, measures):
    """A frame of cycles: of each clustering what `measures(row, cycle)` says."""
    found = [
        {"run_id": row["run_id"], "cycle": cycle, "reassign": cycle < row["clusterings"]} | measures(row, cycle)
        for row in rows
        for cycle in sorted({0, row["clusterings"] - 1, row["clusterings"]})
    ]
    return pd.DataFrame(found).astype({"reassign": "boolean"})


def no_cycles():
    return pd.DataFrame({"run_id": [], "cycle": [], "reassign": []})


def found_of(panel, rows, cycles=None):
    """What the report finds for a panel, without the claims of the paper."""
    own = replace(PANELS[panel].select(rows_of(*rows)), cycles=no_cycles() if cycles is None else cycles)
    return PanelFindings(PANELS[panel], own, PANELS[panel].tables(own), [], [])


def table_rows(table):
    return list(csv.DictReader(io.StringIO(csv_of(table))))


# The plans and the grids.


def test_a_question_and_a_claim_have_plans_by_different_names():
    assert not set(PLANS) & set(PAPER_PLANS)
    assert plan_of("fig_5b.dip") is PAPER_PLANS["fig_5b.dip"] and {one.declared for one in PLANS.values()} == {
        "2026-11-29"
    }
    assert not any(claim.panel.startswith("beyond") for claim in CLAIMS)


@pytest.mark.parametrize("name", PANELS)
def test_the_grids_of_a_panel_reach_the_planned_n_of_its_questions(name):
    panel = PANELS[name]
    rows = rows_of_grids(*panel.grids)

    def measures(row, cycle):
        return {
            "ami_true": row["seed"] + row["k"] + cycle,
            "effective_rank": 9.0 - row["seed"] - row["k"] - cycle,
            "silhouette": row["seed"] / row["k"],
        }

    found = found_of(name, rows, cycles_of(rows, measures))
    judged = panel.verdicts(found.rows)
    assert {line.question.name for line in judged} == {one.name for one in panel.questions}
    for line in judged:
        plan, judged_as = line.plan, line.judged
        assert line.unlike_plan == "" and set(plan.grids) <= set(panel.grids)
        assert line.measured.n == plan.n, (line.question.name, line.measured)
        assert line.missing == 0 and line.command == ""
        assert judged_as.verdict in ("supported", "contradicted", "undecided") and judged_as.p is not None
        assert line.p_holm >= judged_as.p


def test_a_question_asks_for_its_grid_as_it_is():
    plan = plan_of("beyond_teacher_fmnist")
    assert plan.overrides("beyond_teacher_fmnist") == {}
    assert plan.overrides("beyond_teacher_fmnist", {"cycles": 2, "dataset": "svhn-derived"}) == {"cycles": 2}
    svhn = plan_of("beyond_reset_svhn")
    assert svhn.overrides("beyond_reset_svhn", {"dataset": "svhn-derived"}) == {"dataset": "svhn-derived"}


# Arms.


def test_an_arm_is_named_by_what_follows_the_first_clustering():
    changes = [
        ({"halt_cycle": 1}, "once"), ({}, "always"), ({"halt_cycle": 10}, "halted 10"),
        ({"halt_rule": "effective_rank"}, "rule effective_rank"),
        ({"halt_rule": "plateau", "halt_patience": 5, "halt_tolerance": 1.0}, "rule plateau, patience 5, tolerance 1"),
        ({"soft_reset": 0.2}, "soft reset 0.2"), ({"teacher_seed": 5, "halt_cycle": 1}, "another net's labels"),
        ({"halt_rule": "effective_rank", "soft_reset": 0.2, "halt_cycle": 9},
         "rule effective_rank, soft reset 0.2, at most 9"),
    ]  # fmt: skip
    for settings, name in changes:
        assert arm_of(row_of(config_of("fmnist", seed=1, **settings)))[2] == name


def test_arms_are_compared_seed_by_seed():
    rows = rows_of_grids("beyond_halting_fmnist")
    found = found_of("beyond_halting_fmnist", rows)
    one = found.rows.accuracy[0]
    of = {arm: {row["seed"]: row["accuracy"] for row in rows if row["k"] == 5 and arm_of(row)[2] == arm}
          for arm in ("always", "rule effective_rank")}  # fmt: skip
    expected = np.mean([of["rule effective_rank"][seed] - of["always"][seed] for seed in range(1, 9)])
    measured = difference(one, "rule effective_rank", "always")
    assert measured.value == pytest.approx(expected) and measured.n == 8
    assert measured.interval.low < expected < measured.interval.high
    assert saved_share(one, cell_of(one, "rule effective_rank"), "always").value == pytest.approx(1 - 8 / 50)


def test_the_oracle_takes_the_labels_that_agree_best_with_the_truth():
    rows = rows_of_grids("beyond_halting_fmnist")
    one = found_of("beyond_halting_fmnist", rows).rows.accuracy[0]
    assert {row["halt_cycle"] for row in cell_of(one, ORACLE).rows} == {5}
    assert sorted(row["seed"] for row in cell_of(one, ORACLE).rows) == list(range(1, 9))
    lacking = [row for row in rows if (row["seed"], row["halt_cycle"]) != (3, 20)]
    one = found_of("beyond_halting_fmnist", lacking).rows.accuracy[0]
    assert sorted(row["seed"] for row in cell_of(one, ORACLE).rows) == [1, 2, 4, 5, 6, 7, 8]


def test_the_oracle_takes_the_runs_that_the_arms_take():
    """Of two runs of one setting that of the newest numerics counts, in whatever order their names are."""
    rows = rows_of_grids("beyond_halting_fmnist")
    older = [
        row | {"run_id": f"{row['run_id']}-z", "numerics": 1, "accuracy": 1.0} for row in rows if not row["halt_rule"]
    ]
    one = found_of("beyond_halting_fmnist", [row | {"numerics": 2} for row in rows] + older).rows.accuracy[0]
    oracle = cell_of(one, ORACLE)
    assert oracle.values("accuracy") == cell_of(one, "halted 5").values("accuracy") and len(oracle.rows) == 8


def test_the_oracle_waits_for_every_halting_position():
    rows = [row for row in rows_of_grids("beyond_halting_fmnist") if row["halt_cycle"] != 20]
    assert cell_of(found_of("beyond_halting_fmnist", rows).rows.accuracy[0], ORACLE).rows == []
    shorter = rows_of_grids("beyond_halting_fmnist", cycles=10)  # no run of these halts after 20 clusterings
    assert len(cell_of(found_of("beyond_halting_fmnist", shorter).rows.accuracy[0], ORACLE).rows) == 8


def test_seeds_of_other_figures_do_not_join():
    """The paper's halting grid has the same settings at other seeds, and no rule."""
    rows = rows_of_grids("beyond_halting_fmnist", seeds={1, 2, 3}) + rows_of_grids("fmnist_halt")
    one = found_of("beyond_halting_fmnist", rows).rows.accuracy[0]
    assert {row["seed"] for row in one.group.rows} == {1, 2, 3}
    alone = found_of("beyond_halting_fmnist", rows_of_grids("fmnist_halt"))
    assert not any(table.rows for table in alone.tables) and not alone.rows.accuracy


def test_halting_positions_of_other_figures_do_not_join():
    """Figure 5a halts after 30 clusterings, too, at some of the planned seeds: no other seed ever has that position."""
    rows = rows_of_grids("beyond_choosing_fmnist", "beyond_halting_fmnist")
    rows = list({row["run_id"]: row for row in rows}.values()) + rows_of_grids("fmnist_halt", seed=6, halt_cycle=30)
    cycles = cycles_of(rows, lambda row, cycle: {"ami_true": float(row["k"] + cycle), "effective_rank": float(cycle)})
    for name in ("beyond_halting_fmnist", "beyond_choosing_fmnist"):
        judged = [line for line in PANELS[name].verdicts(found_of(name, rows, cycles).rows) if not line.unlike_plan]
        asked = [line for line in judged if line.question.name.endswith(("_oracle", "_cycles"))]
        assert asked and {line.measured.n for line in asked} == {8}
    one = found_of("beyond_halting_fmnist", rows).rows.accuracy[0]
    assert "halted 30" not in [cell.settings["arm"] for cell in one.cells]


def test_a_verdict_waits_for_its_planned_seeds():
    rows = rows_of_grids("beyond_teacher_fmnist", seeds=range(1, 8))
    panel = PANELS["beyond_teacher_fmnist"]
    judged = panel.verdicts(found_of(panel.name, rows).rows)
    assert [(line.judged.verdict, line.judged.reason) for line in judged] == [("undecided", "7 of 8 seeds")] * 2
    assert {(line.missing, line.command) for line in judged} == {
        (1, "python -m dc_hpc.submit --claim beyond_teacher_fmnist")
    }
    assert [line.setting for line in judged] == ["k 5", "k 200"]


def test_a_trial_with_other_cycles_says_so_and_is_not_corrected_for():
    rows = rows_of_grids("beyond_teacher_fmnist", cycles=2)
    panel = PANELS["beyond_teacher_fmnist"]
    judged = panel.verdicts(found_of(panel.name, rows).rows)
    assert {line.unlike_plan for line in judged} == {"cycles=2"}
    assert all(line.judged.p is not None and line.p_holm is None for line in judged)


# Predictions.


def chosen(rows, **wanted):
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


def test_over_seeds_rho_is_that_of_the_first_clustering_with_accuracy():
    rows = rows_of_grids("beyond_choosing_fmnist")
    rng = np.random.default_rng(0)
    rank, alpha = ({row["run_id"]: float(one) for row, one in zip(rows, rng.normal(1, 1, len(rows)))} for _ in range(2))

    def measures(row, cycle):
        return {
            "effective_rank": rank[row["run_id"]] + 100 * cycle,
            "spectrum_alpha": alpha[row["run_id"]] + 100 * cycle,
            "inertia_per_point": rank[row["run_id"]] + 100 * cycle,
        }

    found = found_of("beyond_choosing_fmnist", rows, cycles_of(rows, measures))
    by = {(one.over, one.k, one.column): one for one in predictions(found.rows.accuracy[0], found.rows)}
    own = chosen(rows, k=200)
    accuracy = [row["accuracy"] for row in own]
    expected = spearman([rank[row["run_id"]] for row in own], accuracy)
    assert by["seeds", 200, "effective_rank"].rho.value == pytest.approx(expected)
    assert by["seeds", 200, "inertia_per_point"].rho.value == pytest.approx(-expected), (
        "the lowest inertia is preferred"
    )
    near = [-abs(alpha[row["run_id"]] - 1) for row in own]
    assert by["seeds", 200, "spectrum_alpha"].rho.value == pytest.approx(spearman(near, accuracy))
    last = spearman([rank[row["run_id"]] + 100 * (row["clusterings"] - 1) for row in own], accuracy)
    assert by["seeds, trained", 200, "effective_rank"].rho.value == pytest.approx(last)
    best = max(own, key=lambda row: rank[row["run_id"]])["accuracy"]
    assert by["seeds", 200, "effective_rank"].lost == pytest.approx(max(accuracy) - best)
    assert by["seeds", 200, "effective_rank"].rho.n == 20 and ("seeds", 200, "silhouette") not in by
    assert ("k", None, "effective_rank") in by and not any(over == "cycles" for over, *_ in by)


def test_over_k_and_over_cycles_rho_is_the_mean_within_seeds():
    rows = rows_of_grids("beyond_choosing_fmnist", "beyond_halting_fmnist")
    rows = list({row["run_id"]: row for row in rows}.values())

    def measures(row, cycle):
        return {"effective_rank": float(row["k"] + cycle)}

    found = found_of("beyond_choosing_fmnist", rows, cycles_of(rows, measures))
    by = {(one.over, one.k): one.rho for one in predictions(found.rows.accuracy[0], found.rows)}
    plain = [row for row in rows if not row["halt_rule"]]
    within = []
    for seed in range(1, 9):
        never = sorted(chosen(plain, seed=seed, halt_cycle=None), key=lambda row: row["k"])
        within.append(spearman([row["k"] for row in never], [row["accuracy"] for row in never]))
    assert by["k", None].value == pytest.approx(np.mean(within)) and by["k", None].n == 8
    assert by["k, trained", None].value == pytest.approx(np.mean(within))
    within = [
        spearman([row["clusterings"] for row in own], [row["accuracy"] for row in own])
        for seed in range(1, 9)
        for own in [chosen(plain, seed=seed, k=5)]
    ]
    assert by["cycles", 5].value == pytest.approx(np.mean(within)) and by["cycles", 5].n == 8


def test_the_first_clustering_may_be_that_of_an_ia_run():
    """Runs of an earlier version lack a measure; their IA runs, computed again, have it."""
    rows = rows_of_grids("beyond_choosing_fmnist", seeds=range(1, 9))
    alone = [row_of(config_of("fmnist", k=row["k"], seed=row["seed"], cycles=0, probe=()), ia=0.3) | {"clusterings": 1}
             for row in rows]  # fmt: skip
    cycles = cycles_of(alone, lambda row, cycle: {"silhouette": float(row["seed"])})
    found = found_of("beyond_choosing_fmnist", rows + alone, cycles)
    by = {(one.over, one.k, one.column): one.rho for one in predictions(found.rows.accuracy[0], found.rows)}
    assert by["seeds", 5, "silhouette"].n == 8


def test_the_first_clustering_is_that_of_the_run_itself_where_it_is_known():
    """Other numerics may cluster otherwise, and their runs may have a name that comes first."""
    rows = [row | {"numerics": 2} for row in rows_of_grids("beyond_choosing_fmnist", seeds=range(1, 9))]
    older = [row | {"run_id": f"a-{row['run_id']}", "numerics": 1} for row in rows]
    cycles = cycles_of(older + rows, lambda row, cycle: {"ami_true": row["accuracy"] * (3 - 2 * row["numerics"])})
    found = found_of("beyond_choosing_fmnist", older + rows, cycles)
    by = {(one.over, one.k): one.rho.value for one in predictions(found.rows.accuracy[0], found.rows)}
    assert by["seeds", 5] == by["seeds, trained", 5] == -1.0


def test_the_seeds_are_chosen_at_the_k_of_the_question():
    """At k 5 the measure agrees with accuracy, at k 200 it disagrees; k 200 has one run more."""
    rows = rows_of_grids("beyond_choosing_fmnist")
    rows = [row for row in rows if (row["k"], row["seed"]) != (5, 20)]
    sign = {row["run_id"]: row["accuracy"] * (1 if row["k"] == 5 else -1) for row in rows}
    cycles = cycles_of(rows, lambda row, cycle: {"ami_true": sign[row["run_id"]]})
    found = found_of("beyond_choosing_fmnist", rows, cycles)
    (line,) = [
        line for line in PANELS["beyond_choosing_fmnist"].verdicts(found.rows) if line.question.name == "ia_seeds"
    ]
    assert (line.measured.value, line.measured.n, line.question.words) == (1.0, 19, "IA tells the better seed at k 5")


def test_a_seed_that_lacks_a_halting_position_does_not_count():
    rows = rows_of_grids("beyond_choosing_fmnist", "beyond_halting_fmnist")
    rows = list({row["run_id"]: row for row in rows}.values())
    rows = [row for row in rows if not (row["seed"] == 3 and row["halt_cycle"] == 10)]
    cycles = cycles_of(rows, lambda row, cycle: {"effective_rank": float(row["k"] + cycle)})
    found = found_of("beyond_choosing_fmnist", rows, cycles)
    by = {(one.over, one.k): one.rho.n for one in predictions(found.rows.accuracy[0], found.rows)}
    assert (by["cycles", 5], by["cycles", 200], by["k", None]) == (7, 7, 8)


def test_a_trial_with_another_tolerance_answers_no_question():
    rows = rows_of_grids("beyond_halting_fmnist")
    other = {"halt_tolerance": 0.001, "accuracy": 1.0}
    trials = [row | other | {"run_id": f"{row['run_id']}-b"} for row in rows if row["halt_rule"] == "plateau"]
    panel = PANELS["beyond_halting_fmnist"]
    alone, beside = (panel.verdicts(panel.select(part)) for part in (rows, rows + trials))
    assert len(trials) == 16
    assert [(one.measured.value, one.measured.n) for one in alone] == [
        (one.measured.value, one.measured.n) for one in beside
    ]


def test_two_seeds_are_no_missing_runs():
    rows = rows_of_grids("beyond_choosing_fmnist")
    rows = [row for row in rows if row["k"] == 200 or row["seed"] in (1, 4)]
    cycles = cycles_of(rows, lambda row, cycle: {"ami_true": row["accuracy"]})
    judged = PANELS["beyond_choosing_fmnist"].verdicts(found_of("beyond_choosing_fmnist", rows, cycles).rows)
    (line,) = [line for line in judged if line.question.name == "ia_seeds"]
    assert (line.judged.verdict, line.judged.reason, line.measured.n) == ("undecided", "2 of 20 seeds", 2)


def test_a_verdict_over_k_waits_for_every_k():
    """The runs that nobody has begun are known of the official file only, and no copy of SVHN is that file."""
    copies = [row | {"dataset": "svhn-derived"} for row in rows_of_grids("beyond_choosing_svhn")]
    panel = PANELS["beyond_choosing_svhn"]
    for rows, seeds in ((copies, 8), ([row for row in copies if row["k"] != 500], 0)):
        cycles = cycles_of(rows, lambda row, cycle: {"ami_true": row["accuracy"], "effective_rank": row["accuracy"]})
        judged = panel.verdicts(found_of(panel.name, rows, cycles).rows)
        assert {line.measured.n for line in judged if line.question.name in ("ia_k", "effective_rank_k_trained")} == {
            seeds
        }


def test_the_lines_over_k_are_of_the_seeds_of_the_questions():
    """Figure 4a has every k at further seeds, of which some are planned for the choice among seeds alone."""
    rows = rows_of_grids("beyond_choosing_fmnist") + rows_of_grids("beyond_choosing_fmnist", seed=[9, 11])
    rows = list({row["run_id"]: row for row in rows}.values())
    cycles = cycles_of(rows, lambda row, cycle: {"ami_true": np.sin(row["seed"] * row["k"])})
    table, questions = map(table_rows, found_of("beyond_choosing_fmnist", rows, cycles).tables)
    (line,) = [row for row in table if row["over"] == "k"]
    (question,) = [row for row in questions if row["question"] == "ia_k"]
    assert (line["rho_n"], line["rho"]) == (question["n"], question["value"]) == ("8", question["value"])


def test_runs_of_one_k_are_other_panels():
    rows = rows_of_grids("beyond_choosing_fmnist")
    assert found_of("beyond_choosing_fmnist", chosen(rows, k=5)).rows.accuracy == []
    assert len(found_of("beyond_choosing_fmnist", chosen(rows, k=5) + chosen(rows, k=200)).rows.accuracy) == 1


# Tables, figures, and the paper's own.


def test_without_a_run_every_question_is_not_run_and_a_panel_has_no_table():
    rows = rows_of_grids("fmnist_halt")
    data = collect(frame(rows), no_cycles(), panels_of([]), jobs=JOBS / "nowhere", data=JOBS)
    (table,) = all_questions(data.panels)
    found = table_rows(table)
    every = [question for one in QUESTIONS for panel in one.panels for question in panel.asks()]
    assert len(found) == len(every) and {row["verdict"] for row in found} == {"not run"}
    assert {row["n"] for row in found} == {"0"} and all(int(row["missing"]) > 0 for row in found)
    assert table.lines == [] and f": {len(every)} not run." in table.caption
    assert not any(one.panel.name in PANELS for one in data.shown)


def test_the_papers_verdicts_and_their_correction_do_not_change():
    """The Initial Alignment of a run with a rule or resets is one of the paper's; its accuracy is not."""
    rows = rows_of_grids("fmnist_halt")
    own = rows_of_grids("beyond_halting_fmnist", "beyond_teacher_fmnist", "beyond_reset_fmnist")
    plain = [row | {"ia": None, "ia_ami": None} for row in own if arm_of(row)[0] > 2]
    before, after = (
        collect(frame(part), no_cycles(), [], jobs=JOBS, data=JOBS).verdicts for part in (rows, rows + plain)
    )
    pd.testing.assert_frame_equal(before, after)


def test_runs_of_the_grids_are_no_sweep_of_somebodys_own():
    rows = list({row["run_id"]: row for panel in PANELS.values() for row in rows_of_grids(*panel.grids)}.values())
    data = collect(frame(rows), no_cycles(), panels_of([]), jobs=JOBS, data=JOBS)
    assert [one.panel.name for one in data.sweeps] == []


def test_runs_of_the_grids_on_a_copy_of_svhn_are_no_sweep_either():
    """The digests of a copy are others, so that its runs have other names than those that the grids ask for."""
    rows = rows_of_grids("beyond_choosing_svhn") + rows_of_grids("beyond_reset_svhn")
    rows = [row | {"run_id": f"{row['run_id']}-copy", "dataset": "svhn-derived"} for row in rows]
    rows = list({row["run_id"]: row for row in rows}.values())
    data = collect(frame(rows), no_cycles(), panels_of([]), jobs=JOBS, data=JOBS)
    assert [one.panel.name for one in data.sweeps] == []


def test_the_titles_of_the_predictions_end_before_the_next_ones_begin():
    """Numbers of runs that differ between the measures, such as 15 to 20, make the longest titles."""
    few, many = (Measured(0.5, n=n) for n in (15, 20))
    found = [
        (Prediction("seeds, trained", k, "ami_true", rho, 1.0), "IA above chance")
        for k in (5, 10, 20, 200)
        for rho in (few, many)
    ]
    settings = {"dataset": "fmnist", "protocol": "code", "sobel": "off", "cycles": 50}
    with style():
        figure = forest(Cell(settings, []), found)
        figure.canvas.draw()
        ends = [max((one.get_window_extent() for one in (ax.title, ax._left_title)), key=lambda box: box.width)
                for ax in figure.axes]  # fmt: skip
    assert all(one.x1 < other.x0 for one, other in zip(ends, ends[1:])) and ends[-1].x1 <= figure.bbox.x1


@pytest.mark.parametrize("name", PANELS)
def test_tables_and_figures_are_made_and_every_column_is_described(name):
    panel = PANELS[name]
    rows = rows_of_grids(*panel.grids)
    cycles = cycles_of(
        rows, lambda row, cycle: {"ami_true": row["seed"] * 1.0, "effective_rank": row["k"] + row["seed"] / 9}
    )
    found = found_of(name, rows, cycles)
    assert [table.name for table in found.tables] == [name, f"{name}_questions"]
    for table in (*found.tables, *all_questions([found])):
        assert [column for column in table.columns if describe_column(table.name, column) is None] == []
    with style():
        figure = panel.figure(found.rows, FigureSources(cycles, JOBS, lambda dataset: None))
        assert figure is not None and figure_bytes(figure)["png"][:4] == b"\x89PNG"
