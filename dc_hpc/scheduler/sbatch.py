"""Handing a job to sbatch so that it arrives exactly once, whatever is answered, or not answered.

What is meant is written down under a job name of its own before sbatch is called. When the answer is an error, or is
lost with the launcher, the queue is asked by that name before anything is sent again.
"""

from __future__ import annotations

import io
import os
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


def hand_over(
    submission: Submission,
    calls: Sequence[Callable[[], Any]],
    parameters: dict[str, Any],
    *,
    outputs: Path,
    python: str,
) -> Submission:
    """Write down what is meant, call sbatch until it is known to have taken it, write down its number.

    calls: the work of each task. parameters: in the words of submitit's SlurmExecutor. InputError when SLURM refuses
    or stays silent.
    """
    folder = Path(submission.folder)
    make_private(folder)
    submissions.write(outputs, submission)
    for wait in (*BACK_OFF, None):
        try:
            executor = submitit.SlurmExecutor(folder, python=python)
            executor.update_parameters(job_name=submission.name, **parameters)
            # submitit repeats on stderr what sbatch said; it is in the error, and said once
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
    """Make a folder for submitit, whose pickles run as code: what others may write to is refused."""
    os.umask(0o077)  # nobody else may write or read them
    atomic_files.make_directory(folder)
    for one in (folder, folder.parent):
        if one.stat().st_mode & 0o022:
            raise InputError(
                f"{one} can be written by others, and what lies there is run; take that away: chmod go-w "
                f"{shlex.quote(str(one))}"
            )


def reconcile(outputs: Path, tasks: Sequence[slurm.Task]) -> list[Submission]:
    """The submissions, those of lost answers looked up in the queue by their names; also when they never arrived."""
    known = submissions.read_all(outputs)
    return [one if one.job is not None else _found(one, tasks, outputs) for one in known]


def _after_failure(
    submission: Submission, calls: Sequence[Callable[[], Any]], error: Exception, outputs: Path, wait: int | None
) -> Submission:
    """The submission if the queue has it in spite of an error; else wait for the next try, or give up."""
    words = " ".join(str(error).split())
    while (seen := slurm.tasks()) is None and wait:
        time.sleep(wait)  # never sbatch again before the queue was asked: that is how duplicates are made
        wait = None
    found = next((task for task in seen or () if task.name == submission.name), None)
    if found:
        arrived = replace(submission, job=found.id.split("_")[0])
        _give_pickles(arrived, calls)
        return arrived
    if seen is None:
        raise InputError(
            f"SLURM does not answer ({words[-300:]}); run the same command again later: it first looks "
            "whether this submission arrived"
        )
    if wait is None or not _TRANSIENT.search(words):
        submissions.write(outputs, replace(submission, job=""))
        raise InputError(f"sbatch refused: {words[-400:]}; correct the site profile or the resources of the grid")
    print(f"sbatch failed ({words[-120:]}); trying again in {wait} s", flush=True)
    time.sleep(wait)
    return submission


def _found(submission: Submission, tasks: Sequence[slurm.Task], outputs: Path) -> Submission:
    task = next((task for task in tasks if task.name == submission.name), None)
    known = replace(submission, job=task.id.split("_")[0] if task else "")
    if task and submission.execution and Path(submission.folder).parent.resolve() == (outputs / "slurm").resolve():
        execution, runs = Execution.from_record(submission.execution), (outputs / "runs").resolve()
        packs = [tuple(str(runs / run) for run in pack) for pack in submission.runs]
        _give_pickles(known, [TaskPayload(pack, execution, submission.parallel_runs, ATTEMPTS) for pack in packs])
    submissions.write(outputs, known)
    return known


def _give_pickles(submission: Submission, calls: Sequence[Callable[[], Any]]) -> None:
    """Put a job's work where its tasks look for it: submitit does so only after it has had sbatch's answer."""
    for index, call in enumerate(calls):
        path = Path(submission.folder) / f"{submission.task_id(index)}_submitted.pkl"
        if not path.exists():
            delayed = DelayedSubmission(call)
            delayed.set_timeout(submission.minutes, 0)
            atomic_files.write_once(path, cloudpickle.dumps(delayed))
