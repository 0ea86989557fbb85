"""`submit --cluster slurm` with a stand-in for SLURM's commands. The tests in tests/slurm use a real cluster."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.commands import GRID, REPOSITORY, submit_grid

from dc_hpc.scheduler import submissions
from dc_hpc.storage import run_directory

SLURM = ("--cluster", "slurm", "--site", "site.yaml")


@pytest.fixture
def place(tmp_path):
    (tmp_path / "grid.yaml").write_text(GRID)
    return tmp_path


def test_slurm_without_slurm_is_one_line(place, digits_root, monkeypatch):
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    out = submit_grid(place, digits_root, "--cluster", "slurm", "--site", REPOSITORY / "slurm" / "default.yaml")
    assert out.returncode == 2 and "--cluster slurm needs sbatch" in out.stderr
    assert len(out.stderr.strip().splitlines()) == 1


@pytest.fixture
def stand_in(place, monkeypatch):
    """sbatch, srun and squeue on PATH that keep their input. The tests in tests/slurm use a real cluster."""
    tools = place / "tools"
    tools.mkdir()
    (tools / "sbatch").write_text('#!/bin/sh\nfor last; do :; done\ncp "$last" "$SEEN"\n$ANSWER\n')
    (tools / "srun").write_text("#!/bin/sh\n")
    (tools / "squeue").write_text("#!/bin/sh\n")
    for tool in tools.iterdir():
        tool.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.setenv("SEEN", str(place / "sbatch.txt"))
    monkeypatch.setenv("ANSWER", "echo Submitted batch job 77")
    return place


def test_an_array_carries_what_the_grid_and_the_site_say(stand_in, digits_root):
    (stand_in / "site.yaml").write_text(
        "partition: low\naccount: lab7\nmemory_gb: 8\narray_throttle: 1\n"
        "setup: [module load cuda]\nextra: {constraint: a100}\n"
    )
    (stand_in / "grid.yaml").write_text(GRID + "resources: {minutes: 90, runs_per_task: 2}\n")
    out = submit_grid(stand_in, digits_root, *SLURM, "--yes", "--no-aggregate", check=0)
    assert re.search(r"submitted job 77 \(grid-[0-9a-f]{8}\): 2 tasks", out.stdout)
    script = (stand_in / "sbatch.txt").read_text()
    for line in (
        "--array=0-1%1",
        "--partition=low",
        "--account=lab7",
        "--mem=8GB",
        "--time=90",
        "--requeue",
        "--constraint=a100",
        "--job-name=grid-[0-9a-f]{8}",
    ):
        assert re.search(f"^#SBATCH {line}$", script, re.M), script
    assert "module load cuda" in script and "SRUN_CPUS_PER_TASK" in script
    assert [run_directory.state_of(d).name for d in run_directory.run_directories(stand_in / "outputs")] == ["new"] * 3


def test_a_snapshot_runs_although_a_task_starts_in_a_checkout(stand_in, digits_root):
    """`python -m` and `python -c` search the current folder before PYTHONPATH."""
    (stand_in / "site.yaml").write_text("partition: low\n")
    out = submit_grid(stand_in, digits_root, *SLURM, "--yes", "--no-aggregate", "--snapshot", check=0).stdout
    copied = re.search("the copy of the code in (.*)", out)[1]
    (stand_in / "dc_hpc").mkdir()
    (stand_in / "dc_hpc" / "__init__.py").write_text("raise SystemExit('the code of the checkout')\n")
    setup = (stand_in / "sbatch.txt").read_text().partition("# setup\n")[2].partition("# command\n")[0]
    command = f"{setup}{sys.executable} -c 'import dc_hpc; print(dc_hpc.__file__)'"
    done = subprocess.run(["bash", "-c", command], cwd=stand_in, capture_output=True, text=True)
    assert done.stdout.startswith(str(stand_in / copied)), done.stdout + done.stderr


def test_nothing_is_submitted_while_the_queue_cannot_be_seen(stand_in, digits_root):
    """sbatch may work while squeue does not; then waiting runs would be submitted a second time."""
    site = REPOSITORY / "slurm" / "default.yaml"
    arguments = ["--cluster", "slurm", "--site", site, "--yes", "--no-aggregate"]
    submit_grid(stand_in, digits_root, *arguments, check=0)
    (stand_in / "sbatch.txt").unlink()
    (stand_in / "tools" / "squeue").write_text("#!/bin/sh\nexit 1\n")
    out = submit_grid(stand_in, digits_root, *arguments, check=2)
    assert "nobody knows which runs are in its queue" in out.stderr and not (stand_in / "sbatch.txt").exists()
    assert "3 points" in submit_grid(stand_in, digits_root, *arguments, "--dry-run", check=0).stdout


def test_each_grid_gets_its_own_arrays_and_resources(stand_in, digits_root):
    """A run that two grids share belongs to the first."""
    (stand_in / "site.yaml").write_text("partition: low\n")
    (stand_in / "more.yaml").write_text(GRID.replace("[1, 2, 3]", "[3, 4]") + "resources: {minutes: 7}\n")
    out = submit_grid(stand_in, digits_root, "--grid", "more.yaml", *SLURM, "--yes", "--no-aggregate", check=0)
    assert re.findall(r"\((grid|more)-[0-9a-f]{8}\): (\d) tasks", out.stdout) == [("grid", "3"), ("more", "1")]
    assert "#SBATCH --time=7\n" in (stand_in / "sbatch.txt").read_text()


@pytest.mark.parametrize("flag", ["--kmeans-backend", "--engine"])
def test_the_kmeans_backend_is_recorded_under_its_old_flag_too(stand_in, digits_root, flag):
    (stand_in / "site.yaml").write_text("partition: low\n")
    submit_grid(stand_in, digits_root, *SLURM, "--yes", "--no-aggregate", flag, "sklearn", check=0)
    (record,) = submissions.read_all(stand_in / "outputs")
    assert record.execution["engine"] == "sklearn"


def test_a_refusing_cluster_is_one_line(stand_in, digits_root, monkeypatch):
    monkeypatch.setenv("ANSWER", "exit 1")
    out = submit_grid(
        stand_in, digits_root, "--cluster", "slurm", "--site", REPOSITORY / "slurm" / "default.yaml", "--yes"
    )
    assert out.returncode == 2 and "sbatch refused" in out.stderr and "Traceback" not in out.stderr


@pytest.mark.parametrize(
    "text, message",
    [
        ("partition: 'low\\nrm -rf ~'\n", "1: partition"),
        ("partion: low\n", "1: unknown key 'partion'; did you mean \"partition\"?"),
        ("gpus: -1\n", "1: gpus -1 is not allowed"),
    ],
)
def test_a_wrong_site_is_refused_with_its_line(stand_in, digits_root, text, message):
    (stand_in / "site.yaml").write_text(text)
    out = submit_grid(stand_in, digits_root, *SLURM)
    assert out.returncode == 2 and message in out.stderr and not (stand_in / "outputs").exists()
