"""Where a living attempt is: attempts/0001.progress, a small JSON file that is renewed while the attempt computes.

It is for people who watch, and a sign of life for other hosts (`run_directory.state_of`). No result depends on it, it
is not synced to the disk, and it is removed when the attempt ends. A killed attempt leaves it behind, so it counts
only while the run is `running`.
"""

from __future__ import annotations

import json
import math
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dc_hpc.storage import atomic_files
from dc_hpc.storage.atomic_files import DamagedFile

STAGES = ("loading", "features", "clustering", "training", "probe")


@dataclass(frozen=True)
class RunProgress:
    """Where an attempt is.

    stage: one of STAGES. done, total: finished images (features), batches (training) or epochs (probe); 0 of 0 where
    nothing is counted. cycle: 0-based. nmi: of the last clustering with the true labels. loss: mean of the last trained
    cycle. nmi and loss are None where there is none yet.
    """

    stage: str
    done: int = 0
    total: int = 0
    cycle: int = 0
    nmi: float | None = None
    loss: float | None = None

    @property
    def fraction(self) -> float:
        """The share of the stage that is finished, 0 to 1."""
        return min(self.done / self.total, 1.0) if self.total > 0 else 0.0

    @property
    def phase(self) -> str:
        """The stage and how far it is, in words: `training batch 120 of 938`."""
        if self.stage == "features" and self.total:
            return f"features {100 * self.fraction:.0f} %"
        unit = {"training": "batch", "probe": "epoch"}.get(self.stage)
        if unit and self.total:
            return f"{self.stage} {unit} {min(self.done + 1, self.total)} of {self.total}"
        return "k-means" if self.stage == "clustering" else self.stage


def write(directory: Path, number: int, progress: RunProgress) -> None:
    """Write the progress of an attempt. Raises OSError."""
    values = {name: _finite(value) for name, value in asdict(progress).items()}
    atomic_files.replace_unsynced(_path(directory, number), json.dumps(values).encode())


def renew(directory: Path, number: int) -> None:
    """Let the progress of an attempt count as written now, where nothing has changed. Raises OSError."""
    os.utime(_path(directory, number), follow_symlinks=False)


def remove(directory: Path, number: int) -> None:
    """Remove the progress of an attempt that ends, and what killed attempts before it have left."""
    with suppress(OSError):
        for path in (directory / "attempts").glob("*.progress"):
            if path.name <= _path(directory, number).name:
                path.unlink(missing_ok=True)


def read(directory: Path) -> RunProgress | None:
    """The progress of the newest attempt of a run; None where there is none, or none that can be read.

    It counts only while `run_directory.state_of` says that the run is running.
    """
    path = max((directory / "attempts").glob("*.progress"), default=None)
    if path is None:
        return None
    try:
        found = RunProgress(**atomic_files.read_json(path))
    except (DamagedFile, OSError, TypeError):
        return None
    return found if _is_sound(found) else None


def _is_sound(progress: RunProgress) -> bool:
    counts = (progress.done, progress.total, progress.cycle)
    numbers = (progress.nmi, progress.loss)
    return (
        progress.stage in STAGES
        and all(type(count) is int and count >= 0 for count in counts)
        and all(number is None or type(number) in (int, float) for number in numbers)
    )


def _path(directory: Path, number: int) -> Path:
    return directory / "attempts" / f"{number:04d}.progress"


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
