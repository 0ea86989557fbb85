"""Computes statistics of few runs: quantiles, intervals, Spearman's rho.

The intervals of Student and Wilson and Spearman's rho are computed here: scipy's differ in the last bits, which the
committed tables hold, and scipy warns where all values are equal. The interval of the median stays a bootstrap, because
the exact one of `scipy.stats.quantile_test` needs six runs, and the paper has five seeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import norm, rankdata, t

RESAMPLES = 10_000
_DRAWS_AT_ONCE = 2_000_000
LEVEL = 0.95
# Of fewer runs an interval says nothing, so none is given. The range of five holds the median with 94 %, that of four
# with 88 %; five pairs in perfect order are chance with 2 %, four with 8 %.
FEWEST, FEWEST_RANKED = 3, 5
LEAST_P = 2 / RESAMPLES  # of that many resamples the outermost two cannot tell smaller levels apart
_SEED = 0  # the same resamples every time, so that the same runs give the same table
_QUANTITIES = ("n", "median", "q25", "q75", "iqr", "min", "max", "mean", "sd", "low", "high")


class Interval(NamedTuple):
    """A 95 % interval, ends included."""

    low: float
    high: float


# The interval of a statistic at any level: 0.95 gives LEVEL's. None where there are too few runs.
IntervalAt = Callable[[float], Interval | None]


def describe(values: Sequence[float], noise: np.ndarray | None = None) -> dict[str, Any]:
    """n, median, q25, q75, iqr, min, max, mean, sd (of a sample); low, high: interval of the median.

    noise: float64 (10000,), what else than the seeds moves the median, as of `test_sets.noise_of`.

    n is an integer; the others are floats, or None where there are too few values.
    """
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.size == 0:
        return dict.fromkeys(_QUANTITIES) | {"n": 0}
    q25, median, q75 = (float(q) for q in np.percentile(numbers, (25, 50, 75)))
    sd = float(numbers.std(ddof=1)) if len(numbers) > 1 else None
    interval = median_interval(numbers, noise)
    return {
        "n": len(numbers),
        "median": median,
        "q25": q25,
        "q75": q75,
        "iqr": q75 - q25,
        "min": float(numbers.min()),
        "max": float(numbers.max()),
        "mean": float(numbers.mean()),
        "sd": sd,
        "low": interval and interval.low,
        "high": interval and interval.high,
    }


def resampled(n: int, statistic: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """The statistic of 10,000 samples with replacement of n runs, float64 (10000,).

    statistic: int64 (m, n), the runs of m samples -> float64 (m,), NaN where undefined. The samples are always the same
    ones, drawn in blocks, so that many runs do not fill the memory.
    """
    rng, block = np.random.default_rng(_SEED), max(1, min(RESAMPLES, _DRAWS_AT_ONCE // n))
    drawn = [statistic(rng.integers(0, n, (min(block, RESAMPLES - done), n))) for done in range(0, RESAMPLES, block)]
    return np.concatenate(drawn)


def percentiles_at(found: np.ndarray) -> IntervalAt:
    """The percentile interval of resampled numbers at any level; NaN among them do not count."""
    known = np.sort(found[~np.isnan(found)])
    if known.size == 0:
        return lambda level: None

    def interval(level: float) -> Interval:
        tail = 100 * (1 - level) / 2
        return Interval(*(float(end) for end in np.percentile(known, (tail, 100 - tail))))

    return interval


def median_interval(values: Sequence[float] | np.ndarray, noise: np.ndarray | None = None) -> Interval | None:
    """Bootstrap interval of the median; None for fewer than five values. noise: as of `describe`."""
    numbers = np.asarray(values, dtype=np.float64)
    if len(numbers) < FEWEST_RANKED:
        return None
    found = resampled(len(numbers), lambda chosen: np.median(numbers[chosen], axis=1))
    return percentiles_at(found if noise is None else found + noise)(LEVEL)


def mean_interval(values: Sequence[float] | np.ndarray, level: float = LEVEL) -> Interval | None:
    """Student's interval of the mean; None for fewer than three values.

    It is not a bootstrap: for five normal values that holds the mean with 84 % only.
    """
    n = len(values)
    if n < FEWEST:
        return None
    numbers = np.asarray(values, dtype=np.float64)
    mean, reach = float(numbers.mean()), float(t.ppf((1 + level) / 2, n - 1) * numbers.std(ddof=1) / math.sqrt(n))
    return Interval(mean - reach, mean + reach)


def spearman(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Spearman's rank correlation, ties by mean ranks; None where one side is constant or n < 2."""
    if len(x) < 2:
        return None
    a, b = (ranks - ranks.mean() for ranks in (rankdata(x), rankdata(y)))
    scale = math.sqrt(float((a**2).sum() * (b**2).sum()))
    return float((a * b).sum()) / scale if scale > 0 else None


def spearman_interval(x: Sequence[float], y: Sequence[float], level: float = LEVEL) -> Interval | None:
    """Interval of Spearman's rho: Fisher's z with the variance of Bonett and Wright (2000); None for fewer than five
    pairs, or where one side is constant.

    It is not a bootstrap: from pairs in perfect order that draws only ordered samples and claims certainty. Such pairs
    count as half a step from it, the step being the exchange of two neighbours.
    """
    n, rho = len(x), spearman(x, y)
    if n < FEWEST_RANKED or rho is None:
        return None
    most = 1 - 6 / (n * (n**2 - 1))
    inside = min(max(rho, -most), most)
    z, reach = math.atanh(inside), _normal(level) * math.sqrt((1 + inside**2 / 2) / (n - 3))
    return Interval(-1.0 if rho < -most else math.tanh(z - reach), 1.0 if rho > most else math.tanh(z + reach))


def mean_rho_interval(rhos: Sequence[float], of: int, level: float = LEVEL) -> Interval | None:
    """Student's interval of a mean of Spearman's correlations, each of `of` pairs at least; None for fewer than three.

    Equal correlations would claim certainty. One of them then counts as one step less far from 0, the step being the
    exchange of two neighbours; the interval still holds the mean.
    """
    own, mean = list(rhos), float(np.mean(rhos)) if rhos else 0.0
    if own and max(own) - min(own) < 1e-9:  # two orders of one rho may differ in their last bits
        own[0] -= math.copysign(12 / (of * (of**2 - 1)), mean)
    found = mean_interval(own, level)
    return found and Interval(max(min(found.low, mean), -1.0), min(max(found.high, mean), 1.0))


def share_interval(hits: int, n: int, level: float = LEVEL) -> Interval | None:
    """Wilson's interval of a share; None for n < 3.

    It is not a bootstrap: where all of n agree, that draws only agreement and claims certainty.
    """
    if n < FEWEST:
        return None
    z, share = _normal(level), hits / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    reach = z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    # Of none and of all n the ends are exact; float arithmetic would miss them in the last bits.
    return Interval(0.0 if hits == 0 else centre - reach, 1.0 if hits == n else centre + reach)


def smallest_level(decides: Callable[[float], bool]) -> float:
    """p of a verdict: the smallest alpha at which an interval of the level 1 - alpha decides, by bisection.

    decides: whether the interval of a level decides; a wider one decides no more than a narrower one. The result is
    between LEAST_P and 1.
    """
    low, high = LEAST_P, 1.0
    if decides(1 - low):
        return low
    while high - low > 1e-6:
        middle = (low + high) / 2
        if decides(1 - middle):
            high = middle
        else:
            low = middle
    return high


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p of each of several tests, in the given order."""
    count = len(p_values)
    adjusted, largest = [0.0] * count, 0.0
    for rank, place in enumerate(sorted(range(count), key=lambda place: p_values[place])):
        largest = max(largest, min(1.0, (count - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def regression(x: Sequence[float], y: Sequence[float]) -> tuple[float, float] | None:
    """(slope, intercept) of the least-squares line; None where x is constant or n < 2."""
    if len(set(x)) < 2:
        return None
    places, heights = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    centred = places - places.mean()
    slope = float(centred @ heights / (centred @ centred))
    return slope, float(heights.mean() - slope * places.mean())


def _normal(level: float) -> float:
    """What the normal distribution holds `level` of between itself and its negative: 1.96 for 0.95."""
    return float(norm.ppf((1 + level) / 2))
