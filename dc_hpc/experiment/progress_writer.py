"""Writes where an attempt is, in a thread: a long k-means is shown too, and no computation waits for a disk."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import TracebackType

from dc_hpc.storage import run_progress
from dc_hpc.storage.run_progress import RunProgress

# Thousands of tasks may share the file system of a cluster; on one machine somebody looks at the screen.
_CLUSTER_SECONDS, _LOCAL_SECONDS = 30.0, 1.0


class ProgressWriter:
    """The observer of a run. Computing code calls it with its stage, which only sets attributes.

    While it is entered, a thread renews the progress file of the attempt every second, under SLURM every half minute.
    A file that cannot be written, on a full disk for example, is no error of the run.
    """

    def __init__(self, directory: Path, number: int) -> None:
        self.directory, self.number = directory, number
        self.seconds = _CLUSTER_SECONDS if "SLURM_JOB_ID" in os.environ else _LOCAL_SECONDS
        self.cycle = 0
        self.nmi: float | None = None
        self.loss: float | None = None
        self._stage: tuple[str, int, int] = ("loading", 0, 0)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="progress", daemon=True)

    def __call__(self, stage: str, done: int = 0, total: int = 0) -> None:
        """Note where the computation is; one assignment, so that the thread sees the old stage or the new one."""
        self._stage = (stage, done, total)

    def __enter__(self) -> ProgressWriter:
        run_progress.remove(self.directory, self.number)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        run_progress.remove(self.directory, self.number)

    def _renew(self) -> None:
        written = None
        while not self._ended.wait(self.seconds):
            progress = RunProgress(*self._stage, cycle=self.cycle, nmi=self.nmi, loss=self.loss)
            try:
                if progress == written:  # in a long k-means, for example, which another host must not take for dead
                    run_progress.renew(self.directory, self.number)
                else:
                    run_progress.write(self.directory, self.number, progress)
                written = progress
            except (OSError, ValueError):
                written = None
