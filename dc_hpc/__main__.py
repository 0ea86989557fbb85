"""The console script `dc-hpc`, and `python -m dc_hpc`: every command as a sub-command."""

from __future__ import annotations

import typer

from dc_hpc import aggregate, bench, fetch, select, status, submit
from dc_hpc.cli import new_app, run_cli

app = new_app()
app.command("fetch")(fetch.fetch)
app.command("submit")(submit.submit)
app.add_typer(status.app, name="status")
app.command("select")(select.select)
app.command("aggregate")(aggregate.aggregate)
app.command("bench")(bench.bench)


@app.callback(invoke_without_command=True)
def _print_help(context: typer.Context) -> None:
    """Reproduce 'A Deep Dive into Deep Cluster' as scheduled batch jobs."""
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit(2)


def main() -> None:
    """Run the sub-command that the command line names."""
    run_cli(app)


if __name__ == "__main__":
    main()
