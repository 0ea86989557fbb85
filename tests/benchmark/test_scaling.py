"""bench --scaling: exponents, what grows faster than its operation count, and a point in its own process."""

import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dc_hpc import bench
from dc_hpc.benchmark import scaling
from dc_hpc.benchmark.stages import flop_counts
from dc_hpc.errors import InputError


@given(st.floats(0.2, 2.5), st.floats(1e-6, 10))
@settings(max_examples=30, deadline=None)
def test_the_exponent_of_a_power_law_is_found(power, factor):
    values = [10, 100, 1000]
    assert scaling.exponent(values, [factor * value**power for value in values]) == pytest.approx(power)


def test_growth_beyond_the_operation_count_is_named():
    values = (100, 1000, 10_000)
    points = {
        name: [{"seconds": 1e-6 * value**power, "memory": None, "work": 5.0 * value} for value in values]
        for name, power in (("linear", 1.05), ("square", 2.0), ("flat", 0.1))
    }
    rows = [row for name, found in points.items() for row in scaling.with_exponents(name, "n", values, found)]
    assert [row["name"] for row in scaling.too_steep(rows)] == ["square"]
    assert {row["memory_exponent"] for row in rows} == {None}
    assert scaling.exponent([5], [1.0]) is None


def test_a_point_measured_on_a_busy_machine_is_measured_once_more():
    busy = [{"seconds": seconds, "memory": 1.0, "work": cost} for seconds, cost in ((1.0, 1.0), (40.0, 10.0))]
    quiet = [{"seconds": seconds, "memory": 1.0, "work": cost} for seconds, cost in ((1.5, 1.0), (10.0, 10.0))]
    notes, measurements = [], iter([busy, quiet, None])

    def measured(note):
        notes.append(note)
        return next(measurements)

    rows = scaling.measure_again_if_too_steep("pca", "n", (10, 100), measured)
    assert [row["seconds"] for row in rows] == [1.0, 10.0] and rows[0]["exponent"] == pytest.approx(1)
    assert notes == ["", ", once more"]


def test_a_point_is_measured_in_its_own_process(monkeypatch):
    found = scaling._in_own_process("kmeans_torch", "n", 4_000, quick=True, threads=1, device="cpu")
    assert found["seconds"] > 0 and found["work"] == flop_counts.kmeans_flop(4_000, 84, 5, 3)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(RuntimeError, match="pca with n 4,000 failed: exit code 1"):
        scaling._in_own_process("pca", "n", 4_000, quick=True, threads=1, device="cpu")
    with pytest.raises(InputError, match="kmeans_torch with n 2,000 failed: exit code 1; correct this and run"):
        bench._scaling(threads=1, device="cpu", quick=True, json=None, figure=None)
