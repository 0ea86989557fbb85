"""An average pool that is larger than a probed layer is refused when the grid is read."""

import pytest
import torch

from dc_hpc.algorithm.net_specs import NET_SPECS
from dc_hpc.algorithm.nets import NET_BUILDERS
from dc_hpc.config.baselines import BASELINES, PROTOCOLS
from dc_hpc.config.run_config import make_config
from dc_hpc.errors import InputError


def config(base, **changes):
    return make_config(BASELINES[base] | PROTOCOLS[base]["text"] | {"seed": 1} | changes)


@pytest.mark.parametrize("name", NET_SPECS)
def test_the_side_of_each_layer_is_that_of_the_net(name):
    """The sides of the specification are those of the maps that torch computes."""
    spec, trunk = NET_SPECS[name], NET_BUILDERS[name](batch_norm=True, sobel="off").eval()
    found = {}
    for layer, module in trunk.named_children():
        module.register_forward_hook(lambda _, __, out, layer=layer: found.update({layer: out.shape}))
    with torch.no_grad():
        trunk(torch.zeros(2, spec.channels, spec.size, spec.size))
    maps = {layer: shape[-1] for layer, shape in found.items() if layer in spec.layers and len(shape) == 4}
    assert maps == spec.sides


@pytest.mark.parametrize("layer, side", [("conv1", 28), ("pool1", 14), ("conv2", 10), ("pool2", 5)])
def test_a_pool_may_be_as_large_as_the_layer_and_no_larger(layer, side):
    assert config("fmnist", probe=(layer,), probe_average_pool=side).probe_average_pool == side
    message = (
        f"probe_average_pool {side + 1} is larger than layer {layer} of lenet5, which has {side} x {side} pixels; "
        f"allowed: 1 to {side}, or off"
    )
    with pytest.raises(InputError, match=message):
        config("fmnist", probe=("fc1", layer), probe_average_pool=side + 1)


def test_a_layer_without_a_map_is_not_pooled():
    assert config("fmnist", probe=("fc1",), probe_average_pool=100).probe_average_pool == 100
    assert config("fmnist", probe=(), probe_average_pool=100).probe_average_pool == 100
