"""Submission with sbatch: each job reaches SLURM exactly once, even if the answer of sbatch is an error or is lost.

Before sbatch is called, a record with a unique job name is written. After an error, or when the submitting process
died before it knew the answer, the queue is searched for that name before anything is submitted again.
"""

from __future__ import annotations

import io
import re
import shlex
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from dataclasses import replace
from pathlib import Path
from typing import Any

import cloudpickle
import submitit
from submitit.core.utils import DelayedSubmission, FailedJobError, FailedSubmissionError

from dc_hpc.errors import InputError
from dc_hpc.experiment.execution import Execution
from dc_hpc.scheduler import slurm, submissions
from dc_hpc.scheduler.submissions import Submission
from dc_hpc.scheduler.worker import ATTEMPTS, TaskPayload
from dc_hpc.storage import atomic_files

# Seconds before sbatch is tried again when the controller was busy or away.
BACK_OFF = (2, 4, 8, 16, 32)
_TRANSIENT = re.compile(
    r"timed out|unable to contact|temporar|connection refused|connection reset|try again|"
    r"communication|could not make sense of sbatch",
    re.I,
)


def submit_once(
    submission: Submission,
    calls: Sequence[Callable[[], Any]],
    parameters: dict[str, Any],
    *,
    outputs: Path,
    python: str,
) -> Submission:
    """Record a submission, call sbatch until the job is known to be in the queue, and record its number.

    calls: what each task calls. parameters: of submitit's SlurmExecutor. python: the shell words that start python.
    Returns the submission with its job number. InputError when SLURM refuses or does not answer.
    """
    folder = Path(submission.folder)
    make_private(folder)
    submissions.write(outputs, submission)
    for wait in (*BACK_OFF, None):
        try:
            executor = submitit.SlurmExecutor(folder, python=python)
            executor.update_parameters(job_name=submission.name, **parameters)
            # submitit repeats on stderr what sbatch said; the error has it too, and it is printed once
            with redirect_stderr(io.StringIO()), executor.batch():
                jobs = [executor.submit(call) for call in calls]
            arrived = replace(submission, job=jobs[0].job_id.split("_")[0])
            break
        except (FailedJobError, FailedSubmissionError) as error:
            arrived = _after_failure(submission, calls, error, outputs, wait)
            if arrived.job:
                break
    submissions.write(outputs, arrived)
    return arrived


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


def reconcile(outputs: Path, tasks: Sequence[slurm.Task]) -> list[Submission]:
    """All submissions, after a search of the queue for those whose job number is unknown. Each result is recorded."""
    known = submissions.read_all(outputs)
    return [one if one.job is not None else _found(one, tasks, outputs) for one in known]


def _after_failure(
    submission: Submission, calls: Sequence[Callable[[], Any]], error: Exception, outputs: Path, wait: int | None
) -> Submission:
    """The submission with its number if it is in the queue in spite of the error.

    Otherwise it waits and returns the submission as it was, for the next try; on the last try it raises InputError.
    """
    message = " ".join(str(error).split())
    while (queue := slurm.tasks()) is None and wait:
        time.sleep(wait)  # calling sbatch again before the queue is known could submit a job twice
        wait = None
    found = next((task for task in queue or () if task.name == submission.name), None)
    if found:
        arrived = replace(submission, job=found.id.split("_")[0])
        _write_pickles(arrived, calls)
        return arrived
    if queue is None:
        raise InputError(
            f"SLURM does not answer ({message[-300:]}); run the same command again later: it first looks in "
            "the queue for this submission"
        )
    if wait is None or not _TRANSIENT.search(message):
        submissions.write(outputs, replace(submission, job=""))
        raise InputError(f"sbatch refused: {message[-400:]}; correct the site profile or the resources of the grid")
    print(f"sbatch failed ({message[-120:]}); trying again in {wait} s", flush=True)
    time.sleep(wait)
    return submission


def _found(submission: Submission, tasks: Sequence[slurm.Task], outputs: Path) -> Submission:
    task = next((task for task in tasks if task.name == submission.name), None)
    known = replace(submission, job=task.id.split("_")[0] if task else "")
    if task and submission.execution and Path(submission.folder).parent.resolve() == (outputs / "slurm").resolve():
        execution, runs = Execution.from_record(submission.execution), (outputs / "runs").resolve()
        packs = [tuple(str(runs / run) for run in pack) for pack in submission.runs]
        _write_pickles(known, [TaskPayload(pack, execution, submission.parallel_runs, ATTEMPTS) for pack in packs])
    submissions.write(outputs, known)
    return known


def _write_pickles(submission: Submission, calls: Sequence[Callable[[], Any]]) -> None:
    """Write the files that a job's tasks read their work from: submitit writes them only after sbatch has answered."""
    for index, call in enumerate(calls):
        path = Path(submission.folder) / f"{submission.task_id(index)}_submitted.pkl"
        if not path.exists():
            delayed = DelayedSubmission(call)
            delayed.set_timeout(submission.minutes, 0)
            atomic_files.write_once(path, cloudpickle.dumps(delayed))
