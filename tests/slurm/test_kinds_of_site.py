"""Clusters like other kinds of site: jobs are preempted by QOS, or suspended; tasks have a limit of memory."""

import json
import re
import subprocess
import time

import one_machine
import pytest
from support import slurm_cluster as sc
from support.commands import run_command
from support.one_cluster import running_cluster

from dc_hpc.config.grid import Resources
from dc_hpc.experiment.execution import Execution
from dc_hpc.scheduler import launch, slurm
from dc_hpc.scheduler.site import Site
from dc_hpc.storage import run_directory

pytestmark = [pytest.mark.slurm, pytest.mark.slow]


def submit(directories, root, site, **more):
    """Submit runs with a site profile; returns the only array."""
    (job,) = launch.submit_slurm(
        directories,
        Execution(str(root), save_seconds=1),
        site=site,
        resources=Resources(minutes=30),
        name="grid",
        outputs=directories[0].parents[1],
        code={},
        **more,
    )
    return job


@pytest.fixture(scope="module")
def preempting_qos():
    """A cluster whose QOS `urgent` preempts the jobs of `normal`; both in the same partition."""
    with running_cluster("database", "qos") as cluster:
        for command in (
            "modify qos normal set PreemptMode=requeue",
            "add qos urgent Priority=100 Preempt=normal",
            "modify user root set qos=normal,urgent",
        ):
            subprocess.run(["sacctmgr", "-i", *command.split()], check=True, capture_output=True)
        time.sleep(1)  # the database tells the controller
        yield cluster


@pytest.mark.parametrize("grace", [0, 10])
def test_preempted_by_a_qos_and_the_same_bytes(preempting_qos, digits_root, tmp_path, uninterrupted, grace):
    """With and without a time of grace, twice."""
    command = ["sacctmgr", "-i", "modify", "qos", "normal", "set", f"GraceTime={grace}"]
    subprocess.run(command, check=True, capture_output=True)
    directories = sc.long_runs(tmp_path, digits_root, 2)
    sc.hold(directories[:1], restarts=2)
    job = submit(
        directories, digits_root, Site(partition="low", qos="normal", cpus=1, extra={"nodelist": "n1"}), payload=sc.Held
    )
    for number in (1, 2):
        sc.wait_until(lambda: sc.started(directories[0], 2), f"start {number}")
        urgent = ["sbatch", "-p", "low", "--qos=urgent", "-w", "n1", "-c2", "-o", "/dev/null", "--wrap", "sleep 3"]
        subprocess.run(urgent, check=True, capture_output=True)
        sc.wait_until(lambda: not sc.started(directories[0]), "preempted")
    sc.wait_for_end(directories)
    sc.assert_same(directories, uninterrupted)
    attempts = run_directory.attempts(directories[0])
    assert len(attempts) >= 3 and attempts[-1]["resumed_from"] and attempts[-1]["slurm"]["slurm_restart_count"] == "2"
    assert len({one["slurm"]["slurm_array_job_id"] for one in attempts}) == 1
    if grace:
        assert sc.log_of(directories[0], job).count("told to stop: preempted; everything is saved") == 2


@pytest.fixture(scope="module")
def suspending():
    """A cluster that suspends the jobs that it preempts."""
    with running_cluster("gang") as cluster:
        yield cluster


def test_a_suspended_run_goes_on_and_ends(suspending, digits_root, tmp_path, uninterrupted):
    """It is stopped in the middle and not told so; it ends in its first attempt, with the same bytes."""
    directories = sc.long_runs(tmp_path, digits_root, 1)
    sc.hold(directories)
    job = submit(directories, digits_root, Site(partition="low", cpus=2, extra={"nodelist": "n1"}), payload=sc.Held)
    sc.wait_until(lambda: sc.started(directories[0], 2), "started")
    sc.preempt(seconds=12)
    sc.wait_until(lambda: state_of(job) == "SUSPENDED", "suspended")
    status = json.loads(run_command("status", "--json", "--outputs", tmp_path, cwd=tmp_path, check=0).stdout)
    assert [one["state"] for one in status["runs"]] == ["running"]
    sc.wait_until(lambda: state_of(job) == "RUNNING", "running again")
    sc.release(directories[0])
    sc.wait_for_end(directories)
    sc.assert_same(directories, uninterrupted)
    assert len(run_directory.attempts(directories[0])) == 1


def test_a_run_may_be_cancelled_while_it_is_suspended(suspending, digits_root, tmp_path, uninterrupted):
    directories = sc.long_runs(tmp_path, digits_root, 1)
    sc.hold(directories)
    job = submit(directories, digits_root, Site(partition="low", cpus=2, extra={"nodelist": "n1"}), payload=sc.Held)
    sc.wait_until(lambda: sc.started(directories[0], 2), "started")
    sc.preempt(seconds=12)
    sc.wait_until(lambda: state_of(job) == "SUSPENDED", "suspended")
    run_command("status", "cancel", directories[0].name, "--outputs", tmp_path, cwd=tmp_path, check=0)
    sc.wait_until(sc.queue_is_empty, "an empty queue")
    sc.release(directories[0])
    submit(directories, digits_root, Site(partition="low", cpus=1))
    sc.wait_for_end(directories)
    sc.assert_same(directories, uninterrupted)


def state_of(job):
    """The state of a job in the queue."""
    return next((task.state for task in slurm.tasks() or () if task.name == job.name), "")


@pytest.fixture(scope="module", params=["cgroup", "overkill"])
def limited_memory(request):
    """A cluster that stops tasks that use more memory than they asked for, by cgroups or by the daemon of the node."""
    if request.param == "cgroup" and not one_machine.can_limit_memory():
        pytest.skip("this machine lets nobody limit memory with cgroups of version 1")
    with running_cluster(request.param) as cluster:
        yield cluster


def test_out_of_memory_is_named(limited_memory, digits_root, tmp_path):
    """Both ways to be stopped; then with enough memory it ends."""
    directories = sc.long_runs(tmp_path, digits_root, 1)
    submit(directories, digits_root, Site(partition="low", cpus=1, memory_gb=1), payload=sc.EatsMemory)
    sc.wait_until(sc.queue_is_empty, "an end")
    shown = run_command("status", "--outputs", tmp_path, cwd=tmp_path, check=0).stdout
    assert re.search(r"out of memory", shown, re.I) and "memory_gb" in shown, shown
    (tmp_path / "enough").touch()
    submit(directories, digits_root, Site(partition="low", cpus=1, memory_gb=3), payload=sc.EatsMemory)
    sc.wait_for_end(directories)


def test_a_run_within_its_memory_is_left_alone(limited_memory, digits_root, tmp_path, uninterrupted):
    # OverMemoryKill adds up the memory of all processes, also what a task and its worker process share
    directories = sc.long_runs(tmp_path, digits_root, 2)
    submit(directories, digits_root, Site(partition="low", cpus=1, memory_gb=2))
    sc.wait_for_end(directories)
    sc.assert_same(directories, uninterrupted)
