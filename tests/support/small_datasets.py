"""Small copies of the official data sets, and what they must be read as."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from support import official_formats as true

from dc_hpc.data.official import Dataset

TRAIN, TEST = true.random_split(25, (3, 32, 32), seed=1), true.random_split(12, (3, 32, 32), seed=2)
GREY_TRAIN, GREY_TEST = true.random_split(25, (1, 28, 28), seed=3), true.random_split(12, (1, 28, 28), seed=4)

WRITERS: dict[str, Callable[[Path], None]] = {
    "fmnist": lambda root: true.write_idx(root / "FashionMNIST/raw", GREY_TRAIN, GREY_TEST),
    "mnist": lambda root: true.write_idx(root / "MNIST/raw", GREY_TRAIN, GREY_TEST),
    "svhn": lambda root: true.write_svhn(root / "SVHN", TRAIN, TEST),
    "cifar10": lambda root: true.write_cifar10_python(root, TRAIN, TEST),
    "cifar10-binary": lambda root: true.write_cifar10_binary(root, TRAIN, TEST),
}


def assert_holds(dataset: Dataset, train: true.Split, test: true.Split) -> None:
    """Pixel by pixel and label by label; shapes, dtypes and contiguity too."""
    for images, labels, expected in (
        (dataset.train_images, dataset.train_labels, train),
        (dataset.test_images, dataset.test_labels, test),
    ):
        assert images.dtype == torch.uint8 and labels.dtype == torch.int64
        assert images.is_contiguous() and labels.is_contiguous()
        assert images.shape == expected[0].shape and labels.shape == expected[1].shape
        assert np.array_equal(images.numpy(), expected[0]) and np.array_equal(labels.numpy(), expected[1])


def contents(root: Path) -> dict[str, tuple[str, int]]:
    """{file: (MD5, time of change)}: what must stay the same."""
    files = [path for path in sorted(root.rglob("*")) if path.is_file()]
    return {str(path.relative_to(root)): (true.md5_of(path), path.stat().st_mtime_ns) for path in files}
