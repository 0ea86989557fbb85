"""Tells whether a process of this machine is alive. A pid alone does not tell: it may belong to a later process."""

from __future__ import annotations

import os
from pathlib import Path


def process_lives(pid: int) -> bool:
    """Whether some process has this number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it is another person's
    return True


def process_start(pid: int) -> str | None:
    """When a process of this host started, as the kernel counts; None when there is no such process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] == "Z" else fields[19]
    except (FileNotFoundError, ProcessLookupError):
        return None if Path("/proc/self").exists() or not process_lives(pid) else "unknown"
