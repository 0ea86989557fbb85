"""One stage at one size in a process of its own, so that its peak memory is its own.

    python -m dc_hpc.benchmark.scaling_point NAME VARIABLE VALUE QUICK THREADS DEVICE

prints one line of JSON: seconds, memory (bytes that the stage and its input hold at the peak, beyond what the
libraries hold after a small call; null where that is nothing), work.
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

from dc_hpc.algorithm.backends.cpu import exact
from dc_hpc.benchmark.constants import GROWTH_IMAGES
from dc_hpc.benchmark.limits import settled
from dc_hpc.benchmark.stages import clustering, files, images
from dc_hpc.benchmark.stages.images import NetworkFixture
from dc_hpc.benchmark.stages.sizes import Setting, Size, setting
from dc_hpc.benchmark.suite import computing
from dc_hpc.benchmark.timing import Stage
from dc_hpc.config.baselines import BASELINES, PROTOCOLS
from dc_hpc.config.run_config import make_config
from dc_hpc.data.custom import data_digest
from dc_hpc.experiment.execution import Execution
from dc_hpc.storage import atomic_files, run_directory

_WARM_UP = {"n": 2_000, "k": 5}
_SHORT_SECONDS, _TRIES = 1.0, 3
_IMAGES_OF_A_RUN = 1_000


def point(name: str, variable: str, value: int, *, quick: bool, threads: int, device: str) -> dict[str, float | None]:
    """Seconds, memory and work of a stage of lenet5 whose `variable` is `value`; "run" is whole runs, one by one."""
    with tempfile.TemporaryDirectory(prefix="dc-hpc-growth-") as folder, computing(threads):
        wait = settled(device)
        if name != "run":  # first calls are slow; a run is a first call itself
            with exact():
                _stage(name, "k", _WARM_UP["k"], quick=True, device=device, folder=Path(folder) / "warm").ours()
        empty = _resident()
        stage = _stage(name, variable, value, quick=quick, device=device, folder=Path(folder) / "point")
        _forget_peak()
        seconds: list[float] = []
        while not seconds or (len(seconds) < _TRIES and sum(seconds) < _SHORT_SECONDS and name != "run"):
            stage.before()
            wait()
            started = time.perf_counter()
            with exact():
                stage.ours()
            wait()
            seconds.append(time.perf_counter() - started)
        held = _peak() - empty
        return {"seconds": min(seconds), "memory": float(held) if held > 0 else None, "work": float(stage.work)}


def _stage(name: str, variable: str, value: int, *, quick: bool, device: str, folder: Path) -> Stage:
    if name == "run":
        return _runs(value, device, folder)
    n = value if variable == "n" else GROWTH_IMAGES["quick" if quick else "default"]
    k = value if variable == "k" else _WARM_UP["k"]
    chosen = _setting(n, k)
    on_images = {
        "views": images.views,
        "sampling": images.sampling,
        "forward": images.features,
        "train": images.train,
        "probe": images.probe,
    }
    on_points = {
        "pca": clustering.pca,
        "kmeans_init": clustering.kmeans_init,
        "kmeans_torch": clustering.kmeans_torch,
        "agreement": clustering.agreement_stage,
    }
    if name in on_images:
        return on_images[name](NetworkFixture(chosen, device))
    return files.dump(chosen, folder) if name == "dump" else on_points[name](chosen, device)


def _setting(n: int, k: int) -> Setting:
    """lenet5 with n images and n points."""
    size = Size(images=n, points=n, probe_images=n, probe_epochs=2, k=k, iterations=3, budget=0)
    plain = setting("lenet5", "quick")
    return replace(plain, size=size, baseline=plain.baseline | {"k": k})


def _runs(count: int, device: str, folder: Path) -> Stage:
    """So many small runs of lenet5, one after the other in this process, as a task of `runs_per_task` does them."""
    from dc_hpc.experiment.run import run

    rng, memory = np.random.default_rng(0), io.BytesIO()
    images = {
        f"{part}_images": rng.integers(0, 256, (_IMAGES_OF_A_RUN, 28, 28), dtype=np.uint8) for part in ("train", "test")
    }
    labels = {f"{part}_labels": np.arange(_IMAGES_OF_A_RUN) % 10 for part in ("train", "test")}
    np.savez_compressed(memory, **images, **labels)
    atomic_files.make_directory(folder)
    atomic_files.replace_bytes(folder / "noise.npz", memory.getvalue())
    settings = BASELINES["fmnist"] | PROTOCOLS["fmnist"]["code"]
    settings |= {"dataset": "noise", "data_digest": data_digest(folder / "noise.npz"), "cycles": 5, "probe_epochs": 5}
    directories = [run_directory.create(folder, make_config(settings | {"seed": seed})) for seed in range(count)]
    execution = Execution(str(folder), device)

    def ours() -> list[str]:
        return [run(directory, execution) for directory in directories]

    return Stage("run", "lenet5", f"{count} runs", count, "FLOP", ours=ours)


def _resident() -> int:
    """Bytes of this process in memory now."""
    return _status("VmRSS")


def _peak() -> int:
    """The most bytes that this process had in memory since `_forget_peak`, or ever where that cannot be done."""
    return _status("VmHWM")


def _status(name: str) -> int:
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return 1024 * int(line.split()[1])
    except OSError:
        pass  # not Linux, where only the peak is known
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _forget_peak() -> None:
    """Let the kernel begin the peak anew, so that what making the input took for a moment is not in it."""
    with contextlib.suppress(OSError):
        handle = os.open("/proc/self/clear_refs", os.O_WRONLY)
        try:
            os.write(handle, b"5")
        finally:
            os.close(handle)


if __name__ == "__main__":
    name, variable, value, quick, threads, device = sys.argv[1:]
    print(json.dumps(point(name, variable, int(value), quick=quick == "quick", threads=int(threads), device=device)))
