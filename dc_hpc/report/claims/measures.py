"""What claims measure: of a group of runs one number, and its interval at any level.

An accuracy is uncertain by its seeds and by its test images; `test_sets` says how an interval covers both.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np

from dc_hpc.report.claims.rules import Measured
from dc_hpc.report.panels.grouping import Cell, Row, base_of, order, setting
from dc_hpc.report.statistics import (
    FEWEST,
    FEWEST_RANKED,
    Interval,
    IntervalAt,
    mean_interval,
    mean_rho_interval,
    percentiles_at,
    resampled,
    share_interval,
    spearman,
    spearman_interval,
)
from dc_hpc.report.test_sets import mean_at, noise_of

Measure = Callable[[Cell], Measured]
Blocks = dict[int, dict[Any, Row]]  # seed -> value of the axis -> run
Pairs = Sequence[tuple[float, float]]


def measured_mean(values: Sequence[float], noise: np.ndarray | None = None, *, lacks: str = "no run") -> Measured:
    """The mean over seeds. noise: of `noise_of`, where the values are accuracies; without it Student's interval."""
    if not values:
        return Measured(lacks=lacks)
    at = partial(mean_interval, values) if noise is None else mean_at(values, noise)
    return Measured(float(np.mean(values)), at, len(values))


def measured_mean_of(cell: Cell, name: str) -> Measured:
    """The mean of a number over the seeds of a cell; of an accuracy the interval covers test images, too."""
    runs = list(cell.runs(name).values())
    noise = noise_of(runs, name=name) if runs and name.startswith("accuracy") else None
    return measured_mean([row[name] for row in runs], noise)


def measured_rho(pairs: Pairs, *, lacks: str) -> Measured:
    """Spearman's rho over runs. lacks: what to say where there is no pair."""
    if not pairs:
        return Measured(lacks=lacks)
    x, y = [one for one, _ in pairs], [other for _, other in pairs]
    rho = spearman(x, y)
    if rho is None and len(pairs) >= FEWEST:
        return Measured(lacks="all runs have the same number")
    return Measured(rho, partial(spearman_interval, x, y), len(pairs))


def measured_mean_rho(blocks: Sequence[Pairs], *, lacks: str) -> Measured:
    """Mean over seeds of Spearman's rho within a seed. A seed whose values are all alike has none."""
    ranked = [(rho, len(block)) for block in blocks if (rho := _rho(block)) is not None]
    if not ranked:
        return Measured(lacks=lacks)
    rhos, of = [rho for rho, _ in ranked], min(n for _, n in ranked)
    return Measured(float(np.mean(rhos)), partial(mean_rho_interval, rhos, of), len(rhos))


def _rho(block: Pairs) -> float | None:
    return spearman([one for one, _ in block], [other for _, other in block])


def relation(group: Cell) -> Measured:
    """Spearman's rho of IA and accuracy over runs."""
    return measured_rho([(ia, accuracy) for _, ia, accuracy in group.pairs()], lacks="no run with IA and accuracy")


def trend(axis: str, places: Collection[Any]) -> Measure:
    """Mean over seeds of Spearman's rho of axis and accuracy within a seed, of the seeds that have all the places."""

    def measure(group: Cell) -> Measured:
        blocks = [
            [(place, row["accuracy"]) for place, row in block.items()]
            for block in _blocks(group, axis, "accuracy").values()
            if set(places) <= set(block)
        ]
        return measured_mean_rho(blocks, lacks=_lacks(axis, places))

    return measure


def trend_with_median_ia(axis: str, places: Collection[Any]) -> Measure:
    """Mean over seeds of Spearman's rho, within a seed, of accuracy and the median IA of all seeds at that value.

    Only seeds count that have an accuracy at all the places.
    """

    def measure(group: Cell) -> Measured:
        levels: dict[Any, list[float]] = {}
        for block in _blocks(group, axis, "ia").values():
            for place, row in block.items():
                levels.setdefault(place, []).append(row["ia"])
        medians = {place: float(np.median(found)) for place, found in levels.items()}
        blocks = [
            [(medians[place], row["accuracy"]) for place, row in block.items() if place in medians]
            for block in _blocks(group, axis, "accuracy").values()
            if set(places) <= set(block)
        ]
        return measured_mean_rho(blocks, lacks=_lacks(axis, places))

    return measure


def difference(axis: str, more: Any, less: Any) -> Measure:
    """Mean over seeds of the accuracy at one value of the axis less that at another. None is `never`."""
    return least_of(axis, [(more, less)])


def least_of(axis: str, contrasts: Sequence[tuple[Any, Any]]) -> Measure:
    """The least of several mean differences (more, less) of accuracy, which are fixed before the runs.

    A claim that all of them are positive holds where the least is. The lower end of the interval is the lowest of all
    lower ends; the upper end is the lowest of all upper ends, at a level that makes up for taking the lowest. No
    maximum or minimum over the runs of a seed is taken, which noise alone would move to one side.
    """

    def measure(group: Cell) -> Measured:
        places = {place for pair in contrasts for place in pair}
        blocks = [block for block in _blocks(group, axis, "accuracy").values() if places <= set(block)]
        if not blocks:
            return Measured(lacks=_lacks(axis, places))
        sides = [([block[more] for block in blocks], [block[less] for block in blocks]) for more, less in contrasts]
        found = [[a["accuracy"] - b["accuracy"] for a, b in zip(*side)] for side in sides]
        intervals = [mean_at(values, noise_of(*side)) for values, side in zip(found, sides)]
        return Measured(min(float(np.mean(values)) for values in found), _least_at(intervals), len(blocks))

    return measure


def _least_at(intervals: Sequence[IntervalAt]) -> IntervalAt:
    def interval(level: float) -> Interval | None:
        lower = [at(level) for at in intervals]
        upper = [at(1 - (1 - level) / len(intervals)) for at in intervals]
        if any(one is None for one in (*lower, *upper)):
            return None
        return Interval(min(one.low for one in lower if one), min(one.high for one in upper if one))

    return interval


def level(value: str, axis: str, place: Any) -> Measure:
    """Median of the number at one value of the axis."""

    def measure(group: Cell) -> Measured:
        found = [block[place] for block in _blocks(group, axis, value).values() if place in block]
        if not found:
            return Measured(lacks=f"no run with {axis} {_word(place)}")
        numbers = np.array([row[value] for row in found])
        at = _bootstrap_at(len(found), lambda drawn: np.median(numbers[drawn], axis=1), _noise(value, found))
        return Measured(float(np.median(numbers)), at, len(found))

    return measure


def median_difference(value: str, axis: str, more: Any, less: Any) -> Measure:
    """Difference of two medians over the seeds that have both, which are resampled together."""

    def measure(group: Cell) -> Measured:
        blocks = [block for block in _blocks(group, axis, value).values() if more in block and less in block]
        if not blocks:
            return Measured(lacks=f"no seed with {axis} {_word(more)} and {_word(less)}")
        rows = [[block[less] for block in blocks], [block[more] for block in blocks]]
        both = np.array([[row[value] for row in side] for side in rows]).T
        medians = np.median(both, axis=0)
        at = _bootstrap_at(
            len(both), lambda drawn: np.diff(np.median(both[drawn], axis=1))[:, 0], _noise(value, rows[1], rows[0])
        )
        return Measured(float(medians[1] - medians[0]), at, len(both))

    return measure


def descending_medians(value: str, k: int, datasets: Sequence[str]) -> Measure:
    """The least difference of the medians of neighbouring data sets at one k: positive where they fall in this order.

    Seeds of two data sets are other nets on other images, so each is resampled by itself. n is the smallest of all.
    """

    def measure(group: Cell) -> Measured:
        rows = [row for row in group.rows if row["k"] == k]
        cells = [Cell({}, [row for row in rows if base_of(row["dataset"]) == name]) for name in datasets]
        found = [list(cell.values(value).values()) for cell in cells]
        absent = [name for name, values in zip(datasets, found) if not values]
        if absent:
            return Measured(lacks=f"no run of {absent[0]} with k {k}")
        medians = [float(np.median(values)) for values in found]
        drawn = [_resampled_medians(values, seed) for seed, values in enumerate(found)]
        few = min(map(len, found))
        intervals = [
            percentiles_at(a - b) if few >= FEWEST_RANKED else (lambda level: None) for a, b in zip(drawn, drawn[1:])
        ]
        return Measured(min(a - b for a, b in zip(medians, medians[1:])), _least_at(intervals), few)

    return measure


def _resampled_medians(values: Sequence[float], seed: int) -> np.ndarray:
    numbers = np.random.default_rng(seed).permutation(values)  # so that two sets of one n are not drawn alike
    return resampled(len(numbers), lambda drawn: np.median(numbers[drawn], axis=1))


def share_inside(value: str, low: float, high: float, axis: str = "", place: Any = None) -> Measure:
    """Share of the seeds whose number lies in a range, ends included; if given, of the runs at one place of an axis."""

    def measure(group: Cell) -> Measured:
        rows = [row for row in group.rows if not axis or setting(row, axis) == place]
        found = list(Cell(group.settings, rows).values(value).values())
        if not found:
            return Measured(lacks=f"no run with {axis} {_word(place)}" if axis else f"no run with {value.upper()}")
        hits = sum(low <= one <= high for one in found)
        return Measured(hits / len(found), partial(share_interval, hits, len(found)), len(found))

    return measure


def share_of_clustering(group: Cell) -> Measured:
    """Mean over the never-halted runs of the share of clustering in the time of clustering and training."""
    never = Cell(group.settings, [row for row in group.rows if row.get("halt_cycle") is None])
    rows = [row for row in never.runs("seconds_clustered").values() if row.get("seconds_trained")]
    shares = [row["seconds_clustered"] / (row["seconds_clustered"] + row["seconds_trained"]) for row in rows]
    return measured_mean(shares, lacks="no never-halted run with times")


def _lacks(axis: str, places: Iterable[Any]) -> str:
    return f"no seed with {axis} {', '.join(map(_word, sorted_places(axis, set(places))))}"


def _noise(value: str, *sides: Sequence[Row]) -> np.ndarray | None:
    return noise_of(*sides) if value == "accuracy" else None


def _bootstrap_at(n: int, statistic: Callable[[np.ndarray], np.ndarray], noise: np.ndarray | None) -> IntervalAt:
    if n < FEWEST_RANKED:
        return lambda level: None
    found = resampled(n, statistic)
    return percentiles_at(found if noise is None else found + noise)


def _blocks(group: Cell, axis: str, value: str) -> Blocks:
    """The runs that have the number, by seed and by value of the axis; both in order."""
    places = sorted_places(axis, {setting(row, axis) for row in group.rows})
    blocks: Blocks = {}
    for place in places:
        cell = Cell(group.settings, [row for row in group.rows if setting(row, axis) == place])
        for seed, row in cell.runs(value).items():
            blocks.setdefault(seed, {})[place] = row
    return dict(sorted(blocks.items()))


def sorted_places(axis: str, places: set[Any]) -> list[Any]:
    """The values of an axis in order."""
    return sorted(places, key=lambda place: order(axis, place))


def _word(place: Any) -> str:
    return "never" if place is None else str(place)
