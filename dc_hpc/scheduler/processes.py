"""Worker processes: the child processes of a task, each of which computes one run after the other.

A worker process keeps in memory what its next run can use. (storage/processes.py is about something else: whether
any process of this machine is alive.)
"""

from __future__ import annotations

import contextlib
import faulthandler
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from dc_hpc.experiment import reuse
from dc_hpc.experiment.device import use_gpu
from dc_hpc.experiment.execution import Execution, StopSignal
from dc_hpc.scheduler.tasks.run_folder import is_visible, not_visible
from dc_hpc.storage import run_directory
from dc_hpc.storage.atomic_files import DamagedFile

_ORPHAN_SECONDS = 5.0


@dataclass
class WorkerProcess:
    """One child process of a task, as the task handles it.

    number: its number within the task, which decides its GPU where there are several. connection: sends directories
    and receives outcomes. directory: of the run that it computes, None while it is idle. reuse_group: of its last run.
    """

    number: int
    process: BaseProcess
    connection: Connection
    directory: str | None = None
    reuse_group: Any = None
    closed: bool = False
    _answer: str | None = field(default=None, repr=False)

    @classmethod
    def open(cls, number: int, run: Callable[..., str], execution: Execution, stop: StopSignal) -> WorkerProcess:
        """Start a process that waits for runs."""
        # fork: torch is in memory already and the signal handlers are set; this process has computed nothing yet
        context = multiprocessing.get_context("fork")
        ours, theirs = context.Pipe()
        process = context.Process(target=_worker_main, args=(theirs, number, run, execution, stop, os.getpid()))
        process.start()
        theirs.close()
        return cls(number, process, ours)

    def start(self, directory: str, reuse_group: Any) -> None:
        """Let it compute a run."""
        self.directory, self.reuse_group = directory, reuse_group
        with contextlib.suppress(OSError):  # a process that died meanwhile is noticed by its sentinel
            self.connection.send(directory)

    def has_ended_its_run(self) -> bool:
        """Whether its run has ended in some way, a crash included."""
        with contextlib.suppress(EOFError, OSError):
            if self.connection.poll():
                self._answer = self.connection.recv()
        return self._answer is not None or not self.process.is_alive()

    def outcome(self) -> str:
        """How its run ended: the answer of the process, or "crashed". The process is idle then, or closed."""
        outcome, self._answer, self.directory = self._answer or "crashed", None, None
        if outcome == "crashed":
            self.close()
        return outcome

    def close(self) -> None:
        """Tell the process to end and wait until it has ended."""
        with contextlib.suppress(OSError):
            self.connection.send(None)
        self.process.join()
        self.connection.close()
        self.closed = True


def _worker_main(
    connection: Connection, number: int, run: Callable[..., str], execution: Execution, stop: StopSignal, parent: int
) -> None:
    """What the child process does: receive a directory, compute its run, send the outcome; end at None."""
    faulthandler.enable()
    use_gpu(execution.device, number)
    # submitit's SIGCONT handler only prints
    signal.signal(signal.SIGCONT, signal.SIG_DFL)

    def orphaned() -> bool:
        return os.getppid() != parent  # nothing will arrive on the connection any more, and no signal to stop either

    with contextlib.suppress(EOFError, BrokenPipeError):
        while not orphaned():
            if not connection.poll(_ORPHAN_SECONDS):
                continue
            directory = connection.recv()
            if directory is None:
                return
            connection.send(_compute(Path(directory), run, execution, lambda: stop() or orphaned()))


def _compute(directory: Path, run: Callable[..., str], execution: Execution, stop: Callable[[], bool]) -> str:
    """How a run ended. A run whose folder this node does not see is left as it is, and can be submitted again."""
    if is_visible(directory, stop):
        return run(directory, execution, stop=stop)
    if stop():
        return "stopped"
    print(not_visible(directory), file=sys.stderr, flush=True)
    return "failed"


def reuse_group_of(directory: Path) -> Any:
    """Runs with the same value share a first pass over the images, and one may have cycles to copy for another."""
    try:
        return reuse.first_pass(run_directory.read_config(directory))
    except (DamagedFile, OSError):
        return directory.name  # the attempt at this run will say what is wrong


def choose(
    waiting: Sequence[str], reuse_groups: dict[str, Any], worker: WorkerProcess, workers: Sequence[WorkerProcess]
) -> str:
    """The next run for a worker: of its own reuse group, else of one that no other worker computes, else the first."""
    busy = {one.reuse_group for one in workers if one is not worker and one.directory is not None}
    own = (one for one in waiting if reuse_groups[one] == worker.reuse_group)
    free = (one for one in waiting if reuse_groups[one] not in busy)
    return next(own, None) or next(free, None) or waiting[0]
