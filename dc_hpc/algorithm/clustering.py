"""From features to pseudo-labels (section 3.1): reduce the features, then k-means.

The order is PCA with whitening, L2, k-means; the list in section 3.3 of the paper names the same steps in
another order. Everything is a torch tensor on the caller's device. faiss is imported here and nowhere else,
and only when it is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

INITS = ("k-means++", "random")

ROWS = 1024  # rows per pass: long enough for a GEMM at full speed, short enough to stay in a core's cache
TILE = 256  # columns per GEMM of the covariance
BLOCK_BYTES = {"cpu": 8 << 20, "cuda": 64 << 20}  # the torch engine's block of point-to-centroid scores

# A component this small beside the largest is rounding: the float32 products of a covariance put its
# eigenvalues off by up to about 1e-7 of the largest.
ZERO_VARIANCE = 4 * torch.finfo(torch.float32).eps

Assign = Callable[[Tensor], Tensor]  # centroids (k, d) -> for each point the index of the nearest, int64 (n,)


class Clusters(NamedTuple):
    """What k-means found.

    labels: (n,) int64. centroids: (k, d) float32. inertia: sum of the squared distances of the points to
    their own centroids. iterations: Lloyd iterations done, counting the one that found nothing left to move.
    """

    labels: Tensor
    centroids: Tensor
    inertia: float
    iterations: int


@torch.no_grad()
def reduce_features(features: Tensor, *, pca: int | None) -> Tensor:
    """PCA to `pca` whitened components, then every row divided by its L2 norm (section 3.1).

    features: (n, d), any floating dtype and device. pca: 1..min(n, d) components, or None for L2 alone.
    Returns float32 (n, pca) or (n, d) on the same device; the input is left as it is.

    Components come by falling variance, each with its largest loading positive, so that a rerun gives the
    same signs. Whitening divides by the standard deviation (n - 1 in the variance). Where the variance is
    zero, or too small beside the largest to be told from rounding (ZERO_VARIANCE), the component is 0 for
    every row. A row of zeros stays zero.

    Raises ValueError: not a matrix, non-finite or too large for float32, pca outside 1..min(n, d).
    """
    features = _matrix(features, "features")
    if pca is None:
        return _unit_rows(features)
    n, d = features.shape
    if not 1 <= pca <= min(n, d):
        raise ValueError(f"pca {pca} is not between 1 and {min(n, d)}: the features are {n} x {d}")
    return _unit_rows(_whiten(features, pca))


def _matrix(values: Tensor, name: str) -> Tensor:
    """A contiguous float32 matrix with at least one row and one column."""
    if values.ndim != 2 or 0 in values.shape:
        raise ValueError(f"{name} must be a matrix (n, d) with n, d >= 1, got shape {tuple(values.shape)}")
    return values.float().contiguous()


def _mean(values: Tensor, name: str) -> Tensor:
    """The mean of each column, summed in float64, which also finds every NaN and infinity at no cost."""
    total = torch.zeros(values.shape[1], dtype=torch.float64, device=values.device)
    for rows in values.split(ROWS):  # in one piece torch would first copy everything to float64
        total += rows.sum(0, dtype=torch.float64)
    if not bool(total.isfinite().all()):
        raise ValueError(f"{name} hold NaN or infinite values; did the training diverge?")
    return (total / len(values)).float()


def _whiten(features: Tensor, pca: int) -> Tensor:
    """The `pca` leading principal components, each of unit variance (or 0, see reduce_features)."""
    mean = _mean(features, "features")
    variances, components = torch.linalg.eigh(_covariance(features, mean))  # ascending
    variances, components = variances.flip(0)[:pca], components.flip(1)[:, :pca]
    largest = components.gather(0, components.abs().argmax(0, keepdim=True))
    alive = variances > ZERO_VARIANCE * variances[0]
    scale = torch.where(alive, variances.clamp(min=0).rsqrt(), 0.0)
    projection = (components * largest.sign() * scale).float()
    reduced = torch.empty(len(features), pca, device=features.device)
    for rows, out in zip(features.split(ROWS), reduced.split(ROWS), strict=True):
        torch.mm(rows - mean, projection, out=out)
    return reduced


def _covariance(features: Tensor, mean: Tensor) -> Tensor:
    """Covariance (d, d) in float64: float32 products of ROWS rows at a time, summed in float64.

    Rounding stays that of one short product (a float64 GEMM would take two to three times as long), and only
    the upper triangle is computed.
    """
    n, d = features.shape
    total = torch.zeros(d, d, dtype=torch.float64, device=features.device)
    for rows in features.split(ROWS):
        rows = rows - mean
        for left in range(0, d, TILE):
            total[left : left + TILE, left:] += rows[:, left : left + TILE].T @ rows[:, left:]
    covariance = (total.triu() + total.triu(1).T) / max(n - 1, 1)
    if not bool(covariance.isfinite().all()):
        raise ValueError("features are too large: their squares overflow float32; did the training diverge?")
    return covariance


def _unit_rows(values: Tensor) -> Tensor:
    """Each row divided by its L2 norm; a row of norm 0 stays as it is."""
    norms = torch.linalg.vector_norm(values, dim=1, keepdim=True)
    if not bool(norms.isfinite().all()):
        raise ValueError("features hold NaN, infinite or overflowing values; did the training diverge?")
    return values / norms.masked_fill_(norms == 0, 1)


@torch.no_grad()
def kmeans(
    points: Tensor,
    *,
    k: int,
    seed: int,
    init: str = "k-means++",
    iterations: int = 20,
    engine: str = "torch",
    centroids: Tensor | None = None,
) -> Clusters:
    """`iterations` of Lloyd's algorithm on ALL the points (section 3.1; not faiss's 256 per centroid).

    points: (n, d), any floating dtype and device. seed: 0 <= seed < 2**64; the first centroids are drawn from
    it once, whatever the engine: "random" takes k different rows, "k-means++" is scikit-learn's greedy
    variant with its draws. centroids: (k, d) to start from instead; seed and init are then unused. engine:
    who finds the nearest centroid, "torch" (on the points' device), "faiss" or "sklearn" (both on the CPU).
    All else is shared, so engines differ only where two centroids are equally near up to rounding. Ties:
    torch takes the lower index.

    An empty cluster, in index order, takes the point farthest from its own centroid (ties: the lower index),
    which leaves its cluster; the next empty cluster takes the next farthest. The only point of a cluster is
    passed over. Where no point at a distance above 0 is left, the cluster keeps its centroid. This is
    scikit-learn's rule but for the passing over, which keeps one rescue from emptying another cluster.

    Stops early only when an update moves no centroid, so that going on would change nothing. The labels
    belong to the returned centroids: one assignment follows the last update, and may itself leave a cluster
    empty. On the CPU the result is a function of the arguments, the thread count and the BLAS library; on
    CUDA the same holds under torch.use_deterministic_algorithms(True).

    Raises ValueError: not a matrix, non-finite points, k outside 1..n, unknown init or engine, faiss missing,
    centroids of another shape, negative iterations, seed out of range.
    """
    points = _matrix(points, "points")
    _check_kmeans(points, k=k, init=init, iterations=iterations, engine=engine, centroids=centroids)
    # Distances do not change when the origin moves, and round least with the origin amid the points.
    origin = _mean(points, "points")
    points = points - origin
    assign = ENGINES[engine](points)
    if centroids is None:
        centroids = points[_initial(points, k, seed, init)]
    else:
        centroids = _matrix(centroids, "centroids").to(points.device) - origin

    labels = assign(centroids)
    done = 0
    while done < iterations:
        done += 1
        moved = _means(points, _fill_empty(points, labels, centroids), centroids)
        if torch.equal(moved, centroids):
            break
        centroids = moved
        labels = assign(centroids)
    inertia = float(_distances(points, labels, centroids).sum(dtype=torch.float64))
    return Clusters(labels, centroids + origin, inertia, done)


def _check_kmeans(
    points: Tensor, *, k: int, init: str, iterations: int, engine: str, centroids: Tensor | None
) -> None:
    n, d = points.shape
    if not 1 <= k <= n:
        raise ValueError(f"k {k} is not between 1 and the number of points, {n}")
    if init not in INITS:
        raise ValueError(f"init {init!r} is not one of {', '.join(INITS)}")
    if engine not in ENGINES:
        raise ValueError(f"engine {engine!r} is not one of {', '.join(ENGINES)}")
    if iterations < 0:
        raise ValueError(f"iterations {iterations} is negative")
    if centroids is not None:
        if tuple(centroids.shape) != (k, d):
            raise ValueError(f"centroids have shape {tuple(centroids.shape)}, not (k, d) = ({k}, {d})")
        if not bool(centroids.isfinite().all()):
            raise ValueError("centroids hold NaN or infinite values")


def _initial(points: Tensor, k: int, seed: int, init: str) -> Tensor:
    """Which k points are the first centroids, int64 (k,): a function of the points, k, seed and init."""
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed {seed} is not between 0 and 2**64 - 1")
    # RandomState takes 32 bits a word; a small seed draws what scikit-learn draws for random_state=seed.
    rng = np.random.RandomState(seed if seed < 2**32 else [seed % 2**32, seed >> 32])
    if init == "random":
        return torch.from_numpy(rng.permutation(len(points))[:k].astype(np.int64)).to(points.device)
    return _plusplus(points, k, rng)


def _plusplus(points: Tensor, k: int, rng: np.random.RandomState) -> Tensor:
    """Greedy k-means++: each new centroid is the best of 2 + log(k) candidates drawn by squared distance.

    The draws are those of sklearn.cluster.kmeans_plusplus in its order, so its choice is made, up to
    rounding. Written anew because scikit-learn computes float32 distances in float64, block by block: 28 s
    against 4 s for 60,000 x 256 and k 1000, more than all the Lloyd iterations together.
    """
    n, trials = len(points), 2 + int(math.log(k))
    columns = points.T.contiguous()  # a GEMM with this few rows is twice as fast on it
    norms = points.square().sum(1)

    def distances(candidates: Tensor) -> Tensor:
        found = torch.addmm(norms, points[candidates], columns, alpha=-2)
        return found.add_(norms[candidates, None]).clamp_(min=0)

    chosen = [torch.tensor(int(rng.uniform() * n), device=points.device)]
    nearest = distances(chosen[0][None])[0]
    for _ in range(1, k):
        cumulative = nearest.cumsum(0, dtype=torch.float64)
        draws = torch.from_numpy(rng.uniform(size=trials)).to(points.device) * cumulative[-1]
        candidates = torch.searchsorted(cumulative, draws).clamp_(max=n - 1)
        after = torch.minimum(distances(candidates), nearest)
        best = after.sum(1).argmin()
        nearest = after[best]
        chosen.append(candidates[best])
    return torch.stack(chosen)


def _fill_empty(points: Tensor, labels: Tensor, centroids: Tensor) -> Tensor:
    """The labels after the empty clusters took their points; the rule stands in `kmeans`."""
    sizes = torch.bincount(labels, minlength=len(centroids)).tolist()
    empty = [cluster for cluster, size in enumerate(sizes) if size == 0]
    if not empty:
        return labels
    distances, farthest = torch.sort(_distances(points, labels, centroids), descending=True, stable=True)
    farthest = farthest[distances > 0]
    filled, waiting = labels.clone(), iter(empty)
    cluster = next(waiting)
    for point, donor in zip(farthest.tolist(), labels[farthest].tolist(), strict=True):
        if sizes[donor] == 1:
            continue
        sizes[donor] -= 1
        filled[point] = cluster
        cluster = next(waiting, None)
        if cluster is None:
            break
    return filled


def _means(points: Tensor, labels: Tensor, centroids: Tensor) -> Tensor:
    """The mean of each cluster, summed in float64; a cluster with no point keeps its centroid."""
    sums = torch.zeros(centroids.shape, dtype=torch.float64, device=points.device)
    for rows, own in zip(points.split(ROWS), labels.split(ROWS), strict=True):
        sums.index_add_(0, own, rows.double())
    sizes = torch.bincount(labels, minlength=len(centroids))[:, None]
    return torch.where(sizes > 0, (sums / sizes.clamp(min=1)).float(), centroids)


def _distances(points: Tensor, labels: Tensor, centroids: Tensor) -> Tensor:
    """Squared distance of each point to its own centroid, by subtraction: exactly 0 where they are equal."""
    blocks = zip(points.split(ROWS), labels.split(ROWS), strict=True)
    return torch.cat([(rows - centroids[own]).square_().sum(1) for rows, own in blocks])


def _torch_engine(points: Tensor) -> Assign:
    """argmin of |c|^2 - 2 x.c (|x|^2 changes nothing), a block of rows at a time: never the n x k scores."""
    block_bytes = BLOCK_BYTES.get(points.device.type, BLOCK_BYTES["cuda"])

    def assign(centroids: Tensor) -> Tensor:
        k = len(centroids)
        rows = max(1, block_bytes // (4 * k))
        scores = torch.empty(min(rows, len(points)), k, device=points.device)
        norms, transposed = centroids.square().sum(1), centroids.T
        labels = torch.empty(len(points), dtype=torch.int64, device=points.device)
        for block, own in zip(points.split(rows), labels.split(rows), strict=True):
            own.copy_(_argmin(torch.addmm(norms, block, transposed, alpha=-2, out=scores[: len(block)])))
        return labels

    return assign


def _argmin(scores: Tensor) -> Tensor:
    """The column of each row's minimum, the lowest on a tie; on the CPU numpy's is eight times as fast."""
    if scores.device.type == "cpu":
        return torch.from_numpy(scores.numpy().argmin(1))
    return scores.argmin(1)


def _faiss_engine(points: Tensor) -> Assign:
    """An exact search in faiss.IndexFlatL2, not faiss's k-means, which would draw 256 points per centroid."""
    try:
        import faiss
    except ImportError as error:
        wanted = 'engine faiss is not installed: pip install "dc-hpc[cpu]", or use engine torch'
        raise ValueError(wanted) from error
    queries = points.cpu().numpy()

    def assign(centroids: Tensor) -> Tensor:
        index = faiss.IndexFlatL2(queries.shape[1])
        index.add(centroids.cpu().numpy())
        return torch.from_numpy(index.search(queries, 1)[1][:, 0].copy()).to(points.device)

    return assign


def _sklearn_engine(points: Tensor) -> Assign:
    """scikit-learn's search, in float64 inside: slow and careful, a reference for the other two."""
    from sklearn.metrics import pairwise_distances_argmin

    queries = points.cpu().numpy()

    def assign(centroids: Tensor) -> Tensor:
        nearest = pairwise_distances_argmin(queries, centroids.cpu().numpy())
        return torch.from_numpy(nearest.astype(np.int64)).to(points.device)

    return assign


ENGINES: dict[str, Callable[[Tensor], Assign]] = {
    "torch": _torch_engine,
    "faiss": _faiss_engine,
    "sklearn": _sklearn_engine,
}
