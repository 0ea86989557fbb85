"""What a person sees while runs compute: on a terminal, on a dumb one, in a pipe; and at the end."""

import os
import pty
import re
import subprocess
import sys

import pytest
from support.commands import run_command, submit_grid
from support.small_runs import results

from dc_hpc.storage import run_directory

GRID = """base: fmnist
protocol: code
fixed: {dataset: digits, k: 6, cycles: 30, probe_epochs: 20}
sweep: {seed: [1, 2, 3]}
"""


@pytest.fixture
def place(tmp_path, digits_root):
    (tmp_path / "grid.yaml").write_text(GRID)
    return tmp_path


def on_a_terminal(place, root, *arguments, **environment):
    """What submit prints on a terminal of 80 columns; its exit code must be 0."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "dc_hpc.submit", "--grid", "grid.yaml", "--data", str(root), *arguments],
        cwd=place,
        stdout=theirs,
        stderr=theirs,
        env=os.environ | {"COLUMNS": "80", "LINES": "24"} | environment,
    )
    os.close(theirs)
    printed = b""
    while True:
        try:
            part = os.read(ours, 1 << 16)
        except OSError:  # Linux: the other end is closed
            break
        if not part:
            break
        printed += part
    os.close(ours)
    assert process.wait() == 0, printed
    return printed.decode().replace("\r\n", "\n")


def test_a_terminal_shows_a_table_and_the_results(place, digits_root):
    text = on_a_terminal(place, digits_root, "--slots", "1", TERM="xterm", NO_COLOR="1")
    assert "\x1b[1A" in text and not re.search(r"\x1b\[[0-9;]*3[0-7]m", text), "no colour"
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    assert re.search(r"digits-k6-seed1-\w+ +(training \d+/12|features|k-means|probe)", plain)
    assert re.search(r"\d of 3 runs done, 1 running, \d waiting, 0 failed; \d+/90 cycles; ETA ", plain)
    assert max(map(len, re.split(r"[\r\n]+", plain.split("files:")[0].partition("running")[2]))) <= 80
    end = plain[plain.index("3 of 3 runs done\n  run") :]
    assert len(re.findall(r"  digits-k6-seed\d-\w{12}  +0\.\d{3}  +\d\d\.\d\d %", end)) == 3
    assert "files: outputs/runs, " in end and "python -m dc_hpc.aggregate\n" in end


def test_a_dumb_terminal_and_a_pipe_get_plain_lines(place, digits_root):
    small = ["--set", "cycles=3", "--set", "probe_epochs=2"]
    dumb = on_a_terminal(place, digits_root, *small, "--outputs", "one more", TERM="dumb")
    piped = submit_grid(place, digits_root, *small, check=0).stdout
    for text in (dumb, piped):
        assert "\x1b" not in text
        assert len(re.findall(r"^ +\d+ s  done: digits-k6-seed\d-\w+: IA 0\.\d+, accuracy \d", text, re.M)) == 3
        assert re.search(r"^ +\d+ s  \d of 3 runs done, ", text, re.M)
    assert "python -m dc_hpc.aggregate --outputs 'one more'\n" in dumb


def test_a_reader_that_leaves_does_not_hurt_the_runs(place, digits_root):
    small = "--set cycles=3 --set probe_epochs=2"
    command = f"{sys.executable} -m dc_hpc.submit --grid grid.yaml --data {digits_root} {small} | head -1"
    subprocess.run(command, shell=True, cwd=place, check=True, capture_output=True, timeout=120)
    directories = list(run_directory.run_directories(place / "outputs"))
    wanted = run_command("submit", "--grid", "grid.yaml", "--data", digits_root, *small.split(), "--outputs", "other",
                         cwd=place, check=0)  # fmt: skip
    assert "3 of 3 runs done" in wanted.stdout
    for directory in directories:
        while run_directory.state_of(directory).name in ("running", "new"):
            pass
        assert results(directory) == results(place / "other" / "runs" / directory.name)
    assert len(directories) in (0, 3)


def test_a_failed_run_names_the_command_that_prints_its_log(place, digits_root):
    failed = submit_grid(place, digits_root, "--set", "lr=1e5", "--limit", 1, "--outputs", "elsewhere")
    (name,) = (one.name for one in run_directory.run_directories(place / "elsewhere"))
    assert failed.returncode == 1 and f"failed: {name}: DivergenceError" in failed.stdout
    assert f"python -m dc_hpc.status logs {name} --outputs elsewhere\n" in failed.stdout
    assert "dc_hpc.aggregate" not in failed.stdout
    logs = run_command("status", "logs", name, "--outputs", "elsewhere", cwd=place, check=0)
    assert "DivergenceError" in logs.stdout
