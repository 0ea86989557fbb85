"""The mean silhouette of a clustering on a fixed sample of its images: a measure that needs no label."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dc_hpc.algorithm.randomness import numpy_generator

SAMPLE = 1000  # images; the distances between them are computed in float64, in a few milliseconds


def sample_of(n: int) -> np.ndarray:
    """The images of the sample, int64 (min(n, SAMPLE),), sorted: the same for every seed, cycle and k of a data set."""
    chosen = numpy_generator(0, 0, "silhouette").choice(n, min(n, SAMPLE), replace=False)
    return np.sort(chosen)


@torch.no_grad()
def sample_silhouette(features: Tensor, pseudo_labels: Tensor) -> float | None:
    """The mean silhouette (Rousseeuw 1987) of `sample_of(n)`, -1 to 1, as scikit-learn's `silhouette_score` of them.

    features: float32 (n, q), as they were clustered. pseudo_labels: int64 (n,). An image has (b - a) / max(a, b), with
    a its mean Euclidean distance to the others of its cluster and b that to the nearest other cluster, both within the
    sample; 0 where it is alone in its cluster, or where a and b are 0. With thousands of clusters most images of the
    sample are alone. None where the sample has fewer than two clusters, or no two images share one.
    """
    chosen = torch.from_numpy(sample_of(len(features))).to(features.device)
    labels = pseudo_labels[chosen].cpu().numpy()
    order = np.argsort(labels, kind="stable")  # the images of a cluster beside each other
    _, cluster, sizes = np.unique(labels[order], return_inverse=True, return_counts=True)
    if not 2 <= len(sizes) < len(labels):
        return None
    distances = _distances(features[chosen].cpu().double()[torch.from_numpy(order)])
    sums = np.add.reduceat(distances, np.cumsum(sizes) - sizes, axis=1)
    images, own_size = np.arange(len(labels)), sizes[cluster]
    within = sums[images, cluster] / np.maximum(own_size - 1, 1)
    to_others = sums / sizes
    to_others[images, cluster] = np.inf
    nearest = to_others.min(1)
    larger = np.maximum(within, nearest)
    found = np.where((own_size > 1) & (larger > 0), (nearest - within) / np.where(larger > 0, larger, 1), 0)
    return float(found.mean())


def _distances(points: Tensor) -> np.ndarray:
    """Euclidean distances of points (m, q), float64 (m, m)."""
    squares = points.square().sum(1)
    found = torch.addmm(squares[None], points, points.T, alpha=-2).add_(squares[:, None]).clamp_(min=0).sqrt_()
    distances: np.ndarray = found.fill_diagonal_(0).numpy()
    return distances
