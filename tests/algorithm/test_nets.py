import math

import pytest
import torch

from dc_hpc.algorithm.net_specs import NET_SPECS, Conv, MaxPool, NetSpec
from dc_hpc.algorithm.nets import (
    NET_BUILDERS,
    Sobel,
    alexnet,
    alexnet_small,
    build_net,
    feature_dimension,
    initialise,
    lenet5,
    new_head,
)


def parameter_count(trunk):
    """The number of trainable parameters."""
    return sum(p.numel() for p in trunk.parameters() if p.requires_grad)


def shapes(trunk, image):
    found, value = {}, image
    trunk.eval()
    for name, layer in trunk.named_children():
        value = layer(value)
        found[name] = tuple(value.shape[1:])
    return found


@torch.no_grad()
def test_lenet5_is_the_papers():
    assert parameter_count(lenet5()) == 60_900
    found = shapes(lenet5(), torch.zeros(2, 1, 32, 32))
    assert [found[name] for name in ("conv1", "pool1", "conv2", "pool2")] == [
        (6, 28, 28),
        (6, 14, 14),
        (16, 10, 10),
        (16, 5, 5),
    ]
    assert (found["fc1"], found["fc2"]) == ((120,), (84,))


def test_lenet5_without_batch_norm_has_none():
    trunk = lenet5(batch_norm=False)
    assert not any(isinstance(layer, torch.nn.BatchNorm2d) for layer in trunk.modules())
    assert parameter_count(trunk) == 60_900 - 2 * (6 + 16)


@torch.no_grad()
def test_alexnet_small_is_the_authors():
    trunk = alexnet_small()
    assert parameter_count(trunk) == 1_677_578
    found = shapes(trunk, torch.zeros(2, 3, 32, 32))
    stages = ("sobel", "conv1", "pool1", "conv2", "pool2", "conv3", "conv4", "conv5", "relu5", "pool5", "fc1", "fc2")
    assert [found[stage] for stage in stages] == [
        (2, 32, 32),
        (48, 9, 9),
        (48, 8, 8),
        (126, 7, 7),
        (126, 6, 6),
        (192, 4, 4),
        (192, 3, 3),
        (128, 2, 2),
        (128, 2, 2),
        (128, 1, 1),
        (1024,),
        (1024,),
    ]


@torch.no_grad()
def test_alexnet_is_that_of_appendix_a():
    trunk = alexnet()
    assert round(parameter_count(trunk) / 1e6, 1) == 25.5
    found = shapes(trunk, torch.zeros(1, 3, 224, 224))
    assert [found[stage] for stage in ("conv1", "relu5", "pool5", "fc1", "fc2")] == [
        (64, 55, 55),
        (256, 13, 13),
        (256, 6, 6),
        (2048,),
        (2048,),
    ]


@pytest.mark.parametrize("name", NET_BUILDERS)
@torch.no_grad()
def test_the_specs_that_grids_are_checked_with_are_those_of_the_nets(name):
    trunk, spec = NET_BUILDERS[name](), NET_SPECS[name]
    image = torch.zeros(1, spec.channels, spec.size, spec.size)
    found = shapes(trunk, image)
    assert spec.features == feature_dimension(trunk, image) == list(found.values())[-1][0]
    unprobed = ("sobel", "flatten", "dropout1", "dropout2")
    assert spec.layers == tuple(layer for layer in found if layer not in unprobed)


@pytest.mark.parametrize("batch_norm", [True, False])
def test_one_entry_of_the_catalogue_is_a_net(monkeypatch, batch_norm):
    """Odd sizes, a padded convolution, one fully connected layer and dropout, none of which the paper's nets mix."""
    convolutions = (Conv(5, 3, stride=2, padding=1, pool=MaxPool(3, 2)), Conv(7, 2))
    monkeypatch.setitem(NET_SPECS, "tiny", NetSpec(2, 33, convolutions, widths=(9,), dropout=0.2))
    trunk = build_net("tiny", batch_norm=batch_norm)
    found = shapes(trunk, torch.zeros(3, 2, 33, 33))
    names = [name for name in NET_SPECS["tiny"].layers if batch_norm or not name.startswith("bn")]
    assert [name for name in found if name not in ("flatten", "dropout1")] == names
    assert found["pool1"] == (5, 8, 8) and found["flatten"] == (7 * 7 * 7,) == (NET_SPECS["tiny"].flattened,)
    assert found["fc1"] == (9,) and trunk.dropout1.p == 0.2
    with pytest.raises(ValueError, match="sobel 'fixed' needs three colours and tiny reads 2"):
        build_net("tiny", sobel="fixed")


def test_initialisation_has_the_authors_deviations():
    trunk = alexnet_small(sobel="off")
    initialise(trunk, seed=3)
    conv = trunk.conv3.weight
    assert conv.std().item() == pytest.approx(math.sqrt(2 / (3 * 3 * 192)), rel=0.01)
    assert trunk.fc2.weight.std().item() == pytest.approx(0.01, rel=0.01)
    biases = [p for name, p in trunk.named_parameters() if name.endswith("bias")]
    assert all(torch.count_nonzero(bias) == 0 for bias in biases)
    assert torch.equal(trunk.bn1.running_var, torch.ones(48))


def test_a_seed_decides_the_filters_and_another_seed_others():
    trunks = [lenet5() for _ in range(3)]
    for trunk, seed in zip(trunks, (7, 7, 8)):
        initialise(trunk, seed=seed)
    first, same, other = (torch.cat([p.flatten() for p in trunk.parameters()]) for trunk in trunks)
    assert torch.equal(first, same) and not torch.equal(first, other)


def test_the_fixed_sobel_filter_survives_initialisation():
    trunk = alexnet_small(sobel="fixed")
    initialise(trunk, seed=1)
    kernel = torch.tensor([[1.0, 0, -1], [2, 0, -2], [1, 0, -1]])
    assert torch.equal(trunk.sobel.edges.weight, torch.stack([kernel, kernel.T]).unsqueeze(1))
    assert torch.equal(trunk.sobel.grey.weight, torch.full((1, 3, 1, 1), 1 / 3))


def test_the_random_sobel_filter_is_drawn_by_the_seed_and_leaves_the_other_filters_alone():
    fixed, random, other = alexnet_small(sobel="fixed"), alexnet_small(sobel="random"), alexnet_small(sobel="random")
    for trunk, seed in ((fixed, 1), (random, 1), (other, 2)):
        initialise(trunk, seed=seed)
    assert not torch.equal(random.sobel.edges.weight, fixed.sobel.edges.weight)
    assert not torch.equal(random.sobel.edges.weight, other.sobel.edges.weight)
    assert torch.equal(random.conv1.weight, fixed.conv1.weight)


def test_the_sobel_filter_finds_edges_and_never_learns():
    sobel = Sobel(frozen_kernels=True)
    step = torch.zeros(1, 3, 8, 8)
    step[..., 4:] = 1
    inside = sobel(step)[0, :, 2:6, 3:5]
    assert torch.allclose(inside[0].abs(), torch.full((4, 2), 4.0))
    assert torch.allclose(inside[1], torch.zeros(4, 2), atol=1e-6)
    assert not any(p.requires_grad for p in sobel.parameters())


def test_a_head_is_another_one_in_every_cycle():
    heads = [new_head(84, 5, seed=1, cycle=cycle).linear.weight for cycle in (0, 0, 1)]
    assert torch.equal(heads[0], heads[1]) and not torch.equal(heads[0], heads[2])
    assert heads[0].shape == (5, 84)


def test_what_does_not_fit_is_named():
    with pytest.raises(ValueError, match="sobel 'fixed' needs three colours and lenet5 reads one"):
        lenet5(sobel="fixed")
    with pytest.raises(ValueError, match="sobel 'on' is not one of off, fixed, random"):
        alexnet_small(sobel="on")
