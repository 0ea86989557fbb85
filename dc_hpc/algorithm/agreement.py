"""How far two labellings of the same images agree (section 3.2), and how healthy a clustering is.

NMI is the paper's measure. It has a floor that grows with the number of clusters, so its value under random
labels (`chance`) and the adjusted measure (AMI) are computed with it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple, Union

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor

# The tails left out of the expected mutual information have a probability below exp(-60) = 1e-26 each.
TAIL = 60.0
PIECE = 1 << 14  # terms of the expected mutual information at a time, few enough for a core's cache

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Labels = Union[npt.NDArray[Any], "Tensor"]


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


def agreement(a: Labels, b: Labels) -> Agreement:
    """NMI, AMI and the chance level of NMI of two labellings (section 3.2; arithmetic mean of the entropies).

    a, b: (n,) integers >= 0, numpy or torch, n >= 1. Symmetric, and independent of the numbers of the clusters. The
    values are scikit-learn's, its conventions included: one cluster against one cluster agrees fully (nmi and
    ami 1), one against several not at all (0). chance = expected mutual information under permutation (Vinh
    et al. 2010) over the mean entropy; it is 1 where every permutation agrees fully.

    Raises ValueError: different lengths, empty, not integer, negative, not one-dimensional.
    """
    a, b = _pair(a, b)
    n, sizes_a, sizes_b, together = len(a), _sizes(a), _sizes(b), _sizes_together(a, b)
    if len(sizes_a) == len(sizes_b) and len(sizes_a) in (1, n):
        return Agreement(1.0, 1.0, 1.0)  # all images in one cluster, or each in its own: no shuffling differs
    information, entropy = _information(n, _mean_log(sizes_a), _mean_log(sizes_b), _mean_log(together))
    expected = _expected_information(sizes_a, sizes_b)
    return Agreement(
        nmi=float(min(information / entropy, 1.0)),
        ami=float((information - expected) / (entropy - expected)),
        chance=float(expected / entropy),
    )


def cluster_health(pseudo_labels: Labels, k: int) -> ClusterHealth:
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


def effective_clusters(pseudo_labels: Labels) -> float:
    """exp of the entropy of the cluster sizes: k where k clusters are equally large, 1 where one holds everything.

    pseudo_labels: (n,) integers >= 0, n >= 1. Raises ValueError: as `agreement`.
    """
    sizes = _sizes(_counted_names(_checked(pseudo_labels, "pseudo_labels")))
    return math.exp(math.log(int(sizes.sum())) - _mean_log(sizes))


def label_entropy(pseudo_labels: Labels, labels: Labels) -> float:
    """Mean over the non-empty clusters, each counted once, of the entropy (nats) of the true labels inside.

    pseudo_labels, labels: (n,) integers >= 0, n >= 1. 0: every cluster is pure; log(classes): every cluster has
    the classes in equal parts. Raises ValueError: as `agreement`.
    """
    pseudo_labels, labels = _pair(pseudo_labels, labels, "pseudo_labels", "labels")
    classes = int(labels.max()) + 1
    cells, together = np.unique(pseudo_labels * classes + labels, return_counts=True)
    sizes = np.bincount(pseudo_labels)
    share = together / sizes[cells // classes]
    return float(-(share * np.log(share)).sum() / np.count_nonzero(sizes)) + 0.0  # + 0.0: pure clusters give 0, not -0


def _checked(labels: Labels, name: str) -> Ints:
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


def _pair(a: Labels, b: Labels, name_a: str = "a", name_b: str = "b") -> tuple[Ints, Ints]:
    """Two labellings of the same images, int64 (n,), with names small enough to count in a table."""
    a, b = _checked(a, name_a), _checked(b, name_b)
    if len(a) != len(b):
        raise ValueError(f"two labellings of the same images have the same length, got {len(a)} and {len(b)}")
    return _counted_names(a), _counted_names(b)


def _counted_names(labels: Ints) -> Ints:
    if labels.max() > 8 * len(labels) + 10_000:  # names too far apart
        return np.unique(labels, return_inverse=True)[1]
    return labels


def _sizes(labels: Ints) -> Ints:
    """Images per cluster, over those that have any, in the order of their names."""
    sizes = np.bincount(labels)
    return sizes[sizes > 0]


def _sizes_together(a: Ints, b: Ints) -> Ints:
    """The cells of the contingency table, (m,): counted where the table is short, else the non-zero ones by one
    sort, in half the bytes where they suffice. The whole table of thousands by thousands is never made."""
    classes = int(b.max()) + 1
    cells = (int(a.max()) + 1) * classes
    if 4 * cells <= len(a):
        return np.bincount(a * classes + b)
    kind: type[np.signedinteger[Any]] = np.int32 if cells < 2**31 else np.int64
    together = np.sort(a.astype(kind) * kind(classes) + b.astype(kind))
    starts = np.flatnonzero(together[1:] != together[:-1]) + 1
    return np.diff(starts, prepend=0, append=len(a))


def _mean_log(sizes: Ints) -> float:
    """The mean over the images of the log of the size of their own cluster; every DIFFERENT size takes one log."""
    times = np.bincount(sizes)
    times[0] = 0  # no image is in an empty cluster, and there is no log of 0
    size = np.flatnonzero(times)
    return math.fsum(times[size] * size * np.log(size)) / int(sizes.sum())


def _information(n: int, log_a: float, log_b: float, log_both: float) -> tuple[float, float]:
    """Mutual information, 0 where rounding is all there is, and the mean of the entropies, in nats.

    An entropy is log n minus the mean log of the sizes, and H(a) + H(b) - H(a, b) the information.
    """
    entropy_a, entropy_b = math.log(n) - log_a, math.log(n) - log_b
    information = entropy_a + entropy_b - (math.log(n) - log_both)
    return information if information > _rounding(n) else 0.0, (entropy_a + entropy_b) / 2


def _rounding(n: int) -> float:
    """A threshold in nats: above the rounding of an information of 0, below the least positive one, about 1 / n^2."""
    return 16 * 2.0**-52 * math.log(n)


def _expected_information(sizes_a: Ints, sizes_b: Ints) -> float:
    """Mutual information to expect when one of two labellings with these cluster sizes is shuffled, in nats.

    The sum runs over all pairs of clusters and over the images two clusters may share, which is
    hypergeometric (Vinh et al. 2010). It depends on the two sizes alone, so every pair of DIFFERENT sizes is
    computed once: thousands of clusters have a few dozen sizes.
    """
    n = int(sizes_a.sum())
    some, some_times = np.unique(sizes_a, return_counts=True)
    others, others_times = np.unique(sizes_b, return_counts=True)
    size, other = np.repeat(some, len(others)), np.tile(others, len(some))
    times = np.outer(some_times, others_times).ravel()
    least, most = _likely(size, other, n)
    pieces = np.cumsum(most - least + 1) // PIECE
    expected, start = 0.0, 0
    for end in [*(np.flatnonzero(np.diff(pieces)) + 1).tolist(), len(size)]:
        own = slice(start, end)
        expected += float(times[own] @ _expected_of(size[own], other[own], least[own], most[own], n))
        start = end
    return expected


def _expected_of(size: Ints, other: Ints, least: Ints, most: Ints, n: int) -> Floats:
    """What each pair of one cluster of `size` images and one of `other` adds to the expected information.

    One flat array holds, for each pair, the likely numbers of shared images in rising order. Their probabilities
    come from the ratio of neighbours and are made to sum to 1: factorials of n would cost ten digits to
    cancellation.
    """
    lengths = most - least + 1
    starts = np.cumsum(lengths) - lengths
    shared = np.arange(lengths.sum()) + np.repeat(least - starts, lengths)
    size, other = np.repeat(size, lengths), np.repeat(other, lengths)

    up = (size - shared + 1) * (other - shared + 1)
    down = shared * (n - size - other + shared)
    up[starts] = down[starts] = 1  # the first of each run has no neighbour below
    log_weight = np.cumsum(np.log(up / down))
    weight = np.exp(log_weight - np.repeat(np.maximum.reduceat(log_weight, starts), lengths))
    terms = weight * shared * np.log(np.maximum(shared, 1) * (n / size) / other) / n
    return np.add.reduceat(terms, starts) / np.add.reduceat(weight, starts)


def _likely(size: Ints, others: Ints, n: int) -> tuple[Ints, Ints]:
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
