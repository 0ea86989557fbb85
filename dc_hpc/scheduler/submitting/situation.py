"""What is known of the runs of some grids, and the lock of a folder under which they are sent."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dc_hpc.scheduler import launch, run_status
from dc_hpc.scheduler.run_status import RunStatusTable
from dc_hpc.scheduler.submissions import Submission
from dc_hpc.scheduler.submitting.settle import settle
from dc_hpc.storage import lock_file
from dc_hpc.storage.lock_file import HeldLock


@dataclass(frozen=True)
class Situation:
    """What is known of the runs of some grids, whether they are to be sent or not."""

    table: RunStatusTable

    def unfinished(self) -> int:
        """The number of runs of the grids that are not done."""
        return sum(run.state != "done" for run in self.table.runs.values())

    def in_queue(self) -> int:
        """The number of runs of the grids that wait or compute."""
        return sum(run.is_active for run in self.table.runs.values())

    def living(self) -> list[Submission]:
        """The submissions that have runs of the grids and tasks that wait or compute."""
        active, names = self._active(), self.table.runs.keys()
        return [one for one in self.table.submissions if one.job and one.name in active and names & {*one.run_names()}]

    def needs_aggregator(self, grid: str, after: Sequence[Submission]) -> bool:
        """Whether no aggregator in the queue waits for all of these, or the last one of the grid was refused."""
        active = self._active()
        aggregators = [one for one in self.table.submissions if one.is_aggregator]
        waited_for = [set(one.after) for one in aggregators if one.name in active]
        if after:
            return not any({one.name for one in after} <= names for names in waited_for)
        mine = [one for one in aggregators if one.name.rpartition("-")[0] == launch.aggregator_name(grid)]
        return bool(mine) and mine[-1].job == ""

    def _active(self) -> set[str]:
        """The names of the jobs that wait or compute."""
        return {task.name for task in self.table.tasks if task.is_active}


@contextmanager
def submission_lock(outputs: Path) -> Iterator[HeldLock]:
    """Hold the lock under which one process at a time looks at the runs of a folder and sends them."""
    path = outputs / "slurm" / "submit.lock"
    with lock_file.held(path, lambda text: print(text, flush=True)) as lock:
        yield lock


def look(outputs: Path, names: Collection[str], cluster: str | None = None) -> Situation:
    """Settle the submissions of earlier calls and look at the runs. The caller holds the lock.

    cluster: where the runs will be sent, "" for the one that is asked without naming one; None for nowhere.
    """
    known, queue = settle(outputs, names, cluster)
    return Situation(run_status.hold_back(run_status.collect(outputs, names, queue.tasks, known)))
