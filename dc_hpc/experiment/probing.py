"""The linear probe of a finished run: how well the layers of its trunk separate the true classes (section 3.2)."""

from __future__ import annotations

from typing import Any

from torch import nn

from dc_hpc.algorithm.deepcluster import ProgressFunction, ignore_progress
from dc_hpc.algorithm.divergence import DivergenceError
from dc_hpc.algorithm.probe import Probe, activations, linear_probe
from dc_hpc.algorithm.views import ImageViews
from dc_hpc.config.run_config import RunConfig
from dc_hpc.data.official import Dataset
from dc_hpc.experiment.build import views_of
from dc_hpc.storage import run_directory


def probe_layers(
    trunk: nn.Module,
    config: RunConfig,
    images: ImageViews,
    dataset: Dataset,
    on_progress: ProgressFunction = ignore_progress,
) -> dict[str, Any]:
    """The accuracies of every probed layer, in percent; those of the first, which the paper probes, as `accuracy` too.

    images: the training images, on the device of the trunk. on_progress: called with "probe" and the number of epochs,
    over all layers. Empty where the run probes nothing. A probe that diverges gives no accuracy: its numbers are
    None, and `probe_diverged` names its layer, and others with a space between them.
    """
    if not config.probe:
        return {}
    on_progress("probe", 0, 0)
    device, pool = images.device, config.probe_average_pool
    test_images = ImageViews(dataset.test_images.to(device), views_of(config))
    train = activations(trunk, images, config.probe, average_pool=pool)
    mirrored = {}
    if config.probe_flip:
        mirrored = activations(trunk, images, config.probe, mirrored=True, average_pool=pool)
    test = activations(trunk, test_images, config.probe, average_pool=pool)
    train_labels, test_labels = dataset.train_labels.to(device), dataset.test_labels.to(device)
    accuracies: dict[str, Any] = {}
    diverged: list[str] = []
    for place, layer in enumerate(config.probe):

        def on_epoch(epoch: int, before: int = place * config.probe_epochs) -> None:
            on_progress("probe", before + epoch, len(config.probe) * config.probe_epochs)

        probe: Probe | None = None
        try:
            probe = linear_probe(
                train[layer],
                train_labels,
                test[layer],
                test_labels,
                classes=dataset.classes,
                seed=config.seed,
                train_mirrored=mirrored.get(layer),
                epochs=config.probe_epochs,
                lr=config.probe_lr,
                momentum=config.probe_momentum,
                weight_decay=config.probe_weight_decay,
                batch_size=config.probe_batch_size,
                on_epoch=on_epoch,
            )
        except DivergenceError:
            diverged.append(layer)
        if layer == config.probe[0]:
            accuracies |= {
                "accuracy": probe and probe.accuracy,
                "accuracy_best": probe and probe.accuracy_best,
                "accuracy_batch_mean": probe and probe.accuracy_batch_mean,
                "probe_loss": probe and probe.loss,
            }
        accuracies[f"accuracy_{layer}"] = probe and probe.accuracy
    return accuracies | ({run_directory.PROBE_DIVERGED: " ".join(diverged)} if diverged else {})
