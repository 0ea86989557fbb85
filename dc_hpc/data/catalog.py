"""The data sets that the package fetches itself."""

from __future__ import annotations

# (channels, training images)
DATASETS = {"fmnist": (1, 60_000), "mnist": (1, 60_000), "svhn": (3, 73_257), "cifar10": (3, 50_000)}
