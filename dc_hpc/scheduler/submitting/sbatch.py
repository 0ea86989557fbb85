"""Submission with sbatch: each job reaches SLURM exactly once, even if the answer of sbatch is an error or is lost.

Before sbatch is called, a record with a unique job name is written. After an answer that leaves it in doubt whether the
job arrived, the queue is looked at several times for that name before anything is sent again. Should SLURM have the
job twice all the same, only the recorded one computes: the tasks of the other one find no files to work from.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import cloudpickle
from submitit.core.utils import DelayedSubmission
from submitit.slurm.slurm import _make_sbatch_string

from dc_hpc.errors import InputError
from dc_hpc.scheduler import slurm, submissions
from dc_hpc.scheduler.slurm import Task
from dc_hpc.scheduler.submissions import Submission
from dc_hpc.scheduler.submitting import answers, command, search
from dc_hpc.scheduler.submitting.command import Answer
from dc_hpc.storage import atomic_files

# How often a job is sent whose answers say that the controller is busy or away.
SENDS = 4
_SBATCH_SECONDS = 120.0


class Refused(InputError):
    """SLURM refused a job. words: what it said."""

    def __init__(self, words: str):
        super().__init__(f"sbatch refused: {words}; correct the site profile or the resources of the grid")
        self.words = words


def submit_once(
    submission: Submission,
    calls: Sequence[Callable[[], Any]],
    parameters: dict[str, Any],
    *,
    outputs: Path,
    python: str,
    before_sending: Callable[[], None] = lambda: None,
) -> Submission:
    """Record a submission, call sbatch until the job is known to be in the queue, and record its number.

    calls: what each task calls. parameters: of submitit's SlurmExecutor. python: the shell words that start python.
    before_sending: raises InputError where nothing may be sent any more. Returns the submission with its job number.
    Refused when SLURM refuses; InputError when it does not answer.
    """
    make_private(Path(submission.folder))
    submissions.write(outputs, submission)
    script = _write_script(submission, parameters, python)
    for sends_left in reversed(range(SENDS)):
        before_sending()
        answer = command.run(["sbatch", f"--job-name={submission.name}", str(script)], seconds=_SBATCH_SECONDS)
        if answer.code == 0:
            return _after_acceptance(submission, answer, calls, outputs)
        arrived = _after_error(submission, answer, calls, outputs, sends_left)
        if arrived:
            return arrived
    raise AssertionError("the last error is raised or leads to a number")


def script_text(folder: Path, python: str, *, name: str, parameters: dict[str, Any], tasks: int) -> str:
    """The script for sbatch that starts submitit in each task."""
    start = f"{python} -u -m submitit.core._submit {shlex.quote(str(folder))}"
    # where sbatch runs with --export=NONE, srun would keep the variables of the script from the task
    setup = [*parameters.get("setup", ()), "export SLURM_EXPORT_ENV=ALL"]
    # submitit would take another signal from SUBMITIT_PREEMPT_SIGNAL of the person, which would kill the runs
    signal = {"signal": f"USR2@{parameters['signal_delay_s']}"}
    more = {"setup": setup, "additional_parameters": {**parameters.get("additional_parameters", {}), **signal}}
    count = tasks if tasks > 1 else None
    text: str = _make_sbatch_string(start, folder, job_name=name, map_count=count, **{**parameters, **more})
    return text


def make_private(folder: Path) -> None:
    """Make a folder for submitit. Its pickles run as code, so a folder that others can write to is an InputError."""
    atomic_files.set_umask()  # nobody else may write or read them
    atomic_files.make_directory(folder)
    for one in (folder, folder.parent):
        if one.stat().st_mode & 0o022:
            raise InputError(
                f"{one} can be written by others, and the files in it are run as code; correct that: chmod go-w "
                f"{shlex.quote(str(one))}"
            )


def record_number(submission: Submission, task: Task, calls: Sequence[Callable[[], Any]], outputs: Path) -> Submission:
    """Record the number of a job that is in the queue, and write the files that its tasks work from."""
    return _record(replace(submission, job=task.job, cluster=task.cluster, accepted=True), calls, outputs)


def without_file(submission: Submission, tasks: Sequence[Task]) -> list[int]:
    """The indices of tasks in the queue that have no file to work from: the submit that sent them died before."""
    mine = {task.index for task in tasks if task.is_active and task.job == submission.job}
    return sorted(one for one in mine if one < len(submission.runs) and not _task_file(submission, one).exists())


def write_task_files(submission: Submission, indices: Sequence[int], calls: Sequence[Callable[[], Any]]) -> None:
    """Write the files of these tasks. calls: of all tasks."""
    for index in indices:
        _write_task_file(submission, index, calls[index])


def was_refused(tasks: Sequence[Task]) -> bool:
    """Whether SLURM lists a job that it refused: it is over and never had a node."""
    return bool(tasks) and not any(task.is_active or task.node for task in tasks)


def best(tasks: Sequence[Task]) -> Task:
    """Of the tasks of one name, one that is active or else was; of two jobs the earlier one."""
    return min(tasks, key=lambda task: (not task.is_active, int(task.job)))


def cancel_duplicates(submission: Submission, tasks: Sequence[Task]) -> None:
    """Cancel the tasks of a job that SLURM has under a second number. They have no files and would fail."""
    surplus = [task for task in tasks if task.name == submission.name and task.is_active and task.job != submission.job]
    if surplus:
        print(f"cancelling job {surplus[0].job} ({submission.name}), which SLURM has once too often", flush=True)
        with suppress(InputError):
            slurm.cancel(surplus)


def _write_script(submission: Submission, parameters: dict[str, Any], python: str) -> Path:
    folder = Path(submission.folder)
    path = folder / f"{submission.name}.sh"
    text = script_text(folder, python, name=submission.name, parameters=parameters, tasks=len(submission.runs))
    atomic_files.write_text(path, text)
    return path


def _after_acceptance(
    submission: Submission, answer: Answer, calls: Sequence[Callable[[], Any]], outputs: Path
) -> Submission:
    """The submission with its number, which the queue confirms where it shows the job. It is never sent again."""
    number = answers.job_number(answer)
    if number:
        job, cluster = number
        arrived = replace(submission, job=job, cluster=cluster or submission.cluster, accepted=True)
        arrived = _record(arrived, calls, outputs)
        shown = search.look_for({submission.name}, {arrived.cluster}, waits=())
    else:
        arrived = replace(submission, accepted=True)
        submissions.write(outputs, arrived)
        shown = search.look_for({submission.name}, {arrived.cluster}, waits=search.BACK_OFF)
    mine = [task for task in shown.tasks or () if task.name == submission.name]
    if was_refused(mine):
        raise _refusal(submission, answer, mine, outputs)
    if arrived.job is None and not mine:
        raise InputError(
            f"sbatch accepted {submission.name} without a number ({answer.words()[-200:]}), and the queue does not "
            "show it yet; run the same command again later: it looks for this job first. When you know that it never "
            f"arrived: python -m dc_hpc.status forget {submission.name}"
        )
    if mine and arrived.job not in {task.job for task in mine}:
        arrived = record_number(arrived, best(mine), calls, outputs)
    cancel_duplicates(arrived, mine)
    return arrived


def _after_error(
    submission: Submission, answer: Answer, calls: Sequence[Callable[[], Any]], outputs: Path, sends_left: int
) -> Submission | None:
    """The submission with its number if it is in the queue in spite of the error; None when it may be sent again."""
    waits = search.BACK_OFF if answers.is_in_doubt(answer) else ()
    seen = search.look_for({submission.name}, {submission.cluster}, waits=waits)
    mine = [task for task in seen.tasks or () if task.name == submission.name]
    if was_refused(mine):
        raise _refusal(submission, answer, mine, outputs)
    if mine:
        return record_number(submission, best(mine), calls, outputs)
    words = answer.words()[-300:]
    if seen.tasks is None:
        raise InputError(
            f"SLURM does not answer (sbatch: {words}; squeue: {seen.problem[-200:]}); run the same command again "
            "later: it first looks in the queue for this submission"
        )
    if not answers.is_worth_repeating(answer):
        raise _refusal(submission, answer, (), outputs)
    if not sends_left:
        submissions.write(outputs, replace(submission, job=""))
        raise InputError(f"SLURM is busy or away ({words}); run the same command again later")
    wait = search.BACK_OFF[min(SENDS - 1 - sends_left, len(search.BACK_OFF) - 1)]
    print(f"sbatch failed ({words[-120:]}), and the job is not in the queue; trying again in {wait} s", flush=True)
    time.sleep(wait)
    return None


def _refusal(submission: Submission, answer: Answer, tasks: Sequence[Task], outputs: Path) -> Refused:
    """Record that the job never reached a node; the error says so in SLURM's words."""
    submissions.write(outputs, replace(submission, job="", accepted=False))
    words = [answer.words()[-400:]] if answer.code != 0 else []
    words += sorted({f"job {task.job} is {task.state} ({task.reason}) without a node" for task in tasks})
    return Refused(", ".join(words))


def _record(arrived: Submission, calls: Sequence[Callable[[], Any]], outputs: Path) -> Submission:
    """Write the record first: only the recorded number ever gets files to work from."""
    submissions.write(outputs, arrived)
    for index, call in enumerate(calls):
        _write_task_file(arrived, index, call)
    return arrived


def _write_task_file(submission: Submission, index: int, call: Callable[[], Any]) -> None:
    """Write the file that a task of submitit works from."""
    delayed = DelayedSubmission(call)
    delayed.set_timeout(submission.minutes, 0)
    atomic_files.replace_bytes(_task_file(submission, index), cloudpickle.dumps(delayed))


def _task_file(submission: Submission, index: int) -> Path:
    return Path(submission.folder) / f"{submission.task_id(index)}_submitted.pkl"
