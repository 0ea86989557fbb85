"""Before anything is sent: find out what became of the submissions of earlier calls, and record it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from dc_hpc.errors import InputError
from dc_hpc.experiment.execution import Execution
from dc_hpc.scheduler import slurm, submissions
from dc_hpc.scheduler.slurm import Queue, Task
from dc_hpc.scheduler.submissions import Submission
from dc_hpc.scheduler.submitting import search
from dc_hpc.scheduler.submitting.sbatch import (
    best,
    cancel_duplicates,
    record_number,
    was_refused,
    without_file,
    write_task_files,
)
from dc_hpc.scheduler.worker import ATTEMPTS, TaskPayload
from dc_hpc.storage import run_directory


def settle(outputs: Path, names: Collection[str], cluster: str | None = None) -> tuple[list[Submission], Queue]:
    """All submissions of the folder as they are now, and the queue. Each result is recorded.

    Those whose answer was lost, and those that have unfinished runs of `names` and are not in the queue, are looked
    for several times. Those of another cluster than the one that answers stay as they are. names: of the runs that are
    to be submitted. cluster: where they will be sent, None for nowhere. InputError where SLURM does not answer. The
    caller holds the lock of the folder.
    """
    known = submissions.read_all(outputs)
    folder = run_directory.runs_folder(outputs)
    unfinished = {run for run in names if run_directory.state_of(folder / run).name != "done"}
    open_ = [one for one in known if _is_open(one, unfinished)]
    unseen = {one.name for one in submissions.out_of_sight(open_, (), slurm.cluster_name)}
    wanted = {one.name for one in open_} - unseen
    clusters = submissions.clusters_of(known) | ({cluster} if cluster is not None else set())
    queue = search.look_for(wanted, clusters, waits=search.BACK_OFF)
    if queue.tasks is None:
        raise InputError(no_answer(queue))
    _refuse_jobs_of_damaged_records(outputs, known, queue.tasks)
    shown = {task.name for task in queue.tasks}
    settled = [
        one if one.name in unseen - shown else _settled(one, one.name in wanted, known, queue.tasks, outputs)
        for one in known
    ]
    return settled, queue


def no_answer(queue: Queue) -> str:
    """The message where squeue fails."""
    return (
        f"SLURM does not answer, and nobody knows which runs are in its queue; try again when squeue works "
        f"(it says: {queue.problem[-300:]})"
    )


def _refuse_jobs_of_damaged_records(outputs: Path, known: Sequence[Submission], tasks: Sequence[Task]) -> None:
    """InputError where a job in the queue has a damaged record: its runs are not known, and would be sent again."""
    folder = submissions.folder_of(outputs)
    damaged = {path.stem for path in folder.glob("*.json")} - {one.name for one in known}
    for task in tasks:
        if task.is_active and task.name in damaged:
            raise InputError(
                f"the record of job {task.name} in {folder} is damaged or cannot be read, so nobody knows which runs "
                f"its tasks compute; submit when they have ended, or end them: scancel --name={task.name}"
            )


def _is_open(one: Submission, unfinished: Collection[str]) -> bool:
    """Whether it matters what became of a submission, and its record does not tell."""
    if one.job is None:
        return True
    return bool(one.job) and not one.left and any(run in unfinished for run in one.run_names())


def _settled(
    one: Submission, wanted: bool, known: Sequence[Submission], tasks: Sequence[Task], outputs: Path
) -> Submission:
    mine = [task for task in tasks if task.name == one.name]
    if one.job:
        cancel_duplicates(one, mine)
        _complete_files(one, mine, outputs)
        return _recorded(replace(one, left=True), outputs) if wanted and not mine else one
    if not mine or was_refused(mine):
        # sbatch said that it accepted the job: only the queue or the person can tell what became of it
        is_unsure = one.job is None and one.accepted and not mine and not one.is_aggregator
        return one if is_unsure or one.job == "" else _recorded(replace(one, job="", accepted=False), outputs)
    if one.job == "" and not any(task.is_active for task in mine):
        return one
    payloads = _payloads(one, outputs)
    if not payloads or (one.job == "" and not _is_needed(one, known, tasks, outputs)):
        cancel_duplicates(one, mine)
        return one if one.job == "" else _recorded(replace(one, job="", accepted=False), outputs)
    arrived = record_number(one, best(mine), payloads, outputs)
    cancel_duplicates(arrived, mine)
    return arrived


def _complete_files(one: Submission, mine: Sequence[Task], outputs: Path) -> None:
    """Write the files of its tasks that are missing; without them the tasks could only fail."""
    if (missing := without_file(one, mine)) and (payloads := _payloads(one, outputs)):
        write_task_files(one, missing, payloads)


def _is_needed(one: Submission, known: Sequence[Submission], tasks: Sequence[Task], outputs: Path) -> bool:
    """Whether a job that arrived late has runs to compute, and none of them is in the queue with another job."""
    folder, active = run_directory.runs_folder(outputs), {task.name for task in tasks if task.is_active}
    others = {run for other in known if other.name in active - {one.name} for run in other.run_names()}
    runs = one.run_names()
    return not others & set(runs) and any(run_directory.state_of(folder / run).name != "done" for run in runs)


def _payloads(one: Submission, outputs: Path) -> list[TaskPayload]:
    """What the tasks of a submission compute, from its record.

    Nothing for an aggregator, whose arguments are not in it, and for a record of another folder.
    """
    if not one.execution or Path(one.folder).parent.resolve() != (outputs / "slurm").resolve():
        return []
    execution, runs = Execution.from_record(one.execution), (outputs / "runs").resolve()
    packs = [tuple(str(runs / run) for run in pack) for pack in one.runs]
    return [TaskPayload(pack, execution, one.parallel_runs, ATTEMPTS, one.signal_delay) for pack in packs]


def _recorded(one: Submission, outputs: Path) -> Submission:
    submissions.write(outputs, one)
    return one
