"""k-means (section 3.1): Lloyd's iterations over all the points, from first centroids of init.py."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dc_hpc.algorithm.arrays import Array
from dc_hpc.algorithm.kmeans.assignment import KMEANS_BACKENDS, rows_per_pass, squared_distances
from dc_hpc.algorithm.kmeans.init import INITS, first_centroids
from dc_hpc.algorithm.kmeans.small_k import SmallK
from dc_hpc.algorithm.matrices import as_matrix, column_means

_PARTS = 64  # sums per cluster on a GPU, added up at the end


class KMeansResult(NamedTuple):
    """What k-means found.

    labels: (n,) int64. centroids: (k, d) float32. inertia: sum of the squared distances of the points to
    their own centroids. iterations: Lloyd iterations done, counting the one that found nothing left to move.
    """

    labels: Tensor
    centroids: Tensor
    inertia: float
    iterations: int


@torch.no_grad()
def kmeans(
    points: Array,
    *,
    k: int,
    seed: int,
    init: str = "k-means++",
    iterations: int = 20,
    backend: str = "torch",
    centroids: Tensor | None = None,
) -> KMeansResult:
    """`iterations` of Lloyd's algorithm on ALL the points (section 3.1; not faiss's 256 per centroid).

    points: (n, d), any dtype of real numbers, on any device or in NumPy. seed: 0 <= seed < 2**64; the first
    centroids are drawn from it once, whatever the backend: "random" takes k different rows, "k-means++" is
    scikit-learn's greedy variant with its draws. centroids: (k, d) to start from instead; seed and init are then
    unused. backend: who finds the nearest centroid, "torch" (on the points' device), "faiss" (there too where it is
    faiss-gpu, else on the CPU) or "sklearn" (on the CPU).
    All else is shared, so backends differ only where two centroids are equally near up to rounding. Ties:
    torch takes the lower index.

    An empty cluster, in index order, takes the point farthest from its own centroid (ties: the lower index),
    which leaves its cluster; the next empty cluster takes the next farthest. The only point of a cluster is
    passed over. Where no point at a distance above 0 is left, the cluster keeps its centroid. This is
    scikit-learn's rule except for passing over, which keeps the repair of one cluster from emptying another.

    Stops early only when an update moves no centroid, so that going on would change nothing. The labels
    belong to the returned centroids: one assignment follows the last update, and may itself leave a cluster
    empty. On the CPU the result is a function of the arguments, the thread count and the BLAS library; on
    CUDA the same holds under torch.use_deterministic_algorithms(True).

    Raises ValueError: not a matrix, non-finite points, k outside 1..n, unknown init or backend, faiss missing,
    centroids of another shape, negative iterations, seed out of range.
    """
    points = as_matrix(points, "points")
    _check_kmeans(points, k=k, init=init, iterations=iterations, backend=backend, centroids=centroids)
    # Distances do not change when the origin moves, and round least with the origin amid the points.
    origin = column_means(points, "points").float()
    points = points - origin
    small = SmallK(points, k) if backend == "torch" and SmallK.serves(points, k) else None
    assign = small or KMEANS_BACKENDS[backend](points)
    if centroids is None:
        centroids = points[first_centroids(points, k=k, seed=seed, init=init)]
    else:
        centroids = as_matrix(centroids, "centroids").to(points.device) - origin

    labels, members, done = assign(centroids), None, 0
    while done < iterations:
        done += 1
        members, moved, still = _update(points, labels, centroids, members, small)
        if still:
            break
        centroids = moved
        labels = assign(centroids)
    inertia = float(squared_distances(points, labels, centroids).sum(dtype=torch.float64))
    return KMeansResult(labels, centroids + origin, inertia, done)


def _check_kmeans(
    points: Tensor, *, k: int, init: str, iterations: int, backend: str, centroids: Tensor | None
) -> None:
    n, d = points.shape
    if not 1 <= k <= n:
        raise ValueError(f"k {k} is not between 1 and the number of points, {n}")
    if init not in INITS:
        raise ValueError(f"init {init!r} is not one of {', '.join(INITS)}")
    if backend not in KMEANS_BACKENDS:
        raise ValueError(f"backend {backend!r} is not one of {', '.join(KMEANS_BACKENDS)}")
    if iterations < 0:
        raise ValueError(f"iterations {iterations} is negative")
    if centroids is not None:
        if tuple(centroids.shape) != (k, d):
            raise ValueError(f"centroids have shape {tuple(centroids.shape)}, not (k, d) = ({k}, {d})")
        if not bool(centroids.isfinite().all()):
            raise ValueError("centroids hold NaN or infinite values")


def _update(
    points: Tensor, labels: Tensor, centroids: Tensor, before: Tensor | None, small: SmallK | None
) -> tuple[Tensor, Tensor, bool]:
    """The members of each cluster after the empty ones took theirs, (n,); their means; whether no centroid moved.

    before: the members whose means the centroids are, None where the centroids are no means. The host asks a GPU for
    two flags in one transfer, and for nothing else. small: what has assigned the points, if it has added them up, too.
    """
    if small:
        sizes, moved = small.sizes, _quotients(small.sums, small.sizes, small.sizes > 0, centroids)
    else:
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
    """`sums` (k, ...) plus the values (m, ...) of each label (m,). It may overwrite `sums`, and does so on the CPU."""
    return _sums_in_parts(sums, labels, values) if labels.is_cuda else sums.index_add_(0, labels, values)


def _sums_in_parts(sums: Tensor, labels: Tensor, values: Tensor) -> Tensor:
    """The same for a GPU: the values of each label in _PARTS sums, then the sum of those.

    A GPU that must return the same bits every time adds the values of a label one after another. With few labels most
    of it would wait.
    """
    k, part = len(sums), torch.arange(len(labels), device=labels.device) % _PARTS
    parts = sums.new_zeros(_PARTS * k, *sums.shape[1:]).index_add_(0, labels + k * part, values)
    return sums + parts.view(_PARTS, *sums.shape).sum(0)


def _fill_empty(points: Tensor, labels: Tensor, centroids: Tensor, sizes: list[int]) -> Tensor:
    """The labels after the empty clusters took their points; `kmeans` describes the rule. It changes `sizes`."""
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
        block = slice(start, start + height)
        members = block if rows is None else rows[block]
        sums = _sums(sums, labels[members], points[members].double())
    return _quotients(sums, sizes, due, centroids)


def _quotients(sums: Tensor, sizes: Tensor, due: Tensor, centroids: Tensor) -> Tensor:
    """The means from sums, float64 (k, d), and sizes (k,); of clusters that are not due, the centroid."""
    return torch.where(due[:, None], (sums / sizes.clamp(min=1)[:, None]).float(), centroids)


def _rows_of_changed(labels: Tensor, before: Tensor | None, k: int) -> Tensor | None:
    """The points of all clusters that won or lost a point; None means all points, where that is no more work.

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
