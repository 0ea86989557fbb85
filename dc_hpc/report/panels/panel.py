"""The base of every kind of panel: which runs it has, and what it makes of them.

A panel is one data set's part of a table or figure of the paper. A kind of panel is a class in a file of this folder;
`paper.py` lists the panels of the paper.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from dc_hpc.config.baselines import BASELINES, PROTOCOLS
from dc_hpc.config.run_config import RunConfig
from dc_hpc.report.panels.grouping import IA_ONLY, Cell, Row, label, numerics_note, training_of, varying_settings
from dc_hpc.report.tables.text_tables import Table
from dc_hpc.report.test_sets import images_words

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from dc_hpc.report.questions.question import Verdict


class Band(NamedTuple):
    """A range in which the paper says that a number lies, as printed. An end that it does not name is infinite."""

    low: float
    high: float


class Comparison(NamedTuple):
    """The runs that may be compared with each other (`group`), and the cells that are compared, in order."""

    group: Cell
    cells: list[Cell]


@dataclass(frozen=True)
class PanelRows:
    """The runs of one panel. `Panel.select` makes it once, for the table, the figure and the claims.

    accuracy, alignment: the comparisons of the accuracy and of the Initial Alignment; empty where the panel shows no
    such number. cycles: of `frames.runs.load_cycles`, for a table that shows single cycles.
    """

    accuracy: Sequence[Comparison] = ()
    alignment: Sequence[Comparison] = ()
    cycles: pd.DataFrame | None = None

    def comparisons(self, value: str) -> Sequence[Comparison]:
        """The comparisons of one number: `ia`, `ia_ami` or `accuracy`."""
        return self.alignment if value.startswith("ia") else self.accuracy

    def cells(self, value: str) -> list[Cell]:
        """The compared cells of one number: `ia` or `accuracy`."""
        return [cell for comparison in self.comparisons(value) for cell in comparison.cells]


@dataclass(frozen=True)
class FigureSources:
    """What a figure may need beside the rows of its panel.

    cycles: of `frames.runs.load_cycles`. outputs: the folder of the run directories. labels_of: name of a data set ->
    true labels (n,) of its training images, or None where the data set is not on this machine.
    """

    cycles: pd.DataFrame
    outputs: Path
    labels_of: Callable[[str], np.ndarray | None]


@dataclass(frozen=True)
class Panel(ABC):
    """One data set's part of a table or figure.

    base: the baseline that its runs follow; fixed: the settings that differ from it. free: settings in which runs may
    differ, beside those that are free in every panel; they form groups of their own. says: what the paper says. axis:
    the settings that vary. values: the values of the first axis that the paper shows; runs with other values are left
    out where any of these was run; empty means all values. grids: the files of jobs/ that make the runs. title:
    `paper.entry` sets it.

    What is printed is declared here once; figures, tables and claims take it from here. paper: accuracies in percent,
    by the value of the first axis. ia_range: of the Initial Alignment of all runs. ia_ranges, accuracy_ranges: of the
    medians, by the value of the first axis. source: who prints them, for the key of the figure.
    """

    name: str
    base: str
    says: str
    axis: tuple[str, ...] = ()
    values: tuple[Any, ...] = ()
    fixed: Mapping[str, Any] = field(default_factory=dict)
    free: tuple[str, ...] = ()
    grids: tuple[str, ...] = ()
    paper: Mapping[Any, float] = field(default_factory=dict)
    ia_range: Band | None = None
    ia_ranges: Mapping[Any, Band] = field(default_factory=dict)
    accuracy_ranges: Mapping[Any, Band] = field(default_factory=dict)
    source: str = "the paper"
    title: str = ""

    def baseline_settings(self, protocol: str | None = None) -> dict[str, Any]:
        """What a run of the panel has: neutral values, then the baseline's, the protocol's and the panel's own."""
        neutral = {name: field.default for name, field in RunConfig.model_fields.items() if not field.is_required()}
        of_protocol = PROTOCOLS[self.base][protocol] if protocol else {}
        return neutral | BASELINES[self.base] | of_protocol | dict(self.fixed)

    @abstractmethod
    def select(self, rows: Sequence[Row]) -> PanelRows:
        """The runs of the panel among all rows; those in the state `absent` count as missing seeds only."""

    @abstractmethod
    def tables(self, rows: PanelRows) -> list[Table]:
        """The tables of the panel, the first under the panel's name. The report leaves out a table without rows."""

    @abstractmethod
    def figure(self, rows: PanelRows, sources: FigureSources) -> Figure | None:
        """The figure of the panel, or None where there is nothing to draw. Call it within `figures.style.style()`."""

    def verdicts(self, rows: PanelRows) -> Sequence[Verdict]:
        """On the questions of ours that the panel asks. Most kinds ask none."""
        return ()

    def compared(self, rows: PanelRows) -> list[Cell]:
        """The cells whose runs are compared. The report warns where one mixes commits, backends or protocols."""
        return [*rows.cells("ia"), *rows.cells("accuracy")]

    def members(self, rows: PanelRows, asked: Collection[str]) -> list[Row]:
        """The runs that were made for what the panel shows, so that they are no sweep of somebody's own.

        A trained run of which only the Initial Alignment is the panel's, since it was trained otherwise, is none of
        them. asked: the names of the runs that the grids of the panel ask for.
        """
        accuracies = [row for comparison in rows.accuracy for row in comparison.group.rows]
        alignments = [row for comparison in rows.alignment for row in comparison.group.rows]
        return accuracies + [row for row in alignments if training_of(row) == IA_ONLY]

    def caption(
        self, what: str, cells: Sequence[Cell], columns: Sequence[str], value: str, *, runs: str = "", n: str = ""
    ) -> str:
        """Title, number, the settings that all cells share, n, and that of the test images.

        runs: what n counts. n: in words, where a line is not of the runs of one cell.
        """
        if not cells:
            return self.title
        varies = varying_settings(cells, columns)
        named = dict.fromkeys((*columns, *self.fixed, "k"))
        shared = [name for name in named if name in cells[0].settings and name not in (*varies, *self.axis)]
        varying = [name for name in ("dataset", "protocol") if name in varies]
        sets = ", ".join(dict.fromkeys(str(cell.settings[name]) for name in varying for cell in cells))
        counts = [len(cell.values(value)) for cell in cells]
        n = n or n_words(counts, runs)
        where = "; ".join(part for part in (sets, label(cells[0].settings, shared)) if part)
        rows = (row for cell in cells for row in cell.runs("accuracy").values()) if value.startswith("accuracy") else ()
        tested = images_words(rows)
        note = numerics_note(row for cell in cells for row in cell.runs(value).values())
        return " ".join(filter(None, (f"{self.title}: {what}. {where}; {n}{tested and ', '}{tested}.", note)))


def n_words(counts: Collection[int], runs: str = "") -> str:
    """How many runs the lines of a table are of: `n = 3 to 5 runs a line`. runs: what else is counted."""
    low, high = min(counts), max(counts)
    n = f"n = {low}" + (f" to {high}" if high > low else "")
    return f"{n} {runs or ('run' if high == 1 else 'runs')} a line"


@dataclass(frozen=True)
class Entry:
    """A table or figure of the paper, or one of ours.

    section: where the paper has it, or `ours`. short: its name in the page's contents.
    """

    name: str
    title: str
    section: str
    panels: tuple[Panel, ...]
    short: str


def entry(name: str, title: str, section: str, panels: tuple[Panel, ...], *, short: str = "") -> Entry:
    """An Entry whose panels have their titles: the entry's, with a letter where the paper numbers its parts."""
    head, colon, rest = title.partition(":")
    lettered = len(panels) > 1 and section != "ours" and name.startswith(("fig_", "table_"))
    titled = tuple(
        replace(panel, title=f"{head}{panel.name[-1]}{colon}{rest}" if lettered else title) for panel in panels
    )
    return Entry(name, title, section, titled, short or head)
