"""How every command looks and ends: the style of its help, what commands share, and their exit codes."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from dc_hpc.errors import InputError
from dc_hpc.storage.atomic_files import DamagedFile
from dc_hpc.storage.processes import open_standard_streams, silence_output

# Options that mean the same in several commands have one declaration, so that they have the same words everywhere.
OutputsOption = Annotated[Path, typer.Option(metavar="DIR", help="Folder of the runs, tables and logs.")]
DataOption = Annotated[Path, typer.Option(metavar="DIR", envvar="DC_HPC_DATA", help="Folder of the data sets.")]
SlotsOption = Annotated[int, typer.Option(metavar="N", min=1, help="local: how many runs compute at the same time.")]
SiteOption = Annotated[Path, typer.Option(metavar="FILE", help="slurm: the site profile.")]
SubmitYesOption = Annotated[bool, typer.Option("--yes", "-y", help="slurm: submit without asking.")]
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
PATHS = ("DIR", "FILE")  # what help calls the value of every option that is a path
GRID_FLAGS = ("--grid", "-g")


def ask_consent(action: str, yes: bool) -> None:
    """Ask for consent to an action on a terminal; InputError where nobody can answer and --yes is not given."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise InputError(f"there is no terminal to ask on; to {action}, give --yes")
    if not typer.confirm(f"{action}?"):
        raise typer.Exit(1)


def new_app() -> typer.Typer:
    """An empty command line application; all commands print their help in the same plain style."""
    return typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def one_of(allowed: tuple[str, ...]) -> Callable[[str], list[str]]:
    """The completion of an option whose values are words: those that begin with what is typed."""
    return lambda incomplete: [word for word in allowed if word.startswith(incomplete)]  # typer knows it by this name


def run_cli(app: typer.Typer, program: str | None = None) -> None:
    """Run a command and exit. Bad input and wrong usage are one line on stderr and exit code 2.

    program: the name of the command in its help and in the shell's completion; by default, as it was called.
    """
    open_standard_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file name need not be text and is printed all the same
    command = command_of(app)
    try:
        code = command.main(standalone_mode=False, prog_name=program)
        sys.stdout.flush()  # a full disk, or a reader that has gone, is noticed here at the latest
    except (InputError, DamagedFile) as error:
        _refuse(str(error))
    except BrokenPipeError:  # the reader of the output has gone, `| head` for example
        os._exit(141)  # as a shell reports it; the interpreter's own end would flush into the pipe again
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # typer has made it a failure
            os._exit(141)
        raise
    except OSError as error:
        what = error.filename or "the system"
        _refuse(f"{what}: {error.strerror or error}; correct this and run the same command again")
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if type(error).__name__ == "Abort":  # the input ended at a question
            print("nothing was done", file=sys.stderr)
            sys.exit(1)
        # typer's own usage errors, whichever version of click they come from, have a message and are one line too
        if not hasattr(error, "format_message"):
            raise
        _refuse(
            _usage_problem(error)
            if getattr(error, "ctx", None)
            else f"{error.format_message().rstrip('.')} (see --help)"
        )
    _end(code if isinstance(code, int) else 0)


def _end(code: int) -> NoReturn:
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        silence_output()  # or the interpreter's end would try it again, with a traceback
    sys.exit(code)


def command_of(app: typer.Typer) -> Any:
    """The command that typer makes of an application. It and its sub-commands have -h, --help and --version."""
    command = typer.main.get_command(app)
    _complete(command)
    return command


def _complete(command: Any) -> None:
    command.context_settings["help_option_names"] = ["-h", "--help"]
    command.params.append(_version_option())
    for param in command.params:
        if param.param_type_name == "argument":  # the name of an argument says enough; typer adds its python type
            param.display_type_rich = lambda ctx: None
        if param.metavar in PATHS:
            _expand_home(param)
    for sub in getattr(command, "commands", {}).values():
        _complete(sub)


def _expand_home(param: Any) -> None:
    """Let paths begin with ~: a shell expands it only at the start of a word, so not in `--outputs=~/scratch`."""
    process = param.process_value

    def expanded(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return type(value)(map(expanded, value))
        return type(value)(os.path.expanduser(value)) if isinstance(value, str | Path) else value

    param.process_value = lambda context, value: expanded(process(context, value))


def _version_option() -> Any:
    app = typer.Typer(add_completion=False)

    @app.command()
    def only(
        version: Annotated[
            bool,
            typer.Option(
                "--version",
                is_eager=True,
                expose_value=False,
                callback=_print_version,
                help="Print the version and exit.",
            ),
        ] = False,
    ) -> None: ...

    return typer.main.get_command(app).params[0]


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            print(f"dc_hpc {version('dc-hpc')}")
        except PackageNotFoundError:  # a checkout that is on PYTHONPATH and not installed
            print("dc_hpc, not installed as a package")
        raise typer.Exit()


def _usage_problem(error: Any) -> str:
    """A usage error of typer as one line that ends with the next step."""
    message, context = error.format_message().rstrip("."), error.ctx
    path, flags = context.command_path, _flags(context.command)
    if (option := getattr(error, "option_name", None)) and message.startswith("No such option"):
        return f"no such option: {option}{_option_hint(option, flags)}; its options: {path} --help"
    extra = re.search(r"unexpected extra argument(?:\(s\)|s)? \((.*)\)|No such command '([^']*)'", message)
    if not extra:
        of_pydantic = re.sub(r"Input should be (?:a valid )?([^,]*).*", r"allowed: \1", message).replace(
            "integer", "a whole number"
        )
        needed = getattr(getattr(error, "param", None), "help", "") if "issing" in message else ""
        explained = f" ({needed.rstrip('.')})" if needed else ""
        return f"{of_pydantic}{explained}; its options: {path} --help"
    words = (extra[1] or extra[2]).split()
    if GRID_FLAGS[0] in flags and words[0].endswith((".yaml", ".yml")):
        return f"a grid is given with --grid; write: {path} --grid {' --grid '.join(words)}"
    if extra[2] is None:
        return f"{words[0]} belongs to no option, and {path} takes no such argument; its options: {path} --help"
    from dc_hpc.config.yaml_reader import did_you_mean

    commands = context.command.list_commands(context)
    near = did_you_mean(words[0], commands)
    return f"{path} has no command {words[0]!r}{near}; its commands: {', '.join(commands)}"


def _option_hint(option: str, flags: list[str]) -> str:
    """What a person probably means by an option that does not exist."""
    from dc_hpc.config.key_names import option_meant
    from dc_hpc.config.yaml_reader import did_you_mean

    name = option.lstrip("-").partition("=")[0].replace("-", "_")
    near = did_you_mean(name, [flag.lstrip("-") for flag in flags if flag.startswith("--")])  # all begin with dashes
    return option_meant(name, flags) or near.replace('"', '"--', 1)


def _flags(command: Any) -> list[str]:
    shown = [param for param in command.params if param.param_type_name == "option" and not param.hidden]
    return [flag for param in shown for flag in (*param.opts, *param.secondary_opts)]


def _refuse(message: str) -> NoReturn:
    with contextlib.suppress(OSError):
        print(f"dc_hpc: {' '.join(message.split())}", file=sys.stderr)
    _end(2)
