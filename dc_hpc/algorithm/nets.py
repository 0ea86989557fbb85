"""The networks of the paper: a trunk f_theta per data set, the head g_W of one cycle, their initialisation.

A trunk is a flat `nn.Sequential` whose children carry the names that the paper and the probe use (`conv2`, `relu5`),
and whose output is that of its last Linear layer, before any ReLU: the features that are clustered (section 3.1).
`net_specs.py` says what each net consists of.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from functools import partial

import torch
from torch import Tensor, nn

from dc_hpc.algorithm.net_specs import NET_SPECS
from dc_hpc.algorithm.randomness import torch_generator

SOBEL = ("off", "fixed", "random")


def build_net(name: str, *, batch_norm: bool = True, sobel: str | None = None) -> nn.Sequential:
    """The trunk of NET_SPECS[name], not yet initialised.

    batch_norm: whether each convolution is followed by one, as conv -> batch norm -> ReLU. sobel: one of SOBEL, the
    filter in front; None is "fixed" for a net that reads colour, as in the paper, else "off". Raises ValueError: a
    Sobel filter in front of a net that does not read three colours.
    """
    spec = NET_SPECS[name]
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels = spec.channels
    if _sobel_of(name, sobel) != "off":
        layers["sobel"] = Sobel(frozen_kernels=sobel != "random")
        channels = 2
    for number, conv in enumerate(spec.convolutions, 1):
        layers[f"conv{number}"] = nn.Conv2d(
            channels, conv.filters, conv.kernel, stride=conv.stride, padding=conv.padding
        )
        if batch_norm:
            layers[f"bn{number}"] = nn.BatchNorm2d(conv.filters)
        layers[f"relu{number}"] = nn.ReLU()
        if conv.pool:
            layers[f"pool{number}"] = nn.MaxPool2d(conv.pool.kernel, stride=conv.pool.stride)
        channels = conv.filters
    layers["flatten"] = nn.Flatten()
    values = spec.flattened
    for number, width in enumerate(spec.widths, 1):
        if spec.dropout:
            layers[f"dropout{number}"] = nn.Dropout(spec.dropout)
        layers[f"fc{number}"] = nn.Linear(values, width)
        if number < len(spec.widths):
            layers[f"fc{number}_relu"] = nn.ReLU()
        values = width
    return nn.Sequential(layers)


def lenet5(*, batch_norm: bool = True, sobel: str = "off") -> nn.Sequential:
    """LeNet-5 for 1 x 32 x 32 images (section 3.3): 84 features, 60,900 parameters with batch norm.

    Every convolution is conv -> batch norm -> ReLU. A Sobel filter needs colour, so only `sobel="off"` is allowed.
    """
    return build_net("lenet5", batch_norm=batch_norm, sobel=sobel)


def alexnet_small(*, batch_norm: bool = True, sobel: str = "fixed") -> nn.Sequential:
    """The paper's minimized AlexNet for 3 x 32 x 32 images (section 3.3): 1,024 features.

    Five convolutions with 48, 126, 192, 192 and 128 filters, without padding; every pooling window moves by one.
    `relu5`, which the paper probes, has 128 x 2 x 2 = 512 values.
    """
    return build_net("alexnet_small", batch_norm=batch_norm, sobel=sobel)


def alexnet(*, batch_norm: bool = True, sobel: str = "fixed") -> nn.Sequential:
    """The AlexNet of appendix A for 3 x 224 x 224 images: 2,048 features.

    `relu5` is 256 x 13 x 13; the probe of appendix A averages it down to 9,216 values.
    """
    return build_net("alexnet", batch_norm=batch_norm, sobel=sobel)


NET_BUILDERS = {name: partial(build_net, name) for name in NET_SPECS}


class Sobel(nn.Sequential):
    """Colour to edges, frozen: a 1 x 1 convolution to one channel, then the two 3 x 3 Sobel kernels. Bias is zero.

    The paper uses it in front of both AlexNets (section 3.3). `frozen_kernels` says whether `initialise` must leave
    the kernels alone (`sobel: fixed`, the paper's text) or draws them like any convolution (`sobel: random`): the
    authors' code initialises after building the filter and so overwrites it.
    """

    def __init__(self, *, frozen_kernels: bool):
        grey, edges = nn.Conv2d(3, 1, 1), nn.Conv2d(1, 2, 3, padding=1)
        super().__init__(OrderedDict(grey=grey, edges=edges))
        self.frozen_kernels = frozen_kernels
        horizontal = torch.tensor([[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]])
        with torch.no_grad():
            grey.weight.fill_(1 / 3)
            edges.weight.copy_(torch.stack([horizontal, horizontal.T]).unsqueeze(1))
            bias_of(grey).zero_()
            bias_of(edges).zero_()
        self.requires_grad_(False)


def initialise(trunk: nn.Sequential, *, seed: int) -> None:
    """Draw the random filters theta of a fresh trunk, in place, as the authors' code does.

    conv N(0, sqrt(2 / (kh kw out))), bias 0; batch norm 1 and 0, running mean 0 and variance 1; Linear N(0, 0.01),
    bias 0. The Sobel filter has a key of its own, so `fixed` and `random` share all the other filters of a seed.
    """
    filters = torch_generator(seed, 0, "init")
    for layer in trunk.children():
        if isinstance(layer, Sobel):
            if not layer.frozen_kernels:
                _draw(layer, torch_generator(seed, 0, "sobel"))
        else:
            _draw(layer, filters)


def new_head(features: int, k: int, *, seed: int, cycle: int) -> nn.Sequential:
    """The classifier g_W over k pseudo-classes, drawn anew for one cycle: ReLU, then Linear(features, k)."""
    head = nn.Sequential(OrderedDict(relu=nn.ReLU(), linear=undrawn_linear(features, k)))
    _draw(head, torch_generator(seed, cycle, "head"))
    return head


def undrawn_linear(values: int, outputs: int) -> nn.Linear:
    """A Linear layer whose weights the caller draws. It leaves the global random generators as they are.

    torch's skip_init is meant for this, but imports torch's compiler, which takes a third of a second.
    """
    with torch.random.fork_rng(devices=[]):
        return nn.Linear(values, outputs)


def feature_dimension(trunk: nn.Sequential) -> int:
    """D, the number of features that the trunk gives an image."""
    return [layer for layer in trunk if isinstance(layer, nn.Linear)][-1].out_features


def bias_of(layer: nn.Conv2d) -> Tensor:
    """The bias of a convolution; all convolutions of this package have one."""
    assert layer.bias is not None
    return layer.bias


@torch.no_grad()
def _draw(module: nn.Module, generator: torch.Generator) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            height, width = layer.kernel_size
            deviation = math.sqrt(2 / (height * width * layer.out_channels))
            _normal(layer.weight, deviation, generator)
            bias_of(layer).zero_()
        elif isinstance(layer, nn.Linear):
            _normal(layer.weight, 0.01, generator)
            layer.bias.zero_()
        elif isinstance(layer, nn.BatchNorm2d):
            layer.reset_parameters()


def _normal(weight: Tensor, deviation: float, generator: torch.Generator) -> None:
    weight.copy_(torch.empty(weight.shape).normal_(0, deviation, generator=generator))


def _sobel_of(name: str, sobel: str | None) -> str:
    """The Sobel filter of a net: the one asked for, else the paper's."""
    channels = NET_SPECS[name].channels
    if sobel is None:
        return "fixed" if channels == 3 else "off"
    if sobel != "off" and channels != 3:
        raise ValueError(
            f"sobel {sobel!r} needs three colours and {name} reads {'one' if channels == 1 else channels}; allowed: off"
        )
    if sobel not in SOBEL:
        raise ValueError(f"sobel {sobel!r} is not one of {', '.join(SOBEL)}")
    return sobel
