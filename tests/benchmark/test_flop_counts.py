"""The operation counts of the benchmark: torch counts the same, and the timed calls do what is counted."""

import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.utils.flop_counter import FlopCounterMode

from dc_hpc.algorithm.clustering import kmeans
from dc_hpc.algorithm.kmeans import int8
from dc_hpc.benchmark.constants import NETWORKS
from dc_hpc.benchmark.stages import clustering, flop_counts
from dc_hpc.benchmark.stages.sizes import setting
from dc_hpc.config.run_config import NET_SPECS


@pytest.mark.parametrize("network", NETWORKS)
def test_the_work_of_a_net_is_what_torch_counts(network):
    facts, k, images = NET_SPECS[network], 7, 2
    net, head = plain_net(network), torch.nn.Linear(facts.features, k)
    batch = torch.rand(images, facts.channels, facts.size, facts.size)
    layers = flop_counts.layers(net, facts.channels, facts.size)
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        net.eval()(batch)
    assert flop_counts.forward_flop(images, layers) == counted.get_total_flops()
    with FlopCounterMode(display=False) as counted:
        cross_entropy(head(net.train()(batch)), torch.zeros(images, dtype=torch.int64)).backward()
    assert flop_counts.training_flop(images, layers, features=facts.features, k=k) == counted.get_total_flops()


def test_the_work_of_a_clustering_is_what_torch_counts():
    """GEMMs only, which is nearly all of it; the update's additions are counted by us alone."""
    points = torch.rand(512, 16)
    with FlopCounterMode(display=False) as counted:
        done = kmeans(points, k=8, seed=1, iterations=3, centroids=points[:8]).iterations
    assert flop_counts.kmeans_flop(512, 16, 8, done) - done * 512 * 16 == counted.get_total_flops()


@pytest.mark.parametrize("network", ["lenet5", "alexnet_small"])
@pytest.mark.parametrize("build", [clustering.kmeans_init, clustering.kmeans_torch])
def test_the_clustering_that_is_timed_does_the_work_that_is_counted(network, build, monkeypatch):
    """The very calls of the benchmark, at its default size: data that settle early would do less.

    Without the short cut through int8, whose products are exact replacements that torch does not count.
    """
    monkeypatch.setattr(int8, "rounded", lambda points: None)
    stage = build(setting(network, "default"), "cpu")
    with FlopCounterMode(display=False) as counted:
        stage.ours()
    assert counted.get_total_flops() == pytest.approx(stage.work, rel=0.1)


def test_points_that_settle_early_are_refused():
    points = torch.randn(200, 64, generator=torch.Generator().manual_seed(1))
    with pytest.raises(Invalid, match="settles within 5 iterations"):
        clustering.check_still_moving(points, points[:100], 5)


def test_the_work_of_a_probe_by_hand():
    layers = flop_counts.layers(plain_net("lenet5"), 1, 32, until="conv2")
    assert [layer.name for layer in layers] == ["conv1", "conv2"]
    trunk = 28 * 28 * 6 * 25 + 10 * 10 * 16 * 6 * 25
    found = flop_counts.probe_flop(layers, train=3, test=2, values=1600, classes=10, epochs=4)
    assert found == 2 * 5 * trunk + 4 * 1600 * 10 * (3 * 4 + 2 * 2)
