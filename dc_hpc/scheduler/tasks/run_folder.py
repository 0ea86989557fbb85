"""Whether a node sees the folder of a run: a network file system may show a new folder minutes after it was made."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

# NFS keeps what it knows of a folder for up to a minute by default, and longer where a site says so.
VISIBLE_SECONDS = 180.0
_LONGEST_WAIT = 10.0


def is_visible(directory: Path, stop: Callable[[], bool], *, seconds: float = VISIBLE_SECONDS) -> bool:
    """Wait until the folder of a run and its settings can be seen; whether they can.

    stop: ends the waiting. seconds: the longest time to wait.
    """
    deadline, wait = time.monotonic() + seconds, 0.5
    while not _exists(directory / "config.json"):
        if stop() or time.monotonic() >= deadline:
            return False
        time.sleep(min(wait, max(deadline - time.monotonic(), 0.0)))
        wait = min(2 * wait, _LONGEST_WAIT)
        with suppress(OSError):  # opening the folder above lets NFS ask its server again
            os.listdir(directory.parent)
    return True


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # ESTALE: the server has not been asked again yet
        return False


def not_visible(directory: Path) -> str:
    """The line for a run whose folder did not appear."""
    return (
        f"{directory.name}: this node does not see {directory}, also after {VISIBLE_SECONDS:.0f} s; the outputs folder "
        "must be on a file system that the compute nodes see"
    )
