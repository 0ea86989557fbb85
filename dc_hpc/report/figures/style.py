"""Sets the style of all figures and renders them. Drawing happens in memory; the caller writes the bytes."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dc_hpc.report.panels.grouping import Cell, dataset_title, group_columns, label, varying_settings
from dc_hpc.report.panels.panel import Comparison

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import XAxis, YAxis
    from matplotlib.figure import Figure

Sharing = bool | Literal["none", "all", "row", "col"]  # as of matplotlib's subplots

# Okabe and Ito's palette, which colour-blind people can tell apart; black is kept for text.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C7A00")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
RED, GREY, PAPER = "#C62828", "#7A7A7A", "#7B1FA2"  # medians, bounds, what the paper prints
# Ten classes need ten colours: Paul Tol's muted ones, dark and light alternately.
CLASSES = ("#332288", "#88CCEE", "#117733", "#DDCC77", "#CC6677", "#AA4499", "#44AA99", "#999933", "#882255", "#BBBBBB")
# More settings than this are in the table only.
MOST_GROUPS = 6
# An axis spans at least so much, so that differences smaller than those between seeds do not look large. Seeds of one
# setting spread over up to 9 points on Fashion-MNIST and over .04 to .15 of IA.
LEAST_SPAN = {"accuracy": 10.0, "ia": 0.05, "nmi": 0.1}
_BOUNDS = {"accuracy": (0.0, 100.0), "ia": (0.0, 1.0), "nmi": (0.0, 1.0)}
# Inches of a column of a key beside its text, and letters of the text in an inch.
_HANDLE, _LETTERS = 0.55, 15
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
    share_x: Sharing = False,
    share_y: Sharing = False,
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


def keep_span(ax: Axes, quantity: str, which: Literal["x", "y"] = "y") -> None:
    """Widen an axis to the LEAST_SPAN of its quantity, within the quantity's bounds. Call it after drawing."""
    low, high = ax.get_ylim() if which == "y" else ax.get_xlim()
    span, (least, most) = LEAST_SPAN[quantity], _BOUNDS[quantity]
    margin = 0.02 * max(span, high - low)  # for a marker at the bound
    low, high = max(low, least - margin), min(high, most + margin)
    if high - low < span:
        middle = min(max((low + high) / 2, least + span / 2), most - span / 2)
        low, high = middle - span / 2, middle + span / 2
    (ax.set_ylim if which == "y" else ax.set_xlim)(low, high)


def key(figure: Figure, axes: Iterable[Axes], *, ncols: int = 1) -> None:
    """One key below the figure, with every label of the axes once, in `ncols` columns or as many as fit its width."""
    entries = {text: handle for ax in axes for handle, text in zip(*ax.get_legend_handles_labels())}
    if not entries:
        return
    texts, width = list(entries), figure.get_figwidth()
    while ncols > 1 and _key_width(texts, ncols) > width:
        ncols -= 1
    if ncols == 1:
        texts = [wrapped(text, int((width - _HANDLE) * _LETTERS)) for text in texts]
    figure.legend(list(entries.values()), texts, loc="outside lower center", ncols=ncols)


def _key_width(texts: Sequence[str], ncols: int) -> float:
    """The width of a key in inches. Its entries fill one column after the other, as matplotlib splits them."""
    columns = np.array_split([len(text) for text in texts], ncols)
    return float(sum(_HANDLE + max(column) / _LETTERS for column in columns if len(column)))


def note(ax: Axes, text: str, **look: Any) -> None:
    """An entry of the key that stands for no line of its own; look: of the marker or line that it explains."""
    ax.plot([], [], **({"linestyle": "none"} | look), label=text)


def dodged(index: int, count: int) -> float:
    """How far series number `index` of `count` stands beside its place on an axis with steps of 1."""
    return (index - (count - 1) / 2) * min(0.12, 0.7 / count)


def chance_text(level: float) -> str:
    """The chance level of an NMI: `0.021`, or `< 0.001`, because no chance level is 0."""
    return "< 0.001" if level < 0.0005 else f"{level:.3f}"
