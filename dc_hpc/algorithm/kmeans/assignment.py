"""The nearest centroid of every point, the step of k-means that takes the time (section 3.1), by three backends.

faiss and scikit-learn are imported only when they are asked for.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

Assign = Callable[[Tensor], Tensor]  # centroids (k, d) -> for each point the index of the nearest, int64 (n,)

CPU_BLOCK, GPU_BLOCK = 2 << 20, 256 << 20  # bytes of scores at a time; on the CPU they stay in a core's cache


def assign_by_scores(points: Tensor) -> Assign:
    """Assigns the points, float32 (n, d) on any device, by the lowest score |c|^2 - 2 x.c (|x|^2 changes nothing).

    On a tie the lower index wins. Scores are computed block by block: the (n, k) matrix never exists, and on CUDA
    nothing waits for the host.
    """

    def assign(centroids: Tensor) -> Tensor:
        n, k = len(points), len(centroids)
        height = max(1, (CPU_BLOCK if points.device.type == "cpu" else GPU_BLOCK) // (4 * k))
        buffer = torch.empty(min(height, n), k, device=points.device)
        norms, columns = centroids.square().sum(1), centroids.T
        labels = torch.empty(n, dtype=torch.int64, device=points.device)
        for start in range(0, n, height):
            rows = slice(start, start + height)
            block = points[rows]
            labels[rows] = _argmin(torch.addmm(norms, block, columns, alpha=-2, out=buffer[: len(block)]))
        return labels

    return assign


def assign_by_faiss(points: Tensor) -> Assign:
    """An exact search in faiss.IndexFlatL2, not faiss's k-means, which would draw 256 points per centroid."""
    try:
        import faiss
    except Exception as error:  # a broken library raises anything
        message = 'k-means backend faiss is not installed: pip install "dc-hpc[cpu]", or use the backend torch'
        raise ValueError(message) from error
    queries = points.cpu().numpy()
    on_gpu = points.is_cuda and faiss.get_num_gpus() > 0  # faiss-gpu; the points still travel at every search
    resources = faiss.StandardGpuResources() if on_gpu else None

    def assign(centroids: Tensor) -> Tensor:
        index: faiss.Index = faiss.IndexFlatL2(queries.shape[1])
        if resources is not None:
            index = faiss.index_cpu_to_gpu(resources, points.device.index or 0, index)
        index.add(centroids.cpu().numpy())
        return torch.from_numpy(index.search(queries, 1)[1][:, 0].copy()).to(points.device)

    return assign


def assign_by_sklearn(points: Tensor) -> Assign:
    """scikit-learn's search, in float64 inside: slow and careful, a reference for the other two."""
    from sklearn.metrics import pairwise_distances_argmin

    queries = points.cpu().numpy()

    def assign(centroids: Tensor) -> Tensor:
        labels = pairwise_distances_argmin(queries, centroids.cpu().numpy())
        return torch.from_numpy(labels.astype(np.int64)).to(points.device)

    return assign


KMEANS_BACKENDS: dict[str, Callable[[Tensor], Assign]] = {
    "torch": assign_by_scores,
    "faiss": assign_by_faiss,
    "sklearn": assign_by_sklearn,
}


def rows_per_pass(points: Tensor) -> int:
    """How many points to take at a time: on the CPU they stay in a core's cache, a GPU is fast with many thousands."""
    return 1024 if points.device.type == "cpu" else 1 << 16


def squared_distances(points: Tensor, labels: Tensor, centroids: Tensor) -> Tensor:
    """Squared distance of each point to its own centroid, float32 (n,); by subtraction: 0 where they are equal."""
    distances, height = torch.empty(len(points), device=points.device), rows_per_pass(points)
    for start in range(0, len(points), height):
        rows = slice(start, start + height)
        distances[rows] = (points[rows] - centroids[labels[rows]]).square_().sum(1)
    return distances


def _argmin(scores: Tensor) -> Tensor:
    """The column of each row's minimum, the lowest on a tie; on the CPU numpy's is eight times as fast."""
    if scores.device.type == "cpu":
        return torch.from_numpy(scores.numpy().argmin(1))
    return scores.argmin(1)
