"""Every table of the paper from recorded runs: it has the right runs, all of them, and pools none with others."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from support.recorded_runs import config_of, findings_of, frame, grid_rows, row_of, rows_of, tables_of

from dc_hpc.report.findings import mixed, panels_of
from dc_hpc.report.grid_states import GridState, absent_rows, command, grid_states, missing_text
from dc_hpc.report.panels.accuracy import AccuracyPanel
from dc_hpc.report.panels.alignment import AlignmentPanel
from dc_hpc.report.panels.both import BothPanel
from dc_hpc.report.panels.curves import CurvesPanel
from dc_hpc.report.panels.features import FeaturesPanel
from dc_hpc.report.panels.findings.kmeans_share import KmeansSharePanel
from dc_hpc.report.panels.findings.luminance import LuminancePanel
from dc_hpc.report.panels.findings.seed_by_seed import SeedBySeedPanel
from dc_hpc.report.panels.findings.valley import ValleyPanel
from dc_hpc.report.panels.layers import LayersPanel
from dc_hpc.report.panels.matching import accuracy_rows, alignment_rows, probed_rows
from dc_hpc.report.panels.paper import ENTRIES, PANELS
from dc_hpc.report.panels.relation import RelationPanel
from dc_hpc.report.questions.choosing import ChoosingPanel
from dc_hpc.report.questions.gain import GainPanel
from dc_hpc.report.run_tables import settings_table
from dc_hpc.report.tables.latex import latex_of
from dc_hpc.report.tables.text_tables import csv_of, markdown_of

ROOT = Path(__file__).parents[2]
JOBS = ROOT / "jobs"
NOWHERE = Path("/nonexistent")
DEMONSTRATIONS = {"fmnist_demo"}


# The column of each kind's first table that counts the runs; the tables of the other kinds do not count all.
COUNTED = {
    RelationPanel: "rho_n",
    BothPanel: "accuracy_n",
    AccuracyPanel: "accuracy_n",
    AlignmentPanel: "ia_n",
    CurvesPanel: "nmi_true_last_n",
}


def runs_of(panel, rows):
    """The runs that match a panel: by their IA, by any probe, or by their accuracy."""
    if isinstance(panel, AlignmentPanel | FeaturesPanel | SeedBySeedPanel):
        return alignment_rows(panel, rows)
    if isinstance(panel, GainPanel):
        return probed_rows(panel, rows, free=("k", "labels", "halt_cycle"))
    if isinstance(panel, LayersPanel):
        return probed_rows(panel, rows, free=("k", "labels"))
    return [row for row in accuracy_rows(panel, rows) if row["accuracy"] is not None]


def lines_of(table) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(csv_of(table))))


def test_every_table_and_figure_of_the_paper_has_its_entry():
    named = (
        "table_1 fig_2 fig_3 fig_4 fig_5 fig_6 table_a1 table_a2 fig_a1 fig_b1 fig_b2 fig_b3 sobel leak probe_layers"
    ).split()
    assert set(named) <= set(ENTRIES)
    parts = {name: [panel.name for panel in ENTRIES[name].panels] for name in ("fig_3", "table_1", "sobel")}
    assert parts["fig_3"] == ["fig_3a", "fig_3b", "fig_3c"] and len(parts["table_1"]) == 3
    assert [PANELS[f"fig_4{letter}"].base for letter in "abc"] == ["fmnist", "svhn", "cifar10"]


def test_every_grid_belongs_to_a_panel_and_is_there():
    named = {name for panel in PANELS.values() for name in panel.grids}
    assert named == {path.stem for path in JOBS.glob("*.yaml")} - DEMONSTRATIONS


# These compare some of the runs of other panels: pairs of initialisations, filters, two runs of one curve, measures.
SELECTING = (KmeansSharePanel, LuminancePanel, ValleyPanel, ChoosingPanel)


@pytest.mark.parametrize(
    "name", [name for name, panel in PANELS.items() if name != "table_1a" and not isinstance(panel, SELECTING)]
)
def test_every_run_of_its_grids_is_in_the_panel(name):
    panel = PANELS[name]
    rows = rows_of(*grid_rows(*panel.grids))
    if isinstance(panel, CurvesPanel):  # curves show the runs that are never halted
        rows = [row for row in rows if row["halt_cycle"] is None]
    matching = runs_of(panel, rows)
    ids = {row["run_id"] for row in matching}
    if isinstance(panel, RelationPanel | BothPanel):  # the grids of IA alone count for IA, not for accuracy
        ids |= {row["run_id"] for row in rows if row["cycles"] == 0}
    assert ids == {row["run_id"] for row in rows}
    table = tables_of(panel, rows)[0]
    counted = COUNTED.get(type(panel))
    if counted:
        assert sum(int(line[counted]) for line in lines_of(table)) == len(matching)
    assert latex_of(table).count(" \\\\\n") >= len(table.lines) + 1
    assert max(map(len, markdown_of(table, width=110).splitlines())) <= 110


def test_what_a_panel_fixes_is_named():
    for name in ("fig_5b", "leak_svhn", "nmi_svhn_k500", "fig_4c"):
        panel = PANELS[name]
        caption = tables_of(panel, rows_of(*grid_rows(*panel.grids)))[0].caption
        settings = caption.replace("batch_size", "batch size")
        assert all(f"{key.replace('_', ' ')} {value}" in settings for key, value in panel.fixed.items()), caption


def test_the_search_of_table_1_finds_the_best_setting():
    rows = grid_rows("cifar10_table_1_stage_1")
    for row in rows:
        row["accuracy"] = 30.0 + (row["k"] == 2000) + 0.5 * (row["pca"] == 64)
    table, every = tables_of(PANELS["table_1c"], rows_of(*rows))
    found = {(line["setting"], line["value"]): line for line in lines_of(table)}
    assert found["k", "2000"]["ours"] == "x" and found["k", "1000"]["paper"] == "x"
    assert found["pca", "off"]["settings"] == "6" and found["pca", "64"]["accuracy_max"] == "31.5"
    assert lines_of(every)[0]["k"] == "2000" and lines_of(every)[0]["pca"] == "64" and len(every.rows) == 24


def test_the_seeds_of_other_figures_are_no_search():
    rows = grid_rows("svhn_table_1_stage_1", "svhn_ia_accuracy")
    _, every = tables_of(PANELS["table_1b"], rows_of(*rows))
    assert (
        len(every.rows) == 60
        and "seed 666" in every.caption
        and {line["accuracy_n"] for line in lines_of(every)} == {"1"}
    )


def test_figure_4_by_hand():
    rows = [
        row_of(config_of("svhn", k=k, seed=seed), accuracy=accuracy)
        for k, seed, accuracy in (
            (10, 12, 20.0),
            (10, 45, 30.0),
            (10, 56, 25.0),
            (500, 12, 40.0),
            (500, 45, 50.0),
        )
    ]
    rows.append(row_of(config_of("svhn", k=500, seed=56), state="failed", state_reason="lost"))
    table = tables_of(PANELS["fig_4b"], rows_of(*rows))[0]
    ten, many = lines_of(table)
    assert (ten["k"], *(ten[f"accuracy_{name}"] for name in ("n", "median", "iqr", "low", "high"))) == (
        "10",
        "3",
        "25.0",
        "5.0",
        "",
        "",
    )
    assert (many["accuracy_n"], many["accuracy_median"], many["accuracy_low"]) == ("2", "45.0", "")
    assert "svhn, protocol code, sobel random, 100 cycles" in table.caption and "n = 2 to 3 runs" in table.caption
    assert table.lines[1][-1] == "seed 56"


def test_a_small_trial_shows_as_a_group_of_its_own():
    rows = [
        row_of(config_of("svhn", k=k, seed=1, cycles=cycles), accuracy=float(cycles))
        for k in (10, 50)
        for cycles in (2, 100)
    ]
    found = lines_of(tables_of(PANELS["fig_4b"], rows_of(*rows))[0])
    assert [(line["cycles"], line["k"], line["accuracy_median"]) for line in found] == [
        ("2", "10", "2.0"),
        ("2", "50", "2.0"),
        ("100", "10", "100.0"),
        ("100", "50", "100.0"),
    ]


def test_a_copy_of_ones_own_is_never_pooled_and_is_named():
    rows = [
        row_of(config_of("svhn", k=k, seed=1, dataset=dataset, data_digest=digest), accuracy=accuracy)
        for k in (10, 50)
        for dataset, digest, accuracy in (("svhn", None, 40.0), ("svhn-derived", "a" * 64, 50.0))
    ]
    table = tables_of(PANELS["fig_4b"], rows_of(*rows))[0]
    assert [(line["dataset"], line["accuracy_median"]) for line in lines_of(table)] == [
        ("svhn", "40.0"),
        ("svhn", "40.0"),
        ("svhn-derived", "50.0"),
        ("svhn-derived", "50.0"),
    ]
    assert "svhn-derived" in table.caption and table.heads[0] == "dataset"


def test_the_seeds_of_another_figure_do_not_move_one_value():
    rows = [row_of(config_of("fmnist", k=k, seed=seed), accuracy=80.0) for k in (5, 20) for seed in (2, 22)]
    rows.append(row_of(config_of("fmnist", k=5, seed=61), accuracy=10.0))  # of Figure 3
    assert [line["accuracy_n"] for line in lines_of(tables_of(PANELS["fig_4a"], rows_of(*rows))[0])] == ["2", "2"]
    alone = [row for row in rows if row["k"] == 5]  # nothing to compare with: all count
    assert [line["accuracy_n"] for line in lines_of(tables_of(PANELS["fig_4a"], rows_of(*alone))[0])] == ["3"]


def test_halting_never_is_last_and_its_own_word():
    rows = [row_of(config_of("fmnist", seed=61, halt_cycle=halt), accuracy=80.0) for halt in (None, 10, 1, 30)]
    table = tables_of(PANELS["fig_5a"], rows_of(*rows))[0]
    assert [line["halt_cycle"] for line in lines_of(table)] == ["1", "10", "30", "never"]


def test_the_appendix_has_the_papers_numbers_beside_ours():
    rows = [row_of(config_of("cifar10_alexnet", seed=42, pca=pca), accuracy=60.0) for pca in (32, 256)]
    assert [line["accuracy_paper"] for line in lines_of(tables_of(PANELS["table_a2"], rows_of(*rows))[0])] == [
        "64.97",
        "65.47",
    ]


def test_figure_6_joins_ia_only_runs_with_accuracies():
    rows = [
        row_of(config_of("svhn", k=k, seed=seed, cycles=0, probe=()), ia=0.001 * k + 0.01 * seed)
        for k in (10, 100)
        for seed in (1, 2, 3)
    ]
    rows += [
        row_of(config_of("svhn", k=k, seed=seed), ia=0.001 * k + 0.01 * seed, accuracy=k / 10 + seed)
        for k in (10, 100)
        for seed in (3, 12)
    ]
    ten, hundred = lines_of(tables_of(PANELS["fig_6"], rows_of(*rows))[0])
    assert (ten["ia_n"], ten["accuracy_n"], ten["accuracy_median"]) == ("4", "2", "8.5")
    assert float(ten["ia_median"]) == pytest.approx(0.035) and float(hundred["ia_median"]) == pytest.approx(0.125)
    assert float(ten["ia_ami_median"]) == pytest.approx(0.025) and ten["ia_chance_median"] == "0.01"


def test_figure_3_takes_the_runs_own_ia_and_shows_the_sampled_one_beside_it():
    rows = [row_of(config_of("svhn", seed=seed), ia=0.01 * seed, accuracy=30.0 + seed) for seed in (7, 10, 15)]
    rows += [row_of(config_of("svhn", seed=seed, cycles=0, probe=()), ia=0.01 * seed) for seed in range(1, 21)]
    table, points = tables_of(PANELS["fig_3b"], rows_of(*rows))
    line = lines_of(table)[0]
    assert (line["rho_n"], line["ia_n"], line["ia_max"]) == ("3", "20", "0.2") and float(line["rho"]) == pytest.approx(
        1
    )
    assert [line["seed"] for line in lines_of(points)] == ["7", "10", "15"]


def test_ia_alone_gives_a_partial_table():
    rows = [row_of(config_of("svhn", seed=seed, cycles=0, probe=()), ia=0.1) for seed in (1, 2, 3)]
    for name in ("fig_3b", "fig_6"):
        table = tables_of(PANELS[name], rows_of(*[row | {"k": 200 if name == "fig_3b" else 10} for row in rows]))[0]
        assert lines_of(table)[0]["ia_n"] == "3" and lines_of(table)[0]["accuracy_n"] == "0"


def test_leaked_runs_are_beside_clean_ones_and_in_no_other_figure():
    rows = [
        row_of(config_of("fmnist", seed=61, halt_cycle=1, resume_leak=leak), accuracy=accuracy)
        for leak, accuracy in ((None, 80.0), (2, 90.0))
    ]
    rows.append(row_of(config_of("fmnist", seed=61), accuracy=81.0))
    found = lines_of(tables_of(PANELS["leak_fmnist"], rows_of(*rows))[0])
    assert [(line["halt_cycle"], line["resume_leak"], line["accuracy_median"]) for line in found] == [
        ("1", "2", "90.0"),
        ("1", "never", "80.0"),
        ("never", "never", "81.0"),
    ]
    clean = lines_of(tables_of(PANELS["fig_5a"], rows_of(*rows))[0])
    assert [line["accuracy_median"] for line in clean] == ["80.0", "81.0"]


def test_leaked_runs_alone_are_no_halting_figure():
    rows = [
        row_of(config_of("fmnist", seed=61, halt_cycle=halt, resume_leak=halt + 1), accuracy=90.0) for halt in (1, 10)
    ]
    assert tables_of(PANELS["fig_5a"], rows_of(*rows)) == []
    assert len(tables_of(PANELS["leak_fmnist"], rows_of(*rows))[0].rows) == 2


def test_runs_that_were_never_halted_are_no_halting_figure():
    rows = rows_of(*(row_of(config_of("fmnist", seed=seed), accuracy=80.0) for seed in (1, 2)))
    assert tables_of(PANELS["fig_5a"], rows) == [] and tables_of(PANELS["leak_fmnist"], rows) == []


def test_a_random_net_is_never_taken_for_a_clustered_one():
    rows = rows_of(row_of(config_of("fmnist", seed=1, cycles=0), ia=0.4, accuracy=70.0))
    assert tables_of(PANELS["fig_4a"], rows) == []
    assert lines_of(tables_of(PANELS["fig_3a"], rows)[0])[0]["accuracy_n"] == "0"


def test_the_three_filters_are_side_by_side():
    rows = [
        row_of(config_of("svhn", seed=seed, cycles=0, probe=(), sobel=sobel), ia=ia)
        for seed in (1, 2, 3)
        for sobel, ia in (("off", 0.3), ("fixed", 0.2), ("random", 0.1))
    ]
    found = lines_of(tables_of(PANELS["sobel_svhn"], rows_of(*rows))[0])
    assert [(line["sobel"], line["ia_n"], line["ia_median"]) for line in found] == [
        ("random", "3", "0.1"),
        ("fixed", "3", "0.2"),
        ("off", "3", "0.3"),
    ]


def test_layers_lie_between_a_random_and_a_supervised_net():
    probe = ("conv2", "fc1")
    rows = [
        row_of(config_of("fmnist", seed=1, cycles=0, probe=probe), ia=0.4, accuracy=70.0, layers={"fc1": 71.0}),
        row_of(config_of("fmnist", seed=1, probe=probe), accuracy=80.0, layers={"fc1": 81.0}),
        row_of(config_of("fmnist", seed=1, k=10, labels=True, probe=probe), accuracy=90.0, layers={"fc1": 91.0}),
        row_of(config_of("fmnist", seed=1, k=20), accuracy=1.0),
    ]
    found = lines_of(tables_of(PANELS["probe_layers_fmnist"], rows_of(*rows))[0])
    assert [(line["training"], line["layer"], line["accuracy_median"]) for line in found] == [
        ("random floor", "conv2", "70.0"),
        ("random floor", "fc1", "71.0"),
        ("clustered", "conv2", "80.0"),
        ("clustered", "fc1", "81.0"),
        ("supervised ceiling", "conv2", "90.0"),
        ("supervised ceiling", "fc1", "91.0"),
    ]


def test_nothing_run_gives_no_table():
    assert all(tables_of(panel, []) == [] for panel in PANELS.values())
    other = rows_of(row_of(config_of("fmnist", seed=1, lr=0.5), accuracy=80.0))
    assert tables_of(PANELS["fig_4a"], other) == [] and len(settings_table(other).rows) == 1


# What is missing.


def test_what_a_grid_lacks_is_named_with_its_command(tmp_path):
    rows = rows_of(*[row for row in grid_rows("svhn_k") if row["seed"] in (12, 45) and row["k"] != 500])
    state = grid_states(["svhn_k"], JOBS, NOWHERE, rows)["svhn_k"]
    assert missing_text(state) == (
        "14 of 20 missing (k 10 seeds 56 87 23; k 50 seeds 56 87 23; k 100 seeds 56 87 23; 1 more settings)"
    )
    relative = GridState("svhn_k", Path("jobs/svhn_k.yaml"), {}, {})
    assert command(relative, Path("outputs")) == "python -m dc_hpc.submit --grid jobs/svhn_k.yaml"
    assert command(relative, Path("my runs")).endswith("--outputs 'my runs'")
    (found,) = findings_of(frame(rows), "fig_4b", jobs=JOBS).panels
    assert [line[-1] for line in found.tables[0].lines] == ["seeds 23 56 87"] * 3


def test_an_absent_run_makes_no_cell_of_its_own():
    rows = rows_of(row_of(config_of("svhn", k=10, seed=12), accuracy=40.0))
    states = grid_states(["svhn_k"], JOBS, NOWHERE, rows)
    absent = absent_rows(states.values(), rows)
    assert len(absent) == 19
    table = tables_of(PANELS["fig_4b"], rows, absent)[0]
    assert [(line["k"], line["accuracy_n"]) for line in lines_of(table)] == [("10", "1")]
    assert [line[-1] for line in table.lines] == ["seeds 23 45 56 and 1 more"]


def test_grids_that_are_absent_or_unreadable_are_tolerated(tmp_path):
    rows = rows_of(row_of(config_of("svhn", k=10, seed=12), accuracy=40.0))
    assert findings_of(frame(rows), "fig_4b", jobs=tmp_path).panels[0].grids == []
    (tmp_path / "svhn_k.yaml").write_text("base: svhn\nprotocol: cod\nsweep: {seed: [1]}\n")
    state = findings_of(frame(rows), "fig_4b", jobs=tmp_path).panels[0].grids[0]
    assert "did you mean" in state.problem or "allowed: text, code" in state.problem


def test_only_names_entries_or_parts():
    assert [panel.name for panel in panels_of(["fig_4", "table_1b"])] == [
        "table_1b",
        "fig_4a",
        "fig_4b",
        "fig_4c",
    ]
    with pytest.raises(Exception, match="--only fig_7: no such table or figure"):
        panels_of(["fig_7"])


def test_cells_that_mix_commits_are_flagged():
    rows = [
        row_of(config_of("svhn", k=k, seed=seed), accuracy=40.0, commit=commit * 40, engine="torch")
        for k, seed, commit in ((10, 12, "a"), (10, 45, "b"), (50, 12, "a"), (50, 45, "a"))
    ]
    lines = mixed(PANELS["fig_4b"], PANELS["fig_4b"].select(rows_of(*rows)))
    assert lines == ["k 10: runs of 2 commits (aaaaaaaaaaaa, bbbbbbbbbbbb)"]
