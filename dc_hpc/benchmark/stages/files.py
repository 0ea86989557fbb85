"""The stages that write files: checkpoint, dump. Both are durable when they return, and so are their peers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import torch

from dc_hpc.algorithm.state import state_tensors
from dc_hpc.benchmark.stages import peers
from dc_hpc.benchmark.stages.images import NetworkFixture
from dc_hpc.benchmark.stages.sizes import Setting
from dc_hpc.benchmark.timing import Peer, Stage
from dc_hpc.storage import atomic_files, feature_dumps, run_directory, serialization


def checkpoint(fixture: NetworkFixture, folder: Path) -> Stage:
    """Saving the State with its metrics. Its floor writes as many bytes in one piece and syncs them."""
    atomic_files.make_directory(folder)
    setting, state = fixture.setting, fixture.state
    history = [{"cycle": 0, "reassign": True, "nmi_true": 0.5, "loss": 1.6}] * setting.baseline["cycles"]
    fixture.reset()
    for parameter in state.trunk.parameters():
        if setting.size.momentum and parameter.requires_grad:
            state.optimizer.velocity[parameter] = torch.zeros_like(parameter)

    def ours() -> dict[str, np.ndarray]:
        tensors = {name: value.numpy() for name, value in state_tensors(state).items()}
        run_directory.save_checkpoint(folder / "run", cycle=0, phase="clustered", tensors=tensors, history=history)
        return tensors

    def peer() -> Path:
        data = peers.torch_saved(state_tensors(state), {"cycle": 0, "phase": "clustered", "history": history})
        atomic_files.replace_bytes(folder / "peer.pt", data)
        return folder / "peer.pt"

    size = sum(array.nbytes for array in ours().values())
    return Stage(
        "checkpoint",
        setting.network,
        f"{size / 1e6:,.1f} MB",
        size,
        "bytes",
        ours=ours,
        peers=(Peer("torch.save, synced", peer),),
        difference=_checkpoint_difference,
        floor=_plain_write(folder, size),
    )


def dump(setting: Setting, folder: Path) -> Stage:
    """The features of one cycle as HDF5: float16, with a checksum for each chunk."""
    atomic_files.make_directory(folder)
    n, d, k = setting.size.points, setting.pca, setting.size.k
    rng = np.random.default_rng(1)
    features, labels = rng.standard_normal((n, d), dtype=np.float32), rng.integers(0, k, n)
    cycle = 0

    def ours() -> Path:
        nonlocal cycle
        feature_dumps.dump_features(folder, cycle=cycle, features=features, pseudo_labels=labels, k=k)
        cycle += 1  # a dump is written only once, so each needs its own name
        return feature_dumps.features_path(folder, cycle - 1)

    def peer() -> Path:
        atomic_files.replace_bytes(folder / "peer.h5", peers.plain_hdf5(features, labels))
        return folder / "peer.h5"

    size = n * (2 * d + 2)
    return Stage(
        "dump",
        setting.network,
        f"{n:,} x {d}, {size / 1e6:,.1f} MB",
        size,
        "bytes",
        ours=ours,
        peers=(Peer("h5py defaults, synced", peer),),
        difference=_dump_difference,
        floor=_plain_write(folder, size),
    )


def _plain_write(folder: Path, size: int) -> Callable[[], None]:
    data = np.random.default_rng(0).bytes(size)
    return lambda: atomic_files.replace_bytes(folder / "floor", data)


def _checkpoint_difference(ours: dict[str, np.ndarray], peer: Path) -> float:
    """0 if the peer's file holds the same tensors, else 1."""
    theirs = torch.load(peer, weights_only=True)
    return float(any(not np.array_equal(array, theirs[name].numpy()) for name, array in ours.items()))


def _dump_difference(ours: Path, peer: Path) -> float:
    """0 if both files hold the same arrays, else 1."""
    found, _ = serialization.read_hdf5(ours, {"features": ("f", 2), "pseudo_labels": ("u", 1)})
    with h5py.File(peer) as file:
        return float(any(not np.array_equal(array, file[name][()]) for name, array in found.items()))
