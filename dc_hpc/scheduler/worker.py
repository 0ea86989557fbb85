"""What a job does: bring its runs to their end, and when it is told to stop, save and leave in the right way.

Each run computes in a child process of its own. So a crash costs one run and not the pack, several runs share a
task's cores or GPU, and this process answers a signal at once while a child is deep in a k-means.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from dc_hpc.experiment import store
from dc_hpc.experiment.execution import Execution, StopSignal
from dc_hpc.scheduler import slurm

# A run that fails so often in a row in one task, no further cycle done, is left alone. Preemptions are no failures.
ATTEMPTS = 5
_EXIT_CODES = {"done": 0, "stopped": 3, "failed": 4}
_LOOK_SECONDS = 0.2


class Crashed(RuntimeError):
    """A run's process died by a signal that nobody here sent."""


@dataclass(frozen=True)
class Work:
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
        outcomes = self._supervise(run, stop)
        if stop() and any(store.state_of(Path(one)).name != "done" for one in self.directories):
            self._leave()
        return outcomes

    def in_this_process(self) -> dict[str, str]:
        """The same work with no child processes, for a debugger."""
        stop, run = StopSignal(), self.run_function()
        return {one: run(Path(one), self.execution, stop=stop) for one in self.directories if not stop()}

    def run_function(self) -> Callable[..., str]:
        """What brings one run to its end: it imports torch, once for all children."""
        from dc_hpc.experiment.run import run

        return run

    def _supervise(self, run: Callable[..., str], stop: StopSignal) -> dict[str, str]:
        """Start children until all runs are ended or `stop` is set; then pass SIGTERM on and wait for them to save."""
        waiting, children, outcomes = deque(self.directories), {}, {}
        told = False
        while children or (waiting and not stop()):
            while waiting and len(children) < self.parallel_runs and not stop():
                directory = waiting.popleft()
                if self._worn_out(directory):
                    outcomes[directory] = "failed"
                else:
                    children[directory] = self._child(run, directory, stop)
            if stop() and not told:
                for child in children.values():
                    child.terminate()
                told = True
            for directory in [one for one, child in children.items() if not child.is_alive()]:
                outcomes[directory] = self._outcome(directory, children.pop(directory), stop)
                if outcomes[directory] == "failed" and self.attempts > 1:
                    waiting.append(directory)  # until it is worn out
            wait([child.sentinel for child in children.values()], timeout=_LOOK_SECONDS)
        return outcomes

    def _child(self, run: Callable[..., str], directory: str, stop: StopSignal) -> BaseProcess:
        # fork: torch is in memory already and the handlers are set; nothing has computed yet in this process
        child = multiprocessing.get_context("fork").Process(target=_one, args=(run, directory, self.execution, stop))
        child.start()
        return child

    def _outcome(self, directory: str, child: BaseProcess, stop: StopSignal) -> str:
        child.join()
        code = child.exitcode
        outcome = next((name for name, number in _EXIT_CODES.items() if number == code), "failed")
        if outcome == "failed" and code != _EXIT_CODES["failed"]:
            if stop():
                outcome = "stopped"  # SLURM's SIGKILL reached the child first
            else:
                _record_crash(Path(directory), child)
        print(f"{Path(directory).name}: {outcome}", flush=True)
        return outcome

    def _worn_out(self, directory: str) -> bool:
        """Whether a run failed too often in this task. A new submission is a new task and a new chance."""
        mine = [one for one in store.attempts(Path(directory)) if _is_of_this_task(one)]
        if not mine or mine[-1].get("ended") != "failed":
            return False
        best = max(one.get("cycles_done", 0) for one in mine)
        first = next(place for place, one in enumerate(mine) if one.get("cycles_done", 0) == best)
        failures = sum(one.get("ended") == "failed" for one in mine[first:])
        return failures >= self.attempts or mine[-1].get("error", "").startswith("InputError")

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


def _one(run: Callable[..., str], directory: str, execution: Execution, stop: StopSignal) -> None:
    faulthandler.enable()
    # SIGINT is the parent's to judge, and submitit's SIGCONT handler only talks
    signal.signal(signal.SIGCONT, signal.SIG_DFL)
    sys.exit(_EXIT_CODES[run(Path(directory), execution, stop=stop)])


def _record_crash(directory: Path, child: BaseProcess) -> None:
    """Write down that a run's process died, as its attempt could not."""
    records = store.attempts(directory)
    number = len(records)
    if not records or records[-1].get("pid") != child.pid or records[-1].get("ended"):
        number = store.start_attempt(directory, {"slurm": _slurm_numbers()})
    error = Crashed(_why(child.exitcode or 0))
    store.fail_attempt(directory, number, error, f"{error}\nWhat it last said stands in the log of its task.\n")


def _why(code: int) -> str:
    if code != -signal.SIGKILL:
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return f"the process of the run died by {name}"
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    limit = int(os.environ.get("SLURM_MEM_PER_NODE", 0)) / 2**10
    given = f" of {limit:.1f} GiB" if limit else ""
    wanted = int(max(peak, limit) * 1.5) + 1
    return (f"out of memory, most likely: killed by SIGKILL at {peak:.1f} GiB{given}; set memory_gb: {wanted} in the "
            "site profile and submit again")  # fmt: skip


def _is_of_this_task(attempt: dict) -> bool:
    return attempt.get("slurm", {}) == _slurm_numbers() | {
        key: value for key, value in attempt.get("slurm", {}).items() if key == "slurm_restart_count"
    }


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
