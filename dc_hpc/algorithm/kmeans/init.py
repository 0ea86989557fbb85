"""The first centroids of k-means, drawn from the points (section 3.1)."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from dc_hpc.algorithm.kmeans import int8

INITS = ("k-means++", "random")

GATHERED_SHARE = 0.3  # gathering a point costs two to three times as much as passing by it
FIRST_SIEVED = 8  # the first centroids are the nearest so far of almost every point

_ROWS = 1024

# candidates (c,), squared distance of each point to its nearest centroid (n,) -> int64 indices of the points that
# one of the candidates may be nearer to; no other point is.
Reach = Callable[[Tensor, Tensor], Tensor]


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

    The draws are those of sklearn.cluster.kmeans_plusplus in its order, so its choice is made, up to rounding.
    Written anew because scikit-learn measures every distance in float64, which takes longer than all the Lloyd
    iterations together. All is drawn beforehand, and distances are added up as integers: a float cumsum has no
    fixed order on CUDA.
    """
    n, trials = len(points), 2 + int(math.log(k))
    chosen = torch.empty(k, dtype=torch.int64, device=points.device)
    chosen[0] = int(rng.uniform() * n)
    draws = torch.from_numpy(rng.uniform(size=(k - 1, trials))).to(points.device)
    norms = torch.cat([rows.square().sum(1) for rows in points.split(_ROWS)])  # squares that stay in a core's cache
    columns = points.T.contiguous()  # a GEMM with this few rows is twice as fast on it
    buffer = torch.empty(trials, n, device=points.device)
    nearest = _squared(points, norms, chosen[:1], columns, norms, buffer[:1])[0].clone()
    unit = _unit(nearest)
    reach = _reach(points, norms) if k > FIRST_SIEVED else None

    for step, draw in enumerate(draws, 1):
        cumulative = (nearest.double() * unit).long().cumsum(0)
        candidates = torch.searchsorted(cumulative, (draw * cumulative[-1]).ceil().long()).clamp_(max=n - 1)
        rows = reach(candidates, nearest) if reach and step >= FIRST_SIEVED else None
        if rows is None or len(rows) > GATHERED_SHARE * n:
            found = _squared(points, norms, candidates, columns, norms, buffer)
            best = _best(found, nearest)
            torch.minimum(nearest, found.index_select(0, best)[0], out=nearest)
        else:
            found, near = _squared(points, norms, candidates, points[rows].T, norms[rows]), nearest[rows]
            best = _best(found, near)
            nearest[rows] = torch.minimum(near, found.index_select(0, best)[0])
        chosen[step] = candidates.index_select(0, best)[0]
    return chosen


def _squared(
    points: Tensor, norms: Tensor, candidates: Tensor, columns: Tensor, column_norms: Tensor, out: Tensor | None = None
) -> Tensor:
    """Squared distances (c, m) of some points, by their indices (c,), to those in the `columns` (d, m)."""
    found = torch.mm(points[candidates] * -2, columns, out=out)
    return found.add_(column_norms).add_(norms[candidates, None]).clamp_(min=0)


def _best(found: Tensor, nearest: Tensor) -> Tensor:
    """Which candidate, int64 (1,), lowers the sum of the squared distances the most, the first on a tie."""
    return (found - nearest).clamp_(max=0).sum(1).argmin(0, keepdim=True)


def _unit(nearest: Tensor) -> float:
    """A power of two that makes the squared distances integers whose sum, which never rises, stays below 2**62."""
    total = float(nearest.sum(dtype=torch.float64))
    return math.ldexp(1.0, 62 - math.frexp(total)[1]) if math.isfinite(total) else 1.0


def _reach(points: Tensor, norms: Tensor) -> Reach | None:
    """A sieve over all points that reads a quarter of the bytes; None where the machine would not gain by it.

    With x = s q + e for every point, by Cauchy and Schwarz x.c is s^2 times the product of the roundings to within
    |e||c| + (|x| + |e|)|e'|: a candidate c whose rounded product is too small by more than that is not nearer.
    """
    rounding = int8.rounded(points)
    if rounding is None:
        return None
    q, errors, lengths, product = rounding.q, rounding.errors, norms.sqrt(), 2 * rounding.step**2
    # 1e-5 leaves room for the rounding of float32 in the norms and distances, 1 for that to whole numbers
    by_point = (norms - 2 * errors * lengths.max() - 1e-5 * norms.max()) / product - 1
    by_candidate = (norms - 2 * errors * (lengths + errors).max()) / product

    def reach(candidates: Tensor, nearest: Tensor) -> Tensor:
        room = int8.products(q[candidates], q).sub_(by_candidate[candidates, None].floor().int()).amax(0)
        return (room >= torch.add(by_point, nearest, alpha=-1 / product)).nonzero()[:, 0]

    return reach
