"""A task that asks SLURM for a GPU computes on it or fails at its start; its hours count where it was used."""

import re

import pytest
from support.commands import GRID, run_command, submit_grid
from support.small_runs import new_run

from dc_hpc.experiment.execution import Execution
from dc_hpc.experiment.run import run
from dc_hpc.scheduler import run_status, submissions
from dc_hpc.scheduler.estimates import measure, read_length
from dc_hpc.scheduler.submissions import Submission
from dc_hpc.scheduler.worker import TaskPayload
from dc_hpc.storage import run_directory


@pytest.mark.parametrize(
    "device, gpus, expected",
    [("auto", 1, "cuda"), ("auto", 0, "auto"), ("cpu", 1, "cpu"), ("cuda", 2, "cuda")],
)
def test_auto_means_cuda_where_a_gpu_is_paid_for(device, gpus, expected):
    assert Execution("data", device).on(gpus) == Execution("data", expected)


def test_the_tasks_of_a_gpu_site_are_recorded_with_cuda(tmp_path, digits_root, monkeypatch):
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, text in {"sbatch": "echo Submitted batch job 77", "squeue": "", "srun": ""}.items():
        (tools / name).write_text(f"#!/bin/sh\n{text}\n")
        (tools / name).chmod(0o700)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    (tmp_path / "grid.yaml").write_text(GRID)
    for gpus, device in ((1, "cuda"), (0, "auto")):
        (tmp_path / "site.yaml").write_text(f"partition: low\ngpus: {gpus}\n")
        outputs = tmp_path / f"outputs{gpus}"
        more = ("--cluster", "slurm", "--site", "site.yaml", "--yes", "--no-aggregate", "--outputs", outputs)
        submit_grid(tmp_path, digits_root, *more, check=0)
        (record,) = submissions.read_all(outputs)
        assert record.execution["device"] == device and record.gpus == gpus


@pytest.fixture
def in_task(monkeypatch):
    """As in a task of a cluster, on a machine whose torch sees no GPU."""
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)


@pytest.mark.parametrize("built, why", [("12.4", "sees none"), (None, "is built without CUDA")])
def test_without_cuda_a_run_fails_at_its_start_with_one_line(tmp_path, digits_root, in_task, monkeypatch, built, why):
    monkeypatch.setattr("torch.version.cuda", built)
    directory = new_run(tmp_path, digits_root, seed=1)
    assert run(directory, Execution(str(digits_root)).on(1)) == "failed"
    reason = run_directory.state_of(directory).reason
    assert re.match(rf"InputError: the task asked SLURM for a GPU, and torch \S+ {why}; install a torch that", reason)
    assert "gpus: 0 into the site profile" in reason and not (directory / "metrics.csv").exists()


def test_it_is_not_tried_again_and_its_gpu_hours_do_not_count(tmp_path, digits_root, in_task):
    directories = [new_run(tmp_path, digits_root, seed=seed) for seed in (1, 2)]
    payload = TaskPayload(tuple(map(str, directories)), Execution(str(digits_root)).on(1), attempts=5)
    outcomes = payload()
    assert set(outcomes.values()) == {"failed"}
    assert [len(run_directory.attempts(one)) for one in directories] == [1, 1]
    submissions.write(
        tmp_path, Submission("grid-0", str(tmp_path), tuple((one.name,) for one in directories), 60, gpus=1, job="7")
    )
    assert measured(tmp_path, directories).gpu_hours == 0
    shown = run_command("status", "--outputs", tmp_path, cwd=tmp_path, check=0).stdout
    assert "the task asked SLURM for a GPU" in shown and "GPU-hours" not in shown


def measured(outputs, directories):
    table = run_status.collect(outputs, [one.name for one in directories])
    return measure(outputs, table, {one.name: read_length(one) for one in directories})


@pytest.mark.parametrize(
    "entries, counts",
    [
        ({"gpu": True, "ended": "done"}, True),
        ({"gpu": True, "ended": "failed"}, True),
        ({"gpu": False, "ended": "done"}, False),  # `auto` of an older version computed on the CPU
        ({"ended": "failed"}, False),
    ],
)
def test_the_hours_of_a_gpu_count_for_attempts_that_used_it(tmp_path, digits_root, entries, counts):
    directory = new_run(tmp_path, digits_root, seed=1)
    number = run_directory.start_attempt(directory, {})
    started = run_directory.attempts(directory)[0]["started"]
    run_directory.update_attempt(directory, number, {"finished": started + 3600, **entries})
    submissions.write(tmp_path, Submission("grid-0", str(tmp_path), ((directory.name,),), 60, gpus=2, job="7"))
    found = measured(tmp_path, [directory])
    assert found.hours == pytest.approx(1) and found.gpu_hours == pytest.approx(2 if counts else 0)
