"""Replayed steps of training: what is copied, recorded and returned. What a GPU does with them: test_gpu.py."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from dc_hpc.algorithm.backends import cuda_graph
from dc_hpc.algorithm.backends.sgd import SGD


@pytest.fixture
def recordings(monkeypatch) -> list[int]:
    """A recorder with the rules of a CUDA graph and no GPU: recording computes nothing, a replay reads the held
    tensors and writes where the first result lay. It notes the length of the first tensor of each recording.
    """
    made = []

    def record(function, held: list[Tensor]):
        made.append(len(held[0]))
        result = torch.full((), float("nan"))
        return (lambda: result.copy_(function(*held))), result

    monkeypatch.setattr(cuda_graph, "_record", record)
    monkeypatch.setattr(cuda_graph, "_on_a_side_stream", lambda function, tensors: function(*tensors))
    return made


def batches() -> list[tuple[Tensor, Tensor]]:
    """Two epochs of 100 points with a smaller last batch each."""
    points = torch.randn(100, 7, generator=torch.Generator().manual_seed(0))
    return 2 * list(zip(points.split(16), (torch.arange(100) % 3).split(16)))


def trained(replayed: bool) -> tuple[Tensor, list[float]]:
    """A linear layer after `batches`, and the loss of each."""
    torch.manual_seed(1)
    layer = torch.nn.Linear(7, 3)
    optimizer = SGD(layer.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)

    def step(points: Tensor, labels: Tensor) -> Tensor:
        loss = cross_entropy(layer(points), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    one = cuda_graph.ReplayedStep(step) if replayed else step
    losses = [one(*batch).item() for batch in batches()]
    return layer.weight.detach(), losses


def test_replayed_steps_are_the_steps(recordings):
    weight, losses = trained(replayed=True)
    expected, expected_losses = trained(replayed=False)
    assert torch.equal(weight, expected) and losses == expected_losses
    assert recordings == [16, 4], "one recording a shape, at its second call"


def test_the_caller_keeps_its_tensors(recordings):
    """A replay reads copies: the caller's tensors are neither held nor written."""
    total = cuda_graph.ReplayedStep(lambda numbers: numbers.mul_(2).sum())
    for value in (1.0, 2.0, 3.0):
        passed = torch.full((4,), value)
        found = total(passed)
        assert found.item() == 8 * value
    assert passed.tolist() == [3.0] * 4


def test_what_comes_once_is_not_recorded(recordings):
    total = cuda_graph.ReplayedStep(torch.sum)
    assert [total(torch.ones(n)).item() for n in (3, 4, 5)] == [3, 4, 5] and recordings == []
