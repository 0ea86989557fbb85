"""The nearest centroid of every point, the step of k-means that takes the time (section 3.1)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dc_hpc.algorithm.kmeans import int8

Assign = Callable[[Tensor], Tensor]  # centroids (k, d) -> for each point the index of the nearest, int64 (n,)

CPU_BLOCK, GPU_BLOCK = 2 << 20, 256 << 20  # bytes of scores at a time; on the CPU they stay in a core's cache
SIEVED_FROM = 128  # clusters: with fewer the passes over the points cost more than the products
ROUGH_SHARE = 0.02  # of the points, those that round worst; they are left to float32, for the others' sake


def assign_by_scores(points: Tensor) -> Assign:
    """Assigns the points, float32 (n, d) on any device, by the lowest score |c|^2 - 2 x.c (|x|^2 changes nothing).

    On a tie the lower index wins. Scores are computed block by block: the (n, k) matrix never exists, and on CUDA
    nothing waits for the host. On a CPU with fast int8 products, those settle most points first: a point whose
    second best centroid stays behind even if all rounding had spoken against it keeps its best. Only the others
    get float32 scores, so the labels are those of the float32 scores.
    """
    sieve: _Sieve | None = None

    def assign(centroids: Tensor) -> Tensor:
        nonlocal sieve
        if sieve is None and len(centroids) >= SIEVED_FROM:
            rounding = int8.rounded(points)
            sieve = None if rounding is None else _Sieve(points, rounding)
        if sieve is None:
            return _labels(points, centroids)
        labels, rows = sieve(centroids)
        labels[rows] = _labels(points, centroids, rows)
        return labels

    return assign


def rows_per_pass(points: Tensor) -> int:
    """How many points to take at a time: on the CPU they stay in a core's cache, a GPU wants them by the thousand."""
    return 1024 if points.device.type == "cpu" else 1 << 16


def squared_distances(points: Tensor, labels: Tensor, centroids: Tensor, rows: Tensor | None = None) -> Tensor:
    """Squared distance of each point, or each of `rows`, to its own centroid; by subtraction: 0 where equal."""
    n, height = len(points) if rows is None else len(rows), rows_per_pass(points)
    found = torch.empty(n, device=points.device)
    for start in range(0, n, height):
        own = slice(start, start + height)
        of = own if rows is None else rows[own]
        found[own] = (points[of] - centroids[labels[of]]).square_().sum(1)
    return found


def _labels(points: Tensor, centroids: Tensor, rows: Tensor | None = None) -> Tensor:
    """The nearest centroids of all points, or of those in `rows`, by float32 scores."""
    n, k = len(points) if rows is None else len(rows), len(centroids)
    height = _height(points, k)
    buffer = torch.empty(min(height, n), k, device=points.device)
    norms, columns = centroids.square().sum(1), centroids.T
    labels = torch.empty(n, dtype=torch.int64, device=points.device)
    for start in range(0, n, height):
        own = slice(start, start + height)
        block = points[own if rows is None else rows[own]]
        labels[own] = _argmin(torch.addmm(norms, block, columns, alpha=-2, out=buffer[: len(block)]))
    return labels


def _height(points: Tensor, k: int) -> int:
    return max(1, (CPU_BLOCK if points.device.type == "cpu" else GPU_BLOCK) // (4 * k))


def _argmin(scores: Tensor) -> Tensor:
    """The column of each row's minimum, the lowest on a tie; on the CPU numpy's is eight times as fast."""
    if scores.device.type == "cpu":
        return torch.from_numpy(scores.numpy().argmin(1))
    return scores.argmin(1)


class _Sieve:
    """Settles points by int8 products.

    With x = s q + e and c = t r + f, by Cauchy and Schwarz x.c is s t q.r to within |e||c| + (|x| + |e|)|f|. So
    |c|^2 / 2 - x.c, half a score, lies between |c|^2 / 2 - s t q.r - `reach` and the same + `reach`, where reach =
    |c| max|e| + |f| max(|x| + |e|). The lower of the two is called the floor.
    """

    def __init__(self, points: Tensor, rounding: int8.Rounded) -> None:
        self.points, self.q, self.step, errors = points, *rounding
        self.norms = points.square().sum(1)
        self.error = float(errors.kthvalue(max(1, int(len(points) * (1 - ROUGH_SHARE)))).values)
        self.rough = errors > self.error
        self.longest = float(self.norms.max().sqrt())

    def __call__(self, centroids: Tensor) -> tuple[Tensor, Tensor]:
        """The best guess for each point, int64 (n,), and the indices of those points for which it is not certain."""
        n, k = len(self.points), len(centroids)
        steps = centroids.abs().amax(1, keepdim=True).clamp_(min=1e-30) / 127
        r = (centroids / steps).round_().to(torch.int8)
        lengths, errors = centroids.norm(dim=1), (centroids - r * steps).norm(dim=1)
        reach = lengths * self.error + errors * (self.longest + self.error)
        offsets, factors = lengths.square() / 2 - reach, steps[:, 0] * -self.step
        slack = _rounding(self.longest + float(lengths.max()), centroids.shape[1])

        labels, lead = torch.empty(n, dtype=torch.int64), torch.empty(n)
        best_floor, height = torch.empty(n), _height(self.points, 2 * k)
        whole, floor = torch.empty(height, k, dtype=torch.int32), torch.empty(height, k)
        for start in range(0, n, height):
            own = slice(start, start + height)
            q = self.q[own]
            floors = floor[: len(q)].copy_(int8.products(q, r, whole[: len(q)]))
            torch.addcmul(offsets, floors, factors, out=floors)
            best = _argmin(floors)[:, None]
            labels[own], best_floor[own] = best[:, 0], floors.gather(1, best)[:, 0]
            lead[own] = floors.scatter_(1, best, torch.inf).amin(1)
        lead -= slack  # what the true half score of the best has to stay below
        open_rows = (best_floor + 2 * reach[labels] >= lead).logical_or_(self.rough).nonzero()[:, 0]
        measured = squared_distances(self.points, labels, centroids, open_rows)
        open_rows = open_rows[(measured - self.norms[open_rows] >= 2 * lead[open_rows]) | self.rough[open_rows]]
        return labels, open_rows


def _rounding(longest: float, d: int) -> float:
    """How far float32 may be off in a score: the usual bound for a sum of d products, with a factor to spare."""
    return 2 * (d + 8) * torch.finfo(torch.float32).eps * longest**2
