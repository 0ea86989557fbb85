"""Measures how time and memory of each stage grow with n, k and the runs of a task, and compares that with its count.

A stage scales well when its time grows no faster than its operation count, the FLOP or bytes of flop_counts.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypedDict

import numpy as np

from dc_hpc.benchmark.constants import SCALING_STAGES, SCALING_VALUES
from dc_hpc.benchmark.timing import FailedProcess

# Data that no longer fit into a cache and other load on the machine change an exponent by about this much.
TOLERANCE = 0.15


class Point(TypedDict):
    """One stage at one value of a variable. seconds; memory: bytes at the peak; work: its operation count."""

    seconds: float
    memory: float | None
    work: float


def run_scaling(*, quick: bool, threads: int, device: str, report: Callable[[str], None]) -> list[dict[str, Any]]:
    """A row for each stage and value: name, variable, value, the keys of `Point`, and the exponents of all three.

    Each row comes from a process of its own. A stage whose time seems to grow faster than its operation count is
    measured once more, and the shorter times count: other load on the machine can only have lengthened them.
    """
    size: str = "quick" if quick else "default"
    rows: list[dict[str, Any]] = []
    for variable, values in SCALING_VALUES[size].items():
        for name in SCALING_STAGES[size][variable]:

            def measured(
                note: str, name: str = name, variable: str = variable, values: Sequence[int] = values
            ) -> list[Point]:
                points = []
                for value in values:
                    report(f"{name}, {variable} {value:,}{note}")
                    points.append(_in_own_process(name, variable, value, quick=quick, threads=threads, device=device))
                return points

            rows += measure_again_if_too_steep(name, variable, values, measured)
    return rows


def measure_again_if_too_steep(
    name: str, variable: str, values: Sequence[int], measured: Callable[[str], list[Point]]
) -> list[dict[str, Any]]:
    """The rows of one stage over one variable, see `run_scaling`. measured: measures all points, given a note."""
    points = measured("")
    rows = with_exponents(name, variable, values, points)
    if not too_steep(rows):
        return rows
    shorter = [min(pair, key=lambda point: point["seconds"]) for pair in zip(points, measured(", once more"))]
    return with_exponents(name, variable, values, shorter)


def with_exponents(name: str, variable: str, values: Sequence[int], points: Sequence[Point]) -> list[dict[str, Any]]:
    """The points of one stage over one variable as rows."""
    slopes = {
        "exponent": exponent(values, [point["seconds"] for point in points]),
        "work_exponent": exponent(values, [point["work"] for point in points]),
        "memory_exponent": exponent(values, [point["memory"] for point in points]),
    }
    return [
        {"name": name, "variable": variable, "value": value, **point, **slopes} for value, point in zip(values, points)
    ]


def exponent(values: Sequence[float], measured: Sequence[float | None]) -> float | None:
    """The slope of log(measured) over log(values), by least squares; None where fewer than two were measured."""
    known = [(value, one) for value, one in zip(values, measured) if one is not None]
    if len(known) < 2:
        return None
    x, y = np.log(np.array(known)).T
    return float(np.polyfit(x, y, 1)[0])


def too_steep(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row of each stage and variable whose time grows faster than its operation count."""
    found = {(row["name"], row["variable"]): row for row in rows if row["exponent"] is not None}
    return [row for row in found.values() if row["exponent"] > row["work_exponent"] + TOLERANCE]


def _in_own_process(name: str, variable: str, value: int, *, quick: bool, threads: int, device: str) -> Point:
    words = [name, variable, str(value), "quick" if quick else "default", str(threads), device]
    done = subprocess.run(
        [sys.executable, "-m", "dc_hpc.benchmark.scaling_point", *words], capture_output=True, text=True
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise FailedProcess(f"{name} with {variable} {value:,} failed: {last}")
    point: Point = json.loads(done.stdout.splitlines()[-1])
    return point
