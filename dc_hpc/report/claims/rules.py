"""Judges a claim: one statistic, its interval, the window in which the claim says that it lies, and its planned n."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from dc_hpc.report.statistics import FEWEST, LEVEL, Interval, IntervalAt, smallest_level

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


def rule_text(window: Window) -> str:
    """A window in words."""
    if window.high == float("inf"):
        return f"above {window.low:g}"
    if window.low == -float("inf"):
        return f"below {window.high:g}"
    return f"between {window.low:g} and {window.high:g}"


def p_words(p: float | None) -> str:
    """A p for people; nothing where there is none."""
    return "" if p is None else "< .001" if p < 0.001 else f"{p:.3f}".replace("0.", ".", 1)


def why_words(verdict: str, reason: str, p_holm: float | None) -> str:
    """The reason of a verdict, and whether the correction for many tests undoes it."""
    decided = verdict in ("supported", "contradicted")
    weak = "not after Holm's correction" if decided and (p_holm or 0) > 1 - LEVEL else ""
    return "; ".join(filter(None, (reason, weak)))


class Measured(NamedTuple):
    """A statistic of n runs (or n seeds, where a seed is a block) with its interval at any level.

    lacks: why there is no statistic; empty where there is one.
    """

    value: float | None = None
    at: IntervalAt = lambda level: None
    n: int = 0
    lacks: str = ""

    @property
    def interval(self) -> Interval | None:
        """The 95 % interval."""
        return self.at(LEVEL)


@dataclass(frozen=True)
class Judged:
    """verdict: one of VERDICTS. reason: for a person, in a few words; empty where the verdict says it all.

    p: the smallest level at which the interval still decides; None before the planned n.
    """

    verdict: str
    reason: str = ""
    p: float | None = None


def judge(measured: Measured, window: Window, planned_n: int = 0) -> Judged:
    """The verdict on a statistic.

    supported: the whole interval lies in the window. contradicted: none of it does. undecided: it crosses an end of the
    window, fewer seeds than planned have run, or n is too small for an interval. not run: there is nothing to measure.
    """
    if measured.lacks:
        return Judged("not run", measured.lacks)
    if measured.n < planned_n:
        return Judged("undecided", f"{measured.n} of {planned_n} seeds")
    if measured.n < FEWEST or measured.interval is None:
        return Judged("undecided", f"n = {measured.n}: too few for an interval")
    p = smallest_level(lambda level: _side(measured.at(level), window) != 0)
    low, high = measured.interval
    side = _side(measured.interval, window)
    if side:
        return Judged("supported" if side > 0 else "contradicted", p=p)
    return Judged("undecided", f"the interval crosses {window.low if low <= window.low else window.high:g}", p)


def _side(interval: Interval | None, window: Window) -> int:
    """1 where the interval lies inside the window, -1 where it lies outside, 0 where it crosses an end."""
    if interval is None:
        return 0
    low, high = interval
    if window.low < low and high < window.high:
        return 1
    return -1 if high <= window.low or low >= window.high else 0
