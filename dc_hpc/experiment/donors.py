"""Copies clusterings and whole cycles from one run directory to another, so that they are computed once.

`reuse` decides which runs have something in common; this module reads it from their directories and writes it.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dc_hpc.algorithm.clustering import Clustering
from dc_hpc.algorithm.state import State, state_tensors
from dc_hpc.config.run_config import RunConfig
from dc_hpc.errors import InputError
from dc_hpc.experiment import reuse
from dc_hpc.experiment.resume import dumped_cycles
from dc_hpc.storage import feature_dumps, run_directory
from dc_hpc.storage.atomic_files import DamagedFile


def clustering_of_ia_run(directory: Path, config: RunConfig, device: torch.device) -> tuple[str, Clustering] | None:
    """The first clustering from the directory of the IA run of a run, and the name of the IA run; None without one."""
    donor = reuse.ia_donor(config)
    found = feature_dumps.read_first_clustering(directory.with_name(donor)) if donor else None
    if donor is None or found is None:
        return None
    labels = torch.from_numpy(found.pseudo_labels.astype(np.int64)).to(device)
    return donor, Clustering(labels, None, *found[1:])


def copy_to_halted_runs(
    directory: Path, config: RunConfig, state: State, cycle: int, history: list[dict[str, Any]]
) -> None:
    """Save a trained cycle into the directories of runs that halt soon and have not begun: so far they are this run.

    It only saves work. So a run whose files are damaged or vanish or cannot be written gets no copy, and neither does
    one that wants features that this run has not written.
    """
    for name in reuse.halted_recipients(config, cycle):
        recipient = directory.with_name(name)
        if not recipient.is_dir() or run_directory.state_of(recipient).name != "new":
            continue
        with contextlib.suppress(DamagedFile, InputError, OSError):  # InputError: a folder of it is a symbolic link
            _copy_to(recipient, directory, state, cycle, history)


def _copy_to(recipient: Path, directory: Path, state: State, cycle: int, history: list[dict[str, Any]]) -> None:
    """Copy the features up to a cycle and the State after it. Raises DamagedFile, InputError, OSError."""
    config = run_directory.read_config(recipient)
    dumped = dumped_cycles(config) & set(range(cycle + 1))
    if not dumped <= set(feature_dumps.written_cycles(directory)):
        return
    for one in dumped:
        feature_dumps.copy_features(directory, recipient, cycle=one, k=config.k)
    run_directory.save_checkpoint(
        recipient,
        cycle=state.cycle,
        phase=state.phase,
        history=history,
        tensors=arrays_of(state_tensors(state)),
        copied_from=directory.name,
    )


def arrays_of(tensors: dict[str, torch.Tensor]) -> dict[str, np.ndarray[Any, Any]]:
    """Tensors as numpy arrays on the CPU, under the same names."""
    return {name: value.detach().cpu().numpy() for name, value in tensors.items()}
