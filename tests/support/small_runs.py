"""Small real runs: LeNet on scikit-learn's digits; each takes a second or two."""

from __future__ import annotations

import resource
from pathlib import Path

from dc_hpc.config.baselines import BASELINES, PROTOCOLS, protocol_of
from dc_hpc.config.run_config import RunConfig, make_config
from dc_hpc.data.digests import part_digests
from dc_hpc.storage import run_directory


def small_config(root: Path, *, protocol: str = "code", **changes) -> RunConfig:
    """The settings of a run on the digits in `root`: k 6, three cycles, two probe epochs."""
    settings = BASELINES["fmnist"] | PROTOCOLS["fmnist"][protocol]
    settings |= {
        "dataset": "digits",
        "k": 6,
        "cycles": 3,
        "seed": 1,
        "probe_epochs": 2,
        **changes,
    }
    digests = part_digests(root / "digits.npz").settings(probed=bool(settings["probe"]))
    return make_config(digests | settings | {"protocol": protocol_of("fmnist", settings)})


def new_run(outputs: Path, root: Path, **changes) -> Path:
    """Create the directory of a run of `small_config`; return it."""
    return run_directory.create(outputs, small_config(root, **changes))


def results(directory: Path) -> dict[str, bytes]:
    """The bytes of every file of a run by name, without attempts/, which records where and when it was computed."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and "attempts" not in path.parts
    }


def children_seconds() -> float:
    """CPU seconds of the ended children of this process; other load on the machine does not count."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
