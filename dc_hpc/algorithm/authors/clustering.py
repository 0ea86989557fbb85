"""The first clustering of a run with `draws: authors`: its features and k-means as the authors' code computes them.

The steps are those of `deepcluster.py` and `clustering.py`. Here every random draw is the authors', and so is the
rounding: the layers are torch's own, and the numbers are float64 from the division by the L2 norm on. With the compiled
layers of a CPU, whose features differ by a few units of 1e-7, k-means ends with other labels for a few images of some
seeds. scikit-learn finds the principal components from a random start, which is a draw of theirs, too.
"""

from __future__ import annotations

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from dc_hpc.algorithm.authors.kmeans import kmeans_as_authors
from dc_hpc.algorithm.clustering import Clustering, Components, Reduced
from dc_hpc.algorithm.deepcluster import ProgressFunction, ignore_progress
from dc_hpc.algorithm.matrices import as_matrix, column_means
from dc_hpc.algorithm.views import ImageViews

_BATCH = 256  # images that pass through the net at a time, as in their MNIST job
_EXACT_UP_TO = 500  # scikit-learn 0.2x decomposes matrices of at most so many rows and columns exactly
_RANDOM_BELOW = 0.8  # and larger ones where more than this share of the components is asked for


@torch.no_grad()
def features_as_authors(
    trunk: nn.Module, images: ImageViews, on_progress: ProgressFunction = ignore_progress
) -> Tensor:
    """What `extract_features` returns for a net of the paper, float32 (n, D), computed by torch's own layers."""
    training = trunk.training
    trunk.eval()
    features = []
    for start in range(0, len(images), _BATCH):
        features.append(trunk(images.clustering(slice(start, start + _BATCH))))
        on_progress("features", min(start + _BATCH, len(images)), len(images))
    trunk.train(training)
    return torch.cat(features)


def reduce_as_authors(features: Tensor, *, pca: int | None, seed: int) -> Tensor:
    """PCA with whitening as scikit-learn 0.2x does it for random_state=seed, then rows divided by their L2 norm.

    features: float32 (n, d) on any device. pca: as of `reduce_features`. Returns float64 (n, pca) or (n, d) on the same
    device. A row of zeros stays zero, where the authors' code divides by zero. Raises ValueError as `reduce_features`.
    """
    features = as_matrix(features, "features")
    column_means(features, "features")  # finds NaN and infinity
    matrix = features.cpu().numpy()
    if pca is not None:
        matrix = _whitened(matrix, pca, seed)
    rows = matrix.astype(np.float64)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    rows /= np.where(norms == 0, 1, norms)
    return torch.from_numpy(rows).to(features.device)


def reduction_as_authors(features: Tensor, *, pca: int | None, seed: int, components: Components) -> Reduced:
    """`reduce_as_authors` with what the principal components of the features say of their spectrum."""
    alive = None if pca is None else int(components.alive()[:pca].sum())
    reduced = reduce_as_authors(features, pca=pca, seed=seed)
    return Reduced(reduced, alive, components.effective_rank(), components.spectrum_alpha())


def cluster_as_authors(
    reduced: Reduced, *, k: int, seed: int, init: str, iterations: int = 20, n_init: int = 1
) -> Clustering:
    """`kmeans_as_authors` of what `reduction_as_authors` returns, as the Clustering of a run."""
    found = kmeans_as_authors(reduced.features, k=k, seed=seed, init=init, iterations=iterations, n_init=n_init)
    return Clustering(found.labels, reduced.features.float(), found.inertia, *reduced[1:])


def _whitened(matrix: np.ndarray, pca: int, seed: int) -> np.ndarray:
    from sklearn.decomposition import PCA

    n, d = matrix.shape
    if not 1 <= pca <= min(n, d):
        raise ValueError(f"pca {pca} is not between 1 and {min(n, d)}: the features are {n} x {d}")
    exact = max(n, d) <= _EXACT_UP_TO or pca >= _RANDOM_BELOW * min(n, d)
    with threadpool_limits(torch.get_num_threads()):
        solver = PCA(pca, whiten=True, svd_solver="full" if exact else "randomized", random_state=seed)
        found: np.ndarray = solver.fit_transform(matrix)
    return found
