"""Compares whole runs with the authors' own code, which has no licence, so a person must provide a checkout of it.

Ours and theirs alternately compute a few cycles and a few epochs of the probe, on one machine, with the settings of the
authors' jobs: Fashion-MNIST with k 5 for LeNet-5, SVHN with k 200 for AlexNet-small. Ours run several at a time on one
thread each; theirs run in the same way and, after that, one at a time on its default threads. A whole run of the
paper's number of cycles and 20 probe epochs is extrapolated. The first cycle of a process takes longer than the later
ones (ours compiles in it); the difference counts once, as a part of the start.
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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dc_hpc.benchmark.timing import FailedProcess, Row
from dc_hpc.config.baselines import BASELINES, PROTOCOLS
from dc_hpc.config.run_config import make_config
from dc_hpc.data.digests import part_digests
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
PROBE_EPOCHS = 20
DATASETS = {"lenet5": ("fmnist",), "alexnet_small": ("svhn", "svhn-derived")}  # the first that is in the data root
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
    checkout: Path,
    data: Path,
    networks: Sequence[str],
    *,
    size: str,
    slots: int,
    rounds: int | None = None,
    report: Callable[[str], None],
) -> tuple[list[Row], dict[str, Any]]:
    """The rows of a cycle, its parts, a probe epoch and a run of each network; and, by name, what was measured.

    networks: of DATASETS. rounds: None leaves them to the size. slots: processes at the same time, each on one thread,
    ours and theirs. The authors' code is also timed alone, on its default threads. The mapping has the slots and, for
    each network, runs per hour. Raises InputError where the folder is no checkout, a package or the data are missing,
    or it fails.
    """
    check_checkout(checkout)
    datasets = {network: present_dataset(network, data) for network in networks}
    workload, rows, throughput = WORKLOADS[size], [], {}
    workload = replace(workload, rounds=rounds or workload.rounds)
    for network, dataset in datasets.items():
        ours, alone, together = [], [], []
        for number in range(workload.rounds):
            report(f"{network}: {PEER}, one at a time, round {number + 1} of {workload.rounds}")
            alone.append(time_theirs(checkout, data, workload, dataset, seed=number))
            report(f"{network}: {PEER}, {slots} at a time, round {number + 1} of {workload.rounds}")
            together.append(time_theirs(checkout, data, workload, dataset, slots=slots, threads=1, seed=number))
            report(f"{network}: our runs, round {number + 1} of {workload.rounds}")
            ours.append(time_ours(data, workload, dataset, slots=slots, seed=number))
        medians = _medians(ours), _medians(alone), _medians(together)
        rows += _rows(network, dataset, *medians, workload, slots)
        throughput[network] = _throughput(dataset, *medians, slots)
    return rows, {"slots": slots, "runs_per_hour": throughput}


def present_dataset(network: str, data: Path) -> str:
    """The data set that is computed with a network. Raises InputError where the data root has none of them."""
    official, *others = DATASETS[network]
    try:
        verify(official, data)
    except InputError:
        for name in others:
            if (data / f"{name}.npz").is_file():
                return name
        raise
    return official


def time_theirs(
    checkout: Path,
    data: Path,
    workload: Workload,
    dataset: str,
    *,
    slots: int = 1,
    threads: int | None = None,
    seed: int,
) -> dict[str, list[float]]:
    """Seconds by name from processes of the authors' code: cycle, its PARTS, probe_epoch, start; threads.

    slots: processes at the same time. threads: of each; None leaves the number to torch.
    """
    environment = {name: value for name, value in os.environ.items() if name not in ("OMP_NUM_THREADS", "PYTHONPATH")}
    if threads:
        environment |= {"OMP_NUM_THREADS": str(threads)}
    words = [str(checkout.resolve()), str(data.resolve()), dataset, str(workload.cycles), str(workload.epochs)]
    with tempfile.TemporaryDirectory(prefix="dc-hpc-peer-") as folder:  # where it may write files
        started = time.perf_counter()
        processes = [
            subprocess.Popen(
                [sys.executable, "-B", str(_DRIVER), *words, str(seed + 1000 * slot)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                cwd=folder,
                env=environment,
            )
            for slot in range(slots)
        ]
        with ThreadPoolExecutor(slots) as pool:
            ended = list(pool.map(_output, processes, [started] * slots))
    found = [_from_theirs(checkout, *one) for one in ended]
    return {name: [second for one in found for second in one[name]] for name in found[0]}


def _output(process: subprocess.Popen[str], started: float) -> tuple[int, str, str, float]:
    """Exit code, output and errors of a process when it has ended, and the seconds since it was started."""
    output, errors = process.communicate()
    return process.returncode, output, errors, time.perf_counter() - started


def _from_theirs(checkout: Path, code: int, output: str, errors: str, wall: float) -> dict[str, list[float]]:
    """What `time_theirs` returns, of one process: its exit code, what it printed, its seconds in all."""
    if code:
        last = (errors.strip().splitlines() or [f"exit code {code}"])[-1]
        raise InputError(f"--compare-with {checkout} failed: {last}; bench calls the code of its branch `new`")
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    if "missing" in found:
        raise InputError(
            f"--compare-with {checkout} needs the package {found['missing']}, which is not installed in "
            f"{sys.executable}; install it there"
        )
    threads = found.pop("threads")
    rest = wall - sum(found["cycle"]) - sum(found["probe_epoch"])
    later = {name: _later(found[name]) for name in ("cycle", *PARTS)}
    return {**found, **later, "start": [rest + _excess(found["cycle"])], "threads": [threads]}


def time_ours(data: Path, workload: Workload, dataset: str, *, slots: int, seed: int) -> dict[str, list[float]]:
    """Seconds by name from `slots` processes at the same time: cycle, grouping, training, probe, start."""
    base = dataset.split("-")[0]
    settings = BASELINES[base] | PROTOCOLS[base]["code"] | {"dataset": dataset, "cycles": workload.cycles}
    settings |= {"last_cycle": "train"} | _digests(dataset, data)
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
            raise FailedProcess(f"a run of ours failed: {(failed[0].strip().splitlines() or ['no reason'])[-1]}")
        return _by_name([run_directory.attempts(directory)[-1]["seconds"] for directory in directories], wall)


def _digests(dataset: str, data: Path) -> dict[str, str]:
    """The settings that name the images of a data set that is no official one."""
    path = data / f"{dataset}.npz"
    return part_digests(path).settings(probed=True) if path.is_file() else {}


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


def _run_seconds(dataset: str, ours: Mapping[str, float], *others: Mapping[str, float]) -> list[float]:
    """Seconds of a whole run of ours, and of theirs as each of `others` measured it: start, cycles and 20 probe epochs.

    The last cycle is not trained, because their loop does not train it.
    """
    cycles = _cycles(dataset)
    own = ours["start"] + cycles * ours["grouping"] + (cycles - 1) * ours["training"] + ours["probe"]
    return [own, *[one["start"] + (cycles - 1) * one["cycle"] + PROBE_EPOCHS * one["probe_epoch"] for one in others]]


def _cycles(dataset: str) -> int:
    """Of a run of the paper."""
    return int(BASELINES[dataset.split("-")[0]]["cycles"])


def _rows(
    network: str,
    dataset: str,
    ours: Mapping[str, float],
    alone: Mapping[str, float],
    together: Mapping[str, float],
    workload: Workload,
    slots: int,
) -> list[Row]:
    measured = f"{dataset}, {max(1, workload.cycles - 1) * workload.rounds} cycles measured; {slots} of ours at a time"
    own, *whole = _run_seconds(dataset, ours, alone, together)
    rows = []
    for peer, theirs, other in zip((f"{PEER}, alone", f"{PEER}, {slots} at a time"), (alone, together), whole):
        pairs = {
            "cycle": (measured, ours["cycle"], theirs["cycle"]),
            "cycle_features": (measured, None, theirs["features"]),
            "cycle_clustering": (measured, None, theirs["clustering"]),
            "cycle_grouping": (
                f"{measured}: features and clustering",
                ours["grouping"],
                theirs["features"] + theirs["clustering"],
            ),
            "cycle_training": (measured, ours["training"], theirs["training"]),
            "probe_epoch": (
                f"{dataset}; ours: {PROBE_EPOCHS} epochs measured / {PROBE_EPOCHS}",
                ours["probe"] / PROBE_EPOCHS,
                theirs["probe_epoch"],
            ),
            "run": (f"{dataset}, {_cycles(dataset)} cycles + {PROBE_EPOCHS} probe epochs, extrapolated", own, other),
        }
        rows += [
            Row(
                name,
                network,
                size,
                seconds,
                peer=peer,
                peer_seconds=other_seconds,
                ratio=_ratio(seconds, other_seconds),
            )
            for name, (size, seconds, other_seconds) in pairs.items()
        ]
    return sorted(rows, key=lambda row: [one.name for one in rows].index(row.name))


def _ratio(seconds: float | None, peer_seconds: float) -> float | None:
    return None if seconds is None else peer_seconds / seconds


def _throughput(
    dataset: str, ours: Mapping[str, float], alone: Mapping[str, float], together: Mapping[str, float], slots: int
) -> dict[str, Any]:
    """Runs per hour of ours, and of theirs one at a time and as many at a time as ours."""
    own, one, several = _run_seconds(dataset, ours, alone, together)
    return {
        "dataset": dataset,
        "ours": slots * 3600 / own,
        "theirs_alone": 3600 / one,
        "theirs_threads": int(alone["threads"]),
        "theirs_together": slots * 3600 / several,
    }
