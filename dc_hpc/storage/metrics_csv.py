"""metrics.csv, the curves of a run: a row a cycle, rewritten whole after each phase, and checked when it is read.

It holds no digest of its own, so that any program reads it; result.json and the attempts of a run hold it.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from dc_hpc.storage import atomic_files, run_directory
from dc_hpc.storage.atomic_files import DamagedFile
from dc_hpc.storage.metrics import CYCLE_METRICS, names

METRICS = names(CYCLE_METRICS)
_REQUIRED = ("cycle", "reassign")


def write_metrics(directory: Path, history: list[dict[str, Any]]) -> str:
    """metrics.csv: one row a cycle, the columns of METRICS, empty where a cycle has no such number; its SHA-256.

    Raises ValueError: a row has a number that no metric declares.
    """
    data = _metrics_bytes(history)
    atomic_files.replace_bytes(directory / "metrics.csv", data)
    return atomic_files.sha256_hex(data)


def report_progress(directory: Path, number: int, history: list[dict[str, Any]], entries: dict[str, Any]) -> str:
    """Renew metrics.csv and the record of the attempt that writes it; the SHA-256 of metrics.csv.

    The record holds the digests of the old and the new metrics.csv beforehand, so that damage differs from a kill
    between the two writes.
    """
    path, digests = directory / "metrics.csv", [atomic_files.sha256_hex(_metrics_bytes(history))]
    if path.is_file():
        digests.append(atomic_files.sha256_hex(path.read_bytes()))
    run_directory.update_attempt(directory, number, entries | {"metrics_sha256": digests})
    return write_metrics(directory, history)


def read_metrics(directory: Path) -> list[dict[str, str]]:
    """The rows of metrics.csv as strings, by the names of METRICS; DamagedFile when the run's records name another.

    A metric that is younger than the file is "" in every row.
    """
    path = directory / "metrics.csv"
    data = _checked_metrics(directory, path)
    if data is None:
        return []
    try:
        rows = list(csv.DictReader(io.StringIO(data.decode("utf-8"), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DamagedFile(path, str(error)) from None
    for row in rows:
        unknown = [str(name) for name in row if name not in METRICS]
        if unknown or None in row.values() or not set(_REQUIRED) <= set(row):
            why = f"it has a column {unknown[0]}, which this version does not know" if unknown else "a cell is missing"
            raise DamagedFile(path, why)
    return [{name: row.get(name, "") for name in METRICS} for row in rows]


def _checked_metrics(directory: Path, path: Path) -> bytes | None:
    """The content of metrics.csv. A run may be writing: a mismatch counts when a second look finds the same file."""
    before = None
    while True:
        try:
            data = atomic_files.read_bytes(path, atomic_files.MAX_JSON_BYTES)
        except FileNotFoundError:
            data = None
        named = _metrics_digests(directory)
        if not named or (data is not None and atomic_files.sha256_hex(data) in named):
            return data
        if before is not None and before[0] == data:
            why = "it is gone" if data is None else "it is not the one that the records of its run name"
            raise DamagedFile(path, why)
        before = (data,)


def _metrics_digests(directory: Path) -> set[str]:
    """The digests that metrics.csv may have, by the result, or by the attempts of an open run. None: older records."""
    try:
        return {digest for digest in [run_directory.whole_result(directory).get("metrics_sha256")] if digest}
    except (DamagedFile, FileNotFoundError):
        return {digest for record in run_directory.attempts(directory) for digest in record.get("metrics_sha256", ())}


def _metrics_bytes(history: list[dict[str, Any]]) -> bytes:
    undeclared = sorted({name for row in history for name in row} - set(METRICS))
    if undeclared:
        raise ValueError(f"metric {undeclared[0]} is not declared; add it to CYCLE_METRICS in storage/metrics.py")
    text = io.StringIO()
    writer = csv.DictWriter(text, METRICS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(row.get(name)) for name in METRICS} for row in history)
    return text.getvalue().encode("utf-8")


def _cell(value: Any) -> str:
    return "" if value is None else repr(value) if isinstance(value, float) else str(value)
