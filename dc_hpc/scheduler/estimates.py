"""What runs took, and what the rest of them will take: the measured seconds of each stage of runs of their kind."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from dc_hpc.scheduler.run_status import Overview
from dc_hpc.storage import atomic_files, run_directory
from dc_hpc.storage.atomic_files import DamagedFile

Kind = tuple[str, str, str]  # dataset, net, device
CPU, GPU = "CPU", "GPU"  # a cycle on the one says nothing of a cycle on the other: they differ by tens of times
_OF_A_SORT = 5


@dataclass(frozen=True)
class Length:
    """How much a run has to do: the kind of its cycles, how many there are, how many train, which of them cluster, and
    how many layers are probed at the end.

    Every `reassign`-th cycle before `until` clusters. A run that only measures IA counts as one cycle; it clusters
    once and trains nothing.
    """

    dataset: str
    net: str
    k: int
    cycles: int
    trainings: int
    until: int
    reassign: int = 1
    layers: int = 0

    def clusterings(self, cycles_done: int = 0) -> int:
        """How many are left."""
        return max(-(-self.until // self.reassign) - -(-cycles_done // self.reassign), 0)


def length_of(settings: Mapping[str, Any]) -> Length:
    """The length of a run by its settings; KeyError, TypeError or ValueError where they are none."""
    cycles, halt = int(settings["cycles"]), settings.get("halt_cycle")
    until = 0 if settings.get("labels") else max(cycles if halt is None else min(int(halt), cycles), 1)
    trainings = cycles - 1 if settings.get("last_cycle") == "skip" and cycles else cycles
    reassign = int(settings.get("reassign") or 1)
    kind = (str(settings["dataset"]), str(settings["net"]), int(settings["k"]))
    if min(kind[2], reassign) < 1 or cycles < 0:
        raise ValueError(f"k {kind[2]}, reassign {reassign}, cycles {cycles}")
    return Length(*kind, max(cycles, 1), trainings, until, reassign, len(settings.get("probe") or ()))


def read_length(directory: Path) -> Length | None:
    """The length of the run of a directory; None where its config cannot be read."""
    try:
        return length_of(atomic_files.read_sealed(directory / "config.json")["config"])
    except (DamagedFile, OSError, KeyError, TypeError, ValueError):
        return None


@dataclass(frozen=True)
class Times:
    """What the attempts of some runs took.

    By (dataset, net, device), medians over whatever CPUs, or GPUs, they ran on: training: seconds of an epoch;
    clustering: k -> seconds of features, clustering and its metrics; probing: seconds a layer; loading: of the data.
    devices: run -> CPU or GPU, where its last attempt computed or its submission will. hours, gpu_hours: computed so
    far. complaints: a line for each record that is damaged and therefore not counted.
    """

    training: dict[Kind, float] = field(default_factory=dict)
    clustering: dict[Kind, dict[int, float]] = field(default_factory=dict)
    probing: dict[Kind, float] = field(default_factory=dict)
    loading: dict[Kind, float] = field(default_factory=dict)
    devices: dict[str, str] = field(default_factory=dict)
    hours: float = 0.0
    gpu_hours: float = 0.0
    complaints: tuple[str, ...] = ()

    def device_of(self, run: str) -> str:
        """CPU or GPU; where nothing is known of this run, what most of the others have."""
        return self.devices.get(run) or next(iter(Counter(self.devices.values()).most_common(1)), (CPU,))[0]

    def left(self, length: Length, cycles_done: int, device: str) -> float | None:
        """Seconds that a run still needs; None where its net and data were not measured.

        A k that was not measured counts like the nearest one, by ratio; a probe that was not, nothing.
        """
        kind = (length.dataset, length.net, device)
        clusterings, trainings = length.clusterings(cycles_done), max(length.trainings - cycles_done, 0)
        if (clusterings and kind not in self.clustering) or (trainings and kind not in self.training):
            return None
        seconds = self.loading.get(kind, 0.0) + length.layers * self.probing.get(kind, 0.0)
        seconds += trainings * self.training[kind] if trainings else 0.0
        if clusterings:
            by_k = self.clustering[kind]
            seconds += clusterings * by_k[min(by_k, key=lambda k: (abs(math.log(k / length.k)), k))]
        return seconds

    def has(self, length: Length, device: str) -> bool:
        """Whether clustering was measured at this very k, or is not needed."""
        return not length.clusterings() or length.k in self.clustering.get((length.dataset, length.net, device), {})

    def has_probe(self, length: Length, device: str) -> bool:
        """Whether its probe was measured, or it has none."""
        return not length.layers or (length.dataset, length.net, device) in self.probing


@dataclass(frozen=True)
class Estimate:
    """What some runs still need: cycles, seconds of computing in all and of the longest run, and how sure that is.

    unmeasured: runs of no measured kind, which are not in the seconds, by CPU or GPU; other_k: runs that count like
    another k; without_probe: runs in the seconds without their probe.
    """

    cycles: int
    seconds: float
    longest: float
    unmeasured: dict[str, int]
    other_k: int
    without_probe: int = 0

    def doubts(self) -> str:
        """In words, what the estimate leaves out or guesses; "" where nothing."""
        said = []
        said += [
            f"without {_runs(count)} whose net and data were not measured on a {device} yet"
            for device, count in self.unmeasured.items()
        ]
        if self.other_k:
            said.append(f"{_runs(self.other_k)} counted like the nearest k that was measured")
        if self.without_probe:
            said.append(f"without the probe of {_runs(self.without_probe)}, not measured yet")
        return "; ".join(said)


def estimate(times: Times, runs: Iterable[tuple[Length, int, str]]) -> Estimate:
    """What runs that are not done still need, each given by its length, the cycles it has done, and CPU or GPU."""
    runs = list(runs)
    left = [(length, device, times.left(length, done, device)) for length, done, device in runs]
    measured = [(length, device) for length, device, value in left if value is not None]
    seconds = [value for _, _, value in left if value is not None]
    return Estimate(
        cycles=sum(max(length.cycles - done, 0) for length, done, _ in runs),
        seconds=sum(seconds),
        longest=max(seconds, default=0.0),
        unmeasured=dict(Counter(device for _, device, value in left if value is None)),
        other_k=sum(not times.has(length, device) for length, device in measured),
        without_probe=sum(not times.has_probe(length, device) for length, device in measured),
    )


def measure(outputs: Path, overview: Overview, lengths: Mapping[str, Length | None]) -> Times:
    """What the attempts of these runs took; a run without a length adds its hours only."""
    gpus = {run: one.gpus / one.parallel_runs for one in overview.submissions for pack in one.runs for run in pack}
    devices = {
        run: _device(one.gpus > 0 or None, one.execution)
        for one in overview.submissions
        for pack in one.runs
        for run in pack
        if run in overview.runs
    }
    seconds: dict[tuple, list[float]] = defaultdict(list)
    hours, gpu_hours, complaints = 0.0, 0.0, []
    for name, run in overview.runs.items():
        if run.state == "new":
            continue
        records, damaged = run_directory.look_at_attempts(run_directory.runs_folder(outputs) / name)
        complaints += [f"{name}/{line}" for line in damaged]
        for record in records:
            _collect(seconds, lengths.get(name), record)
        if records:
            devices[name] = _device(records[-1].get("gpu"), records[-1].get("execution"))
        spent = sum(max(0.0, (one.get("finished") or one["renewed"]) - one["started"]) for one in records) / 3600
        hours, gpu_hours = hours + spent, gpu_hours + spent * gpus.get(name, 0)
    return Times(*_medians(seconds), devices, hours, gpu_hours, tuple(complaints))


def typical(outputs: Path, datasets: Collection[str]) -> Times:
    """What cycles on these data sets took in this folder, by a few runs of each sort, whatever grid they are of."""
    begun = defaultdict(list)
    for directory in run_directory.run_directories(outputs):
        sort = directory.name.partition("-seed")[0]  # data set, k, halt
        if sort.startswith(tuple(f"{name}-k" for name in datasets)) and len(begun[sort]) < _OF_A_SORT:
            begun[sort] += [directory] if (directory / "attempts").is_dir() else []
    seconds: dict[tuple, list[float]] = defaultdict(list)
    for directory in (one for sort in begun.values() for one in sort):
        for record in run_directory.look_at_attempts(directory)[0]:
            _collect(seconds, read_length(directory), record)
    return Times(*_medians(seconds))


def _device(gpu: bool | None, execution: Any) -> str:
    """CPU or GPU. gpu: whether it is one, where that is known; else what was asked for decides."""
    asked = isinstance(execution, Mapping) and execution.get("device") == "cuda"
    return GPU if gpu or (asked and gpu is None) else CPU


def _medians(seconds: Mapping[tuple, list[float]]) -> tuple[dict, dict, dict, dict]:
    """`training`, `clustering`, `probing` and `loading` of Times."""
    found, clustering = {"trained": {}, "probe": {}, "load": {}}, defaultdict(dict)
    for (stage, kind, k), values in seconds.items():
        if stage == "clustered":
            clustering[kind][k] = median(values)
        else:
            found[stage][kind] = median(values)
    return found["trained"], dict(clustering), found["probe"], found["load"]


def _collect(seconds: dict[tuple, list[float]], length: Length | None, record: dict[str, Any]) -> None:
    if length is None:
        return
    kind = (length.dataset, length.net, _device(record.get("gpu"), record.get("execution")))
    for row in record["seconds"]:
        if row["stage"] in ("load", "clustered", "trained", "probe"):
            k = length.k if row["stage"] == "clustered" else None  # training hardly depends on it
            layers = max(length.layers, 1) if row["stage"] == "probe" else 1
            seconds[row["stage"], kind, k].append(row["seconds"] / layers)


def as_json(overview: Overview, times: Times, left: Estimate) -> str:
    """Where the runs stand, what they took and what they need, for other programs."""
    runs = [
        {
            "run": one.name,
            "state": one.state,
            "reason": one.reason,
            "cycles_done": one.cycles_done,
            "task": one.task.id if one.task else None,
        }
        for one in overview.runs.values()
    ]
    facts = {
        "cluster": overview.cluster,
        "counts": overview.counts(),
        "hours": round(times.hours, 4),
        "gpu_hours": round(times.gpu_hours, 4),
        "hours_left": round(left.seconds / 3600, 4),
        "runs_not_estimated": sum(left.unmeasured.values()),
        "complaints": [*overview.complaints, *times.complaints],
        "runs": runs,
    }
    return json.dumps(facts, indent=1)


def _runs(count: int) -> str:
    return f"{count} run{'s' if count > 1 else ''}"
