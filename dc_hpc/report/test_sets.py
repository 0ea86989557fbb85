"""The test images behind an accuracy: how many there are, and what they add to an interval.

An accuracy of a few seeds is uncertain twice: by its seeds, and by the test images, which all seeds share. The interval
here covers both: a bootstrap of two levels draws seeds and, independently, test images. Where the predictions of the
runs are at hand, the images of a difference of two nets are drawn together; where they are not, each accuracy has the
binomial variance of its number of test images, as if the errors of two nets were independent. That makes the interval
of a difference too wide rather than too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import norm, t

from dc_hpc.errors import InputError
from dc_hpc.report.frames.schema import test_images_of
from dc_hpc.report.frames.single_run import load_run
from dc_hpc.report.statistics import FEWEST, RESAMPLES, Interval, IntervalAt, describe, resampled
from dc_hpc.storage.atomic_files import DamagedFile
from dc_hpc.storage.run_directory import runs_folder

Row = dict[str, Any]

_SEED = 1  # of the draws of images; those of seeds have another one


def with_predictions(rows: Iterable[Row], outputs: Path) -> list[Row]:
    """The rows with what their runs predicted right, where the folder of runs has predictions.

    bool (test images,): `correct` for `accuracy`, `correct_best` for `accuracy_best`, and so on for each layer. The
    accuracies of a run whose predictions are damaged stand; the reason of its state says so.
    """
    return [row | (_correct(row, outputs) if row.get("accuracy") is not None else {}) for row in rows]


def _correct(row: Row, outputs: Path) -> Row:
    try:
        layers = load_run(runs_folder(outputs) / row["run_id"]).predictions
    except InputError:
        return {}  # an earlier version kept none
    except DamagedFile as error:
        return {"state_reason": str(error)}
    first = layers.get(str(row["probe"]).split()[0])
    found = {_correct_name(f"accuracy_{name}"): layer.last == layer.labels for name, layer in layers.items()}
    if first:
        found |= {"correct": first.last == first.labels, "correct_best": first.best == first.labels}
    return found


def _correct_name(name: str) -> str:
    """Where a row has the images behind an accuracy: `correct_fc2` for `accuracy_fc2`."""
    return name.replace("accuracy", "correct", 1)


def images_words(rows: Iterable[Mapping[str, Any]]) -> str:
    """The numbers of test images of some runs, for a caption: `tested on 10,000 images`; empty where none is known."""
    counts = sorted({count for count in map(test_images_of, rows) if count})
    return f"tested on {' or '.join(f'{count:,}' for count in counts)} images" if counts else ""


def standard_error(accuracy: float, images: int) -> float:
    """The standard error of an accuracy in percent by its test images alone: that of a binomial share, in points."""
    share = accuracy / 100
    return 100 * math.sqrt(share * (1 - share) / images)


def mean_at(values: Sequence[float], noise: np.ndarray) -> IntervalAt:
    """The interval of a mean over seeds at any level, by the bootstrap of two levels; None for fewer than three seeds.

    noise: float64 (10000,), what other test images would have added to the mean. Seeds are drawn with replacement. So
    few seeds as five would give an interval that holds the mean with 84 % only, so that their deviation is scaled to
    the width of Student's.
    """
    numbers = np.asarray(values, dtype=np.float64)
    n = len(numbers)
    if n < FEWEST:
        return lambda level: None
    mean = float(numbers.mean())
    seeds = resampled(n, lambda drawn: numbers[drawn].mean(axis=1)) - mean

    def interval(level: float) -> Interval:
        # Student's over the normal quantile; the variance of a sample over that of its resamples.
        wider = float(t.ppf((1 + level) / 2, n - 1) / norm.ppf((1 + level) / 2)) * math.sqrt(n / (n - 1))
        tail = 100 * (1 - level) / 2
        low, high = np.percentile(mean + wider * seeds + noise, (tail, 100 - tail))
        return Interval(float(low), float(high))

    return interval


def describe_runs(rows: Sequence[Mapping[str, Any]], name: str) -> dict[str, Any]:
    """`describe` of a number of some runs; the interval of an accuracy covers other test images, too."""
    noise = noise_of(rows, name=name) if name.startswith("accuracy") and rows else None
    return describe([row[name] for row in rows], noise)


def noise_of(*sides: Sequence[Mapping[str, Any]], name: str = "accuracy") -> np.ndarray:
    """What other test images would add to a mean accuracy, or to the mean difference of two sides: (10000,), in points.

    sides: the runs of the mean, or those of the first and of the second side, seed by seed. A run whose predictions
    were read has them (`with_predictions`). Zero where the number of test images is not known.
    """
    first, second = sides[0], sides[1] if len(sides) > 1 else ()
    correct = [one for one in (row.get(_correct_name(name)) for row in (*first, *second)) if one is not None]
    if correct and len(correct) == len(first) + len(second) and len({len(one) for one in correct}) == 1:
        signed = np.array(correct[: len(first)], dtype=np.float64).mean(axis=0)
        if second:
            signed = signed - np.array(correct[len(first) :], dtype=np.float64).mean(axis=0)
        return _resampled_images(signed)
    return sum((_binomial(side, name, place) for place, side in enumerate(sides)), np.zeros(RESAMPLES))


def _resampled_images(values: np.ndarray) -> np.ndarray:
    """Deviations of the mean over the images, in points. Images of equal values are drawn together."""
    distinct, counts = np.unique(values, return_counts=True)
    drawn = np.random.default_rng(_SEED).multinomial(len(values), counts / len(values), RESAMPLES)
    return 100 * (drawn @ distinct / len(values) - values.mean())


def _binomial(side: Sequence[Mapping[str, Any]], name: str, place: int) -> np.ndarray:
    images = [test_images_of(row) for row in side]
    known = [count for count in images if count]
    if not known:
        return np.zeros(RESAMPLES)
    share = min(max(float(np.mean([row[name] for row in side])) / 100, 0.0), 1.0)
    drawn = np.random.default_rng((_SEED, place)).binomial(min(known), share, RESAMPLES)
    return 100 * (drawn / min(known) - share)
