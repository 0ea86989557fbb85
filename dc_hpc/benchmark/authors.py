"""Whole runs against the authors' own code, from a checkout that a person has: it has no licence, so it is not here.

Both sides do a few cycles and a few epochs of the probe on Fashion-MNIST with k 5, in turn on one machine; a whole run
of 50 cycles and 20 probe epochs is extrapolated from them. What the first cycle of a process takes beyond the later
ones (ours compiles in it) counts once, as a part of the start.
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
class Sitting:
    """cycles: on each side and turn, the first a warm-up if there are more. epochs: of the probe. turns: of both."""

    cycles: int
    epochs: int
    turns: int


SITTINGS = {"quick": Sitting(1, 1, 1), "default": Sitting(3, 1, 2), "full": Sitting(6, 2, 3)}


def check_checkout(checkout: Path) -> None:
    """InputError unless the folder holds the modules that are driven."""
    missing = [name for name in NEEDED if not (checkout / name).is_file()]
    if missing:
        raise InputError(
            f"--peer {checkout} is no checkout of the authors' code: {', '.join(missing)} missing; give "
            "the folder that holds deep_clustering.py"
        )


def compare(
    checkout: Path, data: Path, *, size: str, slots: int, report: Callable[[str], None]
) -> tuple[list[Row], dict[str, Any]]:
    """Rows of a cycle, its parts, a probe epoch and a run; and the facts: threads, slots, runs per hour.

    slots: our runs at the same time, each on one thread. The authors' code runs once at a time on its default
    threads. Raises InputError: not a checkout, its needs or the data missing, or it ends with an error.
    """
    check_checkout(checkout)
    verify("fmnist", data)
    sitting = SITTINGS[size]
    theirs, ours = [], []
    for turn in range(sitting.turns):
        report(f"{PEER}, turn {turn + 1} of {sitting.turns}")
        theirs.append(time_theirs(checkout, data, sitting, seed=turn))
        report(f"our runs, turn {turn + 1} of {sitting.turns}")
        ours.append(time_ours(data, sitting, slots=slots, seed=turn))
    return _rows(_medians(ours), _medians(theirs), sitting, slots), _facts(_medians(ours), _medians(theirs), slots)


def time_theirs(checkout: Path, data: Path, sitting: Sitting, *, seed: int) -> dict[str, list[float]]:
    """Seconds by name from a process of the authors' code: cycle, its PARTS, probe_epoch, start; threads."""
    environment = {name: value for name, value in os.environ.items() if name not in ("OMP_NUM_THREADS", "PYTHONPATH")}
    words = [str(checkout.resolve()), str(data.resolve()), str(sitting.cycles), str(sitting.epochs), str(seed)]
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="dc-hpc-peer-") as folder:  # where it may leave files
        done = subprocess.run(
            [sys.executable, "-B", str(_DRIVER), *words], capture_output=True, text=True, cwd=folder, env=environment
        )
    wall = time.perf_counter() - started
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise InputError(f"--peer {checkout} ended with an error: {last}; its branch `new` is the one that is driven")
    found = json.loads(done.stdout.splitlines()[-1])
    if "missing" in found:
        raise InputError(
            f"--peer {checkout} needs the package {found['missing']}, which is not installed in "
            f"{sys.executable}; install it there"
        )
    threads = found.pop("threads")
    rest = wall - sum(found["cycle"]) - sum(found["probe_epoch"])
    later = {name: _later(found[name]) for name in ("cycle", *PARTS)}
    return found | later | {"start": [rest + _excess(found["cycle"])], "threads": [threads]}


def time_ours(data: Path, sitting: Sitting, *, slots: int, seed: int) -> dict[str, list[float]]:
    """Seconds by name from `slots` processes at the same time: cycle, grouping, training, probe, start."""
    settings = BASELINES["fmnist"] | PROTOCOLS["fmnist"]["code"] | {"cycles": sitting.cycles, "last_cycle": "train"}
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
            raise RuntimeError(f"a run of ours did not end: {(failed[0].strip().splitlines() or ['no reason'])[-1]}")
        return _ours_by_name([run_directory.attempts(directory)[-1]["seconds"] for directory in directories], wall)


def _ours_by_name(records: Sequence[Sequence[Mapping[str, Any]]], wall: float) -> dict[str, list[float]]:
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


def _medians(turns: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, float]:
    return {name: statistics.median([second for turn in turns for second in turn[name]]) for name in turns[0]}


def _run_seconds(ours: Mapping[str, float], theirs: Mapping[str, float]) -> tuple[float, float]:
    """A whole run of each: its start, 50 cycles (the last untrained, as their loop leaves it), 20 probe epochs."""
    own = ours["start"] + CYCLES * ours["grouping"] + (CYCLES - 1) * ours["training"] + ours["probe"]
    other = theirs["start"] + (CYCLES - 1) * theirs["cycle"] + PROBE_EPOCHS * theirs["probe_epoch"]
    return own, other


def _rows(ours: Mapping[str, float], theirs: Mapping[str, float], sitting: Sitting, slots: int) -> list[Row]:
    measured = f"60,000 images, k 5, {max(1, sitting.cycles - 1) * sitting.turns} cycles measured"
    own, other = _run_seconds(ours, theirs)

    def row(name: str, size: str, seconds: float | None, peer_seconds: float) -> Row:
        ratio = None if seconds is None else peer_seconds / seconds
        return Row(name, "lenet5", size, seconds, None, None, None, PEER, peer_seconds, ratio)

    parts = {name: theirs[name] for name in PARTS}
    return [
        row("cycle", measured, ours["cycle"], theirs["cycle"]),
        row("cycle_features", measured, None, parts["features"]),
        row("cycle_clustering", measured, None, parts["clustering"]),
        row(
            "cycle_grouping",
            f"{measured}: features and clustering",
            ours["grouping"],
            parts["features"] + parts["clustering"],
        ),
        row("cycle_training", measured, ours["training"], parts["training"]),
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


def _facts(ours: Mapping[str, float], theirs: Mapping[str, float], slots: int) -> dict[str, Any]:
    own, other = _run_seconds(ours, theirs)
    return {
        "slots": slots,
        "peer_threads": int(theirs["threads"]),
        "runs_per_hour": slots * 3600 / own,
        "peer_runs_per_hour": 3600 / other,
    }
