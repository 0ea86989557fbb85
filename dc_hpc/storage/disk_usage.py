"""How much disk the files of an outputs folder take, by kind, and which feature dumps nothing needs any more."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from dc_hpc.storage import feature_dumps, run_directory
from dc_hpc.storage.atomic_files import DamagedFile

# The kinds of a run's files; a file or folder of another name is `other`, and what is below a quarantine/ that kind.
_KINDS = {
    "features": "features",
    "checkpoints": "checkpoints",
    "attempts": "attempts",
    "trunk.safetensors": "trunk",
    "predictions.h5": "predictions",
    "config.json": "records",
    "result.json": "records",
    "metrics.csv": "records",
}


def size_of_run(directory: Path) -> Counter[str]:
    """Kind -> bytes of the files of a run; links are not followed."""
    sizes: Counter[str] = Counter()
    for path, size in _files(directory):
        parts = path.relative_to(directory).parts
        sizes["quarantine" if "quarantine" in parts else _KINDS.get(parts[0], "other")] += size
    return sizes


def size_beside_runs(outputs: Path) -> Counter[str]:
    """Name -> bytes of everything in an outputs folder but the runs: logs, tables, figures, the page."""
    sizes: Counter[str] = Counter()
    for path, size in _files(outputs, skip=run_directory.runs_folder(outputs)):
        sizes[path.relative_to(outputs).parts[0]] += size
    return sizes


def unneeded_features(directory: Path) -> list[Path]:
    """The feature dumps of a run that nothing reads again; an empty list where something may.

    A run that is not done needs its dumps to resume, and gives them to runs that halt. A run that only measures IA
    dumps its features for Figure 2, where the grid asks for them.
    """
    try:
        run_directory.read_result(directory)
        if run_directory.read_config(directory).cycles == 0:
            return []
    except (DamagedFile, OSError):
        return []
    return feature_dumps.dumps(directory)


def remove(paths: Iterable[Path]) -> None:
    """Remove these feature dumps, and the folders that are empty then."""
    for path in paths:
        path.unlink(missing_ok=True)
        if not any(path.parent.iterdir()):
            path.parent.rmdir()


def _files(folder: Path, skip: Path | None = None) -> Iterable[tuple[Path, int]]:
    for place, folders, names in os.walk(folder):
        if skip is not None:
            folders[:] = [name for name in folders if Path(place, name) != skip]
        for name in names:
            path = Path(place, name)
            try:
                yield path, path.lstat().st_size
            except FileNotFoundError:  # a run that computes has replaced it
                continue
