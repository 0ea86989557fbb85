"""The status of runs: SLURM's answers are parsed and joined with the run directories; also without any cluster."""

import json
import os
import sys
import time

import pytest
from support.commands import GRID, run_command
from support.small_runs import children_seconds, new_run

from dc_hpc.experiment.execution import Execution
from dc_hpc.experiment.run import run
from dc_hpc.scheduler import run_status, slurm, submissions
from dc_hpc.scheduler.submissions import Submission
from dc_hpc.storage import atomic_files, run_directory


def test_squeue_lines_are_read():
    text = (
        "12|3|15|RUNNING|None|2026-01-01T00:00:00|N/A|n1|grid-ab\n"
        "13|N/A|13|PENDING|Resources|N/A|N/A||other\nnonsense\n"
    )
    one, two = slurm.parse_squeue(text)
    assert (one.id, one.index, one.node, one.is_active) == ("12_3", 3, "n1", True)
    assert (two.id, two.index, two.name, two.is_active) == ("13", 0, "other", True)


def test_sacct_lines_are_read():
    text = (
        "12_0|grid-ab|COMPLETED|n1\n12_1|grid-ab|OUT_OF_MEMORY|n1\n12_2|grid-ab|CANCELLED by 1000|None assigned\n"
        "12_[3-4,7%2]|grid-ab|PENDING|None assigned\n13|alone|NODE_FAIL|n2\n"
        "12_0.batch|batch|FAILED|n1\n"
    )
    found = {task.id: task for task in slurm.parse_sacct(text)}
    assert set(found) == {"12_0", "12_1", "12_2", "12_3", "12_4", "12_7", "13"}
    assert found["12_1"].state == "OUT_OF_MEMORY" and found["12_2"].state == "CANCELLED" and found["12_7"].is_active


# The answer of SLURM 22.05 on the test cluster.
ANSWER = (
    "JobId=3 JobState={state} Reason=None Requeue=1 EndTime={end} PreemptEligibleTime=2026-01-01T10:00:00 "
    "PreemptTime={preempt}"
)


@pytest.mark.parametrize(
    "state, end, preempt, cause",
    [
        ("RUNNING", "2026-01-01T10:30:00", "2026-01-01T10:04:00", "preempted"),
        ("RUNNING", "2026-01-01T10:05:30", "None", "time limit"),
        ("RUNNING", "2026-01-01T10:30:00", "None", "asked"),
        ("COMPLETING", "2026-01-01T10:04:00", "None", "cancelled"),
        ("CANCELLED", "2026-01-01T10:04:00", "None", "cancelled"),
    ],
)
def test_the_cause_of_a_signal_is_read_and_not_guessed(state, end, preempt, cause):
    now = time.mktime(time.strptime("2026-01-01 10:04:10", "%Y-%m-%d %H:%M:%S"))
    assert slurm.parse_cause(ANSWER.format(state=state, end=end, preempt=preempt), now=now, signal_delay=90) == cause


def submitted(outputs, *packs, name="grid-ab", job="12"):
    submissions.write(outputs, Submission(name, str(outputs / "slurm" / "grid"), packs, minutes=10, job=job))


@pytest.fixture
def no_cluster(monkeypatch, tmp_path):
    """A folder that is all of PATH; a test may put stubs for SLURM's commands into it."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path / "bin"


def stub(folder, name, text):
    path = folder / name
    path.write_text(f"#!{sys.executable}\nprint({text!r}, end='')\n")
    path.chmod(0o755)


def test_status_with_no_cluster_at_all(digits_root, tmp_path, no_cluster):
    assert "no run in" in run_command("status", cwd=tmp_path, check=0).stdout
    done, new = new_run(tmp_path / "outputs", digits_root), new_run(tmp_path / "outputs", digits_root, seed=2)
    run(done, Execution(str(digits_root)))
    submitted(tmp_path / "outputs", (done.name, new.name))
    out = run_command("status", cwd=tmp_path, check=0).stdout
    assert "1 done" in out and "1 new of 2 runs (no SLURM answers here" in out and "3 of 6 cycles" in out
    refused = run_command("status", "cancel", new.name, cwd=tmp_path, check=2)
    assert "no SLURM answers" in refused.stderr
    assert "begins with it" in run_command("status", "logs", "nothing", cwd=tmp_path, check=2).stderr


def test_the_accounting_knows_tasks_that_squeue_has_forgotten(digits_root, tmp_path, no_cluster):
    """The whole task ran out of memory, so the run's own record says nothing about its end."""
    outputs = tmp_path / "outputs"
    directory = new_run(outputs, digits_root)
    run_directory.start_attempt(
        directory, {"host": "n1", "slurm": {"slurm_array_job_id": "12", "slurm_array_task_id": "1"}}
    )
    os.utime(directory / "attempts" / "0001.json", (1, 1))
    submitted(outputs, ("other",), (directory.name,))
    stub(no_cluster, "squeue", "")
    stub(no_cluster, "sacct", "12_0|grid-ab|COMPLETED|n1\n12_1|grid-ab|OUT_OF_MEMORY|n1\n")
    (status,) = run_status.collect(outputs, [directory.name]).runs.values()
    assert status.state == "resumable" and "12_1 ran out of memory; set a larger memory_gb" in status.reason


def test_a_run_whose_task_is_gone_does_not_count_as_running(digits_root, tmp_path, no_cluster):
    """It was renewed a moment ago, by a task of another host. SLURM answers and does not list the task."""
    outputs = tmp_path / "outputs"
    directory = new_run(outputs, digits_root)
    numbers = {"slurm_array_job_id": "12", "slurm_array_task_id": "1"}
    run_directory.start_attempt(directory, {"host": "n1", "slurm": numbers})

    def state():
        return run_status.collect(outputs, [directory.name], cluster_name=lambda: "here").runs[directory.name].state

    submitted(outputs, ("other",), (directory.name,))
    assert state() == "running"  # nobody answers
    stub(no_cluster, "squeue", "12|1|12|RUNNING|None|N/A|N/A|n1|grid-ab\n")
    assert state() == "running"
    stub(no_cluster, "squeue", "")
    assert state() == "resumable"
    (known,) = submissions.read_all(outputs)
    submissions.write(outputs, submissions.replace(known, cluster_name="elsewhere"))
    assert state() == "running"
    submissions.write(outputs, submissions.replace(known, job="13"))
    assert state() == "running"  # of a submission that this folder does not know


def test_without_accounting_the_log_names_the_cause(digits_root, tmp_path, no_cluster):
    outputs = tmp_path / "outputs"
    directory = new_run(outputs, digits_root)
    run_directory.start_attempt(directory, {"host": "n1"})
    os.utime(directory / "attempts" / "0001.json", (1, 1))
    submitted(outputs, (directory.name,))
    log = outputs / "slurm" / "grid" / "12_0_log.err"
    log.parent.mkdir()
    log.write_text(
        "slurmstepd: error: Detected 1 oom-kill event(s) in StepId=12.0. Some of your processes may have been killed"
    )
    stub(no_cluster, "squeue", "")
    (status,) = run_status.collect(outputs, [directory.name]).runs.values()
    assert "ran out of memory" in status.reason


def test_gpu_hours_used_and_left(digits_root, tmp_path, no_cluster):
    """One of two runs that share a GPU computed for an hour; two clusterings and one training are left."""
    outputs = tmp_path / "outputs"
    directory = new_run(outputs, digits_root)
    took = {"clustered": 600.0, "trained": 1200.0}
    seconds = [{"stage": stage, "cycle": 0, "seconds": value} for stage, value in took.items()]
    run_directory.start_attempt(
        directory, {"started": 0.0, "finished": 3600.0, "ended": "stopped", "cycles_done": 1, "seconds": seconds}
    )
    submissions.write(
        outputs,
        Submission("grid-ab", str(outputs), ((directory.name,),), minutes=10, job="12", gpus=1, parallel_runs=2),
    )
    out = run_command("status", cwd=tmp_path, check=0).stdout
    assert "60 min computed, 0.50 GPU-hours" in out and "left: at least 40 min of computing (0.33 GPU-hours)" in out


def test_a_waiting_task_is_queued_and_not_submitted_again(digits_root, tmp_path, no_cluster):
    directory = new_run(tmp_path, digits_root)
    submitted(tmp_path, (directory.name,))
    stub(no_cluster, "squeue", "12|N/A|12|PENDING|BeginTime|N/A|N/A||grid-ab\n")
    (status,) = run_status.collect(tmp_path, [directory.name]).runs.values()
    assert status.state == "queued" and status.is_active and not status.is_missing
    assert status.reason == "12 waits: starts at its begin time"
    stub(no_cluster, "squeue", "12|N/A|12|PENDING|BeginTime|N/A|N/A||another-name\n")
    (status,) = run_status.collect(tmp_path, [directory.name]).runs.values()
    assert status.state == "new" and not status.is_active and status.is_missing  # the same number, but not our job


def write(path, data):
    """Write a record with its digest, but without syncing it: there are many."""
    path.write_text(json.dumps(data | {"sha256": atomic_files._content_digest(data)}))


def test_the_status_of_ten_thousand_runs_takes_five_seconds(digits_root, tmp_path):
    (tmp_path / "grid.yaml").write_text(GRID.replace("[1, 2, 3]", "1..10000"))
    from dc_hpc.config.grid import read_grid

    grid, outputs = read_grid(tmp_path / "grid.yaml", data_root=digits_root), tmp_path / "outputs"
    attempt = json.dumps(
        {
            "host": "n1",
            "pid": 1,
            "started": 1.0,
            "finished": 9.0,
            "ended": "done",
            "cycles_done": 3,
            "seconds": [{"stage": "clustered", "cycle": 0, "seconds": 1.5}],
        }
    )
    for name, config in grid.runs.items():
        folder = outputs / "runs" / name
        (folder / "attempts").mkdir(parents=True)
        write(folder / "config.json", {"format": 1, "config": config.model_dump(mode="json")})
        (folder / "attempts" / "0001.json").write_text(attempt)
        if config.seed % 2:
            write(folder / "result.json", {"format": 1, "run_id": name})
    names = list(grid.runs)
    atomic_files.make_directory(submissions.folder_of(outputs))
    for start in range(0, 10_000, 1000):
        submitted(outputs, *((name,) for name in names[start : start + 1000]), name=f"grid-{start}", job=str(start + 1))
    for command in (["status"], ["submit", "--grid", "grid.yaml", "--data", digits_root, "--dry-run"]):
        seconds = []
        for _ in range(2):
            begun = children_seconds()
            out = run_command(*command, cwd=tmp_path, check=0).stdout
            seconds.append(children_seconds() - begun)
        print(command[0], seconds)
        assert "5000 done" in out and min(seconds) < 5


def test_a_submission_of_an_earlier_version_is_read(tmp_path):
    """Its record has neither the warning before the time limit nor the name of the cluster."""
    submitted(tmp_path, ("one",))
    path = submissions.folder_of(tmp_path) / "grid-ab.json"
    record = atomic_files.read_checksummed(path)
    atomic_files.write_checksummed(
        path, {name: record[name] for name in record if name not in ("signal_delay", "cluster_name")}
    )
    warnings = []
    (read,) = submissions.read_all(tmp_path, warnings)
    assert warnings == [] and (read.signal_delay, read.cluster_name) == (90, "")


def test_a_submission_of_another_version_is_read(tmp_path):
    """Settings of the computation that this version does not know are left out."""
    made = Submission(
        "grid-ab",
        str(tmp_path / "slurm" / "grid"),
        (("one",),),
        minutes=10,
        job="7",
        execution={"data": "data", "threads": 2, "compile": True},
    )
    submissions.write(tmp_path, made)
    warnings = []
    (read,) = submissions.read_all(tmp_path, warnings)
    assert warnings == [] and read.job == "7"
    assert Execution.from_record(read.execution) == Execution("data", threads=2)
