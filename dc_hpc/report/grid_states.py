"""How far the grids of the report are: which of their runs are not done, and the commands that make them."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dc_hpc.config.grid import read_grid
from dc_hpc.config.run_config import RunConfig, run_id
from dc_hpc.errors import InputError
from dc_hpc.report.frames.schema import SETTINGS, setting_cell
from dc_hpc.report.panels.grouping import Row, is_diverged, order, shown
from dc_hpc.report.tables.cell_items import seeds_text

_SETTINGS_NAMED = 3


@dataclass(frozen=True)
class GridState:
    """How far a grid is: its runs, and those that are not done. problem: why it cannot be read."""

    name: str
    path: Path
    runs: Mapping[str, RunConfig]
    missing: Mapping[str, RunConfig]
    problem: str = ""

    @property
    def started(self) -> bool:
        """Whether any of its runs is done."""
        return len(self.missing) < len(self.runs)


def grid_states(names: Iterable[str], jobs: Path, data: Path, rows: Iterable[Row]) -> dict[str, GridState]:
    """The state of each named grid of the folder `jobs`; those that are not there are left out.

    A run that diverged is not missing: submit does not start it again.
    """
    done = {row["run_id"] for row in rows if row["state"] == "done" or is_diverged(row)}
    states = {}
    for name in dict.fromkeys(names):
        path = jobs / f"{name}.yaml"
        if not path.is_file():
            continue
        try:
            runs = read_grid(path, data_root=data).runs
        except (InputError, OSError) as error:
            states[name] = GridState(name, path, {}, {}, " ".join(str(error).split()))
            continue
        states[name] = GridState(name, path, runs, {key: run for key, run in runs.items() if key not in done})
    return states


def absent_rows(states: Iterable[GridState], rows: Sequence[Row]) -> list[Row]:
    """A row, in the state `absent`, for every run of the grids that has no directory."""
    known = {row["run_id"] for row in rows}
    runs = {key: run for state in states for key, run in state.missing.items() if key not in known}
    return [
        {"run_id": run_id(run), "state": "absent"} | {name: setting_cell(name, getattr(run, name)) for name in SETTINGS}
        for run in runs.values()
    ]


def missing_seeds(state: GridState) -> list[tuple[str, list[int]]]:
    """(settings, seeds) of the runs of a grid that are not done; the settings are those that its runs differ in."""
    varying = [
        name
        for name in SETTINGS
        if name not in ("seed", "protocol", "features")
        and len({str(getattr(run, name)) for run in state.runs.values()}) > 1
    ]
    seeds: dict[tuple[Any, ...], list[int]] = {}
    for run in state.missing.values():
        seeds.setdefault(tuple(setting_cell(name, getattr(run, name)) for name in varying), []).append(run.seed)
    keys = sorted(seeds, key=lambda key: [order(name, value) for name, value in zip(varying, key)])
    return [(" ".join(f"{name} {shown(name, value)}" for name, value in zip(varying, key)), seeds[key]) for key in keys]


def missing_text(state: GridState) -> str:
    """Which runs of a grid are not done: their number, and the first of them by setting and seed."""
    found = missing_seeds(state)
    parts = [f"{settings} {seeds_text(seeds)}".strip() for settings, seeds in found[:_SETTINGS_NAMED]]
    more = f"; {len(found) - _SETTINGS_NAMED} more settings" if len(found) > _SETTINGS_NAMED else ""
    return f"{len(state.missing)} of {len(state.runs)} missing ({'; '.join(parts)}{more})"


def command(state: GridState, outputs: Path) -> str:
    """The command that runs what is missing of a grid."""
    where = "" if outputs == Path("outputs") else f" --outputs {shlex.quote(str(outputs))}"
    grid = state.path.relative_to(Path.cwd()) if state.path.is_relative_to(Path.cwd()) else state.path
    return f"python -m dc_hpc.submit --grid {shlex.quote(str(grid))}{where}"
