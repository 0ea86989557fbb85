"""Every stage of a run, for every network: built one at a time, timed, and forgotten before the next."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from dc_hpc.algorithm.backends.cpu import exact
from dc_hpc.benchmark.constants import STAGES
from dc_hpc.benchmark.limits import Limits, measure_limits, settled
from dc_hpc.benchmark.stages import clustering, files, images
from dc_hpc.benchmark.stages.images import NetworkFixture
from dc_hpc.benchmark.stages.sizes import Setting, setting
from dc_hpc.benchmark.timing import FEWEST, Row, Stage, against, measure

_IMAGE_STAGES = {
    "views": images.views,
    "sampling": images.sampling,
    "forward": images.features,
    "train": images.train,
    "probe": images.probe,
}
_CLUSTERING_STAGES = {
    "pca": clustering.pca,
    "kmeans_init": clustering.kmeans_init,
    "kmeans_torch": clustering.kmeans_torch,
    "kmeans_faiss": clustering.kmeans_faiss,
    "kmeans_sklearn": clustering.kmeans_sklearn,
    "agreement": clustering.agreement_stage,
}


def run_stages(
    networks: Sequence[str], stages: Sequence[str], *, size: str, device: str, report: Callable[[str], None]
) -> tuple[list[Row], Limits]:
    """Time the stages of the networks; returns the rows in their order, and the limits they are held against.

    device: "cpu" or "cuda". report: told in a few words what is being timed. Raises timing.Invalid.
    """
    quick = size == "quick"
    report("limits of this machine")
    measure_limits(device, quick=quick)  # the first products of a process are slow
    limits = measure_limits(device, quick=quick)
    found: list[tuple[Stage, Row]] = []
    with tempfile.TemporaryDirectory(prefix="dc-hpc-bench-") as folder:
        for network in networks:
            for stage, budget in _built(setting(network, size), stages, device, Path(folder) / network):
                report(f"{network}: {stage.name}")
                rows = measure(
                    stage, budget=budget, fewest=2 if quick else FEWEST, settled=settled(device), as_in_a_run=exact
                )
                found += [(stage, row) for row in rows]
            limits = limits.better(measure_limits(device, quick=quick))
    return [row if stage.floor else against(row, limits.of(stage.place, stage.unit)) for stage, row in found], limits


def _built(chosen: Setting, names: Sequence[str], device: str, folder: Path) -> Iterator[tuple[Stage, float]]:
    """The stages of one network, each with its budget of seconds."""
    room = NetworkFixture(chosen, device) if {*names} & {*_IMAGE_STAGES, "checkpoint"} else None
    for name in STAGES:
        if name not in names:
            continue
        if name in _IMAGE_STAGES:
            yield _IMAGE_STAGES[name](room), chosen.size.budget
        elif name in _CLUSTERING_STAGES:
            yield _CLUSTERING_STAGES[name](chosen, device), chosen.size.budget
        elif name == "checkpoint":
            yield files.checkpoint(room, folder), chosen.size.budget
        else:
            yield files.dump(chosen, folder), chosen.size.budget


@contextmanager
def computing(threads: int) -> Iterator[None]:
    """So many CPU threads for torch and every BLAS, and scikit-learn's advice kept off the screen.

    The libraries are imported first: a limit reaches only those that are loaded.
    """
    import sklearn.cluster  # noqa: F401
    from threadpoolctl import threadpool_limits

    from dc_hpc.benchmark.stages import peers

    if peers.installed("faiss"):
        from dc_hpc.algorithm.clustering import KMEANS_BACKENDS

        KMEANS_BACKENDS["faiss"](torch.zeros(1, 1))  # its import
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(threads)
    with threadpool_limits(threads), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="sklearn")
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        yield
