"""The networks of the paper: a trunk f_theta per data set, the head g_W of one cycle, their initialisation.

A trunk is a flat `nn.Sequential` whose children carry the names that the paper and the probe use (`conv2`, `relu5`),
and whose output is that of its last Linear layer, before any ReLU: the features that are clustered (section 3.1).
"""

from __future__ import annotations

import math
from collections import OrderedDict

import torch
from torch import Tensor, nn

from dc_hpc.algorithm.randomness import torch_generator

SOBEL = ("off", "fixed", "random")


def lenet5(*, batch_norm: bool = True, sobel: str = "off") -> nn.Sequential:
    """LeNet-5 for 1 x 32 x 32 images (section 3.3): 84 features, 60,900 parameters with batch norm.

    Every convolution is conv -> batch norm -> ReLU. A Sobel filter needs colour, so only `sobel="off"` is allowed.
    """
    if sobel != "off":
        raise ValueError(f"sobel {sobel!r} needs three colours and lenet5 reads one; allowed: off")
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    _convolution(layers, 1, nn.Conv2d(1, 6, 5), batch_norm)
    layers["pool1"] = nn.MaxPool2d(2)
    _convolution(layers, 2, nn.Conv2d(6, 16, 5), batch_norm)
    layers["pool2"] = nn.MaxPool2d(2)
    layers["flatten"] = nn.Flatten()
    layers["fc1"] = nn.Linear(400, 120)
    layers["fc1_relu"] = nn.ReLU()
    layers["fc2"] = nn.Linear(120, 84)
    return nn.Sequential(layers)


def alexnet_small(*, batch_norm: bool = True, sobel: str = "fixed") -> nn.Sequential:
    """The paper's minimized AlexNet for 3 x 32 x 32 images (section 3.3): 1,024 features.

    Five convolutions with 48, 126, 192, 192 and 128 filters, without padding; every pooling window moves by one.
    `relu5`, which the paper probes, has 128 x 2 x 2 = 512 values.
    """
    layers = _sobel_first(sobel)
    _convolution(layers, 1, nn.Conv2d(_channels_after(sobel), 48, 8, stride=3), batch_norm)
    layers["pool1"] = nn.MaxPool2d(2, stride=1)
    _convolution(layers, 2, nn.Conv2d(48, 126, 2), batch_norm)
    layers["pool2"] = nn.MaxPool2d(2, stride=1)
    _convolution(layers, 3, nn.Conv2d(126, 192, 3), batch_norm)
    _convolution(layers, 4, nn.Conv2d(192, 192, 2), batch_norm)
    _convolution(layers, 5, nn.Conv2d(192, 128, 2), batch_norm)
    layers["pool5"] = nn.MaxPool2d(2, stride=1)
    _classifier(layers, 128, 1024)
    return nn.Sequential(layers)


def alexnet(*, batch_norm: bool = True, sobel: str = "fixed") -> nn.Sequential:
    """The AlexNet of appendix A for 3 x 224 x 224 images: 2,048 features.

    `relu5` is 256 x 13 x 13; the probe of appendix A averages it down to 9,216 values.
    """
    layers = _sobel_first(sobel)
    _convolution(layers, 1, nn.Conv2d(_channels_after(sobel), 64, 11, stride=4, padding=2), batch_norm)
    layers["pool1"] = nn.MaxPool2d(3, stride=2)
    _convolution(layers, 2, nn.Conv2d(64, 192, 5, padding=2), batch_norm)
    layers["pool2"] = nn.MaxPool2d(3, stride=2)
    _convolution(layers, 3, nn.Conv2d(192, 384, 3, padding=1), batch_norm)
    _convolution(layers, 4, nn.Conv2d(384, 256, 3, padding=1), batch_norm)
    _convolution(layers, 5, nn.Conv2d(256, 256, 3, padding=1), batch_norm)
    layers["pool5"] = nn.MaxPool2d(3, stride=2)
    _classifier(layers, 9216, 2048)
    return nn.Sequential(layers)


NET_BUILDERS = {"lenet5": lenet5, "alexnet_small": alexnet_small, "alexnet": alexnet}


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
            grey.bias.zero_()
            edges.bias.zero_()
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
    """A Linear layer for its caller to draw. The process's own random numbers stay where they were.

    torch's skip_init is meant for this, and imports a third of a second of torch's compiler.
    """
    with torch.random.fork_rng(devices=[]):
        return nn.Linear(values, outputs)


def feature_dimension(trunk: nn.Sequential) -> int:
    """D, the number of features that the trunk gives an image."""
    return [layer for layer in trunk if isinstance(layer, nn.Linear)][-1].out_features


def parameter_count(trunk: nn.Module) -> int:
    """The number of trainable parameters."""
    return sum(p.numel() for p in trunk.parameters() if p.requires_grad)


@torch.no_grad()
def _draw(module: nn.Module, generator: torch.Generator) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            height, width = layer.kernel_size
            deviation = math.sqrt(2 / (height * width * layer.out_channels))
            _normal(layer.weight, deviation, generator)
            layer.bias.zero_()
        elif isinstance(layer, nn.Linear):
            _normal(layer.weight, 0.01, generator)
            layer.bias.zero_()
        elif isinstance(layer, nn.BatchNorm2d):
            layer.reset_parameters()


def _normal(weight: Tensor, deviation: float, generator: torch.Generator) -> None:
    weight.copy_(torch.empty(weight.shape).normal_(0, deviation, generator=generator))


def _convolution(layers: OrderedDict[str, nn.Module], number: int, conv: nn.Conv2d, batch_norm: bool) -> None:
    layers[f"conv{number}"] = conv
    if batch_norm:
        layers[f"bn{number}"] = nn.BatchNorm2d(conv.out_channels)
    layers[f"relu{number}"] = nn.ReLU()


def _classifier(layers: OrderedDict[str, nn.Module], inputs: int, width: int) -> None:
    layers["flatten"] = nn.Flatten()
    layers["dropout1"] = nn.Dropout(0.5)
    layers["fc1"] = nn.Linear(inputs, width)
    layers["fc1_relu"] = nn.ReLU()
    layers["dropout2"] = nn.Dropout(0.5)
    layers["fc2"] = nn.Linear(width, width)


def _sobel_first(sobel: str) -> OrderedDict[str, nn.Module]:
    if sobel not in SOBEL:
        raise ValueError(f"sobel {sobel!r} is not one of {', '.join(SOBEL)}")
    if sobel == "off":
        return OrderedDict()
    return OrderedDict(sobel=Sobel(frozen_kernels=sobel == "fixed"))


def _channels_after(sobel: str) -> int:
    return 3 if sobel == "off" else 2
