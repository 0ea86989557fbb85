"""How and where a run computes: chosen by a person or a site, recorded with each attempt, no part of its identity."""

from __future__ import annotations

import gc
import os
import platform
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any

from threadpoolctl import threadpool_info

from dc_hpc.errors import InputError
from dc_hpc.experiment.provenance import commit, versions

_SLURM = ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_RESTART_COUNT")


CLUSTERS = ("local", "slurm", "debug")
DEVICES = ("auto", "cpu", "cuda")
KMEANS_BACKENDS = ("torch", "faiss", "sklearn")


def import_run() -> Callable[..., str]:
    """`run` of experiment/run.py, which imports torch.

    torch brings a few hundred thousand objects that stay. Looking for garbage among them takes a sixth of a second
    here, and in processes that are forked later it would copy the pages that they share; so nobody looks there.
    """
    alone = "torch" not in sys.modules and gc.isenabled()  # else what is frozen could be a caller's garbage
    if alone:
        gc.disable()
    from dc_hpc.experiment.run import run

    if alone:
        gc.freeze()
        gc.enable()
    return run


@dataclass(frozen=True)
class Execution:
    """How a run computes.

    data: root of the data sets. device: one of DEVICES. threads: of the CPU; their number decides the last bits of
    sums. engine: of k-means, one of KMEANS_BACKENDS. save_seconds: a phase that ends this long after the last checkpoint
    writes one.
    """

    data: str
    device: str = "auto"
    threads: int = 1
    engine: str = "torch"
    save_seconds: float = 60.0


def check_device(device: str) -> None:
    """InputError when it is "cuda" and this machine has no card that torch can use."""
    if device != "cuda":
        return
    import torch

    if not torch.cuda.is_available():
        raise InputError("device cuda is not available on this machine; allowed: cpu, auto")


def use_gpu(device: str, desk: int) -> None:
    """Let "cuda" mean, in this process, one of the cards that it sees: desk 0 has the first, and so on around."""
    if device == "cpu":
        return
    import torch

    cards = torch.cuda.device_count()
    if cards > 1:
        torch.cuda.set_device(desk % cards)


def cores() -> int:
    """The CPU cores that this process may use: fewer than the machine has inside a job or a container."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class StopSignal:
    """Set by SIGTERM (scancel, preemption, a local Ctrl-C) and SIGUSR2 (submitit's warning); asked by the run.

    The handlers do nothing but set it: saving happens at the next safe point.
    """

    def __init__(self) -> None:
        self.seen = False
        for number in (signal.SIGTERM, signal.SIGUSR2):
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.seen = True

    def __call__(self) -> bool:
        return self.seen


def environment() -> dict[str, Any]:
    """Where and with what an attempt runs. No environment variable is recorded but SLURM's job numbers."""
    blas = sorted({f"{lib['internal_api']} {lib.get('architecture', '')}".strip() for lib in threadpool_info()})
    slurm = {name.lower(): os.environ[name] for name in _SLURM if name in os.environ}
    return {"python": platform.python_version(), "versions": versions(), "blas": blas, "slurm": slurm, **commit()}
