"""`status` shows where the runs are that compute now, also those of a cluster's tasks."""

import json
import sys

import pytest
from support.commands import run_command
from support.small_runs import new_run

from dc_hpc.scheduler import submissions
from dc_hpc.scheduler.submissions import Submission
from dc_hpc.storage import run_directory, run_progress
from dc_hpc.storage.run_progress import RunProgress


@pytest.fixture
def computing(tmp_path, digits_root, monkeypatch):
    """A run of a task on another node, in the middle of its second training; another one was measured."""
    outputs = tmp_path / "outputs"
    measured, directory = (new_run(outputs, digits_root, seed=seed) for seed in (1, 2))
    seconds = [
        {"stage": "clustered", "cycle": 0, "seconds": 60.0},
        {"stage": "trained", "cycle": 0, "seconds": 100.0},
        {"stage": "probe", "cycle": None, "seconds": 0.0},
    ]
    run_directory.start_attempt(measured, {"started": 1.0, "finished": 2.0, "ended": "failed", "seconds": seconds})
    entries = {"host": "n1", "cycles_done": 1, "slurm": {"slurm_array_job_id": "43", "slurm_array_task_id": "0"}}
    number = run_directory.start_attempt(directory, entries)
    run_progress.write(directory, number, RunProgress("training", 7, 28, cycle=1, nmi=0.4123, loss=1.25))
    packs = ((directory.name,), ("another",))
    submissions.write(outputs, Submission("grid-ab", str(outputs / "slurm" / "grid"), packs, minutes=10, job="43"))
    squeue = tmp_path / "bin" / "squeue"
    squeue.parent.mkdir()
    squeue.write_text(f"#!{sys.executable}\nprint('43|0|44|RUNNING|None|N/A|N/A|n1|grid-ab')\n")
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", str(squeue.parent))
    return directory


def test_a_running_task_shows_its_phase_and_when_it_will_be_done(computing):
    """Of three clusterings and two trainings two clusterings and a quarter of the second training are over."""
    shown = run_command("status", cwd=computing.parents[2], check=0).stdout
    (line,) = [line for line in shown.splitlines() if computing.name in line]
    expected = f"  running    {computing.name}  1/3  training batch 8 of 28, ETA 2 min, 43_0 on n1"
    assert line == expected, "60 s of clustering and 75 s of training are left"
    found = json.loads(run_command("status", "--json", cwd=computing.parents[2], check=0).stdout)
    run = next(one for one in found["runs"] if one["run"] == computing.name)
    assert run["seconds_left"] == 60 + 75 and run["phase"] == "training batch 8 of 28"
    assert run["progress"] == {"stage": "training", "done": 7, "total": 28, "cycle": 1, "nmi": 0.4123, "loss": 1.25}
    assert found["hours_left"] == round((60 + 75 + 3 * 60 + 2 * 100) / 3600, 4), "and the failed run begins anew"


def test_show_says_where_a_run_is_now(computing):
    shown = run_command("status", "show", computing.name, cwd=computing.parents[2], check=0).stdout
    assert "state: running (43_0 on n1)\nnow: cycle 2, training batch 8 of 28, NMI 0.412, loss 1.250\n" in shown


def test_a_run_that_does_not_compute_shows_no_progress(computing):
    run_directory.update_attempt(computing, 1, {"ended": "failed", "error": "no"})
    found = json.loads(run_command("status", "--json", cwd=computing.parents[2], check=0).stdout)
    assert all(one["progress"] is None and one["phase"] is None for one in found["runs"])
