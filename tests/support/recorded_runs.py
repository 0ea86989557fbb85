"""Makes small run directories, written through the storage layer as a run writes them, but without a net."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dc_hpc.config.baselines import BASELINES, PROTOCOLS, protocol_of
from dc_hpc.config.grid import read_grid
from dc_hpc.config.run_config import RunConfig, make_config, run_id
from dc_hpc.report.findings import Findings, collect, panels_of, select_all
from dc_hpc.report.frames.runs import frame_of, no_cycles, records
from dc_hpc.report.frames.schema import SETTINGS, setting_cell
from dc_hpc.report.panels.panel import Panel, PanelRows
from dc_hpc.report.questions.plans import plan_of
from dc_hpc.report.tables.text_tables import Table
from dc_hpc.storage import atomic_files, feature_dumps, metrics_csv, run_directory

# A page that does not escape would run this.
HOSTILE = '<script>document.title="taken"</script>&"\''
JOBS = Path(__file__).parents[2] / "jobs"
ATTEMPT = {
    "host": "node1", "pid": 1, "process_start": "0", "started": 0.0, "device": "cpu-1", "commit": "a" * 40,
    "dirty": False, "execution": {"engine": "torch", "threads": 1},
}  # fmt: skip


def config_of(base: str, *, protocol: str = "code", **settings: Any) -> RunConfig:
    """A RunConfig of a baseline, as a grid makes it."""
    whole = BASELINES[base] | PROTOCOLS[base][protocol] | settings
    return make_config(whole | {"protocol": protocol_of(base, whole)})


def with_planned_seeds(rows: list[dict[str, Any]], claim: str) -> list[dict[str, Any]]:
    """Rows whose seeds, in order, are those that a claim has planned; what is more gets seeds that it has not."""
    plan = plan_of(claim)
    own = sorted({row["seed"] for row in rows})
    seeds = dict(zip(own, [*plan.seeds, *(1000 + seed for seed in own)]))
    return rows if set(own) <= set(plan.seeds) else [row | {"seed": seeds[row["seed"]]} for row in rows]


def record(
    outputs: Path,
    config: RunConfig,
    *,
    ia: float | None = 0.1,
    accuracy: float | None = None,
    layers: dict[str, float] | None = None,
    cycles: int | None = None,
    attempt: dict[str, Any] | None = None,
    features: tuple[np.ndarray, np.ndarray] | None = None,
) -> Path:
    """A done run: one attempt, metrics, result.

    accuracy: in percent, of the first probed layer. attempt: fields of the attempt that differ from ATTEMPT.
    """
    directory = run_directory.create(outputs, config)
    number = run_directory.start_attempt(directory, ATTEMPT | (attempt or {}))
    rows = _history(config, ia, config.cycles if cycles is None else cycles)
    digest = {"metrics_sha256": metrics_csv.write_metrics(directory, rows)}
    if features is not None:
        feature_dumps.dump_features(directory, cycle=0, features=features[0], pseudo_labels=features[1], k=config.k)
    run_directory.update_attempt(directory, number, {"seconds": _seconds(rows), "ended": "done", "finished": 9.0})
    run_directory.finish(directory, _result(config, rows, ia, accuracy, layers) | digest)
    return directory


def record_failed(outputs: Path, config: RunConfig, error: Exception) -> Path:
    """A run whose only attempt ended with an error."""
    directory = run_directory.create(outputs, config)
    number = run_directory.start_attempt(directory, ATTEMPT)
    run_directory.fail_attempt(directory, number, error, f"Traceback (most recent call last):\n{error!r}\n")
    return directory


def record_interrupted(outputs: Path, config: RunConfig, *, cycles_done: int) -> Path:
    """A run that was stopped before its end."""
    directory = run_directory.create(outputs, config)
    number = run_directory.start_attempt(directory, ATTEMPT)
    rows = _history(config, 0.1, cycles_done)
    metrics_csv.write_metrics(directory, rows)
    run_directory.update_attempt(
        directory, number, {"ended": "stopped", "cycles_done": cycles_done, "seconds": _seconds(rows)}
    )
    return directory


def spoil(directory: Path, name: str, text: str = "{") -> None:
    """Overwrite a file of a run as somebody else's program would; a JSON object gets the digest of its content."""
    try:
        content = json.loads(text)
    except ValueError:
        content = None
    if isinstance(content, dict):
        atomic_files.write_checksummed(directory / name, content)
    else:
        (directory / name).write_text(text, encoding="utf-8")


def _history(config: RunConfig, ia: float | None, cycles: int) -> list[dict[str, Any]]:
    rows = []
    for cycle in range(max(cycles, 1)):
        reassign = not config.labels and (config.halt_cycle is None or cycle < config.halt_cycle)
        nmi = (ia or 0.0) + 0.001 * cycle
        row: dict[str, Any] = {
            "cycle": cycle,
            "reassign": reassign,
            "nmi_true": nmi,
            "ami_true": nmi - 0.01,
            "nmi_true_chance": 0.01,
        }
        if reassign:
            row |= {
                "label_entropy": 1.5,
                "clusters_empty": 0,
                "cluster_size_min": 1,
                "cluster_size_median": 2.5,
                "cluster_size_max": 9,
                "inertia": 100.0 - cycle,
            }
            if cycle:
                row |= {"nmi_prev": 0.5 + 0.4 * cycle / (cycle + 4), "ami_prev": 0.5}
        if cycles:
            row["loss"] = 1.0 / (cycle + 1)
        rows.append(row)
    return rows


def _seconds(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    stages = [{"stage": "load", "cycle": None, "seconds": 0.5}]
    for row in rows:
        if row["reassign"]:
            stages.append({"stage": "clustered", "cycle": row["cycle"], "seconds": 1.25})
        if "loss" in row:
            stages.append({"stage": "trained", "cycle": row["cycle"], "seconds": 2.0})
    return [*stages, {"stage": "probe", "cycle": None, "seconds": 3.0}]


def _result(
    config: RunConfig,
    rows: list[dict[str, Any]],
    ia: float | None,
    accuracy: float | None,
    layers: dict[str, float] | None,
) -> dict[str, Any]:
    last = rows[-1]
    result = {
        "ia": ia,
        "ia_ami": None if ia is None else ia - 0.01,
        "ia_chance": None if ia is None else 0.01,
        "clusterings": sum(row["reassign"] for row in rows),
        "epochs": sum("loss" in row for row in rows),
        "nmi_true_last": last["nmi_true"],
        "ami_true_last": last["ami_true"],
        "nmi_prev_last": last.get("nmi_prev"),
        "loss_last": last.get("loss"),
        "trunk_sha256": "0" * 64,
    }
    if accuracy is None:
        return result
    result |= {
        "accuracy": accuracy,
        "accuracy_best": accuracy + 0.5,
        "accuracy_batch_mean": accuracy,
        "probe_loss": 0.7,
    }
    return result | {
        f"accuracy_{layer}": value for layer, value in ({config.probe[0]: accuracy} | (layers or {})).items()
    }


def row_of(
    config: RunConfig,
    *,
    state: str = "done",
    ia: float | None = None,
    accuracy: float | None = None,
    layers: dict[str, float] | None = None,
    **cells: Any,
) -> dict[str, Any]:
    """The row that `load_runs` has for a run, made without a directory."""
    settings = {name: setting_cell(name, getattr(config, name)) for name in SETTINGS}
    row = (
        {"run_id": run_id(config), "state": state}
        | settings
        | {"commit": "a" * 40, "device": "cpu-1", "engine": "torch"}
    )
    if state == "done" and ia is not None:
        row |= {
            "ia": ia,
            "ia_ami": ia - 0.01,
            "ia_chance": 0.01,
            "nmi_true_last": ia + 0.05,
            "nmi_prev_last": 0.8,
        }
    if state == "done" and accuracy is not None:
        row |= {"accuracy": accuracy, "accuracy_best": accuracy + 0.5, "accuracy_batch_mean": accuracy}
        row |= {f"accuracy_{layer}": value for layer, value in ({config.probe[0]: accuracy} | (layers or {})).items()}
    return row | cells


def frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Rows of `row_of` as the frame of `load_runs`."""
    return frame_of(rows)


def rows_of(*rows: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of `row_of` as the report gets them: plain values, None for what is missing."""
    return records(frame(list(rows)))


def tables_of(panel: Panel, rows: list[dict[str, Any]], absent: list[dict[str, Any]] | None = None) -> list[Table]:
    """The tables of a panel that have rows."""
    return [table for table in panel.tables(panel.select([*rows, *(absent or [])])) if table.rows]


def selected(runs: pd.DataFrame) -> dict[str, PanelRows]:
    """The rows of each panel of the paper, without grids."""
    return select_all(records(runs), {})


def findings_of(runs: pd.DataFrame, *only: str, jobs: Path = Path("/nonexistent")) -> Findings:
    """The findings of the named panels, of all where none is named, without cycles."""
    return collect(runs, no_cycles(), panels_of(only), jobs=jobs, data=Path("/nonexistent"))


def grid_rows(*names: str) -> list[dict[str, Any]]:
    """The runs of grids, all done, with numbers that tell them apart."""
    configs = {key: run for name in names for key, run in read_grid(JOBS / f"{name}.yaml", data_root=JOBS).runs.items()}
    rows = []
    for index, config in enumerate(configs.values()):
        accuracy = 40 + index % 17 if config.probe else None
        layers = {layer: accuracy + i for i, layer in enumerate(config.probe)} if config.probe else None
        ia = None if config.labels else 0.05 + 0.001 * (index % 11)
        rows.append(row_of(config, ia=ia, accuracy=accuracy, layers=layers, seconds=1.0, attempts=1))
    return rows


def record_figure_4(outputs: Path) -> None:
    """Figure 4a for two seeds, one of them with a failed run, and a damaged run of another k."""
    for k, accuracy in ((5, 83.0), (20, 80.0), (200, 9.5)):
        record(outputs, config_of("fmnist", k=k, seed=2, cycles=3), ia=0.39, accuracy=accuracy)
        if k < 200:
            record(outputs, config_of("fmnist", k=k, seed=5, cycles=3), ia=0.40, accuracy=accuracy + 1)
    record_failed(outputs, config_of("fmnist", k=200, seed=5, cycles=3), RuntimeError(HOSTILE))
    spoil(record(outputs, config_of("fmnist", k=7, seed=2, cycles=3), accuracy=81.0), "result.json")
