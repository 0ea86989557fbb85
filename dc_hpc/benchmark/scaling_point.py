"""Measures one stage at one value in a process of its own, so that the peak memory is that of the stage.

    python -m dc_hpc.benchmark.scaling_point NAME VARIABLE VALUE quick|default THREADS DEVICE

prints one line of JSON: seconds; memory (bytes that the stage and its input hold at the peak, beyond what the
libraries hold after a small call; null where that is nothing); work (its operation count).
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from dc_hpc.algorithm.backends.determinism import exact
from dc_hpc.benchmark.constants import SCALING_IMAGES
from dc_hpc.benchmark.limits import synchronizer
from dc_hpc.benchmark.scaling import Point
from dc_hpc.benchmark.stages.builder import StageBuilder
from dc_hpc.benchmark.stages.sizes import Setting, Size, setting
from dc_hpc.benchmark.suite import computing
from dc_hpc.benchmark.timing import Stage
from dc_hpc.config.baselines import BASELINES, PROTOCOLS
from dc_hpc.config.run_config import make_config
from dc_hpc.data.digests import part_digests
from dc_hpc.experiment.execution import Execution
from dc_hpc.storage import atomic_files, run_directory

_SMALL_K = 5
_ENOUGH_SECONDS, _TRIES = 1.0, 3
_IMAGES_OF_A_RUN = 1_000


def measure_point(name: str, variable: str, value: int, *, quick: bool, threads: int, device: str) -> Point:
    """Seconds, memory and operation count of a stage of lenet5 whose `variable` has this value.

    The name "run" stands for whole runs, one after the other; their count is the number of runs.
    """
    with tempfile.TemporaryDirectory(prefix="dc-hpc-scaling-") as folder, computing(threads):
        synchronize = synchronizer(device)
        if name != "run":  # the first call of a process is slow; for a run that belongs to its time
            with exact():
                _stage(name, "k", _SMALL_K, quick=True, device=device, folder=Path(folder) / "warm-up").ours()
        memory_before = _resident()
        stage = _stage(name, variable, value, quick=quick, device=device, folder=Path(folder) / "point")
        _reset_peak()
        seconds: list[float] = []
        while not seconds or (len(seconds) < _TRIES and sum(seconds) < _ENOUGH_SECONDS and name != "run"):
            stage.before()
            synchronize()
            started = time.perf_counter()
            with exact():
                stage.ours()
            synchronize()
            seconds.append(time.perf_counter() - started)
        memory = _peak() - memory_before
        return {"seconds": min(seconds), "memory": float(memory) if memory > 0 else None, "work": float(stage.count)}


def _stage(name: str, variable: str, value: int, *, quick: bool, device: str, folder: Path) -> Stage:
    if name == "run":
        return _runs(value, device, folder)
    n = value if variable == "n" else SCALING_IMAGES["quick" if quick else "default"]
    k = value if variable == "k" else _SMALL_K
    return StageBuilder(_setting(n, k), device, folder).build(name)


def _setting(n: int, k: int) -> Setting:
    """lenet5 with n images and n points."""
    size = Size(images=n, points=n, probe_images=n, probe_epochs=2, k=k, iterations=3, budget=0)
    quick = setting("lenet5", "quick")
    return replace(quick, size=size, baseline=quick.baseline | {"k": k})


def _runs(count: int, device: str, folder: Path) -> Stage:
    """`count` small runs of lenet5, one after the other in this process, as a task of `runs_per_task` computes them."""
    from dc_hpc.experiment.run import run

    rng, memory = np.random.default_rng(0), io.BytesIO()
    train, test = (rng.integers(0, 256, (_IMAGES_OF_A_RUN, 28, 28), dtype=np.uint8) for _ in range(2))
    labels = np.arange(_IMAGES_OF_A_RUN) % 10
    np.savez_compressed(memory, train_images=train, test_images=test, train_labels=labels, test_labels=labels)
    atomic_files.make_directory(folder)
    atomic_files.replace_bytes(folder / "noise.npz", memory.getvalue())
    settings = BASELINES["fmnist"] | PROTOCOLS["fmnist"]["code"]
    settings |= {"dataset": "noise", "cycles": 5, "probe_epochs": 5}
    settings |= part_digests(folder / "noise.npz").settings(probed=True)
    directories = [run_directory.create(folder, make_config(settings | {"seed": seed})) for seed in range(count)]
    execution = Execution(str(folder), device)

    def ours() -> list[str]:
        return [run(directory, execution) for directory in directories]

    return Stage("run", "lenet5", f"{count} runs", count, "FLOP", ours=ours)


def _resident() -> int:
    """Bytes of this process that are in memory now."""
    return _status("VmRSS")


def _peak() -> int:
    """The most bytes of this process in memory since `_reset_peak`, or since its start where that is not possible."""
    return _status("VmHWM")


def _status(name: str) -> int:
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return 1024 * int(line.split()[1])
    except OSError:
        pass  # not Linux, where only the peak is known
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _reset_peak() -> None:
    """Ask the kernel to measure the peak from now on, without what making the input took for a moment."""
    with contextlib.suppress(OSError):
        handle = os.open("/proc/self/clear_refs", os.O_WRONLY)
        try:
            os.write(handle, b"5")
        finally:
            os.close(handle)


def main() -> None:
    """The command line."""
    name, variable, value, size, threads, device = sys.argv[1:]
    point = measure_point(name, variable, int(value), quick=size == "quick", threads=int(threads), device=device)
    print(json.dumps(point))


if __name__ == "__main__":
    main()
