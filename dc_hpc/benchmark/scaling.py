"""How time and memory of each stage grow with n, k and the runs of a task: no stage may grow faster than its work."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dc_hpc.benchmark.constants import GROWTH_STAGES, GROWTH_VALUES

# Caches that no longer hold the data and a noisy machine bend a line by about this much.
TOLERANCE = 0.15


def run_growth(*, quick: bool, threads: int, device: str, report: Callable[[str], None]) -> list[dict[str, Any]]:
    """A row for each stage and size: name, variable, value, seconds, memory (bytes), work, and the exponents of all
    three over the values of the variable. Each row comes from a process of its own.

    A stage that seems to grow faster than its work is measured once more and the shorter times stand: what else runs
    on the machine can only have lengthened them.
    """
    size, rows = "quick" if quick else "default", []
    for variable, values in GROWTH_VALUES[size].items():
        for name in GROWTH_STAGES[size][variable]:

            def measured(
                again: str, name: str = name, variable: str = variable, values: Sequence[int] = values
            ) -> list[dict[str, float | None]]:
                points = []
                for value in values:
                    report(f"{name}, {variable} {value:,}{again}")
                    points.append(_child(name, variable, value, quick=quick, threads=threads, device=device))
                return points

            rows += once_more_if_too_fast(name, variable, values, measured)
    return rows


def once_more_if_too_fast(
    name: str, variable: str, values: Sequence[int], measured: Callable[[str], list[dict[str, float | None]]]
) -> list[dict[str, Any]]:
    """The rows of one stage over one variable, see `run_growth`; measured: given a note, all points once."""
    points = measured("")
    rows = with_exponents(name, variable, values, points)
    if not too_fast(rows):
        return rows
    shorter = [min(pair, key=lambda point: point["seconds"]) for pair in zip(points, measured(", once more"))]
    return with_exponents(name, variable, values, shorter)


def with_exponents(
    name: str, variable: str, values: Sequence[int], points: Sequence[dict[str, float | None]]
) -> list[dict[str, Any]]:
    """The points of one stage over one variable as rows."""
    slopes = {
        key: exponent(values, [point[of] for point in points])
        for key, of in (("exponent", "seconds"), ("work_exponent", "work"), ("memory_exponent", "memory"))
    }
    return [
        {"name": name, "variable": variable, "value": value, **point, **slopes} for value, point in zip(values, points)
    ]


def exponent(values: Sequence[float], measured: Sequence[float | None]) -> float | None:
    """The slope of log(measured) over log(values), by least squares; None where fewer than two were measured."""
    known = [(value, one) for value, one in zip(values, measured) if one is not None]
    if len(known) < 2:
        return None
    return float(np.polyfit(*np.log(known).T, 1)[0])


def too_fast(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row of each stage and variable whose time grows faster than its work."""
    found = {(row["name"], row["variable"]): row for row in rows if row["exponent"] is not None}
    return [row for row in found.values() if row["exponent"] > row["work_exponent"] + TOLERANCE]


def _child(name: str, variable: str, value: int, *, quick: bool, threads: int, device: str) -> dict[str, float | None]:
    words = [name, variable, str(value), "quick" if quick else "default", str(threads), device]
    done = subprocess.run(
        [sys.executable, "-m", "dc_hpc.benchmark.scaling_point", *words], capture_output=True, text=True
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise RuntimeError(f"{name} with {variable} {value:,} did not end: {last}")
    return json.loads(done.stdout.splitlines()[-1])
