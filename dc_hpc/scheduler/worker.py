"""What a job does: bring its runs to their end, and when it is told to stop, save and leave in the right way.

The runs compute at desks, child processes that do one run after the other. So a crash costs one run and not the
pack, several runs share a task's cores or GPU, runs that follow each other share what they have in common, and this
process answers a signal at once while a desk is deep in a k-means.
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

from dc_hpc.experiment.execution import Execution, StopSignal
from dc_hpc.experiment.loader import import_run
from dc_hpc.scheduler import slurm
from dc_hpc.scheduler.processes import WorkerProcess, choose, family_of
from dc_hpc.storage import run_directory

# A run that fails so often in a row in one task, no further cycle done, is left alone. Preemptions are no failures.
ATTEMPTS = 5
_LOOK_SECONDS = 0.2


class Crashed(RuntimeError):
    """A run's process died by a signal that nobody here sent."""


@dataclass(frozen=True)
class TaskPayload:
    """The runs of one task, `parallel_runs` at a time.

    attempts: how often a run may fail in a row without progress. signal_delay: the seconds of warning that SLURM
    gives before the time limit.
    """

    directories: tuple[str, ...]
    execution: Execution
    parallel_runs: int = 1
    attempts: int = 1
    signal_delay: int = 90

    def __call__(self) -> dict[str, str]:
        """Run directory -> "done", "stopped" or "failed"; for the log, nobody decides by it."""
        stop = StopSignal()  # first: whatever comes before it can be killed by a signal
        os.umask(0o077)
        run = self.run_function()
        outcomes = WorkerPool(self, run, stop).go()
        if stop() and any(run_directory.state_of(Path(one)).name != "done" for one in self.directories):
            self._leave()
        return outcomes

    def in_this_process(self) -> dict[str, str]:
        """The same work with no child processes, for a debugger."""
        stop, run = StopSignal(), self.run_function()
        return {one: run(Path(one), self.execution, stop=stop) for one in self.directories if not stop()}

    def run_function(self) -> Callable[..., str]:
        """What brings one run to its end: it imports torch, once for all desks."""
        run = import_run()
        from dc_hpc.experiment.process_cache import ProcessCache

        return partial(run, cache=ProcessCache(keep=len(self.directories) > 1))

    def _leave(self) -> None:
        """Under SLURM: see that the task comes back where it should, and stay until it is killed.

        A job that ends by itself during its grace is not requeued, whatever its exit code.
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
            print(f"not requeued ({problem}); the same submit command goes on from here", flush=True)
            if cause == "time limit":
                return
        while True:
            time.sleep(1)


class WorkerPool:
    """One life of a task: runs are given to desks until all are ended or a stop is asked for.

    begun: the attempts that each run had before; earlier failures are another submission's, this one is a new chance.
    """

    def __init__(self, work: TaskPayload, run: Callable[..., str], stop: StopSignal) -> None:
        self.work, self.run, self.stop = work, run, stop
        self.waiting, self.desks, self.outcomes = list(work.directories), [], {}
        self.families = {directory: family_of(Path(directory)) for directory in work.directories}
        self.begun = {directory: len(run_directory.attempts(Path(directory))) for directory in work.directories}

    def go(self) -> dict[str, str]:
        """Run directory -> how it ended. When a stop is asked for, desks are told once, and save."""
        told = False
        while self._occupy_desks():
            if self.stop() and not told:
                for desk in self.desks:
                    desk.process.terminate()
                told = True
            wait([item for desk in self.desks for item in (desk.line, desk.process.sentinel)], timeout=_LOOK_SECONDS)
            for desk in self.desks:
                if desk.has_ended_its_run():
                    self._record(desk)
        return self.outcomes

    def _occupy_desks(self) -> bool:
        """Give every free desk a run, open desks up to `parallel_runs`, close the rest; whether any is left."""
        self.desks = [desk for desk in self.desks if not desk.closed]
        for desk in self.desks:
            if desk.directory is None:
                self._assign(desk)
        while self.waiting and not self.stop() and len(self.desks) < self.work.parallel_runs:
            number = min(set(range(self.work.parallel_runs)) - {desk.number for desk in self.desks})
            self.desks.append(WorkerProcess.open(number, self.run, self.work.execution, self.stop))
            self._assign(self.desks[-1])
        self.desks = [desk for desk in self.desks if not desk.closed]
        return bool(self.desks)

    def _assign(self, desk: WorkerProcess) -> None:
        """Give a desk its next run, or close it when there is none."""
        while self.waiting and not self.stop():
            directory = choose(self.waiting, self.families, desk, self.desks)
            self.waiting.remove(directory)
            if self._worn_out(directory):
                self.outcomes[directory] = "failed"
            else:
                desk.start(directory, self.families[directory])
                return
        desk.close()

    def _record(self, desk: WorkerProcess) -> None:
        directory, outcome = desk.directory, desk.outcome()
        if outcome == "crashed":
            if self.stop():
                outcome = "stopped"  # SLURM's SIGKILL reached the desk first
            else:
                outcome = "failed"
                try:
                    _record_crash(Path(directory), desk.process)
                except OSError as error:  # one run's folder must not stop the other runs
                    print(f"{Path(directory).name}: its crash could not be recorded ({error})", flush=True)
        print(f"{Path(directory).name}: {outcome}", flush=True)
        self.outcomes[directory] = outcome
        # until it is worn out; a failure that could not be written down, on a full disk, would repeat for ever
        if outcome == "failed" and run_directory.state_of(Path(directory)).name == "failed":
            self.waiting.append(directory)

    def _worn_out(self, directory: str) -> bool:
        """Whether a run failed too often since this shift began, with no further cycle done in between."""
        mine = run_directory.attempts(Path(directory))[self.begun[directory] :]
        if not mine or mine[-1].get("ended") != "failed":
            return False
        best = max(one.get("cycles_done", 0) for one in mine)
        first = next(place for place, one in enumerate(mine) if one.get("cycles_done", 0) == best)
        failures = sum(one.get("ended") == "failed" for one in mine[first:])
        return failures >= self.work.attempts or mine[-1].get("error", "").startswith("InputError")


def _record_crash(directory: Path, child: BaseProcess) -> None:
    """Write down that a run's process died, as its attempt could not."""
    records = run_directory.attempts(directory)
    number = len(records)
    if not records or records[-1].get("pid") != child.pid or records[-1].get("ended"):
        number = run_directory.start_attempt(directory, {"slurm": _slurm_numbers()})
    error = Crashed(_why(child.exitcode or 0))
    run_directory.fail_attempt(directory, number, error, f"{error}\nWhat it last said stands in the log of its task.\n")


def _why(code: int) -> str:
    if code != -signal.SIGKILL:
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return f"the process of the run died by {name}"
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    limit = int(os.environ.get("SLURM_MEM_PER_NODE", 0)) / 2**10
    given = f" of {limit:.1f} GiB" if limit else ""
    wanted = int(max(peak, limit) * 1.5) + 1
    return (
        f"out of memory, most likely: killed by SIGKILL at {peak:.1f} GiB{given}; set memory_gb: {wanted} in the "
        "site profile and submit again"
    )


def _slurm_numbers() -> dict[str, str]:
    names = ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID")
    return {name.lower(): os.environ[name] for name in names if name in os.environ}


@dataclass(frozen=True)
class Aggregation:
    """The job that comes after all runs: `python -m dc_hpc.aggregate` with these arguments, in this folder."""

    arguments: tuple[str, ...]
    folder: str

    def __call__(self) -> int:
        """The exit code of aggregate."""
        command = [sys.executable, "-m", "dc_hpc.aggregate", *self.arguments]
        return subprocess.run(command, cwd=self.folder, check=False).returncode
