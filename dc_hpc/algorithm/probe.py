"""The linear probe of section 3.2: a linear classifier on the frozen trunk, trained on the true labels.

The trunk does not change while the probe learns, so its activations are computed once; that changes no bit of the
result. This is the only module of the algorithm that sees labels, and it runs after the algorithm.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, cross_entropy, linear

from dc_hpc.algorithm.arrays import Array, as_labels
from dc_hpc.algorithm.backends.evaluation import evaluate_in_batches
from dc_hpc.algorithm.backends.sgd import SGD
from dc_hpc.algorithm.divergence import DivergenceError
from dc_hpc.algorithm.matrices import as_matrix
from dc_hpc.algorithm.nets import undrawn_linear
from dc_hpc.algorithm.randomness import numpy_generator, torch_generator
from dc_hpc.algorithm.views import ImageViews

_TEST_BATCH = 128  # the authors' code: half the training batch; it decides `accuracy_batch_mean`


@dataclass(frozen=True)
class Probe:
    """Accuracies on the test set, in percent.

    accuracy: of the last epoch. accuracy_best: of the best epoch (it peeks at the test set). accuracy_batch_mean: mean
    over batches of 128 of the last epoch, where the last, smaller batch weighs as much as the others: the authors'
    way. loss: mean training cross-entropy of the last epoch, in nats. predicted, predicted_best: int64 (n,), the class
    that the last and the best epoch gave each test image; of equally good epochs the first is the best.
    """

    accuracy: float
    accuracy_best: float
    accuracy_batch_mean: float
    loss: float
    predicted: npt.NDArray[np.int64] = field(repr=False, compare=False)
    predicted_best: npt.NDArray[np.int64] = field(repr=False, compare=False)


@torch.no_grad()
def activations(
    trunk: nn.Module,
    images: ImageViews,
    layers: Sequence[str],
    *,
    mirrored: bool = False,
    average_pool: int | None = None,
    view: Callable[[slice], Tensor] | None = None,
) -> dict[str, Tensor]:
    """The values of the named layers for every image, in eval mode and one pass: float32 (n, values) each.

    layers: names by `trunk.named_modules()`, for example "conv2" or "layer4.1.conv2"; "" is the output of the net.
    mirrored: of the mirrored images. average_pool: window of an average pooling on maps, None for none (appendix A
    pools by 2). view: from rows to the inputs of the net, (rows, c, h, w); by default the clustering view. Raises
    ValueError: the trunk has no such layer, the layer gives no row for each image, or its map is smaller than the
    window.
    """
    if not isinstance(images, ImageViews):
        raise ValueError("images must be an ImageViews; pass ImageViews(images, views)")
    check_layers(trunk, layers)
    if not layers:
        return {}

    shown = view or images.clustering

    def batch(rows: slice) -> Tensor:
        return shown(rows).flip(-1) if mirrored else shown(rows)

    found: dict[str, Tensor] = {}
    for rows, values in evaluate_in_batches(trunk, layers, batch, len(images)):
        for name, value in values.items():
            flat = _pooled(name, value, average_pool).flatten(1)
            # one large block filled in place: collecting parts would hold everything twice
            found.setdefault(name, flat.new_empty(len(images), flat.shape[1]))[rows] = flat
    return found


def _pooled(layer: str, values: Tensor, window: int | None) -> Tensor:
    """The average-pooled maps of a layer; values that are no maps stay as they are."""
    if window is None or values.dim() != 4:
        return values
    height, width = values.shape[2:]
    if window > min(height, width):
        raise ValueError(f"average_pool {window} is larger than layer {layer!r}, whose maps are {height} x {width}")
    return avg_pool2d(values, window)


def check_layers(trunk: nn.Module, layers: Sequence[str]) -> None:
    """Raises ValueError that says which layers there are: the trunk does not have one of these."""
    if isinstance(layers, str):
        raise ValueError(f"layers must be a list of names; pass [{layers!r}]")
    names = [name for name, _ in trunk.named_modules(remove_duplicate=False)]
    top, inner = [name for name, _ in trunk.named_children()], [name for name in names if "." in name]
    for layer in layers:
        if layer not in names:
            more = f", and {len(inner)} inside them, for example {inner[-1]}" if inner else ""
            raise ValueError(f"layer {layer!r} is not in the net; its layers are {', '.join(top)}{more}")


def linear_probe(
    train: Array | Callable[[int], Array],
    train_labels: Array,
    test: Array,
    test_labels: Array,
    *,
    classes: int,
    seed: int,
    train_mirrored: Array | None = None,
    epochs: int = 20,
    lr: float = 0.01,
    momentum: float = 0.9,
    weight_decay: float = 1e-4,
    batch_size: int = 256,
    on_epoch: Callable[[int], None] = lambda epoch: None,
) -> Probe:
    """Train a Linear(values, classes) with cross-entropy and SGD; measure it on the test set after each epoch.

    train, test: float32 (n, values). Labels: int64 (n,), 0 to classes - 1. All of them tensors on one device, or NumPy
    arrays. train may be a function from the epoch to the values, for a view that is drawn anew in each epoch.
    train_mirrored: the same images mirrored; each image is then mirrored with probability 1/2 in each epoch. The
    learning rate of step t is lr / sqrt(1 + lr * weight_decay * t), as in the authors' code. The draws depend on `seed`
    alone, not on the layer. on_epoch: called at the start of each epoch with its number from 0.

    Raises ValueError: arrays that do not fit each other, a label that is no class. Raises DivergenceError, a
    ValueError: the loss of an epoch is NaN or infinite.
    """
    if epochs < 1 or batch_size < 1:
        raise ValueError(f"epochs {epochs} and batch_size {batch_size} must be 1 or more")
    images = _TrainingImages(train, train_labels, train_mirrored, classes)
    test, test_labels = _pair(test, test_labels, "test", classes)
    dimension = images.values.shape[1]
    if test.shape[1] != dimension:
        raise ValueError(f"train has {dimension} values an image and test {test.shape[1]}; take the same layer")
    classifier = _new_classifier(dimension, classes, seed).to(images.values.device)
    optimizer = SGD(classifier.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)
    rng, rates = numpy_generator(seed, 0, "probe"), _learning_rates(lr, weight_decay)
    accuracies: list[float] = []
    for epoch in range(epochs):
        on_epoch(epoch)
        images.begin(epoch)
        loss = _epoch(classifier, optimizer, images, rates, rng, batch_size)
        if not math.isfinite(loss):
            raise DivergenceError(f"the probe diverged in epoch {epoch} (loss {loss}); lower its lr")
        predicted = _predicted(classifier, test)
        correct: npt.NDArray[np.float64] = (predicted == test_labels).double().cpu().numpy()
        accuracies.append(float(100 * correct.mean()))
        if accuracies.index(max(accuracies)) == epoch:
            predicted_best = predicted
    return Probe(
        accuracies[-1],
        max(accuracies),
        _mean_of_batches(correct),
        loss,
        predicted.cpu().numpy(),
        predicted_best.cpu().numpy(),
    )


class _TrainingImages:
    """What the probe trains on: values (n, d), which may be drawn anew in each epoch, and labels (n,).

    With mirrored images the values are (2 n, d): each image, then each mirrored one.
    """

    def __init__(
        self, train: Array | Callable[[int], Array], labels: Array, mirrored: Array | None, classes: int
    ) -> None:
        self.drawn = train if callable(train) else None
        self.classes, self.is_mirrored = classes, mirrored is not None
        self.values, self.labels = _pair(train(0) if callable(train) else train, labels, "train", classes)
        if mirrored is not None:
            self.values = torch.cat([self.values, self._checked(mirrored)])

    def _checked(self, mirrored: Array) -> Tensor:
        """The values of the mirrored images. Raises ValueError: they do not belong to those of the plain ones."""
        if self.drawn:
            raise ValueError("train_mirrored needs a fixed train; let the function mirror the images")
        found, shape = as_matrix(mirrored, "train_mirrored"), self.values.shape
        if found.shape != shape:
            raise ValueError(f"train_mirrored must be {tuple(shape)} as train, not {tuple(found.shape)}")
        return found

    def begin(self, epoch: int) -> None:
        """Draw the values of an epoch, where they are drawn; the first ones are there."""
        if self.drawn and epoch:
            del self.values  # before the next ones are made: two of them may not fit
            self.values = _pair(self.drawn(epoch), self.labels, "train", self.classes)[0]

    def batch(self, indices: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """The values and the labels of these images; some of them mirrored, where there are mirrored ones."""
        rows = _some_mirrored(indices, len(self.labels), rng) if self.is_mirrored else indices
        # index_select: a third faster than values[rows] on one core
        return self.values.index_select(0, rows), self.labels[indices]


def _learning_rates(lr: float, weight_decay: float) -> Iterator[float]:
    """The learning rate of each step, as in the authors' code."""
    return (lr / math.sqrt(1 + lr * weight_decay * step) for step in count())


def _epoch(
    classifier: nn.Linear,
    optimizer: SGD,
    images: _TrainingImages,
    rates: Iterator[float],
    rng: np.random.Generator,
    batch_size: int,
) -> float:
    """A step on each batch of all images in a random order; the mean loss over the images."""
    n, total = len(images.labels), 0.0
    order = torch.from_numpy(rng.permutation(n)).to(images.labels.device)
    for indices in torch.split(order, batch_size):
        optimizer.lr = next(rates)
        values, labels = images.batch(indices, rng)
        total += _step(classifier, optimizer, values, labels) * len(indices)
    return total / n


def _mean_of_batches(correct: npt.NDArray[np.float64]) -> float:
    """`Probe.accuracy_batch_mean` from 1 for each test image that has its class, 0 for the others."""
    batches = [correct[i : i + _TEST_BATCH].mean() for i in range(0, len(correct), _TEST_BATCH)]
    return float(100 * np.mean(batches))


def _pair(values: Array, labels: Array, name: str, classes: int) -> tuple[Tensor, Tensor]:
    """The values (n, d) and the labels (n,) of the same images on one device, checked."""
    values = as_matrix(values, name)
    labels = as_labels(labels, len(values), f"{name}_labels").to(values.device)
    if int(labels.max()) >= classes:
        raise ValueError(
            f"{name}_labels hold {int(labels.max())}, and with classes {classes} the last is {classes - 1}"
        )
    return values, labels


def _step(classifier: nn.Linear, optimizer: SGD, batch: Tensor, labels: Tensor) -> float:
    loss = cross_entropy(classifier(batch), labels)
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()
    return loss.item()


@torch.no_grad()
def _new_classifier(values: int, classes: int, seed: int) -> nn.Linear:
    """torch's default initialisation of a Linear layer, which the authors' probe has, from our own key."""
    classifier = undrawn_linear(values, classes)
    generator, bound = torch_generator(seed, 0, "probe"), 1 / math.sqrt(values)
    for parameter in (classifier.weight, classifier.bias):
        parameter.copy_(torch.empty(parameter.shape).uniform_(-bound, bound, generator=generator))
    return classifier


def _some_mirrored(indices: Tensor, images: int, rng: np.random.Generator) -> Tensor:
    """The rows of a batch in [plain; mirrored]: each image mirrored with probability 1/2."""
    mirrored = torch.from_numpy(rng.random(len(indices)) < 0.5).to(indices.device)
    return indices + images * mirrored


@torch.no_grad()
def _predicted(classifier: nn.Linear, test: Tensor) -> Tensor:
    """int64 (n,): the class that the classifier gives each image."""
    outputs = linear(test, classifier.weight, classifier.bias)
    if not bool(outputs.isfinite().all()):
        raise DivergenceError("the probe diverged (outputs NaN or infinite); lower its lr")
    return outputs.argmax(1)
