"""python -m dc_hpc.fetch: put data sets into the data root, verified. Once, on a machine with internet."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dc_hpc.errors import InputError

app = typer.Typer(add_completion=False)


@app.command()
def fetch(
    names: Annotated[list[str], typer.Argument(metavar="NAME", help="fmnist, mnist, svhn, cifar10, or all")],
    data: Annotated[Path, typer.Option(metavar="ROOT", envvar="DC_HPC_DATA", help="the data root")] = Path("data"),
) -> None:
    """Fetch data sets once, before submitting; files that are there and verify are left alone."""
    from dc_hpc.data.catalog import DATASETS

    unknown = [name for name in names if name not in (*DATASETS, "all")]
    if unknown:
        raise InputError(
            f"data set {unknown[0]!r} cannot be fetched; allowed are {', '.join(DATASETS)}, all; own images need none"
        )
    wanted = [name for name in DATASETS if name in names or "all" in names]
    failed = [name for name in wanted if not _fetched(name, data, alone=len(wanted) == 1)]
    if failed:
        raise InputError(f"{len(failed)} of {len(wanted)} not fetched: {', '.join(failed)}; see the lines above")


def _fetched(name: str, root: Path, *, alone: bool) -> bool:
    """Fetch one set; of several, a failure is printed at once and does not keep the next from being tried."""
    from dc_hpc.data.fetching import fetch as fetch_one

    try:
        fetch_one(name, root, report=typer.echo)
    except InputError as error:
        if alone:
            raise
        typer.echo(str(error), err=True)
        return False
    return True


if __name__ == "__main__":
    from dc_hpc.cli import run_cli

    run_cli(app)
