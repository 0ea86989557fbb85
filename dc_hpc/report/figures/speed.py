"""Draws a benchmark: each stage against its peers and its limit, and how time and memory scale.

The rows are those that `bench --json` writes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dc_hpc.report.figures.style import GREY, MARKERS, PALETTE, canvas, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LABELS = {"n": "images or points n", "k": "clusters k", "runs": "runs of one task"}


def speed(rows: Sequence[Mapping[str, Any]], caption: Sequence[str]) -> Figure:
    """How many times as fast as each peer every stage is (left), and the share of the machine's limit (right).

    There is a line for each stage and peer and a marker for each network. caption: lines that describe the machine.
    """
    pairs = list(dict.fromkeys((row["name"], row["peer"]) for row in rows))
    networks = list(dict.fromkeys(row["network"] for row in rows))
    figure, axes = canvas(2, width=5.6, height=1.9 + 0.27 * len(pairs), share_y=True)
    places = {pair: len(pairs) - 1 - index for index, pair in enumerate(pairs)}
    for index, network in enumerate(networks):
        mine = [row for row in rows if row["network"] == network]
        _dots(axes[0][0], mine, "ratio", places, index, network, apart=len(networks))
        shares = list({row["name"]: row for row in reversed(mine)}.values())
        _dots(axes[0][1], shares, "share", _first_places(places), index, network, apart=len(networks))
    names = [name if peer is None else f"{name}  vs {peer}" for name, peer in pairs]
    axes[0][0].set_yticks(list(places.values()), names)
    _against_peers(axes[0][0])
    axes[0][1].set_xlabel("share of GEMM, copy or plain write (%)")
    axes[0][1].set_title("... and which share of the machine's limit it reaches")
    largest = max([100, *(100 * row["share"] for row in rows if row["share"] is not None)])
    axes[0][1].set_xlim(-2, largest + 2)  # a convolution with fewer products than are counted is above 100
    if len(networks) > 1:
        figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside upper center", ncols=len(networks))
    figure.supxlabel("\n".join(wrapped(line, 150) for line in caption), fontsize=7.5, color=GREY)
    return figure


def _first_places(places: Mapping[tuple[str, str | None], int]) -> dict[tuple[str, str | None], int]:
    """The share belongs to the stage, not to a peer, so it is drawn in the line of the stage's first peer."""
    first: dict[str, int] = {}
    for (name, _), place in places.items():
        first.setdefault(name, place)
    return {pair: first[pair[0]] for pair in places}


def _dots(
    ax: Axes,
    rows: Sequence[Mapping[str, Any]],
    value: str,
    places: Mapping[tuple[str, str | None], int],
    index: int,
    network: str,
    *,
    apart: int,
) -> None:
    found = [row for row in rows if row[value] is not None]
    scale = 100 if value == "share" else 1
    lift = 0.5 * ((apart - 1) / 2 - index) / max(apart, 1)
    ax.plot(
        [scale * row[value] for row in found],
        [places[row["name"], row["peer"]] + lift for row in found],
        linestyle="none",
        marker=MARKERS[index],
        color=PALETTE[index],
        markersize=5.5,
        label=network,
    )


def _against_peers(ax: Axes) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    ax.axvline(1, color="#222222", linewidth=1)
    ax.set_xscale("log")
    low, high = ax.get_xlim()
    ax.set_xlim(min(low, 0.4), max(high, 2.5))
    low, high = ax.get_xlim()
    ticks = [tick for tick in (0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000) if low <= tick <= high]
    ax.xaxis.set_major_locator(FixedLocator(ticks))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))
    ax.set_xlabel("peer's time / ours (right of 1: ours is faster)")
    ax.set_title("How many times as fast as its peer each stage is ...")


def scaling(rows: Sequence[Mapping[str, Any]], caption: Sequence[str]) -> Figure:
    """Time (above) and memory (below) of each stage against n, k and the runs of a task, both axes logarithmic.

    rows: of `bench --scaling --json`. The legend gives the exponent of time and, in brackets, that of the operation
    count.
    """
    variables = list(dict.fromkeys(row["variable"] for row in rows))
    stages = list(dict.fromkeys(row["name"] for row in rows))
    figure, axes = canvas(len(variables), 2, width=4.6, height=3.9)
    for column, variable in enumerate(variables):
        mine = [row for row in rows if row["variable"] == variable]
        for name in [stage for stage in stages if any(row["name"] == stage for row in mine)]:
            points = sorted((row for row in mine if row["name"] == name), key=lambda row: row["value"])
            style = _line_style(stages.index(name))
            axes[0][column].plot(
                [row["value"] for row in points],
                [row["seconds"] for row in points],
                label=_with_exponents(points[0]),
                **style,
            )
            measured = [(row["value"], row["memory"] / 2**20) for row in points if row["memory"] is not None]
            axes[1][column].plot([value for value, _ in measured], [memory for _, memory in measured], **style)
        values = sorted({row["value"] for row in mine})
        for ax, name in ((axes[0][column], "seconds"), (axes[1][column], "peak memory (MiB)")):
            ax.set(xlabel=_LABELS[variable], ylabel=name)
            _whole_decades(ax, values)
        axes[0][column].legend(
            fontsize=7.5,
            handlelength=3,
            loc="lower left",
            bbox_to_anchor=(0, 1),
            ncols=2,
            title="stage, exponent of its time (of its operation count)",
            title_fontsize=8.5,
            alignment="left",
        )
    figure.supxlabel("\n".join(wrapped(line, 160) for line in caption), fontsize=7.5, color=GREY)
    return figure


def _line_style(index: int) -> dict[str, Any]:
    """Colour and marker of a stage, the same in every panel; hollow and dashed in the second round of colours."""
    second_round = {"linestyle": "--", "markerfacecolor": "white"} if index >= len(PALETTE) else {}
    return second_round | {
        "color": PALETTE[index % len(PALETTE)],
        "marker": MARKERS[index % len(MARKERS)],
        "markersize": 5,
        "linewidth": 1.5,
    }


def _with_exponents(row: Mapping[str, Any]) -> str:
    if row["exponent"] is None:
        return str(row["name"])
    return f"{row['name']} {row['exponent']:.2f} ({round(row['work_exponent'], 2) + 0.0:.2f})"


def _whole_decades(ax: Axes, values: Sequence[int]) -> None:
    """Make both axes logarithmic, with ticks at the measured values of x.

    The y axis goes from one power of ten to another, however little a stage grows.
    """
    import math

    import numpy as np
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

    ax.set(xscale="log", yscale="log")
    ax.xaxis.set_major_locator(FixedLocator(values))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())
    drawn = [float(value) for line in ax.lines for value in np.asarray(line.get_ydata())]
    if drawn:
        ax.set_ylim(10 ** math.floor(math.log10(min(drawn))), 10 ** math.ceil(math.log10(max(drawn) * 1.01)))
