"""How and where a run computes: chosen by a person or a site, recorded with each attempt, no part of its identity."""

from __future__ import annotations

import os
import platform
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import FrameType
from typing import Any

from threadpoolctl import threadpool_info

from dc_hpc.experiment.provenance import commit, versions

_SLURM = ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_RESTART_COUNT")


CLUSTERS = ("local", "slurm", "debug")
DEVICES = ("auto", "cpu", "cuda")
KMEANS_BACKENDS = ("torch", "faiss", "sklearn")
# Files keep the names that they were first written with.
_RECORDED_AS = {"kmeans_backend": "engine"}


@dataclass(frozen=True)
class Execution:
    """How a run computes.

    data: root of the data sets. device: one of DEVICES. threads: of the CPU; their number decides the last bits of
    sums. kmeans_backend: one of KMEANS_BACKENDS. save_seconds: a phase that ends this long after the last checkpoint
    writes one. own_nets: the folder of the files of a person's own nets, which are executed; None: not allowed.
    """

    data: str
    device: str = "auto"
    threads: int = 1
    kmeans_backend: str = "torch"
    save_seconds: float = 60.0
    own_nets: str | None = None

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Unpickle, also what version 0.1.0 has pickled into the tasks of a queue, with its name of the backend."""
        for name, value in state.items():
            object.__setattr__(self, "kmeans_backend" if name == "engine" else name, value)

    def on(self, gpus: int) -> Execution:
        """The same for a task that is given this many GPUs, where "auto" means "cuda": a GPU is paid for, so a run that
        cannot use it fails instead of computing on the CPU.
        """
        return replace(self, device="cuda") if gpus and self.device == "auto" else self

    def to_record(self) -> dict[str, Any]:
        """The settings as attempts and submissions record them. There the k-means backend is called `engine`."""
        settings = {one.name: getattr(self, one.name) for one in fields(self)}
        return {_RECORDED_AS.get(name, name): value for name, value in settings.items() if value is not None}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Execution:
        """The settings of a record. Settings of other versions are left out; they change no result."""
        names = {_RECORDED_AS.get(one.name, one.name): one.name for one in fields(cls)}
        return cls(**{names[name]: value for name, value in record.items() if name in names})


def cores() -> int:
    """The CPU cores that this process may use: fewer than the machine has inside a job or a container."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class StopSignal:
    """Set by SIGTERM (scancel, preemption, a local Ctrl-C) and SIGUSR2 (submitit's warning); the run asks for it.

    The handlers only set it; the run saves at its next safe point. ctrl_c: in a command at a terminal the first Ctrl-C
    sets it, too, and a second one raises KeyboardInterrupt. Without it Ctrl-C is left to whoever started the process.
    """

    def __init__(self, *, ctrl_c: bool = False) -> None:
        self.received = False
        for number in (signal.SIGTERM, signal.SIGUSR2):
            signal.signal(number, self._handle)
        if ctrl_c and signal.getsignal(signal.SIGINT) != signal.SIG_IGN:  # a shell's background job ignores it
            signal.signal(signal.SIGINT, self._handle_ctrl_c)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.received = True

    def _handle_ctrl_c(self, number: int, frame: FrameType | None) -> None:
        self.received = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with suppress(OSError, RuntimeError):  # RuntimeError: the signal came while something was being printed
            print("saving; press Ctrl-C again to leave at once", file=sys.stderr, flush=True)

    def __call__(self) -> bool:
        return self.received


def local_job() -> dict[str, str]:
    """`job`, the folder and number that the logs of a job on this machine are named after; empty elsewhere."""
    if os.environ.get("SUBMITIT_EXECUTOR") != "local":
        return {}
    return {"job": f"{Path(os.environ['SUBMITIT_FOLDER']).name}/{os.environ['SUBMITIT_LOCAL_JOB_ID']}"}


def environment() -> dict[str, Any]:
    """Where and with what an attempt runs. Of the environment it holds only the job: SLURM's and submitit's."""
    blas = sorted({f"{lib['internal_api']} {lib.get('architecture', '')}".strip() for lib in threadpool_info()})
    slurm = {name.lower(): os.environ[name] for name in _SLURM if name in os.environ}
    return {
        **local_job(),
        "python": platform.python_version(),
        "versions": versions(),
        "blas": blas,
        "slurm": slurm,
        **commit(),
    }
