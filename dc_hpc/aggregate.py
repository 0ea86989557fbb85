"""python -m dc_hpc.aggregate --outputs outputs: the tables and figures of the paper from whatever has been
run."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from dc_hpc.errors import InputError

# pandas, matplotlib and the report itself are imported where they are used: --help answers at once.
if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from dc_hpc.report.panels.findings import Finding
    from dc_hpc.report.text_tables import Table

WIDTH = 110
_LINES_SHOWN, _NAMES_SHOWN = 10, 20

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def aggregate(
    outputs: Annotated[Path, typer.Option(help="Folder of the runs; tables, figures and page go there.")] = Path(
        "outputs"
    ),
    jobs: Annotated[Path, typer.Option(help="Folder of the grids, to name what is missing.")] = Path("jobs"),
    data: Annotated[
        Path, typer.Option(envvar="DC_HPC_DATA", help="Folder of the data sets (labels of Figure 2).")
    ] = Path("data"),
    runs: Annotated[
        Optional[list[Path]],  # noqa: UP045  typer reads it at run time, on python 3.10 too
        typer.Option(
            help="A runs.csv (with its cycles.csv) to aggregate instead of the run directories; several are joined."
        ),
    ] = None,
    document: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="A Markdown file whose tables between <!-- NAME --> and <!-- end --> are renewed."),
    ] = None,
    only: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(metavar="NAME", help="Only this table or figure, e.g. fig_4 or fig_4b; repeatable."),
    ] = None,
) -> None:
    """Collect all runs into the paper's tables, figures, claims and one page. What is missing is named, not
    averaged away.
    """
    from dc_hpc.report.claims.catalog import claims
    from dc_hpc.report.document import check, renew
    from dc_hpc.report.frames.runs import records
    from dc_hpc.report.panels.findings import find, panels_of

    if document:
        check(document)
    panels = panels_of(only or [])
    frame, cycles = _read(outputs, runs)
    rows, verdicts = records(frame), claims(frame)
    findings = find(panels, rows, jobs=jobs, data=data.expanduser())
    try:
        _write_tables(outputs, frame, cycles, verdicts, findings)
        _print_findings(findings, verdicts, outputs)
        _print_runs(rows)
        errors = _draw(findings, rows, cycles, outputs=outputs, data=data.expanduser())
        if not only:
            _write_page(rows, findings, verdicts, outputs)
        if document:
            renew(document, outputs / "tables")
    except OSError as error:
        raise InputError(
            f"--outputs {outputs} cannot be written ({error.strerror}); give a folder of your own with "
            "--outputs, or make room"
        ) from None
    print(
        f"\ntables: {outputs / 'tables'}   figures: {outputs / 'figures'}"
        + ("" if only else f"   page: {outputs / 'report.html'}")
    )
    raise typer.Exit(1 if errors else 0)


def _read(outputs: Path, runs: Sequence[Path] | None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The runs and the cycles: of the folder, or of one or more runs.csv and the cycles.csv beside them."""
    from dc_hpc.report.frames.csv_files import read_tables
    from dc_hpc.report.frames.runs import load
    from dc_hpc.storage import run_directory

    if runs:
        return read_tables(runs)
    if not outputs.is_dir():
        raise InputError(f"--outputs {outputs} is not there; give the folder that `python -m dc_hpc.submit` wrote to")
    try:
        read = load(outputs)
    except OSError as error:
        raise InputError(f"--outputs {outputs} cannot be read ({error.strerror})") from None
    if read[0].empty:
        raise InputError(
            f"no run in {run_directory.runs_folder(outputs)}; submit some first: python -m dc_hpc.submit --grid "
            "jobs/fmnist_demo.yaml"
        )
    return read


def _write_tables(
    outputs: Path,
    frame: pd.DataFrame,
    cycles: pd.DataFrame,
    verdicts: pd.DataFrame,
    findings: Sequence[Finding],
) -> None:
    from dc_hpc.report.frames.runs import cycles_csv, records, runs_csv
    from dc_hpc.report.panels.findings import claims_table, settings_table
    from dc_hpc.report.text_tables import csv_of, latex_of, markdown_of
    from dc_hpc.storage import atomic_files

    folder = outputs / "tables"
    atomic_files.make_directory(folder)
    atomic_files.write_text(folder / "runs.csv", runs_csv(frame))
    atomic_files.write_text(folder / "cycles.csv", cycles_csv(cycles))
    tables: list[Table] = [claims_table(verdicts), settings_table(records(frame))]
    tables += [table for finding in findings for table in finding.tables]
    for table in tables:
        for ending, text in (("csv", csv_of(table)), ("md", markdown_of(table)), ("tex", latex_of(table))):
            atomic_files.write_text(folder / f"{table.name}.{ending}", text)


def _draw(
    findings: Sequence[Finding],
    rows: Sequence[dict[str, Any]],
    cycles: pd.DataFrame,
    *,
    outputs: Path,
    data: Path,
) -> int:
    """Draw and write the figures; returns how many could not be drawn. Each costs only itself."""
    from dc_hpc.report.figures.drawing import figure_of
    from dc_hpc.report.figures.style import figure_bytes, style
    from dc_hpc.storage import atomic_files

    atomic_files.make_directory(outputs / "figures")
    labels_of, errors = _labels(data), 0
    for finding in findings:
        if not finding.tables:
            continue
        try:
            with style():
                figure = figure_of(finding.panel, rows, cycles, outputs=outputs, labels_of=labels_of)
                finding.pictures = figure_bytes(figure) if figure is not None else {}
        except Exception as error:  # whatever goes wrong in one figure, the others and the page are still made
            finding.error = " ".join(f"{type(error).__name__}: {error}".split())
            print(f"figure {finding.panel.name} failed: {finding.error}")
            errors += 1
        for ending, content in finding.pictures.items():
            atomic_files.replace_bytes(outputs / "figures" / f"{finding.panel.name}.{ending}", content)
    return errors


def _labels(data: Path) -> Callable[[str], np.ndarray | None]:
    def labels_of(dataset: str) -> np.ndarray | None:
        from dc_hpc.data.official import load  # torch, so only when there are features to show

        try:
            return load(dataset, data).train_labels.numpy()
        except InputError as error:
            print(f"no labels: {error}")
            return None

    return labels_of


def _write_page(
    rows: Sequence[dict[str, Any]], findings: Sequence[Finding], verdicts: pd.DataFrame, outputs: Path
) -> None:
    from dc_hpc.report.page import page
    from dc_hpc.storage import atomic_files

    atomic_files.write_text(outputs / "report.html", page(rows, findings, verdicts, outputs=outputs))


def _print_findings(findings: Sequence[Finding], verdicts: pd.DataFrame, outputs: Path) -> None:
    """The tables that have runs, then the claims, then what is missing and the commands."""
    from dc_hpc.report.text_tables import markdown_of

    for finding in findings:
        if finding.tables:
            print(markdown_of(finding.tables[0], most=_LINES_SHOWN, width=WIDTH))
            for line in finding.mixed:
                _say(f"! {line}")
    _print_claims(verdicts)
    _print_missing(findings, outputs)


def _print_claims(verdicts: pd.DataFrame) -> None:
    from dc_hpc.report.claims.catalog import count_verdicts

    print(f"claims: {count_verdicts(verdicts)}")
    for claim in verdicts.to_dict("records"):
        if claim["verdict"] == "not run":
            continue
        value = "" if claim["value"] is None else f" {claim['value']:.3g}"
        interval = "" if claim["low"] is None else f" ({claim['low']:.3g} to {claim['high']:.3g})"
        unlike = f" [{claim['unlike_paper']}]" if claim["unlike_paper"] else ""
        _say(
            f"{claim['verdict']:<12}  {claim['figure']}, {claim['dataset']}, {claim['protocol']}: "
            f"{claim['words']}: "
            f"{claim['statistic']}{value}{interval}, n = {claim['n']}{unlike}",
            hang=14,
        )


def _print_missing(findings: Sequence[Finding], outputs: Path) -> None:
    from dc_hpc.report.panels.matching import command, missing_text

    grids = {state.name: state for finding in findings for state in finding.grids}
    for state in grids.values():
        if state.problem:
            _say(f"{state.path} cannot be read: {state.problem}")
    begun = [state for state in grids.values() if state.missing and state.started]
    for state in begun:
        _say(f"{state.name}: {missing_text(state)}")
        print(f"  {command(state, outputs)}")
    waiting = [state for state in grids.values() if state.runs and not state.started]
    if waiting:
        names = ", ".join(f"{state.name} ({len(state.runs)})" for state in waiting)
        _say(f"not begun, with their number of runs: {names}")
        print(f"  each by its name, e.g. {command(waiting[0], outputs)}")


def _print_runs(rows: Sequence[dict[str, Any]]) -> None:
    """The runs by state; the failed, the damaged and the done with a damaged record by name, with why."""
    from dc_hpc.report.page import STATES
    from dc_hpc.report.panels.findings import counts_of

    print("\nruns: " + ", ".join(f"{count} {state}" for state, count in counts_of(rows, STATES).items()))
    for state in ("failed", "damaged", "done"):
        found = [row for row in rows if row["state"] == state and (state != "done" or row.get("state_reason"))]
        for row in found[:_NAMES_SHOWN]:
            _say(f"{state}: {row['run_id']}: {row.get('state_reason') or 'no reason recorded'}")
        if len(found) > _NAMES_SHOWN:
            print(f"  and {len(found) - _NAMES_SHOWN} more, all in runs.csv")


def _say(text: str, hang: int = 4) -> None:
    print(
        textwrap.fill(
            text,
            WIDTH,
            initial_indent="  ",
            subsequent_indent=" " * (hang + 2),
            break_long_words=False,
            break_on_hyphens=False,
        )
    )


if __name__ == "__main__":
    from dc_hpc.cli import run_cli

    run_cli(app)
