"""The tables of a panel: what was found, with n and spread, beside what the paper prints."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from dc_hpc.config.baselines import BASELINES
from dc_hpc.report.frames.schema import setting_cell
from dc_hpc.report.panels.comparisons import (
    axis_groups,
    both_cells,
    by_value,
    feature_runs,
    layer_cells,
    layers_of,
    pairs,
    relation_cells,
    search_cells,
)
from dc_hpc.report.panels.grouping import Cell, Row, group_columns, label, median, shown, varying_settings
from dc_hpc.report.panels.matching import seeds_text, select_runs, setting_groups
from dc_hpc.report.panels.paper import ENTRIES, Panel
from dc_hpc.report.statistics import describe, spearman, spearman_interval
from dc_hpc.report.text_tables import Item, Table, number, span, table_of

# Runs that vary one hyperparameter are no search, nor is a trial with a tenth of the settings of the largest.
_FRAGMENT = 10
_POINTS, _SHARE = 2, 4  # decimals of an accuracy in percent, and of an NMI
_RUNS = {"relation": "runs with an accuracy", "both": "runs with an accuracy"}
_EXACT = ("q25", "q75", "iqr", "min", "max", "mean", "sd", "low", "high")
_CURVE_ENDS = {
    "ia": "IA", "ia_ami": "IA, AMI", "ia_chance": "chance", "nmi_true_last": "NMI, truth",
    "ami_true_last": "AMI, truth", "nmi_prev_last": "NMI, before", "ami_prev_last": "AMI, before",
}  # fmt: skip


def tables_of(panel: Panel, rows: Sequence[Row], absent: Sequence[Row] = ()) -> list[Table]:
    """The tables of a panel, the first under its own name; none when it has no run.

    rows: of `tables.records`. absent: the runs that its grids ask for and that have no directory.
    """
    builders: dict[str, Callable[[Panel, list[Row]], list[Table]]] = {
        "search": _search,
        "features": _features,
        "relation": _relation,
        "accuracy": _along_axis,
        "alignment": _along_axis,
        "both": _both,
        "layers": _layers,
        "curves": _curves,
    }
    return [table for table in builders[panel.kind](panel, [*rows, *absent]) if table.rows]


def title_of(panel: Panel) -> str:
    """The entry's title, with the panel's letter where it is one of several of the paper."""
    entry = next(entry for entry in ENTRIES.values() if panel in entry.panels)
    if len(entry.panels) == 1 or entry.section == "ours" or not panel.name.startswith(("fig_", "table_")):
        return entry.title
    head, colon, rest = entry.title.partition(":")
    return f"{head}{panel.name[-1]}{colon}{rest}"


def _along_axis(panel: Panel, rows: list[Row]) -> list[Table]:
    value = "ia" if panel.kind == "alignment" else "accuracy"
    cells = [cell for _, found in axis_groups(panel, rows, value) for cell in found]
    columns = group_columns(cells, panel.axis)
    seen, table = _seen(cells, columns, panel.axis), []
    for cell in cells:
        line = [*_settings(cell, columns, seen), *_statistics(cell, value)]
        if value == "ia":
            line += _medians(cell, {"ia_ami": "AMI", "ia_chance": "chance"})
        else:
            # beside the last epoch's: that one swings by as much as many figures show
            best, batches = (median(cell.values(name).values()) for name in ("accuracy_best", "accuracy_batch_mean"))
            line.append(Item("accuracy_best_median", best, "best epoch %", number(best, _POINTS)))
            line.append(Item("accuracy_batch_mean_median", batches))
            printed = panel.paper.get(cell.settings[panel.axis[0]])
            line.append(Item("paper", printed, "paper", number(printed, _POINTS)))
        table.append([*line, *_missing(cell, value)])
    what = f"{'Initial Alignment (NMI)' if value == 'ia' else 'accuracy (%)'} by {panel.axis[0]}"
    return [table_of(panel.name, _caption(panel, what, cells, columns, value), table)]


def _relation(panel: Panel, rows: list[Row]) -> list[Table]:
    joined = relation_cells(panel, rows)
    cells = [group if group.rows else alignment for group, alignment in joined]
    columns = group_columns(cells)
    seen, table, dots = _seen(cells, columns), [], []
    for (group, alignment), cell in zip(joined, cells):
        found, settings = pairs(group), _settings(cell, columns, seen)
        ia, accuracy = [x for _, x, _ in found], [y for _, _, y in found]
        rho, interval = spearman(ia, accuracy), spearman_interval(ia, accuracy)
        low, high = interval or (None, None)
        table.append(
            [
                *settings,
                Item("pairs", len(found), "n", str(len(found))),
                Item("rho", rho, "rho", number(rho, 2)),
                Item("rho_low", low),
                Item("rho_high", high),
                Item(None, head="95 % interval", text=span(low, high, 2)),
                *_statistics(group, "accuracy", "accuracy_", few=True),
                *_statistics(alignment, "ia", "ia_", few=True),
                *_medians(alignment, {"ia_ami": "AMI", "ia_chance": "chance"}),
                *_missing(group, "accuracy"),
            ]
        )
        dots += [
            [
                *settings,
                Item("seed", seed, "seed", str(seed)),
                Item("ia", x, "IA", number(x, _SHARE)),
                Item("accuracy", y, "accuracy %", number(y, _POINTS)),
            ]
            for seed, x, y in found
        ]
    caption = _caption(panel, "Spearman's rho of IA and accuracy over runs", cells, columns, "accuracy")
    return [
        table_of(panel.name, caption, table),
        table_of(f"{panel.name}_points", f"{caption} Each run.", dots),
    ]


def _both(panel: Panel, rows: list[Row]) -> list[Table]:
    joined = both_cells(panel, rows)
    cells = [cell if cell.rows else alignment for cell, alignment in joined]
    columns = group_columns(cells, panel.axis)
    seen = _seen(cells, columns, panel.axis)
    table = [
        [
            *_settings(cell, columns, seen),
            *_statistics(alignment, "ia", "ia_", few=True),
            *_medians(alignment, {"ia_ami": "AMI", "ia_chance": "chance"}),
            *_statistics(accuracy, "accuracy", "accuracy_"),
            *_missing(accuracy, "accuracy"),
        ]
        for (accuracy, alignment), cell in zip(joined, cells)
    ]
    what = f"median IA and accuracy (%) by {panel.axis[0]}"
    return [table_of(panel.name, _caption(panel, what, cells, columns, "accuracy"), table)]


def _layers(panel: Panel, rows: list[Row]) -> list[Table]:
    cells = layer_cells(panel, rows)
    columns = [name for name in group_columns(cells) if name not in ("training", "cycles")]
    seen, table = _seen(cells, columns), []
    for cell in cells:
        training, cycles = cell.settings["training"], cell.settings["cycles"]
        for layer in layers_of(cells):
            if cell.values(f"accuracy_{layer}"):
                table.append(
                    [
                        *_settings(cell, columns, seen),
                        Item("training", training, "net", training),
                        Item("cycles", cycles, "cycles", str(cycles)),
                        Item("layer", layer, "layer", layer),
                        *_statistics(cell, f"accuracy_{layer}"),
                    ]
                )
    caption = _caption(panel, "accuracy (%) by probed layer", cells, columns, "accuracy")
    return [table_of(panel.name, caption, table)] if len(table) > 1 else []  # one line compares nothing


def _curves(panel: Panel, rows: list[Row]) -> list[Table]:
    cells = setting_groups(panel, select_runs(panel, rows), "accuracy")
    columns = group_columns(cells)
    seen, table = _seen(cells, columns), []
    for cell in cells:
        n = len(cell.values("nmi_true_last"))
        table.append([*_settings(cell, columns, seen), Item("n", n, "n", str(n)), *_medians(cell, _CURVE_ENDS)])
    caption = _caption(panel, "medians at the first clustering (IA) and at the last", cells, columns, "nmi_true_last")
    return [table_of(panel.name, caption, table)]


def _features(panel: Panel, rows: list[Row]) -> list[Table]:
    runs = feature_runs(panel, rows)
    words = ("dataset", "protocol", "sobel", "net", "k", "pca", "seed")
    table = [
        [
            Item("run_id", row["run_id"]),
            *(Item(name, row[name], name, shown(name, row[name])) for name in words),
            *(
                Item(name, row[name], head, number(row[name], _SHARE))
                for name, head in (("ia", "IA"), ("ia_ami", "AMI"), ("ia_chance", "chance"))
            ),
        ]
        for row in runs
    ]
    sets = ", ".join(dict.fromkeys(row["dataset"] for row in runs))
    return [table_of(panel.name, f"{title_of(panel)}. {sets}: n = 1 net a line.", table)]


def _search(panel: Panel, rows: list[Row]) -> list[Table]:
    groups = [search_cells(group) for group in setting_groups(panel, select_runs(panel, rows), "accuracy")]
    groups = [cells for cells in groups if len(varying_settings(cells, panel.axis)) > 1]
    most = max((len(cells) for cells in groups), default=0)
    groups = [cells for cells in groups if len(cells) > most / _FRAGMENT]
    ranked = [cell for cells in groups for cell in cells]
    columns = group_columns(ranked, panel.axis)
    fixed = [name for name in columns if name not in panel.axis]
    seen = _seen(ranked, columns, panel.axis)
    table = [[*_settings(cells[0], fixed, seen), *line] for cells in groups for line in _marginals(panel, cells)]
    every = []
    for cell in ranked:
        found, ia = cell.values("accuracy"), median(cell.values("ia").values())
        accuracy = median(found.values())
        every.append(
            [
                *_settings(cell, columns, seen),
                Item("n", len(found), "n", str(len(found))),
                Item("accuracy", accuracy, "accuracy %", number(accuracy, _POINTS)),
                Item("ia", ia, "IA", number(ia, _SHARE)),
            ]
        )
    seeds = sorted({seed for cell in ranked for seed in cell.values("accuracy")})
    caption = _caption(panel, "accuracy (%)", ranked, fixed, "accuracy")
    caption += f" {len(ranked)} settings, {seeds_text(seeds)}."
    return [
        table_of(panel.name, f"{caption} Best and median setting with each value.", table),
        table_of(f"{panel.name}_settings", f"{caption} Best first.", every),
    ]


def _marginals(panel: Panel, cells: Sequence[Cell]) -> Iterable[list[Item]]:
    """For each value of each hyperparameter, the best and the median setting with it. cells: best first."""
    baseline = BASELINES[panel.base]
    for name in panel.axis:
        for value, inside in by_value(cells, name):
            found = [accuracy for cell in inside if (accuracy := median(cell.values("accuracy").values())) is not None]
            middle = median(found)
            paper = "x" if value == setting_cell(name, baseline[name]) else ""
            ours = "x" if value == cells[0].settings[name] else ""
            yield [
                Item("setting", name, "setting", name),
                Item("value", shown(name, value), "value", shown(name, value)),
                Item("settings", len(found), "settings", str(len(found))),
                Item("best", found[0], "best %", number(found[0], _POINTS)),
                Item("median", middle, "median %", number(middle, _POINTS)),
                Item("paper", paper, "paper's", paper),
                Item("ours", ours, "best one's", ours),
            ]


def _settings(cell: Cell, columns: Sequence[str], seen: Sequence[str]) -> list[Item]:
    """The settings of a row. seen: those that people see; the others are in the caption."""
    items = []
    for name in columns:
        known = name in cell.settings
        value = cell.settings.get(name)
        text = shown(name, value) if known else ""
        # For programs as in a frame, but `never` and `off`, where an empty cell could mean anything.
        items.append(Item(name, text if value is None else value, name if name in seen else None, text))
    return items


def _seen(cells: Sequence[Cell], columns: Sequence[str], axis: Sequence[str] = ()) -> list[str]:
    """The settings to show in each row: those that vary, and the axis."""
    varying = varying_settings(cells, columns)
    return [name for name in columns if name in axis or name in varying]


def _statistics(cell: Cell, value: str, prefix: str = "", few: bool = False) -> list[Item]:
    """describe() of a number over the seeds; people see n, median, interval, quartiles and range, or few."""
    stats = describe(list(cell.values(value).values()))
    agreement = value.startswith("ia")
    digits, head = (_SHARE, "IA") if agreement else (_POINTS, "accuracy %")
    spread = "IA range" if prefix == "ia_" else "range"
    n_head = "n of IA" if prefix == "ia_" else None if few else "n"
    one = (stats["n"] or 0) < 2

    def ends(head: str, low: str, high: str) -> Item:
        return Item(None, head=head, text="" if one else span(stats[low], stats[high], digits))

    return [
        Item(f"{prefix}n", stats["n"], n_head, str(stats["n"])),
        Item(f"{prefix}median", stats["median"], head, number(stats["median"], digits)),
        *([] if few else [ends("95 % interval", "low", "high"), ends("quartiles", "q25", "q75")]),
        ends(spread, "min", "max"),
        *(Item(f"{prefix}{name}", stats[name]) for name in _EXACT),
    ]


def _medians(cell: Cell, heads: dict[str, str]) -> list[Item]:
    found = {name: median(cell.values(name).values()) for name in heads}
    return [Item(f"{name}_median", found[name], head, number(found[name], _SHARE)) for name, head in heads.items()]


def _missing(cell: Cell, value: str) -> list[Item]:
    seeds = cell.missing(value)
    text = seeds_text(seeds, 3) if seeds else ""
    return [Item("missing", " ".join(str(seed) for seed in seeds), "missing", text)]


def _caption(panel: Panel, what: str, cells: Sequence[Cell], columns: Sequence[str], value: str) -> str:
    """Title, number, the settings that all cells share, and n: one line."""
    if not cells:
        return title_of(panel)
    varies = varying_settings(cells, columns)
    named = dict.fromkeys((*columns, *panel.fixed))
    shared = [name for name in named if name in cells[0].settings and name not in (*varies, *panel.axis)]
    varying = [name for name in ("dataset", "protocol") if name in varies]
    sets = ", ".join(dict.fromkeys(str(cell.settings[name]) for name in varying for cell in cells))
    counts = [len(cell.values(value)) for cell in cells]
    n = f"n = {min(counts)}" + (f" to {max(counts)}" if max(counts) > min(counts) else "")
    n += f" {_RUNS.get(panel.kind, 'run' if max(counts) == 1 else 'runs')} a line"
    where = "; ".join(part for part in (sets, label(cells[0].settings, shared)) if part)
    return f"{title_of(panel)}: {what}. {where}; {n}."
