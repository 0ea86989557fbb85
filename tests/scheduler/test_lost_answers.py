"""A submission whose answer from sbatch was lost stops its own runs and nothing else, and can be seen and forgotten."""

import json
import sys

import pytest
from support.commands import GRID, run_command, submit_grid
from support.small_runs import new_run

from dc_hpc.config.grid import read_grid
from dc_hpc.scheduler import submissions
from dc_hpc.scheduler.submissions import Submission
from dc_hpc.storage import run_directory

LOST = "lost-0123abcd"


@pytest.fixture
def place(tmp_path, digits_root, monkeypatch):
    """A folder with a submission of seed 1 without an answer. PATH has no SLURM, but what a test puts into bin."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "grid.yaml").write_text(GRID.replace("[1, 2, 3]", "[1, 2]").replace("cycles: 3", "cycles: 1"))
    (tmp_path / "site.yaml").write_text("partition: low\n")
    first = next(iter(read_grid(tmp_path / "grid.yaml", data_root=digits_root).runs.values()))
    run_directory.create(tmp_path / "outputs", first)
    name = next(run_directory.run_directories(tmp_path / "outputs")).name
    folder = str(tmp_path / "outputs" / "slurm" / "lost")
    submissions.write(tmp_path / "outputs", Submission(LOST, folder, ((name,),), minutes=10))
    return tmp_path


def stub(place, name, text, code=0):
    path = place / "bin" / name
    path.write_text(f"#!{sys.executable}\nprint({text!r}, end='')\nraise SystemExit({code})\n")
    path.chmod(0o755)


def states(place, root):
    found = json.loads(run_command("status", "--json", "--grid", "grid.yaml", "--data", root, cwd=place).stdout)
    return [one["state"] for one in found["runs"]], found["unanswered"]


def test_only_its_own_runs_wait(place, digits_root):
    out = submit_grid(place, digits_root, check=0).stdout
    assert "1 of 1 runs done" in out and "to submit: 1" in out and f"status forget {LOST}" in out
    found, unanswered = states(place, digits_root)
    assert found == ["unanswered", "done"] and [one["submission"] for one in unanswered] == [LOST]
    shown = run_command("status", cwd=place, check=0).stdout
    assert "1 unanswered of 2 runs" in shown and f"python -m dc_hpc.status forget {LOST}" in shown


def test_runs_in_a_queue_that_cannot_be_seen_are_not_computed_here(place, digits_root):
    """An array waits on a cluster, and its folder is shared with a workstation."""
    outputs = place / "outputs"
    (lost,) = submissions.read_all(outputs)
    submissions.write(outputs, submissions.replace(lost, job="5", cluster_name="alpha"))
    held = f"submission {LOST} (1 runs): it is job 5 of cluster alpha, whose queue cannot be seen from here; 1 runs"
    assert held in submit_grid(place, digits_root, "--dry-run", check=0).stdout
    out = submit_grid(place, digits_root, check=0).stdout
    assert "to submit: 1" in out and "1 of 1 runs done" in out and held in out
    assert "to submit: 0" in submit_grid(place, digits_root, check=0).stdout
    asked = run_command("status", "forget", LOST, cwd=place, check=2).stderr
    assert "nobody can see from here whether its job 5 still waits or computes" in asked
    run_command("status", "forget", LOST, "--yes", cwd=place, check=0)
    assert "to submit: 1" in submit_grid(place, digits_root, check=0).stdout
    assert submissions.read_all(outputs)[0].job == "5"  # status logs finds its logs


def test_nothing_reaches_a_cluster_whose_queue_cannot_be_seen(place, digits_root):
    """squeue does not answer, but sbatch would. The line has the words of squeue, and nothing is left behind."""
    stub(place, "squeue", "squeue: error: Invalid user: 7", code=1)
    stub(place, "sbatch", "Submitted batch job 77\n")
    stub(place, "srun", "")
    more = ("--cluster", "slurm", "--site", "site.yaml", "--yes", "--set", "seed=[5]")
    refused = submit_grid(place, digits_root, *more, check=2)
    assert "nobody knows which runs are in its queue" in refused.stderr and "Invalid user: 7" in refused.stderr
    assert len(list((place / "outputs" / "runs").iterdir())) == 1


def test_forget_asks_and_lets_its_runs_go_on(place, digits_root):
    refused = run_command("status", "forget", "lost", cwd=place, check=2)
    assert "SLURM does not answer" in refused.stderr and "--yes" in refused.stderr
    assert f"without an answer: {LOST}" in run_command("status", "forget", "other", "--yes", cwd=place, check=2).stderr
    assert f"forgot {LOST}" in run_command("status", "forget", "lost", "--yes", cwd=place, check=0).stdout
    assert states(place, digits_root) == (["new", "new"], [])
    assert "lost" not in run_command("status", cwd=place, check=0).stdout


def test_what_the_queue_shows_is_not_forgotten(place, digits_root):
    stub(place, "squeue", f"12|N/A|12|PENDING|Priority|N/A|N/A||{LOST}\n")
    assert states(place, digits_root)[0][0] == "queued"
    refused = run_command("status", "forget", LOST, "--yes", cwd=place, check=2)
    assert f"submission {LOST} is in the queue, as job 12" in refused.stderr
    (record,) = submissions.read_all(place / "outputs")
    assert record.job is None


def test_a_queue_without_it_is_the_answer(place, digits_root):
    stub(place, "squeue", "")
    assert states(place, digits_root)[0] == ["new", "new"]
    assert "SLURM does not list it" in run_command("status", cwd=place, check=0).stdout


def test_nothing_is_computed_here_that_a_job_with_a_damaged_record_may_have(place, digits_root):
    (record,) = submissions.folder_of(place / "outputs").glob("*.json")
    record.write_text("{")
    squeue = place / "bin" / "squeue"  # a shell, which answers at once also on a busy machine
    squeue.write_text(f"#!/bin/sh\necho '5|N/A|5|PENDING|None|N/A|N/A||{LOST}'\n")
    squeue.chmod(0o755)
    said = submit_grid(place, digits_root, check=2).stderr
    assert f"record of job {LOST}" in said and f"scancel --name={LOST}" in said
    assert [run_directory.state_of(one).name for one in run_directory.run_directories(place / "outputs")] == ["new"]


def test_a_submission_that_arrived_is_not_forgotten_and_a_damaged_record_is(place, digits_root):
    outputs = place / "outputs"
    run = new_run(outputs, digits_root, seed=9)
    submissions.write(outputs, Submission("sent-1", str(outputs), ((run.name,),), minutes=10, job="5"))
    stub(place, "squeue", "")
    assert "sent-1 arrived, as job 5" in run_command("status", "forget", "sent", "--yes", cwd=place, check=2).stderr
    bad = submissions.folder_of(outputs) / "bad-1.json"
    bad.write_text("{")
    assert "bad-1" in run_command("status", cwd=place, check=0).stdout
    run_command("status", "forget", "bad-1", "--yes", cwd=place, check=0)
    assert "bad-1" not in run_command("status", cwd=place, check=0).stdout and not bad.exists()
