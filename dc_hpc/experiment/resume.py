"""Finds where an attempt begins: at the newest whole checkpoint, or at the start of the run."""

from __future__ import annotations

import math
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dc_hpc.algorithm.backends.cpu import kernels_of
from dc_hpc.algorithm.schedule import last_phase
from dc_hpc.algorithm.state import State, init_state, load_state
from dc_hpc.config.run_config import RunConfig
from dc_hpc.experiment.build import build_trunk
from dc_hpc.storage import feature_dumps, run_directory
from dc_hpc.storage.run_directory import Checkpoint


@dataclass(frozen=True)
class Resumed:
    """Where an attempt begins.

    state: of the algorithm, on the device. history: the metric rows so far. record: what the record of the attempt
    says about it, with the damage that was found.
    """

    state: State
    history: list[dict[str, Any]]
    record: dict[str, Any]


def resume(directory: Path, config: RunConfig, device: torch.device, *, own_nets: str | None = None) -> Resumed:
    """The initial State of a run, with the newest whole checkpoint of its directory put into it if there is one.

    Files that are damaged move to quarantine. own_nets: as in `build_trunk`.
    """
    trunk = build_trunk(config, own_nets=own_nets).to(device)
    state = init_state(
        trunk,
        seed=config.seed,
        lr=config.lr,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        draws=config.draws,
    )
    checkpoint, warnings = _checkpoint(directory, config)
    history: list[dict[str, Any]] = []
    if checkpoint:
        tensors = {name: torch.from_numpy(array.copy()) for name, array in checkpoint.tensors.items()}
        load_state(state, tensors, cycle=checkpoint.cycle, phase=checkpoint.phase)
        history = checkpoint.history
    record = {
        "device": _device_name(device),
        "gpu": device.type == "cuda",
        "kernels": kernels_of(trunk),
        "resumed_from": _in_words(checkpoint),
        "complaints": warnings,  # the key that records have always had
    }
    return Resumed(state, history, record)


def dumped_cycles(config: RunConfig) -> set[int]:
    """The cycles of a run whose features are written."""
    clusterings = last_phase(config.cycles, config.last_cycle)
    end = 0 if config.labels else min(clusterings, config.halt_cycle or math.inf)
    clustered = [cycle for cycle in range(int(end)) if cycle % config.reassign == 0]
    if isinstance(config.features, int):
        return {cycle for cycle in clustered if cycle % config.features == 0}
    chosen = {
        "none": [],
        "first": clustered[:1],
        "first_last": [*clustered[:1], *clustered[-1:]],
        "every": clustered,
    }
    return set(chosen[config.features])


def _checkpoint(directory: Path, config: RunConfig) -> tuple[Checkpoint | None, list[str]]:
    """The newest whole checkpoint before the first cycle whose features are lost and computed again; warnings."""
    warnings = run_directory.quarantine_damaged_result(directory)
    checkpoint, damaged = run_directory.load_checkpoint(directory)
    warnings += damaged
    if checkpoint is None:
        return None, warnings
    clustered = {row["cycle"] for row in checkpoint.history if row["reassign"]}
    lost = feature_dumps.quarantine_damaged_features(directory, clustered & dumped_cycles(config))
    if not lost:
        return checkpoint, warnings
    # Later checkpoints must go: only the newest are kept, so that the new ones of earlier cycles would go instead.
    run_directory.quarantine_checkpoints(directory, min(lost))
    checkpoint, damaged = run_directory.load_checkpoint(directory)
    return checkpoint, [*warnings, *lost.values(), *damaged]


def _in_words(checkpoint: Checkpoint | None) -> str | None:
    if checkpoint is None:
        return None
    place = f"cycle {checkpoint.cycle} {checkpoint.phase}"
    return f"{place} of {checkpoint.copied_from}" if checkpoint.copied_from else place


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
