"""The short cuts of k-means give what the long way gives, on the CPU and, stage by stage, on a GPU."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import pairwise_distances_argmin

from dc_hpc.algorithm import clustering
from dc_hpc.algorithm.agreement import nmi, nmi_on_device
from dc_hpc.algorithm.clustering import kmeans, reduce_features
from dc_hpc.algorithm.kmeans import assignment, init, int8
from dc_hpc.algorithm.kmeans.assignment import assign_by_scores, squared_distances
from dc_hpc.algorithm.kmeans.init import first_centroids

fast_int8 = pytest.mark.skipif(not int8._multiplies_int8(torch.ones(1, 64)), reason="no fast int8 products here")


def gaussian(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def unit(n: int, d: int, seed: int = 0, centres: int = 0) -> torch.Tensor:
    """Rows of norm one, as k-means gets them; around some centres, or all over."""
    points = gaussian(n, d, seed)
    if centres:
        points += 2 * gaussian(centres, d, seed + 1)[torch.arange(n) % centres]
    return reduce_features(points, pca=None)


def long_way(monkeypatch) -> None:
    monkeypatch.setattr(int8, "rounded", lambda points: None)
    monkeypatch.setattr(clustering, "_rows_of_changed", lambda *_: None)


# ---- products of int8


@fast_int8
@pytest.mark.parametrize("d", [32, 33, 63, 64, 100, 255, 256, 1024, 3000])
@pytest.mark.parametrize("n, m", [(1, 5), (8, 777), (262, 1000)])
def test_int8_products_are_exact(n, m, d):
    generator = torch.Generator().manual_seed(d)
    a, b = (torch.randint(-127, 128, (rows, d), generator=generator).to(torch.int8) for rows in (n, m))
    a[0], b[0], b[1] = 127, 127, -127  # where int16 sums would saturate
    assert torch.equal(int8.products(a, b), a.int() @ b.int().T)
    assert torch.equal(int8.products(a, b, torch.empty(n, m, dtype=torch.int32)), a.int() @ b.int().T)


@fast_int8
def test_rounding_says_how_far_it_is_off_also_where_it_clips():
    points = gaussian(3000, 40)
    points[7] *= 1000
    found = int8.rounded(points)
    off = (points.double() - found.step * found.q.double()).norm(dim=1)
    torch.testing.assert_close(found.errors.double(), off, rtol=1e-4, atol=1e-6)
    assert off[7] > 1000 * off[8] and (found.q[7].abs() == 127).any()


def test_what_int8_cannot_serve_is_left_to_float32():
    for points in (torch.zeros(10, 64), gaussian(10, 8), gaussian(2, int8.LONGEST_ROW + 1), gaussian(10, 64) * 1e-20):
        assert int8.rounded(points) is None


# ---- the nearest centroid


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(128, 900),
    k=st.integers(128, 400),
    d=st.integers(32, 90),
    seed=st.integers(0, 99),
    centres=st.sampled_from([0, 20]),
    tail=st.sampled_from([1.0, 50.0]),
)
def test_labels_are_those_of_the_float32_scores(n, k, d, seed, centres, tail):
    points = unit(n, d, seed, centres)
    points[::7] *= tail
    centroids = points[torch.randint(n, (k,), generator=torch.Generator().manual_seed(seed))]  # some of them twice
    assign = assign_by_scores(points)
    for shift in (0, 1e-7, 0.03):
        moved = centroids + shift * gaussian(k, d, seed + 2)
        assert torch.equal(assign(moved), assignment._labels(points, moved))


@fast_int8
def test_int8_settles_most_points_and_sklearn_agrees(monkeypatch):
    points, left, all_scores = unit(4000, 64, centres=150), [], assignment._labels
    monkeypatch.setattr(assignment, "_labels", lambda p, c, rows: left.append(len(rows)) or all_scores(p, c, rows))
    centroids = torch.stack([points[i::150].mean(0) for i in range(150)])
    labels = assign_by_scores(points)(centroids)
    assert 0.02 * 4000 <= left[0] < 0.3 * 4000
    assert (labels.numpy() == pairwise_distances_argmin(points.double(), centroids.double())).all()


def test_squared_distances_of_all_and_of_some():
    points, centroids, labels = gaussian(3000, 5), gaussian(9, 5, 1), torch.arange(3000) % 9
    expected = (points - centroids[labels]).square().sum(1)
    rows = torch.tensor([2999, 4, 1500])
    torch.testing.assert_close(squared_distances(points, labels, centroids), expected)
    torch.testing.assert_close(squared_distances(points, labels, centroids, rows), expected[rows])


# ---- the first centroids, and the whole


@pytest.mark.parametrize("centres", [0, 50])
def test_the_sieve_changes_no_draw_and_no_choice(monkeypatch, centres):
    points = unit(5000, 48, centres=centres)
    points -= points.mean(0)
    points[::11] = points[0]  # duplicates, at distance 0 once one of them is chosen
    with_sieve = first_centroids(points, k=300, seed=5, init="k-means++")
    long_way(monkeypatch)
    assert torch.equal(first_centroids(points, k=300, seed=5, init="k-means++"), with_sieve)


@fast_int8
def test_the_sieve_lets_few_points_through(monkeypatch):
    points, passed, make = unit(5000, 64, centres=50), [], init._reach

    def counting(*arguments):
        reach = make(*arguments)
        return lambda *now: passed.append(reach(*now)) or passed[-1]

    monkeypatch.setattr(init, "_reach", counting)
    first_centroids(points, k=300, seed=5, init="k-means++")
    assert len(passed) == 300 - init.FIRST_SIEVED and sum(map(len, passed)) < 0.3 * 5000 * len(passed)


@pytest.mark.parametrize("k, start", [(20, None), (200, None), (300, 40)])
def test_kmeans_is_the_same_without_any_short_cut(monkeypatch, k, start):
    points = unit(3000, 48, centres=60)
    centroids = None if start is None else points[torch.arange(k) % start]  # 260 clusters begin empty
    short = kmeans(points, k=k, seed=1, centroids=centroids)
    long_way(monkeypatch)
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
    for chosen in init.INITS:
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
    _, means, still = clustering._update(points, labels, centroids, None)
    moved = deterministic_on_gpu(lambda: clustering._update(there, labels.cuda(), centroids.cuda(), None)[1])
    torch.testing.assert_close(moved, means, rtol=1e-6, atol=1e-7)
    whole = deterministic_on_gpu(lambda: kmeans(there, k=200, seed=2).labels)
    assert nmi(whole, kmeans(points, k=200, seed=2).labels) > 0.9


@pytest.mark.gpu
def test_a_gpu_does_not_wait_for_the_host():
    _, there = cuda_points()
    assign, centroids = assign_by_scores(there), there[:200].clone()
    labels = assign(centroids)
    torch.cuda.set_sync_debug_mode("error")
    try:
        agreed = nmi_on_device(assign(centroids), labels)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert float(agreed) == pytest.approx(1, abs=1e-12)
