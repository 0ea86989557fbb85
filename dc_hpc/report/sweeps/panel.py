"""The panel of a person's own sweep: accuracy, IA and last NMI over the settings that were swept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dc_hpc.config.run_config import RunConfig
from dc_hpc.report.figures import sweep
from dc_hpc.report.panels.grouping import (
    ACCURACY,
    ALIGNMENT,
    CLUSTERED,
    IA_ONLY,
    RANDOM_FLOOR,
    SUPERVISED_CEILING,
    Cell,
    Row,
    group_columns,
    label,
    order,
    setting,
    split,
    training_of,
    varying_settings,
)
from dc_hpc.report.panels.panel import Comparison, FigureSources, Panel, PanelRows
from dc_hpc.report.sweeps.points import QUANTITIES, Point, Quantity
from dc_hpc.report.tables.cell_items import (
    diverged_text,
    missing_items,
    setting_items,
    statistics_items,
    visible_settings,
)
from dc_hpc.report.tables.text_tables import Item, Table, number, span, table_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BOUNDS = (RANDOM_FLOOR, SUPERVISED_CEILING)
# What a bound depends on: it was never clustered, so k and the schedule of training do not keep its runs apart.
_OF_A_BOUND = tuple(name for name in RunConfig.affecting("first_pass", "probe") if name in ACCURACY)


@dataclass(frozen=True)
class SweepPanel(Panel):
    """Accuracy, IA and last NMI over the settings of `axis`: the first is the x axis, the second has the lines.

    base: the data set. runs, bounds: the names of the runs of the sweep, and of its random floors and supervised
    ceilings.
    """

    runs: frozenset[str] = frozenset()
    bounds: frozenset[str] = frozenset()

    def select(self, rows: Sequence[Row]) -> PanelRows:
        """The cells of the sweep, with all runs of the same first clustering beside each; then the bounds."""
        mine = [row for row in rows if row["run_id"] in self.runs]
        trained = [row for row in mine if training_of(row) != IA_ONLY]
        cells = sorted(split(trained or mine, ACCURACY), key=self._place)
        alignments: dict[tuple[object, ...], list[Row]] = {}
        for row in mine:
            alignments.setdefault(tuple(setting(row, name) for name in ALIGNMENT), []).append(row)
        beside = [Cell(cell.settings, alignments[tuple(cell.settings[name] for name in ALIGNMENT)]) for cell in cells]
        bounds = [row | {"training": training_of(row)} for row in rows if row["run_id"] in self.bounds]
        return PanelRows(
            accuracy=[
                Comparison(Cell({}, mine), cells),
                Comparison(Cell({}, bounds), split(bounds, ("training", "cycles", *_OF_A_BOUND))),
            ],
            alignment=[Comparison(Cell({}, mine), beside)],
        )

    def points(self, rows: PanelRows) -> list[Point]:
        """The settings of the sweep in order, then its bounds. Table and figure show these."""
        swept, bounds = rows.accuracy
        found = []
        for cell, beside in zip(swept.cells, rows.alignment[0].cells):
            training = training_of(cell.settings)
            cells = {"accuracy": cell, "ia": beside}
            found.append(Point(cell, training, cells | ({"nmi_true_last": cell} if training == CLUSTERED else {})))
        return found + [Point(cell, cell.settings["training"], {"accuracy": cell}) for cell in bounds.cells]

    def quantities(self, rows: PanelRows) -> list[Quantity]:
        """The numbers that any point has."""
        points = self.points(rows)
        return [one for one in QUANTITIES if any(point.values(one.name) for point in points)]

    def tables(self, rows: PanelRows) -> list[Table]:
        """One table, a line for each setting, then one for each bound."""
        points, shown = self.points(rows), self.quantities(rows)
        cells = [point.cell for point in points]
        swept, bounds = (comparison.cells for comparison in rows.accuracy)
        columns = [name for name in group_columns(cells, self.axis[::-1]) if name != "training"]
        # What a bound has otherwise than the sweep, such as its cycles, its name says.
        visible = visible_settings(swept, columns, self.axis)
        for kind in BOUNDS:
            visible += varying_settings([cell for cell in bounds if cell.settings["training"] == kind], columns)
        main = shown[0].name if shown else "accuracy"
        lines = [
            [
                *self._named(setting_items(point.cell, columns, visible), point, points),
                Item("training", point.training, "net", self._net(point, points), role="setting"),
                *(item for one in shown for item in _mean_items(point, one, points, main)),
                *missing_items(point.cells.get(main, point.cell), main),
            ]
            for point in points
        ]
        return [table_of(self.name, self._caption_of(points, columns, visible, main), lines)]

    def figure(self, rows: PanelRows, sources: FigureSources) -> Figure | None:
        """A point with its interval for each setting; None where more than three settings, or none, were swept."""
        return sweep.draw(self.axis, self.points(rows), self.quantities(rows), self.title)

    def compared(self, rows: PanelRows) -> list[Cell]:
        """The settings of the sweep."""
        return [cell for comparison in rows.accuracy for cell in comparison.cells]

    def _place(self, cell: Cell) -> list[object]:
        return [order(name, cell.settings[name]) for name in (*reversed(self.axis), *ACCURACY)]

    def _named(self, items: list[Item], point: Point, points: Sequence[Point]) -> list[Item]:
        """The settings of a point. A bound has its name where the others have their first swept setting."""
        place = next((i for i, item in enumerate(items) if item.name in self.axis), None)
        if place is None or not self._has_bounds(points) or point.training == CLUSTERED:
            return items
        return [*items[:place], items[place]._replace(text=point.training), *items[place + 1 :]]

    def _net(self, point: Point, points: Sequence[Point]) -> str:
        """What people read of the net: nothing where all are clustered, or where bounds have their names already."""
        named = all(one.training == CLUSTERED for one in points) or (self.axis and self._has_bounds(points))
        return "" if named else point.training

    def _has_bounds(self, points: Sequence[Point]) -> bool:
        return bool(self.bounds) and len({point.training for point in points}) > 1

    def _caption_of(self, points: Sequence[Point], columns: Sequence[str], visible: Sequence[str], main: str) -> str:
        first = points[0].cell.settings
        shared = [name for name in columns if name not in (*visible, "dataset") and name in first]
        counts = [len(point.values(main)) for point in points]
        n = f"n = {min(counts)}" + (f" to {max(counts)}" if max(counts) > min(counts) else "")
        caption = (
            f"{self.title}. {label(first, shared)}; {n} seeds a line: means and, from three seeds on, their 95 % "
            "intervals in brackets."
        )
        return " ".join(filter(None, (caption, sweep.left_out(self.axis, points))))


def _mean_items(point: Point, one: Quantity, points: Sequence[Point], main: str) -> list[Item]:
    """n, mean and its interval for people; for programs also what the tables of the paper's panels have."""
    found = point.values(one.name)
    mean = point.mean(one.name)
    low, high = mean.interval or (None, None)
    text = number(mean.value, one.digits) + (f" ({span(low, high, one.digits)})" if low is not None else "")
    text = text or (diverged_text(point.cells[one.name], one.name) if one.name in point.cells else "")
    # A second count is shown only where it is another number than the first.
    differs = one.name != main and any(len(p.values(one.name)) not in (0, len(p.values(main))) for p in points)
    n = str(len(found)) if one.name == main or differs else ""
    described = statistics_items(point.cells.get(one.name, Cell({}, [])), one.name)
    return [
        Item(None, head="n" if one.name == main else f"n, {one.head}", text=n),
        Item(None, head=f"{one.head} (95 %)", text=text),
        *(Item(item.name, item.value) for item in described if item.name is not None),
        Item(f"{one.name}_mean_low", low),
        Item(f"{one.name}_mean_high", high),
    ]
