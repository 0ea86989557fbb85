"""Runs and times a checkout of the authors' code in a process of its own; it calls only public functions of theirs.

    python authors_driver.py CHECKOUT DATA DATASET CYCLES EPOCHS SEED

prints one line of JSON: seconds of each cycle and of its parts, seconds of each probe epoch, threads; or, as `missing`,
the package that the checkout needs and does not find. DATASET is fmnist, svhn or svhn-derived; the settings are those
of the authors' jobs of Figures 3a and 3b. This file imports nothing of dc_hpc, because modules of the checkout might
have the same names.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import sys
import time
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MODULES = ("utils", "deep_clustering", "deep_clustering_dataset", "deep_clustering_models", "evaluation.linear_probe")


@dataclass(frozen=True)
class Job:
    """The settings of one of the authors' jobs; pixels: mean and deviation of each channel."""

    k: int
    pca: int | None
    momentum: float
    batch_size: int
    resize: int
    pixels: tuple[tuple[float, ...], tuple[float, ...]]
    layer: str  # that is probed
    values: int  # of that layer for an image
    mirrors: bool  # whether the probe mirrors training images
    faiss: bool


FMNIST = Job(5, None, 0.1, 128, 44, ((0.2860,), (0.3205,)), "conv_2", 16 * 10 * 10, mirrors=True, faiss=False)
SVHN = Job(
    200, 256, 0.5, 64, 45, ((0.437, 0.443, 0.472), (0.198, 0.201, 0.197)), "relu_5", 512, mirrors=False, faiss=True
)


class EpochTimer:
    """Replaces a TensorBoard writer: accepts every call, writes nothing, and records when an epoch was reported."""

    def __init__(self) -> None:
        self.epochs: list[float] = []

    def add_scalar(self, tag: str, *values: Any, **named: Any) -> None:
        """Record the time of a validation loss, which ends an epoch of the probe."""
        if "valid" in tag and tag.endswith("loss"):
            self.epochs.append(time.perf_counter())

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *values, **named: None


def timed(call: Callable[..., Any], spans: list[tuple[float, float]]) -> Callable[..., Any]:
    """The same function, which also appends the begin and the end of each call to `spans`."""

    def inside(*values: Any, **named: Any) -> Any:
        began = time.perf_counter()
        try:
            return call(*values, **named)
        finally:
            spans.append((began, time.perf_counter()))

    return inside


def drive(data: str, dataset: str, cycles: int, epochs: int, seed: int) -> dict[str, Any]:
    """Run `cycles` of DeepCluster with the settings of their job for the data set, then `epochs` of its probe."""
    # By name, because these modules are not installed; utils first, which imports most of what may be missing.
    modules: list[Any] = [importlib.import_module(name) for name in MODULES]
    utils, deep_clustering, datasets, models, probe = modules
    import torch

    utils.set_seed(seed)
    job, (train, test) = FMNIST if dataset == "fmnist" else SVHN, images_of(dataset, data)
    device, timer = torch.device("cpu"), EpochTimer()
    if job.faiss:
        use_the_cpu(importlib.import_module("clustering").faiss)
        net = models.AlexNet_Micro(sobel=True, batch_normalization=True, device=device)
    else:
        net = models.LeNet(batch_normalization=True, device=device)
    spans: dict[str, list[tuple[float, float]]] = {"features": [], "clustering": [], "training": []}
    net.full_feed_forward = timed(net.full_feed_forward, spans["features"])
    net.deep_cluster_train = timed(net.deep_cluster_train, spans["training"])
    for name in ("sklearn_pca_whitening", "sklearn_kmeans", "faiss_kmeans"):
        if hasattr(deep_clustering, name):
            setattr(deep_clustering, name, timed(getattr(deep_clustering, name), spans["clustering"]))
    _run_cycles(deep_clustering, net, datasets.DeepClusteringDataset(train), job, timer, cycles, seed)
    ended = time.perf_counter()
    probe_started = _run_probe(probe, net, train, test, job, timer, epochs, seed)
    begins = [began for began, _ in spans["features"]]
    ends = [probe_started, *timer.epochs]
    bounds = list(zip(begins, [*begins[1:], ended]))
    return {
        "cycle": [after - began for began, after in bounds],
        **{name: [_within(found, *bound) for bound in bounds] for name, found in spans.items()},
        "probe_epoch": [after - before for before, after in zip(ends, ends[1:])],
        "threads": torch.get_num_threads(),
    }


def images_of(dataset: str, data: str) -> list[Any]:
    """The training and the test images, as data sets of torchvision."""
    from torchvision import datasets

    if dataset == "fmnist":
        return [datasets.FashionMNIST(data, train=part) for part in (True, False)]
    if dataset == "svhn":
        return [datasets.SVHN(str(Path(data) / "SVHN"), split=part) for part in ("train", "test")]
    return [svhn_of(Path(data) / f"{dataset}.npz", part) for part in ("train", "test")]


def svhn_of(path: Path, part: str) -> Any:
    """One part of images in an .npz file as torchvision's SVHN: their code takes only data sets that it knows."""
    import numpy as np
    from torchvision.datasets import SVHN

    found = SVHN.__new__(SVHN)
    with np.load(path) as arrays:
        found.data = arrays[f"{part}_images"].transpose(0, 3, 1, 2)
        found.labels = arrays[f"{part}_labels"].astype(np.int64)
    found.transform = found.target_transform = None
    return found


def use_the_cpu(faiss: Any) -> None:
    """Let their k-means, which asks for an index on a GPU, get the same index on the CPU."""
    if not hasattr(faiss, "StandardGpuResources"):
        faiss.StandardGpuResources, faiss.GpuIndexFlatConfig = types.SimpleNamespace, types.SimpleNamespace
        faiss.GpuIndexFlatL2 = lambda resources, width, config: faiss.IndexFlatL2(width)


def _within(spans: list[tuple[float, float]], begin: float, end: float) -> float:
    """The seconds of the calls between two times."""
    return sum(after - before for before, after in spans if begin <= before < end)


def _run_cycles(
    deep_clustering: Any, net: Any, images: Any, job: Job, writer: EpochTimer, cycles: int, seed: int
) -> None:
    import torch
    from torchvision import transforms

    trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.1, momentum=job.momentum, weight_decay=0.001)
    normal = transforms.Normalize(*job.pixels)
    images.set_transform(transforms.ToTensor())
    deep_clustering.deep_cluster(
        model=net,
        dataset=images,
        n_clusters=job.k,
        loss_fn=torch.nn.CrossEntropyLoss(),
        optimizer=optimizer,
        n_cycles=cycles + 1,  # their loop omits the last one
        loading_transform=transforms.Compose([transforms.Resize(job.resize), transforms.CenterCrop(32), normal]),
        in_loop_transform=True,
        training_transform=transforms.Compose([transforms.RandomResizedCrop(32), normal]),
        random_state=seed,
        training_batch_size=job.batch_size,
        training_shuffle=True,
        pca_components=job.pca,
        use_faiss=job.faiss,
        writer=writer,
        verbose=1,  # they call k-means with verbose - 1, which must not be negative
    )


def _run_probe(
    probe: Any, net: Any, train: Any, test: Any, job: Job, writer: EpochTimer, epochs: int, seed: int
) -> float:
    """Run the probe; return the time at which it started."""
    from torchvision import transforms

    centre = [transforms.Resize(job.resize), transforms.CenterCrop(32)]
    mirror = [transforms.RandomHorizontalFlip()] if job.mirrors else []
    pixels = [transforms.ToTensor(), transforms.Normalize(*job.pixels)]
    train.transform = transforms.Compose([*centre, *mirror, *pixels])
    test.transform = transforms.Compose([*centre, *pixels])
    started = time.perf_counter()
    probe.eval_linear(
        model=net,
        n_epochs=epochs,
        traindataset=train,
        validdataset=test,
        target_layer=job.layer,
        n_labels=10,
        features_size=job.values,
        avg_pool=None,
        random_state=seed,
        writer=writer,
        verbose=0,
    )
    return started


def main() -> None:
    """The command line; what the checkout prints goes to stderr."""
    checkout, data, dataset, cycles, epochs, seed = sys.argv[1:]
    sys.path[0] = checkout  # in place of this file's folder
    try:
        with contextlib.redirect_stdout(sys.stderr):
            if importlib.util.find_spec("tensorboard") is None:
                tensorboard: Any = types.ModuleType("torch.utils.tensorboard")
                tensorboard.SummaryWriter = EpochTimer
                sys.modules["torch.utils.tensorboard"] = tensorboard
            found = drive(data, dataset, int(cycles), int(epochs), int(seed))
    except ModuleNotFoundError as error:
        found = {"missing": error.name}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
