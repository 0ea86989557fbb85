"""The help of all commands has one plain style and names no old option."""

import os
import shlex
import subprocess
import sys
from importlib.metadata import version

import pytest
from support.commands import run_command

from dc_hpc.__main__ import app
from dc_hpc.cli import command_of

COMMANDS = (
    "fetch",
    "submit",
    "select",
    "aggregate",
    "bench",
    "status",
    "status logs",
    "status check",
    "status cancel",
    "status show",
    "status forget",
    "status du",
    "status prune",
)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_plain_text(command, tmp_path):
    name, *rest = command.split()
    shown = run_command(name, *rest, "--help", cwd=tmp_path, check=0).stdout
    assert shown.startswith(f"Usage: python -m dc_hpc.{command} ") and shown.isascii(), "no boxes, no colours"
    assert "--engine" not in shown and "--put-aside" not in shown
    assert "--install-completion" not in shown


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_short_help_option_and_a_version(command, tmp_path):
    name, *rest = command.split()
    assert run_command(name, *rest, "-h", cwd=tmp_path, check=0).stdout == (
        run_command(name, *rest, "--help", cwd=tmp_path, check=0).stdout
    )
    assert run_command(name, *rest, "--version", cwd=tmp_path, check=0).stdout == f"dc_hpc {version('dc-hpc')}\n"


def test_the_commands_have_one_look():
    """An option that several commands have is written in the same way in each; no python type is shown."""
    found = {}
    for command in _leaves(command_of(app)):
        for param in command.params:
            if param.param_type_name != "option" or param.hidden:
                continue
            assert param.is_flag or param.metavar, f"{command.name}: {param.opts} has no metavar"
            found.setdefault(param.opts[0], set()).add((tuple(param.opts), param.metavar))
    several = [option for option, looks in found.items() if len(looks) > 1]
    assert sorted(several) == ["--json", "--only"], (
        "bench writes a file, status prints; submit names states, aggregate panels"
    )
    assert {"--grid", "--data", "--outputs", "--slots", "--version"} <= set(found)


def test_no_command_prints_the_help_with_the_list_of_commands(tmp_path):
    shown = run_command("__main__", cwd=tmp_path, check=0)
    assert shown.stderr == "" and shown.stdout == run_command("__main__", "--help", cwd=tmp_path, check=0).stdout
    listed = [line.split()[0] for line in shown.stdout.partition("Commands:\n")[2].splitlines()]
    assert listed == ["fetch", "submit", "status", "select", "aggregate", "bench"]
    assert "..." not in shown.stdout.partition("Commands:\n")[2], "no line is cut off"


@pytest.mark.parametrize(
    "words, completions",
    [
        ("dc-hpc su", ["submit"]),
        ("dc-hpc fetch f", ["fmnist"]),
        ("dc-hpc submit --device c", ["cpu", "cuda"]),
        ("dc-hpc submit --kmeans-backend f", ["faiss"]),
        ("dc-hpc submit --dr", ["--dry-run"]),
        ("dc-hpc status l", ["logs"]),
    ],
)
def test_a_shell_completes_commands_options_and_values_without_torch(words, completions, tmp_path):
    code = (
        "import sys; sys.argv = ['dc-hpc']\nfrom dc_hpc.__main__ import main\n"
        "try: main()\nfinally: assert not {'torch', 'pandas', 'sklearn'} & set(sys.modules)"
    )
    request = {"_DC_HPC_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **request}, capture_output=True, text=True, cwd=tmp_path
    )
    assert (done.stdout.split(), done.stderr, done.returncode) == (completions, "", 0)


def test_the_script_for_the_shell_completes_dc_hpc_whichever_way_it_is_printed(tmp_path):
    """typer looks for the shell among the parents of the process, hence the shell with another command after it."""
    words = f"{shlex.quote(sys.executable)} -m dc_hpc --show-completion; exit"
    shown = subprocess.run(["bash", "-c", words], capture_output=True, text=True, cwd=tmp_path).stdout
    assert "_DC_HPC_COMPLETE=complete_bash" in shown
    assert shown.rstrip().endswith("complete -o default -F _dc_hpc_completion dc-hpc")


def _leaves(command):
    for sub in command.commands.values():
        yield sub
        yield from _leaves(sub) if hasattr(sub, "commands") else ()
