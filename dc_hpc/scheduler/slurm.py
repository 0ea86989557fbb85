"""What only a SLURM cluster knows: which tasks live, why one was told to stop, its limits; and requeue and cancel.

Reads squeue and scontrol, and sacct where there is a database. Nothing is believed of a job that its name does not
say: ids start again when a cluster is set up anew, names of ours carry a random token.
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
# States in which a task is over; in any other it lives, waits or is on its way back.
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
    """One task as SLURM sees it. id: `A_a` of an array, or `A`. name: of the job. index: in its array, 0 if alone."""

    id: str
    name: str
    index: int
    state: str
    reason: str = ""
    node: str = ""

    @property
    def lives(self) -> bool:
        """Whether it runs, waits, or will come back."""
        return self.state not in ENDED


def tasks() -> list[Task] | None:
    """My tasks, the ended of the last minutes too; None where no controller answers."""
    answer = _ask(["squeue", "--me", "-r", "-h", "-t", "all", "-o", _FORMAT])
    return None if answer is None else parse_squeue(answer)


def parse_squeue(text: str) -> list[Task]:
    """The lines of squeue in our format."""
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
    """The tasks of these jobs from the accounting database; nothing where there is none."""
    if not names or shutil.which("sacct") is None:
        return []
    found: list[Task] = []
    for start in range(0, len(names), 100):  # a command line has an end
        some = ",".join(names[start : start + 100])
        answer = _ask(["sacct", "-X", "-P", "-n", "-S", "now-60days", "--name", some, "-o", _SACCT])
        found += parse_sacct(answer or "")
    return found


def parse_sacct(text: str) -> list[Task]:
    """The lines of `sacct -X -P -n`; waiting tasks of an array stand in one line as `12_[3-5,7%2]`."""
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
    """The numbers in `3-5,7`; none when that is not what it is."""
    spans = [re.fullmatch("([0-9]{1,7})(?:-([0-9]{1,7}))?", part) for part in text.split(",")]
    ranges = [range(int(span[1]), int(span[2] or span[1]) + 1) for span in spans if span]
    whole = len(ranges) == len(spans) and sum(map(len, ranges)) <= _MOST_TASKS
    return [index for one in ranges for index in one] if whole else []


def my_task() -> str | None:
    """The task that this process is part of, as scontrol wants it named; None outside of SLURM."""
    array, index = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{index}" if array and index else os.environ.get("SLURM_JOB_ID")


def cause_of_stop(task: str, *, signal_delay: int) -> str:
    """Why a task got a signal: "preempted", "time limit", "cancelled", "asked" (somebody signalled it) or "unknown".

    signal_delay: seconds before the limit at which SLURM warns, as the site profile says.
    """
    for attempt in range(3):
        answer = _ask(["scontrol", "show", "job", "-o", task])
        if answer:
            cause = parse_cause(answer, now=time.time(), signal_delay=signal_delay)
            # the controller may have sent the signal a moment before it writes down why
            if cause != "asked" or attempt == 2:
                return cause
        time.sleep(1)
    return "unknown"


def parse_cause(text: str, *, now: float, signal_delay: int) -> str:
    """`cause_of_stop` from the answer of `scontrol show job -o`."""
    facts = dict(re.findall(r"(\w+)=(\S*)", text))
    if _time(facts.get("PreemptTime")) is not None:
        return "preempted"
    if facts.get("JobState") != "RUNNING":
        return "cancelled"  # over already: scancel, or a limit that was not announced
    end = _time(facts.get("EndTime"))
    # SLURM looks for due warnings once a minute
    return "time limit" if end is not None and end - now <= signal_delay + 65 else "asked"


def _time(text: str | None) -> float | None:
    try:
        return datetime.strptime(text or "", "%Y-%m-%dT%H:%M:%S").timestamp()
    except (ValueError, OverflowError):  # OverflowError: before the clock began
        return None


def requeue(task: str) -> str:
    """Put one task back into the queue; returns what SLURM has against it, "" when it is done.

    Always `A_a`: an array's bare number would requeue every task of it.
    """
    try:
        done = subprocess.run(["scontrol", "requeue", task], capture_output=True, text=True, timeout=_ANSWER_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return done.stderr.strip() if done.returncode else ""


def cancel(chosen: list[Task]) -> None:
    """Cancel exactly these tasks. InputError with SLURM's words when it refuses."""
    ids = [task.id for task in chosen]
    for start in range(0, len(ids), 500):
        done = subprocess.run(["scancel", *ids[start : start + 500]], capture_output=True, text=True, timeout=120)
        if done.returncode:
            raise InputError(f"scancel: {done.stderr.strip()}; run the same command again")


def max_array_size() -> int:
    """The number of tasks that one array may have; SLURM's default of 1001 where nobody says."""
    match = re.search(r"^MaxArraySize\s*=\s*([0-9]{1,7})\s*$", _ask(["scontrol", "show", "config"]) or "", re.M)
    return max(1, int(match[1])) if match else 1001


def partitions() -> list[dict[str, str]]:
    """The facts that `scontrol show partition` gives of each partition."""
    answer = _ask(["scontrol", "show", "partition", "-o"]) or ""
    return [dict(re.findall(r"(\w+)=(\S*)", line)) for line in answer.splitlines() if line.strip()]


def gpus_of_nodes() -> str:
    """The generic resources of the nodes, as sinfo names them, e.g. `gpu:a100:4`; "" where there are none."""
    lines = {line.strip() for line in (_ask(["sinfo", "-h", "-o", "%G"]) or "").splitlines()}
    return ", ".join(sorted(line for line in lines if line.startswith("gpu")))


def _ask(command: list[str]) -> str | None:
    """What a command of SLURM prints; None when it is not there, fails or is silent for half a minute."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_ANSWER_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
