"""From features to pseudo-labels (section 3.1): reduce the features, then k-means.

The order is PCA with whitening, L2, k-means; the list in section 3.3 of the paper names the same steps in
another order. Everything is a torch tensor on the caller's device.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from dc_hpc.algorithm.arrays import Array
from dc_hpc.algorithm.divergence import DivergenceError
from dc_hpc.algorithm.kmeans.lloyd import kmeans
from dc_hpc.algorithm.matrices import ROWS, as_matrix, column_means
from dc_hpc.algorithm.randomness import key

TILE = 128  # columns per GEMM of the covariance

# A component this small beside the largest is rounding: the float32 products of a covariance put its
# eigenvalues off by up to about 1e-7 of the largest.
ZERO_VARIANCE = 4 * torch.finfo(torch.float32).eps


class Clustering(NamedTuple):
    """The pseudo-labels of all images, and the features that were clustered.

    labels: int64 (n,), on the device of the features; deep_cluster takes NumPy's integers, too. features: float32
    (n, q), as they were clustered; None where they are not known. inertia: sum of the squared distances of the
    features to their centroids; None for a clustering that has no centroids.
    """

    labels: Tensor
    features: Tensor | None
    inertia: float | None


class Components(NamedTuple):
    """All principal components of features (n, d).

    mean: float32 (d,). variances: float64 (d,), falling. directions: float64 (d, d), a column each.
    """

    mean: Tensor
    variances: Tensor
    directions: Tensor


def cluster_by_kmeans(
    features: Array,
    *,
    k: int,
    seed: int,
    pca: int | None = None,
    init: str = "k-means++",
    iterations: int = 20,
    n_init: int = 1,
    backend: str = "torch",
) -> Clustering:
    """The clustering of the paper: `reduce_features` to `pca` components, then `kmeans` with the other arguments.

    features: float32 (n, D), a tensor or a NumPy array. n_init: how often k-means begins, each time from other first
    centroids; the clustering with the least inertia is taken. Raises ValueError where one of the two does.
    """
    features = as_matrix(features, "features")
    dimension = features.shape[1]
    if pca is not None and not 1 <= pca <= dimension:
        raise ValueError(f"pca {pca} must be between 1 and the {dimension} features")
    return cluster_reduced(
        reduce_features(features, pca=pca),
        k=k,
        seed=seed,
        init=init,
        iterations=iterations,
        n_init=n_init,
        backend=backend,
    )


def cluster_reduced(
    reduced: Array,
    *,
    k: int,
    seed: int,
    init: str = "k-means++",
    iterations: int = 20,
    n_init: int = 1,
    backend: str = "torch",
) -> Clustering:
    """`cluster_by_kmeans` for features that `reduce_features` has reduced already; float32 (n, q)."""
    reduced = as_matrix(reduced, "features")
    if n_init < 1:
        raise ValueError(f"n_init {n_init} must be 1 or more")
    # The first draws are those of a single start; min takes the earlier one of equals.
    seeds = [seed, *(key(seed, start, "kmeans") for start in range(1, n_init))]
    tries = (kmeans(reduced, k=k, seed=one, init=init, iterations=iterations, backend=backend) for one in seeds)
    found = min(tries, key=lambda one: one.inertia)
    return Clustering(found.labels, reduced, found.inertia)


@torch.no_grad()
def principal_components(features: Array) -> Components:
    """The principal components, for several reductions of the same features to different numbers of them.

    features: as in `reduce_features`, which raises the same errors.
    """
    features = as_matrix(features, "features")
    mean = column_means(features, "features")
    variances, directions = torch.linalg.eigh(_covariance(features, mean))  # ascending
    return Components(mean, variances.flip(0), directions.flip(1))


@torch.no_grad()
def reduce_features(features: Array, *, pca: int | None, components: Components | None = None) -> Tensor:
    """PCA to `pca` whitened components, then every row divided by its L2 norm (section 3.1).

    features: (n, d), any dtype of real numbers, on any device or in NumPy. pca: 1..min(n, d) components, or None for
    L2 alone. components: the `principal_components` of these features where they are known; the result is the same.
    Returns float32 (n, pca) or (n, d) on the same device; the input is left as it is.

    Components come by falling variance, each with its largest loading positive, so that a rerun gives the
    same signs. Whitening divides by the standard deviation (n - 1 in the variance). Where the variance is
    zero, or too small beside the largest to be told from rounding (ZERO_VARIANCE), the component is 0 for
    every row. A row of zeros stays zero.

    Raises ValueError: not a matrix, non-finite or too large for float32, pca outside 1..min(n, d).
    """
    features = as_matrix(features, "features")
    if pca is None:
        return _unit_rows(features, torch.empty_like(features))
    n, d = features.shape
    if not 1 <= pca <= min(n, d):
        raise ValueError(f"pca {pca} is not between 1 and {min(n, d)}: the features are {n} x {d}")
    reduced = _whiten(features, pca, components or principal_components(features))
    return _unit_rows(reduced, reduced)


def _whiten(features: Tensor, pca: int, components: Components) -> Tensor:
    """The `pca` leading principal components, each of unit variance (or 0, see reduce_features)."""
    variances, directions = components.variances[:pca], components.directions[:, :pca]
    largest = directions.gather(0, directions.abs().argmax(0, keepdim=True))
    alive = variances > ZERO_VARIANCE * variances[0]
    scale = torch.where(alive, variances.clamp(min=0).rsqrt(), 0.0)
    projection = (directions * largest.sign() * scale).float()
    reduced = torch.empty(len(features), pca, device=features.device)
    for rows, out in zip(_centred(features, components.mean), torch.split(reduced, ROWS), strict=True):
        torch.mm(rows, projection, out=out)
    return reduced


def _centred(features: Tensor, mean: Tensor) -> Iterator[Tensor]:
    """ROWS rows at a time without the mean, each overwritten by the next."""
    buffer = torch.empty(min(ROWS, len(features)), features.shape[1], device=features.device)
    for rows in torch.split(features, ROWS):
        yield torch.sub(rows, mean, out=buffer[: len(rows)])


def _covariance(features: Tensor, mean: Tensor) -> Tensor:
    """Covariance (d, d) in float64: float32 products of ROWS rows at a time, summed in float64.

    Rounding stays that of one short product (a float64 GEMM would take two to three times as long), and only
    the upper triangle is computed.
    """
    n, d = features.shape
    total = torch.zeros(d, d, dtype=torch.float64, device=features.device)
    for rows in _centred(features, mean):
        for left in range(0, d, TILE):
            total[left : left + TILE, left:] += rows[:, left : left + TILE].T @ rows[:, left:]
    covariance = (total.triu() + total.triu(1).T) / max(n - 1, 1)
    if not bool(covariance.isfinite().all()):
        raise DivergenceError("features are too large: their squares overflow float32; did the training diverge?")
    return covariance


def _unit_rows(values: Tensor, out: Tensor) -> Tensor:
    """Each row divided by its L2 norm, into `out`, which may be `values`; a row of norm 0 stays as it is."""
    sum_of_norms = torch.zeros((), dtype=torch.float64, device=values.device)
    for rows, own in zip(torch.split(values, ROWS), torch.split(out, ROWS), strict=True):
        norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
        sum_of_norms += norms.sum(dtype=torch.float64)
        torch.div(rows, norms.masked_fill_(norms == 0, 1), out=own)
    if not bool(sum_of_norms.isfinite()):
        raise DivergenceError("features hold NaN, infinite or overflowing values; did the training diverge?")
    return out
