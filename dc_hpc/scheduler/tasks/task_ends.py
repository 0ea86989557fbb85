"""How the tasks of runs ended that are not done: before their run began or after, and why."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dc_hpc.scheduler.slurm import Task
from dc_hpc.scheduler.submissions import Submission
from dc_hpc.scheduler.tasks import causes
from dc_hpc.scheduler.tasks.causes import CANCELLED, PREEMPTED, Cause
from dc_hpc.scheduler.tasks.logs import last_line, log_of, tail_of
from dc_hpc.storage import run_directory

_VERBS = {
    causes.OUT_OF_MEMORY: "ran out of memory",
    causes.TIME_LIMIT: "reached its time limit",
    causes.NODE_FAILURE: "lost its node",
    CANCELLED: "was cancelled",
    PREEMPTED: "was preempted and not requeued",
}
_FINISHED = "Job completed successfully"  # submitit's last lines


@dataclass(frozen=True)
class TaskEnd:
    """The end of a task whose run is not done.

    id: of the task. state: as SLURM reports it, "" where it has forgotten the task. cause: why, its name is `unknown`
    where nobody says. line: of the log. log: its path. began: whether the task began the run. is_failure: whether
    submitting again without a change is likely to end in the same way.
    """

    id: str
    state: str
    cause: Cause
    line: str
    log: Path
    began: bool
    is_failure: bool

    @property
    def verb(self) -> str:
        """What the task did, in words."""
        if self.cause.name in _VERBS:
            return _VERBS[self.cause.name]
        return "ended" if self.state in ("", "COMPLETED") and self.cause.name == "unknown" else "failed"

    @property
    def is_out_of_memory(self) -> bool:
        """Whether it had too little memory."""
        return self.cause.name == causes.OUT_OF_MEMORY

    def describe(self, run: str) -> str:
        """The end in one line, with the command that prints the log of this run."""
        if self.began:
            return "" if self.verb == "ended" else f"task {self.id} {self.verb}{self._reason_after_begin()}"
        if self.cause.name in (CANCELLED, PREEMPTED):
            return f"task {self.id} {self.verb} before the run began"
        line = self.line or self.cause.words or self.about_log()
        return f"task {self.id} {self.verb} before the run began: {line}; status logs {run}"

    def to_record(self) -> dict[str, Any]:
        """The end for programs; null for what is not known."""
        return {
            "task": self.id,
            "state": self.state or None,
            "before_the_run": not self.began,
            "cause": self.cause.name,
            "cause_in_words": self.cause.words or None,
            "last_line": self.line or None,
            "log": str(self.log),
            "next_step": self.cause.next_step or None,
        }

    def about_log(self) -> str:
        """That the log is empty, or that there is none."""
        return f"its log is empty ({self.log})" if self.log.exists() else f"it left no log at {self.log}"

    def _reason_after_begin(self) -> str:
        if self.cause.name in (CANCELLED, PREEMPTED):
            return ""
        if self.cause.name in (causes.OUT_OF_MEMORY, causes.TIME_LIMIT):
            return f"; {self.cause.next_step}"
        said = self.cause.words or self.line
        return f": {said}" if said else ""


def end_of(
    directory: Path, submission: Submission, index: int, task: Task | None, other_runs: Sequence[Path]
) -> TaskEnd | None:
    """How the last task of a run ended; None where a later attempt at the run was made elsewhere, so it says nothing.

    task: as SLURM reports it, None where SLURM has forgotten it. other_runs: the directories of the task's other runs.
    """
    records = run_directory.attempts(directory)
    began = any(ran_in(one, submission, index) for one in records)
    if not began and any(one["started"] >= submission.submitted for one in records):
        return None
    state, reason = (task.state, task.reason) if task else ("", "")
    log, text = _log(submission, index)
    cause = causes.find(text, state=state, reason=reason)
    if cause is None:
        cause = causes.unknown(_next_step(submission, log))
    line = last_line(cause.line or text)
    silent = cause.name in (CANCELLED, PREEMPTED) or (not text and state == "")
    # where the task began another of its runs, nothing is wrong with its start
    is_failure = not began and not silent and not any(_began(one, submission, index) for one in other_runs)
    return TaskEnd(submission.task_id(index), state, cause, line, log, began, is_failure)


def _began(directory: Path, submission: Submission, index: int) -> bool:
    return any(ran_in(one, submission, index) for one in run_directory.attempts(directory))


def ran_in(record: dict[str, Any], submission: Submission, index: int) -> bool:
    """Whether an attempt was made by a task."""
    numbers = record.get("slurm", {})
    if len(submission.runs) > 1:
        mine = (numbers.get("slurm_array_job_id"), numbers.get("slurm_array_task_id"))
        return mine == (submission.job, str(index))
    return bool(submission.job) and numbers.get("slurm_job_id") == submission.job


def has_ended(submission: Submission, index: int) -> bool:
    """Whether a task has ended by itself, as the folder of its job shows: submitit writes its result last."""
    return (Path(submission.folder) / f"{submission.task_id(index)}_0_result.pkl").exists()


def failed_aggregators(known: Sequence[Submission], tasks: Iterable[Task], outputs: Path) -> list[TaskEnd]:
    """The end of the newest aggregator of each grid where it failed and no tables were made since.

    tasks: those that SLURM reports. An aggregator that SLURM has forgotten failed if its log says that it did not end.
    """
    reported = {task.name: task for task in tasks}
    found = []
    for one in newest_aggregators(known):
        task = reported.get(one.name)
        log, text = _log(one, 0)
        if has_finished(one) or (task is not None and task.is_active) or _is_outdated(log, outputs):
            continue
        if (task is None and not text) or (task is not None and task.state in ("COMPLETED", "CANCELLED")):
            continue
        state, reason = (task.state, task.reason) if task else ("", "")
        cause = causes.find(text, state=state, reason=reason) or causes.unknown()
        found.append(TaskEnd(one.task_id(0), state or "FAILED", cause, last_line(cause.line or text), log, True, True))
    return found


def newest_aggregators(known: Sequence[Submission]) -> list[Submission]:
    """The newest aggregator of each grid that arrived in the queue."""
    named = {one.name.rpartition("-")[0]: one for one in known if one.runs == ((),) and one.job}
    return list(named.values())


def has_finished(aggregator: Submission) -> bool:
    """Whether the log of an aggregator says that it made its tables."""
    return _FINISHED in tail_of(log_of(aggregator, 0, "out"))


def describe_aggregators(ends: Sequence[TaskEnd]) -> list[str]:
    """A line for each aggregator that failed."""
    lines = []
    for one in ends:
        said = f"{one.line or one.cause.words} (log: {one.log})" if one.line or one.cause.words else one.about_log()
        lines.append(f"aggregator {one.id} {one.verb}: {said}; make the tables: python -m dc_hpc.aggregate")
    return lines


def describe_ends(ends: Iterable[TaskEnd]) -> list[str]:
    """A line for each cause for which tasks ended before their run began, with the next step."""
    groups: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for one in ends:
        if one.is_failure:
            empty = "their logs are empty" if one.log.exists() else f"no log in {one.log.parent}"
            said = one.cause.words or one.line or empty
            groups[one.verb, said, one.cause.next_step].add(one.id)
    lines = []
    for (verb, said, step), ids in groups.items():
        first = min(ids, key=lambda one: [int(part) for part in one.split("_")])
        which = f"task {first}" if len(ids) == 1 else f"{len(ids)} tasks ({first}, ...)"
        lines.append(f"{which} {verb} before the runs began: {said}; {step}")
    return lines


def _log(submission: Submission, index: int) -> tuple[Path, str]:
    """The log of a task that says something, and its end: of the errors, or of the output where there are none."""
    paths = [log_of(submission, index, ending) for ending in ("err", "out")]
    texts = [(path, tail_of(path)) for path in paths]
    return next(((path, text) for path, text in texts if last_line(text)), (paths[0], ""))


def _next_step(submission: Submission, log: Path) -> str:
    """What to do about a task of whose end nothing is known."""
    if log.exists():
        return "read its log; the lines of `setup` in the site profile are what a task does first"
    return f"check that the compute nodes can write to {submission.folder}"


def _is_outdated(log: Path, outputs: Path) -> bool:
    """Whether tables were made after the aggregator of this log failed."""
    try:
        return (outputs / "report.html").stat().st_mtime > log.stat().st_mtime
    except OSError:
        return False
