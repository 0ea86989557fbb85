"""One run in one directory: resume, loop over the cycles, measure, dump, probe, finish.

    python -m dc_hpc.experiment.run outputs/runs/<run_id>

The only room that joins a config, the algorithm and a directory.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from dc_hpc.algorithm.backends.cpu import kernels_of
from dc_hpc.algorithm.backends.determinism import exact
from dc_hpc.algorithm.clustering import Clustering, cluster_by_kmeans, cluster_reduced
from dc_hpc.algorithm.deepcluster import Cycle, deep_cluster
from dc_hpc.algorithm.nets import NET_BUILDERS
from dc_hpc.algorithm.probe import activations, linear_probe
from dc_hpc.algorithm.randomness import key
from dc_hpc.algorithm.schedule import Schedule
from dc_hpc.algorithm.state import State, init_state, load_state, next_cycle, state_tensors
from dc_hpc.algorithm.views import ImageViews
from dc_hpc.config.run_config import RunConfig
from dc_hpc.data.official import Dataset
from dc_hpc.experiment import reuse
from dc_hpc.experiment.device import check_device
from dc_hpc.experiment.execution import DEVICES, KMEANS_BACKENDS, Execution, StopSignal, environment
from dc_hpc.experiment.measure import clustering_row, halted_row, summary
from dc_hpc.experiment.process_cache import ProcessCache, views_of
from dc_hpc.storage import feature_dumps, metrics_csv, run_directory


def run(
    directory: Path,
    execution: Execution,
    *,
    stop: Callable[[], bool] = lambda: False,
    memory: ProcessCache | None = None,
) -> str:
    """Bring the run of a directory to its end, from wherever it stands; returns "done", "stopped" or "failed".

    memory: of the process, where several runs follow each other in it.

    `stop` is asked after each phase: when it says True the State is saved and "stopped" returned. An error is
    recorded with its traceback in the directory and returned as "failed". Running a finished run does nothing.
    """
    if run_directory.state_of(directory).name == "done":
        run_directory.tidy(directory)  # the last attempt may have died between its result and this
        return "done"
    (directory / "config.json").stat()
    try:
        number = run_directory.start_attempt(directory, {"execution": execution.to_record(), **environment()})
    except OSError as error:
        return _unrecorded(directory, error)
    try:
        config = run_directory.read_config(directory)
        with _computing(execution.threads):
            ended = _Attempt(directory, number, config, execution, stop, memory or ProcessCache()).go()
        run_directory.update_attempt(directory, number, {"ended": ended, "finished": time.time()})
    except Exception as error:
        try:
            run_directory.fail_attempt(directory, number, error, traceback.format_exc())
        except OSError:  # the disk is full, most likely, and that is what stopped the run too
            return _unrecorded(directory, error)
        return "failed"
    return ended


def _unrecorded(directory: Path, error: Exception) -> str:
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    print(f"dc_hpc: {directory.name}: {reason}; nothing could be recorded of it", file=sys.stderr, flush=True)
    return "failed"


@dataclass
class _Attempt:
    """One start of a run. `history` holds the metric rows, `seconds` what each phase of this attempt took."""

    directory: Path
    number: int
    config: RunConfig
    execution: Execution
    stop: Callable[[], bool]
    memory: ProcessCache
    history: list[dict[str, Any]] = field(default_factory=list)
    seconds: list[dict[str, Any]] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def go(self) -> str:
        """Resume, cycle, probe, finish; returns "done" or "stopped"."""
        device = torch.device(_device(self.execution.device))
        started = time.perf_counter()
        dataset, seen = self.memory.images(self.config, self.execution, device)
        labels = dataset.train_labels.numpy()
        state = self._resume(device)
        self._report("load", None, started)
        saved_at = time.monotonic()
        for cycle in self._cycles(state, seen, dataset.train_labels.to(device)):
            self._measure(cycle, labels)
            self._give(cycle, state)
            stopping = self.stop()
            if stopping or time.monotonic() - saved_at >= self.execution.save_seconds:
                self._save(state)
                saved_at = time.monotonic()
            if stopping:
                return "stopped"
        self._save(state)
        accuracies = self._probe(state, seen, dataset, device)
        digest = {"metrics_sha256": self._report_progress()}
        run_directory.finish(self.directory, summary(self.history) | accuracies | self._last_files(state) | digest)
        return "done"

    def _resume(self, device: torch.device) -> State:
        """A fresh State, with the newest whole checkpoint put into it if there is one."""
        c = self.config
        trunk = NET_BUILDERS[c.net](batch_norm=c.batch_norm, sobel=c.sobel).to(device)
        state = init_state(trunk, seed=c.seed, lr=c.lr, momentum=c.momentum, weight_decay=c.weight_decay)
        checkpoint = self._checkpoint()
        if checkpoint:
            tensors = {name: torch.from_numpy(array.copy()) for name, array in checkpoint.tensors.items()}
            load_state(state, tensors, cycle=checkpoint.cycle, phase=checkpoint.phase)
            self.history = checkpoint.history
        resumed = f"cycle {checkpoint.cycle} {checkpoint.phase}" if checkpoint else None
        if checkpoint and checkpoint.given_by:
            resumed = f"{resumed} of {checkpoint.given_by}"
        facts = {
            "device": _device_name(device),
            "gpu": device.type == "cuda",
            "kernels": kernels_of(trunk),
            "resumed_from": resumed,
            "complaints": self.complaints,
        }
        run_directory.update_attempt(self.directory, self.number, facts | {"cycles_done": self._cycles_done()})
        return state

    def _checkpoint(self) -> run_directory.Checkpoint | None:
        """The newest that is whole; none where a dump of an earlier cycle is lost, for that is computed again."""
        self.complaints = run_directory.put_aside_damaged_result(self.directory)
        checkpoint, complaints = run_directory.load_checkpoint(self.directory)
        self.complaints += complaints
        if checkpoint is None:
            return None
        clustered = {row["cycle"] for row in checkpoint.history if row["reassign"]}
        lost = feature_dumps.put_aside_damaged_features(self.directory, clustered & _dumped(self.config))
        self.complaints += lost
        return None if lost else checkpoint

    def _last_files(self, state: State) -> dict[str, str]:
        """What a run leaves: its trained trunk; its first clustering, if it trained nothing."""
        if self.config.cycles == 0:
            feature_dumps.write_first_clustering(
                self.directory,
                pseudo_labels=state.pseudo_labels.cpu().numpy(),
                k=self.config.k,
                inertia=self.history[0]["inertia"],
            )
            return {}
        return {"trunk_sha256": feature_dumps.write_trunk(self.directory, _arrays(state.trunk.state_dict()))}

    def _first(self, state: State, seen: ImageViews) -> Clustering | None:
        """The clustering of cycle 0, from what this process and the IA run of this run have computed of it."""
        c = self.config
        if state.phase != "fresh" or c.labels:
            return None
        of_ia_run = self._clustering_of_ia_run(seen)
        if of_ia_run is not None and 0 not in _dumped(c):
            return of_ia_run
        features = self.memory.first_features(c, state.trunk, seen)
        if of_ia_run is not None:
            return of_ia_run._replace(features=features)
        return cluster_reduced(features, k=c.k, seed=key(c.seed, 0, "kmeans"), **self._kmeans_options())

    def _kmeans_options(self) -> dict[str, Any]:
        c = self.config
        return {"init": c.kmeans_init, "iterations": c.kmeans_iterations, "backend": self.execution.kmeans_backend}

    def _clustering_of_ia_run(self, seen: ImageViews) -> Clustering | None:
        twin = reuse.ia_donor(self.config)
        found = feature_dumps.read_first_clustering(self.directory.with_name(twin)) if twin else None
        if found is None:
            return None
        run_directory.update_attempt(self.directory, self.number, {"first_clustering_from": twin})
        labels = torch.from_numpy(found[0].astype(np.int64)).to(seen.images.device)
        return Clustering(labels, None, found[1])

    def _give(self, cycle: Cycle, state: State) -> None:
        """Save into the directories of runs that halt soon and have not begun: so far they are this one."""
        if cycle.phase != "trained":
            return
        for name in reuse.halted_recipients(self.config, cycle.index):
            twin = self.directory.with_name(name)
            if twin.is_dir() and run_directory.state_of(twin).name == "new":
                for dumped in _dumped(run_directory.read_config(twin)) & set(range(cycle.index + 1)):
                    feature_dumps.copy_features(self.directory, twin, cycle=dumped, k=self.config.k)
                run_directory.save_checkpoint(
                    twin,
                    cycle=state.cycle,
                    phase=state.phase,
                    history=self.history,
                    tensors=_arrays(state_tensors(state)),
                    given_by=self.directory.name,
                )

    def _cycles(self, state: State, seen: ImageViews, truth: torch.Tensor) -> Iterator[Cycle]:
        """The phases of deep_cluster, each timed."""
        c, started = self.config, time.perf_counter()
        phases = deep_cluster(
            state,
            seen,
            k=c.k,
            seed=c.seed,
            schedule=Schedule(
                cycles=c.cycles,
                halt_cycle=1 if c.labels else c.halt_cycle,
                reassign=c.reassign,
                epochs_per_cycle=c.epochs_per_cycle,
                last_cycle=c.last_cycle,
            ),
            batch_size=c.batch_size,
            cluster=partial(cluster_by_kmeans, pca=c.pca, **self._kmeans_options()),
            first_clustering=self._first(state, seen),
        )
        self._let_truth_in(state, truth)
        for cycle in phases:
            self._report(cycle.phase, cycle.index, started)
            yield cycle
            self._let_truth_in(state, truth)
            started = time.perf_counter()

    def _let_truth_in(self, state: State, truth: torch.Tensor) -> None:
        """The two experiments that train on the truth; deep_cluster itself has no way to.

        labels: the supervised ceiling, halted from the start with the truth in place of a first clustering.
        resume_leak: the authors' checkpoints hold no pseudo-labels, so a run that they restarted after its halting
        point went on with the labels of the data set. That is a ten-class problem, whatever k is.
        """
        if self.config.labels and state.phase == "fresh":
            state.pseudo_labels, state.phase = truth, "clustered"
        leak = self.config.resume_leak
        if leak is not None and next_cycle(state) >= leak:
            state.pseudo_labels = truth

    def _measure(self, cycle: Cycle, labels: np.ndarray) -> None:
        """Add what this phase shows to the row of its cycle; dump the features that were asked for."""
        if cycle.phase == "clustered":
            self.history.append(clustering_row(cycle, labels, self.config.k))
            if cycle.index in _dumped(self.config):
                feature_dumps.dump_features(
                    self.directory,
                    cycle=cycle.index,
                    features=cycle.features.cpu().numpy(),
                    pseudo_labels=cycle.pseudo_labels.cpu().numpy(),
                    k=self.config.k,
                )
        else:
            if not self.history or self.history[-1]["cycle"] != cycle.index:
                self.history.append(halted_row(cycle, labels))
            self.history[-1]["loss"] = cycle.loss
        self._report_progress()

    def _report_progress(self) -> str:
        progress = {"cycles_done": self._cycles_done(), "seconds": self.seconds}
        return metrics_csv.report_progress(self.directory, self.number, self.history, progress)

    def _cycles_done(self) -> int:
        return sum(row.get("loss") is not None for row in self.history)

    def _save(self, state: State) -> None:
        run_directory.save_checkpoint(
            self.directory,
            cycle=state.cycle,
            phase=state.phase,
            tensors=_arrays(state_tensors(state)),
            history=self.history,
        )

    def _probe(self, state: State, seen: ImageViews, dataset: Dataset, device: torch.device) -> dict[str, float]:
        """The linear probe of every layer asked for; the first is the paper's and gives `accuracy` itself."""
        c, started = self.config, time.perf_counter()
        if not c.probe:
            return {}
        test = ImageViews(dataset.test_images.to(device), views_of(c))
        pool = c.probe_average_pool
        train_values = activations(state.trunk, seen, c.probe, average_pool=pool)
        mirrored = activations(state.trunk, seen, c.probe, mirrored=True, average_pool=pool) if c.probe_flip else {}
        test_values = activations(state.trunk, test, c.probe, average_pool=pool)
        train_labels, test_labels = dataset.train_labels.to(device), dataset.test_labels.to(device)
        accuracies: dict[str, float] = {}
        for layer in c.probe:
            probe = linear_probe(
                train_values[layer],
                train_labels,
                test_values[layer],
                test_labels,
                classes=dataset.classes,
                seed=c.seed,
                train_mirrored=mirrored.get(layer),
                epochs=c.probe_epochs,
                lr=c.probe_lr,
                momentum=c.probe_momentum,
                weight_decay=c.probe_weight_decay,
                batch_size=c.probe_batch_size,
            )
            if layer == c.probe[0]:
                accuracies |= {
                    "accuracy": probe.accuracy,
                    "accuracy_best": probe.accuracy_best,
                    "accuracy_batch_mean": probe.accuracy_batch_mean,
                    "probe_loss": probe.loss,
                }
            accuracies[f"accuracy_{layer}"] = probe.accuracy
        self._report("probe", None, started)
        run_directory.update_attempt(self.directory, self.number, {"seconds": self.seconds})
        return accuracies

    def _report(self, stage: str, cycle: int | None, started: float) -> None:
        self.seconds.append({"stage": stage, "cycle": cycle, "seconds": round(time.perf_counter() - started, 3)})


def _dumped(config: RunConfig) -> set[int]:
    """The cycles whose features are written."""
    end = 0 if config.labels else min(max(config.cycles, 1), config.halt_cycle or math.inf)
    clustered = [cycle for cycle in range(int(end)) if cycle % config.reassign == 0]
    if isinstance(config.features, int):
        return {cycle for cycle in clustered if cycle % config.features == 0}
    chosen = {"none": [], "first": clustered[:1], "first_last": [*clustered[:1], *clustered[-1:]], "every": clustered}
    return set(chosen[config.features])


def _arrays(tensors: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    return {name: value.detach().cpu().numpy() for name, value in tensors.items()}


def _device(wanted: str) -> str:
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    check_device(wanted)
    return wanted


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()


@contextmanager
def _computing(threads: int) -> Iterator[None]:
    """So many threads of torch and of every BLAS, and exact arithmetic, for the length of a run."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with exact(), threadpool_limits(threads):
            yield
    finally:
        torch.set_num_threads(before)


def main() -> None:
    """The door for one run: python -m dc_hpc.experiment.run DIRECTORY --data ROOT."""
    parser = argparse.ArgumentParser(prog="python -m dc_hpc.experiment.run", description=run.__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path, help="a run directory that submit made")
    parser.add_argument("--data", default=os.environ.get("DC_HPC_DATA", "data"), help="folder of the data sets")
    parser.add_argument("--device", default="auto", choices=DEVICES)
    parser.add_argument("--engine", default="torch", choices=KMEANS_BACKENDS, help="k-means engine")
    parser.add_argument("--threads", default=1, type=int, help="CPU threads")
    parser.add_argument("--save-seconds", default=60.0, type=float, help="seconds between checkpoints")
    given = parser.parse_args()
    os.umask(0o077)
    try:
        execution = Execution(given.data, given.device, given.threads, given.engine, given.save_seconds)
        ended = run(given.directory, execution, stop=StopSignal())
    except FileNotFoundError as error:
        sys.exit(f"dc_hpc: {given.directory} is not a run directory ({error}); submit a grid to make one")
    except OSError as error:
        sys.exit(f"dc_hpc: {given.directory} cannot be read ({error})")
    print(f"{given.directory.name}: {ended}")
    if ended == "failed":
        print(run_directory.state_of(given.directory).reason, file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
