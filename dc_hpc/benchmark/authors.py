"""Compares whole runs with the authors' own code, which has no licence, so a person must provide a checkout of it.

Ours and theirs alternately compute a few cycles and a few epochs of the probe on Fashion-MNIST with k 5, on one
machine; a whole run of 50 cycles and 20 probe epochs is extrapolated from them. The first cycle of a process takes
longer than the later ones (ours compiles in it); the difference counts once, as a part of the start.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dc_hpc.benchmark.timing import Row
from dc_hpc.config.baselines import BASELINES, PROTOCOLS
from dc_hpc.config.run_config import make_config
from dc_hpc.data.official import verify
from dc_hpc.errors import InputError
from dc_hpc.storage import run_directory

NEEDED = (
    "deep_clustering.py",
    "deep_clustering_dataset.py",
    "deep_clustering_models.py",
    "utils.py",
    "evaluation/linear_probe.py",
)
CYCLES, PROBE_EPOCHS = 50, 20
PARTS = ("features", "clustering", "training")
PEER = "the authors' code"
_DRIVER = Path(__file__).with_name("authors_driver.py")


@dataclass(frozen=True)
class Workload:
    """What is computed. cycles: of ours and of theirs in each round; the first is a warm-up if there are more.

    epochs: of their probe. rounds: in each of them theirs runs, then ours.
    """

    cycles: int
    epochs: int
    rounds: int


WORKLOADS = {"quick": Workload(1, 1, 1), "default": Workload(3, 1, 2), "full": Workload(6, 2, 3)}


def check_checkout(checkout: Path) -> None:
    """Raise InputError unless the folder holds the modules that are called."""
    missing = [name for name in NEEDED if not (checkout / name).is_file()]
    if missing:
        raise InputError(
            f"--compare-with {checkout} is no checkout of the authors' code: {', '.join(missing)} missing; give "
            "the folder that holds deep_clustering.py"
        )


def compare(
    checkout: Path, data: Path, *, size: str, slots: int, report: Callable[[str], None]
) -> tuple[list[Row], dict[str, Any]]:
    """The rows of a cycle, its parts, a probe epoch and a run; and, by name, threads, slots and runs per hour.

    slots: our runs at the same time, each on one thread. The authors' code runs once at a time on its default
    threads. Raises InputError where the folder is no checkout, a package or the data are missing, or it fails.
    """
    check_checkout(checkout)
    verify("fmnist", data)
    workload = WORKLOADS[size]
    theirs, ours = [], []
    for number in range(workload.rounds):
        report(f"{PEER}, round {number + 1} of {workload.rounds}")
        theirs.append(time_theirs(checkout, data, workload, seed=number))
        report(f"our runs, round {number + 1} of {workload.rounds}")
        ours.append(time_ours(data, workload, slots=slots, seed=number))
    medians = _medians(ours), _medians(theirs)
    return _rows(*medians, workload, slots), _throughput(*medians, slots)


def time_theirs(checkout: Path, data: Path, workload: Workload, *, seed: int) -> dict[str, list[float]]:
    """Seconds by name from a process of the authors' code: cycle, its PARTS, probe_epoch, start; threads."""
    environment = {name: value for name, value in os.environ.items() if name not in ("OMP_NUM_THREADS", "PYTHONPATH")}
    words = [str(checkout.resolve()), str(data.resolve()), str(workload.cycles), str(workload.epochs), str(seed)]
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="dc-hpc-peer-") as folder:  # where it may write files
        done = subprocess.run(
            [sys.executable, "-B", str(_DRIVER), *words], capture_output=True, text=True, cwd=folder, env=environment
        )
    wall = time.perf_counter() - started
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise InputError(f"--compare-with {checkout} failed: {last}; bench calls the code of its branch `new`")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if "missing" in found:
        raise InputError(
            f"--compare-with {checkout} needs the package {found['missing']}, which is not installed in "
            f"{sys.executable}; install it there"
        )
    threads = found.pop("threads")
    rest = wall - sum(found["cycle"]) - sum(found["probe_epoch"])
    later = {name: _later(found[name]) for name in ("cycle", *PARTS)}
    return {**found, **later, "start": [rest + _excess(found["cycle"])], "threads": [threads]}


def time_ours(data: Path, workload: Workload, *, slots: int, seed: int) -> dict[str, list[float]]:
    """Seconds by name from `slots` processes at the same time: cycle, grouping, training, probe, start."""
    settings = BASELINES["fmnist"] | PROTOCOLS["fmnist"]["code"] | {"cycles": workload.cycles, "last_cycle": "train"}
    with tempfile.TemporaryDirectory(prefix="dc-hpc-ours-") as folder:
        directories = [
            run_directory.create(Path(folder), make_config(settings | {"seed": 1000 * seed + slot}))
            for slot in range(slots)
        ]
        started = time.perf_counter()
        words = ["--data", str(data), "--device", "cpu", "--threads", "1"]
        processes = [
            subprocess.Popen(
                [sys.executable, "-m", "dc_hpc.experiment.run", str(directory), *words],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            for directory in directories
        ]
        errors = [process.communicate()[1] for process in processes]
        wall = time.perf_counter() - started
        failed = [error for process, error in zip(processes, errors) if process.returncode]
        if failed:
            raise RuntimeError(f"a run of ours failed: {(failed[0].strip().splitlines() or ['no reason'])[-1]}")
        return _by_name([run_directory.attempts(directory)[-1]["seconds"] for directory in directories], wall)


def _by_name(records: Sequence[Sequence[Mapping[str, Any]]], wall: float) -> dict[str, list[float]]:
    """Seconds by name from the records that our runs keep of their stages. wall: seconds of all the processes."""

    def of(stage: str) -> list[list[float]]:
        return [[one["seconds"] for one in record if one["stage"] == stage] for record in records]

    grouping, training, probe = of("clustered"), of("trained"), of("probe")
    cycles = [[a + b for a, b in zip(*run)] for run in zip(grouping, training)]
    busy = [sum(one["seconds"] for one in record if one["stage"] != "load") for record in records]
    later = {
        name: [second for run in runs for second in _later(run)]
        for name, runs in (("cycle", cycles), ("grouping", grouping), ("training", training))
    }
    return later | {"probe": sum(probe, []), "start": [wall - max(busy) + max(map(_excess, cycles))]}


def _later(cycles: Sequence[float]) -> list[float]:
    """The cycles after the first, where there are any."""
    return list(cycles[1:] or cycles)


def _excess(cycles: Sequence[float]) -> float:
    """What the first cycle took beyond a later one."""
    return cycles[0] - statistics.median(_later(cycles))


def _medians(rounds: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, float]:
    return {name: statistics.median([second for one in rounds for second in one[name]]) for name in rounds[0]}


def _run_seconds(ours: Mapping[str, float], theirs: Mapping[str, float]) -> tuple[float, float]:
    """Seconds of a whole run of ours and of theirs: its start, 50 cycles and 20 probe epochs.

    The last cycle is not trained, because their loop does not train it.
    """
    own = ours["start"] + CYCLES * ours["grouping"] + (CYCLES - 1) * ours["training"] + ours["probe"]
    other = theirs["start"] + (CYCLES - 1) * theirs["cycle"] + PROBE_EPOCHS * theirs["probe_epoch"]
    return own, other


def _rows(ours: Mapping[str, float], theirs: Mapping[str, float], workload: Workload, slots: int) -> list[Row]:
    measured = f"60,000 images, k 5, {max(1, workload.cycles - 1) * workload.rounds} cycles measured"
    own, other = _run_seconds(ours, theirs)

    def row(name: str, size: str, seconds: float | None, peer_seconds: float) -> Row:
        ratio = None if seconds is None else peer_seconds / seconds
        return Row(name, "lenet5", size, seconds, peer=PEER, peer_seconds=peer_seconds, ratio=ratio)

    grouping = theirs["features"] + theirs["clustering"]
    return [
        row("cycle", measured, ours["cycle"], theirs["cycle"]),
        row("cycle_features", measured, None, theirs["features"]),
        row("cycle_clustering", measured, None, theirs["clustering"]),
        row("cycle_grouping", f"{measured}: features and clustering", ours["grouping"], grouping),
        row("cycle_training", measured, ours["training"], theirs["training"]),
        row(
            "probe_epoch",
            f"60,000 images; ours: {PROBE_EPOCHS} epochs measured / {PROBE_EPOCHS}",
            ours["probe"] / PROBE_EPOCHS,
            theirs["probe_epoch"],
        ),
        row(
            "run", f"{CYCLES} cycles + {PROBE_EPOCHS} probe epochs, extrapolated; {slots} of ours at a time", own, other
        ),
    ]


def _throughput(ours: Mapping[str, float], theirs: Mapping[str, float], slots: int) -> dict[str, Any]:
    own, other = _run_seconds(ours, theirs)
    return {
        "slots": slots,
        "peer_threads": int(theirs["threads"]),
        "runs_per_hour": slots * 3600 / own,
        "peer_runs_per_hour": 3600 / other,
    }
