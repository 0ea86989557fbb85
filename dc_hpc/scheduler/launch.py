"""Run directories -> submitit jobs: one call for a laptop's slots and for a cluster's arrays.

What is pickled is a `Work`: the paths of run directories and how to compute. Nothing is read back from submitit's
pickles: the state of a run is what its directory says.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import submitit

from dc_hpc.experiment import files
from dc_hpc.experiment.errors import InputError
from dc_hpc.experiment.execution import Execution, StopSignal
from dc_hpc.experiment.grid import Resources
from dc_hpc.scheduler.site import Site, submitit_parameters

# submitit ends a local job after this; a laptop has no queue to be fair to.
_LOCAL_MINUTES = 60 * 24 * 30


@dataclass(frozen=True)
class Work:
    """What a job does: bring these runs to their end, one after the other."""

    directories: tuple[str, ...]
    execution: Execution

    def __call__(self) -> dict[str, str]:
        """Run directory -> "done", "stopped" or "failed"; for the log, nobody decides by it."""
        os.umask(0o077)
        stop = StopSignal()  # before anything slow: torch takes seconds to import
        from dc_hpc.experiment.run import run

        outcomes = {}
        for directory in self.directories:
            if stop():
                break
            outcomes[directory] = run(Path(directory), self.execution, stop=stop)
            print(f"{Path(directory).name}: {outcomes[directory]}", flush=True)
        return outcomes


def submit_local(directories: Sequence[Path], execution: Execution, *, slots: int, folder: Path,
                 survive_logout: bool) -> list[submitit.Job]:
    """One job for each slot, each with its share of the runs; they start at once."""
    shares = [directories[slot::slots] for slot in range(min(slots, len(directories)))]
    executor = _executor(folder, "local")
    executor.update_parameters(timeout_min=_LOCAL_MINUTES, gpus_per_node=_gpus_here())
    with _ignored_by_children(survive_logout):
        return _submit(executor, [_work(share, execution) for share in shares])


def submit_slurm(directories: Sequence[Path], execution: Execution, *, site: Site, resources: Resources, name: str,
                 folder: Path) -> list[submitit.Job]:
    """One array whose tasks do `runs_per_task` runs each."""
    size = resources.runs_per_task
    packs = [directories[start : start + size] for start in range(0, len(directories), size)]
    executor = _executor(folder, "slurm")
    parameters = submitit_parameters(site, minutes=resources.minutes, parallel_runs=resources.parallel_runs)
    executor.update_parameters(name=name, **parameters)
    try:
        return _submit(executor, [_work(pack, execution) for pack in packs])
    except submitit.core.utils.FailedJobError as error:
        raise InputError(f"sbatch refused the array: {error}; correct the site profile, or ask the cluster's help; no "
                         "run is lost") from None


def run_here(directories: Sequence[Path], execution: Execution, *, folder: Path) -> None:
    """`--cluster debug`: the same work through submitit, in this process, one run after the other."""
    for job in _submit(_executor(folder, "debug"), [_work(directories, execution)]):
        job.result()


def stop_local(jobs: Sequence[submitit.Job]) -> None:
    """Ask local jobs to save and end: their controllers pass SIGTERM on to the work."""
    for job in jobs:
        try:
            os.kill(int(job.job_id), signal.SIGTERM)
        except ProcessLookupError:
            continue


def _executor(folder: Path, cluster: str) -> submitit.AutoExecutor:
    files.make_directory(folder)
    return submitit.AutoExecutor(folder=folder, cluster=cluster)


def _submit(executor: submitit.AutoExecutor, work: list[Work]) -> list[submitit.Job]:
    with executor.batch():
        return [executor.submit(one) for one in work]


def _work(directories: Sequence[Path], execution: Execution) -> Work:
    return Work(tuple(str(directory.resolve()) for directory in directories), execution)


@contextmanager
def _ignored_by_children(survive_logout: bool) -> Iterator[None]:
    """Children started in here never see a terminal's Ctrl-C: the person's door tells them to save instead.

    A signal that is ignored stays ignored in a child; submitit's controller would kill its work one second after a
    Ctrl-C.
    """
    numbers = [signal.SIGINT, signal.SIGHUP] if survive_logout else [signal.SIGINT]
    before: dict[int, Any] = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _gpus_here() -> int:
    """The number of NVIDIA cards, without asking torch; submitit hides them all unless told."""
    return len(list(Path("/proc/driver/nvidia/gpus").glob("*")))
