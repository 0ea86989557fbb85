"""Which runs a panel of the paper is made of, and which of those that its grids ask for are not done."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dc_hpc.config.baselines import BASELINES, PROTOCOLS
from dc_hpc.config.grid import read_grid
from dc_hpc.config.run_config import RunConfig, run_id
from dc_hpc.errors import InputError
from dc_hpc.report.frames.schema import SETTINGS, setting_cell
from dc_hpc.report.panels.grouping import ACCURACY, ALIGNMENT, Cell, Row, fields_of, order, setting, shown, split
from dc_hpc.report.panels.paper import Panel

# Where runs may differ from the baseline and still belong to a panel, as a group of their own.
_FREE = RunConfig.free_in_panels() | {
    name for protocols in PROTOCOLS.values() for fields in protocols.values() for name in fields
}
_LAYERS_FREE = ("k", "labels")
_SETTINGS_NAMED = 3


def wanted(panel: Panel) -> Row:
    """The settings that a run of the panel must have."""
    neutral = {name: field.default for name, field in RunConfig.model_fields.items() if not field.is_required()}
    settings = neutral | BASELINES[panel.base] | dict(panel.fixed)
    fields = ALIGNMENT if panel.kind in ("alignment", "features") else ACCURACY
    free = _FREE | set(panel.axis) | set(_LAYERS_FREE if panel.kind == "layers" else ())
    return {name: setting_cell(name, settings[name]) for name in fields if name in settings and name not in free}


def select_runs(panel: Panel, rows: Iterable[Row]) -> list[Row]:
    """The rows of a panel that count for its accuracies (of an alignment: for its IA), done or not.

    A data set `svhn-derived` belongs to svhn's panels: a person's own copy, a group of its own.
    """
    settings = wanted(panel)
    found = [row for row in rows if _matches(row, settings)]
    if panel.kind in ("alignment", "features"):
        return [row for row in found if not row.get("labels")]
    probed = [row for row in found if row.get("probe") is not None]
    if panel.kind == "layers":
        return probed
    trained = [row for row in probed if (row.get("cycles") or 0) > 0]
    return trained if _begun(panel, trained) else []


def alignment_rows(panel: Panel, rows: Iterable[Row]) -> list[Row]:
    """The rows of a panel, however long, that have its IA: a first clustering with the same settings."""
    alignment = Panel(panel.name, panel.base, "alignment", "", panel.axis, panel.values, panel.fixed)
    return select_runs(alignment, rows)


def setting_groups(panel: Panel, rows: Sequence[Row], value: str) -> list[Cell]:
    """The rows of a panel by everything but its axis and the seed: what can be compared along the axis.

    Grids share runs, so that some belong to a panel by chance. Left out, each only where something better is
    there: values that the paper does not show, settings run at one value, seeds run at one value.
    """
    fields = [name for name in fields_of(value) if name not in panel.axis]
    if panel.axis == ("sobel",):
        fields.remove("protocol")  # a protocol is one of these filters and would part what stands side by side
    if not panel.axis or panel.kind == "search":
        return split(rows, fields)
    inside = [row for row in rows if row.get(panel.axis[0]) in panel.values]
    groups = split(inside if any(row["state"] != "absent" for row in inside) else rows, fields)
    several = [group for group in groups if len({place for _, place in _places(panel, group)}) > 1]
    if value == "ia":
        return several or groups
    return [Cell(group.settings, _paired(panel, group)) for group in several or groups]


def axis_cells(panel: Panel, group: Cell) -> list[Cell]:
    """The cells of a group along the panel's axis, in order."""
    return [Cell(group.settings | cell.settings, cell.rows) for cell in split(group.rows, panel.axis)]


def _places(panel: Panel, group: Cell) -> set[tuple[int, tuple]]:
    """(seed, place on the axis) of the runs that have a directory."""
    return {
        (row["seed"], tuple(setting(row, name) for name in panel.axis))
        for row in group.rows
        if row["state"] != "absent"
    }


def _paired(panel: Panel, group: Cell) -> list[Row]:
    """The rows without the seeds of other figures, which were run at one value only and would shift that
    alone.
    """
    counts = Counter(seed for seed, _ in _places(panel, group))
    if max(counts.values()) == 1:
        return group.rows
    return [row for row in group.rows if row["state"] == "absent" or counts[row["seed"]] > 1]


def _begun(panel: Panel, rows: Sequence[Row]) -> bool:
    """Whether any run was made for a panel of halted (or leaked) runs: a `never` is another figure's, too."""
    own = {"halt_cycle", "resume_leak"} & set(panel.axis)
    return all(any(row["state"] != "absent" and row.get(name) is not None for row in rows) for name in own)


def _matches(row: Row, settings: Row) -> bool:
    if row["state"] == "damaged" or row.get("dataset") is None:
        return False
    dataset = settings["dataset"]
    if row["dataset"] != dataset and not row["dataset"].startswith(f"{dataset}-"):
        return False
    return all(row.get(name) == value for name, value in settings.items() if name != "dataset")


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
    """The state of each named grid of the folder `jobs`; those that are not there are left out."""
    done = {row["run_id"] for row in rows if row["state"] == "done"}
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


def missing_text(state: GridState) -> str:
    """Which runs of a grid are not done: their number, and the first of them by setting and seed."""
    runs = list(state.missing.values())
    varying = [
        name
        for name in SETTINGS
        if name not in ("seed", "protocol", "features")
        and len({str(getattr(run, name)) for run in state.runs.values()}) > 1
    ]
    seeds: dict[tuple, list[int]] = {}
    for run in runs:
        seeds.setdefault(tuple(setting_cell(name, getattr(run, name)) for name in varying), []).append(run.seed)
    keys = sorted(seeds, key=lambda key: [order(name, value) for name, value in zip(varying, key)])
    parts = [
        " ".join([*(f"{name} {shown(name, value)}" for name, value in zip(varying, key)), seeds_text(seeds[key])])
        for key in keys[:_SETTINGS_NAMED]
    ]
    more = f"; {len(keys) - _SETTINGS_NAMED} more settings" if len(keys) > _SETTINGS_NAMED else ""
    return f"{len(runs)} of {len(state.runs)} missing ({'; '.join(parts)}{more})"


def seeds_text(seeds: Iterable[int], most: int = 8) -> str:
    """`seed 4`, `seeds 1 2 3`, or the first few and how many more."""
    ordered = list(seeds)
    more = f" and {len(ordered) - most} more" if len(ordered) > most else ""
    return f"seed{'s' * (len(ordered) > 1)} {' '.join(str(seed) for seed in ordered[:most])}{more}"


def command(state: GridState, outputs: Path) -> str:
    """The command that runs what is missing of a grid."""
    where = "" if outputs == Path("outputs") else f" --outputs {shlex.quote(str(outputs))}"
    return f"python -m dc_hpc.submit --grid {shlex.quote(str(state.path))}{where}"
