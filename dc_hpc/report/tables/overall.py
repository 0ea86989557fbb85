"""Tables of all runs by data set: the test images, the share of clustering in the time of a cycle, and the cost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from dc_hpc.report.panels.grouping import CLUSTERED, Row, median, training_of
from dc_hpc.report.statistics import describe
from dc_hpc.report.tables.text_tables import Item, Table, number, span, table_of
from dc_hpc.report.test_sets import standard_error, test_images_of


def overall_tables(rows: Sequence[Row]) -> list[Table]:
    """The tables that have a row."""
    done = [row for row in rows if row["state"] == "done"]
    tables = [test_sets_table(done), stage_shares_table(done), cost_table(done)]
    return [table for table in tables if table.rows]


def test_sets_table(rows: Sequence[Row]) -> Table:
    """How many test images the accuracies of each data set are of, and the standard error that these alone give."""
    probed = [row for row in rows if row.get("accuracy") is not None and test_images_of(row)]
    lines = []
    for (dataset, images), found in _by(probed, lambda row: (row["dataset"], test_images_of(row))):
        middle = median(row["accuracy"] for row in found)
        error = standard_error(middle, images) if middle is not None else None
        lines.append(
            [
                Item("dataset", dataset, "dataset", dataset, role="setting"),
                Item("test_images", images, "test images", str(images)),
                Item("runs", len(found), "runs", str(len(found))),
                Item("accuracy_median", middle, "accuracy %", number(middle, 2)),
                Item("standard_error", error, "standard error, points", number(error, 2)),
            ]
        )
    return table_of("test_sets", "The test images of each data set, and the standard error of one accuracy.", lines)


def stage_shares_table(rows: Sequence[Row]) -> Table:
    """The share of clustering in the time of clustering and training of never-halted runs, by data set, k and device.

    It bounds what halting can save. Runs that shared a processor with others took longer in both.
    """
    timed = [
        row
        for row in rows
        if training_of(row) == CLUSTERED
        and row.get("halt_cycle") is None
        and row.get("seconds_clustered")
        and row.get("seconds_trained")
    ]
    lines = []
    for (dataset, k, device), found in _by(timed, lambda row: (row["dataset"], row["k"], row.get("device") or "")):
        shares = [row["seconds_clustered"] / (row["seconds_clustered"] + row["seconds_trained"]) for row in found]
        one = describe(shares)
        ends = span(one["min"], one["max"], 2) if len(shares) > 1 else ""
        lines.append(
            [
                Item("dataset", dataset, "dataset", dataset, role="setting"),
                Item("k", k, "k", str(k), role="setting"),
                Item("device", device, "device", device, role="setting"),
                Item("runs", len(found), "n", str(len(found))),
                Item("share_median", one["median"], "share of clustering", number(one["median"], 2)),
                Item("share_min", one["min"]),
                Item("share_max", one["max"]),
                Item(None, head="range", text=ends),
                *(
                    _per_cycle(found, stage, head)
                    for stage, head in (("clustered", "clustering"), ("trained", "training"))
                ),
            ]
        )
    caption = (
        "Clustering and training of never-halted runs: medians over n runs a line of the seconds of a cycle, as each "
        "run recorded them, whatever else its machine did."
    )
    return table_of("stage_shares", caption, lines)


def cost_table(rows: Sequence[Row]) -> Table:
    """The hours that runs took, all attempts together, by data set, kind of net and device."""
    timed = [row for row in rows if row.get("seconds")]
    lines = []
    for (dataset, kind, device), found in _by(timed, lambda row: (row["dataset"], training_of(row), _device(row))):
        hours = sum(row["seconds"] for row in found) / 3600
        again = sum((row.get("attempts") or 1) > 1 for row in found)
        lines.append(
            [
                Item("dataset", dataset, "dataset", dataset, role="setting"),
                Item("training", kind, "net", kind, role="setting"),
                Item("device", device, "device", device, role="setting"),
                Item("runs", len(found), "runs", str(len(found))),
                Item("resumed", again, "resumed", str(again)),
                Item("hours", hours, "hours", number(hours, 1)),
            ]
        )
    return table_of("cost", "What the runs cost: hours of all their attempts, by the device of the last.", lines)


def _by(rows: Iterable[Row], key: Any) -> list[tuple[Any, list[Row]]]:
    groups: dict[Any, list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return sorted(groups.items())


def _device(row: Row) -> str:
    return row.get("device") or "none recorded"


def _per_cycle(rows: Sequence[Row], stage: str, head: str) -> Item:
    value = median(row[f"seconds_{stage}"] / row["cycles"] for row in rows)
    return Item(f"seconds_{stage}_median", value, f"{head}, s", number(value, 2))
