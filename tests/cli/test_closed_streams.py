"""Standard streams that are closed, full, or read by nobody: services, cron, `>&-` and `| head`."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from support.commands import GRID
from support.small_runs import new_run

# Each command in a form that ends at once.
COMMANDS = {
    "fetch": "fetch fminst",
    "submit": "submit --grid grid.yaml --data {data} --dry-run",
    "submit to a cluster": "submit --grid grid.yaml --data {data} --cluster slurm",
    "status": "status",
    "status show": "status show digits",
    "status prune": "status prune",
    "select": "select --grid grid.yaml --data {data} --span 2",
    "aggregate": "aggregate --outputs nowhere",
    "bench": "bench --stages nothing",
}
CLOSED = {"stdin": "<&-", "stdout": ">&-", "stderr": "2>&-", "all": "<&- >&- 2>&-"}
EMPTY = {"stdin": "</dev/null", "stdout": ">/dev/null", "stderr": "2>/dev/null", "all": "</dev/null >/dev/null 2>&1"}


def shell(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    python = f"{sys.executable} -m dc_hpc"
    return subprocess.run(
        ["bash", "-c", line.replace("dc-hpc", python)], cwd=folder, capture_output=True, text=True, timeout=560
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory, digits_root) -> Path:
    """A folder with a grid, and an outputs folder with a run that is not computed."""
    made = tmp_path_factory.mktemp("closed")
    (made / "grid.yaml").write_text(GRID)
    new_run(made / "outputs", digits_root)
    return made


@pytest.mark.parametrize("name", COMMANDS)
def test_a_closed_stream_is_as_an_empty_one(folder: Path, digits_root: Path, name: str) -> None:
    command = "dc-hpc " + COMMANDS[name].format(data=digits_root)
    for which in CLOSED if name == "submit" else ("all",):
        closed, empty = (shell(f"{command} {streams[which]}", folder) for streams in (CLOSED, EMPTY))
        found = (closed.returncode, closed.stdout, closed.stderr)
        assert found == (empty.returncode, empty.stdout, empty.stderr), which
        assert closed.returncode in (0, 1, 2) and "Traceback" not in closed.stderr


def test_a_local_job_that_is_started_without_streams_is_done(folder: Path, digits_root: Path) -> None:
    line = f"dc-hpc submit --grid grid.yaml --data {digits_root} --set seed=[1] --set cycles=1 --set probe=off"
    ended = shell(f"{line} --outputs bare <&- >&- 2>&-", folder)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    (run,) = (folder / "bare/runs").iterdir()
    assert (run / "result.json").is_file()
    # the output of the job is in its log, and in no other file that took the number of a closed stream
    assert not any(b"0 s " in path.read_bytes() for path in run.rglob("*") if path.is_file())


@pytest.mark.parametrize("name", ["submit", "status show", "status"])
def test_a_reader_that_has_gone_is_no_failure_to_look_into(folder: Path, digits_root: Path, name: str) -> None:
    command = "dc-hpc " + COMMANDS[name].format(data=digits_root)
    ended = shell(f"{command} | true; echo ${{PIPESTATUS[0]}}", folder)
    assert ended.stdout.strip() == "141" and ended.stderr == ""
    assert shell(f"dc-hpc {name.split()[0]} --help | head -1", folder).stderr == ""


@pytest.mark.parametrize("name", ["submit", "status"])
def test_a_full_disk_below_the_output_is_one_line(folder: Path, digits_root: Path, name: str) -> None:
    ended = shell("dc-hpc " + COMMANDS[name].format(data=digits_root) + " >/dev/full", folder)
    assert ended.returncode == 2 and ended.stderr.count("\n") == 1 and "No space left on device" in ended.stderr
    both = shell("dc-hpc " + COMMANDS[name].format(data=digits_root) + " >/dev/full 2>/dev/full", folder)
    assert both.returncode == 2


QUESTION = """
from dc_hpc.cli import new_app, run_cli
from dc_hpc.cli import ask_consent as ask
app = new_app()
@app.command()
def remove() -> None:
    ask("remove it", False)
    print("removed")
run_cli(app)
"""


def test_an_end_of_input_at_a_question_is_a_no() -> None:
    ours, theirs = pty.openpty()
    os.write(ours, b"\x04")  # Ctrl-D
    ended = subprocess.run([sys.executable, "-c", QUESTION], stdin=theirs, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (1, "nothing was done\n") and "removed" not in ended.stdout
