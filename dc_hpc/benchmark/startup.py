"""How long a run takes from the start of its process to its first training step, on Fashion-MNIST with k 5.

In between lie the imports, the images and their view, the first pass over them, the first clustering and its metrics.
The peer is a process that imports torch and does nothing.

    python -m dc_hpc.benchmark.startup DIRECTORY DATA

is the process that is timed: a run that ends, not well, after its first step.
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

from dc_hpc.benchmark.timing import Row
from dc_hpc.config.baselines import BASELINES, PROTOCOLS
from dc_hpc.config.run_config import make_config
from dc_hpc.experiment.execution import Execution
from dc_hpc.experiment.loader import import_run
from dc_hpc.storage import run_directory

TURNS = {"quick": 1, "default": 3, "full": 5}
PEER = "import torch"
_NAMES = {"first_start": "a user's first, which compiles", "start": "every later one"}


def time_starts(data: Path, *, size: str, report: Callable[[str], None]) -> list[Row]:
    """Two rows, medians of TURNS: a start that compiles the kernels, one that finds them kept.

    data: a data root with Fashion-MNIST.
    """
    first, later, torch_alone = [], [], []
    for turn in range(TURNS[size]):
        report(f"starts, turn {turn + 1} of {TURNS[size]}")
        with tempfile.TemporaryDirectory(prefix="dc-hpc-start-") as folder:
            cache = {"XDG_CACHE_HOME": str(Path(folder) / "cache")}
            first.append(_start(Path(folder) / "first", data, cache))
            later.append(_start(Path(folder) / "later", data, cache))
            torch_alone.append(_seconds([sys.executable, "-c", "import torch, time; print(time.time())"], {}))
    other = statistics.median(torch_alone)
    rows = []
    for name, seconds in (("first_start", first), ("start", later)):
        middle = statistics.median(seconds)
        rows.append(Row(name, "lenet5", _NAMES[name], middle, None, None, None, PEER, other, other / middle))
    return rows


def _start(outputs: Path, data: Path, environment: dict[str, str]) -> float:
    settings = BASELINES["fmnist"] | PROTOCOLS["fmnist"]["code"] | {"protocol": "code", "seed": 1}
    directory = run_directory.create(outputs, make_config(settings))
    return _seconds([sys.executable, "-m", "dc_hpc.benchmark.startup", str(directory), str(data)], environment)


def _seconds(words: list[str], environment: dict[str, str]) -> float:
    """From before a process is started to the time that it prints; to end it takes longer."""
    started = time.time()
    done = subprocess.run(words, env={**os.environ, **environment}, capture_output=True, text=True)
    if done.returncode or not done.stdout:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise RuntimeError(f"a run did not come to its first step: {last}")
    return float(done.stdout.splitlines()[-1]) - started


def _until_first_step(directory: Path, data: str) -> None:
    """Run as a task does; when the net has moved, print the time and leave at once."""
    run = import_run()
    from dc_hpc.algorithm.backends.sgd import SGD

    step = SGD.step

    def step_and_leave(optimizer: SGD) -> None:
        step(optimizer)
        print(time.time(), flush=True)
        os._exit(0)

    SGD.step = step_and_leave
    run(directory, Execution(data, "cpu"))
    sys.exit(f"it ended as {run_directory.state_of(directory).name} ({run_directory.state_of(directory).reason})")


if __name__ == "__main__":
    _until_first_step(Path(sys.argv[1]), sys.argv[2])
