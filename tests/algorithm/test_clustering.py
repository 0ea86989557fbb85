"""Clustering against scikit-learn, by hand, and by its properties."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans, kmeans_plusplus
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from torch.utils._python_dispatch import TorchDispatchMode

from dc_hpc.algorithm.clustering import (
    LinearFeatures,
    _whiten,
    cluster_by_kmeans,
    principal_components,
    reduce_features,
    reduction,
)
from dc_hpc.algorithm.kmeans.assignment import KMEANS_BACKENDS
from dc_hpc.algorithm.kmeans.init import first_centroids
from dc_hpc.algorithm.kmeans.lloyd import _sums_in_parts, kmeans
from dc_hpc.algorithm.randomness import key

every_backend = pytest.mark.parametrize("backend", ["torch", "faiss", "sklearn"])
every_init = pytest.mark.parametrize("init", ["k-means++", "random"])


def gaussian(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def decaying(n: int, d: int, seed: int = 0, offset: float = 0.0) -> torch.Tensor:
    """Rotated data with clearly different variances, so that each component is defined up to its sign."""
    rotation = torch.linalg.qr(gaussian(d, d, seed + 1).double()).Q
    spread = 0.9 ** torch.arange(min(d, 60), dtype=torch.float64)
    scores = gaussian(n, d, seed).double()
    scores[:, : len(spread)] *= 1000 * spread
    return (scores @ rotation + offset).float()


def digits() -> torch.Tensor:
    return torch.from_numpy(load_digits().data).float()


def blobs(n: int = 600, k: int = 6, d: int = 5, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Points around k far apart centres, and which centre each belongs to."""
    centres = 20 * torch.eye(k, d) + 10 * torch.arange(k)[:, None]
    labels = torch.arange(n) % k
    return centres[labels] + gaussian(n, d, seed), labels


# ---- reduce_features


def reference_reduction(features: torch.Tensor, pca: int) -> np.ndarray:
    whitened = PCA(pca, whiten=True, svd_solver="full").fit_transform(features.double().numpy())
    return whitened / np.linalg.norm(whitened, axis=1, keepdims=True)


@pytest.mark.parametrize(
    "features, pca",
    [
        (digits(), 20),
        (decaying(3000, 300), 40),
        (decaying(500, 40, offset=5.0), 40),
        (decaying(50, 300), 30),
        (decaying(2500, 600).double(), 10),
    ],
)
def test_reduction_is_sklearns_up_to_the_sign_of_a_component(features, pca):
    expected = reference_reduction(features, pca)
    reduced = reduce_features(features, pca=pca)
    assert reduced.dtype == torch.float32 and reduced.shape == (len(features), pca)
    signs = np.sign((expected * reduced.numpy()).sum(0))
    np.testing.assert_allclose(reduced.numpy() * signs, expected, atol=1e-4)


def test_each_component_points_along_its_largest_loading():
    features = digits()
    whitened = _whiten(features, 20, principal_components(features))
    loadings = (features - features.mean(0)).T @ whitened  # proportional to the components
    assert (loadings.gather(0, loadings.abs().argmax(0, keepdim=True)) > 0).all()


@settings(max_examples=30, deadline=None)
@given(n=st.integers(60, 1500), d=st.integers(1, 30), seed=st.integers(0, 99), data=st.data())
def test_whitening_gives_unit_covariance_and_then_rows_have_norm_one(n, d, seed, data):
    q = data.draw(st.integers(1, d))
    features = gaussian(n, d, seed) * torch.linspace(1, 30, d) + 3
    whitened = _whiten(features, q, principal_components(features)).double()
    assert whitened.mean(0).abs().max() < 1e-4
    torch.testing.assert_close(torch.atleast_2d(whitened.T.cov()), torch.eye(q).double(), atol=1e-4, rtol=0)
    for pca in (q, None):
        norms = reduce_features(gaussian(n, d, seed), pca=pca).norm(dim=1)
        torch.testing.assert_close(norms, torch.ones(n), atol=1e-5, rtol=0)


def test_components_serve_reductions_to_any_number_of_them():
    features = gaussian(3000, 30) @ gaussian(30, 30, 1)
    components = principal_components(features)
    assert (components.variances.diff() <= 0).all()
    for pca in (1, 7, 30):
        known = reduce_features(features, pca=pca, components=components)
        assert torch.equal(known, reduce_features(features, pca=pca))


def test_without_pca_rows_are_only_divided_by_their_norm():
    features = torch.tensor([[3.0, 4.0], [0.0, 0.0], [0.0, -2.0], [3e-15, 4e-15]])
    expected = torch.tensor([[0.6, 0.8], [0.0, 0.0], [0.0, -1.0], [0.6, 0.8]])
    torch.testing.assert_close(reduce_features(features, pca=None), expected)


def test_a_component_without_variance_is_zero_not_noise():
    for offset in (0, 5):
        features = gaussian(2000, 10) @ gaussian(10, 40, 1) + offset  # rank 10
        reduced = reduce_features(features, pca=15)
        assert reduced.isfinite().all() and (reduced[:, 10:] == 0).all()
        torch.testing.assert_close(reduced[:, :10], reduce_features(features, pca=10))
    for constant in (torch.full((50, 8), 0.1), torch.ones(1, 8)):
        assert (reduce_features(constant, pca=1) == 0).all()


def falling(n: int, d: int, last: float, seed: int = 0) -> torch.Tensor:
    """Features with a mean, whose variances fall from 1 to `last` as those of trained nets: half of the way in six."""
    rotation = torch.linalg.qr(gaussian(d, d, seed + 1).double()).Q
    place = torch.arange(d, dtype=torch.float64)
    spread = last ** (torch.minimum(place / 5, 1 + (place - 5) / (d - 6)) / 4)
    return ((gaussian(n, d, seed).double() * spread) @ rotation + 0.5).float()


def test_components_with_a_hundred_millionth_of_the_variance_are_those_of_the_full_solver():
    features = falling(3000, 400, 1e-8)
    pca = PCA(400, whiten=True, svd_solver="full").fit(features.double().numpy())
    assert pca.explained_variance_[-1] < 2e-8 * pca.explained_variance_[0]
    whitened = pca.transform(features.double().numpy())
    expected = whitened / np.linalg.norm(whitened, axis=1, keepdims=True)
    reduced = reduction(features, pca=400)
    signs = np.sign((expected * reduced.features.numpy()).sum(0))
    np.testing.assert_allclose(reduced.features.numpy() * signs, expected, atol=1e-4)
    error = np.linalg.norm(reduced.features.numpy() * signs - expected) / np.linalg.norm(expected)
    assert error < 1e-4 and reduced.components_alive == 400


def test_components_alive_are_those_that_are_not_zero():
    rank = gaussian(500, 7) @ gaussian(7, 30, 1)
    found = reduction(rank, pca=12)
    assert found.components_alive == 7 and int((found.features != 0).any(0).sum()) == 7
    assert reduction(rank, pca=5).components_alive == 5
    assert reduction(rank, pca=None).components_alive is None
    assert reduction(torch.ones(9, 3), pca=2).components_alive == 0


def test_effective_rank_is_the_exponential_of_the_entropy_of_the_spectrum():
    features = falling(3000, 20, 1e-3)
    shares = np.linalg.eigvalsh(np.cov(features.double().numpy().T))
    shares /= shares.sum()
    expected = np.exp(-(shares * np.log(shares)).sum())
    for pca in (None, 5):
        assert reduction(features, pca=pca).effective_rank == pytest.approx(expected, rel=1e-9)
    assert reduction(gaussian(20_000, 10), pca=None).effective_rank == pytest.approx(10, rel=0.01)
    assert reduction(gaussian(50, 1) @ torch.ones(1, 6), pca=2).effective_rank == pytest.approx(1)
    assert reduction(torch.ones(9, 3), pca=None).effective_rank == 0


@pytest.mark.parametrize("pca", [None, 9])
def test_linear_features_are_reduced_as_the_features_that_they_stand_for(pca):
    rows, weight, bias = gaussian(2500, 40).relu(), gaussian(50, 40, 1), gaussian(1, 50, 2)[0]
    apart = LinearFeatures(rows, weight, bias)
    features = rows @ weight.T + bias
    torch.testing.assert_close(apart.computed(), features)
    found, expected = reduction(apart, pca=pca), reduction(features, pca=pca)
    torch.testing.assert_close(found.features, expected.features, atol=1e-5, rtol=0)
    assert found.components_alive == expected.components_alive
    assert found.effective_rank == pytest.approx(expected.effective_rank, rel=1e-5)
    with pytest.raises(ValueError, match="pca 51 must be between 1 and the 50"):
        cluster_by_kmeans(apart, k=3, seed=0, pca=51)


def test_the_clustering_of_the_paper_is_the_reduction_and_then_kmeans():
    features = decaying(900, 40)
    reduced = reduce_features(features, pca=12)
    expected = kmeans(reduced, k=7, seed=3, init="random", iterations=4, backend="sklearn")
    found = cluster_by_kmeans(features, k=7, seed=3, pca=12, init="random", iterations=4, backend="sklearn")
    assert torch.equal(found.labels, expected.labels) and found.inertia == expected.inertia
    assert torch.equal(found.features, reduced)
    default = cluster_by_kmeans(features, k=7, seed=3)
    assert torch.equal(default.labels, kmeans(reduce_features(features, pca=None), k=7, seed=3).labels)


def test_unusable_features_and_pca_are_refused():
    for bad in (torch.nan, torch.inf, 1e30):
        features = gaussian(20, 4)
        features[7, 2] = bad
        for pca in (None, 2):
            with pytest.raises(ValueError, match="diverge"):
                reduce_features(features, pca=pca)
    for pca, n, d in ((0, 10, 5), (-1, 10, 5), (6, 10, 5), (6, 5, 10), (11, 5, 10)):
        with pytest.raises(ValueError, match=f"pca {pca} .* between 1 and 5"):
            reduce_features(gaussian(n, d), pca=pca)
    for shape in ((5,), (0, 3), (3, 0), (2, 3, 4)):
        with pytest.raises(ValueError, match="matrix"):
            reduce_features(torch.zeros(shape), pca=None)


# ---- k-means: against scikit-learn


@every_backend
@pytest.mark.parametrize("k", [5, 60])
def test_inertia_is_within_one_percent_of_sklearn(backend, k):
    points = reduce_features(digits(), pca=30)
    start = points[torch.randperm(len(points), generator=torch.Generator().manual_seed(k))[:k]]
    theirs = KMeans(k, init=start.numpy(), n_init=1, max_iter=20, tol=0, algorithm="lloyd")
    expected = theirs.fit(points.numpy())
    found = kmeans(points, k=k, seed=0, backend=backend, centroids=start)
    assert found.inertia == pytest.approx(expected.inertia_, rel=0.01)
    assert found.labels.dtype == torch.int64 and found.centroids.dtype == torch.float32
    assert (found.labels.numpy() == expected.labels_).mean() > 0.95


@every_backend
def test_every_point_counts_however_few_the_clusters(backend):
    """faiss's own k-means would look at 256 points a centroid and leave the others out."""
    points = torch.cat([torch.zeros(600, 2), torch.ones(600, 2)]) + gaussian(1200, 2) / 100
    found = kmeans(points, k=2, seed=0, backend=backend, iterations=20)
    expected = torch.stack([points[:600].mean(0), points[600:].mean(0)])
    assert torch.allclose(found.centroids[found.centroids[:, 0].argsort()], expected, atol=1e-6)


def test_plusplus_chooses_what_sklearn_chooses():
    for seed in range(5):
        _, expected = kmeans_plusplus(digits().double().numpy(), 12, random_state=seed)
        assert first_centroids(digits(), k=12, seed=seed, init="k-means++").tolist() == expected.tolist()


def test_plusplus_is_as_good_as_sklearns_where_rounding_decides_between_candidates():
    points = reduce_features(gaussian(3000, 40), pca=None)  # all nearly equally far: candidates nearly tie
    potentials = []
    for seed in range(5):
        ours = first_centroids(points, k=100, seed=seed, init="k-means++")
        theirs, _ = kmeans_plusplus(points.numpy(), 100, random_state=seed)
        starts = points[ours], torch.from_numpy(theirs)
        potentials.append([float(torch.cdist(points, start).amin(1).square().sum()) for start in starts])
    assert np.divide(*np.mean(potentials, 0)) == pytest.approx(1, rel=0.005)


# ---- k-means: the backends agree


@every_init
def test_backends_give_the_same_labels_on_separated_blobs(init):
    points, truth = blobs()
    first, *others = [kmeans(points, k=6, seed=3, init=init, backend=backend) for backend in KMEANS_BACKENDS]
    for clusters in others:
        assert torch.equal(clusters.labels, first.labels) and torch.equal(clusters.centroids, first.centroids)
    if init == "k-means++":
        assert len(set(zip(first.labels.tolist(), truth.tolist()))) == 6


@every_init
def test_backends_start_from_the_same_points(init):
    points = gaussian(300, 8)
    found = [
        kmeans(points, k=20, seed=2**62 + 5, init=init, backend=backend, iterations=0) for backend in KMEANS_BACKENDS
    ]
    assert all(torch.equal(clusters.centroids, found[0].centroids) for clusters in found)
    chosen = torch.cdist(found[0].centroids, points).argmin(1)
    torch.testing.assert_close(found[0].centroids, points[chosen])
    assert len(chosen.unique()) == 20


@every_init
def test_the_start_depends_on_every_bit_of_the_seed(init):
    points = gaussian(300, 8)
    seeds = (1, 2, 1 + 2**32, 1 + 2**62, 2**64 - 1)
    starts = {tuple(first_centroids(points, k=20, seed=seed, init=init).tolist()) for seed in seeds}
    assert len(starts) == 5


# ---- k-means: the loop


@every_backend
def test_lloyd_by_hand(backend):
    points = torch.tensor([[0.0], [1.0], [4.0], [10.0]])
    once = kmeans(points, k=2, seed=0, iterations=1, backend=backend, centroids=torch.tensor([[0.0], [1.0]]))
    # {0} and {1, 4, 10}, so the means 0 and 5; then 1 is nearer to 0.
    torch.testing.assert_close(once.centroids, torch.tensor([[0.0], [5.0]]))
    assert once.labels.tolist() == [0, 0, 1, 1] and once.inertia == pytest.approx(0 + 1 + 1 + 25)
    end = kmeans(points, k=2, seed=0, backend=backend, centroids=torch.tensor([[0.0], [1.0]]))
    # .5 and 7 then stay: 4 is 3.5 from the one and 3 from the other.
    torch.testing.assert_close(end.centroids, torch.tensor([[0.5], [7.0]]))
    assert end.labels.tolist() == [0, 0, 1, 1] and end.iterations == 3
    points = torch.tensor([[-1.0], [0.0], [1.0]])
    tie = kmeans(points, k=2, seed=0, iterations=0, backend=backend, centroids=torch.tensor([[1.0], [-1.0]]))
    assert backend != "torch" or tie.labels.tolist() == [1, 0, 0]  # 0 is as near to both


@every_backend
def test_a_fix_point_ends_the_loop_and_going_on_would_change_nothing(backend):
    points = digits()
    end = kmeans(points, k=10, seed=1, iterations=500, backend=backend)
    assert end.iterations < 500
    fewer = kmeans(points, k=10, seed=1, iterations=end.iterations - 1, backend=backend)
    again = kmeans(points, k=10, seed=1, iterations=3, backend=backend, centroids=end.centroids)
    assert torch.equal(fewer.labels, end.labels) and torch.equal(again.labels, end.labels)


@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 200), d=st.integers(1, 6), seed=st.integers(0, 2**63 - 1), data=st.data())
def test_inertia_never_rises_and_labels_belong_to_the_centroids(n, d, seed, data):
    k = data.draw(st.integers(1, n))
    init = data.draw(st.sampled_from(["k-means++", "random"]))
    decimals = data.draw(st.sampled_from([0, 3]))  # 0: many duplicates
    points = gaussian(n, d, seed % 1000).round(decimals=decimals)
    last = float("inf")
    for iterations in range(5):
        found = kmeans(points, k=k, seed=seed, init=init, iterations=iterations)
        assert found.inertia <= last * (1 + 1e-5) + 1e-6
        last = found.inertia
        squared = (points[:, None] - found.centroids[None]).square().sum(2)
        own = squared.gather(1, found.labels[:, None])[:, 0]
        assert (own <= squared.amin(1) + 1e-4).all()
        assert found.inertia == pytest.approx(float(own.sum()), rel=1e-4, abs=1e-4)


def test_points_far_from_the_origin_are_told_apart():
    points, _ = blobs()
    near = kmeans(points, k=6, seed=0, centroids=points[:6])
    for backend in KMEANS_BACKENDS:
        far = kmeans(points + 1e5, k=6, seed=0, centroids=points[:6] + 1e5, backend=backend)
        assert torch.equal(far.labels, near.labels)
        assert far.inertia == pytest.approx(near.inertia, rel=0.01)


@every_init
def test_one_cluster_per_point(init):
    points = gaussian(100, 3)
    found = kmeans(points, k=100, seed=0, init=init)
    assert len(found.labels.unique()) == 100 and found.inertia == 0 and found.iterations == 1


def test_one_cluster_is_the_mean():
    points = gaussian(1500, 3) + 7
    found = kmeans(points, k=1, seed=0)
    torch.testing.assert_close(found.centroids[0], points.mean(0))
    assert found.inertia == pytest.approx(1500 * float(points.var(0, correction=0).sum()), rel=1e-5)
    same = torch.tensor([[0.1, 0.7, 1e-3]]).repeat(1000, 1) + 3.3
    assert kmeans(same, k=1, seed=0).inertia == 0  # exactly: no rounding in the mean of equal points


def test_both_steps_repeat_bit_for_bit_and_leave_their_input():
    points = gaussian(3000, 16).requires_grad_()
    before = points.detach().clone()
    assert torch.equal(reduce_features(points, pca=9), reduce_features(points, pca=9))
    assert not reduce_features(points, pca=None).requires_grad
    first, second = (kmeans(points, k=40, seed=9) for _ in range(2))
    assert torch.equal(first.labels, second.labels) and torch.equal(first.centroids, second.centroids)
    assert first.inertia == second.inertia and not first.centroids.requires_grad
    assert torch.equal(points.detach(), before)


# ---- k-means: empty clusters


@every_backend
@pytest.mark.parametrize(
    "points, start, centroids, labels",
    [
        # 30 is the farthest from its own centroid
        ([0, 1, 10, 11, 30], [0.5, 1000, 10.5], [0.5, 30, 10.5], [0, 0, 2, 2, 1]),
        # 30 goes to cluster 0; of the other four, all at distance 1, the first goes to cluster 3
        ([0, 2, 10, 12, 30], [1000, 1, 11, 2000], [30, 2, 11, 0], [3, 1, 2, 2, 0]),
        # 90 is the farthest but alone in its cluster, so 3 goes
        ([0, 3, 90], [1, 100, 1000], [0, 90, 3], [0, 2, 1]),
        # 0 goes, which leaves 2 alone in its cluster, and 50 has no distance: cluster 3 keeps its centroid
        ([0, 2, 50, 50], [1, 50, 1000, 2000], [2, 50, 0, 2000], [2, 0, 1, 1]),
    ],
)
def test_empty_clusters_take_the_farthest_points(backend, points, start, centroids, labels):
    points, start = (torch.tensor(x)[:, None].float() for x in (points, start))
    found = kmeans(points, k=len(start), seed=0, iterations=1, backend=backend, centroids=start)
    torch.testing.assert_close(found.centroids[:, 0], torch.tensor(centroids).float())
    assert found.labels.tolist() == labels
    if len(points) == 5:  # scikit-learn would take the only point of a cluster, and breaks ties its own way
        theirs = KMeans(len(start), init=start.numpy(), n_init=1, max_iter=1, tol=0).fit(points.numpy())
        assert theirs.inertia_ == pytest.approx(found.inertia)


@every_backend
@every_init
def test_more_clusters_than_distinct_points_ends_with_empty_ones(backend, init):
    points = torch.tensor([[0.1, 0.7], [0.3, 0.2], [0.9, 1.3]]).repeat(11, 1)
    found = kmeans(points, k=7, seed=4, init=init, iterations=20, backend=backend)
    assert found.inertia == 0 and found.iterations < 20 and len(found.labels.unique()) == 3


# ---- memory, errors, imports


class LargestTensor(TorchDispatchMode):
    """Records the bytes of the largest tensor any operation returns."""

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        several = out if isinstance(out, (tuple, list)) else (out,)
        self.largest = max([self.largest] + [x.nbytes for x in several if isinstance(x, torch.Tensor)])
        return out


@pytest.mark.parametrize("n, k, d", [(12_000, 1500, 4), (6000, 5000, 32)])
@every_init
def test_the_matrix_of_all_distances_never_exists(init, n, k, d):
    with LargestTensor() as watched:
        kmeans(gaussian(n, d), k=k, seed=0, init=init, iterations=2)
    assert watched.largest <= 4 << 20 < 4 * n * k / 5


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"k": 0}, "k 0 is not between 1 and .* 20"),
        ({"k": 21}, "k 21 is not between 1 and .* 20"),
        ({"init": "kmeans"}, r"init 'kmeans' is not one of k-means\+\+, random"),
        ({"backend": "cuml"}, "backend 'cuml' is not one of torch, faiss, sklearn"),
        ({"iterations": -1}, "iterations -1"),
        ({"seed": -1}, "seed -1"),
        ({"seed": 2**64}, "seed"),
        ({"centroids": gaussian(3, 2)}, r"shape \(3, 2\), not \(k, d\) = \(2, 2\)"),
        ({"centroids": torch.full((2, 2), torch.nan)}, "centroids hold NaN"),
        ({"points": torch.zeros(3)}, "matrix"),
        ({"points": torch.full((20, 2), torch.nan)}, "NaN or infinite"),
        ({"points": torch.full((20, 2), torch.inf), "backend": "faiss"}, "NaN or infinite"),
    ],
)
def test_wrong_arguments_are_named_with_what_is_allowed(wrong, words):
    with pytest.raises(ValueError, match=words):
        kmeans(**{"points": gaussian(20, 2), "k": 2, "seed": 0, **wrong})


def test_missing_faiss_names_the_extra_and_the_way_round_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ValueError, match=r'pip install "dc-hpc\[cpu\]", or use the backend torch'):
        kmeans(gaussian(20, 2), k=2, seed=0, backend="faiss")
    kmeans(gaussian(20, 2), k=2, seed=0, backend="torch")


def test_the_torch_backend_needs_neither_faiss_nor_sklearn():
    code = """if True:
        import sys, torch
        from dc_hpc.algorithm.clustering import kmeans, reduce_features
        kmeans(reduce_features(torch.rand(50, 4), pca=2), k=3, seed=0)
        assert not {"faiss", "sklearn"} & set(sys.modules), "imported without need"
    """
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("shape", [(), (4,)])
def test_sums_in_parts_are_the_sums(shape):
    """How a GPU computes them. The numbers are whole, so that only the order of a sum may differ."""
    labels = torch.randint(0, 3, (1000,), generator=torch.Generator().manual_seed(0))
    values = torch.arange(1000).view(-1, *[1] * len(shape)).expand(-1, *shape)
    begun = torch.ones(5, *shape, dtype=torch.int64)  # two labels without a value
    expected = begun.clone().index_add_(0, labels, values)
    assert torch.equal(_sums_in_parts(begun, labels, values), expected)


def test_of_several_starts_the_one_with_the_least_inertia_counts():
    points = torch.from_numpy(np.random.default_rng(4).normal(size=(300, 5)).astype(np.float32))
    options = dict(k=12, init="random", iterations=3)
    single = cluster_by_kmeans(points, seed=7, **options)
    assert cluster_by_kmeans(points, seed=7, n_init=1, **options).inertia == single.inertia
    several = [cluster_by_kmeans(points, seed=7, n_init=starts, **options).inertia for starts in (1, 2, 5, 20)]
    assert several == sorted(several, reverse=True) and several[-1] < single.inertia
    seeds = [7, *(key(7, start, "kmeans") for start in (1, 2, 3, 4))]
    assert several[2] == min(cluster_by_kmeans(points, seed=seed, **options).inertia for seed in seeds)
    with pytest.raises(ValueError, match="n_init 0 must be 1 or more"):
        cluster_by_kmeans(points, seed=7, n_init=0, **options)
