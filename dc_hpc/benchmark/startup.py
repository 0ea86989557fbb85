"""Times a run from the start of its process to its first training step, on Fashion-MNIST with k 5.

This includes the imports, the images and their views, the first pass over them, the first clustering and its metrics.
The peer is a process that imports torch and does nothing else. The timed process is

    python -m dc_hpc.benchmark.startup DIRECTORY DATA

which computes the run in DIRECTORY and exits after its first step.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from dc_hpc.benchmark.timing import FailedProcess, Row
from dc_hpc.config.baselines import BASELINES, PROTOCOLS
from dc_hpc.config.run_config import make_config
from dc_hpc.experiment.execution import Execution
from dc_hpc.experiment.loader import import_run
from dc_hpc.storage import run_directory

ROUNDS = {"quick": 1, "default": 3, "full": 5}
PEER = "import torch"
_SIZES = {"first_start": "a user's first, which compiles", "start": "every later one"}


def time_startup(data: Path, *, size: str, report: Callable[[str], None]) -> list[Row]:
    """Two rows, medians over ROUNDS: a start that compiles the kernels, and one that loads them from the cache.

    data: a data root with Fashion-MNIST. size: one of constants.SIZES.
    """
    first, later, torch_alone = [], [], []
    for number in range(ROUNDS[size]):
        report(f"starts, round {number + 1} of {ROUNDS[size]}")
        with tempfile.TemporaryDirectory(prefix="dc-hpc-startup-") as folder:
            cache = {"XDG_CACHE_HOME": str(Path(folder) / "cache")}
            first.append(_start(Path(folder) / "first", data, cache))
            later.append(_start(Path(folder) / "later", data, cache))
            torch_alone.append(_seconds([sys.executable, "-c", "import torch, time; print(time.time())"], {}))
    peer = statistics.median(torch_alone)
    rows = []
    for name, times in (("first_start", first), ("start", later)):
        seconds = statistics.median(times)
        row = Row(name, "lenet5", _SIZES[name], seconds, peer=PEER, peer_seconds=peer, ratio=peer / seconds)
        rows.append(row)
    return rows


def _start(outputs: Path, data: Path, environment: dict[str, str]) -> float:
    settings = BASELINES["fmnist"] | PROTOCOLS["fmnist"]["code"] | {"protocol": "code", "seed": 1}
    directory = run_directory.create(outputs, make_config(settings))
    return _seconds([sys.executable, "-m", "dc_hpc.benchmark.startup", str(directory), str(data)], environment)


def _seconds(words: list[str], environment: dict[str, str]) -> float:
    """Seconds from just before a process starts to the time that it prints; its exit takes longer."""
    started = time.time()
    done = subprocess.run(words, env={**os.environ, **environment}, capture_output=True, text=True)
    if done.returncode or not done.stdout:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise FailedProcess(f"a run did not reach its first step: {last}")
    return float(done.stdout.splitlines()[-1]) - started


def _until_first_step(directory: Path, data: str) -> None:
    """Compute the run as a task does; print the time after the first step of SGD, and exit at once."""
    run = import_run()
    from dc_hpc.algorithm.backends.sgd import SGD

    step = SGD.step

    def step_and_exit(self: SGD) -> None:
        step(self)
        print(time.time(), flush=True)
        os._exit(0)

    SGD.step = step_and_exit  # type: ignore[method-assign]  # a run has no other place to stop after a step
    run(directory, Execution(data, "cpu"))
    state = run_directory.state_of(directory)
    sys.exit(f"the run ended as {state.name} ({state.reason}) before any step")


if __name__ == "__main__":
    _until_first_step(Path(sys.argv[1]), sys.argv[2])
