"""A grid with a net of one's own: refused unless it is allowed, resumed after a kill, aggregated without its code."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from support.commands import run_command, submit_grid
from support.package import PACKAGE
from support.small_runs import results

import dc_hpc
from dc_hpc.config.grid import read_grid
from dc_hpc.errors import InputError
from dc_hpc.storage import run_directory

NET = '''
from pathlib import Path
from dataclasses import dataclass
from torch import nn

Path("executed").touch()

@dataclass
class Widths:
    first: int = 6

class Net(nn.Module):
    """A strided convolution without bias, a group norm, and no Linear layer at the end."""

    def __init__(self, widths=Widths()):
        super().__init__()
        self.conv = nn.Conv2d(1, widths.first, 5, stride=2, bias=False)
        self.norm = nn.GroupNorm(2, widths.first)
        self.body = nn.Sequential(nn.Conv2d(widths.first, 8, 5, stride=2), nn.ReLU())

    def forward(self, images):
        return self.body(self.norm(self.conv(images)).relu()).flatten(1)

def build():
    return Net()

def no_net():
    return 3
'''
GRID = """base: fmnist
protocol: code
fixed: {dataset: digits, net: "mine:build", probe: [body.0, norm], k: 6, cycles: CYCLES, probe_epochs: 2}
sweep: {seed: [1, 2]}
"""


@pytest.fixture
def place(tmp_path):
    (tmp_path / "mine.py").write_text(NET)
    (tmp_path / "grid.yaml").write_text(GRID.replace("CYCLES", "3"))
    return tmp_path


def runs_of(place):
    return sorted((place / "outputs" / "runs").iterdir())


def test_own_code_runs_only_where_it_is_allowed(place, digits_root):
    for arguments in ((), ("--dry-run",)):
        out = submit_grid(place, digits_root, *arguments, check=2)
        assert out.stderr.count("\n") == 1 and "net mine:build runs Python code" in out.stderr
        assert "--allow-own-nets" in out.stderr and str(place / "mine.py") in out.stderr
    assert not (place / "executed").exists() and not (place / "outputs").exists()


def test_a_grid_with_a_net_of_ones_own_runs_and_is_aggregated(place, digits_root):
    submit_grid(place, digits_root, "--allow-own-nets", check=0)
    assert (place / "executed").exists()
    (place / "executed").unlink()
    found = [run_directory.read_result(directory) for directory in runs_of(place)]
    assert all(one["accuracy"] == one["accuracy_body.0"] and one["accuracy_norm"] > 30 for one in found)
    out = submit_grid(place, digits_root, "--allow-own-nets", check=0).stdout
    assert "2 done" in out and "to submit: 0" in out
    run_command("status", "--grid", "grid.yaml", "--data", digits_root, cwd=place, check=0)
    run_command("aggregate", cwd=place, check=0)
    runs = dc_hpc.load_runs(place / "outputs")
    assert set(runs.net) == {"mine:build"} and runs.net_digest.str.len().eq(64).all() and (runs.state == "done").all()
    run_command("aggregate", "--runs", "outputs/tables/runs.csv", "--outputs", "again", cwd=place, check=0)
    assert (place / "again/tables/runs.csv").read_text() == (place / "outputs/tables/runs.csv").read_text()
    run = dc_hpc.load_run(runs_of(place)[0])
    with pytest.raises(InputError, match="was not allowed to run"):
        run.trunk()
    assert not (place / "executed").exists(), "neither status nor aggregate nor the API executes it"
    here = os.getcwd()
    os.chdir(place)
    try:
        assert run.trunk(own_nets=place).body[0].out_channels == 8
    finally:
        os.chdir(here)
    (place / "mine.py").unlink()
    run_command("aggregate", cwd=place, check=0)


def test_another_file_is_another_run_and_never_continues_the_old_one(place, digits_root):
    before = set(read_names(place, digits_root))
    submit_grid(place, digits_root, "--allow-own-nets", check=0)
    (place / "mine.py").write_text(NET + "# changed\n")
    assert not before & set(read_names(place, digits_root))
    directory = runs_of(place)[0]
    (directory / "result.json").unlink()
    command = [sys.executable, "-m", "dc_hpc.experiment.run", directory, "--data", digits_root, "--own-nets", "."]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True)
    assert done.returncode == 1
    assert "mine.py is not the file that this run was made for; put the old one back" in done.stderr
    (place / "mine.py").write_text(NET)
    assert subprocess.run(command, cwd=place).returncode == 0
    assert subprocess.run(command[:-2], cwd=place).returncode == 0, "a finished run needs no code"


def read_names(place, digits_root):
    here = os.getcwd()
    os.chdir(place)
    try:
        return list(read_grid(place / "grid.yaml", data_root=digits_root).runs)
    finally:
        os.chdir(here)


def test_a_killed_run_of_a_net_of_ones_own_ends_with_the_same_bytes(place, digits_root):
    (place / "grid.yaml").write_text(GRID.replace("CYCLES", "25"))
    one_run = ("--set", "seed=1", "--allow-own-nets")
    submit_grid(place, digits_root, *one_run, "--outputs", "whole", check=0)
    command = [sys.executable, "-m", "dc_hpc.submit", "--grid", "grid.yaml", "--data", str(digits_root), *one_run]
    process = subprocess.Popen(command, cwd=place, start_new_session=True, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not list((place / "outputs").glob("runs/*/metrics.csv")):
        time.sleep(0.02)
    (directory,) = runs_of(place)
    attempt = json.loads((directory / "attempts" / "0001.json").read_text())
    os.kill(attempt["pid"], signal.SIGKILL)
    process.wait(60)
    assert run_directory.state_of(directory).name in ("failed", "resumable")
    submit_grid(place, digits_root, *one_run, check=0)
    assert len(run_directory.attempts(directory)) >= 2
    whole = next((place / "whole" / "runs").iterdir())
    assert results(directory) == results(whole)


@pytest.mark.parametrize(
    "change, message",
    [
        (("net: \"mine:build\"", "net: \"yours:build\""), "grid.yaml:3: net yours:build: there is no file"),
        (("net: \"mine:build\"", "net: \"../mine:build\""), "grid.yaml:3: net '../mine:build' is not allowed"),
        (("net: \"mine:build\"", "net: \"mine:build, sobel: fixed"), "sobel fixed belongs to the nets of the paper"),
        (("probe: [body.0, norm]", "probe: ['a b']"), "grid.yaml:3: probe layer 'a b' is no name of a layer"),
        (("net: \"mine:build\"", "net: \"mine:build\", batch_norm: off"), "batch_norm off belongs to the nets"),
        (("net: \"mine:build\"", "net: \"mine:build\", draws: authors"), "draws authors belongs to the nets"),
    ],
)  # fmt: skip
def test_bad_values_are_named(place, digits_root, change, message):
    old, new = change
    new = new if new.count('"') % 2 == 0 else new.replace("build,", 'build",')
    (place / "grid.yaml").write_text((place / "grid.yaml").read_text().replace(old, new))
    out = submit_grid(place, digits_root, "--allow-own-nets", check=2)
    assert message in out.stderr and out.stderr.count("\n") == 1 and not (place / "outputs").exists()


@pytest.mark.parametrize(
    "change, message",
    [
        (("mine:build", "mine:missing"), "has no function missing"),
        (("mine:build", "mine:no_net"), "no_net() returns a int; it must return an nn.Module"),
        (("body.0", "conv7"), "layer 'conv7' is not in the net; its layers are conv, norm, body"),
    ],
)
def test_a_net_that_cannot_be_built_is_a_failed_run_with_one_line(place, digits_root, change, message):
    (place / "grid.yaml").write_text((place / "grid.yaml").read_text().replace(*change))
    submit_grid(place, digits_root, "--allow-own-nets", "--set", "seed=1", check=1)
    (directory,) = runs_of(place)
    state = run_directory.state_of(directory)
    assert state.name == "failed" and message in state.reason and state.reason.startswith("InputError")


def test_a_login_node_hashes_the_file_without_torch(place, digits_root):
    code = (
        "import runpy, sys; sys.argv[0] = 'x'\n"
        "try: runpy.run_module('dc_hpc.submit', run_name='__main__')\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "assert 'torch' not in sys.modules"
    )
    options = ["--grid", "grid.yaml", "--data", digits_root, "--allow-own-nets", "--dry-run"]
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    subprocess.run([sys.executable, "-c", code, *options], cwd=place, check=True, env=environment)
    assert not (place / "executed").exists()


def test_a_site_profile_may_allow_it(place, digits_root):
    (place / "site.yaml").write_text("partition: low\n")
    slurm = ("--cluster", "slurm", "--site", "site.yaml", "--dry-run")
    submit_grid(place, digits_root, *slurm, check=2)
    (place / "site.yaml").write_text("partition: low\nallow_own_nets: true\n")
    assert "to submit: 2" in submit_grid(place, digits_root, *slurm, check=0).stdout
