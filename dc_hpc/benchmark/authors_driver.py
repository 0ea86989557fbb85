"""Runs and times a checkout of the authors' code, in a process of its own; only its public functions are called.

    python authors_driver.py CHECKOUT DATA CYCLES EPOCHS SEED

prints one line of JSON: seconds of each cycle and of its parts, seconds of each probe epoch, threads; or `missing`.
Nothing of this package is imported, because the checkout's modules have names of their own choice.
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


class Silent:
    """In place of a TensorBoard writer: takes everything, writes nothing, and remembers when an epoch was reported."""

    def __init__(self) -> None:
        self.epochs: list[float] = []

    def add_scalar(self, tag: str, *values: Any, **named: Any) -> None:
        """A number; the first of a validation ends an epoch of the probe."""
        if "valid" in tag and tag.endswith("loss"):
            self.epochs.append(time.perf_counter())

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *values, **named: None


def timed(call: Callable[..., Any], spans: list[tuple[float, float]]) -> Callable[..., Any]:
    """The same function, noting when each call began and ended."""

    def inside(*values: Any, **named: Any) -> Any:
        began = time.perf_counter()
        try:
            return call(*values, **named)
        finally:
            spans.append((began, time.perf_counter()))

    return inside


def drive(data: str, cycles: int, epochs: int, seed: int) -> dict[str, Any]:
    """`cycles` of DeepCluster on Fashion-MNIST with k 5, then `epochs` of the probe behind the second convolution."""
    set_seed = importlib.import_module("utils").set_seed  # first: it imports most of what may be missing
    import deep_clustering
    import torch
    from deep_clustering_dataset import DeepClusteringDataset
    from deep_clustering_models import LeNet
    from evaluation.linear_probe import eval_linear
    from torchvision import transforms
    from torchvision.datasets import FashionMNIST

    set_seed(seed)
    train, test = (FashionMNIST(data, train=part) for part in (True, False))
    net, writer = LeNet(batch_normalization=True, device=torch.device("cpu")), Silent()
    spans: dict[str, list[tuple[float, float]]] = {"features": [], "clustering": [], "training": []}
    net.full_feed_forward = timed(net.full_feed_forward, spans["features"])
    net.deep_cluster_train = timed(net.deep_cluster_train, spans["training"])
    deep_clustering.sklearn_kmeans = timed(deep_clustering.sklearn_kmeans, spans["clustering"])
    optimizer = torch.optim.SGD(
        [p for p in net.parameters() if p.requires_grad], lr=0.1, momentum=0.1, weight_decay=0.001
    )
    images, normal = DeepClusteringDataset(train), transforms.Normalize(MEAN, STD)
    images.set_transform(transforms.ToTensor())
    centre = [transforms.Resize(44), transforms.CenterCrop(32)]
    deep_clustering.deep_cluster(
        model=net,
        dataset=images,
        n_clusters=5,
        loss_fn=torch.nn.CrossEntropyLoss(),
        optimizer=optimizer,
        n_cycles=cycles + 1,  # their loop leaves out the last one
        loading_transform=transforms.Compose([*centre, normal]),
        in_loop_transform=True,
        training_transform=transforms.Compose([transforms.RandomResizedCrop(32), normal]),
        random_state=seed,
        training_batch_size=128,
        training_shuffle=True,
        pca_components=None,
        writer=writer,
        verbose=1,  # their k-means is given verbose - 1, which must not be negative
    )
    ended = time.perf_counter()
    train.transform = transforms.Compose([*centre, transforms.RandomHorizontalFlip(), transforms.ToTensor(), normal])
    test.transform = transforms.Compose([*centre, transforms.ToTensor(), normal])
    probed = time.perf_counter()
    eval_linear(
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
    begins = [began for began, _ in spans["features"]]
    ends = [probed, *writer.epochs]
    return {
        "cycle": [after - began for began, after in zip(begins, [*begins[1:], ended])],
        **{name: [end - began for began, end in found] for name, found in spans.items()},
        "probe_epoch": [after - before for before, after in zip(ends, ends[1:])],
        "threads": torch.get_num_threads(),
    }


def main() -> None:
    """The command line; what the checkout prints goes to stderr."""
    checkout, data, cycles, epochs, seed = sys.argv[1:]
    sys.path[0] = checkout  # in place of this file's folder
    try:
        with contextlib.redirect_stdout(sys.stderr):
            if importlib.util.find_spec("tensorboard") is None:
                sys.modules["torch.utils.tensorboard"] = types.ModuleType("torch.utils.tensorboard")
                sys.modules["torch.utils.tensorboard"].SummaryWriter = Silent
            found = drive(data, int(cycles), int(epochs), int(seed))
    except ModuleNotFoundError as error:
        found = {"missing": error.name}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
