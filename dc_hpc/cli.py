"""The doors' shared manners: one line for bad input, exit code 2, and the `dc-hpc` command that holds them all."""

from __future__ import annotations

import sys

import typer

from dc_hpc.experiment.errors import InputError


def run_door(app: typer.Typer) -> None:
    """Run a door; bad input and wrong usage become one line on stderr and exit code 2."""
    command = typer.main.get_command(app)
    try:
        code = command.main(standalone_mode=False)
    except InputError as error:
        _refuse(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        # typer's own usage errors, whichever click they come from, know their message and are worth one line too
        if not hasattr(error, "format_message"):
            raise
        _refuse(f"{error.format_message()} (see --help)")
    sys.exit(code if isinstance(code, int) else 0)


def main() -> None:
    """The console script `dc-hpc`: every door as a sub-command."""
    from dc_hpc import aggregate, fetch, select, status, submit

    app = typer.Typer(help="A Deep Dive into Deep Cluster, reproduced as scheduled batch jobs.",
                      no_args_is_help=True, add_completion=False, rich_markup_mode=None)
    app.command("fetch")(fetch.fetch)
    app.command("submit")(submit.submit)
    app.command("select")(select.select)
    app.add_typer(status.app, name="status")
    app.command("aggregate")(aggregate.aggregate)
    run_door(app)


def _refuse(message: str) -> None:
    print(f"dc_hpc: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
