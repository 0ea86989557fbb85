"""The first centroids of k-means, drawn from the points (section 3.1)."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from dc_hpc.algorithm.matrices import ROWS

INITS = ("k-means++", "random")


def first_centroids(points: Tensor, *, k: int, seed: int, init: str) -> Tensor:
    """Which k points are the first centroids, int64 (k,): a function of the points, k, seed and init.

    points: float32 (n, d), their mean near 0, 1 <= k <= n. init: one of INITS, see `kmeans`.
    Raises ValueError: seed out of range.
    """
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed {seed} is not between 0 and 2**64 - 1")
    # RandomState takes 32 bits a word; a small seed draws what scikit-learn draws for random_state=seed.
    rng = np.random.RandomState(seed if seed < 2**32 else [seed % 2**32, seed >> 32])
    if init == "random":
        return torch.from_numpy(rng.permutation(len(points))[:k].astype(np.int64)).to(points.device)
    return _plusplus(points, k, rng)


def _plusplus(points: Tensor, k: int, rng: np.random.RandomState) -> Tensor:
    """Greedy k-means++: each new centroid is the best of 2 + log(k) candidates drawn by squared distance.

    The draws are those of sklearn.cluster.kmeans_plusplus in its order, so the choice is the same, up to rounding.
    It is implemented here because scikit-learn measures every distance in float64, which takes longer than all the
    Lloyd iterations together. All random numbers are drawn beforehand, and distances are added up as integers: a
    float cumsum has no fixed order on CUDA.
    """
    n, trials = len(points), 2 + int(math.log(k))
    chosen = torch.empty(k, dtype=torch.int64, device=points.device)
    chosen[0] = int(rng.uniform() * n)
    draws = torch.from_numpy(rng.uniform(size=(k - 1, trials))).to(points.device)
    # squares block by block stay in a core's cache
    norms = torch.cat([rows.square().sum(1) for rows in torch.split(points, ROWS)])
    columns = points.T.contiguous()  # a GEMM with this few rows is twice as fast on it
    buffer = torch.empty(trials, n, device=points.device)

    def squared_distances(candidates: Tensor) -> Tensor:
        """Of the candidates, by their indices (c,), to all points: (c, n), overwritten by the next call."""
        products = torch.mm(points[candidates] * -2, columns, out=buffer[: len(candidates)])
        return products.add_(norms).add_(norms[candidates, None]).clamp_(min=0)

    nearest = squared_distances(chosen[:1])[0].clone()  # of each point, to the nearest centroid so far
    unit = _unit(nearest)
    for step, draw in enumerate(draws, 1):
        cumulative = (nearest.double() * unit).long().cumsum(0)
        candidates = torch.searchsorted(cumulative, (draw * cumulative[-1]).ceil().long()).clamp_(max=n - 1)
        distances = squared_distances(candidates)
        best = _best(distances, nearest)
        torch.minimum(nearest, distances.index_select(0, best)[0], out=nearest)
        chosen[step] = candidates.index_select(0, best)[0]
    return chosen


def _best(distances: Tensor, nearest: Tensor) -> Tensor:
    """Which candidate, int64 (1,), lowers the sum of the squared distances the most, the first on a tie."""
    return (distances - nearest).clamp_(max=0).sum(1).argmin(0, keepdim=True)


def _unit(nearest: Tensor) -> float:
    """A power of two that makes the squared distances integers whose sum, which never rises, stays below 2**62."""
    total = float(nearest.sum(dtype=torch.float64))
    return math.ldexp(1.0, 62 - math.frexp(total)[1]) if math.isfinite(total) else 1.0
