"""How every command looks and ends: the style of its help, the options that commands share, and its exit codes."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from dc_hpc.errors import InputError
from dc_hpc.storage.atomic_files import DamagedFile

# Options that mean the same in several commands.
OutputsOption = Annotated[Path, typer.Option(metavar="DIR", help="Folder of the runs, tables and logs.")]
DataOption = Annotated[Path, typer.Option(metavar="DIR", envvar="DC_HPC_DATA", help="Folder of the data sets.")]
SlotsOption = Annotated[int, typer.Option(metavar="N", min=1, help="local: how many runs compute at the same time.")]
SiteOption = Annotated[Path, typer.Option(metavar="FILE", help="slurm: the site profile.")]
AllowOwnNetsOption = Annotated[
    bool,
    typer.Option(
        "--allow-own-nets", help="Run the Python file of `net: module:function`. Read docs/SECURITY.md first."
    ),
]
OverridesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Override a setting, e.g. cycles=2 or k=[5,20]. May be given several times."
    ),
]


def new_app() -> typer.Typer:
    """An empty command line application; all commands print their help in the same plain style."""
    return typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def run_cli(app: typer.Typer) -> None:
    """Run a command and exit. Bad input and wrong usage are one line on stderr and exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file name need not be text and is printed all the same
    command = typer.main.get_command(app)
    try:
        code = command.main(standalone_mode=False)
    except (InputError, DamagedFile) as error:
        _refuse(str(error))
    except BrokenPipeError:  # the reader of the output has gone, `| head` for example
        os._exit(141)  # as a shell reports it; the interpreter's own end would flush into the pipe again
    except OSError as error:
        what = error.filename or "the system"
        _refuse(f"{what}: {error.strerror or error}; correct this and run the same command again")
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        # typer's own usage errors, whichever version of click they come from, have a message and are one line too
        if not hasattr(error, "format_message"):
            raise
        _refuse(f"{error.format_message()} (see --help)")
    sys.exit(code if isinstance(code, int) else 0)


def _refuse(message: str) -> NoReturn:
    print(f"dc_hpc: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)
