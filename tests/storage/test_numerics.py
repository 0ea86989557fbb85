"""A run stays within the numerics that began it, and a table that shows runs of several says so."""

from __future__ import annotations

import pytest
from support.commands import GRID, submit_grid
from support.recorded_runs import config_of, findings_of, frame, row_of
from support.small_runs import new_run, results

from dc_hpc.algorithm import NUMERICS
from dc_hpc.experiment import run as run_module
from dc_hpc.experiment.execution import Execution
from dc_hpc.experiment.run import run
from dc_hpc.report.frames.csv_files import read_runs_csv
from dc_hpc.report.frames.runs import load_runs, runs_csv
from dc_hpc.report.run_tables import settings_table
from dc_hpc.storage import feature_dumps, numerics, run_directory

OTHER = NUMERICS - 1


def begun(monkeypatch, directory, root, *, phases):
    """Let a version with other numerics compute the first phases of a run."""
    left = iter(range(phases))
    with monkeypatch.context() as older:
        for module in (run_module, run_directory, feature_dumps, numerics):
            older.setattr(module, "NUMERICS", OTHER)
        return run(directory, Execution(str(root), save_seconds=0), stop=lambda: next(left) == phases - 1)


def test_a_run_of_other_numerics_is_refused_and_loses_nothing(digits_root, tmp_path, monkeypatch):
    directory = new_run(tmp_path, digits_root)
    assert begun(monkeypatch, directory, digits_root, phases=3) == "stopped"
    before = results(directory)
    assert run(directory, Execution(str(digits_root))) == "failed"
    state = run_directory.state_of(directory)
    assert f"run {directory.name} was begun under numerics {OTHER}" in state.reason and "submit --new" in state.reason
    assert results(directory) == before
    assert [one["numerics"] for one in run_directory.attempts(directory)] == [OTHER, OTHER]
    assert begun(monkeypatch, directory, digits_root, phases=99) == "done"  # the version that began it


def test_submit_refuses_in_one_line_and_begins_anew_when_asked(digits_root, tmp_path, monkeypatch):
    (tmp_path / "grid.yaml").write_text(GRID.replace("[1, 2, 3]", "[1]"))
    submit_grid(tmp_path, digits_root, "--outputs", "whole", check=0)
    (whole,) = (tmp_path / "whole" / "runs").iterdir()
    directory = new_run(tmp_path / "outputs", digits_root)
    assert directory.name == whole.name
    begun(monkeypatch, directory, digits_root, phases=3)
    refused = submit_grid(tmp_path, digits_root, check=2)
    assert refused.stderr.count("\n") == 1 and directory.name in refused.stderr and "--new" in refused.stderr
    assert "Traceback" not in refused.stderr and len(run_directory.attempts(directory)) == 1
    anew = submit_grid(tmp_path, digits_root, "--new", check=0)
    assert "1 runs of other numerics begin anew" in anew.stdout
    kept = {name: data for name, data in results(directory).items() if "quarantine" not in name}
    assert kept == results(whole)


def test_a_first_clustering_of_other_numerics_is_computed_again(digits_root, tmp_path, monkeypatch):
    short = new_run(tmp_path, digits_root, cycles=0, probe=())
    assert begun(monkeypatch, short, digits_root, phases=9) == "done"
    assert feature_dumps.read_first_clustering(short) is None
    long = new_run(tmp_path, digits_root, features="none")
    assert run(long, Execution(str(digits_root))) == "done"
    assert "first_clustering_from" not in run_directory.attempts(long)[-1]


def test_features_that_another_numerics_dumped_are_replaced(digits_root, tmp_path, monkeypatch):
    """The older attempt dumped them and was killed before its first checkpoint: there is nothing to refuse."""
    directory = new_run(tmp_path, digits_root)
    begun(monkeypatch, directory, digits_root, phases=2)
    for path in run_directory.checkpoints(directory):
        path.unlink()
    assert run(directory, Execution(str(digits_root))) == "done"
    alone = new_run(tmp_path / "alone", digits_root)
    assert run(alone, Execution(str(digits_root))) == "done"
    assert {name: data for name, data in results(directory).items() if "quarantine" not in name} == results(alone)


def test_the_tables_have_the_numerics_and_older_ones_have_the_first(digits_root, tmp_path):
    directory = new_run(tmp_path, digits_root, cycles=0, probe=())
    assert run(directory, Execution(str(digits_root))) == "done"
    runs = load_runs(tmp_path)
    assert runs.numerics.tolist() == [NUMERICS]
    path = tmp_path / "runs.csv"
    path.write_text(runs_csv(runs))
    assert read_runs_csv(path).numerics.tolist() == [NUMERICS]
    path.write_text(runs_csv(runs.drop(columns="numerics")))
    assert read_runs_csv(path).numerics.tolist() == [numerics.FIRST]


@pytest.mark.parametrize("second, says", [(2, True), (1, False)])
def test_what_stands_together_of_two_numerics_is_named(second, says):
    rows = [
        row_of(config_of("fmnist", seed=seed, k=k), ia=0.3, accuracy=80.0 + seed, numerics=second if seed > 3 else 1)
        for seed in range(1, 7)
        for k in (5, 10)
    ]
    findings = findings_of(frame(rows), "fig_4a")
    (panel,) = findings.panels
    note = "Runs of numerics 1 and 2 stand together here."
    assert (note in panel.tables[0].caption) == says
    assert any("runs of 2 numerics (1, 2)" in line for line in panel.mixed) == says
    assert (note in settings_table(findings.rows).caption) == says
    claims = findings.verdicts[findings.verdicts.figure == "fig_4a"]
    assert claims.reason.str.contains("runs of numerics 1 and 2").any() == says


def test_a_run_whose_number_is_not_used_does_not_stand_together_with_others():
    """A seed's IA is that of its IA-only run; the trained run of other numerics beside it changes no number."""
    alone = [
        row_of(config_of("svhn", seed=seed, k=500, cycles=0, probe=()), ia=0.2, numerics=1) for seed in range(1, 7)
    ]
    beside = [
        row_of(config_of("svhn", seed=seed, k=500, cycles=4), ia=0.2, accuracy=50.0, numerics=2) for seed in (1, 2)
    ]
    findings = findings_of(frame([*alone, *beside]), "fig_b1")
    assert "stand together" not in findings.panels[0].tables[0].caption
    claims = findings.verdicts[findings.verdicts.figure == "fig_b1"]
    assert len(claims) > 0 and not claims.reason.str.contains("stand together").any()
    findings = findings_of(frame([*alone[2:], *beside]), "fig_b1")
    assert "stand together" in findings.panels[0].tables[0].caption


def test_the_caption_counts_the_accuracies_that_the_table_shows():
    """Short runs give their IA to Figure 6, and no accuracy where the paper's length was run."""
    long = [row_of(config_of("svhn", seed=12, k=k), ia=0.2, accuracy=50.0 + k / 99) for k in (10, 100)]
    short = [row_of(config_of("svhn", seed=seed, k=500, cycles=4), ia=0.2, accuracy=50.0) for seed in (1, 2, 3)]
    table = findings_of(frame([*long, *short]), "fig_6").panels[0].tables[0]
    shown = [row[table.columns.index("accuracy_n")] for row in table.rows]
    assert f"n = {min(shown)} to {max(shown)} run" in table.caption or f"n = {max(shown)} run" in table.caption
