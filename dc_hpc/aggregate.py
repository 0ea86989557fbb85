"""python -m dc_hpc.aggregate --outputs outputs: makes the paper's tables and figures from the runs that are there."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dc_hpc.cli import DataOption, OutputsOption, new_app, run_cli
from dc_hpc.errors import InputError

# pandas, matplotlib and the report itself are imported where they are used, so that --help answers at once.
if TYPE_CHECKING:
    import pandas as pd

    from dc_hpc.report.findings import PanelFindings

WIDTH = 110
_LINES_SHOWN, _NAMES_SHOWN = 10, 20

app = new_app()


@app.command()
def aggregate(
    outputs: OutputsOption = Path("outputs"),
    jobs: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the grids, to name what is missing.")] = Path(
        "jobs"
    ),
    data: DataOption = Path("data"),
    runs: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="A runs.csv (with its cycles.csv) to read instead of the run directories. May be given several times.",
        ),
    ] = None,
    document: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="A Markdown file whose tables between <!-- NAME --> and <!-- end --> are renewed."
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Only this table or figure, e.g. fig_4 or fig_4b. May be given several times."
        ),
    ] = None,
) -> None:
    """Make tables, figures, claims and a page of all runs.

    Lists the runs that are missing, with the commands that compute them.
    """
    from dc_hpc.report.document import check, renew
    from dc_hpc.report.findings import collect, panels_of, read
    from dc_hpc.report.output_files import write_figures, write_page, write_tables

    data = data.expanduser()
    if document:
        check(document)
    panels = panels_of(only or [])
    findings = collect(*read(outputs, runs or ()), panels, jobs=jobs, data=data)
    try:
        write_tables(findings, outputs)
        _print_panels(findings.panels)
        _print_claims(findings.verdicts)
        _print_missing(findings.panels, outputs)
        _print_runs(findings.rows)
        failed = write_figures(findings, outputs, data=data, say=print)
        if not only:
            write_page(findings, outputs)
        if document:
            renew(document, outputs / "tables")
    except OSError as error:
        raise InputError(
            f"--outputs {outputs} cannot be written ({error.strerror}); give a folder of your own with "
            "--outputs, or make space"
        ) from None
    print(
        f"\ntables: {outputs / 'tables'}   figures: {outputs / 'figures'}"
        + ("" if only else f"   page: {outputs / 'report.html'}")
    )
    raise typer.Exit(1 if failed else 0)


def _print_panels(panels: Sequence[PanelFindings]) -> None:
    """The first table of each panel that has runs, with the warnings of mixed cells."""
    from dc_hpc.report.text_tables import markdown_of

    for found in panels:
        if found.tables:
            print(markdown_of(found.tables[0], most=_LINES_SHOWN, width=WIDTH))
            for line in found.mixed:
                _say(f"! {line}")


def _print_claims(verdicts: pd.DataFrame) -> None:
    from dc_hpc.report.claims.catalog import count_verdicts
    from dc_hpc.report.frames.runs import records

    print(f"claims: {count_verdicts(verdicts)}")
    for claim in records(verdicts):
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


def _print_missing(panels: Sequence[PanelFindings], outputs: Path) -> None:
    """Print which runs of the grids are missing, and the commands that compute them."""
    from dc_hpc.report.grid_states import command, missing_text

    grids = {state.name: state for found in panels for state in found.grids}
    for state in grids.values():
        if state.problem:
            _say(f"{state.path} cannot be read: {state.problem}")
    for state in grids.values():
        if state.missing and state.started:
            _say(f"{state.name}: {missing_text(state)}")
            print(f"  {command(state, outputs)}")
    waiting = [state for state in grids.values() if state.runs and not state.started]
    if waiting:
        names = ", ".join(f"{state.name} ({len(state.runs)})" for state in waiting)
        _say(f"not begun, with their number of runs: {names}")
        print(f"  each by its name, e.g. {command(waiting[0], outputs)}")


def _print_runs(rows: Sequence[dict[str, Any]]) -> None:
    """The runs by state; the failed, the damaged and the done with a damaged record by name, with the reason."""
    from dc_hpc.report.run_tables import STATES, counts_of

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
    run_cli(app)
