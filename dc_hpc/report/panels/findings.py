"""Everything the report knows of each panel: its tables, how far its grids are, what its cells mix."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from dc_hpc.config.yaml_reader import did_you_mean
from dc_hpc.errors import InputError
from dc_hpc.report.claims.catalog import count_verdicts
from dc_hpc.report.panels.comparisons import axis_groups, relation_cells, search_cells
from dc_hpc.report.panels.grouping import ACCURACY, Row, group_columns, label, median, shown, split, varying_settings
from dc_hpc.report.panels.matching import GridState, absent_rows, grid_states, select_runs, setting_groups
from dc_hpc.report.panels.paper import ENTRIES, Panel
from dc_hpc.report.panels.tables import tables_of
from dc_hpc.report.statistics import describe
from dc_hpc.report.text_tables import Item, Table, number, span, table_of

_MIXED_NAMED = 3
_UNKNOWN = "none recorded"


@dataclass
class Finding:
    """A panel and what was found for it. pictures: `png` and `pdf`, put in when it is drawn; error: why it
    was not.
    """

    panel: Panel
    tables: list[Table]
    grids: list[GridState]
    mixed: list[str]
    pictures: dict[str, bytes] = field(default_factory=dict)
    error: str = ""


def panels_of(only: Sequence[str]) -> list[Panel]:
    """The panels of the entries (or the panels) that are named, all of them where none is; InputError for
    others.
    """
    panels = [panel for entry in ENTRIES.values() for panel in entry.panels]
    known = {entry.name: entry.panels for entry in ENTRIES.values()} | {panel.name: (panel,) for panel in panels}
    for name in only:
        if name not in known:
            raise InputError(
                f"--only {name}: no such table or figure{did_you_mean(name, tuple(known))}; allowed: "
                f"{', '.join(ENTRIES)}, or one of their parts, such as fig_4b"
            )
    chosen = [panel for name in only for panel in known[name]]
    return [panel for panel in panels if panel in chosen or not only]


def find(panels: Iterable[Panel], rows: Sequence[Row], *, jobs: Path, data: Path) -> list[Finding]:
    """The findings of the panels, not drawn yet. rows: of `tables.records`. jobs: the folder of the grids."""
    panels = list(panels)
    states = grid_states((name for panel in panels for name in panel.grids), jobs, data, rows)
    found = []
    for panel in panels:
        grids = [states[name] for name in panel.grids if name in states]
        tables = tables_of(panel, rows, absent_rows(grids, rows))
        found.append(Finding(panel, tables, grids, mixed(panel, rows) if tables else []))
    return found


def mixed(panel: Panel, rows: Sequence[Row]) -> list[str]:
    """The cells whose runs are of different commits, k-means engines or protocols: a line each, a few at
    most.
    """
    if panel.kind == "features":
        return []
    if panel.kind == "relation":
        cells = [cell for both in relation_cells(panel, rows) for cell in both if cell.rows]
    elif panel.axis and panel.kind != "search":
        values = {"alignment": ("ia",), "accuracy": ("accuracy",), "both": ("ia", "accuracy")}[panel.kind]
        cells = [cell for value in values for _, found in axis_groups(panel, rows, value) for cell in found]
    elif panel.kind == "search":
        cells = [
            cell
            for group in setting_groups(panel, select_runs(panel, rows), "accuracy")
            for cell in search_cells(group)
        ]
    else:
        cells = split(select_runs(panel, rows), ACCURACY)
    lines, varying = [], varying_settings(cells, group_columns(cells, panel.axis))
    for cell in cells:
        where = label(cell.settings, [name for name in varying if name in cell.settings]) or "all"
        where = where if "cycles" in cell.settings else f"IA, {where}"
        for name in ("commit", "engine", "protocol"):
            values = sorted({str(row.get(name) or _UNKNOWN)[:12] for row in cell.rows if row["state"] == "done"})
            if len(values) > 1:
                lines.append(f"{where}: runs of {len(values)} {name}s ({', '.join(values)})")
    lines = list(dict.fromkeys(lines))
    more = len(lines) - _MIXED_NAMED
    return lines[:_MIXED_NAMED] + ([f"and {more} more"] if more > 0 else [])


def settings_table(rows: Sequence[Row]) -> Table:
    """Every setting that was run, over its seeds: what no table of the paper asks for shows here, too."""
    cells = split([row for row in rows if row["state"] != "damaged" and row.get("seed") is not None], ACCURACY)
    columns = group_columns(cells)
    seen = [name for name in columns if name in varying_settings(cells, columns) or name == "dataset"]
    table = []
    for cell in cells:
        accuracy, ia = (describe(list(cell.values(name).values())) for name in ("accuracy", "ia"))
        done, seconds = (
            sum(row["state"] == "done" for row in cell.rows),
            median(cell.values("seconds").values()),
        )
        line = [
            Item(name, cell.settings[name], name if name in seen else None, shown(name, cell.settings[name]))
            for name in columns
        ]
        line += [
            Item("runs", len(cell.rows), "runs", str(len(cell.rows))),
            Item("done", done, "done", str(done)),
        ]
        for prefix, stats, head, digits in (("accuracy", accuracy, "accuracy %", 2), ("ia", ia, "IA", 4)):
            line.append(Item(f"{prefix}_median", stats["median"], head, number(stats["median"], digits)))
            line += [Item(f"{prefix}_{name}", stats[name]) for name in ("n", "low", "high", "min", "max")]
        table.append([*line, Item("seconds_median", seconds, "seconds", number(seconds, 0))])
    return table_of(
        "settings",
        f"Every setting that was run: {len(cells)} of them, with {len(rows)} run directories.",
        table,
    )


def claims_table(claims: pd.DataFrame) -> Table:
    """The verdicts for people; claims.csv holds all columns."""
    rows = []
    for claim in claims.to_dict("records"):
        rows.append(
            [
                *(Item(name, claim[name]) for name in claims.columns),
                Item(None, head="verdict", text=claim["verdict"]),
                Item(None, head="claim", text=claim["words"]),
                Item(None, head="figure", text=claim["figure"]),
                Item(None, head="runs", text=_which(claim)),
                Item(None, head="found (95 % interval)", text=_found(claim)),
                Item(None, head="n", text=str(claim["n"])),
                Item(None, head="measured: where it should lie", text=f"{claim['statistic']}: {claim['rule']}"),
                Item(
                    None,
                    head="why",
                    text="; ".join(filter(None, (claim["reason"], _best_epoch(claim), claim["unlike_paper"]))),
                ),
            ]
        )
    return table_of("claims", f"The paper's claims: {count_verdicts(claims)}.", rows)


def provenance_table(rows: Sequence[Row]) -> Table:
    """What the done runs were made with: commit, whether it was changed, k-means engine, device, threads."""
    names = ("commit", "dirty", "engine", "device", "threads")
    cells = split([row for row in rows if row["state"] == "done"], names)
    table = [
        [
            *(
                Item(
                    name,
                    cell.settings[name],
                    "changed" if name == "dirty" else name,
                    _made_with(name, cell.settings[name]),
                )
                for name in names
            ),
            Item("runs", len(cell.rows), "runs", str(len(cell.rows))),
        ]
        for cell in cells
    ]
    return table_of("provenance", "What the done runs were made with.", table)


def slowest_table(rows: Sequence[Row], most: int = 10) -> Table:
    """The runs that took longest, all attempts together, and on what they spent it."""
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
    """state -> number of runs, in the order given, without those that are none."""
    found = [row["state"] for row in rows]
    return {state: found.count(state) for state in states if found.count(state)}


def _which(claim: dict[str, Any]) -> str:
    words = (claim["dataset"], claim["protocol"], claim["sobel"] and f"sobel {claim['sobel']}")
    return ", ".join(word for word in words if word)


def _found(claim: dict[str, Any]) -> str:
    return _measured(claim["statistic"], claim["value"], claim["low"], claim["high"])


def _best_epoch(claim: dict[str, Any]) -> str:
    """What the probe's best epoch says, where that is another verdict."""
    if claim["best_epoch"] in (None, claim["verdict"]):
        return ""
    numbers = (claim[f"best_epoch_{name}"] for name in ("value", "low", "high"))
    return f"by the best epoch {claim['best_epoch']}: {_measured(claim['statistic'], *numbers)}"


def _measured(statistic: str, value: float | None, low: float | None, high: float | None) -> str:
    """A statistic and its interval, as exact as is worth reading."""
    if value is None:
        return ""
    digits = 2 if max(abs(value), abs(low or 0)) >= 1 or "rho" in statistic else 3
    return number(value, digits) + ("" if low is None else f" ({span(low, high, digits)})")


def _made_with(name: str, value: object) -> str:
    if value is None:
        return _UNKNOWN
    if name == "dirty":
        return "yes" if value else "no"
    return str(value)[:12] if name == "commit" else shown(name, value)
