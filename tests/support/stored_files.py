"""What the tests of stored files share: small arrays, another process, and a look at a folder."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np

from dc_hpc.storage import atomic_files, serialization

ROOT = Path(__file__).parents[2]


def read_safetensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    return serialization.parse_safetensors(atomic_files.read_bytes(path, atomic_files.MAX_ARRAY_BYTES), path)


SCHEMA = {"features": ("f", 2), "pseudo_labels": ("iu", 1)}
ATTRIBUTES = {"net": "lenet5", "cycle": 3, "loss": 0.25, "note": "", "accent": "é"}


def python(code: str, *arguments: object, **more: object) -> subprocess.Popen:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, **more)


def features(n: int = 20, d: int = 16) -> dict[str, np.ndarray]:
    draws = np.random.default_rng(0)
    return {
        "features": draws.normal(size=(n, d)).astype(np.float16),
        "pseudo_labels": draws.integers(0, 50, n).astype(np.uint16),
    }


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype
        and one[name].shape == other[name].shape
        and one[name].tobytes() == other[name].tobytes()
        for name in one
    )


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))
