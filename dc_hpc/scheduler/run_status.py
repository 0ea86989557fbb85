"""The status of each run: what its directory says, joined with what SLURM says of its task, where SLURM answers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dc_hpc.scheduler import slurm, submissions
from dc_hpc.scheduler.slurm import Task
from dc_hpc.scheduler.submissions import Submission
from dc_hpc.storage import run_directory
from dc_hpc.storage.run_directory import RunState

# unanswered: of the run's last submission nobody knows whether it arrived, and SLURM cannot be asked now.
STATES = ("done", "running", "queued", "resumable", "failed", "new", "unanswered")
_WAITING = {"BeginTime": "requeued, starts again in about 2 minutes", "None": "", "JobArrayTaskLimit": "array throttle"}
_LOG_TAIL = 1 << 14


@dataclass(frozen=True)
class RunStatus:
    """The status of one run: its state (one of STATES), the reason in one line, its finished cycles, and its task.

    result: the numbers of result.json, of a run that is done.
    """

    name: str
    state: str
    reason: str = ""
    cycles_done: int = 0
    task: Task | None = None
    result: dict[str, Any] | None = None

    @property
    def is_active(self) -> bool:
        """Whether the run computes or waits in the queue. Submit leaves it alone then."""
        return self.state in ("running", "queued") or (self.task is not None and self.task.is_active)

    @property
    def is_missing(self) -> bool:
        """Whether submit has to start it."""
        return self.state not in ("done", "unanswered") and not self.is_active


@dataclass
class RunStatusTable:
    """The status of many runs.

    runs: run name -> status. cluster: whether SLURM answered. submissions: all of the outputs folder. warnings: one
    line for each submission record that is damaged. unanswered: the submissions that sbatch gave no number, and whose
    job is not in the queue as far as it can be seen.
    """

    runs: dict[str, RunStatus]
    cluster: bool
    submissions: list[Submission] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    unanswered: list[Submission] = field(default_factory=list)

    def counts(self) -> dict[str, int]:
        """The number of runs in each state."""
        return {name: sum(run.state == name for run in self.runs.values()) for name in STATES}

    def describe_counts(self) -> str:
        """`counts` in words. A lost answer is rare, so the state `unanswered` is named only where there is one."""
        return ", ".join(f"{count} {name}" for name, count in self.counts().items() if count or name != "unanswered")

    def describe_unanswered(self) -> list[str]:
        """A line for each submission without an answer: what is known of it, and the way out."""
        lines = []
        for one in self.unanswered:
            waiting = sum(self.runs[run].state == "unanswered" for run in one.run_names() if run in self.runs)
            forget = f"When you know that it never arrived: python -m dc_hpc.status forget {one.name}"
            if one.accepted:
                known = (
                    f"sbatch accepted it without a number; {waiting} runs of these wait until SLURM shows it. {forget}"
                )
            elif self.cluster:
                known = (
                    "the answer of sbatch was lost, and SLURM does not list it: the next submit to the cluster starts "
                    "its runs again"
                )
            else:
                known = (
                    "the answer of sbatch was lost, and SLURM does not answer here; "
                    f"{waiting} runs of these wait for it. {forget}"
                )
            lines.append(f"submission {one.name} ({len(one.run_names())} runs): {known}")
        return lines

    def named(self, names: Collection[str]) -> list[RunStatus]:
        """The status of those of these runs that the table has."""
        return [run for name, run in self.runs.items() if name in names]


def collect(
    outputs: Path,
    names: Iterable[str],
    tasks: Sequence[Task] | None = None,
    known: list[Submission] | None = None,
    accounted: Callable[[list[str], Collection[str]], list[Task]] = slurm.accounted,
) -> RunStatusTable:
    """The status of these runs; reads only.

    tasks, known: the tasks in SLURM's queue and the submissions of the folder, where the caller has read them already.
    accounted: what asks the accounting database for the tasks of ended jobs.
    """
    folder = run_directory.runs_folder(outputs)
    states = {name: run_directory.state_of(folder / name) for name in names}
    warnings: list[str] = []
    known = submissions.read_all(outputs, warnings) if known is None else known
    if tasks is None and known:
        tasks = slurm.tasks(submissions.clusters_of(known))
    queue = list(tasks or [])
    ended = [one for one in known if _has_left_the_queue(one, states, queue)]
    of_ended = accounted([one.name for one in ended], submissions.clusters_of(ended))
    owners = submissions.runs_of_tasks(known, queue + of_ended)
    last = {run: (one, index) for one in known for index, pack in enumerate(one.runs) for run in pack}
    runs = {name: _status_of(folder / name, state, owners.get(name), last.get(name)) for name, state in states.items()}
    queued = {task.name for task in queue if task.is_active}
    unanswered = [one for one in known if one.job is None and one.name not in queued]
    # sbatch accepted a job that the queue does not show: it is not sent again before the person says that it is gone
    _mark_unanswered(runs, unanswered if tasks is None else [one for one in unanswered if one.accepted])
    return RunStatusTable(runs, tasks is not None, known, warnings, unanswered)


def _mark_unanswered(runs: dict[str, RunStatus], unanswered: Sequence[Submission]) -> None:
    """Let the runs of submissions without an answer wait, but for those that are done or compute on this machine."""
    for one in unanswered:
        for name in one.run_names():
            if name in runs and runs[name].state not in ("done", "running"):
                reason = f"nobody knows whether {one.name} arrived"
                runs[name] = replace(runs[name], state="unanswered", reason=reason)


def _has_left_the_queue(submission: Submission, states: dict[str, RunState], tasks: Sequence[Task]) -> bool:
    """Whether a job has unfinished runs here but no task in the queue; only the accounting knows how it ended."""
    open_ = any(run in states and states[run].name != "done" for pack in submission.runs for run in pack)
    return open_ and not any(task.name == submission.name for task in tasks)


def _status_of(directory: Path, state: RunState, task: Task | None, last: tuple[Submission, int] | None) -> RunStatus:
    plain = RunStatus(directory.name, state.name, state.reason, state.cycles_done, task, state.result)
    if state.name == "done":
        return plain
    if task is not None and task.is_active:
        return _status_of_active(directory, plain, task)
    if state.name == "running" and task is not None and not run_directory.is_on_this_host(directory):
        plain = replace(plain, state="resumable", reason="")
    if plain.state == "resumable" and last is not None:
        return replace(plain, reason=_end_of_task(task, *last))
    return plain


def _status_of_active(directory: Path, plain: RunStatus, task: Task) -> RunStatus:
    where = f"{task.id} on {task.node}" if task.node else task.id
    if task.state in ("RUNNING", "COMPLETING", "SUSPENDED"):
        if plain.state == "running":
            return replace(plain, reason=where)
        if plain.state == "failed" and _failed_in(directory, task):
            return plain
        return replace(plain, state="queued", reason=f"in {where}")
    reason = _WAITING.get(task.reason, task.reason)
    return replace(plain, state="queued", reason=f"{task.id} waits{': ' + reason if reason else ''}")


def _failed_in(directory: Path, task: Task) -> bool:
    numbers = (run_directory.attempts(directory) or [{}])[-1].get("slurm", {})
    array, _, index = task.id.partition("_")
    mine = numbers.get("slurm_array_job_id") == array and numbers.get("slurm_array_task_id") == index
    return mine or (not index and numbers.get("slurm_job_id") == task.id)


def _end_of_task(task: Task | None, submission: Submission, index: int) -> str:
    """Why a task ended before its run was done; "" where nobody knows."""
    state = task.state if task else ""
    log = _tail(log_of(submission, index, "err")).lower().replace("_", "-")
    if state == "OUT_OF_MEMORY" or "oom-kill event" in log:
        return f"task {submission.task_id(index)} ran out of memory; set a larger memory_gb in the site profile"
    words = {
        "CANCELLED": "was cancelled",
        "TIMEOUT": "reached its time limit",
        "NODE_FAIL": "lost its node",
        "PREEMPTED": "was preempted and not requeued",
        "FAILED": "failed",
    }
    return f"task {submission.task_id(index)} {words[state]}" if state in words else ""


def log_of(submission: Submission, index: int, ending: str) -> Path:
    """The path of a task's log. ending: `out` or `err`."""
    return Path(submission.folder) / f"{submission.task_id(index)}_0_log.{ending}"


def local_logs(directory: Path, outputs: Path) -> list[Path]:
    """The logs of the newest job on this machine that computed a run, as its attempts record it."""
    jobs = [one["job"] for one in run_directory.attempts(directory) if isinstance(one.get("job"), str)]
    for job in jobs[-1:]:
        folder = outputs / "slurm"
        log = folder / f"{job}_0_log.out"
        if len(Path(job).parts) == 2 and ".." not in job and not log.parent.is_symlink():
            return [log, log.with_suffix(".err")]
    return []


def task_of(run: str, known: Sequence[Submission]) -> tuple[Submission, int] | None:
    """The newest submission that contains a run, and the index of the run's task in it; None where there is none."""
    for one in reversed(known):
        for index, pack in enumerate(one.runs):
            if run in pack:
                return one, index
    return None


def _tail(path: Path) -> str:
    try:
        with open(path, "rb") as stream:
            stream.seek(max(0, path.stat().st_size - _LOG_TAIL))
            return stream.read().decode("utf-8", "replace")
    except OSError:
        return ""
