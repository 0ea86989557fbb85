"""Keeps a run within one numerics: what another version of the arithmetic has begun is not continued."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from dc_hpc.algorithm import NUMERICS
from dc_hpc.errors import InputError
from dc_hpc.storage import feature_dumps, run_directory, serialization
from dc_hpc.storage.atomic_files import DamagedFile

FIRST = 1  # of the files that do not say


def begun_numerics(directory: Path) -> int | None:
    """The numerics of the checkpoint that a run would go on from; None where it would begin at its start."""
    for path in reversed(run_directory.checkpoints(directory)):
        try:
            return int(serialization.safetensors_metadata(path).get("numerics", FIRST))
        except (DamagedFile, FileNotFoundError, ValueError):
            continue
    return None


def check_numerics(directories: Iterable[Path]) -> None:
    """InputError where a run was begun under other numerics than those that compute now."""
    others = {one: begun for one in directories if (begun := begun_numerics(one)) not in (None, NUMERICS)}
    if not others:
        return
    first, begun = next(iter(others.items()))
    more = f" (and {len(others) - 1} more)" if len(others) > 1 else ""
    raise InputError(
        f"run {first.name}{more} was begun under numerics {begun} and this version computes with numerics {NUMERICS}; "
        "compute it from its start with submit --new, or finish it with the version of dc_hpc that began it"
    )


def begin_anew(directory: Path) -> bool:
    """Move the checkpoints and feature dumps of a run of other numerics to quarantine; whether there were any."""
    if begun_numerics(directory) in (None, NUMERICS):
        return False
    for path in (*run_directory.checkpoints(directory), *feature_dumps.dumps(directory)):
        run_directory.quarantine_file(path, directory)
    return True
