"""Sets the style of all figures and renders them. Drawing happens in memory; the caller writes the bytes."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dc_hpc.report.panels.grouping import Cell, dataset_title, group_columns, label, varying_settings
from dc_hpc.report.panels.panel import Comparison

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import XAxis, YAxis
    from matplotlib.figure import Figure

# Okabe and Ito's palette, which colour-blind people can tell apart; black is kept for text.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C7A00")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
RED, GREY = "#C62828", "#7A7A7A"
# Ten classes need ten colours: Paul Tol's muted ones, dark and light alternately.
CLASSES = ("#332288", "#88CCEE", "#117733", "#DDCC77", "#CC6677", "#AA4499", "#44AA99", "#999933", "#882255", "#BBBBBB")
# More settings than this are in the table only.
MOST_GROUPS = 6
AXIS_NAMES = {
    "k": "number of clusters k",
    "pca": "PCA components",
    "halt_cycle": "clustering halted after cycle",
}

_STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans", "font.size": 10.5, "axes.titlesize": 10, "axes.titlelocation": "left",
    "axes.labelsize": 10.5, "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.8,
    "axes.grid": True, "grid.color": "#E6E6E6", "grid.linewidth": 0.6, "axes.axisbelow": True,
    "axes.edgecolor": "#555555", "xtick.color": "#333333", "ytick.color": "#333333", "legend.frameon": False,
    "legend.fontsize": 9.5, "savefig.dpi": 160, "pdf.fonttype": 42, "svg.hashsalt": "dc_hpc",
}  # fmt: skip


@contextmanager
def style() -> Iterator[None]:
    """Set matplotlib as this report draws, whatever a person's own settings are."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        settings: Any = matplotlib.rcParams  # its keys are typed as literals
        settings.update(_STYLE)
        yield


def canvas(
    columns: int,
    rows: int = 1,
    *,
    width: float = 4.8,
    height: float = 3.6,
    share_x: bool = False,
    share_y: bool = False,
) -> tuple[Figure, list[list[Axes]]]:
    """A figure and its axes, row by row. width, height: of one axes, in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, sharex=share_x, sharey=share_y).tolist()


def figure_bytes(figure: Figure, forms: Sequence[str] = ("png", "pdf")) -> dict[str, bytes]:
    """The figure as `png`, `pdf` or `svg`; without dates, so that equal figures have equal bytes."""
    metadata = {"png": {"Software": None}, "pdf": {"CreationDate": None, "ModDate": None}, "svg": {"Date": None}}
    made = {}
    for form in forms:
        memory = io.BytesIO()
        figure.savefig(memory, format=form, metadata=metadata[form])
        made[form] = memory.getvalue()
    return made


def drawable(comparisons: Sequence[Comparison], value: str) -> list[Comparison]:
    """The comparisons that have a number; where there are too many to draw, those with the most runs."""
    found = [comparison for comparison in comparisons if comparison.group.values(value)]
    kept = sorted(found, key=lambda comparison: -_runs_of(comparison.group))[:MOST_GROUPS]
    return [comparison for comparison in found if comparison in kept]


def _runs_of(cell: Cell) -> int:
    return sum(row["state"] != "absent" for row in cell.rows)


def parted(groups: Sequence[Cell], skip: Sequence[str] = (), also: Iterable[str] = ()) -> tuple[str, list[str]]:
    """The settings that the groups share, for the title, and those of each group, for the legend.

    skip: settings that neither names. also: settings to name in any case.
    """
    columns = [name for name in dict.fromkeys((*group_columns(groups), *also)) if name not in skip]
    varying = varying_settings(groups, columns)
    title = name_of(groups[0], [name for name in columns if name not in varying])
    own = [[name for name in varying if group.settings.get(name) is not None] for group in groups]
    return title, [label(group.settings, names) for group, names in zip(groups, own)]


def name_of(cell: Cell, columns: Sequence[str]) -> str:
    """Data set and settings in one line."""
    rest = [name for name in columns if name != "dataset" and name in cell.settings]
    dataset = dataset_title(cell.settings["dataset"]) if "dataset" in columns else ""
    return ", ".join(part for part in (dataset, label(cell.settings, rest)) if part)


def set_ticks(axis: XAxis | YAxis, **settings: Any) -> None:
    """Set the locator of an axis: nbins, integer. `Axes.locator_params` would change the limits of the axis, too."""
    locator: Any = axis.get_major_locator()
    locator.set_params(**settings)


def wrapped(title: str, width: int = 58) -> str:
    """A title folded to the width of its axes, in characters."""
    return "\n".join(textwrap.wrap(title, width)) or title
