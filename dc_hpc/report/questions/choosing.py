"""Which measure of a clustering predicts accuracy: over seeds, over k, over cycles; with labels (IA) or without."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dc_hpc.report.claims.measures import measured_mean_rho, measured_rho
from dc_hpc.report.claims.rules import Measured
from dc_hpc.report.figures.questions.forest import forest
from dc_hpc.report.frames.runs import records
from dc_hpc.report.panels.grouping import ACCURACY, ALIGNMENT, Cell, Row, group_columns, split
from dc_hpc.report.panels.matching import alignment_rows
from dc_hpc.report.panels.panel import Comparison, FigureSources, PanelRows
from dc_hpc.report.questions.panel import OwnGridsPanel
from dc_hpc.report.questions.plans import PLANS
from dc_hpc.report.questions.prediction import Prediction
from dc_hpc.report.questions.question import of_seeds
from dc_hpc.report.selection.measures import MEASURES
from dc_hpc.report.statistics import FEWEST
from dc_hpc.report.tables.cell_items import POINT_DIGITS, setting_items, visible_settings
from dc_hpc.report.tables.text_tables import Item, Table, number, span, table_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The measure with labels, above chance, as cycles have it; and those without.
_COLUMNS: dict[str, Callable[[float], float]] = {"ami_true": lambda value: -value}
_COLUMNS |= {name: one.badness for name, one in MEASURES.items()}
_TITLES = {"ami_true": "IA above chance"} | {name: one.title for name, one in MEASURES.items()}
OVER = ("seeds", "k", "seeds, trained", "k, trained", "cycles")
Choices = list[tuple[float, float]]  # (what the measure prefers, accuracy) of each run that is chosen among


@dataclass(frozen=True)
class ChoosingPanel(OwnGridsPanel):
    """Spearman's rho of each measure with accuracy.

    Over seeds: of the first clustering, over runs that never halt, at each k. Over k: the same within each seed, mean
    over the seeds that have every k; the effective rank and alpha of the first clustering are those of the
    features of the untrained net, which k cannot change. "trained": of the last clustering of these runs instead, as
    RankMe judges a finished net. Over cycles: of the last clustering of a run, within each seed over the halting
    positions, all of them. A measure counts by what it prefers, so that a positive rho means that choosing by it helps.
    """

    def select(self, rows: Sequence[Row]) -> PanelRows:
        """The trained runs by their settings, in a cell for each k and halting position that is chosen among; all with
        their first clusterings."""
        groups = split(self.trained(rows), [name for name in ACCURACY if name not in ("k", "halt_cycle")])
        found = [Comparison(group, self._cells(group)) for group in groups if self._compares(group)]
        first = split(alignment_rows(self, rows), [name for name in ALIGNMENT if name != "k"])
        return PanelRows(accuracy=found, alignment=[Comparison(group, _by_place(group)) for group in first])

    def tables(self, rows: PanelRows) -> list[Table]:
        """A line for each measure and each of seeds, k and cycles; then the questions."""
        cells = [one.group for one in rows.accuracy]
        columns = group_columns(cells)
        visible = visible_settings(cells, columns)
        lines = [
            [*setting_items(one.group, columns, visible), *_items(found)]
            for one in rows.accuracy
            for found in self._predictions(one, rows)
        ]
        what = "Spearman's rho of what a measure prefers with accuracy"
        return [
            table_of(self.name, self.caption(what, cells, columns, "accuracy", n=_counted(cells)), lines),
            *(self.answers(rows) if lines else []),
        ]

    def figure(self, rows: PanelRows, sources: FigureSources) -> Figure | None:
        """The rho of each measure with its interval, an axes for each of seeds, k and cycles."""
        shown = max(rows.accuracy, key=lambda one: len(one.group.values("accuracy")), default=None)
        found = self._predictions(shown, rows) if shown else []
        return forest(shown.group, [(one, _TITLES[one.column]) for one in found]) if shown and found else None

    def _predictions(self, one: Comparison, rows: PanelRows) -> list[Prediction]:
        """Over k and over cycles of the seeds that the questions have there, whatever other figures ran at some k."""
        within = of_seeds(one, PLANS[self.name].seeds)
        return [
            found for over in OVER for found in predictions(one if over.startswith("seeds") else within, rows, [over])
        ]

    def _cells(self, group: Cell) -> list[Cell]:
        """The runs of each place, also of one that nobody has run: no seed can be judged before it has them all."""
        return [
            Cell(
                group.settings | {"k": k, "halt_cycle": halt},
                [row for row in group.rows if (row["k"], row.get("halt_cycle")) == (k, halt)],
            )
            for k in self.values
            for halt in self.positions(group)
        ]

    def _compares(self, group: Cell) -> bool:
        """Whether a group has enough runs for any correlation, of several k: those of one k alone are other panels'."""
        done = [row for row in group.rows if row["state"] == "done" and row.get("accuracy")]
        return len(done) >= FEWEST and len({row["k"] for row in done}) > 1


def predictions(one: Comparison, rows: PanelRows, over: Sequence[str] = OVER) -> list[Prediction]:
    """The predictions of every measure for one setting; those of too few runs, or without a rho, are left out."""
    table = _Measures(one, rows)
    found = []
    for where in over:
        for k in [None] if where.startswith("k") else table.ks:
            for column in _COLUMNS:
                blocks = table.blocks(where, k, column)
                rho = _rho(where, blocks, lacks="no run")
                if rho.value is not None and sum(map(len, blocks)) >= FEWEST:
                    found.append(Prediction(where, k, column, rho, _lost(blocks)))
    return found


def predicts(column: str, over: str, k: int | None) -> Callable[[Comparison, PanelRows], Measured]:
    """The measure of a question: the rho of a column; k: at which, None over k."""
    lacks = f"no {'run' if over.startswith('seeds') else 'complete seed'} with {column} over {over}"
    return lambda one, rows: _rho(over, _Measures(one, rows).blocks(over, k, column), lacks=lacks)


def _rho(over: str, blocks: Sequence[Choices], *, lacks: str) -> Measured:
    if over.startswith("seeds"):
        return measured_rho(blocks[0], lacks=lacks)
    return measured_mean_rho(blocks, lacks=lacks)


class _Measures:
    """The measures of the clusterings of the runs of one setting, beside their accuracies."""

    def __init__(self, one: Comparison, rows: PanelRows):
        self.cells = [cell for cell in one.cells if cell.values("accuracy")]
        self.ks = sorted({cell.settings["k"] for cell in self.cells})
        self.places = {(cell.settings["k"], cell.settings["halt_cycle"]) for cell in one.cells}
        alike = [
            first.group.rows
            for first in rows.alignment
            if all(one.group.settings.get(name) == value for name, value in first.group.settings.items())
        ]
        # The first clustering of a run may have been measured by another run of the same one, such as its IA run.
        self.first: dict[tuple[int, int], list[str]] = {}
        done = [row for found in alike for row in found if row["state"] == "done"]
        for row in sorted(done, key=lambda row: -(row.get("numerics") or 1)):
            self.first.setdefault((row["k"], row["seed"]), []).append(row["run_id"])
        names = {name for found in self.first.values() for name in found}
        names |= {row["run_id"] for cell in self.cells for row in cell.rows}
        self.clusterings = _ends(rows.cycles, names)

    def blocks(self, over: str, k: int | None, column: str) -> list[Choices]:
        """What is chosen among, over one of OVER. k: at which; None over k."""
        last = over.endswith("trained")
        if k is None:
            return self._over_k(column, last=last)
        if over == "cycles":
            return self._over_cycles(k, column)
        return [list(self._never(k, column, last=last).values())]  # one block, of the runs at k that never halt

    def _over_k(self, column: str, *, last: bool) -> list[Choices]:
        """A block for each seed that never halts at every k, of these runs."""
        found: dict[int, Choices] = {}
        for k in self.ks:
            for seed, pair in self._never(k, column, last=last).items():
                found.setdefault(seed, []).append(pair)
        return _complete(found, {k for k, halt in self.places if halt is None})

    def _over_cycles(self, k: int, column: str) -> list[Choices]:
        """A block for each seed that has every halting position, of its runs."""
        found: dict[int, Choices] = {}
        for cell in self.cells:
            if cell.settings["k"] == k:
                for seed, row in cell.runs("accuracy").items():
                    value = self._last(row["run_id"], column)
                    if value is not None:
                        found.setdefault(seed, []).append((-_COLUMNS[column](value), row["accuracy"]))
        return _complete(found, {halt for own, halt in self.places if own == k})

    def _never(self, k: int, column: str, *, last: bool) -> dict[int, tuple[float, float]]:
        found = {}
        for cell in self.cells:
            if cell.settings["k"] == k and cell.settings["halt_cycle"] is None:
                for seed, row in cell.runs("accuracy").items():
                    value = self._last(row["run_id"], column) if last else self._first(row, column)
                    if value is not None:
                        found[seed] = (-_COLUMNS[column](value), row["accuracy"])
        return found

    def _first(self, row: Row, column: str) -> float | None:
        for name in (row["run_id"], *self.first.get((row["k"], row["seed"]), ())):
            value = self._at(name, column, last=False)
            if value is not None:
                return value
        return None

    def _last(self, name: str, column: str) -> float | None:
        return self._at(name, column, last=True)

    def _at(self, name: str, column: str, *, last: bool) -> float | None:
        value = self.clusterings[last].get(name, {}).get(column)
        return None if value is None or pd.isna(value) else float(value)


def _ends(cycles: pd.DataFrame | None, names: Collection[str]) -> tuple[dict[str, Row], dict[str, Row]]:
    """The first and the last clustering of each of the named runs, by its name."""
    if cycles is None or not len(cycles):
        return {}, {}
    own = cycles[cycles["run_id"].isin(names) & cycles["reassign"].fillna(False).astype(bool)].sort_values("cycle")
    columns = ["run_id", *(name for name in _COLUMNS if name in own)]
    first, last = (
        {row["run_id"]: row for row in records(table[columns])}
        for table in (own.groupby("run_id").head(1), own.groupby("run_id").tail(1))
    )
    return first, last


def _complete(found: dict[int, Choices], places: Collection[Any]) -> list[Choices]:
    """The blocks that have every place, if these are enough for a rho."""
    return [block for block in found.values() if len(block) == len(places)] if len(places) >= FEWEST else []


def _by_place(group: Cell) -> list[Cell]:
    return [Cell(group.settings | cell.settings, cell.rows) for cell in split(group.rows, ("k", "halt_cycle"))]


def _counted(cells: Sequence[Cell]) -> str:
    runs = sum(row["state"] == "done" and row.get("accuracy") is not None for cell in cells for row in cell.rows)
    return f"{runs} runs in all; n counts runs over seeds, and seeds elsewhere"


def _lost(blocks: Sequence[Choices]) -> float | None:
    """Mean over the blocks of the best accuracy less that of the run that the measure prefers."""
    lost = [max(b for _, b in one) - max(one, key=lambda pair: pair[0])[1] for one in blocks if len(one) >= FEWEST]
    return float(np.mean(lost)) if lost else None


def _items(found: Prediction) -> list[Item]:
    low, high = found.rho.interval or (None, None)
    where: Any = "" if found.k is None else found.k
    return [
        Item("over", found.over, "over", found.over, role="setting"),
        Item("at_k", found.k, "k", str(where), role="setting"),
        Item("measure", found.column, "measure", _TITLES[found.column], role="setting"),
        Item("rho_n", found.rho.n, "n", str(found.rho.n)),
        Item("rho", found.rho.value, "rho", number(found.rho.value, 2)),
        Item("rho_low", low),
        Item("rho_high", high),
        Item(None, head="95 % interval", text=span(low, high, 2)),
        Item("points_lost", found.lost, "points lost", number(found.lost, POINT_DIGITS)),
    ]
