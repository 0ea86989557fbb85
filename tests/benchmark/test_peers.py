"""The peers of the benchmark compute what ours computes."""

import numpy as np
import pytest
import torch

from dc_hpc.algorithm.agreement import agreement
from dc_hpc.algorithm.clustering import kmeans, reduce_features
from dc_hpc.algorithm.views import ImageViews, Views
from dc_hpc.benchmark.constants import NETWORKS
from dc_hpc.benchmark.stages import clustering, peers


@pytest.mark.parametrize("network", NETWORKS)
def test_the_plain_net_is_our_net(network):
    facts = NET_SPECS[network]
    trunk = NET_BUILDERS[network](batch_norm=True)
    init_state(trunk, seed=3, lr=0.1, momentum=0.1, weight_decay=0.0)
    plain = plain_net(network)
    plain.load_state_dict(trunk.state_dict())
    assert [type(layer).__module__.split(".")[0] for layer in plain.modules()] == ["torch"] * len([*plain.modules()])
    batch = torch.rand(2, facts.channels, facts.size, facts.size)
    with torch.no_grad():
        torch.testing.assert_close(plain.eval()(batch), trunk.eval()(batch), rtol=1e-3, atol=1e-5)


def test_pil_shows_what_our_views_show():
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (20, 3, 32, 32), dtype=np.uint8))
    views = Views(45, 32, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
    theirs = torch.stack([peers.pil_images(images, views, mirror=False)[index] for index in range(20)])
    torch.testing.assert_close(ImageViews(images, views).clustering(slice(None)), theirs)


@pytest.mark.parametrize("peer", [peers.sklearn_pca, peers.faiss_pca])
def test_the_pcas_are_ours_up_to_signs(peer):
    features = clustering._features(2_000, 24)
    ours = reduce_features(torch.from_numpy(features), pca=6).numpy()
    np.testing.assert_allclose(np.abs(peer(features, 6)), np.abs(ours), atol=2e-3)


@pytest.mark.parametrize("peer", [peers.sklearn_kmeans, peers.faiss_kmeans])
def test_the_kmeans_give_our_labels(peer):
    points = clustering._unit_points(2_000, 8)
    ours = kmeans(torch.from_numpy(points), k=12, seed=1, iterations=4, centroids=torch.from_numpy(points[:12]))
    assert ours.iterations == 4  # not converged: the same number of steps was done
    np.testing.assert_array_equal(peer(points, points[:12], 4), ours.labels.numpy())


def test_the_first_centroids_are_scikit_learns():
    points = clustering._unit_points(2_000, 8)
    ours = kmeans(torch.from_numpy(points), k=12, seed=5, iterations=0).centroids.numpy()
    np.testing.assert_allclose(peers.sklearn_plusplus(points, 12, 5), ours, atol=1e-5)


def test_the_agreements_are_scikit_learns():
    a, b = clustering.labellings(3_000, 40)
    ours = agreement(a, b)
    assert peers.sklearn_agreement(a, b) == pytest.approx((ours.nmi, ours.ami), abs=1e-9)
