"""python -m dc_hpc.fetch: put data sets into the data folder and verify them. Run it once, where there is internet."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dc_hpc.cli import DataOption, new_app, one_of, run_cli
from dc_hpc.config.key_names import value_meant
from dc_hpc.data.catalog import DATASETS
from dc_hpc.errors import InputError

_NAMES = (*DATASETS, "all")

app = new_app()


@app.command()
def fetch(
    names: Annotated[
        list[str],
        typer.Argument(metavar="NAME", help=f"{', '.join(DATASETS)}, or all.", autocompletion=one_of(_NAMES)),
    ],
    data: DataOption = Path("data"),
) -> None:
    """Download data sets and verify them. Files that are there and intact are left alone."""
    unknown = [name for name in names if name not in _NAMES]
    if unknown:
        raise InputError(
            f"data set {unknown[0]!r} cannot be fetched{value_meant(unknown[0], _NAMES)}; allowed: {', '.join(_NAMES)}"
            "; your own images need no fetching"
        )
    requested = [name for name in DATASETS if name in names or "all" in names]
    failed = [name for name in requested if not _fetched(name, data, alone=len(requested) == 1)]
    if failed:
        raise InputError(f"{len(failed)} of {len(requested)} not fetched: {', '.join(failed)}; see the lines above")


def _fetched(name: str, root: Path, *, alone: bool) -> bool:
    """Fetch one data set. Of several, a failure is printed at once and the next one is tried all the same."""
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
    run_cli(app)
