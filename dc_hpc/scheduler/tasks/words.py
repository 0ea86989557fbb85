"""How times and numbers of runs are written for people."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Seconds as text, in seconds, minutes or hours."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def number_of_runs(count: int) -> str:
    """`1 run`, `2 runs`."""
    return f"{count} run{'s' if count > 1 else ''}"
