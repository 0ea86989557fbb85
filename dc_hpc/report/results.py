"""The tables of a panel: what was found, with n, spread and what is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from dc_hpc.experiment.config import NETS
from dc_hpc.report.groups import (
    ACCURACY,
    ALIGNMENT,
    Cell,
    Row,
    fields_of,
    group_columns,
    label,
    median,
    order,
    setting,
    shown,
    split,
)
from dc_hpc.report.paper import ENTRIES, Panel
from dc_hpc.report.selection import alignment_rows, axis_cells, seeds_text, select, setting_groups
from dc_hpc.report.statistics import describe, spearman, spearman_interval
from dc_hpc.report.texttables import Table, number, span

STATISTICS = ("n", "median", "q25", "q75", "iqr", "min", "max", "mean", "sd", "low", "high")
TRAINING = ("random net", "clustered", "supervised")
_FEW = ("n", "median", "95 % interval", "quartiles", "range")
_OTHER_ACCURACIES = ("accuracy_best", "accuracy_batch_mean")
_AGREEMENTS = ("ia", "ia_ami", "ia_chance", "nmi_true_last", "ami_true_last", "nmi_prev_last", "ami_prev_last")


def tables_of(panel: Panel, rows: Sequence[Row], absent: Sequence[Row] = ()) -> list[Table]:
    """The tables of a panel, the first under its own name; none when it has no run.

    rows: of `tables.records`. absent: the runs that its grids ask for and that have no directory.
    """
    builders: dict[str, Callable[[Panel, list[Row]], list[Table]]] = {
        "search": _search, "features": _features, "relation": _relation, "accuracy": _along_axis,
        "alignment": _along_axis, "both": _both, "layers": _layers, "curves": _curves,
    }  # fmt: skip
    tables = builders[panel.kind](panel, [*rows, *absent])
    return [table for table in tables if table.lines]


def title_of(panel: Panel) -> str:
    """The entry's title, with the panel's letter where it is one of several."""
    entry = next(entry for entry in ENTRIES.values() if panel in entry.panels)
    if len(entry.panels) == 1 or not panel.name.startswith(("fig_", "table_")):
        return entry.title
    number, colon, rest = entry.title.partition(":")
    return f"{number}{panel.name[-1]}{colon}{rest}"


def pairs(group: Cell) -> list[tuple[int, float, float]]:
    """(seed, ia, accuracy) of the runs of a group that have both, by seed."""
    first, second = group.values("ia"), group.values("accuracy")
    return [(seed, first[seed], second[seed]) for seed in first if seed in second]


def relation_groups(panel: Panel, rows: Sequence[Row]) -> list[tuple[Cell, Cell]]:
    """(the runs with an accuracy, all runs with the same IA settings) of each setting; the first may be empty."""
    groups = setting_groups(panel, select(panel, rows), "accuracy")
    alignments = split(alignment_rows(panel, rows), ALIGNMENT)
    return _joined(groups, alignments)


def both_cells(panel: Panel, rows: Sequence[Row]) -> list[tuple[Cell, Cell]]:
    """(accuracy cell, IA cell) of each value of the axis and each setting; the first may be empty."""
    accuracy = [cell for group in setting_groups(panel, select(panel, rows), "accuracy")
                for cell in axis_cells(panel, group)]  # fmt: skip
    alignments = [cell for group in setting_groups(panel, alignment_rows(panel, rows), "ia")
                  for cell in axis_cells(panel, group)]  # fmt: skip
    return _joined(accuracy, alignments)


def layer_cells(panel: Panel, rows: Sequence[Row]) -> list[Cell]:
    """Random, clustered and supervised nets, each setting a cell; `k` counts only where something was clustered."""
    marked = []
    for row in select(panel, rows):
        training = TRAINING[2] if row["labels"] else TRAINING[1] if row["cycles"] else TRAINING[0]
        marked.append(row | {"training": training} | ({} if training == TRAINING[1] else {"k": None}))
    fields = ("training", *(name for name in ACCURACY if name not in ("probe", "labels")))
    cells = split([row for row in marked if row["k"] is None or _paper_k(panel, row)], fields)
    return sorted(cells, key=lambda cell: TRAINING.index(cell.settings["training"]))


def layers_of(cells: Sequence[Cell]) -> list[str]:
    """The layers that any run of the cells was probed at, in the order of the net."""
    probed = {name.removeprefix("accuracy_") for cell in cells for row in cell.rows for name, value in row.items()
              if name.startswith("accuracy_") and value is not None}  # fmt: skip
    return [layer for layer in NETS[cells[0].settings["net"]].layers if layer in probed] if cells else []


def search_cells(group: Cell) -> list[Cell]:
    """The settings of a search, best median accuracy first, of the seed (or seeds) with the most settings."""
    axis = [name for name in ACCURACY if name not in group.settings]
    settings: dict[int, set[tuple]] = {}
    for row in group.rows:
        if row["state"] != "absent":
            settings.setdefault(row["seed"], set()).add(tuple(setting(row, name) for name in axis))
    most = max((len(found) for found in settings.values()), default=0)
    seeds = {seed for seed, found in settings.items() if len(found) == most}
    cells = split([row for row in group.rows if row["seed"] in seeds], axis)
    known = [(median(cell.values("accuracy").values()), cell) for cell in cells]
    ranked = sorted((pair for pair in known if pair[0] is not None), key=lambda pair: -pair[0])
    return [cell for _, cell in ranked]


def _along_axis(panel: Panel, rows: list[Row]) -> list[Table]:
    value = "ia" if panel.kind == "alignment" else "accuracy"
    groups = setting_groups(panel, select(panel, rows), value)
    cells = [cell for group in groups for cell in axis_cells(panel, group)]
    extras = ("ia_ami", "ia_chance") if value == "ia" else _OTHER_ACCURACIES
    columns = group_columns(cells, panel.axis)
    varying = _varying(cells, columns, panel.axis)
    digits = 4 if value == "ia" else 2
    exact, lines, heads = [], [], [*varying, *_FEW]
    for cell in cells:
        stats, medians = describe(list(cell.values(value).values())), [median(cell.values(x).values()) for x in extras]
        printed = panel.paper.get(cell.settings.get(panel.axis[0]))
        missing = cell.missing(value)
        exact.append([*_settings(cell, columns), *(stats[name] for name in STATISTICS), *medians, printed,
                      " ".join(str(seed) for seed in missing)])  # fmt: skip
        line = [*(shown(name, cell.settings[name]) for name in varying), *_few(stats, digits)]
        line += [number(m, digits) for m in medians] if value == "ia" else []
        line += [number(printed, digits)] if panel.paper else []
        lines.append([*line, seeds_text(missing) if missing else ""])
    heads += (["AMI", "chance"] if value == "ia" else []) + (["paper"] if panel.paper else []) + ["missing"]
    what = "Initial Alignment (NMI)" if value == "ia" else "accuracy (%)"
    caption = _caption(panel, what, cells, columns, value)
    head = [*columns, *STATISTICS, *(f"{name}_median" for name in extras), "paper", "missing"]
    return [Table(panel.name, caption, head, exact, *_without_empty(heads, lines))]


def _relation(panel: Panel, rows: list[Row]) -> list[Table]:
    joined = relation_groups(panel, rows)
    cells = [group if group.rows else alignment for group, alignment in joined]
    columns = group_columns(cells)
    varying = _varying(cells, columns, ())
    exact, lines, points = [], [], []
    for (group, alignment), cell in zip(joined, cells):
        found = pairs(group)
        ia, accuracy = [x for _, x, _ in found], [y for _, _, y in found]
        rho, interval = spearman(ia, accuracy), spearman_interval(ia, accuracy)
        stats, every = describe(accuracy), describe(list(alignment.values("ia").values()))
        extra = [median(alignment.values(name).values()) for name in ("ia_ami", "ia_chance")]
        missing = group.missing("accuracy")
        exact.append([*_settings(cell, columns), len(found), rho, interval and interval.low, interval and interval.high,
                      *(stats[name] for name in STATISTICS[1:]), *(every[name] for name in STATISTICS), *extra,
                      " ".join(str(seed) for seed in missing)])  # fmt: skip
        lines.append([*(shown(name, cell.settings.get(name)) for name in varying), str(len(found)), number(rho, 2),
                      span(interval and interval.low, interval and interval.high, 2), number(stats["median"], 2),
                      str(every["n"]), number(every["median"], 4), span(every["min"], every["max"], 4),
                      *(number(value, 4) for value in extra), seeds_text(missing) if missing else ""])  # fmt: skip
        points += [[*_settings(cell, columns), *point] for point in found]
    heads = [*varying, "n", "rho", "95 % interval", "accuracy %", "n of IA", "IA median", "range", "AMI", "chance", "missing"]
    head = [*columns, "n", "rho", "rho_low", "rho_high", *(f"accuracy_{name}" for name in STATISTICS[1:]),
            *(f"ia_{name}" for name in STATISTICS), "ia_ami_median", "ia_chance_median", "missing"]  # fmt: skip
    caption = _caption(panel, "Spearman's rho of IA and accuracy", cells, columns, "accuracy")
    dots = [[str(cell) if isinstance(cell, int | str) else f"{cell:.4f}" for cell in point[-3:]] for point in points]
    return [
        Table(panel.name, caption, head, exact, *_without_empty(heads, lines)),
        Table(f"{panel.name}_points", f"{caption} Each run.", [*columns, "seed", "ia", "accuracy"], points,
              ["seed", "IA", "accuracy %"], dots),
    ]  # fmt: skip


def _both(panel: Panel, rows: list[Row]) -> list[Table]:
    joined = both_cells(panel, rows)
    cells = [cell if cell.rows else alignment for cell, alignment in joined]
    columns = group_columns(cells, panel.axis)
    varying = _varying(cells, columns, panel.axis)
    exact, lines = [], []
    for (accuracy, alignment), cell in zip(joined, cells):
        ia, stats = (describe(list(part.values(name).values())) for part, name in ((alignment, "ia"), (accuracy, "accuracy")))
        extra = [median(alignment.values(name).values()) for name in ("ia_ami", "ia_chance")]
        missing = accuracy.missing("accuracy")
        exact.append([*_settings(cell, columns), *(ia[name] for name in STATISTICS), *extra,
                      *(stats[name] for name in STATISTICS), " ".join(str(seed) for seed in missing)])  # fmt: skip
        lines.append([*(shown(name, cell.settings.get(name)) for name in varying), str(ia["n"]), number(ia["median"], 4),
                      *(number(value, 4) for value in extra), *_few(stats, 2)[:2], span(stats["low"], stats["high"], 2),
                      span(stats["min"], stats["max"], 2), seeds_text(missing) if missing else ""])  # fmt: skip
    heads = [*varying, "n of IA", "IA median", "AMI", "chance", "n", "accuracy %", "95 % interval", "range", "missing"]
    head = [*columns, *(f"ia_{name}" for name in STATISTICS), "ia_ami_median", "ia_chance_median",
            *(f"accuracy_{name}" for name in STATISTICS), "missing"]  # fmt: skip
    caption = _caption(panel, "median IA and accuracy (%)", cells, columns, "accuracy")
    return [Table(panel.name, caption, head, exact, *_without_empty(heads, lines))]


def _layers(panel: Panel, rows: list[Row]) -> list[Table]:
    cells = layer_cells(panel, rows)
    columns = ["training", *(name for name in group_columns(cells) if name not in ("training", "cycles"))]
    varying = [name for name in columns if name == "training" or name in _varying(cells, columns, ())]
    exact, lines = [], []
    for cell in cells:
        for layer in layers_of(cells):
            stats = describe(list(cell.values(f"accuracy_{layer}").values()))
            if stats["n"]:
                exact.append([*_settings(cell, columns), cell.settings["cycles"], layer,
                              *(stats[name] for name in STATISTICS)])  # fmt: skip
                lines.append([*(shown(name, cell.settings[name]) for name in varying), str(cell.settings["cycles"]),
                              layer, *_few(stats, 2)])  # fmt: skip
    caption = _caption(panel, "accuracy (%) by probed layer", cells, [c for c in columns if c != "training"], "accuracy")
    return [Table(panel.name, caption, [*columns, "cycles", "layer", *STATISTICS], exact,
                  *_without_empty([*varying, "cycles", "layer", *_FEW], lines))]  # fmt: skip


def _curves(panel: Panel, rows: list[Row]) -> list[Table]:
    cells = setting_groups(panel, select(panel, rows), "accuracy")
    columns = group_columns(cells)
    varying = _varying(cells, columns, ())
    exact, lines = [], []
    for cell in cells:
        medians = [median(cell.values(name).values()) for name in _AGREEMENTS]
        n = len(cell.values("nmi_true_last"))
        exact.append([*_settings(cell, columns), n, *medians])
        lines.append([*(shown(name, cell.settings[name]) for name in varying), str(n), *(number(m, 4) for m in medians)])
    caption = _caption(panel, "medians at the first clustering (ia) and at the last", cells, columns, "nmi_true_last")
    return [Table(panel.name, caption, [*columns, "n", *(f"{name}_median" for name in _AGREEMENTS)], exact,
                  *_without_empty([*varying, "n", "IA", "IA, AMI", "IA chance", "NMI true", "AMI true", "NMI prev",
                                   "AMI prev"], lines))]  # fmt: skip


def _features(panel: Panel, rows: list[Row]) -> list[Table]:
    runs = feature_runs(panel, rows)
    columns = ["run_id", "dataset", "protocol", "sobel", "net", "k", "pca", "seed", "ia", "ia_ami", "ia_chance"]
    exact = [[row.get(name) for name in columns] for row in runs]
    lines = [[*(shown(name, row.get(name)) for name in columns[1:8]), *(number(row.get(x), 4) for x in columns[8:])]
             for row in runs]  # fmt: skip
    sets = ", ".join(dict.fromkeys(row["dataset"] for row in runs))
    caption = f"{title_of(panel)}. {sets}; n = 1 net each."
    return [Table(panel.name, caption, columns, exact, [*columns[1:8], "IA", "AMI", "chance"], lines)]


def feature_runs(panel: Panel, rows: Sequence[Row]) -> list[Row]:
    """The done run with features of its first cycle, one of each data set, protocol and Sobel: the lowest seed."""
    found: dict[tuple, Row] = {}
    done = [row for row in select(panel, rows) if row["state"] == "done" and row.get("features") != "none"]
    for row in sorted(done, key=lambda row: (row["cycles"], row["seed"], row["run_id"])):
        found.setdefault((row["dataset"], row["protocol"], row["sobel"]), row)
    return list(found.values())


def _search(panel: Panel, rows: list[Row]) -> list[Table]:
    groups = [(group, search_cells(group)) for group in setting_groups(panel, select(panel, rows), "accuracy")]
    ranked = [Cell(group.settings | cell.settings, cell.rows) for group, cells in groups for cell in cells]
    columns = group_columns(ranked, panel.axis)
    fixed = [name for name in columns if name not in panel.axis]
    baseline = _baseline(panel)
    values, lines = [], []
    for group, cells in groups:
        for name in panel.axis:
            for value, inside in _by_value(cells, name):
                best = [median(cell.values("accuracy").values()) for cell in inside]
                marks = ("paper" if value == baseline[name] else "", "ours" if cells[0].settings[name] == value else "")
                values.append([*_settings(group, fixed), name, value, len(best), best[0], median(best), *marks])
                lines.append([*(shown(f, group.settings[f]) for f in _varying(ranked, fixed, ())), name, shown(name, value),
                              str(len(best)), number(best[0], 2), number(median(best), 2), *marks])  # fmt: skip
    caption = _caption(panel, "accuracy (%) of the best and of the median setting with each value", ranked, fixed, "accuracy")
    exact = [[*_settings(cell, columns), *(describe(list(cell.values("accuracy").values()))[s] for s in STATISTICS[:2]),
              median(cell.values("ia").values())] for cell in ranked]  # fmt: skip
    short = [[*(shown(name, cell.settings[name]) for name in (*_varying(ranked, fixed, ()), *panel.axis)), str(row[-3]),
              number(row[-2], 2), number(row[-1], 4)] for cell, row in zip(ranked, exact)]  # fmt: skip
    heads = [*_varying(ranked, fixed, ()), *panel.axis]
    return [
        Table(panel.name, caption, [*fixed, "setting", "value", "settings", "best", "median", "paper", "ours"], values,
              [*_varying(ranked, fixed, ()), "setting", "value", "settings", "best %", "median %", "paper's", "best one's"],
              lines),
        Table(f"{panel.name}_settings", f"{caption} Every setting.", [*columns, "n", "accuracy", "ia"], exact,
              [*heads, "n", "accuracy %", "IA"], short),
    ]  # fmt: skip
