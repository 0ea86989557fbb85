"""The hyperparameter search (Table 1): settings ranked by accuracy."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dc_hpc.config.baselines import BASELINES
from dc_hpc.report.frames.schema import setting_cell
from dc_hpc.report.panels.grouping import (
    ACCURACY,
    Cell,
    Row,
    group_columns,
    median,
    order,
    setting,
    shown,
    split,
    varying_settings,
)
from dc_hpc.report.panels.matching import accuracy_rows
from dc_hpc.report.panels.panel import Comparison, FigureSources, Panel, PanelRows
from dc_hpc.report.tables.cell_items import POINT_DIGITS, SHARE_DIGITS, seeds_text, setting_items, visible_settings
from dc_hpc.report.tables.text_tables import Item, Table, number, table_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# A trial with a tenth of the settings of the largest search is no search.
_FRAGMENT = 10


@dataclass(frozen=True)
class SearchPanel(Panel):
    """A search over hyperparameters: the axis names those that were searched."""

    def select(self, rows: Sequence[Row]) -> PanelRows:
        """The trained and probed runs by what was not searched; the cells of each are the settings, best first."""
        groups = split(accuracy_rows(self, rows), [name for name in ACCURACY if name not in self.axis])
        return PanelRows(accuracy=[Comparison(group, _ranked(group)) for group in groups])

    def members(self, rows: PanelRows, asked: Collection[str]) -> list[Row]:
        """The runs of the search's grids: any sweep over hyperparameters would look like a search."""
        return [row for row in super().members(rows, asked) if row["run_id"] in asked]

    def tables(self, rows: PanelRows) -> list[Table]:
        """The best and the median setting with each value of each hyperparameter; then every setting."""
        searches = self._searches(rows)
        ranked = [cell for cells in searches for cell in cells]
        columns = group_columns(ranked, self.axis)
        fixed = [name for name in columns if name not in self.axis]
        visible = visible_settings(ranked, columns, self.axis)
        lines = [
            [*setting_items(cells[0], fixed, visible), *line] for cells in searches for line in self._by_value(cells)
        ]
        every = [[*setting_items(cell, columns, visible), *_result_items(cell)] for cell in ranked]
        seeds = sorted({seed for cell in ranked for seed in cell.values("accuracy")})
        caption = self.caption("accuracy (%)", ranked, fixed, "accuracy")
        caption += f" {len(ranked)} settings, {seeds_text(seeds)}."
        return [
            table_of(self.name, f"{caption} Best and median setting with each value.", lines),
            table_of(f"{self.name}_settings", f"{caption} Best first.", every),
        ]

    def figure(self, rows: PanelRows, sources: FigureSources) -> Figure | None:
        """None: the paper has a table only."""
        return None

    def _searches(self, rows: PanelRows) -> list[list[Cell]]:
        """The ranked settings of each search. Runs that vary one hyperparameter are no search."""
        searches = [cells for _, cells in rows.accuracy if len(varying_settings(cells, self.axis)) > 1]
        most = max((len(cells) for cells in searches), default=0)
        return [cells for cells in searches if len(cells) > most / _FRAGMENT]

    def _by_value(self, cells: Sequence[Cell]) -> Iterable[list[Item]]:
        """For each value of each hyperparameter, the best and the median setting with it. cells: best first."""
        baseline = BASELINES[self.base]
        for name in self.axis:
            for value, inside in _split_by(cells, name):
                found = [accuracy for cell in inside if (accuracy := _accuracy(cell)) is not None]
                middle = median(found)
                paper = "x" if value == setting_cell(name, baseline[name]) else ""
                ours = "x" if value == cells[0].settings[name] else ""
                yield [
                    Item("setting", name, "setting", name, role="setting"),
                    Item("value", shown(name, value), "value", shown(name, value), role="setting"),
                    Item("settings", len(found), "settings", str(len(found))),
                    Item("accuracy_max", found[0], "best %", number(found[0], POINT_DIGITS)),
                    Item("accuracy_median", middle, "median %", number(middle, POINT_DIGITS)),
                    Item("paper", paper, "paper's", paper),
                    Item("ours", ours, "best one's", ours),
                ]


def _ranked(group: Cell) -> list[Cell]:
    """The settings of a search, best median accuracy first, of the seed (or seeds) that was run with the most of them.

    The paper searches with one seed. Other figures share the baseline with their own seeds. Those would count for the
    baseline only.
    """
    searched = [name for name in ACCURACY if name not in group.settings]
    settings: dict[int, set[tuple[Any, ...]]] = {}
    for row in group.rows:
        if row["state"] != "absent":
            settings.setdefault(row["seed"], set()).add(tuple(setting(row, name) for name in searched))
    most = max((len(found) for found in settings.values()), default=0)
    seeds = {seed for seed, found in settings.items() if len(found) == most}
    cells = split([row for row in group.rows if row["seed"] in seeds], searched)
    known = [(accuracy, cell) for cell in cells if (accuracy := _accuracy(cell)) is not None]
    ranked = sorted(known, key=lambda pair: -pair[0])
    return [Cell(group.settings | cell.settings, cell.rows) for _, cell in ranked]


def _accuracy(cell: Cell) -> float | None:
    return median(cell.values("accuracy").values())


def _split_by(cells: Sequence[Cell], name: str) -> list[tuple[Any, list[Cell]]]:
    """The cells by one setting, in the order of its values; each list keeps its order."""
    found: dict[Any, list[Cell]] = {}
    for cell in cells:
        found.setdefault(cell.settings[name], []).append(cell)
    return sorted(found.items(), key=lambda item: order(name, item[0]))


def _result_items(cell: Cell) -> list[Item]:
    n, accuracy, ia = len(cell.values("accuracy")), _accuracy(cell), median(cell.values("ia").values())
    return [
        Item("accuracy_n", n, "n", str(n)),
        Item("accuracy_median", accuracy, "accuracy %", number(accuracy, POINT_DIGITS)),
        Item("ia_median", ia, "IA", number(ia, SHARE_DIGITS)),
    ]
