"""Soft resets: which weights move, how far, and from which draws."""

import copy

import pytest
import torch
from torch import nn

from dc_hpc.algorithm import alexnet_small, init_state, lenet5
from dc_hpc.algorithm.beyond.soft_reset import reset_layers, reset_softly
from dc_hpc.algorithm.nets import initialise
from dc_hpc.algorithm.randomness import key


def trained(net, seed=1):
    """A net whose weights are none of its initial ones."""
    initialise(net, seed=seed)
    with torch.no_grad():
        for number, value in enumerate(net.state_dict().values()):
            if value.is_floating_point():
                value.add_(0.01 * (number + 1))
    return net


@pytest.mark.parametrize("net", [lenet5, lambda: alexnet_small(sobel="random")])
def test_convolutions_and_linear_layers_move_and_nothing_else(net):
    trunk = trained(net())
    before, fresh = copy.deepcopy(trunk.state_dict()), net()
    reset_softly(trunk, 0.25, seed=7, cycle=3)
    initialise(fresh, seed=key(7, 3, "soft_reset"))
    drawn, layers = dict(fresh.named_parameters()), reset_layers(trunk)
    kinds = (nn.Conv2d, nn.Linear)
    of_kind = [name for name, layer in trunk.named_modules() if isinstance(layer, kinds) and "sobel" not in name]
    assert layers == of_kind[:-1] and layers
    for name, value in trunk.state_dict().items():
        if name.rpartition(".")[0] in layers:
            assert torch.allclose(value, 0.75 * before[name] + 0.25 * drawn[name], atol=1e-7)
            assert not torch.equal(value, before[name])
        else:
            assert torch.equal(value, before[name]), name


def test_a_reset_is_a_function_of_seed_and_cycle():
    def after(seed, cycle):
        trunk = trained(lenet5())
        reset_softly(trunk, 0.5, seed=seed, cycle=cycle)
        return torch.cat([value.flatten() for value in trunk.parameters()])

    assert torch.equal(after(1, 2), after(1, 2))
    assert not torch.equal(after(1, 2), after(1, 3)) and not torch.equal(after(1, 2), after(2, 2))


def test_the_momentum_stays_and_a_whole_reset_is_a_fresh_net():
    state = init_state(lenet5(), seed=1, lr=0.1, momentum=0.9, weight_decay=0)
    weight = next(iter(state.trunk.parameters()))
    state.optimizer.velocity[weight] = torch.ones_like(weight)
    reset_softly(state.trunk, 1.0, seed=1, cycle=1)
    fresh = lenet5()
    initialise(fresh, seed=key(1, 1, "soft_reset"))
    assert torch.equal(weight, next(iter(fresh.parameters())))
    assert torch.equal(state.optimizer.velocity[weight], torch.ones_like(weight))


def test_a_fraction_that_is_none_is_named():
    with pytest.raises(ValueError, match="soft_reset 1.5 must be between 0 and 1"):
        reset_softly(lenet5(), 1.5, seed=1, cycle=1)
