"""The items of a table that describe one cell: its settings, a number over its seeds, and the missing seeds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from dc_hpc.report.panels.grouping import Cell, Row, median, shown, varying_settings
from dc_hpc.report.tables.text_tables import Item, number, span
from dc_hpc.report.test_sets import describe_runs, test_images_of

POINT_DIGITS, SHARE_DIGITS = 2, 4  # decimals of an accuracy in percent, and of an NMI
# name of a number in describe() -> in the columns of a table, after the name of the quantity
_EXACT = {
    "q25": "q1", "q75": "q3", "iqr": "iqr", "min": "min", "max": "max", "mean": "mean", "sd": "sd", "low": "low",
    "high": "high",
}  # fmt: skip
# What people read beside an IA, as heads of its median columns.
ALIGNMENT_HEADS = {"ia_ami": "AMI", "ia_chance": "chance"}


def visible_settings(cells: Sequence[Cell], columns: Sequence[str], axis: Sequence[str] = ()) -> list[str]:
    """The settings that each line shows to people: those that vary, and the axis. The caption has the others."""
    varying = varying_settings(cells, columns)
    return [name for name in columns if name in axis or name in varying]


def setting_items(cell: Cell, columns: Sequence[str], visible: Sequence[str]) -> list[Item]:
    """The settings of a cell; people see the visible ones."""
    items = []
    for name in columns:
        value = cell.settings.get(name)
        text = shown(name, value) if name in cell.settings else ""
        # Programs get the value as in a frame, but `never` and `off` as words: an empty cell could mean anything.
        exact = text if value is None else value
        items.append(Item(name, exact, name if name in visible else None, text, role="setting"))
    return items


def statistics_items(cell: Cell, value: str, *, quantity: str = "", few: bool = False) -> list[Item]:
    """describe() of a number over the seeds. People see n, median, interval, quartiles and range, or a few of them.

    quantity: what the columns begin with; the name of the number unless given. few: whether the table has another
    number of its own.
    """
    quantity = quantity or value
    rows = list(cell.runs(value).values())
    is_accuracy = value.startswith("accuracy")
    found = describe_runs(rows, value)
    is_alignment = value.startswith("ia")
    digits, head = (SHARE_DIGITS, "IA") if is_alignment else (POINT_DIGITS, "accuracy %")
    range_head = "IA range" if few and is_alignment else "range"
    n_head = "n of IA" if few and is_alignment else None if few else "n"
    single = found["n"] < 2

    def ends(head: str, low: str, high: str) -> Item:
        return Item(None, head=head, text="" if single else span(found[low], found[high], digits))

    return [
        Item(f"{quantity}_n", found["n"], n_head, str(found["n"])),
        Item(
            f"{quantity}_median", found["median"], head, number(found["median"], digits) or diverged_text(cell, value)
        ),
        *([] if few else [ends("95 % interval", "low", "high"), ends("quartiles", "q25", "q75")]),
        ends(range_head, "min", "max"),
        *(Item(f"{quantity}_{column}", found[name]) for name, column in _EXACT.items()),
        *([Item("test_images", _test_images(rows))] if is_accuracy else []),
    ]


def _test_images(rows: Sequence[Row]) -> int | None:
    """The number of test images of the runs; None where it is not known, or not the same."""
    counts = {test_images_of(row) for row in rows}
    return counts.pop() if len(counts) == 1 else None


def median_items(cell: Cell, heads: Mapping[str, str]) -> list[Item]:
    """The medians over the seeds of some numbers between 0 and 1. heads: number -> its head."""
    found = {name: median(cell.values(name).values()) for name in heads}
    return [
        Item(f"{name}_median", found[name], head, number(found[name], SHARE_DIGITS)) for name, head in heads.items()
    ]


def diverged_text(cell: Cell, value: str) -> str:
    """`diverged` where a number would stand if its runs had not diverged, all that have ended."""
    return "diverged" if cell.diverged(value) and not cell.values(value) else ""


def missing_items(cell: Cell, value: str) -> list[Item]:
    """The seeds that were asked for and have no such number, for people; programs find them in missing.csv.

    Those that diverged are named as such.
    """
    diverged = cell.diverged(value)
    waiting = [seed for seed in cell.missing(value) if seed not in diverged]
    parts = [seeds_text(waiting, 3)] if waiting else []
    parts += [f"{seeds_text(diverged, 3)} diverged"] if diverged else []
    return [Item(None, head="missing", text=", ".join(parts), role="note")]


def seeds_text(seeds: Iterable[int], most: int = 8) -> str:
    """`seed 4`, `seeds 1 2 3`, or the first few and how many more."""
    ordered = list(seeds)
    more = f" and {len(ordered) - most} more" if len(ordered) > most else ""
    return f"seed{'s' * (len(ordered) > 1)} {' '.join(str(seed) for seed in ordered[:most])}{more}"
