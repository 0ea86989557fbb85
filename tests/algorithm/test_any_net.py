"""Any nn.Module that makes features of images is a trunk: real nets and odd ones cluster, train, resume and probe."""

import copy
from collections import OrderedDict
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from dc_hpc.algorithm import (
    ImageViews,
    Schedule,
    Views,
    activations,
    cluster_by_kmeans,
    deep_cluster,
    extract_features,
    init_state,
    linear_probe,
)
from dc_hpc.algorithm.nets import Sobel, feature_dimension
from dc_hpc.algorithm.state import load_state, state_tensors


@pytest.fixture(scope="module")
def digits():
    from sklearn.datasets import load_digits

    data = load_digits()
    return (data.images[:240] * 255 / 16).round().astype(np.uint8), data.target[:240]


@pytest.fixture(scope="module")
def grey(digits):
    return ImageViews(digits[0], Views(36, 32, 0.3, 0.37, "flip"))


@pytest.fixture(scope="module")
def colour(digits):
    return ImageViews(np.repeat(digits[0][..., None], 3, 3), Views(36, 32, (0.3,) * 3, (0.37,) * 3, "flip"))


class Residual(nn.Module):
    """Its forward pass is not that of its children: a shortcut, a function in between, an unused layer."""

    def __init__(self, channels=1):
        super().__init__()
        self.unused = nn.Linear(3, 3)
        self.stem = nn.Conv2d(channels, 6, 5, stride=2, bias=False)
        self.norm = nn.GroupNorm(2, 6)
        self.block = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True))
        self.scale = nn.Parameter(torch.ones(6))

    def forward(self, images):
        value = torch.relu(self.norm(self.stem(images)))
        value = value + self.block(value)
        return torch.nn.functional.adaptive_avg_pool2d(value, 4).flatten(1) * self.scale.repeat_interleave(16)


class Attention(nn.Module):
    """Patches, LayerNorm, attention: no convolution and no ReLU."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Unfold(8, stride=8)
        self.embed = nn.Linear(64, 16)
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1, batch_first=True)

    def forward(self, images):
        return self.layer(self.embed(self.patches(images).transpose(1, 2))).mean(1)


def resnet18():
    from torchvision.models import resnet18

    net = resnet18()
    net.fc = nn.Identity()
    return net


def flat_end():
    """A Sequential that ends in Flatten, whose convolutions have no bias."""
    layers = [nn.Conv2d(1, 4, 5, bias=False), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 5, 5, stride=2), nn.Flatten()]
    return nn.Sequential(*layers)


def shared_layer():
    """One ReLU that stands in two places of a Sequential."""
    relu = nn.ReLU()
    return nn.Sequential(nn.Conv2d(1, 4, 5, stride=3), relu, nn.Flatten(), nn.Linear(400, 9), relu, nn.Linear(9, 7))


def ceiling():
    """A max-pool that rounds up: 27 x 27 maps become 14 x 14."""
    return nn.Sequential(
        nn.Conv2d(1, 3, 6), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True), nn.Flatten(), nn.Linear(588, 8)
    )


def maps():
    """What remains of a net whose classifier was cut off: its output is maps (n, c, 1, 1)."""
    return nn.Sequential(nn.Conv2d(1, 8, 5, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1))


def only_convolution():
    """It ends with its compiled blocks, where those serve: what it returns is maps."""
    return nn.Sequential(OrderedDict(conv=nn.Conv2d(1, 4, 5, stride=2), relu=nn.ReLU(), pool=nn.MaxPool2d(2, 2)))


GREY_NETS = {
    "residual": (Residual, 96, "block.1"),
    "attention": (Attention, 16, "layer.norm1"),
    "flat end": (flat_end, 125, "3"),
    "shared layer": (shared_layer, 7, "4"),
    "ceiling": (ceiling, 8, "2"),
    "maps": (maps, 8, "0"),
    "only convolution": (only_convolution, 4 * 49, "conv"),
}


def start(build, seed=1, **changes):
    torch.manual_seed(0)  # whatever `initialise` cannot draw is that of the caller
    return init_state(build(), seed=seed, **(dict(lr=0.05, momentum=0.9, weight_decay=1e-4) | changes))


def phases(state, images, *, cycles=2, **changes):
    settings = dict(k=5, seed=1, schedule=Schedule(cycles), batch_size=64) | changes
    return deep_cluster(state, images, **settings)


def accuracy_at(layer, trunk, images, digits):
    values = activations(trunk, images, [layer])[layer]
    values = (values - values.mean()) / values.std()
    return linear_probe(values, digits[1], values, digits[1], classes=10, seed=1, epochs=20).accuracy


@pytest.mark.parametrize("build, dimension, layer", GREY_NETS.values(), ids=GREY_NETS)
def test_a_net_clusters_trains_probes_and_resumes_to_the_same_bits(grey, digits, build, dimension, layer):
    whole_state = start(build)
    whole = list(phases(whole_state, grey))
    assert whole[0].features.shape == (240, dimension)
    assert all(np.isfinite(one.loss) for one in whole if one.phase == "trained")
    state = start(build)
    begun = phases(state, grey)
    for _ in range(2):
        next(begun)
    resumed = start(build, seed=9)
    load_state(resumed, state_tensors(state), cycle=state.cycle, phase=state.phase)
    assert [one.loss for one in phases(resumed, grey)] == [one.loss for one in whole[2:]]
    after = state_tensors(resumed)
    assert all(torch.equal(value, after[name]) for name, value in state_tensors(whole_state).items())
    assert accuracy_at(layer, state.trunk, grey, digits) > 20, "twice what guessing gives"


@pytest.mark.parametrize("build, dimension, layer", GREY_NETS.values(), ids=GREY_NETS)
@torch.no_grad()
def test_features_and_layers_are_those_of_the_forward_pass(grey, build, dimension, layer):
    trunk = start(build).trunk
    found = activations(trunk, grey, [layer, ""])
    batch, seen = grey.clustering(slice(0, 64)), []
    watched = dict(trunk.named_modules(remove_duplicate=False))[layer]
    hook = watched.register_forward_hook(lambda _, inputs, value: seen.append(value.clone()))
    expected = trunk.eval()(batch).flatten(1)
    hook.remove()
    assert torch.allclose(found[""][:64], expected, atol=1e-5)
    assert torch.equal(extract_features(trunk, grey), found[""])
    assert torch.allclose(found[layer][:64], seen[-1].flatten(1), atol=1e-5)


def test_a_residual_net_of_torchvision_learns_and_is_probed_inside(colour, digits):
    state = start(resnet18, lr=0.02)
    found = list(phases(state, colour, cycles=3, schedule=Schedule(3, halt_cycle=1)))
    assert found[0].features.shape == (240, 512) and found[-1].loss < found[1].loss
    values = activations(state.trunk, colour, ["layer2.1.conv1", "layer3"], average_pool=2)
    assert values["layer2.1.conv1"].shape == (240, 128 * 2 * 2) and values["layer3"].shape == (240, 256)
    assert accuracy_at("layer3", state.trunk, colour, digits) > 50


def test_a_layer_before_one_that_works_in_place_keeps_its_values(grey):
    trunk = start(Residual).trunk
    both = activations(trunk, grey, ["block.1", "block.2"])
    assert both["block.1"].min() < 0 and torch.equal(both["block.1"].relu(), both["block.2"])
    chain = start(lambda: nn.Sequential(nn.Conv2d(1, 4, 5, stride=3, bias=False), nn.ReLU(inplace=True), nn.Flatten()))
    both = activations(chain.trunk, grey, ["0", "1"])
    assert both["0"].min() < 0 and torch.equal(both["0"].relu(), both["1"])


@pytest.mark.parametrize("build", [Residual, Attention, maps])
def test_finding_the_dimension_changes_nothing(grey, build):
    trunk = start(build).trunk.train()
    next(trunk.children()).eval()  # a part of it that a person keeps in eval mode
    before, modes = copy.deepcopy(trunk.state_dict()), [one.training for one in trunk.modules()]
    torch.manual_seed(7)
    expected = torch.rand(4)
    torch.manual_seed(7)
    assert feature_dimension(trunk, grey.clustering(slice(0, 2))) in (96, 16, 8)
    assert torch.equal(torch.rand(4), expected)
    assert [one.training for one in trunk.modules()] == modes
    assert all(torch.equal(value, trunk.state_dict()[name]) for name, value in before.items())


def test_a_net_that_draws_in_eval_mode_leaves_the_generator_alone(grey):
    class Noisy(nn.Module):
        def forward(self, images):
            return images.flatten(1) + torch.rand(1)

    torch.manual_seed(7)
    expected = torch.rand(4)
    torch.manual_seed(7)
    assert feature_dimension(Noisy(), grey.clustering(slice(0, 2))) == 1024
    assert torch.equal(torch.rand(4), expected)


@pytest.mark.parametrize("build", [flat_end, Residual, Attention], ids=["flat end", "residual", "attention"])
def test_a_seed_decides_every_layer_of_any_kind(build):
    """What torch drew at the construction does not matter, but for a parameter that belongs to no known layer."""
    drawn = []
    for global_seed, seed in ((0, 5), (1, 5), (1, 6)):
        torch.manual_seed(global_seed)
        state = init_state(build(), seed=seed, lr=0.1, momentum=0.0, weight_decay=0.0)
        parameters = [(name, value) for name, value in state.trunk.named_parameters() if "in_proj" not in name]
        drawn.append(torch.cat([value.flatten() for _, value in parameters]))
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[1], drawn[2])


def test_frozen_layers_keep_their_filters():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3), nn.Flatten()).requires_grad_(True)
    net[0].requires_grad_(False)
    before = net[0].weight.clone(), net[1].weight.clone()
    trunk = init_state(net, seed=1, lr=0.1, momentum=0.0, weight_decay=0.0).trunk
    assert torch.equal(trunk[0].weight, before[0]) and not torch.equal(trunk[1].weight, before[1])


def test_the_sobel_filter_serves_inside_another_net():
    net = nn.ModuleDict({"front": Sobel(frozen_kernels=True), "back": nn.Conv2d(2, 3, 3)})
    expected = net["front"].edges.weight.clone()
    trunk = init_state(net, seed=1, lr=0.1, momentum=0.0, weight_decay=0.0).trunk
    assert torch.equal(trunk["front"].edges.weight, expected)


def test_pixels_themselves_are_features(grey):
    """A net without parameters can be clustered; nothing but the head learns."""
    found = list(phases(start(nn.Flatten), grey, cycles=1))
    assert found[0].features.shape == (240, 1024) and np.isfinite(found[1].loss)


class Returns(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.value, self.inner = value, nn.Identity()

    def forward(self, images):
        self.inner(images.flatten(1)[:1])
        return self.value(images)


@pytest.mark.parametrize(
    "value, message",
    [
        (lambda images: (images.flatten(1), None), r"must return one tensor \(n, D\).* it returns a tuple"),
        (lambda images: images.mean(), r"it returns shape \(\)"),
        (lambda images: images.flatten(1).T, r"for 2 images of shape \(1, 32, 32\) it returns shape \(1024, 2\)"),
        (lambda images: images.flatten(1).mean(1), r"it returns shape \(2,\)"),
    ],
)
def test_a_net_that_returns_no_features_is_refused(grey, value, message):
    with pytest.raises(ValueError, match=message):
        next(phases(start(partial(Returns, value)), grey))


def test_a_layer_that_is_not_there_or_gives_no_rows_is_named(grey, colour):
    trunk = start(resnet18).trunk
    with pytest.raises(ValueError, match=r"layer 'conv3' is not in the net; its layers are conv1, bn1, .* for example"):
        activations(trunk, colour, ["conv3"])
    with pytest.raises(ValueError, match=r"layers must be a list of names; pass \['layer1'\]"):
        activations(trunk, colour, "layer1")
    with pytest.raises(ValueError, match="layer 'unused' takes no part in the forward pass"):
        activations(start(Residual).trunk, grey, ["unused"])
    inner = Returns(lambda images: images.flatten(1))
    with pytest.raises(ValueError, match=r"layer 'inner' must give .* a row for each image; for 240 images it gives"):
        activations(inner, grey, ["inner"])


def test_pca_of_any_net(grey):
    cluster = partial(cluster_by_kmeans, pca=5)
    assert next(phases(start(Residual), grey, cluster=cluster)).features.shape == (240, 5)
