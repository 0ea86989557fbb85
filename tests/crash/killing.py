"""True runs as processes, and the means to kill them at a moment that nobody chose."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

from small_runs import results

from dc_hpc.experiment import store


def start(directory: Path, root: Path, *options: str, **more) -> subprocess.Popen:
    """The run of a directory as a process of its own, saving after every phase."""
    command = [sys.executable, "-m", "dc_hpc.experiment.run", str(directory), "--data", str(root),
               "--save-seconds", "0", *options]  # fmt: skip
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)


# Forked from a process that has imported torch and computed nothing, as a desk is: a kill costs no import.
_NURSERY = multiprocessing.get_context("forkserver")
_NURSERY.set_forkserver_preload(["dc_hpc.experiment.run", "torch._inductor.config", "sklearn.cluster",
                                "sklearn.metrics", "h5py", "safetensors.numpy", "numba"])  # fmt: skip


def start_at_once(directory: Path, root: Path) -> BaseProcess:
    """The same without the door, some seconds faster."""
    process = _NURSERY.Process(target=_run, args=(directory, root))
    process.start()
    return process


def _run(directory: Path, root: Path) -> None:
    from dc_hpc.experiment.execution import Execution
    from dc_hpc.experiment.run import run

    os.umask(0o077)
    run(directory, Execution(str(root), save_seconds=0))


def kill_at_random(directory: Path, root: Path, rng: random.Random, kills: int) -> int:
    """SIGKILL the run `kills` times, each after a random number of further checkpoints and a random moment more.

    Returns how many hit a living run; fewer only when it reached its end.
    """
    hits = 0
    while hits < kills and not (directory / "result.json").exists():
        attempts = len(store.attempts(directory))
        process = start_at_once(directory, root)
        while process.is_alive() and len(store.attempts(directory)) == attempts:
            time.sleep(0.003)
        wait_for_checkpoints(directory, rng.randrange(3), process.is_alive)
        time.sleep(rng.uniform(0, 0.12))
        process.kill()
        process.join()
        hits += process.exitcode == -signal.SIGKILL
    return hits


def wait_for_checkpoints(directory: Path, further: int, goes_on: Callable[[], bool]) -> None:
    """Wait until so many further checkpoints of a run were written."""
    seen = set(checkpoints(directory))
    while goes_on() and len(set(checkpoints(directory)) - seen) < further:
        time.sleep(0.003)


def checkpoints(directory: Path) -> list[str]:
    """The names of the checkpoints of a run."""
    return [path.name for path in (directory / "checkpoints").glob("c*.safetensors")]


def good(directory: Path) -> dict[str, bytes]:
    """`results` without what was moved to quarantine."""
    return {name: data for name, data in results(directory).items() if "quarantine" not in name}
