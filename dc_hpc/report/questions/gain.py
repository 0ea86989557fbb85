"""Initial Alignment against accuracy, and against the gain over one's own untrained net, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from dc_hpc.algorithm.net_specs import NET_SPECS
from dc_hpc.config.baselines import BASELINES
from dc_hpc.config.run_config import RunConfig
from dc_hpc.report.claims.measures import measured_rho
from dc_hpc.report.claims.rules import Measured
from dc_hpc.report.figures.questions.gain import draw
from dc_hpc.report.panels.findings.luminance import luminances
from dc_hpc.report.panels.grouping import (
    ACCURACY,
    CLUSTERED,
    RANDOM_FLOOR,
    SUPERVISED_CEILING,
    Cell,
    Row,
    group_columns,
    median,
    setting,
    training_of,
)
from dc_hpc.report.panels.matching import of_planned_length, probed_rows
from dc_hpc.report.panels.panel import Comparison, FigureSources, PanelRows
from dc_hpc.report.questions.groups import groups_apart_from, with_protocol
from dc_hpc.report.questions.panel import QuestionPanel
from dc_hpc.report.questions.question import Question
from dc_hpc.report.tables.cell_items import POINT_DIGITS, setting_items, visible_settings
from dc_hpc.report.tables.text_tables import Item, Table, number, span, table_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TRAINING = (CLUSTERED, RANDOM_FLOOR, SUPERVISED_CEILING)
# What an untrained net and a supervised one have in common with the clustered net that they are the bounds of.
_OF_A_BOUND = tuple(name for name in RunConfig.affecting("first_pass", "probe") if name in ACCURACY)


class Point(NamedTuple):
    """A net: its seed, its IA, its accuracy at a layer, and that of the same net before any training, in percent."""

    seed: int
    ia: float
    accuracy: float
    untrained: float | None

    @property
    def gain(self) -> float | None:
        """Accuracy less that of the untrained net, in points."""
        return None if self.untrained is None else self.accuracy - self.untrained


@dataclass(frozen=True)
class GainPanel(QuestionPanel):
    """Spearman's rho of IA with accuracy and with the gain over one's own untrained net, for each probed layer.

    layers: at which the questions are asked. least_luminance: seeds whose random grey filter keeps less of the
    brightness are left out (`findings.luminance`).
    """

    layers: tuple[str, ...] = ()
    least_luminance: float = 0.0

    def select(self, rows: Sequence[Row]) -> PanelRows:
        """The clustered runs with the panel's Sobel filter and halt, and the untrained and supervised nets beside."""
        probed = [row for row in probed_rows(self, rows, free=("k", "labels", "halt_cycle")) if self._has_filter(row)]
        own = {"halt_cycle": self.fixed["halt_cycle"], "k": self.fixed.get("k", BASELINES[self.base]["k"])}
        clustered = [
            row
            for row in self.of_planned_seeds(probed)
            if training_of(row) == CLUSTERED and all(row.get(name) == value for name, value in own.items())
        ]
        found = []
        for group in map(with_protocol, groups_apart_from((), of_planned_length(self, clustered, longer=False))):
            cells = [Cell(group.settings | {"training": CLUSTERED}, group.rows)]
            for training in _TRAINING[1:]:
                beside = [row for row in probed if training_of(row) == training and _is_bound_of(row, group)]
                beside = of_planned_length(self, beside, longer=False) if training == SUPERVISED_CEILING else beside
                cells.append(Cell(group.settings | {"training": training}, beside))
            found.append(Comparison(Cell(group.settings, [row for cell in cells for row in cell.rows]), cells))
        return PanelRows(accuracy=found)

    def tables(self, rows: PanelRows) -> list[Table]:
        """A line for each layer; every net at every layer; then a line for each question."""
        groups = [cells[0] for _, cells in rows.accuracy]
        columns = [name for name in group_columns(groups) if name != "training"]
        visible = visible_settings(groups, columns)
        lines, points = [], []
        for _, cells in rows.accuracy:
            settings = setting_items(cells[0], columns, visible)
            for layer in self._layers(cells[0]):
                found = points_of(cells, layer)
                lines.append([*settings, *_layer_items(layer, cells, found)])
                points += [[*settings, *_point_items(layer, point)] for point in found]
        what = (
            "Spearman's rho of IA with accuracy (%) and with the gain over one's own untrained net (points), by layer"
        )
        caption = self.caption(what, groups, columns, "accuracy")
        return [
            table_of(self.name, caption, lines),
            table_of(f"{self.name}_points", f"{caption} Each net.", points),
            *self.answers(rows),
        ]

    def figure(self, rows: PanelRows, sources: FigureSources) -> Figure | None:
        """IA against the gain, an axes for each layer."""
        found = [
            (cells[0], {layer: _gains(points_of(cells, layer)) for layer in self._layers(cells[0])})
            for _, cells in rows.accuracy
        ]
        return draw(self, found)

    def asks(self) -> list[Question]:
        """At each layer: do accuracy, and the gain over one's own untrained net, rise with IA?"""
        return [
            Question(
                f"{name}_{layer}", f"{words} rises with IA at {layer}", "Spearman's rho", partial(_rises, layer, name)
            )
            for layer in self.layers
            for name, words in (("accuracy", "accuracy"), ("gain", "the gain over one's own untrained net"))
        ]

    def compared(self, rows: PanelRows) -> list[Cell]:
        """The clustered runs; untrained and supervised nets are bounds and follow other settings."""
        return [cells[0] for _, cells in rows.accuracy]

    def _has_filter(self, row: Row) -> bool:
        known = luminances().get(row["seed"], 0.0) if self.least_luminance else 1.0
        return row.get("sobel") == self.fixed["sobel"] and known > self.least_luminance

    def _layers(self, clustered: Cell) -> list[str]:
        """The layers at which the clustered nets were probed, in the order of the net."""
        return [
            layer for layer in NET_SPECS[BASELINES[self.base]["net"]].layers if clustered.values(f"accuracy_{layer}")
        ]


def points_of(cells: Sequence[Cell], layer: str) -> list[Point]:
    """The clustered nets with an IA and an accuracy at a layer, by seed. cells: clustered, untrained, supervised."""
    clustered, untrained = cells[0], cells[1].values(f"accuracy_{layer}")
    alignments = clustered.values("ia")
    return [
        Point(seed, alignments[seed], accuracy, untrained.get(seed))
        for seed, accuracy in clustered.values(f"accuracy_{layer}").items()
        if seed in alignments
    ]


def _is_bound_of(row: Row, group: Cell) -> bool:
    return all(setting(row, name) == group.settings[name] for name in _OF_A_BOUND)


def _gains(points: Sequence[Point]) -> list[tuple[float, float]]:
    """(IA, gain) of the nets whose untrained net was probed."""
    return [(point.ia, point.gain) for point in points if point.gain is not None]


def _untrained(points: Sequence[Point]) -> list[tuple[float, float]]:
    return [(point.ia, point.untrained) for point in points if point.untrained is not None]


def _rises(layer: str, name: str, one: Comparison, rows: PanelRows) -> Measured:
    """Spearman's rho of IA with the accuracy at a layer, or with the gain. name: `accuracy` or `gain`."""
    points = points_of(one.cells, layer)
    return _rho(_gains(points) if name == "gain" else [(point.ia, point.accuracy) for point in points])


def _rho(pairs: Sequence[tuple[float, float]]) -> Measured:
    return measured_rho(pairs, lacks="no net with both numbers")


def _layer_items(layer: str, cells: Sequence[Cell], points: Sequence[Point]) -> list[Item]:
    items = [Item("layer", layer, "layer", layer, role="setting")]
    items.append(Item("rho_accuracy_n", len(points), "n", str(len(points))))
    for name, cell in zip(("clustered", "untrained", "supervised"), cells):
        values = cell.values(f"accuracy_{layer}").values()
        found = median(values)
        items.append(Item(f"{name}_n", len(values)))
        items.append(Item(f"accuracy_{name}_median", found, f"{name} %", number(found, POINT_DIGITS)))
    gains = _gains(points)
    gain = median(gain for _, gain in gains)
    items += [Item("gain_n", len(gains)), Item("gain_median", gain, "gain", number(gain, POINT_DIGITS))]
    for name, head, pairs in (
        ("accuracy", "rho, accuracy", [(point.ia, point.accuracy) for point in points]),
        ("untrained", "rho, untrained", _untrained(points)),
        ("gain", "rho, gain", gains),
    ):
        measured = _rho(pairs)
        low, high = measured.interval or (None, None)
        text = number(measured.value, 2) + (f" ({span(low, high, 2)})" if low is not None else "")
        items += [Item(f"rho_{name}", measured.value, head, text)]
        items += [Item(f"rho_{name}_low", low), Item(f"rho_{name}_high", high)]
    return items


def _point_items(layer: str, point: Point) -> list[Item]:
    return [
        Item("layer", layer, "layer", layer, role="setting"),
        Item("seed", point.seed, "seed", str(point.seed)),
        Item("ia", point.ia, "IA", number(point.ia, 4)),
        Item("accuracy", point.accuracy, "accuracy %", number(point.accuracy, POINT_DIGITS)),
        Item("untrained", point.untrained, "untrained %", number(point.untrained, POINT_DIGITS)),
        Item("gain", point.gain, "gain", number(point.gain, POINT_DIGITS)),
    ]
