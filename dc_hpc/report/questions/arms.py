"""Runs that differ in what follows the first clustering: halting, a rule, soft resets, another net's labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dc_hpc.config.run_config import RunConfig
from dc_hpc.report.claims.measures import measured_mean, measured_mean_of
from dc_hpc.report.claims.rules import Measured
from dc_hpc.report.figures.questions.arms import draw
from dc_hpc.report.panels.grouping import ACCURACY, Cell, Row, group_columns, median, split
from dc_hpc.report.panels.panel import Comparison, FigureSources, PanelRows
from dc_hpc.report.questions.panel import OwnGridsPanel
from dc_hpc.report.questions.question import cell_of
from dc_hpc.report.tables.cell_items import POINT_DIGITS, missing_items, setting_items, visible_settings
from dc_hpc.report.tables.text_tables import Item, Table, number, span, table_of
from dc_hpc.report.test_sets import noise_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ARM_SETTINGS = ("halt_cycle", "halt_rule", "halt_patience", "halt_tolerance", "soft_reset", "teacher_seed")
ONCE = "once"
ALWAYS = "always"
ORACLE = "oracle"
OTHER_NET = "another net's labels"


@dataclass(frozen=True)
class ArmsPanel(OwnGridsPanel):
    """Accuracy and clusterings by arm, and the difference of each arm from one of them, seed by seed.

    differs: the settings of ARM_SETTINGS that the panel varies. reference: the arm that the others are compared with.
    oracle: whether it also shows, of each seed, the run among those without a rule whose last labels have the highest
    NMI with the truth, which nobody without labels knows.
    """

    differs: tuple[str, ...] = ()
    reference: str = ALWAYS
    oracle: bool = False

    def select(self, rows: Sequence[Row]) -> PanelRows:
        """The trained runs by their settings, and in cells by arm; settings without an arm of our own are left out."""
        groups = split(self._own(rows), [name for name in ACCURACY if name not in ARM_SETTINGS])
        return PanelRows(accuracy=[one for group in groups if (one := self._comparison(group))])

    def tables(self, rows: PanelRows) -> list[Table]:
        """A line for each arm of each setting; then the questions."""
        cells = rows.cells("accuracy")
        columns = group_columns(cells, ("arm",))
        visible = visible_settings(cells, columns, ("arm",))
        lines = [
            [*setting_items(cell, columns, visible), *self._numbers(one, cell), *missing_items(cell, "accuracy")]
            for one in rows.accuracy
            for cell in one.cells
        ]
        what = f"accuracy (%) by arm, and its difference from '{self.reference}', seed by seed"
        caption = self.caption(what, cells, columns, "accuracy")
        return [table_of(self.name, caption, lines), *self.answers(rows)]

    def figure(self, rows: PanelRows, sources: FigureSources) -> Figure | None:
        """The accuracies of the arms: a dot for each seed, the mean with its interval."""
        return draw(rows.accuracy)

    def _own(self, rows: Sequence[Row]) -> list[Row]:
        other = [name for name in ARM_SETTINGS if name not in self.differs]
        return [row for row in self.trained(rows) if all(row.get(name) in (None, _neutral(name)) for name in other)]

    def _comparison(self, group: Cell) -> Comparison | None:
        """The arms of a group; None where all its runs have arms that other tables show, too."""
        if not any(arm_of(row)[0] > 2 and row["state"] != "absent" for row in group.rows):
            return None
        arms: dict[tuple[int, Any, str], list[Row]] = {}
        for row in group.rows:
            arms.setdefault(arm_of(row), []).append(row)
        cells = [Cell(group.settings | {"arm": key[2]}, arms[key]) for key in sorted(arms)]
        if self.oracle:
            cells.append(Cell(group.settings | {"arm": ORACLE}, _oracle(group, self.positions(group))))
        return Comparison(group, cells)

    def _numbers(self, one: Comparison, cell: Cell) -> list[Item]:
        runs = list(cell.runs("accuracy").values())
        own = measured_mean_of(cell, "accuracy")
        against = difference(one, cell.settings["arm"], self.reference)
        clusterings, saved = median(cell.values("clusterings").values()), saved_share(one, cell, self.reference)
        cost = _seconds(one)
        seconds = None if cost is None or clusterings is None else cost * clusterings
        low, high = own.interval or (None, None)
        less, more = against.interval or (None, None)
        return [
            Item("accuracy_n", len(runs), "n", str(len(runs))),
            Item("accuracy_mean", own.value, "accuracy %", number(own.value, POINT_DIGITS)),
            Item("accuracy_mean_low", low),
            Item("accuracy_mean_high", high),
            Item(None, head="95 % interval", text=span(low, high, POINT_DIGITS)),
            Item("difference_mean", against.value, "difference", number(against.value, POINT_DIGITS)),
            Item("difference_low", less),
            Item("difference_high", more),
            Item(None, head="its 95 % interval", text=span(less, more, POINT_DIGITS)),
            Item("clusterings_median", clusterings, "clusterings", number(clusterings, 0)),
            Item("clusterings_saved", saved.value, "saved", _percent(saved.value)),
            Item("clustering_seconds", seconds, "clustering, s", number(seconds, 0)),
        ]


def arm_of(row: Row) -> tuple[int, Any, str]:
    """(rank, order within it, name) of the arm of a run. The ranks 0 to 2 are halting positions, as the paper has."""
    parts = []
    if row.get("teacher_seed") is not None:
        parts.append((5, 0, OTHER_NET))
    if row.get("halt_rule"):
        tolerance = f", tolerance {row['halt_tolerance']:g}" if row.get("halt_tolerance") else ""
        patience = (
            ""
            if row.get("halt_patience") in (None, _neutral("halt_patience"))
            else f", patience {row['halt_patience']}"
        )
        parts.append((3, 0, f"rule {row['halt_rule']}{patience}{tolerance}"))
    if row.get("soft_reset"):
        parts.append((4, row["soft_reset"], f"soft reset {row['soft_reset']:g}"))
    halt = row.get("halt_cycle")
    if parts:
        most = max(parts)
        late = f", at most {halt}" if halt and halt > 1 else ""
        return most[0], most[1], ", ".join(name for _, _, name in parts) + late
    return (2, 0, ALWAYS) if halt is None else (0, 1, ONCE) if halt == 1 else (1, halt, f"halted {halt}")


def _neutral(name: str) -> Any:
    """The value of a setting where nobody gave it one."""
    return RunConfig.model_fields[name].default


def difference(one: Comparison, more: str, less: str) -> Measured:
    """Mean over the seeds that ran both arms of the accuracy of `more` less that of `less`."""
    sides = [cell_of(one, arm).runs("accuracy") for arm in (more, less)]
    seeds = sorted(set(sides[0]) & set(sides[1]))
    if more == less or not seeds:
        return Measured(lacks=f"no seed with '{more}' and '{less}'")
    rows = [[side[seed] for seed in seeds] for side in sides]
    return measured_mean([a["accuracy"] - b["accuracy"] for a, b in zip(*rows)], noise_of(*rows))


def saved_share(one: Comparison, cell: Cell, reference: str) -> Measured:
    """Mean over seeds of the share of the reference's clusterings that an arm does not need."""
    own, other = cell.values("clusterings"), cell_of(one, reference).values("clusterings")
    shares = [1 - own[seed] / other[seed] for seed in own if other.get(seed)]
    return measured_mean(shares, lacks="no seed with clusterings of both")


def arm_difference(more: str, less: str) -> Callable[[Comparison, PanelRows], Measured]:
    """The measure of a question: `difference` of two arms."""
    return lambda one, rows: difference(one, more, less)


def arm_saves(arm: str) -> Callable[[Comparison, PanelRows], Measured]:
    """The measure of a question: `saved_share` of an arm, against clustering always."""
    return lambda one, rows: saved_share(one, cell_of(one, arm), ALWAYS)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.0f} %"


def _oracle(group: Cell, positions: Sequence[int | None]) -> list[Row]:
    """Of each seed the run without a rule whose last labels have the highest NMI with the truth.

    The earlier halt wins of equals. A seed that lacks one of the halting positions has none.
    """
    halted = [row for row in group.rows if arm_of(row)[0] <= 2]
    places = [
        Cell(group.settings, [row for row in halted if row.get("halt_cycle") == halt]).runs("nmi_true_last")
        for halt in positions
    ]
    return [
        max((place[seed] for place in places), key=lambda row: float(row["nmi_true_last"]))
        for seed in sorted(set.intersection(*map(set, places)))
    ]


def _seconds(one: Comparison) -> float | None:
    """Seconds of a clustering: the median over the runs that computed all of theirs, those that cluster always."""
    runs = cell_of(one, ALWAYS).runs("seconds_clustered").values()
    return median(row["seconds_clustered"] / row["clusterings"] for row in runs if row.get("clusterings"))
