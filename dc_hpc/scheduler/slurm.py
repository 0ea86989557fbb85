"""Questions to SLURM (which tasks are active, why one was told to stop, its limits), and requeue and cancel.

The answers come from squeue and scontrol, and from sacct where the cluster has an accounting database. A job is
identified by its name and never by its number alone: numbers start again when a cluster is set up anew, whereas the
names that this package gives carry a random token.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from datetime import datetime

from dc_hpc.errors import InputError

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
_ANSWER_SECONDS = 30


@dataclass(frozen=True)
class Task:
    """One task as SLURM reports it.

    id: `A_a` in an array, else `A`. name: of its job. index: in its array, 0 where the job has one task only.
    """

    id: str
    name: str
    index: int
    state: str
    reason: str = ""
    node: str = ""

    @property
    def is_active(self) -> bool:
        """Whether it runs, waits, or will start again."""
        return self.state not in ENDED


def tasks() -> list[Task] | None:
    """This user's tasks, including those that ended in the last minutes; None where no controller answers."""
    answer = _ask(["squeue", "--me", "-r", "-h", "-t", "all", "-o", _FORMAT])
    return None if answer is None else parse_squeue(answer)


def parse_squeue(text: str) -> list[Task]:
    """The tasks in the lines that squeue prints in _FORMAT; other lines are skipped."""
    found = []
    for line in text.splitlines():
        fields = line.split("|")
        if len(fields) != 9:
            continue
        array, index, _, state, reason, _, _, node, name = fields
        alone = not re.fullmatch("[0-9]{1,7}", index)
        if not re.fullmatch("[0-9]{1,18}", array):
            continue
        task = array if alone else f"{array}_{index}"
        found.append(Task(task, name, 0 if alone else int(index), state, reason, node))
    return found


def accounted(names: list[str]) -> list[Task]:
    """The tasks of these jobs from the accounting database; an empty list where there is none."""
    if not names or shutil.which("sacct") is None:
        return []
    found: list[Task] = []
    for start in range(0, len(names), 100):  # a command line has a limited length
        some = ",".join(names[start : start + 100])
        answer = _ask(["sacct", "-X", "-P", "-n", "-S", "now-60days", "--name", some, "-o", _SACCT])
        found += parse_sacct(answer or "")
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
        answer = _ask(["scontrol", "show", "job", "-o", task])
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
    try:
        done = subprocess.run(["scontrol", "requeue", task], capture_output=True, text=True, timeout=_ANSWER_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return done.stderr.strip() if done.returncode else ""


def cancel(chosen: list[Task]) -> None:
    """Cancel exactly these tasks. InputError with SLURM's message when it refuses."""
    ids = [task.id for task in chosen]
    for start in range(0, len(ids), 500):
        done = subprocess.run(["scancel", *ids[start : start + 500]], capture_output=True, text=True, timeout=120)
        if done.returncode:
            raise InputError(f"scancel: {done.stderr.strip()}; run the same command again")


def max_array_size() -> int:
    """The number of tasks that one array may have; SLURM's default of 1001 where scontrol does not say."""
    said = _ask(["scontrol", "show", "config"]) or ""
    match = re.search(r"^MaxArraySize\s*=\s*([0-9]{1,7})\s*$", said, re.M)
    fewer = re.search(r"^SchedulerParameters\s*=.*\bmax_array_tasks=([0-9]{1,7})\b", said, re.M)
    return max(1, min(int(one[1]) if one else 1001 for one in (match, fewer or match)))


def gpus_of_nodes() -> str:
    """The GPUs of the nodes as sinfo names them, e.g. `gpu:a100:4`; "" where there are none."""
    lines = {line.strip() for line in (_ask(["sinfo", "-h", "-o", "%G"]) or "").splitlines()}
    return ", ".join(sorted(line for line in lines if line.startswith("gpu")))


def _ask(command: list[str]) -> str | None:
    """What a command of SLURM prints; None when it does not exist, fails or does not answer in half a minute."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_ANSWER_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
