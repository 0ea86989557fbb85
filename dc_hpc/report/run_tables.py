"""Tables over all runs, whatever panel they belong to: settings, provenance, the slowest and the troubled runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dc_hpc.report.panels.grouping import (
    ACCURACY,
    Cell,
    Row,
    group_columns,
    median,
    numerics_note,
    shown,
    split,
    training_of,
    varying_settings,
)
from dc_hpc.report.tables.cell_items import POINT_DIGITS, SHARE_DIGITS, diverged_text, setting_items
from dc_hpc.report.tables.text_tables import Item, Table, number, table_of
from dc_hpc.report.test_sets import describe_runs

STATES = ("done", "running", "resumable", "failed", "new", "damaged")
_UNKNOWN = "none recorded"


def settings_table(rows: Sequence[Row]) -> Table:
    """Every setting that was run, over its seeds, also those that no table of the paper asks for."""
    cells = split([row for row in rows if row["state"] != "damaged" and row.get("seed") is not None], ACCURACY)
    columns = group_columns(cells)
    visible = [*varying_settings(cells, columns), "dataset"]
    lines = []
    for cell in cells:
        done = sum(row["state"] == "done" for row in cell.rows)
        seconds = median(cell.values("seconds").values())
        training = training_of(cell.settings)
        lines.append(
            [
                *setting_items(cell, columns, visible),
                Item("training", training, "net", training, role="setting"),
                Item("runs", len(cell.rows), "runs", str(len(cell.rows))),
                Item("done", done, "done", str(done)),
                *_summary_items(cell, "accuracy", "accuracy %", POINT_DIGITS),
                *_summary_items(cell, "ia", "IA", SHARE_DIGITS),
                Item("seconds_median", seconds, "seconds", number(seconds, 0)),
            ]
        )
    caption = f"Every setting that was run: {len(cells)} of them, with {len(rows)} run directories."
    caption = " ".join(filter(None, (caption, numerics_note(rows))))
    return table_of("settings", caption, lines)


def provenance_table(rows: Sequence[Row]) -> Table:
    """What the done runs were made with: commit, whether it was changed, k-means backend, device, threads, numerics."""
    heads = {
        "commit": "commit",
        "dirty": "changed",
        "engine": "k-means backend",
        "device": "device",
        "threads": "threads",
        "numerics": "numerics",
    }
    cells = split([row for row in rows if row["state"] == "done"], tuple(heads))
    lines = [
        [
            *(Item(name, value, heads[name], _made_with(name, value)) for name, value in cell.settings.items()),
            Item("runs", len(cell.rows), "runs", str(len(cell.rows))),
        ]
        for cell in cells
    ]
    return table_of("provenance", "What the done runs were made with.", lines)


def slowest_table(rows: Sequence[Row], most: int = 10) -> Table:
    """The runs that took longest, all attempts together, with the seconds of each stage."""
    timed = sorted((row for row in rows if row.get("seconds")), key=lambda row: (-row["seconds"], row["run_id"]))[:most]
    heads = {
        "seconds": "seconds",
        "seconds_clustered": "clustering",
        "seconds_trained": "training",
        "seconds_probe": "probe",
    }
    table = [
        [
            Item("run_id", row["run_id"], "run", row["run_id"]),
            Item("state", row["state"], "state", row["state"]),
            *(Item(name, row.get(name), head, number(row.get(name), 0)) for name, head in heads.items()),
            Item("attempts", row.get("attempts"), "attempts", str(row.get("attempts") or "")),
            Item("device", row.get("device"), "device", row.get("device") or ""),
        ]
        for row in timed
    ]
    return table_of("slowest", "The runs that took longest (seconds, all attempts).", table)


def troubled_table(rows: Sequence[Row], state: str) -> Table:
    """The failed, or the damaged, runs by name, with the reason."""
    table = [
        [
            Item("run_id", row["run_id"], "run", row["run_id"]),
            Item("reason", row.get("state_reason"), "reason", row.get("state_reason") or ""),
        ]
        for row in rows
        if row["state"] == state
    ]
    return table_of(state, f"{len(table)} {state}, by name.", table)


def counts_of(rows: Iterable[Row], states: Sequence[str]) -> dict[str, int]:
    """state -> number of runs, in the order of `states`, without those of which there is none."""
    found = [row["state"] for row in rows]
    return {state: found.count(state) for state in states if found.count(state)}


def _summary_items(cell: Cell, value: str, head: str, digits: int) -> list[Item]:
    found = describe_runs(list(cell.runs(value).values()), value)
    return [
        Item(f"{value}_median", found["median"], head, number(found["median"], digits) or diverged_text(cell, value)),
        *(Item(f"{value}_{name}", found[name]) for name in ("n", "low", "high", "min", "max")),
    ]


def _made_with(name: str, value: object) -> str:
    if value is None:
        return _UNKNOWN
    if name == "dirty":
        return "yes" if value else "no"
    return str(value)[:12] if name == "commit" else shown(name, value)
