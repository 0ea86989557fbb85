"""Estimates of the time that runs still need, from the measured seconds of each stage of runs of the same kind."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path
from statistics import median
from typing import Any

from dc_hpc.algorithm.schedule import last_phase
from dc_hpc.scheduler.run_status import RunStatusTable
from dc_hpc.scheduler.tasks.words import number_of_runs
from dc_hpc.storage import atomic_files, run_directory
from dc_hpc.storage.atomic_files import DamagedFile
from dc_hpc.storage.run_progress import RunProgress

Kind = tuple[str, str, str]  # dataset, net, device
Seconds = dict[tuple[str, Kind, int | None], list[float]]  # (stage, kind, k where the stage clusters) -> measurements
CPU, GPU = "CPU", "GPU"  # measured apart, since a cycle takes tens of times longer on a CPU
_RUNS_OF_A_KIND = 5  # so many runs with the same data set, k and halt cycle are enough for a median


@dataclass(frozen=True)
class Length:
    """How much a run has to compute.

    dataset, net, k: the kind of its cycles. cycles: how many there are; a run that only measures IA counts as one
    cycle, which clusters and does not train. trainings: how many cycles train. until, reassign: every `reassign`-th
    cycle before `until` clusters. layers: how many are probed at the end. only_ia: whether the run trains nothing, so
    that its config says `cycles: 0`.
    """

    dataset: str
    net: str
    k: int
    cycles: int
    trainings: int
    until: int
    reassign: int = 1
    layers: int = 0
    only_ia: bool = False

    def clusterings(self, cycles_done: int = 0) -> int:
        """The number of clusterings after so many finished cycles."""
        return max(-(-self.until // self.reassign) - -(-cycles_done // self.reassign), 0)


def length_of(settings: Mapping[str, Any]) -> Length:
    """The length of a run with these settings; KeyError, TypeError or ValueError for anything else."""
    cycles, halt = int(settings["cycles"]), settings.get("halt_cycle")
    last_cycle = str(settings.get("last_cycle"))
    clusterings = last_phase(cycles, last_cycle)
    until = 0 if settings.get("labels") else clusterings if halt is None else min(int(halt), clusterings)
    trainings = cycles - 1 if last_cycle in ("skip", "stop") and cycles else cycles
    reassign = int(settings.get("reassign") or 1)
    kind = (str(settings["dataset"]), str(settings["net"]), int(settings["k"]))
    if min(kind[2], reassign) < 1 or cycles < 0:
        raise ValueError(f"k {kind[2]}, reassign {reassign}, cycles {cycles}")
    layers = len(settings.get("probe") or ())
    return Length(*kind, max(cycles, 1), trainings, until, reassign, layers, only_ia=cycles == 0)


def read_length(directory: Path) -> Length | None:
    """The length of the run of a directory; None where its config cannot be read."""
    try:
        return length_of(atomic_files.read_checksummed(directory / "config.json")["config"])
    except (DamagedFile, OSError, KeyError, TypeError, ValueError):
        return None


@dataclass(frozen=True)
class RunTotals:
    """What all attempts of a run took together.

    attempts, failed: how many there were, and how many of them failed. seconds: of wall time. cpu_seconds: of all
    cores; None where an attempt did not record it. gpu_seconds: the share of a GPU that its submission had, without the
    attempts that did not compute on one. stages: stage -> seconds. finished: when the last attempt was renewed,
    seconds since 1970.
    """

    attempts: int = 0
    failed: int = 0
    seconds: float = 0.0
    cpu_seconds: float | None = 0.0
    gpu_seconds: float = 0.0
    stages: dict[str, float] = field(default_factory=dict)
    finished: float = 0.0


def totals_of(records: Sequence[dict[str, Any]], gpus: float = 0.0) -> RunTotals:
    """The totals of a run's attempt records. gpus: the GPUs, or the share of one, that its submission asked for."""
    ends = [one.get("finished") or one["renewed"] for one in records]
    seconds = [max(0.0, end - one["started"]) for one, end in zip(records, ends)]
    on_gpu = sum(time for one, time in zip(records, seconds) if _used_gpu(one))
    cpu = [one.get("cpu_seconds") for one in records]
    stages: dict[str, float] = defaultdict(float)
    for row in (row for one in records for row in one["seconds"] if "stage" in row):
        stages[row["stage"]] += row["seconds"]
    return RunTotals(
        attempts=len(records),
        failed=sum(one["ended"] == "failed" for one in records),
        seconds=sum(seconds),
        cpu_seconds=None if None in cpu else sum(value for value in cpu if value is not None),
        gpu_seconds=on_gpu * gpus,
        stages=dict(stages),
        finished=max(ends, default=0.0),
    )


def _used_gpu(record: Mapping[str, Any]) -> bool:
    """Whether an attempt with a GPU at hand computed on it; one that failed before it knew its device did not."""
    gpu = record.get("gpu")
    return record["ended"] != "failed" if gpu is None else bool(gpu)


@dataclass(frozen=True)
class MeasuredTimes:
    """How long the stages of some runs took.

    For each (dataset, net, device) the medians in seconds, over all models of CPU or of GPU. training: one cycle's
    training. clustering: k -> features, clustering and its metrics. probing: one layer. loading: the data set.
    devices: run name -> CPU or GPU, where its last attempt computed or where its submission will compute. totals: run
    name -> what its attempts took together. hours, gpu_hours: computed so far by all these runs. warnings: one line for
    each damaged record, which is not counted.
    """

    training: dict[Kind, float] = field(default_factory=dict)
    clustering: dict[Kind, dict[int, float]] = field(default_factory=dict)
    probing: dict[Kind, float] = field(default_factory=dict)
    loading: dict[Kind, float] = field(default_factory=dict)
    devices: dict[str, str] = field(default_factory=dict)
    totals: dict[str, RunTotals] = field(default_factory=dict)
    hours: float = 0.0
    gpu_hours: float = 0.0
    warnings: tuple[str, ...] = ()

    def device_of(self, run: str) -> str:
        """CPU or GPU; for a run of which it is not known, the device of most other runs."""
        return self.devices.get(run) or next(iter(Counter(self.devices.values()).most_common(1)), (CPU,))[0]

    def left(self, length: Length, cycles_done: int, device: str) -> float | None:
        """Seconds that a run still needs; None where nothing of what is left was measured.

        A k that was not measured counts like the measured k with the nearest ratio. A probe that was not measured
        counts as 0 seconds, unless nothing else is left.
        """
        kind = (length.dataset, length.net, device)
        clusterings, trainings = length.clusterings(cycles_done), max(length.trainings - cycles_done, 0)
        if not clusterings and not trainings and not self.has_probe(length, device):
            return None
        if (clusterings and kind not in self.clustering) or (trainings and kind not in self.training):
            return None
        seconds = self.loading.get(kind, 0.0) + length.layers * self.probing.get(kind, 0.0)
        seconds += trainings * self.training[kind] if trainings else 0.0
        if clusterings:
            seconds += clusterings * self.clustering_of(length, device)
        return seconds

    def refined_by(self, own: MeasuredTimes) -> MeasuredTimes:
        """These times, but those of `own` for all stages that it measured: a run is the best measure of itself."""
        clustering = {kind: by_k | own.clustering.get(kind, {}) for kind, by_k in self.clustering.items()}
        return replace(
            self,
            training=self.training | own.training,
            clustering=own.clustering | clustering,
            probing=self.probing | own.probing,
            loading=self.loading | own.loading,
        )

    def left_of_running(
        self, length: Length, cycles_done: int, device: str, progress: RunProgress | None
    ) -> float | None:
        """`left` less what the running stage has computed of its cycle already."""
        seconds = self.left(length, cycles_done, device)
        if seconds is None or progress is None or progress.stage == "loading":
            return seconds
        kind = (length.dataset, length.net, device)
        seconds -= self.loading.get(kind, 0.0)
        if progress.stage == "training":
            clustered = cycles_done < length.until and cycles_done % length.reassign == 0
            seconds -= self.clustering_of(length, device) if clustered else 0.0
            seconds -= progress.fraction * self.training[kind]
        elif progress.stage == "probe":
            seconds -= progress.fraction * length.layers * self.probing.get(kind, 0.0)
        return max(seconds, 0.0)

    def clustering_of(self, length: Length, device: str) -> float:
        """Seconds of one clustering; of the k with the nearest ratio where this k was not measured."""
        by_k = self.clustering[length.dataset, length.net, device]
        return by_k[min(by_k, key=lambda k: (abs(math.log(k / length.k)), k))]

    def has(self, length: Length, device: str) -> bool:
        """Whether clustering was measured with exactly this k, or the run does not cluster."""
        return not length.clusterings() or length.k in self.clustering.get((length.dataset, length.net, device), {})

    def has_probe(self, length: Length, device: str) -> bool:
        """Whether the probe was measured, or the run has none."""
        return not length.layers or (length.dataset, length.net, device) in self.probing


@dataclass(frozen=True)
class Estimate:
    """What some runs still need, and what is uncertain about it.

    cycles, seconds: of all runs together; seconds is None, unknown, where there are runs and none of them was
    measured. longest: seconds of the longest run. unmeasured: device -> the number of runs that no measurement fits,
    which `seconds` leaves out. other_k: the number of runs that count like another k. without_probe: the number of runs
    whose probe `seconds` leaves out.
    """

    cycles: int
    seconds: float | None
    longest: float
    unmeasured: dict[str, int]
    other_k: int
    without_probe: int = 0

    def elapsed(self, slots: int) -> float | None:
        """Seconds until all runs are done where `slots` of them compute at the same time; None where unknown."""
        return None if self.seconds is None else max(self.seconds / max(slots, 1), self.longest)

    def at_least(self) -> str:
        """What stands before a number of seconds that leaves something out."""
        return "at least " if self.unmeasured or self.without_probe else ""

    def doubts(self) -> str:
        """What the estimate leaves out or guesses, in words; "" where that is nothing."""
        doubts = [
            f"without {number_of_runs(count)} whose net and data were not measured on a {device} yet"
            for device, count in self.unmeasured.items()
        ]
        if self.other_k:
            doubts.append(f"{number_of_runs(self.other_k)} counted like the nearest k that was measured")
        if self.without_probe:
            doubts.append(f"without the probe of {number_of_runs(self.without_probe)}, not measured yet")
        return "; ".join(doubts)


def estimate(
    measured: MeasuredTimes, runs: Iterable[tuple[Length, int, str]], progress: Iterable[RunProgress | None] = ()
) -> Estimate:
    """What unfinished runs still need.

    runs: the length of each, its finished cycles, and CPU or GPU. progress: where each is; none of them where empty.
    """
    runs = list(runs)
    left = [
        (length, device, measured.left_of_running(length, done, device, where))
        for (length, done, device), where in zip_longest(runs, progress)
    ]
    estimated = [(length, device) for length, device, value in left if value is not None]
    seconds = [value for _, _, value in left if value is not None]
    return Estimate(
        cycles=sum(max(length.cycles - done, 0) for length, done, _ in runs),
        seconds=sum(seconds) if seconds or not left else None,
        longest=max(seconds, default=0.0),
        unmeasured=dict(Counter(device for _, device, value in left if value is None)),
        other_k=sum(not measured.has(length, device) for length, device in estimated),
        without_probe=sum(not measured.has_probe(length, device) for length, device in estimated),
    )


def measure(outputs: Path, table: RunStatusTable, lengths: Mapping[str, Length | None]) -> MeasuredTimes:
    """The measured times of these runs. A run whose length is None adds its hours only."""
    gpus = {run: one.gpus / one.parallel_runs for one in table.submissions for task in one.runs for run in task}
    devices = {
        run: _device(one.gpus > 0 or None, one.execution)
        for one in table.submissions
        for task in one.runs
        for run in task
        if run in table.runs
    }
    seconds: Seconds = defaultdict(list)
    totals: dict[str, RunTotals] = {}
    warnings: list[str] = []
    for name, run in table.runs.items():
        if run.state == "new":
            continue
        records, damaged = run_directory.look_at_attempts(run_directory.runs_folder(outputs) / name)
        warnings += [f"{name}/{line}" for line in damaged]
        for record in records:
            _collect(seconds, lengths.get(name), record)
        if records:
            devices[name] = _device(records[-1].get("gpu"), records[-1].get("execution"))
        totals[name] = totals_of(records, gpus.get(name, 0))
    return replace(
        _medians(seconds),
        devices=devices,
        totals=totals,
        hours=sum(one.seconds for one in totals.values()) / 3600,
        gpu_hours=sum(one.gpu_seconds for one in totals.values()) / 3600,
        warnings=tuple(warnings),
    )


def measure_datasets(outputs: Path, datasets: Collection[str]) -> MeasuredTimes:
    """The measured times of runs on these data sets in a folder, from a few runs of each kind, whatever their grid."""
    begun: dict[str, list[Path]] = defaultdict(list)
    for directory in run_directory.run_directories(outputs):
        kind = directory.name.partition("-seed")[0]  # data set, k, halt cycle
        if kind.startswith(tuple(f"{name}-k" for name in datasets)) and len(begun[kind]) < _RUNS_OF_A_KIND:
            begun[kind] += [directory] if (directory / "attempts").is_dir() else []
    seconds: Seconds = defaultdict(list)
    for directory in (one for directories in begun.values() for one in directories):
        for record in run_directory.look_at_attempts(directory)[0]:
            _collect(seconds, read_length(directory), record)
    return _medians(seconds)


def measure_run(directory: Path, length: Length | None) -> tuple[MeasuredTimes, str | None]:
    """The measured times of one run by itself, and where its last attempt computes: CPU, GPU or None."""
    seconds: Seconds = defaultdict(list)
    records = run_directory.look_at_attempts(directory)[0]
    for record in records:
        _collect(seconds, length, record)
    device = _device(records[-1].get("gpu"), records[-1].get("execution")) if records else None
    return _medians(seconds), device


def _device(gpu: bool | None, execution: Any) -> str:
    """CPU or GPU. gpu: whether it was a GPU; where that is None, the requested device decides."""
    requested = isinstance(execution, Mapping) and execution.get("device") == "cuda"
    return GPU if gpu or (requested and gpu is None) else CPU


def _medians(seconds: Seconds) -> MeasuredTimes:
    """The median times of each stage; the fields about single runs stay empty."""
    found: dict[str, dict[Kind, float]] = {"trained": {}, "probe": {}, "load": {}}
    clustering: dict[Kind, dict[int, float]] = defaultdict(dict)
    for (stage, kind, k), values in seconds.items():
        if k is not None:
            clustering[kind][k] = median(values)
        else:
            found[stage][kind] = median(values)
    return MeasuredTimes(found["trained"], dict(clustering), found["probe"], found["load"])


def _collect(seconds: Seconds, length: Length | None, record: dict[str, Any]) -> None:
    """Add the seconds of one attempt record; those of a run whose length is None count for no kind."""
    if length is None:
        return
    kind = (length.dataset, length.net, _device(record.get("gpu"), record.get("execution")))
    for row in record["seconds"]:
        if row["stage"] in ("load", "clustered", "trained", "probe"):
            k = length.k if row["stage"] == "clustered" else None  # training hardly depends on k
            layers = max(length.layers, 1) if row["stage"] == "probe" else 1
            seconds[row["stage"], kind, k].append(row["seconds"] / layers)
