"""The manners of every door: bad input and wrong usage are one line on stderr and exit code 2."""

from __future__ import annotations

import io
import os
import sys

import typer

from dc_hpc.errors import InputError
from dc_hpc.storage.atomic_files import DamagedFile


def run_cli(app: typer.Typer) -> None:
    """Run a door; bad input and wrong usage become one line on stderr and exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file name need not be text, and is printed all the same
    command = typer.main.get_command(app)
    try:
        code = command.main(standalone_mode=False)
    except InputError as error:
        _refuse(str(error))
    except BrokenPipeError:  # the reader of our output has gone, `| head` for example
        os._exit(141)  # as a shell reports it; the interpreter's own end would flush into the pipe again
    except DamagedFile as error:
        _refuse(str(error))
    except OSError as error:
        what = error.filename or "the system"
        _refuse(f"{what}: {error.strerror or error}; run the same command again when it is mended")
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        # typer's own usage errors, whichever click they come from, know their message and are worth one line too
        if not hasattr(error, "format_message"):
            raise
        _refuse(f"{error.format_message()} (see --help)")
    sys.exit(code if isinstance(code, int) else 0)


def _refuse(message: str) -> None:
    print(f"dc_hpc: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)
