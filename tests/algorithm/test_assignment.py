"""The nearest centroid against scikit-learn, k-means without its short cut, and each step on a GPU against the CPU."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import pairwise_distances_argmin

from dc_hpc.algorithm.agreement import agreement
from dc_hpc.algorithm.clustering import reduce_features
from dc_hpc.algorithm.kmeans import lloyd
from dc_hpc.algorithm.kmeans.assignment import assign_by_scores, squared_distances
from dc_hpc.algorithm.kmeans.init import INITS, first_centroids
from dc_hpc.algorithm.kmeans.lloyd import kmeans


def gaussian(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def unit(n: int, d: int, seed: int = 0, centres: int = 0) -> torch.Tensor:
    """Rows of norm one, as k-means gets them; around some centres, or all over."""
    points = gaussian(n, d, seed)
    if centres:
        points += 2 * gaussian(centres, d, seed + 1)[torch.arange(n) % centres]
    return reduce_features(points, pca=None)


# ---- the nearest centroid


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(128, 900),
    k=st.integers(1, 400),
    d=st.integers(2, 90),
    seed=st.integers(0, 99),
    centres=st.sampled_from([0, 20]),
    tail=st.sampled_from([1.0, 50.0]),
)
def test_labels_are_sklearns_and_the_first_of_equal_centroids_wins(n, k, d, seed, centres, tail):
    points = unit(n, d, seed, centres)
    points[::7] *= tail
    centroids = points[torch.randint(n, (k,), generator=torch.Generator().manual_seed(seed))]  # some of them twice
    assign = assign_by_scores(points)
    for distance in (0, 1e-7, 0.03):
        moved = centroids + distance * gaussian(k, d, seed + 2)
        labels, nearest = assign(moved), pairwise_distances_argmin(points.double(), moved.double())
        exact = torch.cdist(points.double(), moved.double())
        found, expected = exact.gather(1, labels[:, None]), exact.gather(1, torch.from_numpy(nearest)[:, None])
        assert (found - expected).max() <= 3e-3 * tail  # the square root of float32's rounding
    first = {}
    for place, centroid in enumerate(map(tuple, centroids.tolist())):
        first.setdefault(centroid, place)
    assert set(assign(centroids).tolist()) <= set(first.values())


def test_squared_distances_are_those_to_the_own_centroid():
    points, centroids, labels = gaussian(3000, 5), gaussian(9, 5, 1), torch.arange(3000) % 9
    expected = (points - centroids[labels]).square().sum(1)
    torch.testing.assert_close(squared_distances(points, labels, centroids), expected)
    assert (squared_distances(centroids, torch.arange(9), centroids) == 0).all()


# ---- the whole


@pytest.mark.parametrize("k, start", [(20, None), (200, None), (300, 40)])
def test_updating_only_the_clusters_that_changed_changes_nothing(monkeypatch, k, start):
    points = unit(3000, 48, centres=60)
    centroids = None if start is None else points[torch.arange(k) % start]  # 260 clusters begin empty
    short = kmeans(points, k=k, seed=1, centroids=centroids)
    monkeypatch.setattr(lloyd, "_rows_of_changed", lambda *_: None)
    long = kmeans(points, k=k, seed=1, centroids=centroids)
    assert torch.equal(short.labels, long.labels) and torch.equal(short.centroids, long.centroids)
    assert (short.inertia, short.iterations) == (long.inertia, long.iterations)


# ---- on a GPU, stage by stage


def deterministic_on_gpu(function):
    """The result of `function` on CUDA, twice, under the flag that runs are under; the same bits both times."""
    torch.use_deterministic_algorithms(True)
    try:
        first, second = function(), function()
    finally:
        torch.use_deterministic_algorithms(False)
    assert torch.equal(first, second)
    return first.cpu()


def cuda_points(n: int = 6000, d: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    points = unit(n, d, centres=150)
    points -= points.mean(0)
    return points, points.cuda()


@pytest.mark.gpu
def test_reduction_on_a_gpu():
    features = gaussian(5000, 100) * torch.linspace(1, 9, 100)
    found = deterministic_on_gpu(lambda: reduce_features(features.cuda(), pca=20))
    torch.testing.assert_close(found, reduce_features(features, pca=20), atol=1e-3, rtol=0)


@pytest.mark.gpu
def test_first_centroids_on_a_gpu():
    points, there = cuda_points()
    for chosen in INITS:
        found = deterministic_on_gpu(lambda: first_centroids(there, k=30, seed=3, init=chosen))  # noqa: B023
        assert torch.equal(found, first_centroids(points, k=30, seed=3, init=chosen))


@pytest.mark.gpu
def test_assignment_and_update_on_a_gpu():
    points, there = cuda_points()
    centroids = points[:200]
    labels = assign_by_scores(points)(centroids)
    assign = assign_by_scores(there)
    found = deterministic_on_gpu(lambda: assign(centroids.cuda()))
    assert (found == labels).float().mean() > 0.999  # a near tie may fall the other way
    _, means, still = lloyd._update(points, labels, centroids, None)
    moved = deterministic_on_gpu(lambda: lloyd._update(there, labels.cuda(), centroids.cuda(), None)[1])
    torch.testing.assert_close(moved, means, rtol=1e-6, atol=1e-7)
    whole = deterministic_on_gpu(lambda: kmeans(there, k=200, seed=2).labels)
    assert agreement(whole, kmeans(points, k=200, seed=2).labels).nmi > 0.9


@pytest.mark.gpu
def test_a_gpu_does_not_wait_for_the_host():
    _, there = cuda_points()
    assign, centroids = assign_by_scores(there), there[:200].clone()
    labels = assign(centroids)
    torch.cuda.set_sync_debug_mode("error")
    try:
        again = assign(centroids)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(again, labels)
