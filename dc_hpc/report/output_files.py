"""Writes the files of `aggregate` into the outputs folder: tables, figures and the page."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from dc_hpc.errors import InputError
from dc_hpc.report.claims.table import claims_table
from dc_hpc.report.figures.style import figure_bytes, style
from dc_hpc.report.findings import Findings, PanelFindings
from dc_hpc.report.frames.runs import cycles_csv, runs_csv
from dc_hpc.report.missing import missing_table
from dc_hpc.report.page import page
from dc_hpc.report.panels.panel import FigureSources
from dc_hpc.report.questions.question import questions_table
from dc_hpc.report.run_tables import settings_table
from dc_hpc.report.tables.latex import latex_of
from dc_hpc.report.tables.overall import overall_tables
from dc_hpc.report.tables.text_tables import Table, csv_of, markdown_of
from dc_hpc.storage import atomic_files


def write_tables(findings: Findings, outputs: Path, submitted: Path | None = None) -> list[str]:
    """Write runs.csv, cycles.csv, missing.csv, and every table as CSV, Markdown and LaTeX; returns their names.

    Where no run is of the paper there are no claims. submitted: where the runs are that `submit` is to go on with.
    """
    folder = outputs / "tables"
    atomic_files.make_directory(folder)
    atomic_files.write_text(folder / "runs.csv", runs_csv(findings.runs))
    atomic_files.write_text(folder / "cycles.csv", cycles_csv(findings.cycles))
    missing = missing_table([*findings.sweeps, *findings.panels], submitted or outputs)
    atomic_files.write_text(folder / "missing.csv", csv_of(missing))
    tables = [claims_table(findings.verdicts)] if findings.of_the_paper else []
    tables += all_questions(findings.panels)
    tables += [settings_table(findings.rows), *overall_tables(findings.rows)]
    tables += [*(table for found in findings.shown for table in found.tables)]
    for table in tables:
        for ending, text in (("csv", csv_of(table)), ("md", markdown_of(table)), ("tex", latex_of(table))):
            atomic_files.write_text(folder / f"{table.name}.{ending}", text)
    return ["runs", "cycles", "missing", *(table.name for table in tables)]


def all_questions(panels: Iterable[PanelFindings]) -> list[Table]:
    """`questions`, where any of the panels asks one. Questions without a run are in it for programs only."""
    found = [verdict for one in panels for verdict in one.panel.verdicts(one.rows)]
    return [questions_table("questions", "Questions of ours", found, run_only=True)] if found else []


def write_figures(findings: Findings, outputs: Path, *, data: Path, say: Callable[[str], None]) -> int:
    """Draw and write the figure of each panel with a table; returns how many could not be drawn, and says which."""
    folder = outputs / "figures"
    atomic_files.make_directory(folder)
    sources = FigureSources(findings.cycles, outputs, _labels(data, say))
    drawn = findings.shown
    for found in drawn:
        _draw(found, sources)
        if found.error:
            say(f"figure {found.panel.name} failed: {found.error}")
        for ending, content in found.pictures.items():
            atomic_files.replace_bytes(folder / f"{found.panel.name}.{ending}", content)
    return sum(found.error != "" for found in drawn)


def write_page(findings: Findings, outputs: Path, submitted: Path | None = None) -> None:
    """Write report.html. submitted: where the runs are that `submit` is to go on with."""
    atomic_files.write_text(outputs / "report.html", page(findings, outputs=submitted or outputs))


def _draw(found: PanelFindings, sources: FigureSources) -> None:
    try:
        with style():
            figure = found.panel.figure(found.rows, sources)
            found.pictures = figure_bytes(figure) if figure is not None else {}
    except Exception as error:  # an error in one figure must not prevent the others and the page
        found.error = " ".join(f"{type(error).__name__}: {error}".split())


def _labels(data: Path, say: Callable[[str], None]) -> Callable[[str], np.ndarray | None]:
    """A function from the name of a data set to its training labels, None where it is not in the folder `data`."""

    def labels_of(dataset: str) -> np.ndarray | None:
        from dc_hpc.data.official import load  # torch, so only when there are features to show

        try:
            return load(dataset, data).train_labels.numpy()
        except InputError as error:
            say(f"no labels: {error}")
            return None

    return labels_of
