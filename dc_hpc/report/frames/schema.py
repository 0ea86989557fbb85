"""Defines the columns of the report's frames: their names, what they hold, and their exact text."""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from dc_hpc.config.run_config import RunConfig
from dc_hpc.storage import metrics_csv

SETTINGS = tuple(RunConfig.model_fields)
RESULTS = (
    "ia", "ia_ami", "ia_chance", "accuracy", "accuracy_best", "accuracy_batch_mean", "probe_loss",
    "clusterings", "epochs", "nmi_true_last", "ami_true_last", "nmi_prev_last", "ami_prev_last",
    "label_entropy_last", "clusters_empty_last", "loss_last",
)  # fmt: skip
STAGES = ("load", "clustered", "trained", "probe")
ATTEMPTS = (
    "cycles_done", "attempts", "seconds", *(f"seconds_{stage}" for stage in STAGES), "device", "host",
    "commit", "dirty", "engine", "threads",
)  # fmt: skip

_INTEGERS = {
    "clusterings", "epochs", "clusters_empty_last", "cycles_done", "attempts", "threads", "cycle",
    "clusters_empty", "cluster_size_min", "cluster_size_max",
}  # fmt: skip
_FLAGS = {"dirty"}
_TEXTS = {"run_id", "state", "state_reason", "trunk_sha256", "device", "host", "commit", "engine"}
_FLOATS = {*RESULTS, *metrics_csv.METRICS, *ATTEMPTS} - _INTEGERS - _FLAGS - _TEXTS


def setting_cell(name: str, value: Any) -> Any:
    """A setting of a RunConfig as a frame holds it."""
    if value is None or value == ():
        return None
    if isinstance(value, tuple | list):
        return " ".join(str(item) for item in value)
    return str(value) if kind_of(name) == "text" else value


@functools.cache
def kind_of(name: str) -> str:
    """What a column holds: int, float, flag or text. Of a number that is not known beforehand: float."""
    if name in RunConfig.model_fields:
        leaves = _leaves(RunConfig.model_fields[name].annotation) - {type(None)}
        kinds = {frozenset([bool]): "flag", frozenset([int]): "int", frozenset([float]): "float"}
        return kinds.get(frozenset(leaves), "text")
    for names, kind in ((_INTEGERS, "int"), (_FLAGS, "flag"), (_TEXTS, "text")):
        if name in names:
            return kind
    return "float" if name in _FLOATS or name.startswith("accuracy_") else "unknown"


def _leaves(annotation: Any) -> set[Any]:
    """The types that an annotation allows, those of a union one by one."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _leaves(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return set().union(*(_leaves(part) for part in typing.get_args(annotation)))
    return {origin or annotation}


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


def texts(series: pd.Series) -> list[str]:
    """The cells of a series as a CSV has them."""
    return ["" if missing else _text(value) for value, missing in zip(series.tolist(), series.isna().tolist())]


def _text(value: Any) -> str:
    return "" if value is None else repr(value) if isinstance(value, float) else str(value)
