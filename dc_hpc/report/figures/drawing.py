"""The figure of a panel, in the paper's layout. It shows the same cells as the table; nothing is written
here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dc_hpc.report.figures import feature_map
from dc_hpc.report.figures.distributions import boxes, histograms
from dc_hpc.report.figures.lines import curves, halting, layers
from dc_hpc.report.figures.scatter import both, relation
from dc_hpc.report.panels.grouping import Row
from dc_hpc.report.panels.paper import Panel

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def figure_of(
    panel: Panel,
    rows: Sequence[Row],
    cycles: pd.DataFrame,
    *,
    outputs: Path,
    labels_of: Callable[[str], np.ndarray | None],
) -> Figure | None:
    """The figure of a panel, None where it has no run to show. To be called, and saved, within
    `figure_style.style()`.

    rows: of `tables.records`; cycles: of `load_cycles`. labels_of: data set -> true labels (n,) of its
    training images, or None when they are not at hand; asked only for Figure 2.
    """
    if panel.kind == "search":
        return None
    if panel.kind == "features":
        return feature_map.draw(panel, rows, outputs=outputs, labels_of=labels_of)
    if panel.kind == "curves":
        return curves(panel, rows, cycles)
    if panel.kind == "accuracy":
        return halting(panel, rows) if panel.axis[0] == "halt_cycle" else boxes(panel, rows)
    draw = {"relation": relation, "alignment": histograms, "both": both, "layers": layers}[panel.kind]
    return draw(panel, rows)
