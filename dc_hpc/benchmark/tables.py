"""Prints the rows of a benchmark as tables for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

_BYTES = ("views", "sampling", "agreement", "checkpoint", "dump")
_WIDTH = 130  # where the output is not a terminal


def print_stages(rows: Sequence[Mapping[str, Any]], caption: Sequence[str]) -> None:
    """Print the stages and their peers, network by network; a time that was not measured reads "not measured"."""
    table = _table(("stage", "size"), ("ours", "achieved", "of limit"), ("peer",), ("peer's", "ratio"))
    before = ("", "")
    for row in rows:
        if row["network"] != before[0]:
            table.add_section()
            table.add_row(f"[bold]{row['network']}[/bold]")
        same_stage = (row["network"], row["name"]) == before
        before = row["network"], row["name"]
        table.add_row(*_cells(row, same_stage=same_stage))
    notes = ["ratio: the peer's time / ours; above 1 ours is faster"]
    if any(row["share"] is not None for row in rows):
        notes += ["of limit: of GEMM (GFLOP/s) or of copying memory (GB/s); for checkpoint and dump, of a plain write"]
    _print(table, [*caption, *notes])


def markdown_stages(rows: Sequence[Mapping[str, Any]], caption: Sequence[str]) -> str:
    """The stages as a Markdown table: for each network the ratio to each peer, and the share of the limit.

    It has the same numbers as the figure: both are made of the same rows. caption: lines that describe the machine.
    """
    networks = list(dict.fromkeys(row["network"] for row in rows))
    lines = [["stage", *(head for network in networks for head in (network, "share")), "peer"]]
    for name in dict.fromkeys(row["name"] for row in rows):
        mine = [row for row in rows if row["name"] == name]
        peers = list(dict.fromkeys(row["peer"] for row in mine if row["peer"] is not None))
        cells = [part for network in networks for part in _ratios(mine, network, peers)]
        lines.append([name, *cells, ", ".join(peers)])
    rule = ["---", *["--:"] * (2 * len(networks)), "---"]
    text = ["| " + " | ".join(line) + " |" for line in lines]
    notes = [
        "ratio: the peer's time / ours, in the order of the peers; above 1 ours is faster",
        "share: of what the same process reaches in a matrix product, a copy or a plain write; the method of Toom and "
        "Cook can be above 100 %, since a direct convolution is counted",
    ]
    return "\n".join(
        [text[0], "|" + "|".join(rule) + "|", *text[1:], "", *(f"{line}  " for line in [*caption, *notes])]
    )


def _ratios(rows: Sequence[Mapping[str, Any]], network: str, peers: Sequence[str]) -> tuple[str, str]:
    """The ratios to the peers and the share of one stage of one network; nothing where it was not measured."""
    mine = {row["peer"]: row for row in rows if row["network"] == network}
    if not mine:
        return "", ""
    ratios = [mine[peer]["ratio"] if peer in mine else None for peer in peers]
    share = next(iter(mine.values()))["share"]
    words = ", ".join("-" if ratio is None else f"{_two_figures(ratio)}x" for ratio in ratios)
    return words, "" if share is None else f"{100 * share:.0f} %"


def _two_figures(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:#.2g}"


def _cells(row: Mapping[str, Any], *, same_stage: bool) -> list[str]:
    unit = "GB/s" if row["name"] in _BYTES else "GFLOP/s"
    achieved = "" if row["achieved"] is None else f"{_three_figures(row['achieved'])} {unit}"
    share = "" if row["share"] is None else f"{100 * row['share']:.1f} %"
    ours = [row["name"], row["size"], _time(row["seconds"]), achieved, share]
    ratio = "" if row["ratio"] is None else f"{_three_figures(row['ratio'])}x"
    other = ["", "", ""] if row["peer"] is None else [row["peer"], _time(row["peer_seconds"]), ratio]
    return ([""] * 5 if same_stage else ours) + other


def print_scaling(rows: Sequence[Mapping[str, Any]], caption: Sequence[str]) -> None:
    """Print a line for each stage and variable: time and memory at both ends, and the exponents."""
    table = _table(("stage", "against"), ("time", "memory", "exponent", "of count", "of memory"))
    for name, variable in dict.fromkeys((row["name"], row["variable"]) for row in rows):
        mine = [row for row in rows if (row["name"], row["variable"]) == (name, variable)]
        first, last = mine[0], mine[-1]
        slopes = [first["exponent"], first["work_exponent"], first["memory_exponent"]]
        table.add_row(
            name,
            f"{variable} {first['value']:,} to {last['value']:,}",
            f"{_time(first['seconds'])} to {_time(last['seconds'])}",
            f"{_mebibytes(first['memory'])} to {_mebibytes(last['memory'])} MiB",
            *["" if slope is None else f"{slope:.2f}" for slope in slopes],
        )
    notes = [
        "exponent: of the time over the variable, 1 for twice the time at twice the size",
        "of count: of the operation count (FLOP, or bytes moved), of memory: of the memory",
    ]
    _print(table, [*caption, *notes])


def print_runs_per_hour(runs: Mapping[str, Mapping[str, Any]], slots: int) -> None:
    """Print whole runs per hour of each network: ours, the authors' code in both ways, and the ratio to the better."""
    table = _table(
        ("network", "data set"),
        (f"ours, {slots} at a time", "authors alone", f"authors, {slots} at a time"),
        ("",),
        ("ratio",),
    )
    for network, one in runs.items():
        theirs = one["theirs_alone"], one["theirs_together"]
        numbers = [f"{rate:.1f}" for rate in (one["ours"], *theirs)]
        table.add_row(network, one["dataset"], *numbers, "", f"{one['ours'] / max(theirs):.1f}x")
    threads = ", ".join(sorted({str(one["theirs_threads"]) for one in runs.values()}))
    notes = [
        f"runs an hour; {slots} at a time: each on one thread; alone: on its default of {threads} threads",
        "ratio: ours / the better of the authors' two",
    ]
    _print(table, notes)


def _table(*groups: tuple[str, ...]) -> Table:
    """A table whose groups of columns hold alternately words and numbers."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, group in enumerate(groups):
        for name in group:
            if index % 2:
                table.add_column(name, justify="right", no_wrap=True)
            else:
                table.add_column(name, overflow="fold")
    return table


def _print(table: Table, caption: Sequence[str]) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_WIDTH)
    console.print(table)
    for line in caption:
        print(line)


def _three_figures(value: float) -> str:
    """The number with three significant figures, never as a power of ten."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}" if value >= 0.001 else f"{value:.6f}"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "not measured"
    return f"{_three_figures(seconds)} s" if seconds >= 1 else f"{_three_figures(1e3 * seconds)} ms"


def _mebibytes(memory: float | None) -> str:
    return "?" if memory is None else _three_figures(memory / 2**20)
