"""What the runs of one process share: the data set, its views, and the first forward pass of a net and seed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import nn

from dc_hpc.algorithm.authors.clustering import features_as_authors, reduction_as_authors
from dc_hpc.algorithm.clustering import Reduced, cluster_by_kmeans, principal_components, reduction
from dc_hpc.algorithm.deepcluster import ProgressFunction, features_for, ignore_progress
from dc_hpc.algorithm.views import ImageViews
from dc_hpc.config.run_config import RunConfig
from dc_hpc.data.custom import find_custom_data, is_digest_of
from dc_hpc.data.digests import PartDigests, part_digests
from dc_hpc.data.official import Dataset, load
from dc_hpc.errors import InputError
from dc_hpc.experiment.build import views_of
from dc_hpc.experiment.execution import Execution
from dc_hpc.experiment.reuse import first_pass

_Made = TypeVar("_Made")


class ProcessCache:
    """Keeps the last of each kind; everything in it is only read.

    keep: whether another run may need it; a process with one run keeps nothing.
    """

    def __init__(self, *, keep: bool = False) -> None:
        self.keep = keep
        self._known: dict[str, tuple[Any, Any]] = {}

    def images(self, config: RunConfig, execution: Execution, device: torch.device) -> tuple[Dataset, ImageViews]:
        """The data set of a run, and its training images with their views on the device."""
        name = (config.dataset, config.data_digest, config.train_digest, execution.data, len(config.mean))
        dataset, digests = self._remember("data set", name, lambda: _load(config, execution))
        if config.test_digest and digests.test != config.test_digest:
            raise _other_images(config, execution)
        views = views_of(config)
        viewed = (name, views, str(device))
        images = self._remember("views", viewed, lambda: ImageViews(dataset.train_images.to(device), views))
        return dataset, images

    def first_features(
        self,
        config: RunConfig,
        trunk: nn.Module,
        images: ImageViews,
        on_progress: ProgressFunction = ignore_progress,
    ) -> Reduced:
        """What the first clustering clusters: the features of the fresh `trunk`, reduced.

        With the authors' draws they are float64, as their k-means takes them.
        """
        name = (first_pass(config), str(images.device))

        def extract() -> Any:
            if config.draws == "authors":
                return features_as_authors(trunk, images, on_progress)
            return features_for(cluster_by_kmeans, trunk, images, on_progress)

        def reduced() -> Reduced:
            features = self._remember("features", name, extract)
            components = self._remember("components", name, lambda: principal_components(features))
            if config.draws == "authors":
                return reduction_as_authors(features, pca=config.pca, seed=config.seed, components=components)
            return reduction(features, pca=config.pca, components=components)

        return self._remember("reduced", (name, config.pca), reduced)

    def _remember(self, kind: str, name: Any, make: Callable[[], _Made]) -> _Made:
        known = self._known.get(kind)
        if known is not None and known[0] == name:
            return cast(_Made, known[1])
        self._known.pop(kind, None)  # before the new one is made: two of a kind may not fit
        made = make()
        if self.keep:
            self._known[kind] = (name, made)
        return made


def _load(config: RunConfig, execution: Execution) -> tuple[Dataset, PartDigests]:
    """The data set, whose training part must be the one that the run's identity names, and the digests of its parts.

    The digests of an official data set, and those of a run that names the digest of the whole file, are empty.
    """
    digests = PartDigests("", "")
    if config.data_digest or config.train_digest:
        path = find_custom_data(config.dataset, Path(execution.data))
        if path is None or (config.data_digest and not is_digest_of(path, config.data_digest)):
            raise _other_images(config, execution)
        digests = part_digests(path) if config.train_digest else digests
        if config.train_digest and digests.train != config.train_digest:
            raise _other_images(config, execution)
    dataset = load(config.dataset, Path(execution.data))
    channels = dataset.train_images.shape[1]
    if channels != len(config.mean):
        raise InputError(f"dataset {config.dataset} has {channels} channels, net {config.net} reads {len(config.mean)}")
    return dataset, digests


def _other_images(config: RunConfig, execution: Execution) -> InputError:
    return InputError(
        f"dataset {config.dataset} in {execution.data} is missing or not the one this run was made for; put the old "
        "one back, or submit the grid again to make new runs"
    )
