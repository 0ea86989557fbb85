"""One run in one directory: resume, loop over the cycles, measure, dump, probe, finish.

    python -m dc_hpc.experiment.run outputs/runs/<run_id>

Only this module joins a config, the algorithm and a directory.
"""

from __future__ import annotations

import argparse
import math
import os
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

from dc_hpc.algorithm import NUMERICS
from dc_hpc.algorithm.authors.clustering import cluster_as_authors
from dc_hpc.algorithm.backends.determinism import exact
from dc_hpc.algorithm.beyond.halting import HaltRule
from dc_hpc.algorithm.clustering import Clustering, cluster_by_kmeans, cluster_reduced
from dc_hpc.algorithm.deepcluster import Cycle, deep_cluster
from dc_hpc.algorithm.divergence import DivergenceError
from dc_hpc.algorithm.randomness import key
from dc_hpc.algorithm.schedule import Schedule
from dc_hpc.algorithm.state import State, next_cycle, state_tensors
from dc_hpc.algorithm.views import ImageViews
from dc_hpc.config.run_config import RunConfig
from dc_hpc.data.official import Dataset
from dc_hpc.errors import InputError
from dc_hpc.experiment.build import fresh_trunk
from dc_hpc.experiment.device import check_kmeans_backend, device_of
from dc_hpc.experiment.donors import arrays_of, clustering_of_ia_run, copy_to_halted_runs
from dc_hpc.experiment.execution import DEVICES, KMEANS_BACKENDS, Execution, StopSignal, environment
from dc_hpc.experiment.measure import brightness_deciles, clustering_row, halted_row, summary
from dc_hpc.experiment.probing import ProbedLayers, probe_layers
from dc_hpc.experiment.process_cache import ProcessCache
from dc_hpc.experiment.progress_writer import ProgressWriter
from dc_hpc.experiment.resume import dumped_cycles, resume
from dc_hpc.experiment.reuse import labelling
from dc_hpc.storage import atomic_files, feature_dumps, metrics_csv, numerics, predictions, run_directory
from dc_hpc.storage.atomic_files import DamagedFile
from dc_hpc.storage.processes import open_standard_streams


def run(
    directory: Path,
    execution: Execution,
    *,
    stop: Callable[[], bool] = lambda: False,
    cache: ProcessCache | None = None,
) -> str:
    """Complete the run of a directory, from its last checkpoint on; returns "done", "stopped" or "failed".

    cache: of the process, where several runs follow each other in it.

    `stop` is asked after each phase: when it says True the State is saved and "stopped" returned. An error is
    recorded with its traceback in the directory and returned as "failed". Running a finished run does nothing.
    """
    if run_directory.state_of(directory).name == "done":
        run_directory.tidy(directory)  # the last attempt may have died between its result and this
        return "done"
    (directory / "config.json").stat()
    begun = numerics.begun_numerics(directory)
    record = {"execution": execution.to_record(), **environment(), "numerics": begun or NUMERICS}
    try:
        number = run_directory.start_attempt(directory, record)
    except (OSError, InputError) as error:  # InputError: attempts/ is a symbolic link
        return _unrecorded(directory, error)
    try:
        config = run_directory.read_config(directory)
        numerics.check_numerics([directory])
        with _computing(execution.threads), ProgressWriter(directory, number) as progress:
            ended = _Attempt(directory, number, config, execution, stop, cache or ProcessCache(), progress).go()
        run_directory.update_attempt(directory, number, {"ended": ended, "finished": time.time()})
    except Exception as error:
        try:
            run_directory.fail_attempt(directory, number, error, traceback.format_exc())
        except (OSError, InputError):  # the disk is full, most likely, and that is what stopped the run too
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
    cache: ProcessCache
    progress: ProgressWriter
    history: list[dict[str, Any]] = field(default_factory=list)
    seconds: list[dict[str, Any]] = field(default_factory=list)
    cpu_started: float = field(default_factory=time.process_time)

    def go(self) -> str:
        """Resume, cycle, probe, finish; returns "done", also where another attempt was faster, or "stopped"."""
        started = time.perf_counter()
        device = torch.device(device_of(self.execution.device))
        check_kmeans_backend(self.execution.kmeans_backend)
        dataset, images = self.cache.images(self.config, self.execution, device)
        resumed = resume(self.directory, self.config, device, own_nets=self.execution.own_nets)
        state, self.history = resumed.state, resumed.history
        self._record(resumed.record | {"cycles_done": self._cycles_done()})
        self._time("load", None, started)
        ended = self._cycle(state, images, dataset)
        if ended != "trained":
            return ended
        self._save(state)
        probed = self._probe(state, images, dataset)
        if self._is_done_elsewhere():
            return "done"
        digest = {"metrics_sha256": self._report_progress()}
        run_directory.finish(
            self.directory, summary(self.history) | probed.numbers | self._write_final_files(state, probed) | digest
        )
        return "done"

    def _is_done_elsewhere(self) -> bool:
        """Whether another living attempt has ended the run: its files stay, and checkpoints of this one are removed.

        This attempt would replace the metrics that the result names by those of fewer cycles. Where the other one ended
        between a look and the write after it, that has happened: this attempt goes on, and its end writes them again.
        """
        if not run_directory.is_done(self.directory):
            return False
        try:
            metrics_csv.read_metrics(self.directory)
        except DamagedFile:
            return False
        run_directory.tidy(self.directory)
        return True

    def _refuse_a_diverged_history(self) -> None:
        """Version 0.1 went on with a loss of NaN and saved it."""
        for row in self.history:
            if row.get("loss") is not None and not math.isfinite(row["loss"]):
                raise DivergenceError(f"training diverged in cycle {row['cycle']} (loss {row['loss']}); lower lr")

    def _cycle(self, state: State, images: ImageViews, dataset: Dataset) -> str:
        """Run the cycles that are left; save when it is time and when asked to stop.

        Returns "trained", "stopped", or "done" where another attempt has ended the run meanwhile.
        """
        self._refuse_a_diverged_history()
        labels, deciles = dataset.train_labels.numpy(), brightness_deciles(dataset.train_images.numpy())
        saved_at = time.monotonic()
        for cycle in self._phases(state, images, dataset.train_labels.to(images.device)):
            if self._is_done_elsewhere():
                return "done"
            self._measure(cycle, labels, deciles)
            if cycle.phase == "trained":
                copy_to_halted_runs(self.directory, self.config, state, cycle.index, self.history)
            stopping = self.stop()
            if stopping or time.monotonic() - saved_at >= self.execution.save_seconds:
                self._save(state)
                saved_at = time.monotonic()
            if stopping:
                return "stopped"
        return "trained"

    def _phases(self, state: State, images: ImageViews, truth: torch.Tensor) -> Iterator[Cycle]:
        """The phases of deep_cluster, each timed."""
        c, started = self.config, time.perf_counter()
        self._watch_history(next_cycle(state))
        phases = deep_cluster(
            state,
            images,
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
            first_clustering=self._first_clustering(state, images),
            halt_rule=HaltRule(c.halt_rule, c.halt_patience, c.halt_tolerance) if c.halt_rule else None,
            soft_reset=c.soft_reset or 0.0,
            on_progress=self.progress,
        )
        self._let_truth_in(state, truth)
        for cycle in phases:
            self._time(cycle.phase, cycle.index, started)
            yield cycle
            self._watch_history(next_cycle(state))
            self._let_truth_in(state, truth)
            started = time.perf_counter()

    def _first_clustering(self, state: State, images: ImageViews) -> Clustering | None:
        """The clustering of cycle 0, from what the IA run of this run and this process have computed of it already.

        That of a run with a teacher is the teacher's.
        """
        c = labelling(self.config)
        if state.phase != "fresh" or c.labels:
            return None
        copied = clustering_of_ia_run(self.directory, self.config, images.device)
        if copied:
            donor, clustering = copied
            self._record({"first_clustering_from": donor})
            if 0 not in dumped_cycles(c):
                return clustering
        trunk = state.trunk if c == self.config else fresh_trunk(c, own_nets=self.execution.own_nets).to(images.device)
        reduced = self.cache.first_features(c, trunk, images, self.progress)
        if copied:
            return clustering._replace(features=reduced.features.float())
        self.progress("clustering")
        if c.draws == "authors":
            return cluster_as_authors(reduced, k=c.k, seed=c.seed, **self._kmeans_settings())
        return cluster_reduced(reduced, k=c.k, seed=key(c.seed, 0, "kmeans"), **self._kmeans_options())

    def _kmeans_settings(self) -> dict[str, Any]:
        c = self.config
        return {"init": c.kmeans_init, "iterations": c.kmeans_iterations, "n_init": c.kmeans_n_init}

    def _kmeans_options(self) -> dict[str, Any]:
        return self._kmeans_settings() | {"backend": self.execution.kmeans_backend}

    def _let_truth_in(self, state: State, truth: torch.Tensor) -> None:
        """Put the true labels into the state, for the two experiments that train on them; deep_cluster never gets them.

        labels: the supervised ceiling, halted from the start with the truth in place of a first clustering.
        resume_leak: the authors' checkpoints hold no pseudo-labels, so a run that they restarted after its halting
        point went on with the labels of the data set. That is a ten-class problem, whatever k is.
        """
        if self.config.labels and state.phase == "fresh":
            state.pseudo_labels, state.phase = truth, "clustered"
        leak = self.config.resume_leak
        if leak is not None and next_cycle(state) >= leak:
            state.pseudo_labels = truth

    def _measure(self, cycle: Cycle, labels: np.ndarray, deciles: np.ndarray) -> None:
        """Add the metrics of this phase to the row of its cycle; dump the features that were asked for."""
        if cycle.phase == "clustered":
            self.history.append(clustering_row(cycle, labels, deciles, self.config.k))
            if cycle.index in dumped_cycles(self.config):
                assert cycle.features is not None, "a clustering without features is taken only where none are written"
                feature_dumps.dump_features(
                    self.directory,
                    cycle=cycle.index,
                    features=cycle.features.cpu().numpy(),
                    pseudo_labels=cycle.pseudo_labels.cpu().numpy(),
                    k=self.config.k,
                    components_alive=cycle.components_alive,
                )
        else:
            if not self.history or self.history[-1]["cycle"] != cycle.index:
                self.history.append(halted_row(cycle, labels, self.history[-1] if self.history else {}))
            self.history[-1]["loss"] = cycle.loss
        self._report_progress()

    def _probe(self, state: State, images: ImageViews, dataset: Dataset) -> ProbedLayers:
        started = time.perf_counter()
        probed = probe_layers(state.trunk, self.config, images, dataset, self.progress)
        if probed.numbers:
            self._time("probe", None, started)
            self._record({"seconds": self.seconds})
        return probed

    def _write_final_files(self, state: State, probed: ProbedLayers) -> dict[str, str]:
        """Write the predictions, and the trained trunk or the first clustering of a run that trained nothing."""
        digests = {}
        if probed.predictions:
            digests["predictions_sha256"] = predictions.write_predictions(self.directory, probed.predictions)
        if self.config.cycles == 0:
            assert state.pseudo_labels is not None, "an IA run ends with its clustering"
            feature_dumps.write_first_clustering(
                self.directory,
                pseudo_labels=state.pseudo_labels.cpu().numpy(),
                k=self.config.k,
                **{name: self.history[0][name] for name in feature_dumps.MEASURED},
            )
            return digests
        trunk = feature_dumps.write_trunk(self.directory, arrays_of(state.trunk.state_dict()))
        return digests | {"trunk_sha256": trunk}

    def _watch_history(self, cycle: int) -> None:
        """Show the cycle that begins, the NMI of the last clustering and the loss of the last trained cycle."""
        clusterings = [row["nmi_true"] for row in self.history if row["reassign"]]
        losses = [row["loss"] for row in self.history if row.get("loss") is not None]
        self.progress.cycle = cycle
        self.progress.nmi = clusterings[-1] if clusterings else None
        self.progress.loss = losses[-1] if losses else None

    def _report_progress(self) -> str:
        cpu_seconds = round(time.process_time() - self.cpu_started, 3)
        progress = {"cycles_done": self._cycles_done(), "seconds": self.seconds, "cpu_seconds": cpu_seconds}
        return metrics_csv.report_progress(self.directory, self.number, self.history, progress)

    def _record(self, entries: dict[str, Any]) -> None:
        run_directory.update_attempt(self.directory, self.number, entries)

    def _cycles_done(self) -> int:
        return sum(row.get("loss") is not None for row in self.history)

    def _save(self, state: State) -> None:
        run_directory.save_checkpoint(
            self.directory,
            cycle=state.cycle,
            phase=state.phase,
            tensors=arrays_of(state_tensors(state)),
            history=self.history,
        )

    def _time(self, stage: str, cycle: int | None, started: float) -> None:
        self.seconds.append({"stage": stage, "cycle": cycle, "seconds": round(time.perf_counter() - started, 3)})


@contextmanager
def _computing(threads: int) -> Iterator[None]:
    """Limit torch and every BLAS to these threads, with exact arithmetic, for the duration of a run."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with exact(), threadpool_limits(threads):
            yield
    finally:
        torch.set_num_threads(before)


def main() -> None:
    """The command for one run: python -m dc_hpc.experiment.run DIRECTORY --data ROOT."""
    parser = argparse.ArgumentParser(
        prog="python -m dc_hpc.experiment.run", description="Bring the run of a directory to its end."
    )
    parser.add_argument("directory", type=Path, help="a run directory that submit made")
    parser.add_argument("--data", default=os.environ.get("DC_HPC_DATA", "data"), help="folder of the data sets")
    parser.add_argument("--device", default="auto", choices=DEVICES)
    parser.add_argument("--kmeans-backend", default="torch", choices=KMEANS_BACKENDS, help="what computes k-means")
    parser.add_argument(
        "--engine", dest="kmeans_backend", default=argparse.SUPPRESS, choices=KMEANS_BACKENDS, help=argparse.SUPPRESS
    )
    parser.add_argument("--threads", default=1, type=int, help="CPU threads")
    parser.add_argument("--own-nets", metavar="DIR", help="folder of the file of a net of your own, which is executed")
    parser.add_argument("--save-seconds", default=60.0, type=float, help="seconds between checkpoints")
    open_standard_streams()
    given = parser.parse_args()
    given.directory, given.data = given.directory.expanduser(), os.path.expanduser(given.data)
    given.own_nets = given.own_nets and os.path.expanduser(given.own_nets)
    atomic_files.set_umask()
    try:
        execution = Execution(
            given.data, given.device, given.threads, given.kmeans_backend, given.save_seconds, given.own_nets
        )
        ended = run(given.directory, execution, stop=StopSignal(ctrl_c=True))
    except FileNotFoundError as error:
        sys.exit(f"dc_hpc: {given.directory} is not a run directory ({error}); submit a grid to make one")
    except OSError as error:
        sys.exit(f"dc_hpc: {given.directory} cannot be read ({error})")
    except KeyboardInterrupt:
        sys.exit(130)  # as a shell reports it; the run goes on from its last checkpoint
    print(f"{given.directory.name}: {ended}")
    if ended == "failed":
        if reason := run_directory.state_of(given.directory).reason:  # none where nothing could be recorded
            print(reason, file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
