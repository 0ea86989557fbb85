"""Reads every file of a run and checks it against its digest and its run, for `status check`.

Tables read settings, results and curves, which is quick and always checked; weights and features are large, so they
are checked when they are used, or here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterator
from functools import partial
from pathlib import Path

from dc_hpc.storage import feature_dumps, metrics_csv, predictions, run_directory
from dc_hpc.storage.atomic_files import DamagedFile


def damaged_files(directory: Path) -> Iterator[DamagedFile]:
    """The damage of each damaged or lost file of a run, each file once. Reads everything, changes nothing.

    A run may compute meanwhile: a checkpoint that it removes between the list of its files and the look is not lost.
    """
    named = set()
    for needed, readers in ((True, _readers_of_needed), (False, _readers_of_listed)):
        for read in readers(directory):
            damage = _damage(read, needed=needed)
            if damage and damage.path not in named:  # the reader of the predictions reads the settings, too
                named.add(damage.path)
                yield damage


def _damage(read: Callable[[], object], *, needed: bool) -> DamagedFile | None:
    try:
        read()
    except DamagedFile as error:
        return error
    except FileNotFoundError as error:
        return DamagedFile(error.filename, "it is gone") if needed else None
    return None


def quarantine_damaged(directory: Path, damaged: list[DamagedFile]) -> bool:
    """Move damaged files to quarantine/, and with them the result, so that submit computes the run again.

    False where the result stays: the records of attempts say where and when a run was computed, and no number of it.
    """
    paths = {error.path for error in damaged}
    again = any(path.parent != directory / "attempts" for path in paths)
    if again:
        paths.add(directory / "result.json")
    for path in sorted(path for path in paths if path.exists()):
        run_directory.quarantine_file(path, directory)
    return again


def _readers_of_needed(directory: Path) -> Iterator[Callable[[], object]]:
    """A call for each file that the run must have by its records."""
    yield partial(run_directory.read_config, directory)
    if (directory / "result.json").exists():
        yield partial(run_directory.read_result, directory)
        keys = _result_keys(directory)
        if "trunk_sha256" in keys:
            yield partial(feature_dumps.read_trunk, directory)
        if "predictions_sha256" in keys:
            yield partial(predictions.read_predictions, directory)
    yield partial(metrics_csv.read_metrics, directory)


def _readers_of_listed(directory: Path) -> Iterator[Callable[[], object]]:
    """A call for each file that is in the folders of the run, which may have any number of them."""
    for path in run_directory.attempt_paths(directory):
        yield partial(run_directory.read_attempt, path)
    for path in sorted((directory / "features").glob("c*.h5")):
        cycle = re.fullmatch(r"c(\d+)", path.stem)
        yield partial(feature_dumps.read_features, directory, int(cycle[1]) if cycle else -1)
    for path in sorted(directory.glob("first-*.safetensors")):
        yield partial(feature_dumps.parse_first_clustering, path)
    for path in sorted((directory / "checkpoints").glob("c*.safetensors")):
        yield partial(run_directory.read_checkpoint, path, directory.name)


def _result_keys(directory: Path) -> Container[str]:
    """The keys of result.json, among them the digests of other files; none where it is damaged."""
    try:
        return run_directory.whole_result(directory)
    except DamagedFile:
        return ()
