"""What makes the valley: the base and runs that differ from it in one setting, paired by seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dc_hpc.report.claims.measures import measured_mean
from dc_hpc.report.claims.rules import Measured
from dc_hpc.report.figures.questions.valley_arms import draw
from dc_hpc.report.frames.schema import setting_cell
from dc_hpc.report.panels.grouping import Cell, Row, group_columns, shown
from dc_hpc.report.panels.matching import of_planned_length, trained_rows
from dc_hpc.report.panels.panel import Comparison, FigureSources, PanelRows
from dc_hpc.report.questions.groups import (
    groups_apart_from,
    seeds_in_several,
)
from dc_hpc.report.questions.panel import QuestionPanel
from dc_hpc.report.questions.plans import PLANS
from dc_hpc.report.questions.question import Question, cell_of
from dc_hpc.report.tables.cell_items import POINT_DIGITS, SHARE_DIGITS, setting_items, visible_settings
from dc_hpc.report.tables.text_tables import Item, Table, number, span, table_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BASE = "base"
_STATISTIC = "mean fall of NMI with the truth, the base's less the arm's"
# What a table by cycle has beside NMI with the truth: its head and its decimals.
_COLLAPSE = {
    "nmi_prev": ("NMI, before", 3),
    "inertia_per_point": ("inertia", 3),
    "effective_rank": ("effective rank", 1),
    "nmi_brightness": ("NMI, brightness", 3),
}
Curves = Mapping[int, np.ndarray]  # seed -> NMI with the truth by cycle, float64 (cycles,)


@dataclass(frozen=True)
class ValleyArmsPanel(QuestionPanel):
    """NMI with the truth by cycle, for each arm, and how much less deep than the base's its valley is.

    The axis has the settings in which an arm may differ from the base, which is the baseline under the protocol of the
    plan. A run that differs in two of them is no arm. arms: those that the questions are about, as `lr 0.01`.
    """

    arms: tuple[str, ...] = ()

    def select(self, rows: Sequence[Row]) -> PanelRows:
        """The never-halted runs of each arm; probed or not, since the outcome is that of the clusterings."""
        never = [row for row in self.of_planned_seeds(trained_rows(self, rows)) if row.get("halt_cycle") is None]
        known = [
            (row, name) for row in of_planned_length(self, never, longer=False) if (name := self._arm(row)) is not None
        ]
        arms = {id(row): name for row, name in known}
        protocol = {"protocol": PLANS[self.name].protocol}  # the base's, though an arm may be of none
        found = []
        for group in groups_apart_from(self.axis, [row for row, _ in known]):
            kept = seeds_in_several([(arms[id(row)], row) for row in group.rows])
            names = sorted({arms[id(row)] for row in kept}, key=lambda name: (name != BASE, name))
            parts = {name: [row for row in kept if arms[id(row)] == name] for name in names}
            cells = [Cell(group.settings | protocol | {"arm": name}, part) for name, part in parts.items()]
            cells = [cell for cell in cells if any(row["state"] != "absent" for row in cell.rows)]
            if len(cells) > 1:
                found.append(Comparison(Cell(group.settings | protocol, kept), cells))
        return PanelRows(accuracy=found)

    def tables(self, rows: PanelRows) -> list[Table]:
        """A line for each arm; one for each arm and cycle; then the questions."""
        cells = rows.cells("accuracy")
        columns = group_columns(cells, ("arm",))
        visible = visible_settings(cells, columns, ("arm",))
        arms = [[*setting_items(cell, columns, visible), *_numbers(cell, rows.cycles)] for cell in cells]
        lines = [
            [
                *setting_items(cell, columns, visible),
                Item("cycle", cycle, "cycle", str(cycle), role="setting"),
                Item("nmi_true_n", len(values), "n", str(len(values))),
                Item("nmi_true_mean", float(np.mean(values)), "NMI, truth", number(float(np.mean(values)), 4)),
                Item("nmi_true_min", min(values), "least", number(min(values), SHARE_DIGITS)),
                Item("nmi_true_max", max(values), "most", number(max(values), SHARE_DIGITS)),
                *_means_at(cell, rows.cycles, cycle),
            ]
            for cell in cells
            for cycle, values in _by_cycle(curves(cell, rows.cycles)).items()
        ]
        what = "NMI with the truth at the first clustering and at the lowest, and accuracy (%), means"
        by_cycle = self.caption(
            "NMI with the truth, and what else a clustering shows, means by cycle", cells, columns, "nmi_true_last"
        )
        return [
            table_of(self.name, self.caption(what, cells, columns, "accuracy"), arms),
            table_of(f"{self.name}_cycles", by_cycle, lines),
            *self.answers(rows),
        ]

    def figure(self, rows: PanelRows, sources: FigureSources) -> Figure | None:
        """A line for each arm over the cycles."""
        found = [
            (one.group, {cell.settings["arm"]: _by_cycle(curves(cell, sources.cycles)) for cell in one.cells})
            for one in rows.accuracy
        ]
        return draw(self, found)

    def asks(self) -> list[Question]:
        """Of each arm: is its valley less deep than the base's?"""
        return [
            Question(
                arm.replace(" ", "_"), f"the valley is less deep with {arm}", _STATISTIC, _less_deep(arm), digits=3
            )
            for arm in self.arms
        ]

    def settings_run(self, rows: PanelRows) -> list[Comparison]:
        """All groups: the clusterings answer, so that runs need no accuracy."""
        return list(rows.accuracy)

    def _arm(self, row: Row) -> str | None:
        """`base`, or the setting in which a run differs from it; None where it differs in several."""
        expected = self.baseline_settings(PLANS[self.name].protocol)
        other = [name for name in self.axis if row.get(name) != setting_cell(name, expected[name])]
        if len(other) > 1:
            return None
        return f"{other[0]} {shown(other[0], row.get(other[0]))}" if other else BASE


def curves(cell: Cell, cycles: pd.DataFrame | None, column: str = "nmi_true") -> Curves:
    """A column by cycle, of each seed's run that clustered in all its cycles."""
    if cycles is None or cycles.empty or column not in cycles:
        return {}
    found = {}
    for seed, row in cell.runs("nmi_true_last").items():
        table = cycles[cycles["run_id"] == row["run_id"]].sort_values("cycle")
        values = table[column].to_numpy(dtype=float)
        if len(values) and np.isfinite(values).all():
            found[seed] = values
    return found


def fall(curve: np.ndarray) -> float:
    """The depth of the valley: NMI at cycle 0 less the lowest of all cycles."""
    return float(curve[0] - curve.min())


def _numbers(cell: Cell, cycles: pd.DataFrame | None) -> list[Item]:
    """What an arm's line has beside its settings: means over its runs."""
    found, brightness = curves(cell, cycles).values(), curves(cell, cycles, "nmi_brightness").values()
    accuracies = list(cell.values("accuracy").values())
    means = {
        "nmi_true_first_mean": ("NMI, first", [curve[0] for curve in found], 4),
        "nmi_true_lowest_mean": ("lowest", [curve.min() for curve in found], 4),
        "fall_mean": ("fall", [fall(curve) for curve in found], 4),
        "nmi_brightness_first_mean": ("NMI, brightness, first", [curve[0] for curve in brightness], 3),
        "nmi_brightness_last_mean": ("last", [curve[-1] for curve in brightness], 3),
        "accuracy_mean": ("accuracy %", accuracies, POINT_DIGITS),
    }
    items = [Item("nmi_true_n", len(found), "n", str(len(found)))]
    for name, (head, values, digits) in means.items():
        mean = float(np.mean(values)) if len(values) else None
        items.append(Item(name, mean, head, number(mean, digits)))
    low, high = min(accuracies, default=None), max(accuracies, default=None)
    return [
        *items,
        Item("accuracy_n", len(accuracies)),
        Item("accuracy_min", low),
        Item("accuracy_max", high),
        Item(None, head="range", text=span(low, high, POINT_DIGITS)),
    ]


def _by_cycle(found: Curves) -> dict[int, list[float]]:
    cycles = max((len(curve) for curve in found.values()), default=0)
    return {cycle: [float(curve[cycle]) for curve in found.values() if len(curve) > cycle] for cycle in range(cycles)}


def _means_at(cell: Cell, cycles: pd.DataFrame | None, cycle: int) -> list[Item]:
    """Means over the runs of what shows how the features collapse; none at the first clustering of NMI with before."""
    assert cycles is not None, "a cycle is that of a curve"
    names = {row["run_id"] for row in cell.runs("nmi_true_last").values()}
    found = cycles[cycles["run_id"].isin(names) & (cycles["cycle"] == cycle)]
    items = []
    for name, (head, digits) in _COLLAPSE.items():
        values = found[name].dropna().astype(float) if name in found else pd.Series(dtype=float)
        mean = float(values.mean()) if len(values) else None
        items.append(Item(f"{name}_mean", mean, head, number(mean, digits)))
    return items


def _less_deep(arm: str) -> Callable[[Comparison, PanelRows], Measured]:
    def measure(one: Comparison, rows: PanelRows) -> Measured:
        base, found = (curves(cell_of(one, name), rows.cycles) for name in (BASE, arm))
        less = [fall(base[seed]) - fall(found[seed]) for seed in found if seed in base]
        return measured_mean(less, lacks="no seed with the base and this arm")

    return measure
