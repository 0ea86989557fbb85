"""python -m dc_hpc.aggregate --outputs outputs: makes tables and figures, one's own and the paper's, from the runs."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from dc_hpc.cli import DataOption, OutputsOption, new_app, run_cli
from dc_hpc.errors import InputError

# pandas, matplotlib and the report itself are imported where they are used, so that --help answers at once.

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
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="A Markdown file whose tables and numbers between <!-- NAME --> and <!-- end --> are renewed; "
            "repeatable.",
        ),
    ] = None,
    crate: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Write an RO-Crate, too: runs, claims, tables and figures as one object to cite."
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Only this table or figure and its claims, e.g. fig_4, fig_4b or sweep; repeatable.",
        ),
    ] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Print every table, claim and missing run, not only one screen.")
    ] = False,
) -> None:
    """Make tables, figures, claims and a page of all runs.

    One's own sweeps come first. The runs that are missing are listed with the commands that compute them.
    """
    from dc_hpc.report.crate import check as check_crate
    from dc_hpc.report.crate import write_crate
    from dc_hpc.report.document import check, renew
    from dc_hpc.report.findings import SWEEP, collect, panels_of, read
    from dc_hpc.report.output_files import write_figures, write_page, write_tables
    from dc_hpc.report.panels.paper import PANELS
    from dc_hpc.report.screen import everything, one_screen, screen_width

    data = data.expanduser()
    for path in document or ():
        check(path)
    if crate:
        check_crate(crate)
    panels = panels_of(only or [])
    with_sweeps = not only or SWEEP in only
    read_runs = read(outputs, runs or ())
    directories = None if runs else outputs
    findings = collect(*read_runs, panels, jobs=jobs, data=data, with_sweeps=with_sweeps, outputs=directories)
    # Runs of a table are somewhere else: what is missing goes to submit's own folder.
    submitted = Path("outputs") if runs else outputs
    try:
        tables = write_tables(findings, outputs, submitted)
        shown = findings.of_panels(panels) if only else findings
        if verbose:
            print(everything(shown, submitted, width=screen_width()))
        else:
            print(one_screen(shown, submitted, width=screen_width(), only=bool(only)))
        failed = write_figures(findings, outputs, data=data, say=print)
        if not only:
            write_page(findings, outputs, submitted)
        for path in document or ():
            renew(path, outputs / "tables", panels=PANELS)
        size = write_crate(findings, outputs, crate, tables=tables, date=f"{date.today()}") if crate else 0
    except OSError as error:
        raise InputError(
            f"--outputs {outputs} cannot be written ({error.strerror}); give a folder of your own with "
            "--outputs, or make space"
        ) from None
    print(
        f"tables: {outputs / 'tables'}   figures: {outputs / 'figures'}"
        + ("" if only else f"   page: {outputs / 'report.html'}")
        + ("" if verbose else "   more: --verbose")
    )
    if crate:
        print(f"RO-Crate: {crate}   {size / 1e6:.1f} MB")
    raise typer.Exit(1 if failed else 0)


if __name__ == "__main__":
    run_cli(app)
