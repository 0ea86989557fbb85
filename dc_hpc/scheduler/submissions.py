"""Records of what was submitted to SLURM, one file for each job: <outputs>/slurm/submissions/<job name>.json.

A record is written before sbatch is called, and the job name carries a random token. If the answer of sbatch is lost,
the queue can still be searched for that name.
"""

from __future__ import annotations

import math
import re
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import NoneType
from typing import Any

from dc_hpc.errors import InputError
from dc_hpc.scheduler.site import check_name
from dc_hpc.scheduler.slurm import Task
from dc_hpc.storage import atomic_files
from dc_hpc.storage.atomic_files import DamagedFile


@dataclass(frozen=True)
class Submission:
    """One job.

    runs: the names of the runs of each task, in the order of the task indices; ((),) for the aggregator. folder: where
    submitit's files and the logs are. gpus, minutes: of one task. parallel_runs: runs of a task that compute at the
    same time. execution: how they compute (Execution.to_record). code: commit, diff and versions at the submission.
    submitted: seconds since 1970. job: the number that sbatch gave; None while it is unknown; "" when it is known that
    the job never reached SLURM. cluster: of a site with several clusters, else "". cluster_name: what the cluster calls
    itself, "" where it did not say. accepted: sbatch accepted the job, whether or not it gave a number. left: the job
    was not in the queue any more when a later submit looked for it, or a person said so. after: of an aggregator, the
    names of the submissions that it waits for. memory_gb: of one task, None for what the cluster gives. max_memory_gb:
    up to which a run that ran out of memory is tried once more. signal_delay: seconds of warning before the time limit.
    """

    name: str
    folder: str
    runs: tuple[tuple[str, ...], ...]
    minutes: int
    gpus: int = 0
    parallel_runs: int = 1
    execution: dict[str, Any] = field(default_factory=dict)
    code: dict[str, Any] = field(default_factory=dict)
    submitted: float = 0.0
    job: str | None = None
    memory_gb: int | None = None
    max_memory_gb: int | None = None
    signal_delay: int = 90
    cluster: str = ""
    cluster_name: str = ""
    accepted: bool = False
    left: bool = False
    after: tuple[str, ...] = ()

    @property
    def is_aggregator(self) -> bool:
        """Whether it computes no run."""
        return not self.run_names()

    def run_names(self) -> list[str]:
        """The runs of all its tasks."""
        return [run for pack in self.runs for run in pack]

    def task_id(self, index: int) -> str:
        """SLURM's id of a task of this job."""
        return f"{self.job}_{index}" if len(self.runs) > 1 else f"{self.job}"


def folder_of(outputs: Path) -> Path:
    """Where the submission records of an outputs folder are."""
    return outputs / "slurm" / "submissions"


def unique_name(grid: str) -> str:
    """A job name that no other job has."""
    return check_name(f"{grid[:80]}-{secrets.token_hex(4)}")


def write(outputs: Path, submission: Submission) -> None:
    """Write the record of a submission, or replace it."""
    atomic_files.make_directory(folder_of(outputs))
    record = asdict(replace(submission, submitted=submission.submitted or time.time()))
    atomic_files.write_checksummed(folder_of(outputs) / f"{submission.name}.json", record)


def read_all(outputs: Path, warnings: list[str] | None = None) -> list[Submission]:
    """The submissions of an outputs folder, oldest first. A line for each damaged record is appended to `warnings`."""
    found, lines = [], warnings if warnings is not None else []
    for path in sorted(folder_of(outputs).glob("*.json")):
        try:
            record = atomic_files.read_checksummed(path)
            if record["name"] != path.stem:
                raise DamagedFile(path, f"it belongs to job {record['name']}")
            runs = tuple(tuple(pack) for pack in record.pop("runs"))
            one = Submission(runs=runs, **record | {"after": tuple(record.get("after", ()))})
            if not _is_sound(one, path):
                raise DamagedFile(path, "not a submission record of this program")
            found.append(one)
        except FileNotFoundError:
            continue
        except (DamagedFile, OSError) as error:
            lines.append(str(error))
        except (KeyError, TypeError, AttributeError) as error:
            lines.append(str(DamagedFile(path, f"not a submission ({error})")))
    return sorted(found, key=lambda one: one.submitted)


def _is_sound(one: Submission, path: Path) -> bool:
    """Whether `write` could have written this record: its names are names and its numbers are numbers."""
    kinds: dict[str, Any] = {
        "name": str,
        "folder": str,
        "minutes": int,
        "gpus": int,
        "parallel_runs": int,
        "execution": dict,
        "code": dict,
        "submitted": (int, float),
        "job": (str, NoneType),
        "cluster": str,
        "cluster_name": str,
        "accepted": bool,
        "left": bool,
        "signal_delay": int,
        "memory_gb": (int, NoneType),
        "max_memory_gb": (int, NoneType),
    }
    if not all(isinstance(getattr(one, name), kind) for name, kind in kinds.items()):
        return False
    return (
        one.name == path.stem
        and one.folder.startswith("/")
        and "\0" not in one.folder
        and all(isinstance(run, str) and _is_name(run) for run in one.run_names())
        and all(isinstance(name, str) for name in one.after)
        and all(not name or _is_name(name) for name in (one.cluster, one.cluster_name))
        and (one.job is None or re.fullmatch("[0-9]{0,18}", one.job) is not None)
        and math.isfinite(one.submitted)
        and 0 <= one.gpus < 1e6
        and 0 <= one.minutes < 1e9
        and 0 <= one.signal_delay < 1e6
        and 1 <= one.parallel_runs < 1e6
    )


def _is_name(text: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,254}", text) is not None


def clusters_of(submissions: Sequence[Submission]) -> set[str]:
    """The clusters to ask for these submissions."""
    return {one.cluster for one in submissions}


def out_of_sight(
    known: Sequence[Submission], tasks: Sequence[Task], cluster_name: Callable[[], str]
) -> list[Submission]:
    """Those of these submissions that another cluster has than the one that was asked, which cannot show them.

    tasks: what its queue shows. cluster_name: asks what it calls itself; it is called only where that matters.
    """
    shown = {task.name for task in tasks}
    doubtful = [
        one
        for one in known
        if one.cluster_name and not one.cluster and one.job != "" and not one.left and one.name not in shown
    ]
    here = cluster_name() if doubtful else ""
    return [one for one in doubtful if here and one.cluster_name != here]


def check_forgettable(
    outputs: Path, name: str, tasks: Sequence[Task] | None, cluster_name: Callable[[], str]
) -> Submission | None:
    """The submission that is to be forgotten, None for a damaged record; InputError where it is or was in the queue.

    tasks: those in SLURM's queue, None where it does not answer. cluster_name: as in `out_of_sight`. A job whose queue
    cannot be seen here may be forgotten: its cluster may be gone.
    """
    there = next((task for task in tasks or () if task.name == name and task.is_active), None)
    one = next((one for one in read_all(outputs) if one.name == name), None)
    is_hidden = one is not None and (tasks is None or bool(out_of_sight([one], tasks, cluster_name)))
    number = one.job if one else None
    if there or (number and not is_hidden):
        where = "is in the queue" if there else "arrived"
        raise InputError(
            f"submission {name} {where}, as job {there.id.split('_')[0] if there else number}, so it is not forgotten; "
            "see its runs: python -m dc_hpc.status"
        )
    return one


def forget(outputs: Path, name: str) -> None:
    """Record that a job never reached SLURM or has left it, so that its runs wait no longer.

    A damaged record is moved to quarantine. Should the job appear in the queue all the same, its runs are still known
    by its name.
    """
    one = next((one for one in read_all(outputs) if one.name == name), None)
    if one is None:
        atomic_files.quarantine(folder_of(outputs) / f"{name}.json")
    else:
        write(outputs, replace(one, left=True) if one.job else replace(one, job="", accepted=False))


def runs_of_tasks(submissions: Sequence[Submission], tasks: Sequence[Task]) -> dict[str, Task]:
    """Run name -> its task: an active task before an ended one, then the newest."""
    named = {one.name: one for one in submissions}
    order = {one.name: place for place, one in enumerate(submissions)}
    known = [task for task in tasks if task.name in named and task.index < len(named[task.name].runs)]
    found: dict[str, Task] = {}
    for task in sorted(known, key=lambda one: (one.is_active, order[one.name])):
        for run in named[task.name].runs[task.index]:
            found[run] = task
    return found
