"""metrics.csv and its declarations: an undeclared metric is refused, one that is younger than a file is missing."""

from __future__ import annotations

import pytest
from support.small_runs import new_run

from dc_hpc.experiment import measure, run
from dc_hpc.experiment.execution import Execution
from dc_hpc.report.frames.csv_files import read_cycles_csv
from dc_hpc.report.frames.runs import cycles_csv, load_cycles, load_runs
from dc_hpc.storage import metrics_csv, run_directory
from dc_hpc.storage.atomic_files import DamagedFile
from dc_hpc.storage.metrics import CYCLE_METRICS, Metric, names

ROW = {"cycle": 0, "reassign": True, "nmi_true": 0.5}
SHARPNESS = Metric("sharpness", "int", "", "made up for these tests")


@pytest.fixture
def one_metric_more(monkeypatch):
    """The package with a metric that it has not had so far."""
    monkeypatch.setattr(metrics_csv, "METRICS", (*names(CYCLE_METRICS), SHARPNESS.name))


def test_a_metric_that_is_measured_and_not_declared_fails_its_run(digits_root, tmp_path, monkeypatch):
    """It was dropped in silence: the file of the run lacked the column and nobody was told."""
    row_of = measure.clustering_row
    monkeypatch.setattr(run, "clustering_row", lambda *all_of_it: row_of(*all_of_it) | {"sharpness": 3})
    directory = new_run(tmp_path, digits_root, cycles=1)
    assert run.run(directory, Execution(str(digits_root))) == "failed"
    assert "metric sharpness is not declared" in run_directory.state_of(directory).reason


def test_writing_an_undeclared_metric_raises(tmp_path):
    with pytest.raises(ValueError, match="metric sharpness is not declared; add it to CYCLE_METRICS"):
        metrics_csv.write_metrics(tmp_path, [ROW | {"sharpness": 3}])
    assert not (tmp_path / "metrics.csv").exists()


def test_a_declared_metric_is_written_and_read(tmp_path, one_metric_more):
    metrics_csv.write_metrics(tmp_path, [ROW | {"sharpness": 3}])
    (row,) = metrics_csv.read_metrics(tmp_path)
    assert row["sharpness"] == "3" and row["nmi_true"] == "0.5" and row["loss"] == ""


def test_a_file_that_is_older_than_a_metric_is_read_and_its_run_stays_done(digits_root, tmp_path, monkeypatch):
    """A new metric made every finished run "damaged"."""
    directory = new_run(tmp_path, digits_root, cycles=1)
    assert run.run(directory, Execution(str(digits_root))) == "done"
    monkeypatch.setattr(metrics_csv, "METRICS", (*metrics_csv.METRICS, SHARPNESS.name))
    assert {row["sharpness"] for row in metrics_csv.read_metrics(directory)} == {""}
    assert load_runs(tmp_path)["state"].tolist() == ["done"]
    assert load_cycles(tmp_path)["nmi_true"].notna().all()


def test_a_cycles_csv_that_is_older_than_a_metric_is_read(digits_root, tmp_path):
    """A new metric made every committed cycles.csv unreadable."""
    directory = new_run(tmp_path, digits_root, cycles=1)
    assert run.run(directory, Execution(str(digits_root))) == "done"
    cycles = load_cycles(tmp_path)
    (tmp_path / "cycles.csv").write_text(cycles_csv(cycles.drop(columns="inertia")))
    read = read_cycles_csv(tmp_path / "cycles.csv")
    assert read["inertia"].isna().all() and read.drop(columns="inertia").equals(cycles.drop(columns="inertia"))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("cycle,reassign,shine\n0,True,1\n", "column shine, which this version does not know"),
        ("cycle,nmi_true\n0,0.5\n", "a cell is missing"),
        ("cycle,reassign,loss\n0,True\n", "a cell is missing"),
        ("cycle,reassign\n0,True,7\n", "does not know"),
    ],
)
def test_a_file_with_other_columns_is_damage(tmp_path, text, why):
    (tmp_path / "metrics.csv").write_text(text)
    with pytest.raises(DamagedFile, match=why):
        metrics_csv.read_metrics(tmp_path)


def test_every_metric_says_what_it_is():
    for metric in CYCLE_METRICS:
        assert metric.meaning and metric.dtype in ("int", "float", "flag", "text")
    assert len(set(names(CYCLE_METRICS))) == len(CYCLE_METRICS)
