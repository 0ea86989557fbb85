"""Which tasks of SLURM belong to runs: all of them, and the aggregators that would then have nothing to wait for."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from dc_hpc.scheduler import launch
from dc_hpc.scheduler.slurm import Task
from dc_hpc.scheduler.submissions import Submission


def living_tasks(runs: Collection[str], known: Sequence[Submission], tasks: Sequence[Task]) -> list[Task]:
    """Every task in the queue that has one of these runs, also where a run is in several."""
    packs = {one.name: one.runs for one in known}
    return [
        task
        for task in tasks
        if task.is_active
        and task.name in packs
        and task.index < len(packs[task.name])
        and set(packs[task.name][task.index]) & set(runs)
    ]


def idle_aggregators(
    runs: Collection[str], known: Sequence[Submission], tasks: Sequence[Task], cancelled: Sequence[Task]
) -> list[Task]:
    """The tasks of aggregators of these runs whose other jobs have all ended once `cancelled` are gone."""
    gone = {(task.cluster, task.id) for task in cancelled}
    active = {task.name for task in tasks if task.is_active and (task.cluster, task.id) not in gone}
    mine = {one.name for one in known if set(runs) & set(one.run_names())}
    idle = set()
    for one in known:
        if not one.is_aggregator:
            continue
        # an aggregator of an earlier version does not record what it waits for
        after = set(one.after) or {other.name for other in known if _is_of_its_grid(one, other)}
        if after & mine and not after & active:
            idle.add(one.name)
    return [task for task in tasks if task.is_active and task.name in idle]


def _is_of_its_grid(aggregator: Submission, other: Submission) -> bool:
    grid = other.name.rpartition("-")[0]
    return not other.is_aggregator and aggregator.name.rpartition("-")[0] == launch.aggregator_name(grid)
