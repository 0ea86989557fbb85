"""What a job executes: it computes its runs and, when it is told to stop, saves them and requeues itself if it should.

The runs compute in worker processes, each of which does one run after the other. So a crash costs one run instead of
all runs of the task, several runs share a task's cores or GPU, successive runs share what they have in common, and
this process answers a signal at once while a worker process is in the middle of a k-means.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from dc_hpc.experiment.execution import Execution, StopSignal
from dc_hpc.experiment.loader import import_run
from dc_hpc.scheduler import slurm
from dc_hpc.scheduler.processes import WorkerProcess, choose, reuse_group_of
from dc_hpc.scheduler.site import MEMORY_VARIABLE
from dc_hpc.scheduler.tasks import mps
from dc_hpc.scheduler.tasks.causes import CRASHED_OUT_OF_MEMORY, OUT_OF_MEMORY
from dc_hpc.storage import atomic_files, run_directory

# A task gives a run up after so many failures without a further finished cycle. A preemption is not a failure.
ATTEMPTS = 5
_FINAL = ("InputError", run_directory.DIVERGED)  # errors that every attempt would meet again
_LOOK_SECONDS = 0.2


class Crashed(RuntimeError):
    """The process of a run died by a signal that this package did not send."""


@dataclass(frozen=True)
class TaskPayload:
    """The runs of one task, `parallel_runs` at a time.

    directories: of the runs. attempts: how often a run may fail in a row without progress. signal_delay: seconds of
    warning that SLURM gives before the time limit.
    """

    directories: tuple[str, ...]
    execution: Execution
    parallel_runs: int = 1
    attempts: int = 1
    signal_delay: int = 90

    def __call__(self) -> dict[str, str]:
        """Run directory -> "done", "stopped" or "failed". It is for the log only; the run directories are the truth."""
        stop = StopSignal()  # first, because a signal kills whatever comes before it
        atomic_files.set_umask()
        with mps.service(stop):
            run = self.run_function()
            outcomes = WorkerPool(self, run, stop).compute()
        if stop() and any(run_directory.state_of(Path(one)).name != "done" for one in self.directories):
            self._wait_for_requeue()
        return outcomes

    def in_this_process(self) -> dict[str, str]:
        """Compute the same runs without child processes, for a debugger."""
        stop, run = StopSignal(), self.run_function()
        return {one: run(Path(one), self.execution, stop=stop) for one in self.directories if not stop()}

    def run_function(self) -> Callable[..., str]:
        """The function that computes one run. It imports torch once for all worker processes."""
        run = import_run()
        from dc_hpc.experiment.process_cache import ProcessCache

        return partial(run, cache=ProcessCache(keep=len(self.directories) > 1))

    def _wait_for_requeue(self) -> None:
        """Under SLURM: requeue the task after a preemption or a time limit, and then wait until SLURM kills it.

        SLURM does not requeue a job that ends by itself during its grace period, whatever its exit code.
        """
        task = slurm.my_task() if os.environ.get("SUBMITIT_EXECUTOR") == "slurm" else None
        if task is None:
            return
        cause = slurm.cause_of_stop(task, signal_delay=self.signal_delay)
        print(f"told to stop: {cause}; everything is saved", flush=True)
        if cause in ("cancelled", "asked"):
            return
        problem = slurm.requeue(task) if cause != "unknown" else ""
        if problem:
            print(f"not requeued ({problem}); the same submit command continues from here", flush=True)
            if cause == "time limit":
                return
        while True:
            time.sleep(1)


# The name under which 0.1.0 has pickled the tasks that wait in a queue.
Work = TaskPayload


class WorkerPool:
    """The worker processes of one task. They get runs until all have ended or the task is told to stop.

    attempts_before: how many attempts each run had before this task. Failures of earlier submissions do not count.
    """

    def __init__(self, payload: TaskPayload, run: Callable[..., str], stop: StopSignal) -> None:
        self.payload, self.run, self.stop = payload, run, stop
        self.waiting = list(payload.directories)
        self.workers: list[WorkerProcess] = []
        self.outcomes: dict[str, str] = {}
        self.reuse_groups = {directory: reuse_group_of(Path(directory)) for directory in payload.directories}
        self.attempts_before = {one: len(run_directory.attempts(Path(one))) for one in payload.directories}

    def compute(self) -> dict[str, str]:
        """Run directory -> how it ended. When the task is told to stop, each worker process gets SIGTERM once."""
        told = False
        while self._assign_runs():
            if self.stop() and not told:
                for worker in self.workers:
                    worker.process.terminate()
                told = True
            events = [event for worker in self.workers for event in (worker.connection, worker.process.sentinel)]
            wait(events, timeout=_LOOK_SECONDS)
            for worker in self.workers:
                if worker.has_ended_its_run():
                    self._record(worker)
        return self.outcomes

    def _assign_runs(self) -> bool:
        """Assign runs to idle workers and to new ones, up to `parallel_runs`; close the others. Whether any is left."""
        self.workers = [worker for worker in self.workers if not worker.closed]
        for worker in self.workers:
            if worker.directory is None:
                self._assign(worker)
        while self.waiting and not self.stop() and len(self.workers) < self.payload.parallel_runs:
            number = min(set(range(self.payload.parallel_runs)) - {worker.number for worker in self.workers})
            self.workers.append(WorkerProcess.open(number, self.run, self.payload.execution, self.stop))
            self._assign(self.workers[-1])
        self.workers = [worker for worker in self.workers if not worker.closed]
        return bool(self.workers)

    def _assign(self, worker: WorkerProcess) -> None:
        """Assign its next run to a worker, or close the worker where there is none."""
        while self.waiting and not self.stop():
            directory = choose(self.waiting, self.reuse_groups, worker, self.workers)
            self.waiting.remove(directory)
            if self._has_failed_too_often(directory):
                self.outcomes[directory] = "failed"
            else:
                worker.start(directory, self.reuse_groups[directory])
                return
        worker.close()

    def _record(self, worker: WorkerProcess) -> None:
        """Note how a worker's run ended. A run that failed waits again."""
        directory = worker.directory
        assert directory is not None  # _assign_runs closes a worker that has no run
        outcome = worker.outcome()
        if outcome == "stopped" and not self.stop():
            worker.close()  # a signal reached this process alone, which would stop each further run at once
        if outcome == "crashed":
            if self.stop():
                outcome = "stopped"  # SLURM's SIGKILL reached the worker process first
            else:
                outcome = "failed"
                try:
                    _record_crash(Path(directory), worker.process)
                except OSError as error:  # the folder of one run must not stop the other runs
                    print(f"{Path(directory).name}: its crash could not be recorded ({error})", flush=True)
        print(f"{Path(directory).name}: {outcome}", flush=True)
        self.outcomes[directory] = outcome
        # The run waits again until it has failed too often. A run whose failure could not be recorded, on a full disk,
        # does not: it would be tried for ever.
        if outcome == "failed" and run_directory.state_of(Path(directory)).name == "failed":
            self.waiting.append(directory)

    def _has_failed_too_often(self, directory: str) -> bool:
        """Whether a run failed too often in this task since its last finished cycle, or by what stays as it is here.

        That is bad input, divergence, and too little memory where the site profile lets another task have more.
        """
        attempts = run_directory.attempts(Path(directory))
        mine = attempts[self.attempts_before[directory] :]
        if not mine and attempts and _diverged_in_this_job(attempts[-1]):
            return True  # before SLURM queued this task again
        if not mine or mine[-1].get("ended") != "failed":
            return False
        best = max(one.get("cycles_done", 0) for one in mine)
        first = next(place for place, one in enumerate(mine) if one.get("cycles_done", 0) == best)
        failures = sum(one.get("ended") == "failed" for one in mine[first:])
        error = str(mine[-1].get("error", ""))
        more_elsewhere = MEMORY_VARIABLE in os.environ and error.startswith(CRASHED_OUT_OF_MEMORY)
        return failures >= self.payload.attempts or more_elsewhere or error.startswith(_FINAL)


def _diverged_in_this_job(attempt: dict[str, Any]) -> bool:
    numbers = _job_numbers()
    diverged = run_directory.is_diverged(str(attempt.get("ended")), str(attempt.get("error", "")))
    return diverged and bool(numbers) and numbers.items() <= dict(attempt.get("slurm") or {}).items()


def _record_crash(directory: Path, child: BaseProcess) -> None:
    """Record that the process of a run died; its own attempt could not record that."""
    records = run_directory.attempts(directory)
    last = records[-1] if records else {}
    if last.get("pid") == child.pid and not last["ended"]:
        number = last["attempt"]
    else:
        number = run_directory.start_attempt(directory, {"slurm": _job_numbers()})
    error = Crashed(_why(child.exitcode or 0))
    run_directory.fail_attempt(directory, number, error, f"{error}\nIts last output is in the log of its task.\n")


def _why(code: int) -> str:
    """Why a process ended, from its exit code."""
    if code != -signal.SIGKILL:
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return f"the process of the run died by {name}"
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    limit = int(os.environ.get("SLURM_MEM_PER_NODE", 0)) / 2**10
    of_limit = f" of {limit:.1f} GiB" if limit else ""
    enough = int(max(peak, limit) * 1.5) + 1
    return (
        f"{OUT_OF_MEMORY}, most likely: killed by SIGKILL at {peak:.1f} GiB{of_limit}; set memory_gb: {enough} in the "
        "site profile and submit again"
    )


def _job_numbers() -> dict[str, str]:
    """The job numbers of this task, by the names that attempt records have for them."""
    names = ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID")
    return {name.lower(): os.environ[name] for name in names if name in os.environ}


@dataclass(frozen=True)
class Aggregation:
    """The job that follows all runs: `python -m dc_hpc.aggregate` with these arguments, in this folder."""

    arguments: tuple[str, ...]
    folder: str

    def __call__(self) -> int:
        """The exit code of aggregate, 0. SystemExit with any other, so that SLURM knows a job that made no tables."""
        command = [sys.executable, "-m", "dc_hpc.aggregate", *self.arguments]
        code = subprocess.run(command, cwd=self.folder, check=False).returncode
        if code:
            raise SystemExit(code)
        return code
