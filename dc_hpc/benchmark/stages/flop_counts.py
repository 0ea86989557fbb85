"""Derives the operation count of each stage from sizes alone: FLOP (a float multiplication or addition) or bytes moved.

A count holds what the result needs, not what an implementation happens to do. Bias, batch norm, ReLU and pooling are
left out, as in torch's own counter; they are under 2 % of the arithmetic, though not of the time.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import nn


class Layer(NamedTuple):
    """A layer that multiplies. macs: multiply-adds for one image. trained: whether its weights are trained."""

    name: str
    macs: int
    trained: bool


def layers(net: nn.Sequential, channels: int, side: int, *, until: str | None = None) -> list[Layer]:
    """The convolutions and Linear layers of a net for channels x side x side images, up to the layer `until`."""
    found: list[Layer] = []
    for name, layer in net.named_children():
        if isinstance(layer, nn.Sequential):
            found += layers(layer, channels, side)
            channels = [part for part in layer if isinstance(part, nn.Conv2d)][-1].out_channels
        elif isinstance(layer, nn.Conv2d):
            side = _side_after(side, layer)
            inputs = channels // layer.groups * math.prod(layer.kernel_size)
            channels = layer.out_channels
            found.append(Layer(name, side * side * channels * inputs, layer.weight.requires_grad))
        elif isinstance(layer, nn.MaxPool2d):
            side = _side_after(side, layer)
        elif isinstance(layer, nn.Linear):
            found.append(Layer(name, layer.in_features * layer.out_features, layer.weight.requires_grad))
        if name == until:
            break
    return found


def _side_after(side: int, layer: nn.Conv2d | nn.MaxPool2d) -> int:
    kernel, stride, padding = (_first(value) for value in (layer.kernel_size, layer.stride, layer.padding))
    return (side + 2 * padding - kernel) // stride + 1


def _first(value: int | str | tuple[int, ...]) -> int:
    """torch gives a pair for a convolution, a number for a pool; the paddings of our nets are never strings."""
    return value[0] if isinstance(value, tuple) else int(value)


def forward_flop(images: int, found: list[Layer]) -> float:
    """Two FLOP for each multiply-add."""
    return 2.0 * images * sum(layer.macs for layer in found)


def training_flop(images: int, found: list[Layer], *, features: int, k: int) -> float:
    """The forward pass, the gradient of every trained weight, and the gradient of every input that trained layers made.

    The first trained layer needs no gradient of its input, and a frozen Sobel filter needs none at all. features, k:
    of the head.
    """
    total, after_trained = 0, False
    for layer in [*found, Layer("head", features * k, True)]:
        total += layer.macs * (1 + layer.trained + after_trained)
        after_trained = after_trained or layer.trained
    return 2.0 * images * total


def probe_flop(found: list[Layer], *, train: int, test: int, values: int, classes: int, epochs: int) -> float:
    """The frozen trunk once over both sets; in each epoch the classifier's forward pass and its weights' gradient over
    the training set, and its forward pass over the test set.
    """
    return forward_flop(train + test, found) + 2.0 * epochs * values * classes * (2 * train + test)


def pca_flop(n: int, d: int, pca: int) -> float:
    """The covariance, whose upper half suffices: n d (d + 1); its eigenvectors: 9 d^3, the count of the symmetric QR
    algorithm with vectors (Golub and Van Loan, section 8.3); the projection: 2 n d pca.
    """
    return float(n * d * (d + 1) + 9 * d**3 + 2 * n * d * pca)


def kmeans_flop(n: int, d: int, k: int, iterations: int) -> float:
    """`iterations` of Lloyd and the final assignment: 2 n k d for each assignment, n d for each update."""
    return float((iterations + 1) * 2 * n * k * d + iterations * n * d)


def plusplus_flop(n: int, d: int, k: int) -> float:
    """Greedy k-means++: k - 1 rounds that compare 2 + log(k) candidates with all points (2 n d each), then one
    assignment to the centroids found.
    """
    return float((k - 1) * (2 + int(math.log(k))) * 2 * n * d + 2 * n * k * d)


def views_bytes(images: int, channels: int, side: int, crop: int) -> float:
    """uint8 images read, float32 views written."""
    return float(images * channels * (side * side + 4 * crop * crop))


def sampling_bytes(drawn: int, channels: int, crop: int) -> float:
    """uint8 views read, float32 batches written, and 8 bytes for the index of each image drawn."""
    return float(drawn * (5 * channels * crop * crop + 8))


def agreement_bytes(n: int) -> float:
    """Two int64 labellings read once."""
    return 16.0 * n
