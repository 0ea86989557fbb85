"""Accuracy by probed layer, between a random net (the floor) and a supervised one (the ceiling)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dc_hpc.algorithm.net_specs import NET_SPECS
from dc_hpc.config.baselines import BASELINES
from dc_hpc.report.figures.lines import layer_profiles
from dc_hpc.report.figures.style import MOST_GROUPS
from dc_hpc.report.panels.grouping import (
    ACCURACY,
    CLUSTERED,
    RANDOM_FLOOR,
    SUPERVISED_CEILING,
    Cell,
    Row,
    group_columns,
    is_diverged,
    split,
    training_of,
)
from dc_hpc.report.panels.matching import probed_rows
from dc_hpc.report.panels.panel import Comparison, FigureSources, Panel, PanelRows, n_words
from dc_hpc.report.tables.cell_items import setting_items, statistics_items, visible_settings
from dc_hpc.report.tables.text_tables import Item, Table, table_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TRAINING = (RANDOM_FLOOR, CLUSTERED, SUPERVISED_CEILING)


@dataclass(frozen=True)
class LayersPanel(Panel):
    """Accuracy by probed layer of random, clustered and supervised nets."""

    def select(self, rows: Sequence[Row]) -> PanelRows:
        """The probed runs of random, clustered and supervised nets. A cell has the further setting `training`."""
        probed = probed_rows(self, rows, free=("k", "labels"))
        return PanelRows(accuracy=[Comparison(Cell({}, probed), self._cells(probed))])

    def tables(self, rows: PanelRows) -> list[Table]:
        """One table, a line for each net and layer."""
        cells = rows.cells("accuracy")
        columns = [name for name in group_columns(cells) if name not in ("training", "cycles")]
        visible = visible_settings(cells, columns)
        lines, counts = [], []
        for cell in cells:
            training, cycles = cell.settings["training"], cell.settings["cycles"]
            for layer in _layers_of(cells):
                if (found := cell.values(f"accuracy_{layer}")) or cell.diverged(f"accuracy_{layer}"):
                    counts.append(len(found))
                    lines.append(
                        [
                            *setting_items(cell, columns, visible),
                            Item("training", training, "net", training, role="setting"),
                            Item("cycles", cycles, "cycles", str(cycles), role="setting"),
                            Item("layer", layer, "layer", layer, role="setting"),
                            *statistics_items(cell, f"accuracy_{layer}", quantity="accuracy"),
                        ]
                    )
        n = n_words(counts) if counts else ""
        caption = self.caption("accuracy (%) by probed layer", cells, columns, "accuracy", n=n)
        return [table_of(self.name, caption, lines)] if len(lines) > 1 else []  # one line compares nothing

    def figure(self, rows: PanelRows, sources: FigureSources) -> Figure | None:
        """A line for each net over the layers."""
        cells = [
            cell
            for cell in rows.cells("accuracy")
            if any(cell.values(f"accuracy_{layer}") for layer in _layers_of([cell]))
        ][: 2 * MOST_GROUPS]
        return layer_profiles(cells, _layers_of(cells), _TRAINING)

    def compared(self, rows: PanelRows) -> list[Cell]:
        """The probed runs by all their settings."""
        return [cell for comparison in rows.accuracy for cell in split(comparison.group.rows, ACCURACY)]

    def _cells(self, probed: Sequence[Row]) -> list[Cell]:
        """Random, clustered and supervised nets by their settings; `k` counts only where something was clustered."""
        k = self.fixed.get("k", BASELINES[self.base]["k"])
        marked = []
        for row in probed:
            training = training_of(row)
            if training != CLUSTERED:
                marked.append(row | {"training": training, "k": None})
            elif row["k"] == k:
                marked.append(row | {"training": training})
        fields = ("training", *(name for name in ACCURACY if name not in ("probe", "labels")))
        return sorted(split(marked, fields), key=lambda cell: _TRAINING.index(cell.settings["training"]))


def _layers_of(cells: Sequence[Cell]) -> list[str]:
    """The layers at which any run of the cells was probed, in the order of the net."""
    probed = {
        name.removeprefix("accuracy_")
        for cell in cells
        for row in cell.rows
        for name, value in row.items()
        if name.startswith("accuracy_") and value is not None
    }
    probed |= {
        layer
        for cell in cells
        for row in cell.rows
        if is_diverged(row)
        for layer in str(row.get("probe") or "").split()
    }
    spec = NET_SPECS.get(cells[0].settings["net"]) if cells else None
    return [layer for layer in spec.layers if layer in probed] if spec else sorted(probed)
