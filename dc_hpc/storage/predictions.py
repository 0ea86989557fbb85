"""predictions.h5: the class that the probe gave each test image, and the true one. result.json holds its SHA-256."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dc_hpc.storage import atomic_files, run_directory, serialization
from dc_hpc.storage.atomic_files import DamagedFile

FILE = "predictions.h5"
_LABELS = "labels"
_EPOCHS = ("last", "best")


class LayerPredictions(NamedTuple):
    """What the probe of one layer predicts: int64 (n,) each, in the order of the test images.

    last, best: the classes by the probe's last and best epoch. labels: the true classes. `accuracy_LAYER` of the run
    is 100 * (last == labels).mean(); `accuracy_best` that of `best` for the first layer.
    """

    last: np.ndarray
    best: np.ndarray
    labels: np.ndarray


def write_predictions(directory: Path, predictions: Mapping[str, LayerPredictions]) -> str:
    """predictions.h5: data sets LAYER.last and LAYER.best for each layer, and `labels`; the SHA-256 of the file.

    uint8, or uint16 where there are more than 256 classes.
    """
    labels = next(iter(predictions.values())).labels
    arrays = {_LABELS: labels}
    for layer, one in predictions.items():
        arrays |= {f"{layer}.last": one.last, f"{layer}.best": one.best}
    kind = np.uint8 if max(int(array.max()) for array in arrays.values()) < 2**8 else np.uint16
    data = serialization.hdf5_bytes(
        {name: array.astype(kind) for name, array in arrays.items()},
        {"format": run_directory.FORMAT, "run_id": directory.name},
    )
    atomic_files.replace_bytes(directory / FILE, data)
    return atomic_files.sha256_hex(data)


def read_predictions(directory: Path) -> dict[str, LayerPredictions]:
    """Layer -> its predictions, of a run that is done; empty where it kept none.

    DamagedFile unless the file is there and is the one that result.json names.
    """
    digest = run_directory.whole_result(directory).get("predictions_sha256")
    if digest is None:
        return {}
    path = directory / FILE
    try:
        data = atomic_files.read_bytes(path, atomic_files.MAX_ARRAY_BYTES)
    except FileNotFoundError:
        raise DamagedFile(path, "it is gone") from None
    if atomic_files.sha256_hex(data) != digest:
        raise DamagedFile(path, "it is not the one that result.json names")
    layers = run_directory.read_config(directory).probe
    names = [_LABELS, *(f"{layer}.{epoch}" for layer in layers for epoch in _EPOCHS)]
    found, _ = serialization.read_hdf5(path, dict.fromkeys(names, ("u", 1)))
    whole = {name: array.astype(np.int64) for name, array in found.items()}
    return {layer: LayerPredictions(whole[f"{layer}.last"], whole[f"{layer}.best"], whole[_LABELS]) for layer in layers}
