"""Selects seeds or values of a setting by a measure of the first clustering that needs no label.

Nothing here reads a number that a label went into: of each run it takes one column of metrics.csv.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from dc_hpc.config.grid import Grid
from dc_hpc.config.run_config import RunConfig, run_id
from dc_hpc.config.yaml_reader import did_you_mean
from dc_hpc.errors import InputError
from dc_hpc.report.selection.ia import ONLY_IA, hours_of, varying, word
from dc_hpc.report.selection.measures import MEASURES, OF_FIRST
from dc_hpc.report.statistics import Interval, median_interval
from dc_hpc.storage import metrics_csv, run_directory
from dc_hpc.storage.atomic_files import DamagedFile

IA = "ia"


@dataclass(frozen=True)
class Ranked:
    """A seed, or a value of the ranked setting.

    found: the measure of the first clustering of each of its runs that is done. interval: 95 % bootstrap of their
    median. cost: device hours of these runs.
    """

    value: Any
    found: list[float]
    interval: Interval | None
    cost: float


def what_is_ranked(grid: Grid, by: str) -> tuple[str, str]:
    """(setting, measure) that `--by` means.

    A setting is ranked by IA. A measure, or `ia`, ranks what the runs of the grid differ in: their seeds, or the values
    of one setting. InputError: a word that is neither, a measure that the first clustering lacks, another grid.
    """
    if by in MEASURES and by not in OF_FIRST:
        raise InputError(f"--by {by}: the first clustering has no {by}; give one of {', '.join((IA, *OF_FIRST))}")
    if by not in (IA, *OF_FIRST):
        if by not in RunConfig.declared:
            words = (IA, *OF_FIRST, *RunConfig.declared)
            raise InputError(
                f"--by {by}: neither a setting nor a measure{did_you_mean(by, words)}; measures: "
                f"{', '.join((IA, *OF_FIRST))}"
            )
        return by, IA
    settings = [name for name in varying(grid.points) if name != "seed"]
    if len(settings) > 1:
        raise InputError(
            f"{grid.path}: --by {by} needs a grid whose runs differ in their seeds, or in one setting more; they "
            f"differ in {', '.join(settings)}"
        )
    if settings and by in MEASURES and MEASURES[by].of_features:
        if RunConfig.declared[settings[0]].affects != "first_pass":
            others = [name for name in OF_FIRST if not MEASURES[name].of_features]
            raise InputError(
                f"--by {by}: it is measured of the features before they are clustered, which {settings[0]} cannot "
                f"change; give ia or one of {', '.join(others)}"
            )
    return (settings[0] if settings else "seed"), by


def runs_of_seeds(grid: Grid) -> dict[Any, list[RunConfig]]:
    """seed -> the run of that seed of the grid, ended after its first clustering."""
    return {point.seed: [point.model_copy(update=ONLY_IA)] for point in grid.points}


def rank(measure: str, setting: str, runs_by_value: dict[Any, list[RunConfig]], outputs: Path) -> list[Ranked]:
    """The values, the one that the measure prefers first, by the median over their runs."""
    ranked = []
    for value, runs in runs_by_value.items():
        found = [number for config in runs if (number := _measured(outputs, config, measure)) is not None]
        if not found:
            raise InputError(
                f"no run of {setting} {word(value)} has {measure} of its first clustering; run this command without "
                "--read, and with runs of this version"
            )
        cost = sum(hours_of(outputs, config) or 0.0 for config in runs)
        ranked.append(Ranked(value, found, median_interval(found), cost))
    return sorted(ranked, key=lambda one: MEASURES[measure].badness(median(one.found)))


def lines_of(measure: str, setting: str, ranked: list[Ranked], keep: int) -> list[str]:
    """The ranking for a person, and what it was made of."""
    one = MEASURES[measure]
    head = f"median {measure} (95 %)"
    lines = [f"{setting:>12}  {'n':>4}  {head:>42}"]
    for place, row in enumerate(ranked):
        between = f" ({row.interval.low:.4f}, {row.interval.high:.4f})" if row.interval else ""
        number = f"{median(row.found):.4f}{between}"
        kept = "kept" if place < keep else "dropped"
        lines.append(f"{word(row.value):>12}  {len(row.found):>4}  {number:>42}  {kept}")
    hours = sum(row.cost for row in ranked)
    return [
        *lines,
        f"No label was read: {measure} of the first clustering decides alone, and {one.prefers} is best.",
        f"cost: {hours:.2f} device hours for {sum(len(row.found) for row in ranked)} first clusterings",
    ]


def _measured(outputs: Path, config: RunConfig, measure: str) -> float | None:
    directory = run_directory.runs_folder(outputs) / run_id(config)
    if not (directory / "result.json").exists():
        return None
    try:
        rows = metrics_csv.read_metrics(directory)
    except (DamagedFile, OSError) as error:
        print(f"left out: {error}")
        return None
    return float(rows[0][measure]) if rows and rows[0][measure] else None
