"""k-means as the authors' code runs it, with the draws of the libraries that it calls (`draws: authors`).

Their jobs call scikit-learn on MNIST, on Fashion-MNIST and with the AlexNet of appendix A, and faiss on SVHN and
CIFAR10. Both libraries are called here, too, so that stopping rules, empty clusters and rounding are theirs. Only the
first centroids of scikit-learn are drawn by this module: version 0.2x, which the authors used, drew them otherwise than
later ones do.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from dc_hpc.algorithm.kmeans.init import INITS
from dc_hpc.algorithm.kmeans.lloyd import KMeansResult

Points = npt.NDArray[np.float64]

_TOLERANCE = 1e-4  # scikit-learn stops when the centroids move less than this, relative to the variance of the points
_MOST_POINTS = 10_000_000  # for each centroid: the authors lift faiss's limit of 256


def kmeans_as_authors(
    points: Tensor, *, k: int, seed: int, init: str, iterations: int = 20, n_init: int = 1
) -> KMeansResult:
    """k-means of points, float64 (n, d), on the CPU; the result is on the device of the points.

    init: "k-means++" for scikit-learn, "random" for faiss. seed: the `random_state` of their job, 0 <= seed < 2**32,
    and 1 or more for faiss. n_init: scikit-learn's parameter of this name, faiss's `nredo`: how often k-means begins
    with other draws; the least inertia counts. Raises ValueError: k outside 1..n, unknown init, n_init below 1, seed
    out of range, faiss missing.
    """
    if n_init < 1:
        raise ValueError(f"n_init {n_init} must be 1 or more")
    n = len(points)
    if not 1 <= k <= n:
        raise ValueError(f"k {k} is not between 1 and the number of points, {n}")
    if init not in INITS:
        raise ValueError(f"init {init!r} is not one of {', '.join(INITS)}")
    by_library = _by_sklearn if init == "k-means++" else _by_faiss
    matrix = points.cpu().numpy()
    labels, centroids, done = by_library(matrix, k, seed, iterations, n_init)
    inertia = float(np.square(matrix - centroids[labels]).sum())
    found = torch.from_numpy(labels), torch.from_numpy(centroids.astype(np.float32))
    return KMeansResult(found[0].to(points.device), found[1].to(points.device), inertia, done)


def plusplus_as_authors(points: Points, *, k: int, seed: int, start: int = 0) -> npt.NDArray[np.int64]:
    """Which points are the first centroids of scikit-learn 0.2x with random_state=seed: int64 (k,).

    points: float64 (n, d), their mean at 0. start: which of its n_init initialisations, from 0 on; `random_state` draws
    the seeds of all of them. Greedy k-means++: the first centroid is any point, each further one the best of 2 + log(k)
    points drawn by squared distance.
    """
    rng = np.random.RandomState(np.random.RandomState(seed).randint(np.iinfo(np.int32).max, size=start + 1)[start])
    norms, trials = np.einsum("ij,ij->i", points, points), 2 + int(math.log(k))

    def squared_distances(candidates: npt.NDArray[np.int64]) -> Points:
        products = points[candidates] @ points.T
        found: Points = np.maximum(norms[candidates, None] - 2 * products + norms, 0)
        return found

    chosen = [int(rng.randint(len(points)))]
    nearest = squared_distances(np.array(chosen))[0]
    for _ in range(1, k):
        drawn = rng.random_sample(trials) * nearest.sum()
        candidates = np.searchsorted(np.cumsum(nearest), drawn).clip(max=len(points) - 1)
        distances = np.minimum(nearest, squared_distances(candidates))
        best = int(distances.sum(1).argmin())
        nearest = distances[best]
        chosen.append(int(candidates[best]))
    return np.array(chosen, dtype=np.int64)


def faiss_seed(seed: int) -> int:
    """The seed that the authors' job gives to faiss: a number below its own seed, which therefore is 1 or more."""
    if seed < 1:
        raise ValueError(f"seed {seed} must be 1 or more: the authors' code draws the seed of faiss below it")
    return int(np.random.RandomState(seed).randint(seed))


def _by_sklearn(
    points: Points, k: int, seed: int, iterations: int, n_init: int
) -> tuple[npt.NDArray[np.int64], Points, int]:
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    with threadpool_limits(torch.get_num_threads()), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different points than clusters
        centred = points - points.mean(0)
        firsts = (points[plusplus_as_authors(centred, k=k, seed=seed, start=start)] for start in range(n_init))
        tries = (
            KMeans(k, init=first, n_init=1, max_iter=iterations, tol=_TOLERANCE, algorithm="lloyd").fit(points)
            for first in firsts
        )
        found = min(tries, key=lambda one: one.inertia_)  # the earlier one of equals, as in scikit-learn
    return found.labels_.astype(np.int64), found.cluster_centers_, int(found.n_iter_)


def _by_faiss(
    points: Points, k: int, seed: int, iterations: int, n_init: int
) -> tuple[npt.NDArray[np.int64], Points, int]:
    faiss = import_faiss()
    n, d = points.shape
    matrix = np.ascontiguousarray(points, dtype=np.float32)
    clustering, index = faiss.Clustering(d, k), faiss.IndexFlatL2(d)
    clustering.seed, clustering.niter, clustering.nredo = faiss_seed(seed), iterations, n_init
    clustering.max_points_per_centroid = _MOST_POINTS
    clustering.min_points_per_centroid = 1  # below it faiss only prints a warning
    with threadpool_limits(torch.get_num_threads()):
        clustering.train(matrix, index)
        labels = index.search(matrix, 1)[1][:, 0]
    return labels, index.reconstruct_n(0, k).astype(np.float64), iterations


def import_faiss() -> Any:
    """The package faiss; ValueError in one line where it is not installed."""
    try:
        import faiss
    except ImportError as error:
        raise ValueError(
            'draws authors with kmeans_init random calls faiss, which is not installed: pip install "dc-hpc[cpu]", '
            "or use draws ours"
        ) from error
    return faiss
