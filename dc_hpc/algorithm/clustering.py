"""From features to pseudo-labels (section 3.1): reduce the features, then k-means.

The order is PCA with whitening, L2, k-means; the list in section 3.3 of the paper names the same steps in
another order. Everything is a torch tensor on the caller's device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dc_hpc.algorithm.arrays import Array
from dc_hpc.algorithm.divergence import DivergenceError
from dc_hpc.algorithm.kmeans.lloyd import kmeans
from dc_hpc.algorithm.matrices import ROWS, add_gram, as_matrix, column_means
from dc_hpc.algorithm.randomness import key

# A component whose standard deviation is below this share of the largest one has no variance that float32 features
# could carry: what is left of it is the rounding of the features.
ZERO_DEVIATION = torch.finfo(torch.float32).eps


class Clustering(NamedTuple):
    """The pseudo-labels of all images, and the features that were clustered.

    labels: int64 (n,), on the device of the features; deep_cluster takes NumPy's integers, too. features: float32
    (n, q), as they were clustered; None where they are not known. inertia: sum of the squared distances of the
    features to their centroids; None for a clustering that has no centroids. components_alive, effective_rank,
    spectrum_alpha: of the `Reduced` features; None where they are not known. silhouette: that of `sample_silhouette`,
    where another run has computed it already.
    """

    labels: Tensor
    features: Tensor | None
    inertia: float | None
    components_alive: int | None = None
    effective_rank: float | None = None
    spectrum_alpha: float | None = None
    silhouette: float | None = None


class LinearFeatures(NamedTuple):
    """Features rows @ weight.T + bias that are not computed: what a net has in front of its last, linear layer.

    rows: float32 (n, h). weight: float32 (D, h). bias: float32 (D,). The PCA of the features follows from that of the
    rows, so that the last layer is computed for the q components of the PCA instead of its D outputs.
    """

    rows: Tensor
    weight: Tensor
    bias: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """(n, D), of the features."""
        return len(self.rows), len(self.weight)

    def computed(self) -> Tensor:
        """The features, float32 (n, D)."""
        features = torch.empty(len(self.rows), len(self.weight), device=self.rows.device)
        for rows, out in zip(torch.split(self.rows, ROWS), torch.split(features, ROWS), strict=True):
            torch.addmm(self.bias, rows, self.weight.T, out=out)
        return features


class Components(NamedTuple):
    """All principal components of features (n, d).

    mean: float64 (d,). variances: float64 (d,), falling. directions: float64 (d, d), a column each. Of LinearFeatures
    the mean is that of their rows, (h,).
    """

    mean: Tensor
    variances: Tensor
    directions: Tensor

    def alive(self) -> Tensor:
        """Which components have a variance that float32 features can carry, bool (d,)."""
        return self.variances > ZERO_DEVIATION**2 * self.variances[0]

    def effective_rank(self) -> float:
        """exp of the entropy of the spectrum, 1 to d (Roy and Vetterli 2007); 0 where nothing varies.

        It is the effective rank of the covariance. RankMe (arXiv 2210.02885) takes that of the features: their singular
        values, not centred and not squared, with 1e-7 added to each share. Two nets may have another order there.
        """
        shares = self.variances.clamp(min=0) / self.variances.clamp(min=0).sum()
        return float(torch.special.entr(shares).sum().exp()) if bool(self.alive().any()) else 0.0

    def spectrum_alpha(self) -> float | None:
        """How fast the spectrum falls: minus the least-squares slope of log variance against log rank.

        The ranks are 1, 2, ... of the components that are alive, each counted once (alpha-ReQ, arXiv 2202.05808, which
        lets the user choose a range of ranks). None where fewer than two are alive.
        """
        height = self.variances[self.alive()].cpu().log()
        if len(height) < 2:
            return None
        place = torch.arange(1, len(height) + 1, dtype=height.dtype).log()
        place -= place.mean()
        return -float(place @ height / (place @ place))


class Reduced(NamedTuple):
    """Features as they are clustered, and what is known of their spectrum.

    features: float32 (n, q), rows of norm 1. components_alive: how many of the q components have variance; None without
    PCA. effective_rank, spectrum_alpha: of the features before the reduction, see `Components`.
    """

    features: Tensor
    components_alive: int | None
    effective_rank: float
    spectrum_alpha: float | None = None


def cluster_by_kmeans(
    features: Array | LinearFeatures,
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
    features = _as_features(features)
    dimension = features.shape[1]
    if pca is not None and not 1 <= pca <= dimension:
        raise ValueError(f"pca {pca} must be between 1 and the {dimension} features")
    return cluster_reduced(
        reduction(features, pca=pca),
        k=k,
        seed=seed,
        init=init,
        iterations=iterations,
        n_init=n_init,
        backend=backend,
    )


def cluster_reduced(
    reduced: Reduced,
    *,
    k: int,
    seed: int,
    init: str = "k-means++",
    iterations: int = 20,
    n_init: int = 1,
    backend: str = "torch",
) -> Clustering:
    """`cluster_by_kmeans` for features that `reduction` has reduced already."""
    if n_init < 1:
        raise ValueError(f"n_init {n_init} must be 1 or more")
    # The first draws are those of a single start; min takes the earlier one of equals.
    seeds = [seed, *(key(seed, start, "kmeans") for start in range(1, n_init))]
    features = reduced.features
    tries = (kmeans(features, k=k, seed=one, init=init, iterations=iterations, backend=backend) for one in seeds)
    found = min(tries, key=lambda one: one.inertia)
    return Clustering(found.labels, features, found.inertia, *reduced[1:])


def takes_linear_features(cluster: Callable[..., Any]) -> bool:
    """Whether a clustering takes LinearFeatures: `cluster_by_kmeans`, or a functools.partial of it."""
    return getattr(cluster, "func", cluster) is cluster_by_kmeans


@torch.no_grad()
def principal_components(features: Array | LinearFeatures) -> Components:
    """The principal components, for several reductions of the same features to different numbers of them.

    features: as in `reduce_features`, which raises the same errors. The covariance is that of float64 products: those
    of float32 put its eigenvalues off by up to 1e-7 of the largest, and the components of trained nets fall below that.
    """
    features = _as_features(features)
    rows = features.rows if isinstance(features, LinearFeatures) else features
    mean = column_means(rows, "features")
    covariance = _covariance(rows, mean)
    if isinstance(features, LinearFeatures):
        weight = features.weight.double()
        covariance = weight @ covariance @ weight.T
    if not bool(covariance.float().isfinite().all()):
        raise DivergenceError("features are too large: their squares overflow float32; did the training diverge?")
    variances, directions = torch.linalg.eigh(covariance)  # ascending
    return Components(mean, variances.flip(0), directions.flip(1))


@torch.no_grad()
def reduce_features(features: Array, *, pca: int | None, components: Components | None = None) -> Tensor:
    """PCA to `pca` whitened components, then every row divided by its L2 norm (section 3.1).

    features: (n, d), any dtype of real numbers, on any device or in NumPy. pca: 1..min(n, d) components, or None for
    L2 alone. components: the `principal_components` of these features where they are known; the result is the same.
    Returns float32 (n, pca) or (n, d) on the same device; the input is left as it is.

    Components come by falling variance, each with its largest loading positive, so that a rerun gives the
    same signs. Whitening divides by the standard deviation (n - 1 in the variance). Where that is zero, or too small
    beside the largest for float32 features to carry it (ZERO_DEVIATION), the component is 0 for every row. A row of
    zeros stays zero.

    Raises ValueError: not a matrix, non-finite or too large for float32, pca outside 1..min(n, d).
    """
    if pca is None:
        values = as_matrix(features, "features")
        return _unit_rows(values, torch.empty_like(values))
    return reduction(features, pca=pca, components=components).features


@torch.no_grad()
def reduction(features: Array | LinearFeatures, *, pca: int | None, components: Components | None = None) -> Reduced:
    """`reduce_features` with what it knows of the spectrum of the features; the same arguments and errors."""
    features = _as_features(features)
    if pca is None:
        components = components or principal_components(features)
        values = features.computed() if isinstance(features, LinearFeatures) else features
        into = values if isinstance(features, LinearFeatures) else torch.empty_like(values)
        return Reduced(_unit_rows(values, into), None, components.effective_rank(), components.spectrum_alpha())
    n, d = features.shape
    if not 1 <= pca <= min(n, d):
        raise ValueError(f"pca {pca} is not between 1 and {min(n, d)}: the features are {n} x {d}")
    components = components or principal_components(features)
    reduced = _whiten(features, pca, components)
    alive = int(components.alive()[:pca].sum())
    return Reduced(_unit_rows(reduced, reduced), alive, components.effective_rank(), components.spectrum_alpha())


def _as_features(features: Array | LinearFeatures) -> Tensor | LinearFeatures:
    return features if isinstance(features, LinearFeatures) else as_matrix(features, "features")


def _whiten(features: Tensor | LinearFeatures, pca: int, components: Components) -> Tensor:
    """The `pca` leading principal components, each of unit variance (or 0, see reduce_features)."""
    variances, directions = components.variances[:pca], components.directions[:, :pca]
    largest = directions.gather(0, directions.abs().argmax(0, keepdim=True))
    scale = torch.where(components.alive()[:pca], variances.clamp(min=0).rsqrt(), 0.0)
    projection = directions * largest.sign() * scale
    if isinstance(features, LinearFeatures):
        rows, projection = features.rows, features.weight.double().T @ projection
    else:
        rows = features
    mean = components.mean.float()
    # what the rounding of the mean leaves; beside components of little variance it counts
    offset = ((mean - components.mean) @ projection).float()
    reduced = torch.empty(len(rows), pca, device=rows.device)
    for block, out in zip(_centred(rows, mean), torch.split(reduced, ROWS), strict=True):
        torch.addmm(offset, block, projection.float(), out=out)
    return reduced


def _centred(features: Tensor, mean: Tensor) -> Iterator[Tensor]:
    """ROWS rows at a time without the mean, in its dtype, each overwritten by the next."""
    buffer = torch.empty(min(ROWS, len(features)), features.shape[1], dtype=mean.dtype, device=features.device)
    for rows in torch.split(features, ROWS):
        yield torch.sub(rows, mean, out=buffer[: len(rows)])


def _covariance(features: Tensor, mean: Tensor) -> Tensor:
    """Covariance (d, d) of float64 products, of ROWS rows at a time. Only one triangle is computed."""
    d = features.shape[1]
    total = torch.zeros(d, d, dtype=torch.float64, device=features.device)
    for rows in _centred(features, mean):
        add_gram(total, rows)
    return (total.triu() + total.triu(1).T) / max(len(features) - 1, 1)


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
