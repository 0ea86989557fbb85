"""Tables name the runs that diverged, and show no number of them."""

from __future__ import annotations

import csv
import io

import pytest
from support.recorded_runs import config_of, findings_of, frame, row_of

from dc_hpc.config.grid import read_grid
from dc_hpc.report.frames.csv_files import read_runs_csv
from dc_hpc.report.frames.runs import records, runs_csv
from dc_hpc.report.grid_states import grid_states
from dc_hpc.report.panels.grouping import Cell
from dc_hpc.report.run_tables import settings_table
from dc_hpc.report.tables.text_tables import csv_of, markdown_of

TRAINING = "DivergenceError: training diverged in cycle 3 (loss nan); lower lr"
PROBE = "diverged: the probe of conv2 has no accuracy; lower probe_lr"


def own(seed: int, lr: float, reason: str = "", accuracy: float | None = 50.0):
    config = config_of("fmnist", dataset="cells", data_digest="d" * 64, seed=seed, cycles=4, lr=lr)
    state = "failed" if reason == TRAINING else "done"
    return row_of(config, state=state, ia=0.3, accuracy=None if reason else accuracy, state_reason=reason or None)


@pytest.mark.parametrize("reason", [TRAINING, PROBE])
def test_a_sweep_shows_where_it_diverged(reason: str) -> None:
    rows = [own(seed, 0.1) for seed in (1, 2)] + [own(1, 0.5), own(2, 0.5, reason)]
    rows += [own(seed, 1.0, reason) for seed in (1, 2)]
    (found,) = findings_of(frame(rows)).sweeps
    text = markdown_of(found.tables[0], width=120)
    lines = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("|")}
    assert "diverged" not in lines["0.1"]
    assert "50.0" in lines["0.5"] and "seed 2 diverged" in lines["0.5"]
    assert "| diverged" in lines["1"].replace("  ", "") and "seeds 1 2 diverged" in lines["1"]
    exact = {line["lr"]: line for line in csv.DictReader(io.StringIO(csv_of(found.tables[0])))}
    assert exact["1.0"]["accuracy_n"] == "0" and exact["1.0"]["accuracy_median"] == ""
    assert exact["0.5"]["accuracy_n"] == "1"


def test_the_table_of_all_settings_says_diverged() -> None:
    text = markdown_of(settings_table([own(1, 0.1), own(1, 1.0, PROBE)]))
    assert sum("diverged" in line for line in text.splitlines()) == 1


def test_only_layers_that_were_probed_have_diverged() -> None:
    cell = Cell({}, [own(1, 1.0, PROBE)])
    assert cell.diverged("accuracy") == [1] and cell.diverged("accuracy_conv2") == [1]
    assert cell.diverged("accuracy_fc1") == [] and cell.diverged("ia") == []


def test_it_is_not_missing_for_nothing_would_compute_it(tmp_path) -> None:
    (tmp_path / "one.yaml").write_text("base: fmnist\nprotocol: code\nsweep: {seed: [1, 2]}\n")
    first, second = read_grid(tmp_path / "one.yaml", data_root=tmp_path).points
    rows = [
        row_of(first, state="failed", state_reason=TRAINING),
        row_of(second, state="failed", state_reason="OSError"),
    ]
    state = grid_states(["one"], tmp_path, tmp_path, rows)["one"]
    assert [config.seed for config in state.missing.values()] == [2]


def test_runs_csv_holds_the_reason_and_no_number(tmp_path) -> None:
    rows = [own(1, 0.1), own(1, 1.0, PROBE), own(2, 1.0, TRAINING)]
    (tmp_path / "runs.csv").write_text(runs_csv(frame(rows)))
    read = {row["run_id"]: row for row in records(read_runs_csv(tmp_path / "runs.csv"))}
    assert [read[row["run_id"]]["state_reason"] for row in rows] == [None, PROBE, TRAINING]
    assert [read[row["run_id"]].get("accuracy") for row in rows] == [50.0, None, None]
