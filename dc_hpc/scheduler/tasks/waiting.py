"""Why a task waits in the queue, in words."""

from __future__ import annotations

import time
from datetime import datetime

from dc_hpc.scheduler.slurm import Task

# SLURM's reasons that need words; the others are shown as SLURM writes them.
_WORDS = {
    "None": "",
    "JobArrayTaskLimit": "array throttle",
    "JobHeldUser": "held; scontrol release {id} lets it start",
    "JobHeldAdmin": "held by an administrator of the cluster",
    "launch failed requeued held": "held, because its node could not start it; scontrol release {id} tries again",
    "DependencyNeverSatisfied": "for ever, because the job that it follows did not end as it should; cancel it",
}


def reason_in_words(task: Task, *, has_begun: bool) -> str:
    """Why a pending task waits; "" where SLURM gives no reason. has_begun: whether it has computed before."""
    if task.reason == "BeginTime":
        return _begin_in_words(task.start, has_begun=has_begun)
    return _WORDS.get(task.reason.replace("_", " "), _WORDS.get(task.reason, task.reason)).format(id=task.id)


def _begin_in_words(start: str, *, has_begun: bool) -> str:
    """A requeued task waits for about two minutes; a task may also wait for a time that a person chose."""
    begins = "requeued, starts again" if has_begun else "starts"
    try:
        seconds = datetime.fromisoformat(start).timestamp() - time.time()
    except (ValueError, OverflowError):
        return f"{begins} in about 2 minutes" if has_begun else f"{begins} at its begin time"
    if seconds < 60:
        return f"{begins} within a minute"
    if seconds > 7200:
        return f"{begins} at {start.replace('T', ' ')[:16]}"
    minutes = round(seconds / 60)
    return f"{begins} in about {minutes} minute{'s' if minutes > 1 else ''}"
