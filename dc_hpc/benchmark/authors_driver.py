"""Runs and times a checkout of the authors' code in a process of its own; it calls only public functions of theirs.

    python authors_driver.py CHECKOUT DATA CYCLES EPOCHS SEED

prints one line of JSON: seconds of each cycle and of its parts, seconds of each probe epoch, threads; or, as `missing`,
the package that the checkout needs and does not find. This file imports nothing of dc_hpc, because modules of the
checkout might have the same names.
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
from typing import Any

FEATURES_OF_CONV2 = 1600  # values of LeNet's second convolution: 16 x 10 x 10
MEAN, STD = (0.2860,), (0.3205,)
MODULES = ("utils", "deep_clustering", "deep_clustering_dataset", "deep_clustering_models", "evaluation.linear_probe")


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


def drive(data: str, cycles: int, epochs: int, seed: int) -> dict[str, Any]:
    """Run `cycles` of DeepCluster on Fashion-MNIST with k 5, then `epochs` of the probe on the second convolution."""
    # By name, because these modules are not installed; utils first, which imports most of what may be missing.
    modules: list[Any] = [importlib.import_module(name) for name in MODULES]
    utils, deep_clustering, datasets, models, probe = modules
    import torch
    from torchvision.datasets import FashionMNIST

    utils.set_seed(seed)
    train, test = (FashionMNIST(data, train=part) for part in (True, False))
    net, timer = models.LeNet(batch_normalization=True, device=torch.device("cpu")), EpochTimer()
    spans: dict[str, list[tuple[float, float]]] = {"features": [], "clustering": [], "training": []}
    net.full_feed_forward = timed(net.full_feed_forward, spans["features"])
    net.deep_cluster_train = timed(net.deep_cluster_train, spans["training"])
    deep_clustering.sklearn_kmeans = timed(deep_clustering.sklearn_kmeans, spans["clustering"])
    _run_cycles(deep_clustering, net, datasets.DeepClusteringDataset(train), timer, cycles, seed)
    ended = time.perf_counter()
    probe_started = _run_probe(probe, net, train, test, timer, epochs, seed)
    begins = [began for began, _ in spans["features"]]
    ends = [probe_started, *timer.epochs]
    return {
        "cycle": [after - began for began, after in zip(begins, [*begins[1:], ended])],
        **{name: [end - began for began, end in found] for name, found in spans.items()},
        "probe_epoch": [after - before for before, after in zip(ends, ends[1:])],
        "threads": torch.get_num_threads(),
    }


def _run_cycles(deep_clustering: Any, net: Any, images: Any, writer: EpochTimer, cycles: int, seed: int) -> None:
    import torch
    from torchvision import transforms

    trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.1, momentum=0.1, weight_decay=0.001)
    normal = transforms.Normalize(MEAN, STD)
    images.set_transform(transforms.ToTensor())
    deep_clustering.deep_cluster(
        model=net,
        dataset=images,
        n_clusters=5,
        loss_fn=torch.nn.CrossEntropyLoss(),
        optimizer=optimizer,
        n_cycles=cycles + 1,  # their loop omits the last one
        loading_transform=transforms.Compose([transforms.Resize(44), transforms.CenterCrop(32), normal]),
        in_loop_transform=True,
        training_transform=transforms.Compose([transforms.RandomResizedCrop(32), normal]),
        random_state=seed,
        training_batch_size=128,
        training_shuffle=True,
        pca_components=None,
        writer=writer,
        verbose=1,  # they call k-means with verbose - 1, which must not be negative
    )


def _run_probe(probe: Any, net: Any, train: Any, test: Any, writer: EpochTimer, epochs: int, seed: int) -> float:
    """Run the probe; return the time at which it started."""
    from torchvision import transforms

    centre = [transforms.Resize(44), transforms.CenterCrop(32)]
    pixels = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    train.transform = transforms.Compose([*centre, transforms.RandomHorizontalFlip(), *pixels])
    test.transform = transforms.Compose([*centre, *pixels])
    started = time.perf_counter()
    probe.eval_linear(
        model=net,
        n_epochs=epochs,
        traindataset=train,
        validdataset=test,
        target_layer="conv_2",
        n_labels=10,
        features_size=FEATURES_OF_CONV2,
        avg_pool=None,
        random_state=seed,
        writer=writer,
        verbose=0,
    )
    return started


def main() -> None:
    """The command line; what the checkout prints goes to stderr."""
    checkout, data, cycles, epochs, seed = sys.argv[1:]
    sys.path[0] = checkout  # in place of this file's folder
    try:
        with contextlib.redirect_stdout(sys.stderr):
            if importlib.util.find_spec("tensorboard") is None:
                tensorboard: Any = types.ModuleType("torch.utils.tensorboard")
                tensorboard.SummaryWriter = EpochTimer
                sys.modules["torch.utils.tensorboard"] = tensorboard
            found = drive(data, int(cycles), int(epochs), int(seed))
    except ModuleNotFoundError as error:
        found = {"missing": error.name}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
