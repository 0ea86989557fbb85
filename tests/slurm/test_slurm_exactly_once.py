"""Each run is sent once to a real SLURM: refused jobs, a hostile environment, two submits at once, cancel."""

import os
import subprocess
import sys

import pytest
from support import slurm_cluster as sc
from support.commands import GRID, run_command, submit_grid

from dc_hpc.scheduler import slurm, submissions

pytestmark = pytest.mark.slurm
ARGUMENTS = ("--cluster", "slurm", "--site", "site.yaml", "--yes")


@pytest.fixture
def place(tmp_path, queue):
    """A grid of three runs that take a while, held in the queue where a test wants that."""
    (tmp_path / "grid.yaml").write_text(GRID.replace("cycles: 3", "cycles: 40") + "resources: {minutes: 5}\n")
    (tmp_path / "site.yaml").write_text("partition: low\ncpus: 1\nextra: {hold: true}\n")
    return tmp_path


def living(place):
    """The tasks of this folder that wait or run, each with its name."""
    names = {one.name for one in submissions.read_all(place / "outputs")}
    return [task for task in slurm.tasks() if task.is_active and task.name in names]


def test_a_job_that_sbatch_refuses_is_no_job_though_squeue_lists_it(place, digits_root, monkeypatch):
    """Where scontrol does not answer, the limits of the cluster are not known before, and sbatch has the last word."""
    (place / "tools").mkdir()
    (place / "tools" / "scontrol").write_text("#!/bin/sh\nexit 1\n")
    (place / "tools" / "scontrol").chmod(0o700)
    monkeypatch.setenv("PATH", f"{place / 'tools'}:{os.environ['PATH']}")
    (place / "site.yaml").write_text("partition: low\ncpus: 1\ngpus: 60\ngpu_flag: gres\n")
    out = submit_grid(place, digits_root, *ARGUMENTS, check=2)
    assert "Requested node configuration is not available" in out.stderr and "submitted job" not in out.stdout
    assert len(out.stderr.strip().splitlines()) == 1 and living(place) == []
    assert "to submit: 3" in submit_grid(place, digits_root, *ARGUMENTS, "--dry-run", check=0).stdout


def test_a_hostile_environment_changes_nothing(place, digits_root, monkeypatch):
    for name, value in {
        "SLURM_TIME_FORMAT": "relative",
        "SQUEUE_PARTITION": "high",
        "SQUEUE_NAMES": "x",
        "SQUEUE_FORMAT": "%i",
        "SBATCH_JOB_NAME": "mine",
        "SBATCH_PARTITION": "nowhere",
        "SLURM_MEM_PER_CPU": "1",
        "SLURM_NTASKS": "2",
        "SLURM_JOB_ID": "9",
    }.items():
        monkeypatch.setenv(name, value)
    submit_grid(place, digits_root, *ARGUMENTS, "--no-aggregate", check=0)
    assert "to submit: 0" in submit_grid(place, digits_root, *ARGUMENTS, "--no-aggregate", check=0).stdout
    assert len(living(place)) == 3
    (record,) = submissions.read_all(place / "outputs")
    asked = ["scontrol", "show", "job", "-o", f"{record.job}_0"]
    shown = slurm.command.run(asked).out
    assert f"JobName={record.name}" in shown and "NumTasks=1" in shown and "MinMemoryCPU=1M" not in shown


def test_two_submits_at_once_and_a_cancel_that_reaches_all(place, digits_root):
    command = [sys.executable, "-m", "dc_hpc.submit", "--grid", "grid.yaml", "--data", str(digits_root), *ARGUMENTS]
    both = [subprocess.Popen(command, cwd=place, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [one.communicate(timeout=400)[0] for one in both]
    assert [one.returncode for one in both] == [0, 0], said
    assert sum("3 tasks" in one for one in said) == 1
    assert len(living(place)) == 4  # the runs and one aggregator
    out = run_command("status", "cancel", "--grid", "grid.yaml", "--data", digits_root, cwd=place, check=0).stdout
    assert "3 tasks cancelled; 0 of 3 runs had none" in out and "the aggregator" in out
    sc.wait_until(lambda: not living(place), "an empty queue")
