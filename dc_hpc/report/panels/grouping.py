"""Groups runs into cells: one setting over its seeds. Runs that differ in anything but the seed are never pooled.

A row is one run as a dictionary (`frames.runs.records`). Fewer settings decide an Initial Alignment (`ia`, section
4.1.1) than an accuracy, because it is measured at the first clustering: an IA-only run and a full run of the same net,
data and k have the same IA.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from dc_hpc.config.run_config import RunConfig
from dc_hpc.data.catalog import DATASETS
from dc_hpc.data.known_files import KNOWN_FILES
from dc_hpc.report.frames.runs import records
from dc_hpc.report.frames.schema import none_word
from dc_hpc.report.test_sets import describe_runs
from dc_hpc.storage import run_directory

Row = dict[str, Any]

# The settings that keep runs apart: of an accuracy all of them, of an Initial Alignment those that act before training.
ACCURACY = tuple(name for name, one in RunConfig.declared.items() if one.keeps_apart)
ALIGNMENT = tuple(name for name in ACCURACY if RunConfig.declared[name].affects not in ("training", "probe"))
DIGESTS = ("data_digest", "train_digest", "test_digest")
# Every caption names these.
ALWAYS = ("dataset", "protocol", "sobel", "cycles")
# Hidden where the settings shown already decide them: most follow from the data set and the protocol.
_FOLLOWERS = tuple(name for name, one in RunConfig.declared.items() if one.follows)
# What was done to a net, by its run's settings.
RANDOM_FLOOR, CLUSTERED, SUPERVISED_CEILING, IA_ONLY = "random floor", "clustered", "supervised ceiling", "IA only"
_WORDS_LAST = {"random": 0, "fixed": 1, "off": 2}


@dataclass(frozen=True)
class Cell:
    """The runs of one setting. `settings` holds the fields that the runs were grouped by."""

    settings: Row
    rows: list[Row] = field(repr=False)

    def runs(self, name: str) -> dict[int, Row]:
        """seed -> its first done run that has the number, by seed: one run a seed.

        IA-only runs come first, then those of the newest numerics, so that as few as possible stand together.
        """
        found: dict[int, Row] = {}
        for row in sorted(
            self.rows, key=lambda row: (row.get("cycles") or 0, -(row.get("numerics") or 1), row["run_id"])
        ):
            if row["state"] == "done" and row.get(name) is not None:
                found.setdefault(row["seed"], row)
        return dict(sorted(found.items()))

    def values(self, name: str) -> dict[int, float]:
        """seed -> the number of its run of `runs`, by seed."""
        return {seed: row[name] for seed, row in self.runs(name).items()}

    def missing(self, name: str) -> list[int]:
        """The seeds that were asked for and have no such number, for whatever reason."""
        return sorted({row["seed"] for row in self.rows} - set(self.values(name)))

    def diverged(self, name: str) -> list[int]:
        """The seeds of `missing` whose training or probe diverged: nothing that is computed again brings a number."""
        layer = name.removeprefix("accuracy_")
        rows = [row for row in self.rows if is_diverged(row) and (layer == name or layer in _probed(row))]
        return sorted({row["seed"] for row in rows} & set(self.missing(name)))

    def pairs(self) -> list[tuple[int, float, float]]:
        """(seed, IA, accuracy) of the runs that have both, by seed."""
        alignments, accuracies = self.values("ia"), self.values("accuracy")
        return [(seed, alignments[seed], accuracies[seed]) for seed in alignments if seed in accuracies]


def numerics_note(rows: Iterable[Row]) -> str:
    """A sentence where done runs of several numerics stand together, else ""."""
    found = sorted({row["numerics"] for row in rows if row["state"] == "done" and row.get("numerics")})
    return f"Runs of numerics {' and '.join(map(str, found))} stand together here." if len(found) > 1 else ""


def _probed(row: Row) -> list[str]:
    return str(row.get("probe") or "").split()


def is_diverged(row: Row) -> bool:
    """Whether the training of a run diverged, so that it failed, or its probe, so that it has no accuracy."""
    return run_directory.is_diverged(row["state"], row.get("state_reason") or "")


def fields_of(value: str) -> tuple[str, ...]:
    """The settings that decide a number."""
    if value in ("ia", "ia_ami", "ia_chance"):
        return ALIGNMENT
    return tuple(name for name in ACCURACY if name != "probe") if value.startswith("accuracy_") else ACCURACY


def setting(row: Row, name: str) -> Any:
    """A setting as runs are grouped by it. Of the probed layers only the first counts: it gives `accuracy`.

    A run that names its images by a whole file counts as one of the parts of that file, where these are known.
    """
    value = row.get(name)
    if name in DIGESTS and row.get("data_digest") in KNOWN_FILES:
        parts = KNOWN_FILES[row["data_digest"]].digests.settings(probed=bool(row.get("probe")))
        return parts.get(name)
    return value.split()[0] if name == "probe" and value else value


def training_of(row: Row) -> str:
    """What was done to the net of a run: a run of no cycles is a random floor where it is probed, else IA only."""
    if row.get("labels"):
        return SUPERVISED_CEILING
    if row.get("cycles"):
        return CLUSTERED
    return RANDOM_FLOOR if row.get("probe") else IA_ONLY


def split(rows: Iterable[Row], fields: Sequence[str]) -> list[Cell]:
    """The rows by their settings, in the order of the settings. A cell with absent runs only is left out."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(setting(row, name) for name in fields), []).append(row)
    cells = [
        Cell(dict(zip(fields, key)), members)
        for key, members in groups.items()
        if any(row["state"] != "absent" for row in members)
    ]
    return sorted(cells, key=lambda cell: [order(name, cell.settings[name]) for name in fields])


def group_columns(cells: Sequence[Cell], axis: Sequence[str] = ()) -> list[str]:
    """The settings to show: those of ALWAYS, those that vary between the cells, then the axis.

    Settings that follow from the ones shown are hidden; cells never merge by that.
    """
    fields = list(dict.fromkeys(name for cell in cells for name in cell.settings))
    varying = varying_settings(cells, fields)
    columns = [name for name in ALWAYS if name in fields and name not in axis]
    columns += [name for name in varying if name not in (*_FOLLOWERS, *columns, *axis)]
    for name in _FOLLOWERS:
        if name in varying and name not in axis and not _decided(cells, (*columns, *axis), name):
            columns.append(name)
    return columns + [name for name in axis if name in fields]


def varying_settings(cells: Sequence[Cell], fields: Iterable[str]) -> list[str]:
    """The fields in which the cells that have them differ."""
    return [name for name in fields if len({cell.settings[name] for cell in cells if name in cell.settings}) > 1]


def order(name: str, value: Any) -> tuple[Any, ...]:
    """The sorting key of a setting's value: numbers by size, `never` after them, `off` before them."""
    if value is None:
        return (2,) if none_word(name) == "never" else (0,)
    if isinstance(value, str):
        return (1, _WORDS_LAST.get(value, -1), value)
    return (1, value)


def shown(name: str, value: Any) -> str:
    """A setting as a grid file writes it."""
    if value is None:
        return none_word(name)
    if isinstance(value, bool):
        return "on" if value else "off"
    if name.endswith("_digest"):
        return str(value)[:8]
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else repr(value)  # two values never read the same
    return str(value)


def label(settings: Row, columns: Iterable[str]) -> str:
    """Settings in one line: `svhn, protocol code, sobel random, 100 cycles`."""
    patterns = {"dataset": "{}", "cycles": "{} cycles", "halt_cycle": "halted {}"}
    parts = [patterns.get(name, name + " {}").format(shown(name, settings[name])) for name in columns]
    return ", ".join("1 cycle" if part == "1 cycles" else part for part in parts)


def dataset_title(dataset: str) -> str:
    """A data set as people call it. A copy of one's own keeps its name."""
    return DATASETS[dataset].title if dataset in DATASETS else dataset


def base_of(dataset: str) -> str:
    """The data set that a person's own copy stands for: `svhn` of `svhn-derived`; of another its own name."""
    base = dataset.split("-")[0]
    return base if base in DATASETS else dataset


def group_summary(runs: pd.DataFrame, value: str = "accuracy", *, axis: Sequence[str] = ()) -> pd.DataFrame:
    """Statistics of one number over the seeds of every setting among the runs of `load_runs`.

    Columns: the settings that vary, data set and protocol (and `axis`) always; n, median, q25, q75, iqr, min,
    max, mean, sd; low and high, the 95 % bootstrap interval of the median (10,000 resamples, fixed seed,
    percentile; none for n < 5), which of an accuracy covers other test images, too; missing, the seeds whose run is
    there but not done. Other settings are never pooled.
    """
    rows = [row for row in records(runs) if row["state"] != "damaged" and row["seed"] is not None]
    cells = split(rows, fields_of(value))
    columns = group_columns(cells, axis)
    return pd.DataFrame(
        [
            {name: cell.settings[name] for name in columns}
            | describe_runs(list(cell.runs(value).values()), value)
            | {"missing": " ".join(str(seed) for seed in cell.missing(value))}
            for cell in cells
        ]
    )


def median(values: Iterable[float]) -> float | None:
    """The median, or None where there is no value."""
    numbers = list(values)
    return statistics.median(numbers) if numbers else None


def _decided(cells: Sequence[Cell], columns: Sequence[str], name: str) -> bool:
    """Whether the settings in `columns` decide the setting `name` in all cells."""
    values: dict[tuple[Any, ...], Any] = {}
    return all(
        values.setdefault(tuple(cell.settings.get(column) for column in columns), cell.settings[name])
        == cell.settings[name]
        for cell in cells
        if name in cell.settings
    )
