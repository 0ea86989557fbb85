"""Tools of the tests on a real SLURM: submit, preempt, wait; and payloads that only imitate a run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

from support.small_runs import new_run, results

from dc_hpc.config.grid import Resources
from dc_hpc.experiment.execution import Execution
from dc_hpc.scheduler import launch, slurm
from dc_hpc.scheduler.site import Site
from dc_hpc.scheduler.worker import TaskPayload
from dc_hpc.storage import run_directory

LONG = {"cycles": 20}  # a run that lasts long enough to be interrupted


def long_runs(outputs, root, count, **changes):
    """The directories of new runs with the settings LONG and the seeds 1 to `count`."""
    return [new_run(outputs, root, seed=seed, **{**LONG, **changes}) for seed in range(1, count + 1)]


def assert_same(directories, uninterrupted):
    """Check that the runs of `long_runs` have the files of uninterrupted runs."""
    assert all(results(one) == uninterrupted(seed) for seed, one in enumerate(directories, 1))


def submit(
    directories,
    root,
    *,
    partition="low",
    cpus=1,
    node=None,
    save_seconds=60.0,
    payload=TaskPayload,
    requeue=True,
    **resources,
):
    """Submit run directories as arrays; returns the submissions."""
    site = Site(partition=partition, cpus=cpus, requeue=requeue, extra={"nodelist": node} if node else {})
    execution = Execution(str(root), save_seconds=save_seconds)
    return launch.submit_slurm(
        directories,
        execution,
        site=site,
        resources=Resources(**{"minutes": 30, **resources}),
        name="grid",
        outputs=directories[0].parents[1],
        code={},
        payload=payload,
    )


def preempt(seconds=3, node="n1"):
    """Submit a job of the higher partition that takes a whole node."""
    command = [
        "sbatch",
        "--parsable",
        "-p",
        "high",
        "-w",
        node,
        "-n1",
        "-c2",
        "-o",
        "/dev/null",
        "--wrap",
        f"sleep {seconds}",
    ]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def queue_is_empty(name=""):
    """Whether no task is active whose name begins with `name`; False where squeue does not answer."""
    found = slurm.tasks()
    return found is not None and not any(task.is_active and task.name.startswith(name) for task in found)


def wait_until(condition, what, seconds=400):
    """Wait for a condition to become true; after `seconds` the error shows the queue."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not in {seconds} s\n{slurm.tasks()}")
        time.sleep(0.1)


def wait_for_end(directories, seconds=400):
    """Wait until all these runs are done and have removed their checkpoints, which happens a moment later."""
    wait_until(
        lambda: all(
            run_directory.state_of(one).name == "done" and not list(one.glob("checkpoints/c*")) for one in directories
        ),
        "all runs done",
        seconds,
    )


def started(directory, cycles=1):
    """Whether a run is running and has finished this many cycles."""
    return (
        run_directory.state_of(directory).name == "running" and run_directory.state_of(directory).cycles_done >= cycles
    )


def log_of(directory: Path, submission, index=0) -> str:
    """The output of a task."""
    folder = Path(submission.folder)
    return "".join(path.read_text() for path in sorted(folder.glob(f"{submission.task_id(index)}_0_log.*")))


class NoWork(TaskPayload):
    """Runs that are done at once."""

    def run_function(self):
        return _finish


class DiesAtOnce(TaskPayload):
    """Runs whose process is killed, as one that is out of memory."""

    def run_function(self):
        return _die


class EatsMemory(TaskPayload):
    """Runs that take more than a GiB of memory, until the file `enough` is beside their folder."""

    def run_function(self):
        return _eat


class SignalledWhileSaving(TaskPayload):
    """Runs in which SLURM's signal reaches every process of the task in the middle of the third save."""

    def run_function(self):
        return _signalled


class Held(TaskPayload):
    """Runs that `hold` names wait before their last cycles until SLURM has restarted their task.

    Otherwise a fast machine would end a small run before the preemption of a slow queue arrives.
    """

    def run_function(self):
        return _held


def hold(directories, *, restarts=1, cycles=15):
    """Let runs of the payload `Held` wait after so many cycles until their task has had so many restarts."""
    for directory in directories:
        _order(directory).write_text(json.dumps({"restarts": restarts, "cycles": cycles}))


def release(directory):
    """Let a held run continue."""
    _order(directory).unlink()


def _order(directory):
    return Path(directory).parents[1] / f"{Path(directory).name}.held"


def _held(directory, execution, stop):
    from dc_hpc.experiment.run import run

    order = _order(directory)
    limits = json.loads(order.read_text()) if order.exists() else {"restarts": 0, "cycles": 0}
    waits = int(os.environ.get("SLURM_RESTART_COUNT", "0")) < limits["restarts"]

    def asked():
        while (
            waits
            and run_directory.state_of(directory).cycles_done >= limits["cycles"]
            and order.exists()
            and not stop()
        ):
            time.sleep(0.05)
        return stop()

    return run(directory, execution, stop=asked)


def _signalled(directory, execution, stop):
    from dc_hpc.experiment.run import run
    from dc_hpc.storage import atomic_files

    true_sync, calls = os.fsync, []

    def signal_and_sync(descriptor):
        calls.append(descriptor)
        if len(calls) == 12 and os.environ.get("SLURM_RESTART_COUNT", "0") == "0":
            for process in (os.getppid(), os.getpid()):
                os.kill(process, signal.SIGTERM)
            (Path(directory).parents[1] / "signalled").touch()
        true_sync(descriptor)

    atomic_files.os.fsync = signal_and_sync
    return run(directory, execution, stop=stop)


def _finish(directory, execution, stop):
    number = run_directory.start_attempt(directory, {})
    run_directory.finish(directory, {"ia": 0.5})
    run_directory.update_attempt(directory, number, {"ended": "done", "finished": time.time()})
    return "done"


def _eat(directory, execution, stop):
    from dc_hpc.experiment.run import run

    if (Path(directory).parents[1] / "enough").exists():
        return run(directory, execution, stop=stop)
    run_directory.start_attempt(directory, _job_numbers())
    held = []
    for _ in range(200):  # 4 GB, more than any task of these tests may have
        held.append(b"1" * 20_000_000)
        time.sleep(0.1)  # the daemon of a node looks once a second
    return "failed"


def _die(directory, execution, stop):
    run_directory.start_attempt(directory, _job_numbers())
    os.kill(os.getpid(), 9)


def _job_numbers():
    """The entries of an attempt record that name its task."""
    names = ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_RESTART_COUNT")
    return {"slurm": {name.lower(): os.environ[name] for name in names if name in os.environ}}
