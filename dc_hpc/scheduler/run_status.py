"""The status of each run: what its directory says, joined with what SLURM says of its task, where SLURM answers."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dc_hpc.scheduler import slurm, submissions
from dc_hpc.scheduler.slurm import Task
from dc_hpc.scheduler.submissions import Submission
from dc_hpc.scheduler.tasks import memory_retry, task_ends
from dc_hpc.scheduler.tasks.task_ends import TaskEnd
from dc_hpc.scheduler.tasks.waiting import reason_in_words
from dc_hpc.storage import run_directory
from dc_hpc.storage.run_directory import RunState

# unanswered: of the run's last submission nobody knows whether it arrived, and SLURM cannot be asked now.
STATES = ("done", "running", "queued", "resumable", "failed", "new", "unanswered")
_STARTED = ("RUNNING", "COMPLETING", "SUSPENDED")


@dataclass(frozen=True)
class RunStatus:
    """The status of one run: its state (one of STATES), the reason in one line, its finished cycles, and its task.

    result: the numbers of result.json, of a run that is done. end: how its last task ended, where that task is over
    and the run is not done. is_refused: whether SLURM did not take its last submission.
    """

    name: str
    state: str
    reason: str = ""
    cycles_done: int = 0
    task: Task | None = None
    result: dict[str, Any] | None = None
    end: TaskEnd | None = None
    is_refused: bool = False

    @property
    def is_active(self) -> bool:
        """Whether the run computes or waits in the queue. Submit leaves it alone then."""
        return self.state in ("running", "queued") or (self.task is not None and self.task.is_active)

    @property
    def has_diverged(self) -> bool:
        """Whether its training diverged. Submit starts it again only when a person asks for failed runs."""
        return self.state == "failed" and run_directory.is_diverged(self.state, self.reason) and not self.is_active

    @property
    def is_missing(self) -> bool:
        """Whether submit has to start it."""
        return self.state not in ("done", "unanswered") and not self.is_active


@dataclass
class RunStatusTable:
    """The status of many runs.

    runs: run name -> status. cluster: whether SLURM answered. submissions: all of the outputs folder. warnings: one
    line for each submission record that is damaged. unanswered: the submissions that sbatch gave no number, and whose
    job is not in the queue as far as it can be seen. failed_aggregators: the ends of aggregators that made no tables.
    tasks: those that SLURM's queue shows. out_of_sight: the submissions with unfinished runs whose queue cannot be seen
    here, because no SLURM answers or it is that of another cluster.
    """

    runs: dict[str, RunStatus]
    cluster: bool
    submissions: list[Submission] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    unanswered: list[Submission] = field(default_factory=list)
    failed_aggregators: list[TaskEnd] = field(default_factory=list)
    tasks: list[Task] = field(default_factory=list)
    out_of_sight: list[Submission] = field(default_factory=list)

    def counts(self) -> dict[str, int]:
        """The number of runs in each state."""
        return {name: sum(run.state == name for run in self.runs.values()) for name in STATES}

    def describe_counts(self) -> str:
        """`counts` in words. A lost answer is rare, so the state `unanswered` is named only where there is one."""
        return ", ".join(f"{count} {name}" for name, count in self.counts().items() if count or name != "unanswered")

    def describe_unanswered(self) -> list[str]:
        """A line for each submission of which nobody here knows what became: what is known, and the way out."""
        return [
            f"submission {one.name} ({len(one.run_names())} runs): {self._describe_doubt(one)}"
            for one in self.unanswered
        ]

    def _describe_doubt(self, one: Submission) -> str:
        """What is known of a submission without an answer, or whose queue cannot be seen, and the way out."""
        waiting = sum(self.runs[run].state == "unanswered" for run in one.run_names() if run in self.runs)
        forget = f"python -m dc_hpc.status forget {one.name}"
        if one in self.out_of_sight:
            job, cluster = f"job {one.job}" if one.job else "a job", one.cluster_name or one.cluster
            return (
                f"it is {job}{f' of cluster {cluster}' if cluster else ''}, whose queue cannot be seen from here; "
                f"{waiting} runs of these wait for it. Submit where squeue shows it. When you know that it is gone: "
                f"{forget}"
            )
        forget = f"When you know that it never arrived: {forget}"
        if one.accepted:
            return f"sbatch accepted it without a number; {waiting} runs of these wait until SLURM shows it. {forget}"
        if self.cluster:
            return (
                "the answer of sbatch was lost, and SLURM does not list it: the next submit to the cluster starts its "
                "runs again"
            )
        lost = "the answer of sbatch was lost, and SLURM does not answer here"
        return f"{lost}; {waiting} runs of these wait for it. {forget}"

    def describe_problems(self) -> list[str]:
        """A line for each thing that went wrong outside of the runs: a lost answer, a refusal, a task that failed."""
        memory = memory_retry.describe(self)
        # what becomes of a run that ran out of memory is said there
        ends = [run.end for run in self.runs.values() if run.end and not (memory and run.end.is_out_of_memory)]
        lines = [*self.describe_unanswered(), *memory, *task_ends.describe_ends(ends)]
        refused = sum(run.is_refused for run in self.runs.values())
        if refused:
            lines.append(
                f"{refused} of {len(self.runs)} runs not submitted: SLURM did not take their job; run the same "
                "submit command again, which says why if it happens again"
            )
        return lines + task_ends.describe_aggregators(self.failed_aggregators)

    def describe_diverged(self) -> list[str]:
        """A line for the runs that diverged, if there are any: why nothing starts them, and what does."""
        count = sum(run.has_diverged for run in self.runs.values())
        if not count:
            return []
        verb, them = ("has", "it") if count == 1 else ("have", "them")
        return [
            f"{count} of the failed {verb} diverged and would again; submit --only failed starts {them} all the same"
        ]

    def named(self, names: Collection[str]) -> list[RunStatus]:
        """The status of those of these runs that the table has."""
        return [run for name, run in self.runs.items() if name in names]


def collect(
    outputs: Path,
    names: Iterable[str],
    tasks: Sequence[Task] | None = None,
    known: list[Submission] | None = None,
    *,
    accounted: Callable[[list[str], Collection[str]], list[Task]] = slurm.accounted,
    queue: Callable[[Sequence[Submission]], list[Task] | None] | None = None,
    cluster_name: Callable[[], str] = slurm.cluster_name,
) -> RunStatusTable:
    """The status of these runs; reads only.

    tasks, known: the tasks in SLURM's queue and the submissions of the folder, where the caller has read them already.
    queue: what asks SLURM for its queue otherwise; it gets the submissions. accounted: what asks the accounting
    database for the tasks of jobs that have left the queue. cluster_name: what asks SLURM what it calls itself.
    """
    folder = run_directory.runs_folder(outputs)
    states = {name: run_directory.state_of(folder / name) for name in names}
    warnings: list[str] = []
    known = submissions.read_all(outputs, warnings) if known is None else known
    if tasks is None and known:
        tasks = slurm.tasks(submissions.clusters_of(known)) if queue is None else queue(known)
    reported = list(tasks or [])
    unseen = _out_of_sight(known, states, tasks, cluster_name)
    if tasks is not None:
        left = _left_the_queue(known, states, reported)
        reported += accounted([one.name for one in left], submissions.clusters_of(left))
    owners = submissions.runs_of_tasks(known, reported)
    last = _Last(known, reported, known if tasks is None else unseen)
    runs = {name: _status_of(folder / name, state, owners.get(name), last) for name, state in states.items()}
    _mark_unsent(runs, last)
    queued = {task.name for task in reported if task.is_active}
    unanswered = [one for one in known if one.job is None and one.name not in queued]
    # sbatch accepted a job that the queue does not show: it is not sent again before the person says that it is gone
    _mark_unanswered(runs, unanswered if tasks is None else [one for one in unanswered if one.accepted])
    failed = task_ends.failed_aggregators(known, reported, outputs) if tasks is not None else []
    return RunStatusTable(runs, tasks is not None, known, warnings, unanswered, failed, list(tasks or []), unseen)


def hold_back(table: RunStatusTable) -> RunStatusTable:
    """The table for a submit: it leaves runs alone that may wait in a queue that cannot be seen here.

    Runs whose task has ended there, as the folder of its job shows, are free.
    """
    runs, holding = dict(table.runs), []
    for one in table.out_of_sight:
        waiting = [run for index, pack in enumerate(one.runs) if not task_ends.has_ended(one, index) for run in pack]
        held = _mark(runs, waiting, f"{one.name} may wait or compute where its queue cannot be seen from here")
        holding += [one] if held else []
    others = [one for one in table.unanswered if one not in holding]
    return replace(table, runs=runs, unanswered=[*others, *holding])


class _Last:
    """The last task of each run, and whether it is over. unseen: the submissions whose queue is not known."""

    def __init__(self, known: Sequence[Submission], reported: Sequence[Task], unseen: Sequence[Submission]) -> None:
        self.known, self.unseen = known, {one.name for one in unseen}
        self.of_run = {run: (one, index) for one in known for index, pack in enumerate(one.runs) for run in pack}
        self.reported = {(task.name, task.index): task for task in sorted(reported, key=lambda task: task.is_active)}

    def is_refused(self, run: str) -> bool:
        """Whether SLURM did not take the last submission of a run."""
        return run in self.of_run and self.of_run[run][0].job == ""

    def end_of(self, directory: Path) -> TaskEnd | None:
        """How the last task of a run ended; None where it had none, is not over, or nobody knows."""
        submission, index = self.of_run.get(directory.name, (None, 0))
        if submission is None or not submission.job:
            return None
        task = self.reported.get((submission.name, index))
        if task is not None and task.is_active:
            return None
        others = [directory.with_name(run) for run in submission.runs[index] if run != directory.name]
        end = task_ends.end_of(directory, submission, index, task, others)
        if end is None or submission.name not in self.unseen:
            return end
        # the log alone: the task may have been queued again since
        return replace(end, is_failure=False) if end.cause.name != "unknown" else None

    def has_left(self, directory: Path) -> bool:
        """Whether a run that no task in the queue has was begun by a task, whose queue is known: the task is gone.

        SLURM shows the tasks of the person who asks, so the run must be that person's.
        """
        records = run_directory.attempts(directory)
        if not records or directory.stat().st_uid != os.getuid():
            return False
        return any(
            task_ends.ran_in(records[-1], one, index)
            for one in self.known
            if one.name not in self.unseen
            for index, pack in enumerate(one.runs)
            if directory.name in pack
        )


def _out_of_sight(
    known: Sequence[Submission],
    states: dict[str, RunState],
    tasks: Sequence[Task] | None,
    cluster_name: Callable[[], str],
) -> list[Submission]:
    unfinished = {name for name, state in states.items() if state.name != "done"}
    open_ = [one for one in known if not unfinished.isdisjoint(one.run_names())]
    if tasks is None:
        return [one for one in open_ if one.job and not one.left]
    return submissions.out_of_sight(open_, tasks, cluster_name)


def _mark_unanswered(runs: dict[str, RunStatus], unanswered: Sequence[Submission]) -> None:
    """Let the runs of submissions without an answer wait, but for those that are done or compute on this machine."""
    for one in unanswered:
        _mark(runs, one.run_names(), f"nobody knows whether {one.name} arrived")


def _mark(runs: dict[str, RunStatus], names: Collection[str], reason: str) -> bool:
    """Let these runs wait, but for those that are done or have a task that can be seen; whether there is one."""
    waiting = [name for name in names if name in runs and runs[name].state != "done" and not runs[name].is_active]
    for name in waiting:
        runs[name] = replace(runs[name], state="unanswered", reason=reason)
    return bool(waiting)


def _mark_unsent(runs: dict[str, RunStatus], last: _Last) -> None:
    """After a refusal nothing more of a grid is sent, so runs of no submission are not submitted either."""
    if any(run.is_refused for run in runs.values()):
        for name, run in runs.items():
            if run.state == "new" and name not in last.of_run:
                runs[name] = replace(run, reason="not submitted", is_refused=True)


def _left_the_queue(
    known: Sequence[Submission], states: dict[str, RunState], tasks: Sequence[Task]
) -> list[Submission]:
    """The jobs that have a task with unfinished runs which squeue has forgotten; only the accounting knows its end."""
    listed = {(task.name, task.index) for task in tasks}
    aggregators = [one.name for one in task_ends.newest_aggregators(known) if not task_ends.has_finished(one)]
    return [
        one
        for one in known
        if (one.name in aggregators and (one.name, 0) not in listed)
        or any(
            (one.name, index) not in listed and any(run in states and states[run].name != "done" for run in pack)
            for index, pack in enumerate(one.runs)
        )
    ]


def _status_of(directory: Path, state: RunState, task: Task | None, last: _Last) -> RunStatus:
    plain = RunStatus(directory.name, state.name, state.reason, state.cycles_done, task, state.result)
    if state.name == "done":
        return plain
    if task is not None and task.is_active:
        return _status_of_active(directory, plain, task)
    if state.name == "running":
        is_over = task is not None or last.has_left(directory)
        if not is_over or run_directory.is_on_this_host(directory):
            return plain
        plain = replace(plain, state="resumable", reason="")
    if last.is_refused(directory.name):
        return replace(plain, reason=plain.reason or "not submitted: SLURM did not take its job", is_refused=True)
    return _status_of_ended(directory, plain, last.end_of(directory))


def _status_of_ended(directory: Path, plain: RunStatus, end: TaskEnd | None) -> RunStatus:
    """The status of a run whose last task is over. What the run itself has recorded is known better."""
    if end is None:
        return plain
    if plain.state in ("resumable", "failed") and end.began:
        return replace(plain, reason=plain.reason or end.describe(plain.name), end=end)
    return replace(plain, state="failed" if end.is_failure else plain.state, reason=end.describe(plain.name), end=end)


def _status_of_active(directory: Path, plain: RunStatus, task: Task) -> RunStatus:
    where = f"{task.id} on {task.node}" if task.node else task.id
    if task.state in _STARTED:
        if plain.state == "running":
            return replace(plain, reason=where)
        if plain.state == "failed" and _failed_in(directory, task):
            return plain
        return replace(plain, state="queued", reason=f"in {where}")
    reason = reason_in_words(task, has_begun=plain.state != "new")
    return replace(plain, state="queued", reason=f"{task.id} waits{': ' + reason if reason else ''}")


def _failed_in(directory: Path, task: Task) -> bool:
    numbers = (run_directory.attempts(directory) or [{}])[-1].get("slurm", {})
    array, _, index = task.id.partition("_")
    mine = numbers.get("slurm_array_job_id") == array and numbers.get("slurm_array_task_id") == index
    return mine or (not index and numbers.get("slurm_job_id") == task.id)


def task_of(run: str, known: Sequence[Submission]) -> tuple[Submission, int] | None:
    """The newest submission that contains a run, and the index of the run's task in it; None where there is none."""
    for one in reversed(known):
        for index, pack in enumerate(one.runs):
            if run in pack:
                return one, index
    return None
