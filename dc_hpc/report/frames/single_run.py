"""One run as Python objects: its settings, curves, final numbers, features and trained net.

run = dc_hpc.load_run("outputs/runs/fmnist-k5-seed1-0123456789ab")
run.config.k, run.result["accuracy"], run.metrics.nmi_true
features, pseudo_labels = run.features(0)
trunk = run.trunk()
wrong = run.predictions["conv2"].last != run.predictions["conv2"].labels
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from dc_hpc.config.run_config import RunConfig
from dc_hpc.errors import InputError
from dc_hpc.report.frames.schema import numeric
from dc_hpc.storage import feature_dumps, metrics_csv, run_directory
from dc_hpc.storage.predictions import LayerPredictions, read_predictions

if TYPE_CHECKING:
    from torch import nn


class Features(NamedTuple):
    """What a cycle clustered.

    features: float32 (n, q), after PCA and L2; the file holds them as float16. pseudo_labels: int64 (n,), the clusters.
    """

    features: np.ndarray
    pseudo_labels: np.ndarray


@dataclass(frozen=True)
class Run:
    """A run directory, read when it is asked for something.

    path: of the directory. Everything raises DamagedFile where a file of it is not whole.
    """

    path: Path

    def __repr__(self) -> str:
        return f"Run({self.run_id!r}, {self.state})"

    @property
    def run_id(self) -> str:
        """The name of the run and of its directory."""
        return self.path.name

    @cached_property
    def config(self) -> RunConfig:
        """The settings of the run."""
        return run_directory.read_config(self.path)

    @property
    def state(self) -> str:
        """`done`, `running`, `resumable`, `failed` or `new`."""
        return run_directory.state_of(self.path).name

    @property
    def metrics(self) -> pd.DataFrame:
        """metrics.csv: a row a cycle, the columns of storage/metrics.py; no row before the first cycle."""
        rows = metrics_csv.read_metrics(self.path)
        numbers = {"": np.nan, "True": 1.0, "False": 0.0}
        columns = {
            name: np.array([numbers[row[name]] if row[name] in numbers else float(row[name]) for row in rows], float)
            for name in metrics_csv.METRICS
        }
        return pd.DataFrame({name: numeric(name, values) for name, values in columns.items()})

    @property
    def result(self) -> dict[str, Any]:
        """The final numbers: `ia`, `accuracy` (in percent) and the others. InputError when the run is not done."""
        try:
            return run_directory.read_result(self.path)
        except FileNotFoundError:
            raise InputError(
                f"run {self.run_id} is {self.state} and has no result yet; submit its grid again to finish it"
            ) from None

    @property
    def feature_cycles(self) -> tuple[int, ...]:
        """The cycles whose features the run has written."""
        return feature_dumps.written_cycles(self.path)

    def features(self, cycle: int) -> Features:
        """What a cycle clustered, and its pseudo-labels. InputError that says which cycles there are."""
        written = self.feature_cycles
        if cycle not in written:
            there = f"it has those of {', '.join(map(str, written))}" if written else "it has none"
            raise InputError(
                f"run {self.run_id} has no features of cycle {cycle!r}; {there}; a run with `features: every` keeps "
                "those of every clustering"
            )
        found = feature_dumps.read_features(self.path, cycle)
        return Features(found["features"].astype(np.float32), found["pseudo_labels"].astype(np.int64))

    def trunk(self, *, own_nets: str | Path | None = None) -> nn.Module:
        """The trained net in eval mode, on the CPU; of a run that trains nothing the net with its random filters.

        own_nets: the folder of the file of a net of one's own, `net: module:function`. Python runs that file.
        InputError: the run is not done, or its net is one's own and the file is missing or another one.
        """
        from dc_hpc.experiment.build import finished_trunk

        if self.state != "done":
            raise InputError(f"run {self.run_id} is {self.state} and has no trained net yet; submit its grid again")
        return finished_trunk(self.path, self.config, own_nets=None if own_nets is None else str(own_nets))

    @property
    def predictions(self) -> dict[str, LayerPredictions]:
        """Probed layer -> the classes that its probe gave the test images (`last`, `best`), and the true `labels`.

        InputError: the run is not done, probes nothing, or was made by a version that kept no predictions.
        """
        if self.state != "done":
            raise InputError(f"run {self.run_id} is {self.state} and has no predictions yet; submit its grid again")
        found = read_predictions(self.path)
        if not found:
            why = "an earlier version made it" if self.config.probe else "it probes nothing"
            raise InputError(
                f"run {self.run_id} has no predictions, {why}; compute them from the layer values of its trunk: "
                "dc_hpc.algorithm.activations(run.trunk(), images, [layer])"
            )
        return found


def load_run(path: str | Path) -> Run:
    """The run of a run directory, outputs/runs/<run_id>.

    Raises InputError: there is no run directory. Raises DamagedFile: its config.json is not that of its name.
    """
    directory = Path(path).expanduser().resolve()
    if not directory.is_dir():
        raise InputError(f"{path} is not a folder; give a run directory, outputs/runs/<run_id>")
    if not (directory / "config.json").is_file():
        outputs = directory if (directory / "runs").is_dir() else directory.parent
        held = len(list(run_directory.run_directories(outputs)))
        holds = f"; it holds {held} runs, which dc_hpc.load_runs({str(outputs)!r}) reads" if held else ""
        raise InputError(f"{path} is not a run directory: it has no config.json{holds}")
    run = Run(directory)
    _ = run.config
    return run
