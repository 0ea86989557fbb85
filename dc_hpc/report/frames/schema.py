"""Defines the columns of the report's frames: their names, what they hold, and their exact text."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from dc_hpc.config.run_config import RunConfig
from dc_hpc.data.catalog import DATASETS
from dc_hpc.data.known_files import KNOWN_FILES
from dc_hpc.storage import metrics
from dc_hpc.storage.metrics import Metric

SETTINGS = tuple(RunConfig.declared)
RESULTS = metrics.names(metrics.RESULTS)
STAGES = ("load", "clustered", "trained", "probe")
# What the records of a run's attempts add to its row.
_ATTEMPT_COLUMNS = (
    Metric("cycles_done", "int", "cycles", "cycles that trained"),
    Metric("attempts", "int", "", "number of attempts"),
    Metric("seconds", "float", "s", "time of all stages of all attempts"),
    *(Metric(f"seconds_{stage}", "float", "s", f"time of all stages of the kind `{stage}`") for stage in STAGES),
    Metric("device", "text", "", "processor of the last attempt"),
    Metric("host", "text", "", "machine of the last attempt"),
    Metric("commit", "text", "", "commit of the code of the last attempt"),
    Metric("dirty", "flag", "", "whether that code was changed since its commit"),
    Metric("engine", "text", "", "k-means backend of the last attempt"),
    Metric("threads", "int", "", "CPU threads of the last attempt"),
    Metric("numerics", "int", "", "version of the arithmetic of the last attempt; runs that do not say have 1"),
)
_OTHER_COLUMNS = (
    Metric("run_id", "text", "", "name of the run and of its directory"),
    Metric("state", "text", "", "done, running, resumable, failed, new or damaged"),
    Metric("state_reason", "text", "", "why, in one line"),
    Metric("trunk_sha256", "text", "", "SHA-256 of the trained weights"),
)
ATTEMPTS = metrics.names(_ATTEMPT_COLUMNS)
_DECLARED = {one.name: one for one in (*_OTHER_COLUMNS, *metrics.RESULTS, *metrics.CYCLE_METRICS, *_ATTEMPT_COLUMNS)}


def setting_cell(name: str, value: Any) -> Any:
    """A setting of a RunConfig as a frame holds it."""
    if value is None or value == ():
        return None
    if isinstance(value, tuple | list):
        return " ".join(str(item) for item in value)
    return str(value) if kind_of(name) == "text" else value


def test_images_of(row: Mapping[str, Any]) -> int | None:
    """How many test images the accuracy of a run is of; None where neither its result nor its data set says so."""
    if row.get("accuracy") is None:
        return None
    official, known = DATASETS.get(row["dataset"]), KNOWN_FILES.get(row.get("data_digest") or "")
    return row.get("test_images") or (known.test_images if known else official.test_images if official else None)


def declaration(name: str) -> Metric | None:
    """What a column that is no setting holds; of `reassign`, the metric. None if it is not declared."""
    return _DECLARED.get(name)


@functools.cache
def kind_of(name: str) -> str:
    """What a column holds: int, float, flag or text. Of a number that is not known beforehand: float."""
    if name in RunConfig.declared:
        kinds = {frozenset([bool]): "flag", frozenset([int]): "int", frozenset([float]): "float"}
        return kinds.get(RunConfig.types_of(name), "text")
    if name in _DECLARED:
        return _DECLARED[name].dtype
    return "float" if name.startswith("accuracy_") else "unknown"


def column(name: str, values: list[Any], kind_of: Callable[[str], str] = kind_of) -> pd.Series:
    """The values as a typed series; a missing value is missing."""
    kind = kind_of(name)
    if kind == "unknown":
        kind = "text" if any(isinstance(value, str) for value in values) else "float"
    if kind == "text":
        return pd.Series([None if value is None or value == "" else str(value) for value in values], dtype=object)
    if kind == "float":
        return pd.Series([np.nan if value is None else float(value) for value in values], dtype="float64")
    return pd.Series(pd.array(values, dtype="Int64" if kind == "int" else "boolean"))


def kind_in_cycles(name: str) -> str:
    """What a column of cycles.csv holds. `reassign` is a setting (every how many cycles) and a metric (in this one)."""
    return "flag" if name == "reassign" else kind_of(name)


def numeric(name: str, numbers: np.ndarray) -> pd.Series:
    """Floats (n,) of one metric as a typed series, NaN as missing."""
    dtype: Any = {"int": "Int64", "flag": "boolean"}.get(kind_in_cycles(name))
    # Through a nullable float, so that NaN becomes a missing value and not a number.
    return pd.Series(numbers) if dtype is None else pd.Series(pd.array(numbers, dtype="Float64")).astype(dtype)


def csv_text(columns: Iterable[str], rows: Iterable[Sequence[Any]]) -> str:
    """CSV with \\n at the line ends; floats by repr, nothing for None.

    Not pandas' to_csv, which gives the same bytes but for a lone carriage return: it writes that unquoted, so that
    csv.reader ends a line there.
    """
    lines = [",".join(_quoted(_text(value)) for value in row) for row in (list(columns), *rows)]
    return "\n".join([*lines, ""])


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if any(letter in text for letter in ',"\r\n') else text


def texts(series: pd.Series, none: str, known: pd.Series) -> list[str]:
    """The cells of a series as a CSV has them. none: what a missing value is where `known` says that the row has it."""
    return [
        (none if settled else "") if missing else _text(value)
        for value, missing, settled in zip(series.tolist(), series.isna().tolist(), known.tolist())
    ]


def none_word(name: str) -> str:
    """The word for None of a setting, "" of another column."""
    return RunConfig.declared[name].none_word if name in RunConfig.declared else ""


def _text(value: Any) -> str:
    return "" if value is None else repr(value) if isinstance(value, float) else str(value)
