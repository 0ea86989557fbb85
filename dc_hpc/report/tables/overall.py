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
    """The share of clustering in the time of a cycle of never-halted runs, by data set, k, length, numerics and device.

    A cycle clusters once and trains for an epoch; the last one of some protocols only clusters, so that the times are
    taken for each clustering and each trained cycle. The share bounds what halting can save. Runs that shared a
    processor with others took longer in both.
    """
    timed = [
        row
        for row in rows
        if training_of(row) == CLUSTERED
        and row.get("halt_cycle") is None
        and row.get("seconds_clustered")
        and row.get("seconds_trained")
        and row.get("clusterings")
    ]
    lines = []
    for (dataset, k, cycles, numerics, device), found in _by(timed, _timed_alike):
        seconds = [(row["seconds_clustered"] / row["clusterings"], _training_seconds(row)) for row in found]
        one = describe([clustering / (clustering + training) for clustering, training in seconds])
        ends = span(one["min"], one["max"], 2) if len(found) > 1 else ""
        lines.append(
            [
                Item("dataset", dataset, "dataset", dataset, role="setting"),
                Item("k", k, "k", str(k), role="setting"),
                Item("cycles", cycles, "cycles", str(cycles), role="setting"),
                Item("numerics", numerics, "numerics", str(numerics), role="setting"),
                Item("device", device, "device", device, role="setting"),
                Item("runs", len(found), "n", str(len(found))),
                Item("share_median", one["median"], "share of clustering", number(one["median"], 2)),
                Item("share_min", one["min"]),
                Item("share_max", one["max"]),
                Item(None, head="range", text=ends),
                *(
                    _median_seconds(name, head, values)
                    for name, head, values in zip(("clustered", "trained"), ("clustering", "training"), zip(*seconds))
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


def _timed_alike(row: Row) -> tuple[Any, ...]:
    return row["dataset"], row["k"], row["cycles"], row.get("numerics") or 1, row.get("device") or ""


def _training_seconds(row: Row) -> float:
    """Of one trained cycle. The last cycle does not train where the protocol skips it."""
    trained = row["cycles"] - (row.get("last_cycle") != "train")
    return float(row["seconds_trained"]) / max(trained, 1)


def _median_seconds(stage: str, head: str, values: Sequence[float]) -> Item:
    value = median(values)
    return Item(f"seconds_{stage}_median", value, f"{head}, s", number(value, 2))
