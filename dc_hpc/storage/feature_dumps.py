"""Writes and checks the arrays of a run: the features of some cycles, its trunk, or its only clustering."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dc_hpc.algorithm import NUMERICS
from dc_hpc.storage import atomic_files, run_directory, serialization
from dc_hpc.storage.atomic_files import DamagedFile

_SCHEMA = {"features": ("f", 2), "pseudo_labels": ("u", 1)}


class FirstClustering(NamedTuple):
    """The only clustering of an IA run. pseudo_labels: uint16 or uint32 (n,); the rest as in metrics.csv."""

    pseudo_labels: np.ndarray
    inertia: float
    components_alive: int | None
    effective_rank: float | None
    spectrum_alpha: float | None
    silhouette: float | None


MEASURED = FirstClustering._fields[1:]


def dump_features(
    directory: Path,
    *,
    cycle: int,
    features: np.ndarray,
    pseudo_labels: np.ndarray,
    k: int,
    components_alive: int | None = None,
) -> None:
    """features/cNNNN.h5: features float16 (n, q) as they were clustered, pseudo_labels uint16 or uint32 (n,).

    One that is there, whole and of the same numerics is left as it is.
    """
    path = features_path(directory, cycle)
    atomic_files.make_directory(path.parent)
    labels = pseudo_labels.astype(_label_type(k))
    data = serialization.hdf5_bytes(
        {"features": features.astype(np.float16), "pseudo_labels": labels},
        {
            "format": run_directory.FORMAT,
            "run_id": directory.name,
            "cycle": cycle,
            "k": k,
            "numerics": NUMERICS,
            **({} if components_alive is None else {"components_alive": components_alive}),
        },
    )
    if not atomic_files.write_once(path, data) and not _is_whole(directory, cycle):
        atomic_files.quarantine(path)
        atomic_files.write_once(path, data)


def features_path(directory: Path, cycle: int) -> Path:
    """Where the features of a cycle are dumped."""
    return directory / "features" / f"c{cycle:04d}.h5"


def dumps(directory: Path) -> list[Path]:
    """The feature dumps of a run; none where its folder of them is a link, because files are removed by this list."""
    folder = directory / "features"
    return [] if folder.is_symlink() else sorted(folder.glob("c*.h5"))


def written_cycles(directory: Path) -> tuple[int, ...]:
    """The cycles whose features are dumped, in their order."""
    names = [path.name for path in (directory / "features").glob("c*.h5")]
    return tuple(sorted(int(name[1:-3]) for name in names if re.fullmatch(r"c[0-9]{4,}\.h5", name)))


def read_features(directory: Path, cycle: int) -> dict[str, np.ndarray]:
    """`features` and `pseudo_labels` of a dumped cycle; DamagedFile when they are not whole or of another run."""
    return _read(directory, cycle)[0]


def _read(directory: Path, cycle: int) -> tuple[dict[str, np.ndarray], dict[str, str | float]]:
    """The arrays of a dumped cycle, and the attributes of its file; errors as of `read_features`."""
    path = features_path(directory, cycle)
    found, attributes = serialization.read_hdf5(path, _SCHEMA)
    if (attributes.get("format"), attributes.get("run_id"), attributes.get("cycle")) != (
        run_directory.FORMAT,
        directory.name,
        cycle,
    ):
        raise DamagedFile(
            path,
            f"holds cycle {attributes.get('cycle')} of {attributes.get('run_id')}, format {attributes.get('format')}",
        )
    return found, attributes


def copy_features(source: Path, target: Path, *, cycle: int, k: int) -> None:
    """Dump in `target` what `source` has dumped of a cycle that is the same in both runs."""
    found, attributes = _read(source, cycle)
    alive = attributes.get("components_alive")
    dump_features(target, cycle=cycle, k=k, components_alive=None if alive is None else int(alive), **found)


def quarantine_damaged_features(directory: Path, cycles: set[int]) -> dict[int, str]:
    """Cycle -> a line for each of these dumps that is not there or not whole; the bad ones are moved to quarantine/."""
    warnings = {}
    for cycle in sorted(cycles):
        try:
            read_features(directory, cycle)
        except FileNotFoundError:
            warnings[cycle] = f"{features_path(directory, cycle)}: it is gone"
        except DamagedFile as error:
            warnings[cycle] = f"{error}; {run_directory.quarantine_file(error.path, directory)}"
    return warnings


def write_first_clustering(
    directory: Path,
    *,
    pseudo_labels: np.ndarray,
    k: int,
    **measured: float | None,
) -> None:
    """first-<digest>.safetensors, what an IA run leaves for longer runs: pseudo_labels uint16 or uint32 (n,).

    measured: the other fields of FirstClustering, by name.
    """
    metadata = {
        "format": str(run_directory.FORMAT),
        "run_id": directory.name,
        "numerics": str(NUMERICS),
        **{name: json.dumps(measured[name]) for name in MEASURED},
    }
    data = serialization.safetensors_bytes({"pseudo_labels": pseudo_labels.astype(_label_type(k))}, metadata)
    atomic_files.write_digested(directory, "first", ".safetensors", data)


def read_first_clustering(directory: Path) -> FirstClustering | None:
    """That of a finished IA run; None where it has no whole one, or one of other numerics or of fewer measures."""
    for path in directory.glob("first-*.safetensors") if run_directory.is_done(directory) else ():
        try:
            tensors, metadata = parse_first_clustering(path)
            if metadata["numerics"] == str(NUMERICS):
                return FirstClustering(tensors["pseudo_labels"], *(json.loads(metadata[name]) for name in MEASURED))
        except (DamagedFile, OSError, KeyError, ValueError):
            continue  # it can be computed again
    return None


def parse_first_clustering(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The tensors and metadata of a first-*.safetensors; DamagedFile when it is not whole or another run's."""
    tensors, metadata = serialization.parse_safetensors(atomic_files.read_digested(path), path)
    if metadata.get("format") != str(run_directory.FORMAT) or metadata.get("run_id") != path.parent.name:
        raise DamagedFile(path, f"belongs to {metadata.get('run_id')}, format {metadata.get('format')}")
    return tensors, metadata


def write_trunk(directory: Path, tensors: dict[str, np.ndarray]) -> str:
    """trunk.safetensors, the final weights; returns the SHA-256 of the file."""
    data = serialization.safetensors_bytes(tensors, {"format": str(run_directory.FORMAT), "run_id": directory.name})
    atomic_files.replace_bytes(directory / "trunk.safetensors", data)
    return atomic_files.sha256_hex(data)


def read_trunk(directory: Path) -> dict[str, np.ndarray]:
    """The final weights of a run that is done; DamagedFile unless they are the ones that its result names."""
    path = directory / "trunk.safetensors"
    data = atomic_files.read_bytes(path, atomic_files.MAX_ARRAY_BYTES)
    if atomic_files.sha256_hex(data) != run_directory.read_result(directory).get("trunk_sha256"):
        raise DamagedFile(path, "it is not the trunk that result.json names")
    return serialization.parse_safetensors(data, path)[0]


def _is_whole(directory: Path, cycle: int) -> bool:
    """Whether a dump is whole and of the numerics that compute now."""
    try:
        return _read(directory, cycle)[1].get("numerics") == NUMERICS
    except DamagedFile:
        return False


def _label_type(k: int) -> type[np.unsignedinteger]:
    return np.uint16 if k <= 2**16 else np.uint32
