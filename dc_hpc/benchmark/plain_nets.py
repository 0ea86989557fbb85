"""The networks of section 3.3 written plainly, from torch's stock layers and in eager mode: the reference for speed.

Layer names and shapes are those of `algorithm/nets.py`, so weights and results can be compared; how that room makes its
nets fast never reaches this one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn


def plain_net(network: str) -> nn.Sequential:
    """lenet5, alexnet_small or alexnet with batch norm (and the frozen Sobel filter), weights as torch draws them."""
    return {"lenet5": _lenet5, "alexnet_small": _alexnet_small, "alexnet": _alexnet}[network]()


def _lenet5() -> nn.Sequential:
    convolutions = [nn.Conv2d(1, 6, 5), nn.Conv2d(6, 16, 5)]
    layers = _blocks(convolutions, {1: nn.MaxPool2d(2), 2: nn.MaxPool2d(2)})
    layers |= {"flatten": nn.Flatten(), "fc1": nn.Linear(400, 120), "fc1_relu": nn.ReLU(), "fc2": nn.Linear(120, 84)}
    return nn.Sequential(OrderedDict(layers))


def _alexnet_small() -> nn.Sequential:
    convolutions = [
        nn.Conv2d(2, 48, 8, stride=3),
        nn.Conv2d(48, 126, 2),
        nn.Conv2d(126, 192, 3),
        nn.Conv2d(192, 192, 2),
        nn.Conv2d(192, 128, 2),
    ]
    pools = {number: nn.MaxPool2d(2, stride=1) for number in (1, 2, 5)}
    return nn.Sequential(OrderedDict(_sobel() | _blocks(convolutions, pools) | _classifier(128, 1024)))


def _alexnet() -> nn.Sequential:
    convolutions = [
        nn.Conv2d(2, 64, 11, stride=4, padding=2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.Conv2d(256, 256, 3, padding=1),
    ]
    pools = {number: nn.MaxPool2d(3, stride=2) for number in (1, 2, 5)}
    return nn.Sequential(OrderedDict(_sobel() | _blocks(convolutions, pools) | _classifier(9216, 2048)))


def _blocks(convolutions: Sequence[nn.Conv2d], pools: dict[int, nn.Module]) -> dict[str, nn.Module]:
    """conv, batch norm, ReLU, and a pool behind some of them."""
    layers: dict[str, nn.Module] = {}
    for number, convolution in enumerate(convolutions, start=1):
        layers |= {
            f"conv{number}": convolution,
            f"bn{number}": nn.BatchNorm2d(convolution.out_channels),
            f"relu{number}": nn.ReLU(),
        }
        if number in pools:
            layers[f"pool{number}"] = pools[number]
    return layers


def _classifier(inputs: int, width: int) -> dict[str, nn.Module]:
    return {
        "flatten": nn.Flatten(),
        "dropout1": nn.Dropout(0.5),
        "fc1": nn.Linear(inputs, width),
        "fc1_relu": nn.ReLU(),
        "dropout2": nn.Dropout(0.5),
        "fc2": nn.Linear(width, width),
    }


def _sobel() -> dict[str, nn.Module]:
    filters = nn.Sequential(OrderedDict(grey=nn.Conv2d(3, 1, 1), edges=nn.Conv2d(1, 2, 3, padding=1)))
    return {"sobel": filters.requires_grad_(False)}
