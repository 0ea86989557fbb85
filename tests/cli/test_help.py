"""The help of all commands has one plain style and names no old option."""

import pytest
from support.commands import run_command

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


def test_no_command_prints_the_list_of_commands(tmp_path):
    shown = run_command("__main__", cwd=tmp_path, check=2)
    lines = [line.split() for line in shown.stdout.splitlines()]
    assert {"fetch", "submit", "status", "select", "aggregate", "bench"} <= {line[0] for line in lines if line}
    assert shown.stderr == ""
