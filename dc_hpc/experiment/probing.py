"""The linear probe of a finished run: how well the layers of its trunk separate the true classes (section 3.2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor, nn

from dc_hpc.algorithm.deepcluster import ProgressFunction, ignore_progress
from dc_hpc.algorithm.divergence import DivergenceError
from dc_hpc.algorithm.probe import Probe, activations, linear_probe
from dc_hpc.algorithm.randomness import numpy_generator
from dc_hpc.algorithm.views import ImageViews
from dc_hpc.config.run_config import RunConfig
from dc_hpc.data.official import Dataset
from dc_hpc.experiment.build import views_of
from dc_hpc.storage import run_directory
from dc_hpc.storage.predictions import LayerPredictions


@dataclass
class ProbedLayers:
    """What the probe of a run found.

    numbers: the accuracies of every probed layer, in percent; those of the first, which the paper probes, as `accuracy`
    too; the number of test images. A probe that diverges gives no accuracy: its numbers are None, and `probe_diverged`
    names its layer, and others with a space between them. predictions: layer -> the classes of the test images.
    """

    numbers: dict[str, Any] = field(default_factory=dict)
    predictions: dict[str, LayerPredictions] = field(default_factory=dict)


def probe_layers(
    trunk: nn.Module,
    config: RunConfig,
    images: ImageViews,
    dataset: Dataset,
    on_progress: ProgressFunction = ignore_progress,
) -> ProbedLayers:
    """Probe the layers that the run asks for; empty where it asks for none.

    images: the training images, on the device of the trunk. on_progress: called with "probe" and the number of epochs,
    over all layers.
    """
    found = ProbedLayers()
    if not config.probe:
        return found
    on_progress("probe", 0, 0)
    values = _values_of(trunk, config, images, dataset)
    found.numbers["test_images"] = len(dataset.test_labels)
    for place, layer in enumerate(config.probe):
        probe = _probe(layer, config, values, dataset, _epochs_after(place, config, on_progress))
        found.numbers |= _numbers(layer, probe, is_first=place == 0)
        if probe:
            truth = dataset.test_labels.numpy()
            found.predictions[layer] = LayerPredictions(probe.predicted, probe.predicted_best, truth)
    diverged = [layer for layer in config.probe if layer not in found.predictions]
    if diverged:
        found.numbers[run_directory.PROBE_DIVERGED] = " ".join(diverged)
    return found


class _Values(NamedTuple):
    """The values of every probed layer, by its name. train: (n, d), or a function from the epoch to them."""

    train: Mapping[str, Tensor | Callable[[int], Tensor]]
    mirrored: Mapping[str, Tensor]
    test: Mapping[str, Tensor]


def _values_of(trunk: nn.Module, config: RunConfig, images: ImageViews, dataset: Dataset) -> _Values:
    """What the trunk makes of the training images, plain and, if the run asks for it, mirrored; and of the test set."""
    test_images = ImageViews(dataset.test_images.to(images.device), views_of(config))
    fixed, mirrored = _fixed_values(trunk, config, images)
    drawn = {layer: _drawn_values(trunk, config, images, layer) for layer in config.probe if layer not in fixed}
    test = activations(trunk, test_images, config.probe, average_pool=config.probe_average_pool)
    return _Values({**fixed, **drawn}, mirrored, test)


def _probe(
    layer: str, config: RunConfig, values: _Values, dataset: Dataset, on_epoch: Callable[[int], None]
) -> Probe | None:
    """The probe of a layer; None where it diverges."""
    device = values.test[layer].device
    try:
        return linear_probe(
            values.train[layer],
            dataset.train_labels.to(device),
            values.test[layer],
            dataset.test_labels.to(device),
            classes=dataset.classes,
            seed=config.seed,
            train_mirrored=values.mirrored.get(layer),
            epochs=config.probe_epochs,
            lr=config.probe_lr,
            momentum=config.probe_momentum,
            weight_decay=config.probe_weight_decay,
            batch_size=config.probe_batch_size,
            on_epoch=on_epoch,
        )
    except DivergenceError:
        return None


def _epochs_after(place: int, config: RunConfig, on_progress: ProgressFunction) -> Callable[[int], None]:
    """The `on_epoch` of the layer at a place: the epochs count over all layers."""
    before, total = place * config.probe_epochs, len(config.probe) * config.probe_epochs
    return lambda epoch: on_progress("probe", before + epoch, total)


def _numbers(layer: str, probe: Probe | None, *, is_first: bool) -> dict[str, Any]:
    """The numbers of a layer in the result of a run."""
    numbers: dict[str, Any] = {f"accuracy_{layer}": probe and probe.accuracy}
    if is_first:
        numbers |= {
            "accuracy": probe and probe.accuracy,
            "accuracy_best": probe and probe.accuracy_best,
            "accuracy_batch_mean": probe and probe.accuracy_batch_mean,
            "probe_loss": probe and probe.loss,
        }
    return numbers


def _fixed_values(
    trunk: nn.Module, config: RunConfig, images: ImageViews
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The values of every probed layer for the training images and for their mirror images, where the run has them."""
    if config.probe_crop:
        return {}, {}
    pool = config.probe_average_pool
    train = activations(trunk, images, config.probe, average_pool=pool)
    flipped = config.probe if config.probe_flip else ()
    return train, activations(trunk, images, flipped, mirrored=True, average_pool=pool)


def _drawn_values(trunk: nn.Module, config: RunConfig, images: ImageViews, layer: str) -> Callable[[int], Tensor]:
    """From the epoch to the values of a layer, where every image is cut at random anew (appendix A).

    The draws depend on the seed and the epoch, not on the layer.
    """

    def values(epoch: int) -> Tensor:
        rng = numpy_generator(config.seed, epoch + 1, "probe")  # 0 belongs to the classifier and the order
        corners = rng.integers(0, config.resize - config.crop + 1, (len(images), 2))
        mirrored = (rng.random(len(images)) < 0.5) & config.probe_flip

        def view(rows: slice) -> Tensor:
            plain = images.cut_at(rows, corners[rows])
            flip = np.flatnonzero(mirrored[rows])
            plain[flip] = plain[flip].flip(-1)
            return plain

        return activations(trunk, images, [layer], average_pool=config.probe_average_pool, view=view)[layer]

    return values
