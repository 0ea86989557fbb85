"""Every random draw is a function of (seed, cycle, purpose).

Nothing random is ever saved: a resumed run draws what the uninterrupted run drew, and two studies that share a seed
share its filters, its centroids and its batches.
"""

from __future__ import annotations

import numpy as np
import torch

# The position of a purpose is part of every result: append, never reorder.
PURPOSES = (
    "init",
    "sobel",
    "kmeans",
    "head",
    "sampling",
    "augmentation",
    "dropout",
    "probe",
    "silhouette",
    "soft_reset",
)


def key(seed: int, cycle: int, purpose: str) -> int:
    """The 63-bit key of one purpose in one cycle.

    Independent streams for neighbouring seeds and cycles come from numpy's SeedSequence, which hashes its entropy;
    seed + cycle would repeat itself.
    """
    if purpose not in PURPOSES:
        raise ValueError(f"purpose {purpose!r} is not one of {', '.join(PURPOSES)}")
    entropy = (seed, cycle, PURPOSES.index(purpose))
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> 1)


def numpy_generator(seed: int, cycle: int, purpose: str) -> np.random.Generator:
    """A numpy generator for one purpose in one cycle."""
    return np.random.default_rng(key(seed, cycle, purpose))


def torch_generator(seed: int, cycle: int, purpose: str) -> torch.Generator:
    """A CPU torch generator for one purpose in one cycle.

    Always on the CPU, so that a net has the same filters whatever device it trains on.
    """
    return torch.Generator().manual_seed(key(seed, cycle, purpose))
