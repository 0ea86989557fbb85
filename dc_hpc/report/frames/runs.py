"""Reads run directories into pandas frames, one row a run and one row a cycle, and writes them as CSV.

    from dc_hpc.report.frames.runs import load_runs
    runs = load_runs("outputs")
    runs[runs.state == "done"].groupby("k").accuracy.median()

The columns have the names of RunConfig, of result.json and of metrics.csv. A list among the settings (`mean`, `std`,
`probe`) is its items with a space between them. `pca` off, `halt_cycle` never and the results of a run that is not done
are missing values. The CSV files have the words `off` and `never` there.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dc_hpc.errors import InputError
from dc_hpc.report.frames.schema import (
    ATTEMPTS,
    RESULTS,
    SETTINGS,
    STAGES,
    column,
    csv_text,
    kind_of,
    none_word,
    numeric,
    setting_cell,
    test_images_of,
    texts,
)
from dc_hpc.storage import metrics_csv, numerics, run_directory
from dc_hpc.storage.atomic_files import DamagedFile

CYCLE_SETTINGS = ("dataset", "net", "protocol", "k", "seed", "halt_cycle", "pca", "sobel")
_NO_CONFIG = f"config.json: {os.strerror(errno.ENOENT)}"
_CYCLE_SECONDS = ("seconds_clustered", "seconds_trained")

# What reading a directory may raise when somebody else wrote into it.
_DAMAGE = (DamagedFile, OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError)


def load_runs(outputs: str | Path | Iterable[str | Path]) -> pd.DataFrame:
    """One row a run directory, done or not, sorted by run_id. outputs: a folder that `submit` wrote to, or several.

    Columns: run_id, state (one of run_directory.STATES, or `damaged`), state_reason; every field of RunConfig; the
    numbers of result.json (accuracies in percent, one accuracy_<layer> for each probed layer; losses and
    entropies in nats); attempts (their number), seconds (of all attempts, and by stage); device, host,
    commit, dirty, engine, threads and numerics of the last attempt. A directory that cannot be trusted has the state
    `damaged`, the reason, and whatever of it was readable; it raises nothing. A run that several folders hold counts
    once: as done where one has it done, then as the folder that comes first has it. InputError for a folder that is
    not there or holds no run.
    """
    return load(outputs)[0]


def load_cycles(outputs: str | Path | Iterable[str | Path]) -> pd.DataFrame:
    """One row a cycle of every readable run: run_id, CYCLE_SETTINGS, metrics.METRICS, and the seconds of its
    phases.

    A phase that was done again after a restart counts with its last time. outputs, and what is refused: as of
    `load_runs`.
    """
    return load(outputs)[1]


def load(outputs: str | Path | Iterable[str | Path]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The frames of load_runs and load_cycles in one pass over the directories."""
    folders = [Path(folder).expanduser() for folder in ([outputs] if isinstance(outputs, str | Path) else outputs)]
    if not folders:
        raise InputError("no folder of runs is given; give the one that `python -m dc_hpc.submit` wrote to")
    found: dict[str, tuple[dict[str, Any], np.ndarray]] = {}
    for row, metrics in (one for folder in folders for one in _read_folder(folder)):
        earlier = found.get(row["run_id"])
        if earlier is None or (row["state"] == "done" and earlier[0]["state"] != "done"):
            found[row["run_id"]] = (row, metrics)
    read = [found[name] for name in sorted(found)]
    return frame_of([row for row, _ in read]), _cycles_frame(read)


def _read_folder(outputs: Path) -> list[tuple[dict[str, Any], np.ndarray]]:
    """The runs of one outputs folder; InputError where there is none."""
    if not outputs.is_dir():
        raise InputError(f"{outputs} is not a folder; give the one that `python -m dc_hpc.submit` wrote to")
    directories = list(run_directory.run_directories(outputs))
    if not directories:
        raise InputError(
            f"no run in {run_directory.runs_folder(outputs)}; give the folder that submit wrote to, or submit runs "
            "first: python -m dc_hpc.submit --grid jobs/fmnist_demo.yaml"
        )
    read = [_read(directory) for directory in directories]
    early = [place for place, (row, _) in enumerate(read) if row["state_reason"] == _NO_CONFIG]
    if early:  # perhaps submit is making them now
        time.sleep(0.2)
        for place in early:
            read[place] = _read(directories[place])
    return read


def no_cycles() -> pd.DataFrame:
    """A frame as of `load_cycles` without a row."""
    return _cycles_frame([])


def frame_of(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Rows with the columns of `load_runs`, in their order; what a row lacks is missing."""
    present = dict.fromkeys(name for row in rows for name in row)
    fixed = ("run_id", "state", "state_reason", *SETTINGS, *RESULTS)
    extra = sorted(set(present) - set(fixed) - set(ATTEMPTS) - {"trunk_sha256"})
    columns = (*fixed, *extra, "trunk_sha256", *ATTEMPTS)
    return pd.DataFrame({name: column(name, [row.get(name) for row in rows]) for name in columns})


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a frame as dictionaries of plain Python values, None for what is missing."""
    columns = [
        [None if missing else value for value, missing in zip(frame[name].tolist(), frame[name].isna().tolist())]
        for name in frame.columns
    ]
    return [dict(zip(frame.columns, values)) for values in zip(*columns)]


def runs_csv(runs: pd.DataFrame) -> str:
    """The exact text of a frame of runs, which `csv_files` reads back.

    Floats by repr; the word of a setting that is None (`off`, `never`, `none`), where an empty cell would be read as
    an unknown value; nothing for every other missing value.
    """
    known = runs["dataset"].notna()
    return csv_text(runs.columns, zip(*(texts(runs[name], none_word(name), known) for name in runs.columns)))


def cycles_csv(cycles: pd.DataFrame) -> str:
    """The exact text of a frame of cycles, written as `runs_csv` does."""
    return runs_csv(cycles)


def _read(directory: Path) -> tuple[dict[str, Any], np.ndarray]:
    """The row of a run, and its metrics: float64 (cycles, METRICS and two columns of seconds), NaN where
    empty.
    """
    row: dict[str, Any] = {"run_id": directory.name}
    metrics = np.empty((0, len(metrics_csv.METRICS) + len(_CYCLE_SECONDS)))
    try:
        config = run_directory.read_config(directory)
        row |= {name: setting_cell(name, getattr(config, name)) for name in SETTINGS}
        state = run_directory.state_of(directory)
        row |= {"state": state.name, "state_reason": state.reason or None, "cycles_done": state.cycles_done}
        attempts, warnings = run_directory.look_at_attempts(directory)
        if warnings and not state.reason:  # time and host of the run are lost, its results are not
            row["state_reason"] = "; ".join(warnings)
        stages = list(_stages(attempts))
        row |= _attempt_cells(attempts, stages)
        if (directory / "result.json").exists():
            row |= _result_cells(run_directory.read_result(directory))
            row["test_images"] = test_images_of(row)
        metrics = _metrics(metrics_csv.read_metrics(directory), stages)
        if state.name == "done":
            row["cycles_done"] = config.cycles
    except _DAMAGE as error:
        row |= {"state": "damaged", "state_reason": _reason(error, directory)}
    return row, metrics


def _reason(error: BaseException, directory: Path) -> str:
    """Why a directory is damaged, in one line, with paths relative to it."""
    if isinstance(error, DamagedFile):
        return " ".join(f"{error.path.name}: {error.why}".split())
    if isinstance(error, OSError):
        return f"{Path(str(error.filename or directory)).name}: {error.strerror}"
    return " ".join(f"{type(error).__name__}: {error}".split())


def _result_cells(result: dict[str, Any]) -> dict[str, Any]:
    for name, value in result.items():
        types = {"text": (str,), "unknown": (int, float, str)}.get(kind_of(name), (int, float))
        if value is not None and not isinstance(value, types):
            raise ValueError(f"result.json: {name} is {value!r}")
    return {name: value for name, value in result.items() if name != run_directory.PROBE_DIVERGED}  # in its state


def _stages(attempts: list[dict[str, Any]]) -> Iterable[tuple[str, int | None, float]]:
    """(stage, cycle, seconds) of every timed stage of all attempts; an entry of another shape is skipped."""
    for attempt in attempts:
        for timed in attempt.get("seconds") or ():
            if isinstance(timed, dict) and isinstance(timed.get("seconds"), int | float):
                yield str(timed.get("stage")), timed.get("cycle"), float(timed["seconds"])


def _attempt_cells(attempts: list[dict[str, Any]], stages: list[tuple[str, int | None, float]]) -> dict[str, Any]:
    cells: dict[str, Any] = {"attempts": len(attempts)}
    if not attempts:
        return cells
    last = attempts[-1]
    execution = last.get("execution") or {}
    cells["seconds"] = round(sum(seconds for _, _, seconds in stages), 3)
    for stage in STAGES:
        times = [seconds for name, _, seconds in stages if name == stage]
        cells[f"seconds_{stage}"] = round(sum(times), 3) if times else None
    return (
        cells
        | {name: last.get(name) for name in ("device", "host", "commit", "dirty")}
        | {name: execution.get(name) for name in ("engine", "threads")}
        | {"numerics": last.get("numerics", numerics.FIRST)}
    )


def _metrics(rows: list[dict[str, str]], stages: list[tuple[str, int | None, float]]) -> np.ndarray:
    times = {(stage, cycle): seconds for stage, cycle, seconds in stages}
    table = np.full((len(rows), len(metrics_csv.METRICS) + len(_CYCLE_SECONDS)), np.nan)
    for index, row in enumerate(rows):
        numbers = [_number(row[name]) for name in metrics_csv.METRICS]
        seconds = [times.get((stage, int(row["cycle"])), np.nan) for stage in ("clustered", "trained")]
        table[index] = numbers + seconds
    return table


def _number(text: str) -> float:
    return {"": np.nan, "True": 1.0, "False": 0.0}[text] if text in ("", "True", "False") else float(text)


def _cycles_frame(read: list[tuple[dict[str, Any], np.ndarray]]) -> pd.DataFrame:
    counts = [len(metrics) for _, metrics in read]
    numbers = np.concatenate([metrics for _, metrics in read]) if read else np.empty((0, 0))
    numbers = numbers if numbers.size else np.empty((0, len(metrics_csv.METRICS) + len(_CYCLE_SECONDS)))
    columns = {}
    for name in ("run_id", *CYCLE_SETTINGS):
        whole = column(name, [row.get(name) for row, _ in read])
        columns[name] = whole.take(np.repeat(np.arange(len(read)), counts)).reset_index(drop=True)
    for index, name in enumerate((*metrics_csv.METRICS, *_CYCLE_SECONDS)):
        columns[name] = numeric(name, numbers[:, index])
    return pd.DataFrame(columns)
