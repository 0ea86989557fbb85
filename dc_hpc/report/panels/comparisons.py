"""What each kind of panel compares: the runs that go into one row of its table and one mark of its figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dc_hpc.config.baselines import BASELINES
from dc_hpc.config.run_config import NET_SPECS
from dc_hpc.report.panels.grouping import ACCURACY, ALIGNMENT, Cell, Row, median, order, setting, split
from dc_hpc.report.panels.matching import alignment_rows, axis_cells, select_runs, setting_groups
from dc_hpc.report.panels.paper import Panel

TRAINING = ("random net", "clustered", "supervised")


def pairs(group: Cell) -> list[tuple[int, float, float]]:
    """(seed, ia, accuracy) of the runs of a group that have both, by seed."""
    first, second = group.values("ia"), group.values("accuracy")
    return [(seed, first[seed], second[seed]) for seed in first if seed in second]


def axis_groups(panel: Panel, rows: Sequence[Row], value: str) -> list[tuple[Cell, list[Cell]]]:
    """(everything but the axis, its cells along the axis) of each setting."""
    found = alignment_rows(panel, rows) if value == "ia" else select_runs(panel, rows)
    return [(group, axis_cells(panel, group)) for group in setting_groups(panel, found, value)]


def relation_cells(panel: Panel, rows: Sequence[Row]) -> list[tuple[Cell, Cell]]:
    """(the runs with an accuracy, all runs with the same IA) of each setting; the first may be empty."""
    groups = setting_groups(panel, select_runs(panel, rows), "accuracy")
    return _joined(groups, split(alignment_rows(panel, rows), ALIGNMENT))


def both_cells(panel: Panel, rows: Sequence[Row]) -> list[tuple[Cell, Cell]]:
    """(accuracy cell, IA cell) of each value of the axis and each setting; the first may be empty."""
    accuracy, alignments = (
        [cell for _, cells in axis_groups(panel, rows, value) for cell in cells] for value in ("accuracy", "ia")
    )
    return _joined(accuracy, alignments)


def layer_cells(panel: Panel, rows: Sequence[Row]) -> list[Cell]:
    """Random, clustered and supervised nets, each setting a cell; `k` counts only where something was
    clustered.
    """
    k = panel.fixed.get("k", BASELINES[panel.base]["k"])
    marked = []
    for row in select_runs(panel, rows):
        training = TRAINING[2] if row["labels"] else TRAINING[1] if row["cycles"] else TRAINING[0]
        if training != TRAINING[1]:
            marked.append(row | {"training": training, "k": None})
        elif row["k"] == k:
            marked.append(row | {"training": training})
    fields = ("training", *(name for name in ACCURACY if name not in ("probe", "labels")))
    return sorted(split(marked, fields), key=lambda cell: TRAINING.index(cell.settings["training"]))


def layers_of(cells: Sequence[Cell]) -> list[str]:
    """The layers that any run of the cells was probed at, in the order of the net."""
    probed = {
        name.removeprefix("accuracy_")
        for cell in cells
        for row in cell.rows
        for name, value in row.items()
        if name.startswith("accuracy_") and value is not None
    }
    return [layer for layer in NET_SPECS[cells[0].settings["net"]].layers if layer in probed] if cells else []


def search_cells(group: Cell) -> list[Cell]:
    """The settings of a search, best median accuracy first, of the seed (or seeds) that was run with the most
    of them.

    The paper searches with one seed. Other figures share the baseline with their own seeds, which would count
    there only.
    """
    axis = [name for name in ACCURACY if name not in group.settings]
    settings: dict[int, set[tuple]] = {}
    for row in group.rows:
        if row["state"] != "absent":
            settings.setdefault(row["seed"], set()).add(tuple(setting(row, name) for name in axis))
    most = max((len(found) for found in settings.values()), default=0)
    seeds = {seed for seed, found in settings.items() if len(found) == most}
    cells = split([row for row in group.rows if row["seed"] in seeds], axis)
    known = [(median(cell.values("accuracy").values()), cell) for cell in cells]
    ranked = sorted((pair for pair in known if pair[0] is not None), key=lambda pair: -pair[0])
    return [Cell(group.settings | cell.settings, cell.rows) for _, cell in ranked]


def by_value(cells: Sequence[Cell], name: str) -> list[tuple[Any, list[Cell]]]:
    """The cells by one setting, in the order of its values; each list keeps its order."""
    found: dict[Any, list[Cell]] = {}
    for cell in cells:
        found.setdefault(cell.settings[name], []).append(cell)
    return sorted(found.items(), key=lambda item: order(name, item[0]))


def feature_runs(panel: Panel, rows: Sequence[Row]) -> list[Row]:
    """The done run whose first features were dumped, one of each data set, protocol and Sobel: the lowest
    seed.
    """
    found: dict[tuple, Row] = {}
    done = [
        row for row in select_runs(panel, rows) if row["state"] == "done" and row.get("features") not in (None, "none")
    ]
    for row in sorted(done, key=lambda row: (row["cycles"], row["seed"], row["run_id"])):
        found.setdefault((row["dataset"], row["protocol"], row["sobel"]), row)
    return list(found.values())


def _joined(groups: Sequence[Cell], alignments: Sequence[Cell]) -> list[tuple[Cell, Cell]]:
    """Each group with the IA cell of its settings; then the IA cells that no group has."""

    def key(cell: Cell) -> tuple:
        return tuple(cell.settings.get(name) for name in ALIGNMENT)

    by_key = {key(cell): cell for cell in alignments}
    joined = [(group, by_key.get(key(group), Cell(group.settings, []))) for group in groups]
    taken = {key(group) for group in groups}
    return joined + [(Cell({}, []), cell) for cell in alignments if key(cell) not in taken]
