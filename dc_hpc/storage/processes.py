"""Tells whether a process of this machine is alive, and gives this process the standard streams that it lacks.

A pid alone does not tell whether a process lives: it may belong to a later process.
"""

from __future__ import annotations

import os
import sys
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


def open_standard_streams() -> None:
    """Connect the standard streams that are closed to /dev/null: services and `>&-` start programs without them.

    Otherwise Python has None in their place, and the next file that is opened gets their number, so that the output of
    a child process goes into it.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "r" if number == 0 else "w", encoding="utf-8", closefd=False))


def silence_output() -> None:
    """Let what is still to be printed go nowhere: the reader has gone, or the disk that holds the output is full."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for number in (1, 2):
        os.dup2(nowhere, number)
