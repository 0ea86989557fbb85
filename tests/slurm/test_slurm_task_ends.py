"""Tasks of a real SLURM that end before their runs begin: the status says why, from what SLURM and the logs say."""

import sys

import pytest
from support import slurm_cluster as sc
from support.small_runs import new_run

from dc_hpc.config.grid import Resources
from dc_hpc.experiment.execution import Execution
from dc_hpc.scheduler import launch, run_status
from dc_hpc.scheduler.site import Site

pytestmark = pytest.mark.slurm


def submit(directory, root, site, minutes=5):
    """Submit one run under a site profile; returns its submission."""
    (made,) = launch.submit_slurm(
        [directory],
        Execution(str(root)),
        site=site,
        resources=Resources(minutes=minutes),
        name="grid",
        outputs=directory.parents[1],
        code={},
    )
    return made


@pytest.mark.parametrize(
    "site, cause, line",
    [
        ({"setup": ("echo about to fail >&2", "exit 3")}, "unknown", "about to fail"),
        ({"setup": ("set -e", "module load cuda")}, "no module command", "module: command not found"),
        ({"setup": ("kill -9 $$",)}, "launch failure", ""),
        ({"container": "apptainer exec x.sif"}, "container program not found", "apptainer"),
        ({"setup": ("export SLURM_MEM_PER_CPU=10 SLURM_MEM_PER_NODE=10",)}, "srun failed", "mutually exclusive"),
        ({"container": "env -i PATH=/nowhere"}, "python not found", "python3"),
    ],
    ids=["setup", "module", "killed", "container", "srun", "python"],
)
def test_a_task_that_dies_before_its_run(queue, digits_root, tmp_path, site, cause, line):
    directory = new_run(tmp_path, digits_root)
    one = submit(directory, digits_root, Site(partition="low", cpus=1, **site))
    sc.wait_until(lambda: sc.queue_is_empty("grid"), "the end")
    (status,) = run_status.collect(tmp_path, [directory.name]).runs.values()
    print(status.reason, status.task)
    assert status.state == "failed" and status.is_missing
    assert status.reason.startswith(f"task {one.task_id(0)} ") and "before the run began: " in status.reason
    assert status.end.cause.name == cause and line in status.end.line and status.end.state == "FAILED"


def test_python_that_is_not_on_the_node(queue, digits_root, tmp_path, monkeypatch):
    directory = new_run(tmp_path, digits_root)
    monkeypatch.setattr(sys, "executable", "/nowhere/bin/python3")
    submit(directory, digits_root, Site(partition="low", cpus=1))
    sc.wait_until(lambda: sc.queue_is_empty("grid"), "the end")
    (status,) = run_status.collect(tmp_path, [directory.name]).runs.values()
    print(status.reason)
    assert status.end.cause.words == "the node cannot start /nowhere/bin/python3"


def test_a_time_limit_during_the_start(queue, digits_root, tmp_path):
    directory = new_run(tmp_path, digits_root)
    submit(directory, digits_root, Site(partition="low", cpus=1, requeue=False, setup=("sleep 300",)), minutes=1)
    sc.wait_until(lambda: sc.queue_is_empty("grid"), "the end")
    (status,) = run_status.collect(tmp_path, [directory.name]).runs.values()
    print(status.reason)
    assert status.end.cause.name == "time limit" and "reached its time limit before the run began" in status.reason


def test_an_aggregator_that_fails(queue, digits_root, tmp_path):
    directory = new_run(tmp_path, digits_root)
    site = Site(partition="low", cpus=1, setup=("exit 1",))
    made = submit(directory, digits_root, site)
    plain = Site(partition="low", cpus=1)
    last = launch.submit_aggregator([made], ["--nonsense"], site=plain, name="grid", outputs=tmp_path)
    sc.wait_until(sc.queue_is_empty, "the end")
    table = run_status.collect(tmp_path, [directory.name])
    print(table.describe_problems())
    (end,) = table.failed_aggregators
    assert end.id == last.job and end.state == "FAILED" and "nonsense" in end.line
