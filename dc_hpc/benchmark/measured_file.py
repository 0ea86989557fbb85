"""Reads a benchmark back that `bench --json` wrote, so that tables and figures are made of one file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dc_hpc.benchmark.scaling import Point
from dc_hpc.benchmark.timing import KEYS
from dc_hpc.errors import InputError

_SCALING_KEYS = {"name", "variable", "value", *Point.__annotations__, "exponent", "work_exponent", "memory_exponent"}
# What `environment.caption` reads.
_IN_CAPTION = {"cpu", "cores", "threads", "device", "load_start", "load_end", "blas", "python", "versions"}
_NOT_WRITTEN = "give a file that `python -m dc_hpc.bench --json FILE` wrote"


def read_measured(path: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The rows of FILE.json and the environment of FILE.environment.json. InputError where one is none of bench's."""
    rows = _json(path)
    if not isinstance(rows, list) or not rows or not all(_is_row(row) for row in rows):
        raise InputError(f"--from {path} holds no benchmark; {_NOT_WRITTEN}")
    beside = path.with_name(f"{path.stem}.environment.json")
    environment = _json(beside)
    if not isinstance(environment, dict) or not _IN_CAPTION <= set(environment):
        raise InputError(f"--from {path}: {beside.name} beside it describes no machine; {_NOT_WRITTEN}")
    return rows, environment


def is_scaling(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the rows are of `bench --scaling`."""
    return "variable" in rows[0]


def _is_row(row: Any) -> bool:
    return isinstance(row, dict) and (set(row) >= set(KEYS) or set(row) >= _SCALING_KEYS)


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "not valid JSON"
        raise InputError(f"--from: {path} cannot be read ({why}); {_NOT_WRITTEN}") from None
