"""Large Linear layers whose weight SGD moves from factors of its gradient, against torch's own way."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from dc_hpc.algorithm import alexnet_small, lenet5
from dc_hpc.algorithm.backends import kernels, linear
from dc_hpc.algorithm.backends.linear import descending
from dc_hpc.algorithm.backends.sgd import SGD
from dc_hpc.algorithm.backends.training import plain_step
from dc_hpc.algorithm.nets import initialise, new_head
from dc_hpc.algorithm.state import State, init_state, load_state, state_tensors

pytestmark = pytest.mark.skipif(not kernels.available(), reason="numba is not installed: torch computes everything")
CONSTANTS = {"lr": 0.05, "momentum": 0.9, "weight_decay": 1e-3}


def drawn():
    """Tanh and no ReLU: at its kink a last bit, which differs between processors, decides about a whole gradient."""
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(200, 600), nn.Tanh(), nn.Linear(600, 300), nn.Tanh(), nn.Linear(300, 5))


def steps(layers, optimizer, count=3, sizes=(64, 17, 1)):
    for number in range(count):
        generator = torch.Generator().manual_seed(number)
        value = layers(torch.randn(sizes[number % len(sizes)], 200, generator=generator))
        optimizer.zero_grad()
        value.square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("momentum", [0.9, 0.1, 0.0])
def test_steps_are_those_without_factors(momentum):
    """Weights and velocities, over batches of different sizes; constants that change in between are used."""
    ours, theirs = drawn(), drawn()
    constants = CONSTANTS | {"momentum": momentum}
    one, other = SGD(ours.parameters(), **constants), SGD(theirs.parameters(), **constants)
    layers = descending(ours, [one])
    assert [type(layer) is nn.Linear for layer in layers] == [False, False, False, False, True]
    for _ in range(2):
        steps(layers, one)
        steps(theirs, other)
        one.lr = other.lr = 0.01
    assert one.velocity.keys() == set(ours.parameters() if momentum else ())
    assert other.velocity.keys() == set(theirs.parameters() if momentum else ())
    for mine, reference in zip(ours.parameters(), theirs.parameters()):
        torch.testing.assert_close(mine, reference, rtol=0, atol=1e-6)
        if momentum:
            torch.testing.assert_close(one.velocity[mine], other.velocity[reference], rtol=0, atol=1e-6)


def test_no_gradient_is_left_behind():
    """A step uses the factors up; `zero_grad` forgets them; a step without a backward pass moves nothing."""
    net = drawn()
    optimizer = SGD(net.parameters(), **CONSTANTS)
    layers = descending(net, [optimizer])
    steps(layers, optimizer)
    large = net[0].weight
    assert large.grad is None and net[4].weight.grad is not None
    before, velocity = large.detach().clone(), optimizer.velocity[large].clone()
    optimizer.step()
    assert torch.equal(large, before)
    layers(torch.randn(4, 200)).sum().backward()
    optimizer.zero_grad()
    optimizer.step()
    assert torch.equal(large, before) and torch.equal(optimizer.velocity[large], velocity)


def test_gradients_of_several_passes_add_up():
    """Two backward passes before a step, and a layer that also has a gradient of its own."""
    ours, theirs = drawn(), drawn()
    one, other = SGD(ours.parameters(), **CONSTANTS), SGD(theirs.parameters(), **CONSTANTS)
    layers, batches = descending(ours, [one]), torch.randn(3, 20, 200)
    for batch in batches[:2]:
        layers(batch).square().mean().backward()
    ours(batches[2]).square().mean().backward()
    one.step()
    for batch in batches:
        theirs(batch).square().mean().backward()
    other.step()
    for mine, reference in zip(ours.parameters(), theirs.parameters()):
        torch.testing.assert_close(mine, reference, rtol=0, atol=1e-6)


def test_layers_that_something_else_could_watch_or_share_stay(monkeypatch):
    def replaced(net, *optimizers):
        return [type(layer) is not type(old) for layer, old in zip(descending(net, optimizers), net)]

    net = drawn()
    optimizer = SGD(net.parameters(), **CONSTANTS)
    assert replaced(net, optimizer) == [True, False, True, False, False]
    assert not any(replaced(net)) and not any(replaced(net, optimizer.with_parameters(net[4].parameters())))
    net[0].register_forward_hook(lambda *_: None)
    net[2].weight.register_hook(lambda gradient: gradient)
    assert not any(replaced(net, optimizer))
    net = nn.Sequential(nn.Linear(400, 400), nn.Linear(400, 400))
    net[1].weight = net[0].weight
    assert not any(replaced(net, SGD(net.parameters(), **CONSTANTS)))
    net = drawn().double()
    assert not any(replaced(net, SGD(net.parameters(), **CONSTANTS)))
    net = lenet5()
    assert not any(replaced(net, SGD(net.parameters(), **CONSTANTS)))
    monkeypatch.setattr(linear.kernels, "available", lambda: False)
    net = drawn()
    assert not any(replaced(net, SGD(net.parameters(), **CONSTANTS)))


def trained(state, head, numbers):
    """Some steps of AlexNet-small; the head's optimizer has no velocity at first, as in a run."""
    step = plain_step(
        state.trunk, head, cross_entropy, state.optimizer, state.optimizer.with_parameters(head.parameters())
    )
    for number in numbers:
        generator = torch.Generator().manual_seed(number)
        torch.manual_seed(number)
        batch, labels = torch.randn(9, 3, 32, 32, generator=generator), torch.randint(0, 120, (9,), generator=generator)
        step(batch, labels)


def test_a_state_goes_on_to_the_same_bits():
    """All velocities are in it; a net that goes on from a saved state ends with the bits of one that did not stop."""
    states = [init_state(alexnet_small(), seed=1, **CONSTANTS) for _ in range(2)]
    for state in states:
        trained(state, new_head(1024, 120, seed=1, cycle=0), range(3))
    assert all(f"momentum.{name}" in state_tensors(states[0]) for name in ("fc1.weight", "fc2.weight"))
    resumed = State(alexnet_small(), SGD((other := alexnet_small()).parameters(), **CONSTANTS))
    resumed = State(other, SGD(other.parameters(), **CONSTANTS))
    load_state(
        resumed, {name: value.clone() for name, value in state_tensors(states[0]).items()}, cycle=0, phase="trained"
    )
    for state in (states[0], resumed):
        trained(state, new_head(1024, 120, seed=1, cycle=1), range(3, 5))
    expected, found = state_tensors(states[0]), state_tensors(resumed)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert not torch.equal(expected["trunk.fc2.weight"], state_tensors(states[1])["trunk.fc2.weight"])


@pytest.mark.parametrize("n", [1, 17, 64])
def test_the_gradient_of_every_parameter_is_that_of_float64(n):
    """The first velocity is the gradient. A pool may decide otherwise by rounding, which reaches convolutions only."""
    trunk, head = alexnet_small(), new_head(1024, 120, seed=1, cycle=0)
    initialise(trunk, seed=1)
    references = [copy.deepcopy(net).double().train() for net in (trunk, head)]
    optimizers = [SGD(net.parameters(), lr=1e-3, momentum=0.9, weight_decay=0.0) for net in (trunk, head)]
    batch, labels = torch.randn(n, 3, 32, 32), torch.randint(0, 120, (n,))
    torch.manual_seed(5)
    plain_step(trunk, head, cross_entropy, *optimizers)(batch, labels)
    torch.manual_seed(5)
    cross_entropy(references[1](references[0](batch.double())), labels).backward()
    for net, reference, optimizer in zip((trunk, head), references, optimizers):
        for (name, ours), theirs in zip(net.named_parameters(), reference.parameters()):
            if theirs.grad is not None and theirs.grad.norm() > 1e-9:  # before batch norm a bias has none
                off = (optimizer.velocity[ours] - theirs.grad).norm() / theirs.grad.norm()
                assert off < (1e-5 if name.startswith(("fc", "linear")) else 0.05), name
