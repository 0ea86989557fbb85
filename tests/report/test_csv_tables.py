"""Every CSV of the report says the same to csv.reader and to pandas, and its columns name their quantity."""

from __future__ import annotations

import csv
from pathlib import Path

import pandas as pd
import pytest
from support.recorded_runs import JOBS, config_of, findings_of, frame, grid_rows, record, record_failed, row_of

from dc_hpc.config.run_config import RunConfig
from dc_hpc.report.findings import collect, panels_of, read
from dc_hpc.report.output_files import write_tables

ROOT = Path(__file__).parents[2]
BARE = {"n", "median", "q25", "q75", "iqr", "min", "max", "mean", "sd", "missing", "best"}
NONE_WORDS = {name: one.none_word for name, one in RunConfig.declared.items() if one.none_word}


@pytest.fixture(scope="module")
def tables(tmp_path_factory) -> Path:
    """The tables of the committed runs, and those of two searches and of a sweep of one's own."""
    folder = tmp_path_factory.mktemp("csv")
    runs = ROOT / "docs" / "results" / "tables" / "runs.csv"
    write_tables(collect(*read(folder, [runs]), panels_of([]), jobs=JOBS, data=ROOT / "nowhere"), folder)
    own = [
        row_of(config_of("fmnist", dataset="cells", data_digest="d" * 64, seed=seed, cycles=4, halt_cycle=halt,
                         pca=pca),
               ia=0.3, accuracy=50.0 + seed)
        for halt in (None, 1) for pca in (None, 16) for seed in (1, 2, 3)
    ]  # fmt: skip
    write_tables(findings_of(frame([*grid_rows("cifar10_table_1_stage_1"), *own]), jobs=JOBS), folder / "more")
    return folder


def csvs(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.csv"))


def test_pandas_reads_what_is_written(tables):
    names = {path.name for path in csvs(tables)}
    assert {
        "runs.csv",
        "cycles.csv",
        "claims.csv",
        "settings.csv",
        "missing.csv",
        "sweep_cells_halt_cycle_pca.csv",
    } <= names
    assert {"table_1c.csv", "fig_5a.csv", "leak_svhn.csv"} <= names
    for path in csvs(tables):
        with open(path, newline="") as file:
            header, *lines = list(csv.reader(file))
        found = pd.read_csv(path, dtype=None, low_memory=False)
        for place, name in enumerate(header):
            texts = [line[place] for line in lines]
            lost = [text for text, missing in zip(texts, found[name].isna()) if missing and text]
            assert lost == [], (path.name, name, lost[:3])
            words = {text for text in texts if text in ("never", "off", "none", "on")}
            assert words <= set(found[name].astype(str)), (path.name, name)


def test_no_setting_that_is_none_is_an_empty_cell(tables):
    """But where a setting does not apply: the k of a random floor, the schedule of a bound."""
    for path in csvs(tables):
        found = pd.read_csv(path, low_memory=False)
        for name in NONE_WORDS.keys() & set(found.columns):
            rows = found[found["training"] == "clustered"] if "training" in found else found
            assert rows[name].notna().all(), (path.name, name)
    assert set(pd.read_csv(tables / "tables" / "fig_5a.csv").halt_cycle) == {"1", "10", "30", "never"}
    settings = pd.read_csv(tables / "tables" / "settings.csv")
    assert "never" in set(settings.halt_cycle) and "off" in set(settings.pca) and "none" in set(settings.probe)
    assert "random floor" in set(settings.training)


def test_the_columns_of_panels_name_their_quantity(tables):
    panels = [path for path in csvs(tables) if path.name not in ("runs.csv", "cycles.csv", "claims.csv", "missing.csv")]
    panels = [path for path in panels if not path.stem.endswith(("questions", "verdicts"))]  # as claims.csv
    assert len(panels) > 25
    for path in panels:
        assert not BARE & set(pd.read_csv(path).columns), path.name
    columns = set(pd.read_csv(tables / "tables" / "fig_6.csv").columns)
    assert {"accuracy_n", "accuracy_median", "accuracy_q1", "accuracy_q3", "ia_median", "ia_q1"} <= columns


def test_missing_runs_have_a_file_with_the_command_that_runs_them(tmp_path):
    rows = [row for row in grid_rows("svhn_k") if row["seed"] in (12, 45) and row["k"] != 500]
    rows.append(row_of(config_of("svhn", k=500, seed=12), state="failed", state_reason="lost"))
    write_tables(findings_of(frame(rows), "fig_4b", jobs=JOBS), tmp_path)
    found = pd.read_csv(tmp_path / "tables" / "missing.csv", dtype=str)
    assert found.columns.tolist() == ["panel", "grid", "settings", "missing", "seeds", "command"]
    assert set(found.panel) == {"fig_4b"} and set(found.grid) == {"svhn_k"}
    assert dict(zip(found.settings, found.seeds)) == {
        "k 10": "56 87 23",
        "k 50": "56 87 23",
        "k 100": "56 87 23",
        "k 500": "12 45 56 87 23",
    }
    (command,) = set(found.command)
    assert command.startswith("python -m dc_hpc.submit --grid ") and command.endswith(f"--outputs {tmp_path}")


def test_a_failed_run_of_no_grid_is_missing_too_and_none_gives_the_head_alone(tmp_path):
    def own(seed):
        return config_of("fmnist", dataset="cells", data_digest="d" * 64, seed=seed, cycles=1)

    record(tmp_path, own(1), ia=0.3, accuracy=50.0)
    findings = collect(*read(tmp_path), panels_of([]), jobs=JOBS, data=ROOT / "nowhere")
    write_tables(findings, tmp_path)
    assert (tmp_path / "tables" / "missing.csv").read_text() == "panel,grid,settings,missing,seeds,command\n"
    assert not (tmp_path / "tables" / "claims.csv").exists()
    record_failed(tmp_path, own(2), RuntimeError("lost"))
    write_tables(collect(*read(tmp_path), panels_of([]), jobs=JOBS, data=ROOT / "nowhere"), tmp_path)
    (line,) = pd.read_csv(tmp_path / "tables" / "missing.csv").to_dict("records")
    assert (line["panel"], line["seeds"], line["missing"]) == ("sweep_cells", 2, 1) and "1 cycles" not in line[
        "settings"
    ]
