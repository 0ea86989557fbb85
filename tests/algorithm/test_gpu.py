"""Every stage of a run on a CUDA device against the same stage on the CPU; and a run as a whole, twice, bit by bit.

pytest -m gpu
"""

import copy

import numpy as np
import pytest
import torch
from support.small_runs import new_run, results

from dc_hpc.algorithm import (
    alexnet_small,
    deep_cluster,
    deepcluster,
    extract_features,
    init_state,
    lenet5,
    linear_probe,
)
from dc_hpc.algorithm.backends import cpu, training
from dc_hpc.algorithm.backends.determinism import exact
from dc_hpc.algorithm.kmeans.lloyd import kmeans
from dc_hpc.algorithm.nets import initialise
from dc_hpc.algorithm.probe import activations
from dc_hpc.algorithm.schedule import Schedule
from dc_hpc.algorithm.state import state_tensors
from dc_hpc.algorithm.views import TRAINING_VIEWS, ImageViews, Views
from dc_hpc.experiment.execution import Execution
from dc_hpc.experiment.run import run

pytestmark = pytest.mark.gpu

COLOUR = {"mean": (0.4, 0.45, 0.5), "std": (0.2, 0.21, 0.22)}


@pytest.fixture(autouse=True)
def as_in_a_run():
    with exact():
        yield


def images(n: int, channels: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (n, channels, 32, 32), dtype=np.uint8))


def both(net: str) -> list[tuple[torch.nn.Sequential, ImageViews]]:
    """The same fresh trunk and images on the CPU and on the GPU."""
    trunk, channels = (lenet5(), 1) if net == "lenet5" else (alexnet_small(sobel="random"), 3)
    initialise(trunk, seed=3)
    views = Views(44, 32, COLOUR["mean"][:channels], COLOUR["std"][:channels], training="box_per_batch")
    return [
        (copy.deepcopy(trunk).to(device), ImageViews(images(700, channels).to(device), views))
        for device in ("cpu", "cuda")
    ]


@pytest.mark.parametrize("training", TRAINING_VIEWS)
def test_views(training):
    views = Views(45, 32, **COLOUR, training=training)
    here, there = (ImageViews(images(40, 3).to(device), views) for device in ("cpu", "cuda"))
    assert torch.equal(there.clustering(slice(0, 40)).cpu(), here.clustering(slice(0, 40)))
    rows = torch.arange(9)
    a, b = (one.training(rows.to(one.images.device), np.random.default_rng(1)) for one in (here, there))
    torch.testing.assert_close(b.cpu(), a, atol=1e-4, rtol=0)


@pytest.mark.parametrize("net", ["lenet5", "alexnet_small"])
def test_features_and_activations(net):
    (trunk, shown), (other, there) = both(net)
    found = extract_features(other, there).cpu()
    torch.testing.assert_close(found, extract_features(trunk, shown), rtol=1e-3, atol=1e-5)
    layer = {"lenet5": "conv2", "alexnet_small": "relu5"}[net]
    a, b = (activations(*one, [layer])[layer].cpu() for one in ((trunk, shown), (other, there)))
    torch.testing.assert_close(b, a, rtol=1e-3, atol=1e-4)


def trained(trunk, shown, *, momentum, epochs):
    """The State after a training phase on given pseudo-labels."""
    state = init_state(trunk, seed=3, lr=0.05, momentum=momentum, weight_decay=1e-3)
    state.pseudo_labels, state.phase = torch.arange(700, device=shown.device) % 5, "clustered"
    next(deep_cluster(state, shown, k=5, seed=3, schedule=Schedule(1, epochs_per_cycle=epochs), batch_size=128))
    return state_tensors(state)


@pytest.mark.parametrize("replay", [False, True])
def test_an_epoch_of_training(replay, monkeypatch):
    """Of LeNet-5, which has no dropout, whose draws differ between devices."""
    if not replay:
        monkeypatch.setattr(deepcluster, "training_step", training.plain_step)
    here, there = (trained(*one, momentum=0.1, epochs=1) for one in both("lenet5"))
    for name in here:
        torch.testing.assert_close(there[name], here[name], rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("net", ["lenet5", "alexnet_small"])
def test_a_replayed_epoch_is_the_same_to_the_bit(net, monkeypatch):
    """Two epochs with a smaller last batch, dropout included: its draws go on where they would have."""
    replayed = trained(*both(net)[1], momentum=0.9, epochs=2)
    monkeypatch.setattr(deepcluster, "training_step", training.plain_step)
    plain = trained(*both(net)[1], momentum=0.9, epochs=2)
    assert all(torch.equal(plain[name], replayed[name]) for name in plain)


def test_the_probe():
    rng = torch.Generator().manual_seed(0)
    labels = torch.arange(2000) % 10
    values = torch.randn(2000, 64, generator=rng) + 3 * torch.nn.functional.one_hot(labels, 64)
    found = []
    for device in ("cpu", "cuda"):
        rows, truth = values.to(device), labels.to(device)
        found.append(linear_probe(rows, truth, rows, truth, classes=10, seed=1, epochs=3))
    assert found[1].accuracy == pytest.approx(found[0].accuracy, abs=0.5)
    assert found[1].loss == pytest.approx(found[0].loss, rel=1e-3)


@pytest.mark.parametrize("k", [5, 300])
def test_kmeans(k):
    """Of groups that lie apart: rounding moves no point from one to another."""
    rng = torch.Generator().manual_seed(0)
    points = 100 * torch.randn(k, 32, generator=rng)[torch.arange(6000) % k] + torch.randn(6000, 32, generator=rng)
    here = kmeans(points, k=k, seed=1)
    there, again = (kmeans(points.cuda(), k=k, seed=1) for _ in range(2))
    assert torch.equal(there.labels.cpu(), here.labels) and torch.equal(there.centroids, again.centroids)
    torch.testing.assert_close(there.centroids.cpu(), here.centroids, rtol=1e-4, atol=1e-4)


def test_faiss_on_a_gpu():
    pytest.importorskip("faiss")
    points = torch.randn(3000, 32, generator=torch.Generator().manual_seed(0))
    start = points[:40].clone()
    faiss = kmeans(points.cuda(), k=40, centroids=start, seed=0, backend="faiss")
    plain = kmeans(points.cuda(), k=40, centroids=start, seed=0, backend="torch")
    assert (faiss.labels == plain.labels).float().mean() > 0.99


def test_a_run_gives_the_same_bits_twice_and_resumes(tmp_path, digits_root):
    execution = Execution(str(digits_root), "cuda", save_seconds=0.0)
    whole, stopped = (new_run(tmp_path / name, digits_root) for name in ("whole", "stopped"))
    assert run(whole, execution) == "done"
    phases = iter([False, False, False, True])
    assert run(stopped, execution, stop=lambda: next(phases)) == "stopped"
    assert run(stopped, execution) == "done"
    assert results(whole) == results(stopped)


def test_torch_computes_the_nets_on_a_gpu():
    assert cpu.kernels_of(lenet5().cuda()) == "torch"
