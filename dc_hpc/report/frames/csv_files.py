"""Reads runs.csv and cycles.csv back exactly: the frames of `runs.py` without the run directories."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from dc_hpc.config.run_config import RunConfig
from dc_hpc.config.yaml_reader import short
from dc_hpc.errors import InputError
from dc_hpc.report.frames.runs import frame_of, no_cycles, records
from dc_hpc.report.frames.schema import column, kind_in_cycles, kind_of, none_word, setting_cell, test_images_of
from dc_hpc.storage import numerics, run_directory

_STATES = (*run_directory.STATES, "damaged")


def read_tables(paths: Sequence[Path]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The runs of one or more runs.csv, and the cycles of the cycles.csv beside each, both sorted by run_id.

    A run that several tables hold counts once, with its cycles: as done where one has it done, then as the table
    that comes first has it. Kinds of machine differ in the last bits of sums, so no two need agree. What was running
    when its table was written is resumable: a table cannot tell what runs now. InputError where a file is no such
    table, or a run in it lacks its name, its state or a setting.
    """
    tables = [(records(read_runs_csv(path)), read_cycles_csv(path.with_name("cycles.csv"))) for path in paths]
    for path, (found, _) in zip(paths, tables):
        for row in found:
            _refuse_what_is_lost(path, row)
    if not any(found for found, _ in tables):
        raise InputError(
            f"--runs {paths[0]} holds no run; give the table of a folder with runs, or submit runs first: "
            "python -m dc_hpc.submit --grid jobs/fmnist_demo.yaml"
        )
    rows = [(row["state"] != "done", place, row) for place, (found, _) in enumerate(tables) for row in found]
    chosen: dict[str, tuple[int, dict[str, Any]]] = {}
    for _, place, row in sorted(rows, key=lambda one: one[:2]):
        chosen.setdefault(row["run_id"], (place, row))
    source = {name: place for name, (place, _) in chosen.items()}
    cycles = pd.concat(frame[frame["run_id"].map(source) == place] for place, (_, frame) in enumerate(tables))
    runs = frame_of([_at_rest(chosen[name][1]) for name in sorted(chosen)])
    return runs, cycles.sort_values("run_id", kind="stable").reset_index(drop=True)


def _refuse_what_is_lost(path: Path, row: dict[str, Any]) -> None:
    """Raise InputError for a run whose name, state or settings somebody has emptied. A damaged one may be."""
    if row["run_id"] is None:
        raise InputError(f"--runs {path}: a run has no run_id; write the file again")
    state, run = row["state"], short(row["run_id"], 100)
    if state not in _STATES:
        said = "has no state" if state is None else f"is in the state {short(state, 60)!r}"
        raise InputError(f"--runs {path}: run {run} {said}; allowed: {', '.join(_STATES)}; write the file again")
    lost = [name for name, one in RunConfig.declared.items() if not one.none_word and row[name] is None]
    if lost and state != "damaged":
        raise InputError(f"--runs {path}: run {run} has no {lost[0]}; write the file again")


def _at_rest(row: dict[str, Any]) -> dict[str, Any]:
    if row["state"] != "running":
        return row
    return row | {"state": "resumable", "state_reason": "running when its table was written"}


def read_runs_csv(path: Path) -> pd.DataFrame:
    """The frame that `runs_csv` made the file of; InputError when it is no such table.

    Settings that did not exist when the file was written get their neutral value, runs their first numerics, and
    `test_images` the number of the data set, where that is known.
    """
    columns = _columns(path, ("run_id", "state", "dataset", "k", "seed"), kind_of)
    new = {
        name: setting_cell(name, field.default)
        for name, field in RunConfig.model_fields.items()
        if name not in columns and not field.is_required()
    }
    settled = [dict(zip(columns, values)) for values in zip(*columns.values())]
    if "numerics" not in columns:
        settled = [row | ({"numerics": numerics.FIRST} if row["state"] == "done" else {}) for row in settled]
    return frame_of(
        [row | (new | {"test_images": test_images_of(row)} if row["dataset"] is not None else {}) for row in settled]
    )


def read_cycles_csv(path: Path) -> pd.DataFrame:
    """The frame that `cycles_csv` made the file of; without a row where there is no file; InputError otherwise.

    A metric that is younger than the file is missing in every row.
    """
    if not path.exists():
        return no_cycles()
    columns = _columns(path, ("run_id", "cycle", "reassign"), kind_in_cycles)
    younger = [None] * len(columns["run_id"])
    return pd.DataFrame(
        {name: column(name, columns.get(name, younger), kind_in_cycles) for name in no_cycles().columns}
    )


def _columns(path: Path, needed: Sequence[str], kind_of: Callable[[str], str]) -> dict[str, list[Any]]:
    """Column -> its values, None where a cell is empty."""
    try:
        if not path.is_file() and path.exists():
            raise OSError("not a regular file")  # reading a pipe would wait for ever
        with open(path, encoding="utf-8-sig", newline="") as file:  # Excel writes a byte order mark
            header, *lines = list(csv.reader(file, strict=True)) or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"--runs {path} cannot be read ({error}); give a table that aggregate has written") from None
    _refuse_separators(path, header)
    header, numbered = _without_blanks(header, lines)
    lost = [name for name in needed if name not in header]
    if lost or len(set(header)) < len(header):
        wrong = f"has no column {lost[0]}" if lost else "names a column twice"
        raise InputError(f"--runs {path} {wrong}; give a table that aggregate has written")
    rows = []
    for number, line in numbered:
        if len(line) != len(header):
            raise InputError(f"--runs {path}:{number} has {len(line)} cells, not {len(header)}; write the file again")
        rows.append(dict(zip(header, line)))
    return {name: _parsed(path, name, [row[name] for row in rows], kind_of(name)) for name in header}


def _refuse_separators(path: Path, header: list[str]) -> None:
    """Programs write other separators where people write numbers with a comma."""
    first = header[0] if header else ""
    found = [name for name, mark in ((";", ";"), ("tabs", "\t"), ("|", "|")) if mark in first]
    if len(header) == 1 and (found or first.startswith("sep=")):
        raise InputError(
            f"--runs {path} is separated by {found[0] if found else first[4:]}, not ,; save it with commas and decimal "
            "points, or give the table that aggregate has written"
        )


def _without_blanks(header: list[str], lines: list[list[str]]) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header and the numbered lines without the empty columns at the right and the empty lines of a spreadsheet."""
    numbered = [(number, line) for number, line in enumerate(lines, start=2) if any(line)]
    while header and header[-1] == "" and all(len(line) == len(header) and line[-1] == "" for _, line in numbered):
        header, numbered = header[:-1], [(number, line[:-1]) for number, line in numbered]
    return header, numbered


def _parsed(path: Path, name: str, texts: list[str], kind: str) -> list[Any]:
    try:
        if kind == "unknown":
            numeric = all(text == "" or (_float(text) is not None and repr(_float(text)) == text) for text in texts)
            kind = "float" if numeric else "text"
        missing = ("", none_word(name))  # the word is empty in tables of earlier versions
        return [None if text in missing else _READERS[kind](text) for text in texts]
    except (ValueError, KeyError) as error:
        named, cell = short(name, 60), short(str(error), 100)
        comma = " (decimals have a point)" if kind == "float" and re.search(r"\d,\d", cell) else ""
        raise InputError(
            f"--runs {path}: column {named} holds {cell}, which is no {kind}{comma}; write the file again"
        ) from None


def _int(text: str) -> int:
    if not -(2**63) <= (value := int(text)) < 2**63:
        raise ValueError(f"{text!r}, beyond 64 bits")
    return value


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _flag(text: str) -> bool:
    found = {"true": True, "false": False}.get(text.lower())  # spreadsheets write TRUE
    if found is None:
        raise ValueError(repr(text))
    return found


_READERS: dict[str, Callable[[str], Any]] = {
    "int": _int,
    "float": float,
    "text": str,
    "flag": _flag,
}
