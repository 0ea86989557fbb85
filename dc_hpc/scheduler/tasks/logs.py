"""The logs of tasks and of jobs on this machine: where they are, and their last line."""

from __future__ import annotations

import re
from pathlib import Path

from dc_hpc.scheduler.submissions import Submission
from dc_hpc.storage import run_directory

_TAIL = 1 << 14
_LONGEST_LINE = 200
# What srun adds below the line that says why: the exit code again, and what it does next.
_OF_SRUN = re.compile(
    r"srun: (error: \S+: tasks? [\d,-]+: Exited with|Terminating StepId|.*Force Terminated|Job step abort)"
)


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


def tail_of(path: Path) -> str:
    """The end of a log without what a terminal would act on; "" where there is none."""
    try:
        with open(path, "rb") as stream:
            stream.seek(max(0, path.stat().st_size - _TAIL))
            text = stream.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return "\n".join(map(_printable, text.splitlines()))


def last_line(log: str) -> str:
    """The last line that says something, cut to a readable length; "" for an empty log."""
    lines = [line for line in log.splitlines() if line]
    telling = [line for line in lines if not _OF_SRUN.match(line)]
    return (telling or lines or [""])[-1][:_LONGEST_LINE]


def _printable(line: str) -> str:
    """The line without escape sequences and control characters."""
    line = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line)
    return "".join(one if one.isprintable() else " " for one in line).strip()
