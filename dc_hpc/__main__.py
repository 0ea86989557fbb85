"""The console script `dc-hpc`, and `python -m dc_hpc`: every command as a sub-command."""

from __future__ import annotations

import sys

import typer
from typer.core import TyperGroup

from dc_hpc import aggregate, bench, fetch, select, status, submit
from dc_hpc.cli import run_cli

_SCRIPT = "dc-hpc"


class _InOrder(TyperGroup):
    """The commands in the order in which people use them; typer puts those with sub-commands last."""

    def list_commands(self, ctx: object) -> list[str]:
        """Their names."""
        return ["fetch", "submit", "status", "select", "aggregate", "bench"]


app = typer.Typer(cls=_InOrder, rich_markup_mode=None, pretty_exceptions_enable=False)
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


def main() -> None:
    """Run the sub-command that the command line names."""
    # A shell completes the script and not `python -m dc_hpc`, whichever of the two prints or installs the completion.
    completion = any(word.startswith(("--install-completion", "--show-completion")) for word in sys.argv[1:])
    run_cli(app, _SCRIPT if completion else None)


if __name__ == "__main__":
    main()
