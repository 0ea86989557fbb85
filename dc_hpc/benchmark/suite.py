"""Times every stage of a run for every network: builds a stage, times it and drops it before it builds the next."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from dc_hpc.algorithm.backends.determinism import exact
from dc_hpc.benchmark.constants import STAGES
from dc_hpc.benchmark.limits import Limits, measure_limits, synchronizer
from dc_hpc.benchmark.stages import peers
from dc_hpc.benchmark.stages.builder import StageBuilder
from dc_hpc.benchmark.stages.sizes import setting
from dc_hpc.benchmark.timing import MIN_ROUNDS, Row, Stage, measure, with_limit


def run_stages(
    networks: Sequence[str], stages: Sequence[str], *, size: str, device: str, report: Callable[[str], None]
) -> tuple[list[Row], Limits]:
    """Time the stages of the networks; return the rows in their order, and the limits of this machine.

    device: "cpu" or "cuda". report: is called with a few words about what is timed next. Raises timing.InvalidTiming.
    """
    quick = size == "quick"
    report("limits of this machine")
    measure_limits(device, quick=quick)  # the first products of a process are slow
    limits = measure_limits(device, quick=quick)
    found: list[tuple[Stage, Row]] = []
    with tempfile.TemporaryDirectory(prefix="dc-hpc-bench-") as folder:
        for network in networks:
            chosen = setting(network, size)
            builder = StageBuilder(chosen, device, Path(folder) / network)
            for name in [name for name in STAGES if name in stages]:
                report(f"{network}: {name}")
                stage = builder.build(name)
                rows = measure(
                    stage,
                    budget=chosen.size.budget,
                    min_rounds=2 if quick else MIN_ROUNDS,
                    synchronize=synchronizer(device),
                    run_settings=exact,
                )
                found += [(stage, row) for row in rows]
            limits = limits.better(measure_limits(device, quick=quick))
    return [
        row if stage.floor else with_limit(row, limits.of(stage.device, stage.unit)) for stage, row in found
    ], limits


@contextmanager
def computing(threads: int) -> Iterator[None]:
    """Limit torch and every BLAS to `threads` CPU threads, and silence the warnings of scikit-learn and faiss.

    The libraries are imported first, because the limit applies only to those that are loaded.
    """
    import sklearn.cluster  # noqa: F401
    from threadpoolctl import threadpool_limits

    if peers.installed("faiss"):
        from dc_hpc.algorithm.kmeans.assignment import KMEANS_BACKENDS

        KMEANS_BACKENDS["faiss"](torch.zeros(1, 1))  # imports faiss
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(threads)
    with threadpool_limits(threads), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="sklearn")
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        yield
