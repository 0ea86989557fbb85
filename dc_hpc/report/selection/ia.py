"""Selects by Initial Alignment: seeds that span its range (section 4.1.2), values that promise most (section 4.3)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from dc_hpc.config.beyond import AFTER_FIRST
from dc_hpc.config.grid import LARGEST_GRID, Grid, with_overrides
from dc_hpc.config.run_config import RunConfig, run_id
from dc_hpc.config.yaml_reader import read_yaml
from dc_hpc.errors import InputError
from dc_hpc.report.statistics import Interval, median_interval
from dc_hpc.storage import atomic_files, run_directory

# Settings of an Initial Alignment run that its full run does not have.
_ONLY_IA = {"cycles": 0, "probe": (), "features": "none"}
ONLY_IA = _ONLY_IA | {
    "halt_cycle": None,
    "resume_leak": None,
    **{name: RunConfig.model_fields[name].default for name in AFTER_FIRST},
}


@dataclass(frozen=True)
class Value:
    """One value of the ranked setting.

    alignments: IA of its seeds; corrected: the same above chance (AMI), which is what ranks it, since the chance
    level of NMI grows with k; interval: 95 % bootstrap of the median of `corrected`; accuracies: percent, of the full
    runs that are done; hours: device hours of those runs; cost: device hours of the IA runs.
    """

    value: Any
    alignments: list[float]
    corrected: list[float]
    interval: Interval | None
    accuracies: list[float]
    hours: list[float]
    cost: float


def alignments_by_seed(grid: Grid, outputs: Path) -> dict[int, float]:
    """seed -> IA of the finished runs of a grid that differ in their seed only."""
    changing = [name for name in varying(grid.points) if name != "seed"]
    if changing:
        raise InputError(f"{grid.path}: --span needs a grid whose runs differ in their seed only, not in {changing[0]}")
    return {point.seed: ia for point in grid.points if (ia := _result(outputs, point, "ia")) is not None}


def spread_evenly(alignments: dict[int, float], count: int) -> list[int]:
    """`count` different seeds whose alignments lie nearest to evenly spaced points of their range, in that order."""
    low, high = min(alignments.values()), max(alignments.values())
    targets = [low + (high - low) * step / (count - 1) for step in range(count)]
    left = dict(alignments)
    # The ends first, so that no inner point takes them.
    chosen: dict[int, int] = {}
    for step in [0, count - 1, *range(1, count - 1)]:
        chosen[step] = min(left, key=lambda seed: (abs(left[seed] - targets[step]), seed))
        del left[chosen[step]]
    return [chosen[step] for step in range(count)]


def check_first_clusterings(grid: Grid) -> None:
    """InputError for a grid whose runs do not begin with a clustering of their own net."""
    for point in grid.points:
        if point.labels:
            raise InputError(f"{grid.path}: labels on never clusters, so that --by has nothing to rank; leave it out")
        if point.teacher_seed is not None:
            raise InputError(
                f"{grid.path}: the first clustering of a run is that of its teacher, so that --by cannot rank the run; "
                "give a grid of the teachers' seeds, without teacher_seed"
            )


def ia_runs(grid: Grid, by: str, seeds: int) -> dict[Any, list[RunConfig]]:
    """value -> the IA-only runs of seeds 1..seeds with that value of `by` and all else as in the grid."""
    differing = varying(grid.points)
    if by in RunConfig.affecting("training", "probe"):
        raise InputError(f"--by {by}: IA is measured at the first clustering, which {by} cannot change")
    if by not in differing or set(differing) - {by, "seed"}:
        raise InputError(
            f"{grid.path}: --by {by} needs a grid whose runs differ in {by} and seed only; they differ in "
            f"{', '.join(differing) or 'nothing'}"
        )
    first = {getattr(point, by): point for point in reversed(grid.points)}
    if seeds * len(first) > LARGEST_GRID:
        raise InputError(
            f"--seeds {seeds} of {len(first)} values of {by} are {seeds * len(first)} runs; allowed: at most "
            f"{LARGEST_GRID}, so give fewer seeds"
        )
    return {
        value: [first[value].model_copy(update=ONLY_IA | {"seed": seed}) for seed in range(1, seeds + 1)]
        for value in dict.fromkeys(getattr(point, by) for point in grid.points)
    }


def rank(grid: Grid, by: str, runs_by_value: dict[Any, list[RunConfig]], outputs: Path) -> list[Value]:
    """The values of `by`, the highest median IA above chance first. runs_by_value: of `ia_runs`."""
    ranked = []
    for value, runs in runs_by_value.items():
        corrected = _results(outputs, runs, "ia_ami")
        if not corrected:
            raise InputError(f"no IA run of {by} {word(value)} is done; run this command without --read")
        full = [point for point in grid.runs.values() if getattr(point, by) == value]
        ranked.append(
            Value(
                value,
                _results(outputs, runs, "ia"),
                corrected,
                median_interval(corrected),
                _results(outputs, full, "accuracy"),
                [h for point in full if (h := hours_of(outputs, point)) is not None],
                sum(hours_of(outputs, config) or 0.0 for config in runs),
            )
        )
    return sorted(ranked, key=lambda one: -median(one.corrected))


def saving(grid: Grid, by: str, ranked: list[Value], keep: int) -> str:
    """What not running the dropped values saves, from measured runs of this grid, and what the IA runs cost."""
    dropped = ranked[keep:]
    runs = {one.value: sum(getattr(point, by) == one.value for point in grid.runs.values()) for one in ranked}
    count, cost = sum(runs[one.value] for one in dropped), sum(one.cost for one in ranked)
    measured = [hours for one in ranked for hours in one.hours]
    if not measured:
        return (
            f"saved: {count} of {len(grid.runs)} runs, for {cost:.2f} h of IA runs; hours of a full run: not "
            "measured (none of this grid is done)"
        )
    mean = sum(measured) / len(measured)
    hours = sum(runs[one.value] * (sum(one.hours) / len(one.hours) if one.hours else mean) for one in dropped)
    return (
        f"saved: {hours:.2f} device hours ({count} of {len(grid.runs)} runs, from {len(measured)} measured), for "
        f"{cost:.2f} h of IA runs"
    )


def regret(by: str, ranked: list[Value], keep: int) -> str:
    """How much median accuracy is lost with the dropped values, where all accuracies are known."""
    unknown = [word(one.value) for one in ranked if not one.accuracies]
    if unknown:
        return f"regret of trusting IA: not measured (no accuracy yet for {by} {', '.join(unknown)})"
    best, best_kept = (max(values, key=lambda one: median(one.accuracies)) for values in (ranked, ranked[:keep]))
    lost = median(best.accuracies) - median(best_kept.accuracies)
    return (
        f"regret of trusting IA: {lost:.2f} points of median accuracy (best {by}: {word(best.value)}; best kept: "
        f"{word(best_kept.value)})"
    )


def check_rewritable(grid: Grid, names: Iterable[str], overrides: Mapping[str, Any]) -> None:
    """InputError where `rewritten` could not replace the lists of these settings."""
    sweep = with_overrides(read_yaml(grid.path).data, overrides)["sweep"]
    if not isinstance(sweep, dict) or any(name not in sweep for name in names):
        raise InputError(f"{grid.path}: a grid is written anew only if it sweeps {', '.join(names)} in one plain block")


def rewritten(grid: Grid, replaced: dict[str, list[Any]], comment: str, overrides: Mapping[str, Any]) -> str:
    """The YAML of a grid with other lists, without the settings of an IA grid, so that it asks for full runs.

    overrides: the settings of `--set` that the grid was read with; the text contains them.
    """
    check_rewritable(grid, replaced, overrides)
    content = with_overrides(read_yaml(grid.path).data, overrides)
    content["sweep"] = content["sweep"] | {key: [_plain(value) for value in values] for key, values in replaced.items()}
    fixed = content.pop("fixed", None) or {}
    if fixed.get("cycles") == 0:
        fixed = {key: value for key, value in fixed.items() if key not in _ONLY_IA}
    ordered = {
        key: content.get(key, fixed)
        for key in ("base", "protocol", "fixed", "sweep", "resources")
        if key in content or (key == "fixed" and fixed)
    }
    return f"# {comment}\n" + yaml.safe_dump(ordered, sort_keys=False, default_flow_style=None, width=110)


def word(value: Any) -> str:
    """A value as a grid would write it."""
    return "off" if value is None else "+".join(value) if isinstance(value, tuple) else str(value)


def varying(points: tuple[RunConfig, ...]) -> list[str]:
    """The settings in which the points of a grid differ."""
    first = points[0]
    return [
        name
        for name, one in RunConfig.declared.items()
        if one.identity and one.in_grids and any(getattr(point, name) != getattr(first, name) for point in points)
    ]


def _result(outputs: Path, config: RunConfig, name: str) -> float | None:
    directory = run_directory.runs_folder(outputs) / run_id(config)
    try:
        result: float | None = run_directory.read_result(directory).get(name)
    except FileNotFoundError:
        return None
    except atomic_files.DamagedFile as error:
        print(f"left out: {error}")
        return None
    return result


def _results(outputs: Path, runs: list[RunConfig], name: str) -> list[float]:
    return [value for config in runs if (value := _result(outputs, config, name)) is not None]


def hours_of(outputs: Path, config: RunConfig) -> float | None:
    """Hours that a finished run took, over all its attempts; None when it is not done."""
    directory = run_directory.runs_folder(outputs) / run_id(config)
    if not (directory / "result.json").exists():
        return None
    attempts = run_directory.attempts(directory)
    return sum(float(stage["seconds"]) for attempt in attempts for stage in attempt.get("seconds", [])) / 3600


def _plain(value: Any) -> Any:
    return "off" if value is None else list(value) if isinstance(value, tuple) else value
