"""Questions to SLURM (which tasks are active, why one was told to stop, its limits), and requeue and cancel.

The answers come from squeue and scontrol, and from sacct where the cluster has an accounting database. A job is
identified by its name and never by its number alone: numbers start again when a cluster is set up anew, whereas the
names that this package gives carry a random token.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from dc_hpc.errors import InputError
from dc_hpc.scheduler.submitting import command

# No array of SLURM has more tasks (MaxArraySize is below four million); a larger number is a garbled answer.
_MOST_TASKS = 4_000_000
# States in which a task is over. In any other state it runs, waits or will start again.
ENDED = (
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PREEMPTED",
    "TIMEOUT",
)
_FORMAT = "%F|%K|%A|%T|%r|%S|%e|%N|%j"
_SACCT = "JobID,JobName,State,NodeList"
_NO_NODE = ("(null)", "None assigned", "n/a", "N/A")


@dataclass(frozen=True)
class Task:
    """One task as SLURM reports it.

    id: `A_a` in an array, else `A`. name: of its job. index: in its array, 0 where the job has one task only. start:
    when it started or will start at the earliest, as SLURM writes it. cluster: its name, "" for the cluster that is
    asked without naming one.
    """

    id: str
    name: str
    index: int
    state: str
    reason: str = ""
    node: str = ""
    cluster: str = ""
    start: str = ""

    @property
    def job(self) -> str:
        """The number of its job."""
        return self.id.split("_")[0]

    @property
    def is_active(self) -> bool:
        """Whether it runs, waits, or will start again."""
        return self.state not in ENDED


@dataclass(frozen=True)
class Queue:
    """An answer of squeue. tasks: None where it failed. problem: its error message then."""

    tasks: list[Task] | None
    problem: str = ""


def queue(clusters: Collection[str] = ()) -> Queue:
    """This user's tasks in the queues of these clusters, including those that ended in the last minutes.

    clusters: "" is the one that is asked without naming one, which is the only one where there are none.
    """
    found: list[Task] = []
    for cluster in sorted(set(clusters) or {""}):
        # a number and not --me, which SLURM has since 20.02, or a name, which a container may not know
        asked = ["squeue", *_named(cluster), "-u", str(os.getuid()), "-r", "-h", "-t", "all", "-o", _FORMAT]
        answer = command.run(asked)
        if answer.code != 0:
            return Queue(None, answer.words())
        found += [replace(task, cluster=cluster) for task in parse_squeue(answer.out)]
    return Queue(found)


def tasks(clusters: Collection[str] = ()) -> list[Task] | None:
    """The tasks of `queue`; None where no controller answers."""
    return queue(clusters).tasks


def _named(cluster: str) -> list[str]:
    return ["-M", cluster] if cluster else []


def parse_squeue(text: str) -> list[Task]:
    """The tasks in the lines that squeue prints in _FORMAT; other lines are skipped."""
    found = []
    for line in text.splitlines():
        fields = line.split("|")
        if len(fields) != 9:
            continue
        array, index, _, state, reason, start, _, node, name = fields
        alone = not re.fullmatch("[0-9]{1,7}", index)
        if not re.fullmatch("[0-9]{1,18}", array):
            continue
        task = array if alone else f"{array}_{index}"
        node = "" if node in _NO_NODE else node
        found.append(Task(task, name, 0 if alone else int(index), state, reason, node, start=start))
    return found


def accounted(names: list[str], clusters: Collection[str] = ()) -> list[Task]:
    """The tasks of these jobs from the accounting database; an empty list where there is none."""
    if not names or shutil.which("sacct") is None:
        return []
    found: list[Task] = []
    for cluster in sorted(set(clusters) or {""}):
        for start in range(0, len(names), 100):  # a command line has a limited length
            some = ",".join(names[start : start + 100])
            asked = ["sacct", *_named(cluster), "-X", "-P", "-n", "-S", "now-60days", "--name", some, "-o", _SACCT]
            found += [replace(task, cluster=cluster) for task in parse_sacct(ask(asked) or "")]
    return found


def parse_sacct(text: str) -> list[Task]:
    """The tasks in the lines of `sacct -X -P -n`; one line `12_[3-5,7%2]` names all waiting tasks of an array."""
    found = []
    for line in text.splitlines():
        fields = line.split("|")
        match = re.fullmatch(r"([0-9]{1,18})(?:_(?:([0-9]{1,7})|\[([0-9,-]+)(?:%[0-9]+)?\]))?", fields[0])
        if len(fields) != 4 or not match:
            continue
        state = (fields[2].split() or ["UNKNOWN"])[0]  # "CANCELLED by 1000"
        indices = _indices(match[3]) if match[3] else [int(match[2] or 0)]
        for index in indices:
            name = f"{match[1]}_{index}" if match[2] or match[3] else match[1]
            found.append(Task(name, fields[1], index, state, "", "" if "None" in fields[3] else fields[3]))
    return found


def _indices(text: str) -> list[int]:
    """The numbers in `3-5,7`; an empty list for text of another form."""
    spans = [re.fullmatch("([0-9]{1,7})(?:-([0-9]{1,7}))?", part) for part in text.split(",")]
    ranges = [range(int(span[1]), int(span[2] or span[1]) + 1) for span in spans if span]
    whole = len(ranges) == len(spans) and sum(map(len, ranges)) <= _MOST_TASKS
    return [index for one in ranges for index in one] if whole else []


def my_task() -> str | None:
    """The task that this process is part of, in the form that scontrol expects; None outside of SLURM."""
    array, index = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{index}" if array and index else os.environ.get("SLURM_JOB_ID")


def cause_of_stop(task: str, *, signal_delay: int) -> str:
    """Why a task got a signal: "preempted", "time limit", "cancelled", "asked" (a person sent it) or "unknown".

    signal_delay: seconds before the limit at which SLURM warns, as the site profile says.
    """
    for attempt in range(3):
        answer = ask(["scontrol", "show", "job", "-o", task])
        if answer:
            cause = parse_cause(answer, now=time.time(), signal_delay=signal_delay)
            # the controller may send the signal a moment before it records the reason
            if cause != "asked" or attempt == 2:
                return cause
        time.sleep(1)
    return "unknown"


def parse_cause(text: str, *, now: float, signal_delay: int) -> str:
    """`cause_of_stop` from the answer of `scontrol show job -o`."""
    fields = dict(re.findall(r"(\w+)=(\S*)", text))
    if _time(fields.get("PreemptTime")) is not None:
        return "preempted"
    if fields.get("JobState") != "RUNNING":
        return "cancelled"  # it is over already: scancel, or a limit without a warning
    end = _time(fields.get("EndTime"))
    # SLURM sends its warnings once a minute, so up to a minute early
    return "time limit" if end is not None and end - now <= signal_delay + 65 else "asked"


def _time(text: str | None) -> float | None:
    try:
        return datetime.strptime(text or "", "%Y-%m-%dT%H:%M:%S").timestamp()
    except (ValueError, OverflowError):  # OverflowError: before the clock began
        return None


def requeue(task: str) -> str:
    """Put one task back into the queue; returns SLURM's error message, "" when it succeeds.

    task: `A_a` for a task of an array; the bare number of an array would requeue all of its tasks.
    """
    answer = command.run(["scontrol", "requeue", task])
    return "" if answer.code == 0 else answer.words()


def cancel(chosen: Iterable[Task]) -> None:
    """Cancel exactly these tasks. InputError with SLURM's message when it refuses."""
    by_cluster: dict[str, list[str]] = {}
    for task in chosen:
        by_cluster.setdefault(task.cluster, []).append(task.id)
    for cluster, ids in by_cluster.items():
        for start in range(0, len(ids), 500):
            answer = command.run(["scancel", *_named(cluster), *ids[start : start + 500]], seconds=120)
            if answer.code != 0:
                raise InputError(f"scancel: {answer.words()}; run the same command again")


def max_array_size(cluster: str = "") -> int:
    """The number of tasks that one array may have; SLURM's default of 1001 where scontrol does not say."""
    said = _config(cluster)
    match = re.search(r"^MaxArraySize\s*=\s*([0-9]{1,7})\s*$", said, re.M)
    fewer = re.search(r"^SchedulerParameters\s*=.*\bmax_array_tasks=([0-9]{1,7})\b", said, re.M)
    return max(1, min(int(one[1]) if one else 1001 for one in (match, fewer or match)))


def cluster_name(cluster: str = "") -> str:
    """What a cluster calls itself, also the one that is asked without naming one; "" where scontrol does not say."""
    match = re.search(r"^ClusterName\s*=\s*([A-Za-z0-9_][A-Za-z0-9._+-]{0,99})\s*$", _config(cluster), re.M)
    return match[1] if match else ""


def _config(cluster: str) -> str:
    return ask(["scontrol", *_named(cluster), "show", "config"]) or ""


def gpus_of_nodes() -> str:
    """The GPUs of the nodes as sinfo names them, e.g. `gpu:a100:4`; "" where there are none."""
    lines = {line.strip() for line in (ask(["sinfo", "-h", "-o", "%G"]) or "").splitlines()}
    return ", ".join(sorted(line for line in lines if line.startswith("gpu")))


def ask(asked: list[str]) -> str | None:
    """What a command of SLURM prints; None when it does not exist, fails or does not answer in half a minute."""
    answer = command.run(asked)
    return answer.out if answer.code == 0 else None
