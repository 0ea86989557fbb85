"""Finds a person's own sweeps: runs that belong to no panel of the paper, or that try it with other cycles or probe.

A sweep is a set of runs that share every setting but the swept ones and the seed.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from dc_hpc.config.baselines import BASELINES, PROTOCOLS
from dc_hpc.config.run_config import RunConfig
from dc_hpc.report.frames.schema import setting_cell
from dc_hpc.report.panels.grouping import (
    ACCURACY,
    ALIGNMENT,
    CLUSTERED,
    IA_ONLY,
    Cell,
    Row,
    dataset_title,
    order,
    setting,
    split,
    training_of,
    varying_settings,
)
from dc_hpc.report.panels.panel import Panel, PanelRows
from dc_hpc.report.panels.paper import PANELS
from dc_hpc.report.sweeps.panel import BOUNDS, SweepPanel

# Settings with fewer runs than this share of all their combinations are several sweeps that cross, not one.
_FILLED = 0.5
_MOST_CROSSING = 6
_TRIED = ("cycles", *(name for name in RunConfig.affecting("probe") if name not in ("probe", "test_digest")))


def own_runs(rows: Iterable[Row], selected: Mapping[str, PanelRows], asked: Mapping[str, Collection[str]]) -> list[Row]:
    """The rows that are no panel's, or only a trial of a panel.

    selected: the rows of each panel, by its name. asked: the names of the runs that each grid asks for, by its name.
    """
    of_the_paper: set[str] = set()
    for name, found in selected.items():
        panel = PANELS[name]
        of_its_grids = {run for grid in panel.grids for run in asked.get(grid, ())}
        of_the_paper |= {row["run_id"] for row in panel.members(found, of_its_grids) if not _is_trial(panel, row)}
    return [
        row
        for row in rows
        if row["run_id"] not in of_the_paper and row["state"] != "damaged" and row.get("dataset") is not None
    ]


def is_of_the_paper(row: Row) -> bool:
    """Whether the paper has the data set of a run; a copy such as `svhn-derived` counts."""
    name = row.get("dataset") or ""
    return any(name == base["dataset"] or name.startswith(f"{base['dataset']}-") for base in BASELINES.values())


def sweeps_of(rows: Sequence[Row]) -> list[SweepPanel]:
    """The sweeps among a person's own runs, by data set; each is a panel."""
    parts: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        images = setting(row, "train_digest") or setting(row, "data_digest") or ""
        parts.setdefault((row["dataset"], images, row["net"]), []).append(row)
    named: dict[str, SweepPanel] = {}
    for part in (part for key in sorted(parts) for part in _by_test_set(parts[key])):
        for panel in _sweeps_of_one_dataset(part):
            name = next(name for name in _names(panel.name) if name not in named)
            named[name] = SweepPanel(**{**vars(panel), "name": name})
    return list(named.values())


def _by_test_set(rows: Sequence[Row]) -> Iterable[list[Row]]:
    """The rows of one training set by the test set of their accuracy; a run without a probe goes with its IA."""
    probed: dict[str, list[Row]] = {}
    for row in rows:
        if row.get("probe"):
            probed.setdefault(setting(row, "test_digest") or "", []).append(row)
    other = [row for row in rows if not row.get("probe")]
    for place, name in enumerate(sorted(probed) or [""]):
        found = probed.get(name, [])
        alignments = {_alignment_of(row) for row in found}
        yield found + [row for row in other if place == 0 or _alignment_of(row) in alignments]


def _is_trial(panel: Panel, row: Row) -> bool:
    """Whether a run of a panel has other cycles, or another probe, than the paper: a small trial of one's own.

    A run of no cycles is none: it has the Initial Alignment, or the random floor, of the paper's run.
    """
    of_protocol = {name for fields in PROTOCOLS[panel.base].values() for name in fields}
    expected = panel.baseline_settings()
    return any(
        row.get(name) != setting_cell(name, expected[name])
        for name in _TRIED
        if name not in of_protocol and name not in panel.axis and not (name == "cycles" and not row.get("cycles"))
    )


def _sweeps_of_one_dataset(rows: Sequence[Row]) -> list[SweepPanel]:
    """The sweeps of one data set and net: of trained runs with their bounds, else of floors, then of IA alone."""
    kinds: dict[str, list[Row]] = {}
    for row in rows:
        kinds.setdefault(training_of(row), []).append(row)
    bounds = [row for kind in BOUNDS for row in kinds.get(kind, [])] if CLUSTERED in kinds else []
    main = [row for kind, found in kinds.items() if kind not in (IA_ONLY, *(BOUNDS if bounds else ())) for row in found]
    clustered = {_alignment_of(row) for row in main}
    alone = [row for row in kinds.get(IA_ONLY, []) if _alignment_of(row) not in clustered]
    joined = [row for row in kinds.get(IA_ONLY, []) if _alignment_of(row) in clustered]
    panels = [_panel(cells, names, joined, bounds) for cells, names in _crossing(split(main, ACCURACY))]
    return panels + [_panel(cells, names, [], []) for cells, names in _crossing(split(alone, ACCURACY))]


def _crossing(cells: Sequence[Cell]) -> list[tuple[list[Cell], list[str]]]:
    """(cells, swept settings) of each sweep: one over all settings that vary, or several that cross in some cells."""
    if not cells:
        return []
    names = _independent(cells)
    combinations = math.prod(len({cell.settings[name] for cell in cells}) for name in names)
    whole = [(list(cells), names)]
    if len(names) < 2 or len(cells) >= _FILLED * combinations:
        return whole
    found = []
    for name in names:
        others = [other for other in ACCURACY if other != name and other in names]
        for _, group in itertools.groupby(sorted(cells, key=_sorting(others)), key=_sorting(others)):
            line = list(group)
            if len(line) > 1:
                found.append((line, [name]))
    covered = {id(cell) for line, _ in found for cell in line}
    if len(covered) < len(cells) or len(found) > _MOST_CROSSING:
        return whole
    return found


def _sorting(names: Sequence[str]) -> Any:
    return lambda cell: [order(name, cell.settings[name]) for name in names]


def _independent(cells: Sequence[Cell]) -> list[str]:
    """The settings that vary, without those that follow from another one of them; the x axis of a figure first.

    The x axis is the one with numbers and the most values.
    """
    varying = varying_settings(cells, ACCURACY)
    kept: list[str] = []
    for name in sorted(varying, key=lambda name: RunConfig.declared[name].follows):
        if not any(_decides(cells, other, name) for other in kept):
            kept = [other for other in kept if not _decides(cells, name, other)] + [name]

    def rank(name: str) -> tuple[bool, int]:
        values = {cell.settings[name] for cell in cells}
        return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values), len(values)

    return sorted(kept, key=rank, reverse=True)


def _decides(cells: Sequence[Cell], one: str, other: str) -> bool:
    return len({(cell.settings[one], cell.settings[other]) for cell in cells}) == len(
        {cell.settings[one] for cell in cells}
    )


def _alignment_of(row: Row) -> tuple[Any, ...]:
    return tuple(setting(row, name) for name in ALIGNMENT)


def _panel(cells: Sequence[Cell], names: Sequence[str], joined: Sequence[Row], bounds: Sequence[Row]) -> SweepPanel:
    runs = {row["run_id"] for cell in cells for row in cell.rows}
    alignments = {_alignment_of(row) for cell in cells for row in cell.rows}
    dataset = cells[0].settings["dataset"]
    return SweepPanel(
        name=re.sub("[^a-z0-9]+", "_", "_".join(("sweep", dataset, *sorted(names))).lower()).strip("_"),
        base=dataset,
        says="",
        axis=tuple(names),
        title=f"{dataset_title(dataset)}, " + (f"swept: {', '.join(names)}" if names else "one setting"),
        runs=frozenset(runs | {row["run_id"] for row in joined if _alignment_of(row) in alignments}),
        bounds=frozenset(row["run_id"] for row in bounds if _fits(row, cells)),
    )


def _fits(row: Row, cells: Sequence[Cell]) -> bool:
    """Whether a random floor or a supervised ceiling is one of these cells: of the same first pass and probe."""
    return all(
        any(setting(row, name) == cell.settings[name] for cell in cells)
        for name in RunConfig.affecting("first_pass", "probe")
        if name in ACCURACY
    )


def _names(name: str) -> Iterable[str]:
    yield name
    for number in itertools.count(2):
        yield f"{name}_{number}"
