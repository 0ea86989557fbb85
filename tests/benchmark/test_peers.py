"""The peers of the benchmark compute what ours computes."""

import numpy as np
import pytest
import torch

from dc_hpc.algorithm.agreement import agreement
from dc_hpc.algorithm.clustering import reduce_features
from dc_hpc.algorithm.deepcluster import extract_features
from dc_hpc.algorithm.kmeans.lloyd import kmeans
from dc_hpc.algorithm.views import ImageViews, Views
from dc_hpc.benchmark.constants import NETWORKS
from dc_hpc.benchmark.stages import clustering, peers
from dc_hpc.benchmark.stages.images import NetworkFixture
from dc_hpc.benchmark.stages.sizes import setting


@pytest.mark.parametrize("network", NETWORKS)
def test_the_eager_net_is_our_net_computed_by_torch_alone(network):
    fixture = NetworkFixture(setting(network, "quick"), "cpu")
    layers = [layer for layer in fixture.eager.modules() if not list(layer.children())]
    assert {type(layer).__module__.split(".")[0] for layer in layers} == {"torch"}
    ours = extract_features(fixture.state.trunk, fixture.images)
    torch.testing.assert_close(peers.eager_features(fixture.eager, fixture.images), ours, rtol=1e-3, atol=1e-5)


def test_a_reset_gives_both_nets_their_first_filters():
    fixture = NetworkFixture(setting("lenet5", "quick"), "cpu")
    first = fixture.eager.fc2.weight.clone()
    with torch.no_grad():
        for net in (fixture.eager, fixture.state.trunk):
            net.fc2.weight.add_(1)
    fixture.reset()
    for net in (fixture.eager, fixture.state.trunk):
        torch.testing.assert_close(net.fc2.weight, first, rtol=0, atol=0)
    assert fixture.eager.fc2.weight is not fixture.state.trunk.fc2.weight


def test_pil_makes_the_same_views():
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (20, 3, 32, 32), dtype=np.uint8))
    views = Views(45, 32, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
    theirs = torch.stack([peers.pil_images(images, views, mirror=False)[index] for index in range(20)])
    torch.testing.assert_close(ImageViews(images, views).clustering(slice(None)), theirs)


@pytest.mark.parametrize("peer", [peers.sklearn_pca, peers.faiss_pca])
def test_the_peers_pca_is_ours_up_to_signs(peer):
    features = clustering._features(2_000, 24)
    ours = reduce_features(torch.from_numpy(features), pca=6).numpy()
    np.testing.assert_allclose(np.abs(peer(features, 6)), np.abs(ours), atol=2e-3)


@pytest.mark.parametrize("peer", [peers.sklearn_kmeans, peers.faiss_kmeans])
def test_the_peers_kmeans_gives_our_labels(peer):
    points = clustering._unit_points(2_000, 8)
    ours = kmeans(torch.from_numpy(points), k=12, seed=1, iterations=4, centroids=torch.from_numpy(points[:12]))
    assert ours.iterations == 4  # not converged: the peers do the same number of iterations
    np.testing.assert_array_equal(peer(points, points[:12], 4), ours.labels.numpy())


def test_the_initial_centroids_are_those_of_scikit_learn():
    points = clustering._unit_points(2_000, 8)
    ours = kmeans(torch.from_numpy(points), k=12, seed=5, iterations=0).centroids.numpy()
    np.testing.assert_allclose(peers.sklearn_plusplus(points, 12, 5), ours, atol=1e-5)


def test_the_agreements_are_those_of_scikit_learn():
    a, b = clustering.labellings(3_000, 40)
    ours = agreement(a, b)
    assert peers.sklearn_agreement(a, b) == pytest.approx((ours.nmi, ours.ami), abs=1e-9)
