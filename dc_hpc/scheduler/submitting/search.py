"""Look for jobs in the queue, more than once where it does not show them: its answer may be late, cached or in part."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence

from dc_hpc.scheduler import slurm
from dc_hpc.scheduler.slurm import Queue, Task

# Seconds before each further look for a job that the queue does not show.
BACK_OFF: tuple[float, ...] = (1, 2, 4, 8, 8, 8)


def look_for(names: Collection[str], clusters: Collection[str], *, waits: Sequence[float]) -> Queue:
    """The tasks in the queue, looked at until it shows a job of each of these names or all `waits` are over.

    The accounting database is asked for names that the queue does not show. waits: seconds before each further look.
    A task that one look has shown counts as it was shown last. The answer has no tasks if the last look failed.
    """
    seen: dict[tuple[str, str], Task] = {}
    for place, wait in enumerate((*waits, None)):
        queue = slurm.queue(clusters)
        seen |= {(task.cluster, task.id): task for task in queue.tasks or ()}
        absent = sorted(set(names) - {task.name for task in seen.values()})
        if absent and (place == 0 or wait is None):
            accounted = slurm.accounted(absent, clusters)
            seen |= {(task.cluster, task.id): task for task in accounted}
            absent = sorted(set(absent) - {task.name for task in accounted})
        if queue.tasks is not None and not absent:
            break
        if wait is None:
            return queue if queue.tasks is None else Queue(list(seen.values()))
        if place == 0:
            more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
            what = f"the queue does not show {absent[0]}{more}" if absent else "squeue fails"
            print(f"{what}; looking again for up to {sum(waits):.0f} s", flush=True)
        time.sleep(wait)
    return Queue(list(seen.values()))
