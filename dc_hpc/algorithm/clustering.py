"""From features to pseudo-labels (section 3.1): reduce the features, then k-means.

The order is PCA with whitening, L2, k-means; the list in section 3.3 of the paper names the same steps in
another order. Everything is a torch tensor on the caller's device. faiss is imported here and nowhere else,
and only when it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dc_hpc.algorithm.kmeans.assignment import Assign, assign_by_scores, rows_per_pass, squared_distances
from dc_hpc.algorithm.kmeans.init import INITS, first_centroids

ROWS = 1024  # rows per pass: long enough for a GEMM at full speed, short enough to stay in a core's cache
TILE = 128  # columns per GEMM of the covariance
_PARTS = 64  # sums per cluster on a GPU, added up at the end

# A component this small beside the largest is rounding: the float32 products of a covariance put its
# eigenvalues off by up to about 1e-7 of the largest.
ZERO_VARIANCE = 4 * torch.finfo(torch.float32).eps


class Clusters(NamedTuple):
    """What k-means found.

    labels: (n,) int64. centroids: (k, d) float32. inertia: sum of the squared distances of the points to
    their own centroids. iterations: Lloyd iterations done, counting the one that found nothing left to move.
    """

    labels: Tensor
    centroids: Tensor
    inertia: float
    iterations: int


class Components(NamedTuple):
    """All principal components of features (n, d).

    mean: float32 (d,). variances: float64 (d,), falling. directions: float64 (d, d), a column each.
    """

    mean: Tensor
    variances: Tensor
    directions: Tensor


@torch.no_grad()
def principal_components(features: Tensor) -> Components:
    """The principal components, for several reductions of the same features to different numbers of them.

    features: as in `reduce_features`, which raises the same errors.
    """
    features = _matrix(features, "features")
    mean = _mean(features, "features")
    variances, directions = torch.linalg.eigh(_covariance(features, mean))  # ascending
    return Components(mean, variances.flip(0), directions.flip(1))


@torch.no_grad()
def reduce_features(features: Tensor, *, pca: int | None, components: Components | None = None) -> Tensor:
    """PCA to `pca` whitened components, then every row divided by its L2 norm (section 3.1).

    features: (n, d), any floating dtype and device. pca: 1..min(n, d) components, or None for L2 alone.
    components: the `principal_components` of these features where they are known; the result is the same.
    Returns float32 (n, pca) or (n, d) on the same device; the input is left as it is.

    Components come by falling variance, each with its largest loading positive, so that a rerun gives the
    same signs. Whitening divides by the standard deviation (n - 1 in the variance). Where the variance is
    zero, or too small beside the largest to be told from rounding (ZERO_VARIANCE), the component is 0 for
    every row. A row of zeros stays zero.

    Raises ValueError: not a matrix, non-finite or too large for float32, pca outside 1..min(n, d).
    """
    features = _matrix(features, "features")
    if pca is None:
        return _unit_rows(features, torch.empty_like(features))
    n, d = features.shape
    if not 1 <= pca <= min(n, d):
        raise ValueError(f"pca {pca} is not between 1 and {min(n, d)}: the features are {n} x {d}")
    reduced = _whiten(features, pca, components or principal_components(features))
    return _unit_rows(reduced, reduced)


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


def _whiten(features: Tensor, pca: int, components: Components) -> Tensor:
    """The `pca` leading principal components, each of unit variance (or 0, see reduce_features)."""
    variances, directions = components.variances[:pca], components.directions[:, :pca]
    largest = directions.gather(0, directions.abs().argmax(0, keepdim=True))
    alive = variances > ZERO_VARIANCE * variances[0]
    scale = torch.where(alive, variances.clamp(min=0).rsqrt(), 0.0)
    projection = (directions * largest.sign() * scale).float()
    reduced = torch.empty(len(features), pca, device=features.device)
    for rows, out in zip(_centred(features, components.mean), reduced.split(ROWS), strict=True):
        torch.mm(rows, projection, out=out)
    return reduced


def _centred(features: Tensor, mean: Tensor) -> Iterator[Tensor]:
    """ROWS rows at a time without the mean, each overwritten by the next."""
    buffer = torch.empty(min(ROWS, len(features)), features.shape[1], device=features.device)
    for rows in features.split(ROWS):
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
        raise ValueError("features are too large: their squares overflow float32; did the training diverge?")
    return covariance


def _unit_rows(values: Tensor, out: Tensor) -> Tensor:
    """Each row divided by its L2 norm, into `out`, which may be `values`; a row of norm 0 stays as it is."""
    sum_of_norms = torch.zeros((), dtype=torch.float64, device=values.device)
    for rows, own in zip(values.split(ROWS), out.split(ROWS), strict=True):
        norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
        sum_of_norms += norms.sum(dtype=torch.float64)
        torch.div(rows, norms.masked_fill_(norms == 0, 1), out=own)
    if not bool(sum_of_norms.isfinite()):
        raise ValueError("features hold NaN, infinite or overflowing values; did the training diverge?")
    return out


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
    who finds the nearest centroid, "torch" (on the points' device), "faiss" (there too where it is faiss-gpu,
    else on the CPU) or "sklearn" (on the CPU).
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
    assign = KMEANS_BACKENDS[engine](points)
    if centroids is None:
        centroids = points[first_centroids(points, k=k, seed=seed, init=init)]
    else:
        centroids = _matrix(centroids, "centroids").to(points.device) - origin

    labels, members, done = assign(centroids), None, 0
    while done < iterations:
        done += 1
        members, moved, still = _update(points, labels, centroids, members)
        if still:
            break
        centroids = moved
        labels = assign(centroids)
    inertia = float(squared_distances(points, labels, centroids).sum(dtype=torch.float64))
    return Clusters(labels, centroids + origin, inertia, done)


def _check_kmeans(points: Tensor, *, k: int, init: str, iterations: int, engine: str, centroids: Tensor | None) -> None:
    n, d = points.shape
    if not 1 <= k <= n:
        raise ValueError(f"k {k} is not between 1 and the number of points, {n}")
    if init not in INITS:
        raise ValueError(f"init {init!r} is not one of {', '.join(INITS)}")
    if engine not in KMEANS_BACKENDS:
        raise ValueError(f"engine {engine!r} is not one of {', '.join(KMEANS_BACKENDS)}")
    if iterations < 0:
        raise ValueError(f"iterations {iterations} is negative")
    if centroids is not None:
        if tuple(centroids.shape) != (k, d):
            raise ValueError(f"centroids have shape {tuple(centroids.shape)}, not (k, d) = ({k}, {d})")
        if not bool(centroids.isfinite().all()):
            raise ValueError("centroids hold NaN or infinite values")


def _update(points: Tensor, labels: Tensor, centroids: Tensor, before: Tensor | None) -> tuple[Tensor, Tensor, bool]:
    """The members of each cluster after the empty ones took theirs, (n,); their means; whether no centroid moved.

    before: the members whose means the centroids are, None if they are nobody's. Two flags in one go are all that the
    host asks a GPU for.
    """
    sizes = _sizes(labels, len(centroids))
    moved = _means(points, labels, centroids, sizes, before)
    empty, still = torch.stack([(sizes == 0).any(), (moved == centroids).all()]).tolist()
    if empty:
        labels = _fill_empty(points, labels, centroids, sizes.tolist())
        moved = _means(points, labels, centroids, _sizes(labels, len(centroids)), before)
        still = torch.equal(moved, centroids)
    return labels, moved, still


def _sizes(labels: Tensor, k: int) -> Tensor:
    """Points per cluster, int64 (k,); unlike bincount it does not make a GPU wait for the host."""
    return _sums(labels.new_zeros(k), labels, torch.ones_like(labels))


def _sums(sums: Tensor, labels: Tensor, values: Tensor) -> Tensor:
    """`sums` (k, ...) plus the values (m, ...) of each label (m,); `sums` is used up."""
    return _sums_in_parts(sums, labels, values) if labels.is_cuda else sums.index_add_(0, labels, values)


def _sums_in_parts(sums: Tensor, labels: Tensor, values: Tensor) -> Tensor:
    """The same for a GPU: each label's values in _PARTS sums, then those.

    If it is to give the same bits every time it adds the values of one label after the other, and with few labels
    most of it waits.
    """
    k, part = len(sums), torch.arange(len(labels), device=labels.device) % _PARTS
    parts = sums.new_zeros(_PARTS * k, *sums.shape[1:]).index_add_(0, labels + k * part, values)
    return sums + parts.view(_PARTS, *sums.shape).sum(0)


def _fill_empty(points: Tensor, labels: Tensor, centroids: Tensor, sizes: list[int]) -> Tensor:
    """The labels after the empty clusters took their points; the rule stands in `kmeans`. `sizes` is used up."""
    distances, farthest = torch.sort(squared_distances(points, labels, centroids), descending=True, stable=True)
    farthest = farthest[distances > 0]
    filled, waiting = labels.clone(), iter([cluster for cluster, size in enumerate(sizes) if size == 0])
    cluster = next(waiting, None)
    for point, donor in zip(farthest.tolist(), labels[farthest].tolist(), strict=True):
        if cluster is None:
            break
        if sizes[donor] == 1:
            continue
        sizes[donor] -= 1
        filled[point] = cluster
        cluster = next(waiting, None)
    return filled


def _means(points: Tensor, labels: Tensor, centroids: Tensor, sizes: Tensor, before: Tensor | None) -> Tensor:
    """The mean of each cluster, summed in float64; a cluster with no point keeps its centroid.

    Where the members are those of `before`, the centroid already is their mean.
    """
    due, rows = sizes > 0, _rows_of_changed(labels, before, len(centroids))
    if rows is not None:
        due = due & torch.zeros_like(due).index_fill_(0, labels[rows], True)
    sums = torch.zeros(centroids.shape, dtype=torch.float64, device=points.device)
    height = rows_per_pass(points)
    for start in range(0, len(points) if rows is None else len(rows), height):
        own = slice(start, start + height)
        own = own if rows is None else rows[own]
        sums = _sums(sums, labels[own], points[own].double())
    return torch.where(due[:, None], (sums / sizes.clamp(min=1)[:, None]).float(), centroids)


def _rows_of_changed(labels: Tensor, before: Tensor | None, k: int) -> Tensor | None:
    """The points of all clusters that won or lost a point; None for all points, where that is no more work.

    On a GPU always None: to count them it would wait for the host, which takes longer than the sums.
    """
    if before is None or labels.device.type != "cpu":
        return None
    changed = (labels != before).nonzero()[:, 0]
    is_changed = torch.zeros(k, dtype=torch.bool)
    is_changed[labels[changed]] = True
    is_changed[before[changed]] = True
    rows = is_changed[labels].nonzero()[:, 0]
    return rows if 2 * len(rows) < len(labels) else None


def _faiss_engine(points: Tensor) -> Assign:
    """An exact search in faiss.IndexFlatL2, not faiss's k-means, which would draw 256 points per centroid."""
    try:
        import faiss
    except ImportError as error:
        wanted = 'engine faiss is not installed: pip install "dc-hpc[cpu]", or use engine torch'
        raise ValueError(wanted) from error
    queries = points.cpu().numpy()
    on_gpu = points.is_cuda and faiss.get_num_gpus() > 0  # faiss-gpu; the points still travel at every search
    resources = faiss.StandardGpuResources() if on_gpu else None

    def assign(centroids: Tensor) -> Tensor:
        index = faiss.IndexFlatL2(queries.shape[1])
        if on_gpu:
            index = faiss.index_cpu_to_gpu(resources, points.device.index or 0, index)
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


KMEANS_BACKENDS: dict[str, Callable[[Tensor], Assign]] = {
    "torch": assign_by_scores,
    "faiss": _faiss_engine,
    "sklearn": _sklearn_engine,
}
