"""Worker processes and their GPUs. No GPU is needed: the tests record which device a process asks torch for."""

import os
import signal
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from support.small_runs import new_run

from dc_hpc.experiment.execution import Execution
from dc_hpc.scheduler.worker import TaskPayload
from dc_hpc.storage import run_directory


class Noting(TaskPayload):
    """Runs that only note the GPU of their process, and end when every worker process has begun a run."""

    def run_function(self):
        return partial(_note, self.parallel_runs)


def _note(workers, directory, execution, stop):
    number = run_directory.start_attempt(directory, {"pid": os.getpid()})
    notes, dies = directory.parent.parent / "notes", directory / "to die"
    (notes / f"{directory.name}-{number}").write_text(f"{os.getpid()} {_GPU[-1]}")
    expected = workers + (0 if dies.exists() else (notes / "one more").exists())
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and len({path.read_text() for path in notes.glob("*-*")}) < expected:
        time.sleep(0.01)
    if dies.exists():
        dies.unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    run_directory.update_attempt(directory, number, {"ended": "done"})
    return "done"


_GPU = ["the only one"]


@pytest.fixture
def gpus(monkeypatch):
    """Let torch see as many GPUs as a test says. A worker process records its GPU in its own memory, after the fork."""

    def are(count):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "set_device", _GPU.append)

    yield are
    assert _GPU == ["the only one"], "the task's own process touches no GPU: a forked child could not use it then"


def gpus_of_workers(folder: Path, digits_root, *, workers, device="auto", runs=6, first_dies=False):
    """The GPU of each worker process that there was."""
    directories = [new_run(folder, digits_root, seed=seed) for seed in range(runs)]
    (folder / "notes").mkdir()
    if first_dies:
        (directories[0] / "to die").touch()
        (folder / "notes" / "one more").touch()
    Noting(tuple(map(str, directories)), Execution(str(digits_root), device=device), parallel_runs=workers)()
    notes = dict(path.read_text().split(" ", 1) for path in (folder / "notes").glob("*-*"))
    return sorted(notes.values())


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_worker_processes_are_spread_over_the_gpus(digits_root, tmp_path, gpus, device):
    gpus(2)
    assert gpus_of_workers(tmp_path, digits_root, workers=5, device=device) == ["0", "0", "0", "1", "1"]


@pytest.mark.parametrize("device, count", [("cpu", 2), ("auto", 0), ("cuda", 1)])
def test_no_gpu_is_chosen_where_there_is_no_choice(digits_root, tmp_path, gpus, device, count):
    gpus(count)
    assert gpus_of_workers(tmp_path, digits_root, workers=2, device=device) == ["the only one"] * 2


def test_a_new_worker_process_takes_the_gpu_of_the_one_that_died(digits_root, tmp_path, gpus):
    gpus(2)
    assert gpus_of_workers(tmp_path, digits_root, workers=2, first_dies=True) == ["0", "0", "1"]


class Told(TaskPayload):
    """Runs of which some get a signal to stop in their own process only."""

    def run_function(self):
        return _told


def _told(directory, execution, stop):
    if (directory / "to stop").exists():
        os.kill(os.getpid(), signal.SIGTERM)
        while not stop():
            time.sleep(0.01)
    return "stopped" if stop() else "done"


def test_a_signal_to_one_worker_process_stops_the_run_that_it_computes_and_no_other(digits_root, tmp_path):
    directories = [new_run(tmp_path, digits_root, seed=seed) for seed in range(6)]
    (directories[0] / "to stop").touch()
    outcomes = Told(tuple(map(str, directories)), Execution(str(digits_root)), parallel_runs=2)()
    assert [outcomes[str(one)] for one in directories] == ["stopped", *["done"] * 5]
