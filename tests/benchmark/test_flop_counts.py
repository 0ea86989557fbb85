"""The operation counts of the benchmark: torch counts the same, and the timed calls do what is counted."""

import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.utils.flop_counter import FlopCounterMode

from dc_hpc.algorithm.clustering import kmeans
from dc_hpc.algorithm.kmeans.lloyd import SmallK
from dc_hpc.algorithm.net_specs import NET_SPECS
from dc_hpc.algorithm.nets import NET_BUILDERS
from dc_hpc.benchmark.constants import NETWORKS
from dc_hpc.benchmark.stages import clustering, flop_counts
from dc_hpc.benchmark.stages.sizes import setting
from dc_hpc.benchmark.timing import InvalidTiming


@pytest.mark.parametrize("network", NETWORKS)
def test_the_flop_of_a_net_are_what_torch_counts(network):
    spec, k, images = NET_SPECS[network], 7, 2
    net = NET_BUILDERS[network](sobel="off" if network == "lenet5" else "fixed")
    head = torch.nn.Linear(spec.features, k)
    batch = torch.rand(images, spec.channels, spec.size, spec.size)
    layers = flop_counts.layers(net, spec.channels, spec.size)
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        net.eval()(batch)
    assert flop_counts.forward_flop(images, layers) == counted.get_total_flops()
    with FlopCounterMode(display=False) as counted:
        cross_entropy(head(net.train()(batch)), torch.zeros(images, dtype=torch.int64)).backward()
    assert flop_counts.training_flop(images, layers, features=spec.features, k=k) == counted.get_total_flops()


@pytest.fixture
def by_torch(monkeypatch):
    """k-means by torch's products, which its counter sees, also for few clusters."""
    monkeypatch.setattr(SmallK, "serves", staticmethod(lambda points, k: False))


def test_the_flop_of_a_clustering_are_what_torch_counts(by_torch):
    """torch counts GEMMs only, which are nearly all; it does not count the additions of the update."""
    points = torch.rand(512, 16)
    with FlopCounterMode(display=False) as counted:
        done = kmeans(points, k=8, seed=1, iterations=3, centroids=points[:8]).iterations
    assert flop_counts.kmeans_flop(512, 16, 8, done) - done * 512 * 16 == counted.get_total_flops()


@pytest.mark.parametrize("network", ["lenet5", "alexnet_small"])
@pytest.mark.parametrize("build", [clustering.kmeans_init, clustering.kmeans_torch])
def test_the_timed_clustering_does_as_many_flop_as_are_counted(network, build, by_torch):
    """The calls of the benchmark at its default size; k-means on data that converge early would do less."""
    stage = build(setting(network, "default"), "cpu")
    with FlopCounterMode(display=False) as counted:
        stage.ours()
    assert counted.get_total_flops() == pytest.approx(stage.count, rel=0.1)


def test_points_that_converge_early_are_refused():
    points = torch.randn(200, 64, generator=torch.Generator().manual_seed(1))
    with pytest.raises(InvalidTiming, match="converges within 5 iterations"):
        clustering.check_still_moving(points, points[:100], 5)


def test_the_flop_of_a_probe_by_hand():
    layers = flop_counts.layers(NET_BUILDERS["lenet5"](), 1, 32, until="conv2")
    assert [layer.name for layer in layers] == ["conv1", "conv2"]
    trunk = 28 * 28 * 6 * 25 + 10 * 10 * 16 * 6 * 25
    found = flop_counts.probe_flop(layers, train=3, test=2, values=1600, classes=10, epochs=4)
    assert found == 2 * 5 * trunk + 4 * 1600 * 10 * (3 * 4 + 2 * 2)
