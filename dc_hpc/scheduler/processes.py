"""Where runs compute: child processes that do one run after the other and remember what the next can use."""

from __future__ import annotations

import contextlib
import faulthandler
import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from dc_hpc.experiment import reuse
from dc_hpc.experiment.device import use_gpu
from dc_hpc.experiment.execution import Execution, StopSignal
from dc_hpc.storage import run_directory
from dc_hpc.storage.atomic_files import DamagedFile

_ORPHAN_SECONDS = 5.0


@dataclass
class WorkerProcess:
    """One child process. number: its place among the desks of a task, which decides its GPU where there are several.

    directory: of the run it does, None while it is free. family: of the runs it has in mind.
    """

    number: int
    process: BaseProcess
    line: Connection
    directory: str | None = None
    family: Any = None
    closed: bool = False
    _answer: str | None = field(default=None, repr=False)

    @classmethod
    def open(cls, number: int, run: Callable[..., str], execution: Execution, stop: StopSignal) -> WorkerProcess:
        """A new process that waits for runs."""
        # fork: torch is in memory already and the handlers are set; nothing has computed yet in this process
        context = multiprocessing.get_context("fork")
        mine, its = context.Pipe()
        process = context.Process(target=_worker_main, args=(its, number, run, execution, stop, os.getpid()))
        process.start()
        its.close()
        return cls(number, process, mine)

    def start(self, directory: str, family: Any) -> None:
        """Give it a run."""
        self.directory, self.family = directory, family
        with contextlib.suppress(OSError):  # a desk that died meanwhile is seen by its sentinel
            self.line.send(directory)

    def has_ended_its_run(self) -> bool:
        """Whether its run is over, in whatever way."""
        with contextlib.suppress(EOFError, OSError):
            if self.line.poll():
                self._answer = self.line.recv()
        return self._answer is not None or not self.process.is_alive()

    def outcome(self) -> str:
        """How its run ended: the desk's word, or "crashed"; the desk is free then, or closed."""
        outcome, self._answer, self.directory = self._answer or "crashed", None, None
        if outcome == "crashed":
            self.close()
        return outcome

    def close(self) -> None:
        """Send the process home and wait until it is gone."""
        with contextlib.suppress(OSError):
            self.line.send(None)
        self.process.join()
        self.line.close()
        self.closed = True


def _worker_main(
    line: Connection, number: int, run: Callable[..., str], execution: Execution, stop: StopSignal, parent: int
) -> None:
    faulthandler.enable()
    use_gpu(execution.device, number)
    # submitit's SIGCONT handler only talks
    signal.signal(signal.SIGCONT, signal.SIG_DFL)

    def orphaned() -> bool:
        return os.getppid() != parent  # nobody will ever call again, or tell it to stop

    with contextlib.suppress(EOFError, BrokenPipeError):
        while not orphaned():
            if not line.poll(_ORPHAN_SECONDS):
                continue
            directory = line.recv()
            if directory is None:
                return
            line.send(run(Path(directory), execution, stop=lambda: stop() or orphaned()))


def family_of(directory: Path) -> Any:
    """Runs with the same value share a first pass, and may have cycles to give each other."""
    try:
        return reuse.first_pass(run_directory.read_config(directory))
    except (DamagedFile, OSError):
        return directory.name  # its own attempt will say what is wrong


def choose(
    waiting: Sequence[str], families: dict[str, Any], desk: WorkerProcess, desks: Sequence[WorkerProcess]
) -> str:
    """Best a run of the desk's own family, else one whose family sits at no desk, else the next."""
    taken = {one.family for one in desks if one is not desk and one.directory is not None}
    own = (one for one in waiting if families[one] == desk.family)
    free = (one for one in waiting if families[one] not in taken)
    return next(own, None) or next(free, None) or waiting[0]
