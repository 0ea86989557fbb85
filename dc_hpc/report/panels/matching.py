"""Which runs belong to a panel of the paper: those with the settings of its baseline, but for what may differ."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dc_hpc.config.baselines import BASELINES, PROTOCOLS
from dc_hpc.config.run_config import RunConfig
from dc_hpc.report.frames.schema import setting_cell
from dc_hpc.report.panels.grouping import ACCURACY, ALIGNMENT, Row
from dc_hpc.report.panels.panel import Panel

# Where runs may differ from the baseline and still belong to a panel, as a group of their own.
_FREE = RunConfig.free_in_panels() | {
    name for protocols in PROTOCOLS.values() for fields in protocols.values() for name in fields
}


def accuracy_rows(panel: Panel, rows: Iterable[Row]) -> list[Row]:
    """The rows whose accuracy belongs to the panel, done or not: trained in cycles, then probed.

    A data set `svhn-derived` belongs to svhn's panels: it is a person's own copy and becomes a group of its own.
    """
    trained = [row for row in probed_rows(panel, rows) if (row.get("cycles") or 0) > 0]
    return trained if _has_runs_of_its_own(panel, trained) else []


def probed_rows(panel: Panel, rows: Iterable[Row], free: Iterable[str] = ()) -> list[Row]:
    """The rows with the panel's settings that ask for a probe, done or not. free: further settings that may differ."""
    settings = _required_settings(panel, ACCURACY, free)
    return [row for row in rows if _matches(row, settings) and row.get("probe") is not None]


def trained_rows(panel: Panel, rows: Iterable[Row]) -> list[Row]:
    """The rows with the panel's settings that cluster and train, probed or not, done or not."""
    settings = _required_settings(panel, ACCURACY)
    return [row for row in rows if _matches(row, settings) and (row.get("cycles") or 0) > 0 and not row.get("labels")]


def alignment_rows(panel: Panel, rows: Iterable[Row]) -> list[Row]:
    """The rows, however long, that have the panel's Initial Alignment: a first clustering with the same settings."""
    settings = _required_settings(panel, ALIGNMENT)
    return [row for row in rows if _matches(row, settings) and not row.get("labels")]


def of_planned_length(panel: Panel, rows: Sequence[Row], *, longer: bool = True) -> list[Row]:
    """The rows with the panel's number of cycles; where none of these was run, those with others.

    longer: whether that includes longer runs, which were made for other figures where a panel is about short ones.
    """
    cycles = panel.fixed.get("cycles", BASELINES[panel.base]["cycles"])
    planned = [row for row in rows if row.get("cycles") == cycles]
    if any(row["state"] != "absent" for row in planned):
        return planned
    return [row for row in rows if longer or (row.get("cycles") or 0) <= cycles]


def _required_settings(panel: Panel, fields: Sequence[str], free: Iterable[str] = ()) -> Row:
    """The settings among the fields that a run of the panel must have."""
    settings = panel.baseline_settings()
    differing = _FREE | set(panel.axis) | set(panel.free) | set(free)
    return {name: setting_cell(name, settings[name]) for name in fields if name in settings and name not in differing}


def _has_runs_of_its_own(panel: Panel, rows: Sequence[Row]) -> bool:
    """Whether any run was made for a panel of halted (or leaked) runs: a run that never halts serves other figures."""
    own = {"halt_cycle", "resume_leak"} & set(panel.axis)
    return all(any(row["state"] != "absent" and row.get(name) is not None for row in rows) for name in own)


def _matches(row: Row, settings: Row) -> bool:
    if row["state"] == "damaged" or row.get("dataset") is None:
        return False
    dataset = settings["dataset"]
    if row["dataset"] != dataset and not row["dataset"].startswith(f"{dataset}-"):
        return False
    return all(row.get(name) == value for name, value in settings.items() if name != "dataset")
