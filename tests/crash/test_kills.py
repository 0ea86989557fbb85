"""SIGKILL at any moment: of a run, of a donor run, of a worker; and several attempts of one run at the same time.

Whatever is killed, the same command completes the run, and every file has the bytes of an undisturbed run,
except for the times and hosts in attempts/.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.kill_runs import kill_at_random, start_at_once, wait_for_checkpoints
from support.small_runs import new_run, results, small_config

from dc_hpc.config.run_config import run_id
from dc_hpc.experiment.execution import Execution
from dc_hpc.experiment.run import run
from dc_hpc.storage import run_directory
from dc_hpc.storage.processes import process_start

LONG = {"cycles": 12, "features": "every"}
SHORT = {"cycles": 6, "features": "every"}
HALTED = {"halt_cycle": 5, "cycles": 8, "features": 2}
DONOR = {"cycles": 8, "features": 2}


def finish(directory, root):
    return run(directory, Execution(str(root)))


@pytest.fixture(scope="module")
def undisturbed(digits_root, tmp_path_factory):
    """A function from settings to the files of an undisturbed run; each run is computed once."""
    known = {}

    def of(**changes):
        name = run_id(small_config(digits_root, **changes))
        if name not in known:
            directory = new_run(tmp_path_factory.mktemp("undisturbed"), digits_root, **changes)
            assert finish(directory, digits_root) == "done"
            known[name] = results(directory)
        return known[name]

    return of


@pytest.mark.parametrize(
    "seed, kills",
    [
        *[(seed, 5) for seed in range(4)],
        *[pytest.param(seed, 10, marks=pytest.mark.crash) for seed in range(100, 130)],
    ],
)
def test_a_run_killed_at_random_moments_ends_with_the_same_bytes(digits_root, tmp_path, undisturbed, seed, kills):
    """20 kills over 4 runs in `make test`; 300 over 30 in `make crash`."""
    changes = LONG | {"cycles": kills * 12 // 5}  # long enough for all of them
    directory = new_run(tmp_path, digits_root, **changes)
    hits = kill_at_random(directory, digits_root, random.Random(seed), kills)
    print(f"{hits} kills")
    assert hits == kills
    assert finish(directory, digits_root) == "done"
    assert results(directory) == undisturbed(**changes)
    assert any(attempt.get("resumed_from") for attempt in run_directory.attempts(directory))


@pytest.mark.parametrize("seed", [0, *[pytest.param(seed, marks=pytest.mark.crash) for seed in range(1, 10)]])
def test_a_donor_killed_while_it_copies_cycles_to_a_halted_run(digits_root, tmp_path, undisturbed, seed):
    """The donor is killed at about the time of copying; both runs end with the bytes of an undisturbed run."""
    rng = random.Random(seed)
    donor, halted = (new_run(tmp_path, digits_root, **one) for one in (DONOR, HALTED))
    process = start_at_once(donor, digits_root)
    while process.is_alive() and not (halted / "features").exists():  # the first thing that is copied
        time.sleep(0.001)
    time.sleep(rng.uniform(0, 0.03))
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    for directory, changes in ((halted, HALTED), (donor, DONOR)):
        assert finish(directory, digits_root) == "done"
        assert results(directory) == undisturbed(**changes)


@pytest.mark.parametrize("attempts", [2, pytest.param(16, marks=pytest.mark.crash)])
def test_living_attempts_of_one_run_do_no_harm(digits_root, tmp_path, undisturbed, attempts):
    directory = new_run(tmp_path, digits_root, **SHORT)
    processes = [start_at_once(directory, digits_root) for _ in range(attempts)]
    for process in processes:
        process.join(500)
    assert [process.exitcode for process in processes] == [0] * attempts
    assert [attempt["ended"] for attempt in run_directory.attempts(directory)] == ["done"] * attempts
    assert results(directory) == undisturbed(**SHORT)


WORKER = """
import sys
from dc_hpc.experiment.execution import Execution
from dc_hpc.scheduler.worker import TaskPayload
TaskPayload(tuple(sys.argv[2:]), Execution(sys.argv[1], save_seconds=0), parallel_runs=2, attempts=3)()
"""


def start_worker(root, directories):
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, str(root), *map(str, directories)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def children_of(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize("seed", [0, *[pytest.param(seed, marks=pytest.mark.crash) for seed in range(1, 6)]])
def test_a_killed_worker_leaves_no_process_and_no_damage(digits_root, tmp_path, undisturbed, seed):
    """Its worker processes notice that it is gone; they save, and exit by themselves."""
    rng = random.Random(seed)
    changes = [{**LONG, "seed": one} for one in (1, 2)]
    directories = [new_run(tmp_path, digits_root, **one) for one in changes]
    worker = start_worker(digits_root, directories)
    wait_for_checkpoints(directories[0], 1, lambda: worker.poll() is None)
    processes = {pid: process_start(pid) for pid in children_of(worker.pid)}
    assert len(processes) == 2
    time.sleep(rng.uniform(0, 0.3))
    worker.kill()
    worker.wait()  # communicate() would wait for its processes, which hold the other ends of its pipes
    end = time.monotonic() + 60
    while (left := [pid for pid, begun in processes.items() if process_start(pid) == begun]) and time.monotonic() < end:
        time.sleep(0.05)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    worker.communicate()
    assert not left
    assert all(
        run_directory.state_of(directory).name == "resumable" for directory in directories
    )  # they saved and did not compute to the end
    for directory, one in zip(directories, changes):
        assert finish(directory, digits_root) == "done"
        assert results(directory) == undisturbed(**one)


def test_a_killed_worker_process_costs_one_attempt_and_no_run(digits_root, tmp_path, undisturbed):
    changes = [{**SHORT, "seed": one} for one in (1, 2)]
    directories = [new_run(tmp_path, digits_root, **one) for one in changes]
    worker = start_worker(digits_root, directories)
    wait_for_checkpoints(directories[0], 2, lambda: worker.poll() is None)
    os.kill(children_of(worker.pid)[0], signal.SIGKILL)
    output = worker.communicate(timeout=300)
    assert worker.returncode == 0, output
    for directory, one in zip(directories, changes):
        assert run_directory.state_of(directory).name == "done", output
        assert results(directory) == undisturbed(**one)
