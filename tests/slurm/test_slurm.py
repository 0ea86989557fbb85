"""Tasks on a real SLURM that are preempted, limited, cancelled or lost end with the files of an uninterrupted run."""

import os
import re
import subprocess
import sys

import pytest
from support import slurm_cluster as sc
from support.commands import REPOSITORY, run_command
from support.small_runs import new_run, results

from dc_hpc.experiment.execution import Execution
from dc_hpc.experiment.run import run
from dc_hpc.scheduler import run_status, slurm
from dc_hpc.storage import run_directory

pytestmark = pytest.mark.slurm


@pytest.mark.parametrize("partition, user_signal", [("low", False), ("low", True), ("low0", False), ("low0", True)])
def test_preempted_twice_and_the_same_bytes(queue, digits_root, tmp_path, uninterrupted, partition, user_signal):
    """With and without a grace period, with and without the user's signal, under a time limit of 5 minutes."""
    queue.write_config(queue.state, user_signal=user_signal)
    subprocess.run(["scontrol", "reconfigure"], check=True)
    directories = sc.long_runs(tmp_path, digits_root, 2)
    sc.hold(directories[:1], restarts=2)
    (job,) = sc.submit(
        directories, digits_root, partition=partition, node="n1", minutes=5, save_seconds=1, payload=sc.Held
    )
    for number in (1, 2):
        sc.wait_until(lambda: sc.started(directories[0], 2), f"start {number}")
        sc.preempt()
        sc.wait_until(lambda: not sc.started(directories[0]), "preempted")
    sc.wait_for_end(directories)
    sc.assert_same(directories, uninterrupted)
    attempts = run_directory.attempts(directories[0])
    assert len(attempts) >= 3 and attempts[-1]["resumed_from"] and attempts[-1]["slurm"]["slurm_restart_count"] == "2"
    assert len({one["slurm"]["slurm_array_job_id"] for one in attempts}) == 1
    if partition == "low":
        assert sc.log_of(directories[0], job).count("told to stop: preempted; everything is saved") == 2


def test_the_time_limit_requeues_and_the_run_continues(queue, digits_root, tmp_path, uninterrupted):
    """A limit of one minute with a warning 20 s before it; SLURM sends warnings about once a minute."""
    directories = [new_run(tmp_path, digits_root, seed=1, cycles=400)]
    sc.hold(directories, cycles=300)
    (job,) = sc.submit(directories, digits_root, minutes=1, payload=sc.Held)
    sc.wait_until(
        lambda: (
            len(run_directory.attempts(directories[0])) >= 2 or run_directory.state_of(directories[0]).name == "done"
        ),
        "a second attempt",
        170,
    )
    assert "told to stop: time limit; everything is saved" in sc.log_of(directories[0], job)
    sc.wait_until(
        lambda: (
            run_directory.state_of(directories[0]).name == "done"
            or run_directory.state_of(directories[0]).cycles_done > 2
        ),
        "a further cycle",
    )
    assert run_directory.attempts(directories[0])[-1]["resumed_from"]


def test_a_cancelled_task_saves_and_is_not_requeued(queue, digits_root, tmp_path, uninterrupted):
    directories = sc.long_runs(tmp_path, digits_root, 2)
    sc.hold(directories)
    (job,) = sc.submit(directories, digits_root, payload=sc.Held)
    sc.wait_until(lambda: all(map(sc.started, directories)), "both started")
    cancelled = run_command("status", "cancel", directories[0].name, "--outputs", tmp_path, cwd=tmp_path, check=0)
    assert f"cancelled {job.task_id(0)}, which was running" in cancelled.stdout
    assert "1 tasks cancelled" in cancelled.stdout
    sc.release(directories[1])
    sc.wait_for_end(directories[1:])
    sc.wait_until(sc.queue_is_empty, "an empty queue")
    status = run_status.collect(tmp_path, [directories[0].name]).runs[directories[0].name]
    assert status.state == "resumable" and "was cancelled" in status.reason
    assert (
        "told to stop: cancelled" in sc.log_of(directories[0], job) and len(run_directory.attempts(directories[0])) == 1
    )
    assert list((directories[0] / "checkpoints").iterdir())
    sc.submit(directories[:1], digits_root)
    sc.wait_for_end(directories)
    sc.assert_same(directories, uninterrupted)


@pytest.mark.parametrize("requeue", [True, False])
def test_where_preemption_cancels(queue, digits_root, tmp_path, uninterrupted, requeue):
    """The task requeues itself. Where the site forbids that, submitting again is the recovery."""
    directories = sc.long_runs(tmp_path, digits_root, 1)
    sc.hold(directories)
    sc.submit(directories, digits_root, partition="lowc", node="n1", save_seconds=0, requeue=requeue, payload=sc.Held)
    sc.wait_until(lambda: sc.started(directories[0], 3), "started")
    sc.preempt()
    if not requeue:
        sc.wait_until(lambda: sc.queue_is_empty("grid"), "the end")
        status = run_status.collect(tmp_path, [directories[0].name]).runs[directories[0].name]
        assert status.state == "resumable" and status.reason and not status.is_active
        sc.submit(directories, digits_root)
    sc.wait_for_end(directories)
    sc.assert_same(directories, uninterrupted)
    attempts = run_directory.attempts(directories[0])
    assert attempts[-1]["resumed_from"] and ("slurm_restart_count" in attempts[-1]["slurm"]) == requeue


def test_a_lost_node_whose_process_lives_on(queue, digits_root, tmp_path):
    """Two attempts of one run compute at the same time: the node's daemon is dead, but its process is not.

    The first attempt is still alive when the requeued task begins the second one.
    """
    directories = sc.long_runs(tmp_path, digits_root, 1, cycles=60)
    sc.hold(directories, cycles=40)
    (job,) = sc.submit(directories, digits_root, save_seconds=0, payload=sc.Held)
    sc.wait_until(lambda: sc.started(directories[0]), "started")
    first = run_directory.attempts(directories[0])[0]["pid"]
    node = next(task.node for task in slurm.tasks() if task.name == job.name)
    queue.stop_daemon(queue.state / f"slurmd-{node}.pid", 9)
    subprocess.run(["scontrol", "update", f"nodename={node}", "state=down", "reason=lost"], check=True)
    try:
        sc.wait_until(lambda: len(run_directory.attempts(directories[0])) == 2, "a second attempt")
        assert os.path.exists(f"/proc/{first}"), "the first attempt had ended before the second began"
        sc.release(directories[0])
        sc.wait_for_end(directories)
        sc.wait_until(lambda: not os.path.exists(f"/proc/{first}"), "the old process ended")
    finally:
        queue.start_node(queue.state, node)
        subprocess.run(["scontrol", "update", f"nodename={node}", "state=resume"], check=False)
    reference = new_run(tmp_path / "uninterrupted", digits_root, seed=1, cycles=60)
    run(reference, Execution(str(digits_root)))
    assert results(directories[0]) == results(reference)


def test_a_task_of_four_runs_resumes_its_unfinished_runs(queue, digits_root, tmp_path, uninterrupted):
    directories = sc.long_runs(tmp_path, digits_root, 4)
    sc.hold(directories[2:])
    (job,) = sc.submit(
        directories,
        digits_root,
        partition="low0",
        node="n1",
        cpus=2,
        save_seconds=0,
        runs_per_task=4,
        parallel_runs=2,
        payload=sc.Held,
    )
    assert len(job.runs) == 1 and "_" not in job.task_id(0)
    sc.wait_until(lambda: sum(run_directory.state_of(one).name == "done" for one in directories) >= 2, "half of them")
    sc.wait_until(lambda: any(map(sc.started, directories)), "a third")
    sc.preempt()
    sc.wait_for_end(directories)
    sc.assert_same(directories, uninterrupted)
    assert (
        len(run_directory.attempts(directories[0])) == 1
        and max(len(run_directory.attempts(one)) for one in directories) >= 2
    )


def test_a_run_that_always_dies_stops_after_five_attempts_and_names_memory(queue, digits_root, tmp_path):
    directories = sc.long_runs(tmp_path, digits_root, 2)
    (job,) = sc.submit(directories, digits_root, payload=sc.DiesAtOnce, runs_per_task=2)
    sc.wait_until(sc.queue_is_empty, "an end")
    for directory in directories:
        state = run_directory.state_of(directory)
        assert state.name == "failed" and len(run_directory.attempts(directory)) == 5
        assert "out of memory, most likely" in state.reason and re.search(r"memory_gb: \d+", state.reason)
        assert (directory / "attempts" / "0005.error").exists()
    shown = run_command("status", "--outputs", tmp_path, cwd=tmp_path, check=0).stdout
    assert "2 failed" in shown and "memory_gb" in shown


def test_a_signal_in_the_middle_of_a_save(queue, digits_root, tmp_path, uninterrupted):
    """The save is finished. SLURM did not preempt the task, so it ends; submitting again continues the run."""
    directories = sc.long_runs(tmp_path, digits_root, 1)
    (job,) = sc.submit(directories, digits_root, payload=sc.SignalledWhileSaving, save_seconds=0)
    sc.wait_until(sc.queue_is_empty, "an end")
    assert (tmp_path / "signalled").exists() and "told to stop: asked" in sc.log_of(directories[0], job)
    assert run_directory.state_of(directories[0]).name == "resumable" and not list(directories[0].rglob(".*.tmp*"))
    sc.submit(directories, digits_root)
    sc.wait_for_end(directories)
    sc.assert_same(directories, uninterrupted)
    assert run_directory.attempts(directories[0])[-1]["resumed_from"]


def test_down_where_no_cluster_was_started(tmp_path):
    command = [sys.executable, REPOSITORY / "slurm" / "one_machine.py", "down", "--state", tmp_path / "none"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "") and not (tmp_path / "none").exists()
