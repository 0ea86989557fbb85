"""Measures and judges a claim: one statistic, its interval, and the window in which the claim says that it lies."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from dc_hpc.report.panels.grouping import Cell, order, setting
from dc_hpc.report.statistics import (
    FEWEST,
    Interval,
    bootstrap,
    mean_interval,
    median_interval,
    share_interval,
    spearman,
    spearman_interval,
)

VERDICTS = ("supported", "contradicted", "undecided", "not run")


class Window(NamedTuple):
    """Where a claim says that its statistic lies; open at both ends."""

    low: float
    high: float


def above(bound: float) -> Window:
    """The window of everything larger."""
    return Window(bound, math.inf)


def below(bound: float) -> Window:
    """The window of everything smaller."""
    return Window(-math.inf, bound)


class Measured(NamedTuple):
    """A statistic of n runs (or n seeds, where a seed is a block) with its 95 % interval.

    lacks: why there is no statistic; empty where there is one.
    """

    value: float | None = None
    interval: Interval | None = None
    n: int = 0
    lacks: str = ""


@dataclass(frozen=True)
class Judged:
    """verdict: one of VERDICTS. reason: for a person, in a few words; empty where the verdict says it all."""

    verdict: str
    reason: str = ""


def judge(measured: Measured, window: Window) -> Judged:
    """The verdict on a statistic.

    supported: the whole interval lies in the window. contradicted: none of it does. undecided: it crosses an end of the
    window, or n is too small for an interval. not run: there is nothing to measure.
    """
    if measured.lacks:
        return Judged("not run", measured.lacks)
    if measured.n < FEWEST or measured.interval is None:
        return Judged("undecided", f"n = {measured.n}: too few for an interval")
    low, high = measured.interval
    if window.low < low and high < window.high:
        return Judged("supported")
    if high <= window.low or low >= window.high:
        return Judged("contradicted")
    return Judged("undecided", f"the interval crosses {window.low if low <= window.low else window.high:g}")


Measure = Callable[[Cell], Measured]


def relation(group: Cell) -> Measured:
    """Spearman's rho of IA and accuracy over runs."""
    found = group.pairs()
    if not found:
        return Measured(lacks="no run with IA and accuracy")
    ia, accuracy = [x for _, x, _ in found], [y for _, _, y in found]
    if spearman(ia, accuracy) is None and len(found) >= FEWEST:
        return Measured(lacks="all runs have the same IA or accuracy")
    return Measured(spearman(ia, accuracy), spearman_interval(ia, accuracy), len(found))


def trend(axis: str) -> Measure:
    """Mean over seeds of Spearman's rho of axis and accuracy within a seed."""

    def measure(group: Cell) -> Measured:
        blocks = _blocks(group, axis, "accuracy")
        within = [spearman(list(block), list(block.values())) for block in blocks.values() if len(block) > 1]
        found = _mean([rho for rho in within if rho is not None], f"no seed with two values of {axis}")
        if found.interval is None:
            return found
        return found._replace(interval=Interval(max(found.interval.low, -1.0), min(found.interval.high, 1.0)))

    return measure


def difference(axis: str, more: Any, less: Any) -> Measure:
    """Mean over seeds of the accuracy at one value of the axis less that at another. None is `never`."""

    def measure(group: Cell) -> Measured:
        blocks = _blocks(group, axis, "accuracy").values()
        return _mean(
            [block[more] - block[less] for block in blocks if more in block and less in block],
            f"no seed with {axis} {_word(more)} and {_word(less)}",
        )

    return measure


def spread(group: Cell) -> Measured:
    """Mean over seeds of the largest less the smallest accuracy of all halting positions."""
    blocks = _blocks(group, "halt_cycle", "accuracy").values()
    return _mean(
        [max(block.values()) - min(block.values()) for block in blocks if len(block) > 2],
        "no seed with three halting positions",
    )


def once_over_best(group: Cell) -> Measured:
    """Mean over seeds of the accuracy of clustering once less the best of every other halting position."""
    blocks = [block for block in _blocks(group, "halt_cycle", "accuracy").values() if 1 in block and len(block) > 2]
    return _mean(
        [block[1] - max(value for halt, value in block.items() if halt != 1) for block in blocks],
        "no seed halted after 1 cycle and at two other positions",
    )


def dip(group: Cell) -> Measured:
    """Mean over seeds of the lower of the two ends (once, always) less the lowest position between them."""
    depths = []
    for block in _blocks(group, "halt_cycle", "accuracy").values():
        inside = [value for halt, value in block.items() if halt not in (1, None)]
        if 1 in block and None in block and inside:
            depths.append(min(block[1], block[None]) - min(inside))
    return _mean(depths, "no seed halted after 1 cycle, never, and between")


def level(value: str, axis: str, place: Any) -> Measure:
    """Median of the number at one value of the axis."""

    def measure(group: Cell) -> Measured:
        found = [block[place] for block in _blocks(group, axis, value).values() if place in block]
        if not found:
            return Measured(lacks=f"no run with {axis} {_word(place)}")
        return Measured(float(np.median(found)), median_interval(found), len(found))

    return measure


def median_difference(value: str, axis: str, more: Any, less: Any) -> Measure:
    """Difference of two medians over the seeds that have both, which are resampled together."""

    def measure(group: Cell) -> Measured:
        blocks = _blocks(group, axis, value).values()
        both = np.array([(block[less], block[more]) for block in blocks if more in block and less in block])
        if not len(both):
            return Measured(lacks=f"no seed with {axis} {_word(more)} and {_word(less)}")
        medians = np.median(both, axis=0)
        interval = bootstrap(len(both), lambda drawn: np.diff(np.median(both[drawn], axis=1))[:, 0])
        return Measured(float(medians[1] - medians[0]), interval, len(both))

    return measure


def share_inside(low: float, high: float) -> Measure:
    """Share of the seeds whose IA lies in a range."""

    def measure(group: Cell) -> Measured:
        found = list(group.values("ia").values())
        if not found:
            return Measured(lacks="no run with IA")
        hits = sum(low <= ia <= high for ia in found)
        return Measured(hits / len(found), share_interval(hits, len(found)), len(found))

    return measure


def _mean(values: Sequence[float], lacks: str) -> Measured:
    return Measured(float(np.mean(values)), mean_interval(values), len(values)) if values else Measured(lacks=lacks)


def _blocks(group: Cell, axis: str, value: str) -> Mapping[int, dict[Any, float]]:
    """seed -> value of the axis -> number; both in order."""
    places = sorted({setting(row, axis) for row in group.rows}, key=lambda place: order(axis, place))
    blocks: dict[int, dict[Any, float]] = {}
    for place in places:
        cell = Cell(group.settings, [row for row in group.rows if setting(row, axis) == place])
        for seed, number in cell.values(value).items():
            blocks.setdefault(seed, {})[place] = number
    return dict(sorted(blocks.items()))


def _word(place: Any) -> str:
    return "never" if place is None else str(place)
