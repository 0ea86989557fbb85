"""The stages whose input is points or labels: pca, kmeans_init, k-means by each backend, agreement."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dc_hpc.algorithm.agreement import agreement
from dc_hpc.algorithm.clustering import reduce_features
from dc_hpc.algorithm.kmeans.lloyd import KMeansResult, kmeans
from dc_hpc.benchmark.stages import flop_counts, peers
from dc_hpc.benchmark.stages.sizes import Setting
from dc_hpc.benchmark.timing import InvalidTiming, Peer, Stage

SEED = 1
LATENT = 6  # dimension of the surface on which the points lie


def pca(setting: Setting, device: str) -> Stage:
    """PCA with whitening, then L2."""
    n, d, q = setting.size.points, setting.features, setting.pca
    features = _features(n, d)
    on_device = torch.from_numpy(features).to(device)
    return Stage(
        "pca",
        setting.network,
        f"{n:,} x {d:,} to {q}",
        flop_counts.pca_flop(n, d, q),
        "FLOP",
        ours=lambda: reduce_features(on_device, pca=q),
        device=device,
        difference=_up_to_signs,
        tolerance=0.01,
        peers=(
            Peer("scikit-learn PCA", lambda: peers.sklearn_pca(features, q)),
            Peer("faiss PCAMatrix", lambda: peers.faiss_pca(features, q), peers.installed("faiss")),
        ),
    )


def kmeans_init(setting: Setting, device: str) -> Stage:
    """Greedy k-means++. Ours also assigns the points to the centroids found, which its peer does not."""
    n, d, k = _points_of(setting)
    points = _unit_points(n, d)
    on_device = torch.from_numpy(points).to(device)
    return Stage(
        "kmeans_init",
        setting.network,
        f"{n:,} x {d}, k {k:,}",
        flop_counts.plusplus_flop(n, d, k),
        "FLOP",
        ours=lambda: kmeans(on_device, k=k, seed=SEED, iterations=0),
        device=device,
        peers=(Peer("scikit-learn kmeans_plusplus", lambda: peers.sklearn_plusplus(points, k, SEED)),),
        difference=lambda found, peer: _inertia_difference(found, peer, points),
        tolerance=0.01,
    )


def kmeans_torch(setting: Setting, device: str) -> Stage:
    """Lloyd's iterations by the backend torch."""
    return _kmeans(setting, "torch", device, ("faiss Kmeans", "scikit-learn KMeans"))


def kmeans_faiss(setting: Setting, device: str) -> Stage:
    """Lloyd's iterations by the backend faiss: its exact search, our update."""
    return _kmeans(setting, "faiss", "cpu", ("faiss Kmeans",))


def kmeans_sklearn(setting: Setting, device: str) -> Stage:
    """Lloyd's iterations by the backend sklearn: its search in float64, our update."""
    return _kmeans(setting, "sklearn", "cpu", ("scikit-learn KMeans",))


def _kmeans(setting: Setting, backend: str, device: str, peer_names: tuple[str, ...]) -> Stage:
    n, d, k = _points_of(setting)
    iterations = setting.size.iterations
    points = _unit_points(n, d)
    first = points[np.random.default_rng(SEED).permutation(n)[:k]]
    on_device, first_on_device = torch.from_numpy(points).to(device), torch.from_numpy(first).to(device)
    check_still_moving(on_device, first_on_device, iterations)

    def ours() -> np.ndarray:
        found = kmeans(on_device, k=k, seed=SEED, iterations=iterations, backend=backend, centroids=first_on_device)
        labels: np.ndarray = found.labels.cpu().numpy()
        return labels

    by_faiss = Peer("faiss Kmeans", lambda: peers.faiss_kmeans(points, first, iterations), peers.installed("faiss"))
    by_sklearn = Peer("scikit-learn KMeans", lambda: peers.sklearn_kmeans(points, first, iterations))
    return Stage(
        f"kmeans_{backend}",
        setting.network,
        f"{n:,} x {d}, k {k:,}, {iterations} iterations",
        flop_counts.kmeans_flop(n, d, k, iterations),
        "FLOP",
        ours=ours,
        available=backend != "faiss" or peers.installed("faiss"),
        peers=tuple(peer for peer in (by_faiss, by_sklearn) if peer.name in peer_names),
        device=device,
        difference=_share_of_other_labels,
        tolerance=0.02,
    )


def agreement_stage(setting: Setting, device: str) -> Stage:
    """NMI and AMI of two labellings of the points, which differ for three points in ten."""
    n, _, k = _points_of(setting)
    a, b = labellings(n, k)

    def ours() -> tuple[float, float]:
        found = agreement(a, b)
        return found.nmi, found.ami

    return Stage(
        "agreement",
        setting.network,
        f"{n:,} labels, k {k:,}",
        flop_counts.agreement_bytes(n),
        "bytes",
        ours=ours,
        peers=(Peer("scikit-learn NMI + AMI", lambda: peers.sklearn_agreement(a, b)),),
        difference=lambda x, y: max(abs(x[0] - y[0]), abs(x[1] - y[1])),
        tolerance=1e-9,
    )


def labellings(n: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Two int64 labellings (n,) with k clusters, equal for seven points in ten."""
    rng = np.random.default_rng(SEED)
    a = rng.integers(0, k, n)
    return a, np.where(rng.random(n) < 0.7, a, rng.integers(0, k, n))


def _points_of(setting: Setting) -> tuple[int, int, int]:
    """n, d and k of what is clustered: reduced points where the baseline reduces."""
    return setting.size.points, setting.pca if setting.baseline["pca"] else setting.features, setting.size.k


def _features(n: int, d: int) -> np.ndarray:
    """float32 (n, d) whose standard deviations fall by a factor of 30 from the first to the last column.

    Every component then has a variance of its own, as with features of a net, and PCA can tell them apart.
    """
    columns = np.random.default_rng(SEED).standard_normal((n, d), dtype=np.float32)
    features: np.ndarray = columns * np.geomspace(3, 0.1, d).astype("f4")
    return features


def _unit_points(n: int, d: int) -> np.ndarray:
    """float32 (n, d) on the sphere, close to a surface of LATENT dimensions and without clusters.

    k-means on points that fill all d dimensions would converge at the first update, because the mean of a few of them
    is nearer to each of these than any other mean. There would be nothing left to time.
    """
    rng = np.random.default_rng(SEED)
    latent, spread = (rng.standard_normal(shape, dtype=np.float32) for shape in ((n, LATENT), (LATENT, d)))
    points = latent @ spread + 0.01 * rng.standard_normal((n, d), dtype=np.float32)
    unit: np.ndarray = points / np.linalg.norm(points, axis=1, keepdims=True)
    return unit


def check_still_moving(points: Tensor, first: Tensor, iterations: int) -> None:
    """Raise InvalidTiming where Lloyd's algorithm converges within so many iterations: ours would then do less than is
    counted, and less than faiss, which does not stop.
    """
    done = kmeans(points, k=len(first), seed=SEED, iterations=iterations + 1, centroids=first).iterations
    if done <= iterations:
        raise InvalidTiming(
            f"k-means of {len(points):,} points with k {len(first):,} converges within {iterations} iterations "
            f"({done} done): its operation count would be too high"
        )


def _up_to_signs(ours: Tensor, peer: np.ndarray) -> float:
    """The mean difference of absolute values: absolute, because a component may have the other sign; the mean, because
    neighbours of nearly equal variance may mix.
    """
    return float(np.abs(np.abs(ours.cpu().numpy()) - np.abs(peer)).mean() * np.sqrt(peer.shape[1]))


def _inertia_difference(ours: KMeansResult, peer: np.ndarray, points: np.ndarray) -> float:
    """The relative difference of the sums of squared distances to the nearest centroid.

    The random draws are the same, but rounding decides between two of thousands of candidates at some point, and all
    later centroids then differ. So the centroids agree for small k only, while their quality always does.
    """
    norms = np.square(peer).sum(1)
    inertia = sum(
        float((np.square(rows).sum(1) + (norms - 2 * rows @ peer.T).min(1)).sum(dtype=np.float64))
        for rows in np.array_split(points, -(-len(points) // 1024))
    )
    return abs(ours.inertia - inertia) / max(ours.inertia, 1e-12)


def _share_of_other_labels(ours: np.ndarray, peer: np.ndarray) -> float:
    """The share of points in another cluster: rounding decides for a point midway between two centroids."""
    return float((ours != peer).mean())
