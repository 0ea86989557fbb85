"""The console script `dc-hpc`: every door as a sub-command."""

from __future__ import annotations

import typer

from dc_hpc import aggregate, bench, fetch, select, status, submit
from dc_hpc.cli import run_cli


def main() -> None:
    """The console script `dc-hpc`: every door as a sub-command."""
    app = typer.Typer(
        help="A Deep Dive into Deep Cluster, reproduced as scheduled batch jobs.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
    )
    app.command("fetch")(fetch.fetch)
    app.command("submit")(submit.submit)
    app.command("select")(select.select)
    app.add_typer(status.app, name="status")
    app.command("aggregate")(aggregate.aggregate)
    app.command("bench")(bench.bench)
    run_cli(app)


if __name__ == "__main__":
    main()
