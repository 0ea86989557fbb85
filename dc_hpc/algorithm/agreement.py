"""How far two labellings of the same images agree (section 3.2), and how healthy a clustering is.

NMI is the paper's measure. It has a floor that grows with the number of clusters, so its value under random
labels (`chance`) and the adjusted measure (AMI) stand beside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

# The tails left out of the expected mutual information have a probability below exp(-60) = 1e-26 each.
TAIL = 60.0


class Agreement(NamedTuple):
    """How alike two labellings are, without dimension.

    nmi: 0..1. ami: at most 1, about 0 for labels with nothing in common. chance: the nmi to expect when one
    of the two labellings is shuffled.
    """

    nmi: float
    ami: float
    chance: float


class ClusterHealth(NamedTuple):
    """empty: clusters without an image. smallest, median, largest: images per cluster, over the others."""

    empty: int
    smallest: int
    median: float
    largest: int


def agreement(a: np.ndarray | Tensor, b: np.ndarray | Tensor) -> Agreement:
    """NMI, AMI and the chance level of NMI of two labellings (section 3.2; arithmetic mean of the entropies).

    a, b: (n,) integers >= 0, numpy or torch, n >= 1. Symmetric, and blind to the names of the clusters. The
    values are scikit-learn's, its conventions included: one cluster against one cluster agrees fully (nmi and
    ami 1), one against several not at all (0). chance = expected mutual information under permutation (Vinh
    et al. 2010) over the mean entropy; it is 1 where every permutation agrees fully.

    Raises ValueError: different lengths, empty, not integer, negative, not one-dimensional.
    """
    a, b = _checked(a, "a"), _checked(b, "b")
    _check_lengths(a, b)
    own_a, sizes_a = _compact(a)
    own_b, sizes_b = _compact(b)
    n = len(a)
    if len(sizes_a) == len(sizes_b) and len(sizes_a) in (1, n):
        return Agreement(1.0, 1.0, 1.0)  # all images in one cluster, or each in its own: no shuffling differs
    information = _information(*_contingency(own_a, own_b, len(sizes_b)), sizes_a, sizes_b)
    expected = _expected_information(sizes_a, sizes_b)
    entropy = (_entropy(sizes_a) + _entropy(sizes_b)) / 2
    return Agreement(
        nmi=float(min(information / entropy, 1.0)),
        ami=float((information - expected) / (entropy - expected)),
        chance=float(expected / entropy),
    )


def cluster_health(pseudo_labels: np.ndarray | Tensor, k: int) -> ClusterHealth:
    """Empty clusters among k, and the sizes of the others.

    pseudo_labels: (n,) integers in 0..k-1, n >= 1.
    Raises ValueError: as `agreement`, or a label that is not below k.
    """
    pseudo_labels = _checked(pseudo_labels, "pseudo_labels")
    if pseudo_labels.max() >= k:
        raise ValueError(f"pseudo_labels hold {pseudo_labels.max()}, not below k = {k}")
    sizes = np.bincount(pseudo_labels, minlength=k)
    filled = sizes[sizes > 0]
    return ClusterHealth(k - len(filled), int(filled.min()), float(np.median(filled)), int(filled.max()))


def label_entropy(pseudo_labels: np.ndarray | Tensor, labels: np.ndarray | Tensor) -> float:
    """Mean over the non-empty clusters, each counted once, of the entropy (nats) of the true labels inside.

    pseudo_labels, labels: (n,) integers >= 0, n >= 1. 0: every cluster is pure; log(classes): none knows
    anything. Raises ValueError: as `agreement`.
    """
    pseudo_labels, labels = _checked(pseudo_labels, "pseudo_labels"), _checked(labels, "labels")
    _check_lengths(pseudo_labels, labels)
    clusters, sizes = _compact(pseudo_labels)
    classes, class_sizes = _compact(labels)
    cluster, _, together = _contingency(clusters, classes, len(class_sizes))
    share = together / sizes[cluster]
    return float(-(share * np.log(share)).sum() / len(sizes)) + 0.0  # + 0.0: pure clusters give 0, not -0


def _checked(labels: np.ndarray | Tensor, name: str) -> np.ndarray:
    """The labels as a numpy array (n,) int64."""
    if hasattr(labels, "cpu"):  # a torch tensor; numpy need not know torch
        labels = labels.cpu()
    labels = np.asarray(labels)
    if labels.ndim != 1 or len(labels) == 0:
        raise ValueError(f"{name} must hold at least one label in one dimension, got shape {labels.shape}")
    if labels.dtype.kind not in "iu":
        raise ValueError(f"{name} must hold integers, got {labels.dtype}")
    if labels.min() < 0:
        raise ValueError(f"{name} must not be negative, got {labels.min()}")
    return labels.astype(np.int64, copy=False)


def _check_lengths(a: np.ndarray, b: np.ndarray) -> None:
    if len(a) != len(b):
        raise ValueError(f"two labellings of the same images have the same length, got {len(a)} and {len(b)}")


def _compact(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels renamed to 0.. without gaps, and the size of each cluster, none of them empty."""
    if labels.max() > 8 * len(labels) + 10_000:  # names too far apart to count in a table
        _, labels = np.unique(labels, return_inverse=True)
    sizes = np.bincount(labels)
    filled = sizes > 0
    return (np.cumsum(filled) - 1)[labels], sizes[filled]


def _contingency(a: np.ndarray, b: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row, column and count of the non-zero cells of the contingency table: one sort, never the table."""
    cells, counts = np.unique(a * classes + b, return_counts=True)
    return cells // classes, cells % classes, counts


def _information(
    row: np.ndarray, column: np.ndarray, together: np.ndarray, sizes_a: np.ndarray, sizes_b: np.ndarray
) -> float:
    """Mutual information in nats, not below 0, and 0 where rounding is all there is."""
    n = sizes_a.sum()
    terms = together / n * (np.log(together) + np.log(n) - np.log(sizes_a)[row] - np.log(sizes_b)[column])
    information = terms.sum()
    return information if information > np.finfo(np.float64).eps else 0.0


def _entropy(sizes: np.ndarray) -> float:
    share = sizes / sizes.sum()
    return -(share * np.log(share)).sum()


def _expected_information(sizes_a: np.ndarray, sizes_b: np.ndarray) -> float:
    """Mutual information to expect when one of two labellings with these cluster sizes is shuffled, in nats.

    The sum runs over all pairs of clusters and over the images two clusters may share, which is
    hypergeometric (Vinh et al. 2010). It depends on the two sizes alone, so every pair of DIFFERENT sizes is
    computed once: thousands of clusters have a few dozen sizes.
    """
    n = int(sizes_a.sum())
    some, some_times = np.unique(sizes_a, return_counts=True)
    others, others_times = np.unique(sizes_b, return_counts=True)
    if len(some) > len(others):  # the Python loop goes over the shorter list
        some, some_times, others, others_times = others, others_times, some, some_times
    expected = 0.0
    for size, times in zip(some.tolist(), some_times.tolist()):
        expected += times * float(others_times @ _expected_with(size, others, n))
    return expected


def _expected_with(size: int, others: np.ndarray, n: int) -> np.ndarray:
    """What a cluster of `size` images and one of each of the sizes `others` add to the expected information.

    One flat array holds, for each other size, the likely numbers of shared images in rising order. Their
    probabilities come from the ratio of neighbours and are made to sum to 1: factorials of n would cost ten
    digits to cancellation.
    """
    least, most = _likely(size, others, n)
    lengths = most - least + 1
    starts = np.cumsum(lengths) - lengths
    other = np.repeat(others, lengths)
    shared = np.arange(lengths.sum()) + np.repeat(least - starts, lengths)

    up = (size - shared + 1) * (other - shared + 1)
    down = shared * (n - size - other + shared)
    up[starts] = down[starts] = 1  # the first of each run has no neighbour below
    log_weight = np.cumsum(np.log(up / down))
    weight = np.exp(log_weight - np.repeat(np.maximum.reduceat(log_weight, starts), lengths))
    terms = weight * shared * np.log(np.maximum(shared, 1) * (n / size) / other) / n
    return np.add.reduceat(terms, starts) / np.add.reduceat(weight, starts)


def _likely(size: int, others: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """The fewest and the most shared images worth a term.

    Bernstein's inequality, which sampling without replacement obeys too:
    P(shared - mean >= t) <= exp(-t^2 / (2 (variance + t/3))), and the same below the mean.
    """
    mean = size * (others / n)
    variance = mean * (1 - np.maximum(others, size) / n)
    reach = TAIL / 3 + np.sqrt((TAIL / 3) ** 2 + 2 * TAIL * variance)
    least = np.maximum(np.maximum(0, size + others - n), np.floor(mean - reach).astype(np.int64))
    most = np.minimum(np.minimum(size, others), np.ceil(mean + reach).astype(np.int64))
    return least, most
