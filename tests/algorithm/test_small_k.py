"""Lloyd's iterations for few clusters in one compiled loop, against the general way."""

from __future__ import annotations

import pytest
import torch

from dc_hpc.algorithm.backends import kernels
from dc_hpc.algorithm.kmeans.assignment import assign_by_scores
from dc_hpc.algorithm.kmeans.lloyd import kmeans
from dc_hpc.algorithm.kmeans.small_k import LARGEST_K, SmallK

needs_numba = pytest.mark.skipif(not kernels.available(), reason="numba is not installed")


def drawn(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


@needs_numba
@pytest.mark.parametrize("n", [1, 63, 64, 65, 200])
@pytest.mark.parametrize("d", [1, 4, 7, 85])
@pytest.mark.parametrize("k", [1, 2, 5, 30])
def test_labels_and_sums_of_one_pass_after_another(n, d, k):
    """Odd sizes, and a batch that does not fill its last block; the sums follow the points that change."""
    points = drawn(n, d)
    small, general = SmallK(points, k), assign_by_scores(points)
    for step in range(4):
        centroids = drawn(k, d, 10 + step)
        labels = small(centroids)
        assert torch.equal(labels, general(centroids))
        assert torch.equal(small.sizes, torch.bincount(labels, minlength=k))
        sums = torch.zeros(k, d, dtype=torch.float64).index_add_(0, labels, points.double())
        torch.testing.assert_close(small.sums, sums, atol=1e-12, rtol=1e-12)
        assert (small.sums[small.sizes == 0] == 0).all()


@needs_numba
def test_of_equally_near_centroids_the_first_wins():
    points = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    assert SmallK(points, 3)(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])).tolist() == [0, 0]


@pytest.mark.parametrize("k", [5, LARGEST_K])
def test_whole_runs_agree_with_the_general_way(k, monkeypatch):
    points = drawn(3000, 20) + 5 * drawn(k, 20, 1)[torch.arange(3000) % k]
    found = kmeans(points, k=k, seed=1)
    monkeypatch.setattr(kernels, "available", lambda: False)
    expected = kmeans(points, k=k, seed=1)
    assert torch.equal(found.labels, expected.labels) and found.iterations == expected.iterations
    torch.testing.assert_close(found.centroids, expected.centroids)
    assert found.inertia == pytest.approx(expected.inertia, rel=1e-6)


def test_many_clusters_and_other_devices_go_the_general_way():
    points = drawn(100, 3)
    assert not SmallK.serves(points, LARGEST_K + 1) and not SmallK.serves(points.to("meta"), 5)
    assert SmallK.serves(points, LARGEST_K) == kernels.available()
