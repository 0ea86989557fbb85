"""Agreement between labellings against scikit-learn, scipy and exact counting."""

from __future__ import annotations

import math
import subprocess
import sys
import time
import tracemalloc

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_mutual_info_score, normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix, expected_mutual_information

from dc_hpc.algorithm.agreement import agreement, cluster_health, label_entropy

PAIRS = st.integers(1, 120).flatmap(
    lambda n: st.tuples(*(st.lists(st.integers(0, k), min_size=n, max_size=n) for k in (12, 3)))
)


def related(n: int, ka: int, kb: int, share: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two labellings, the second following the first in `share` of the images."""
    rng = np.random.default_rng(seed)
    a = rng.integers(ka, size=n)
    return a, np.where(rng.random(n) < share, a % kb, rng.integers(kb, size=n))


# ---- agreement


@settings(max_examples=150, deadline=None)
@given(PAIRS)
def test_equal_to_sklearn(pair):
    a, b = map(np.array, pair)
    found = agreement(a, b)
    assert found.nmi == pytest.approx(normalized_mutual_info_score(a, b), abs=1e-10)
    if len(np.unique(a)) < len(a) and len(np.unique(b)) < len(b):  # else sklearn divides rounding by rounding
        assert found.ami == pytest.approx(adjusted_mutual_info_score(a, b), abs=1e-10)


@pytest.mark.parametrize(
    "ka, kb, share",
    [
        (5, 10, 0.5),
        (40, 10, 0.1),
        (40, 40, 0.9),
        (300, 10, 0.3),
        (300, 300, 0),
    ],
)
def test_equal_to_sklearn_on_thousands_of_images(ka, kb, share):
    a, b = related(3000, ka, kb, share)
    found = agreement(a, b)
    assert found.nmi == pytest.approx(normalized_mutual_info_score(a, b), abs=1e-10)
    assert found.ami == pytest.approx(adjusted_mutual_info_score(a, b), abs=1e-10)
    table = contingency_matrix(a, b, sparse=True)
    entropy = (scipy.stats.entropy(np.bincount(a)) + scipy.stats.entropy(np.bincount(b))) / 2
    assert found.chance == pytest.approx(expected_mutual_information(table, len(a)) / entropy, abs=1e-10)


@pytest.mark.parametrize(
    "a, b",
    [
        ([0], [0]),
        ([7], [3]),
        ([0, 0, 0], [0, 0, 0]),
        ([0, 0, 0], [0, 1, 2]),
        ([0, 1, 2], [5, 5, 5]),
        ([0, 0, 1, 1], [0, 0, 0, 0]),
        ([0, 0, 1, 1], [1, 1, 0, 0]),
        ([0, 0, 1, 1], [0, 1, 0, 1]),
        ([0, 1], [1, 0]),
        ([0, 1, 2, 3], [3, 1, 0, 2]),
    ],
)
def test_degenerate_cases_follow_sklearn(a, b):
    found = agreement(np.array(a), np.array(b))
    assert found.nmi == pytest.approx(normalized_mutual_info_score(a, b), abs=1e-10)
    assert found.ami == pytest.approx(adjusted_mutual_info_score(a, b), abs=1e-10)


def test_chance_is_exact_on_counted_permutations():
    a, b = np.array([0] * 9 + [1] * 4 + [2] * 27), np.array([0] * 30 + [1] * 10)
    n, expected = 40, 0.0
    for i in (9, 4, 27):
        for j in (30, 10):
            for x in range(max(1, i + j - n), min(i, j) + 1):
                probability = math.comb(i, x) * math.comb(n - i, j - x) / math.comb(n, j)
                expected += probability * x / n * math.log(n * x / (i * j))
    entropy = (scipy.stats.entropy([9, 4, 27]) + scipy.stats.entropy([30, 10])) / 2
    assert agreement(a, b).chance == pytest.approx(expected / entropy, rel=1e-13)


def test_chance_is_exact_where_only_the_likely_overlaps_are_summed():
    a, b = np.arange(2000) % 2, np.arange(2000) // 500  # sizes 1000 and 500 share 0..500, most likely 250
    expected = 0.0
    for x in range(1, 501):
        probability = float(scipy.stats.hypergeom.pmf(x, 2000, 1000, 500))
        expected += 8 * probability * x / 2000 * math.log(2000 * x / (1000 * 500))
    entropy = (math.log(2) + math.log(4)) / 2
    assert agreement(a, b).chance == pytest.approx(expected / entropy, rel=1e-9)


def test_chance_is_the_mean_nmi_of_shuffled_labels():
    a, b = related(1500, 60, 10, 0.5)
    rng = np.random.default_rng(1)
    shuffled = [agreement(rng.permutation(a), b).nmi for _ in range(200)]
    error = np.std(shuffled) / math.sqrt(200)
    assert agreement(a, b).chance == pytest.approx(np.mean(shuffled), abs=4 * error)


def test_chance_grows_with_k_and_ami_of_random_labels_does_not():
    rng = np.random.default_rng(0)
    labels = rng.integers(10, size=20_000)
    found = [agreement(rng.integers(k, size=20_000), labels) for k in (5, 50, 500, 5000)]
    assert [f.chance for f in found] == sorted(f.chance for f in found) and found[-1].chance > 0.1
    assert all(abs(f.ami) < 0.005 and f.nmi == pytest.approx(f.chance, abs=0.005) for f in found)


@settings(max_examples=80, deadline=None)
@given(PAIRS, st.randoms(use_true_random=False))
def test_names_of_clusters_order_of_images_and_side_do_not_matter(pair, random):
    a, b = map(np.array, pair)
    found = agreement(a, b)
    names = random.sample(range(10**6), 13)
    order = random.sample(range(len(a)), len(a))
    renamed = np.array([names[x] for x in a])
    for other in (agreement(b, a), agreement(renamed, b), agreement(a[order], b[order])):
        np.testing.assert_allclose(other, found, rtol=0, atol=1e-12)


@settings(max_examples=80, deadline=None)
@given(PAIRS)
def test_bounds(pair):
    a, b = map(np.array, pair)
    found = agreement(a, b)
    assert 0 <= found.nmi <= 1 and 0 <= found.chance <= 1 and found.ami <= 1 + 1e-9
    assert agreement(a, a) == pytest.approx((1, 1, agreement(a, a).chance), abs=1e-9)


def test_torch_tensors_small_integers_and_far_apart_names():
    a, b = related(500, 7, 4, 0.5)
    expected = agreement(a, b)
    assert agreement(torch.from_numpy(a), torch.from_numpy(b).to(torch.uint8)) == expected
    assert agreement(a.astype(np.uint16), b.astype(np.int8)) == expected
    assert agreement(a * 10**15, b * 10**12 + 5) == expected


@pytest.mark.parametrize("k", [5, 200, 5000])
def test_nmi_of_many_images_is_sklearns_to_twelve_digits(k):
    a, b = related(60_000, k, 10, 0.4)
    assert agreement(a, b).nmi == pytest.approx(normalized_mutual_info_score(a, b), abs=1e-12)


def test_five_thousand_clusters_need_neither_the_table_nor_long():
    rng = np.random.default_rng(0)
    a, b = rng.integers(5000, size=73_257), rng.integers(5000, size=73_257)
    start = time.process_time()
    agreement(a, b)
    assert time.process_time() - start < 1  # milliseconds; scikit-learn needs more than ten seconds
    tracemalloc.start()
    agreement(a, b)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6  # the table would be 200 MB


# ---- cluster_health and label_entropy


def test_cluster_health_by_hand():
    health = cluster_health(np.array([0, 0, 0, 2, 5, 5]), 8)
    assert health == (5, 1, 2.0, 3)
    assert cluster_health(torch.tensor([3]), 4) == (3, 1, 1.0, 1)
    assert [type(value) for value in health] == [int, int, float, int]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 20), min_size=1, max_size=200))
def test_cluster_health_counts_every_cluster(labels):
    health = cluster_health(np.array(labels), 30)
    assert health.empty == 30 - len(set(labels))
    assert 1 <= health.smallest <= health.median <= health.largest <= len(labels)


@settings(max_examples=60, deadline=None)
@given(PAIRS)
def test_label_entropy_is_the_mean_of_scipys(pair):
    pseudo_labels, labels = map(np.array, pair)
    inside = [scipy.stats.entropy(np.bincount(labels[pseudo_labels == c])) for c in np.unique(pseudo_labels)]
    assert label_entropy(pseudo_labels, labels) == pytest.approx(np.mean(inside), abs=1e-12)


def test_label_entropy_counts_each_cluster_once_whatever_its_size():
    pseudo_labels, labels = torch.tensor([0] * 8 + [4] * 2), torch.tensor([3] * 8 + [0, 1])
    assert label_entropy(pseudo_labels, labels) == pytest.approx(math.log(2) / 2)
    assert math.copysign(1, label_entropy(labels, labels)) == 1 and label_entropy(labels, labels) == 0


# ---- errors and imports


@pytest.mark.parametrize("measure", [agreement, label_entropy])
@pytest.mark.parametrize(
    "a, b, words",
    [
        ([0, 1], [0, 1, 1], "same length, got 2 and 3"),
        ([], [], "at least one"),
        ([0, -1], [0, 1], "negative, got -1"),
        ([0, 1], [0.0, 1.0], "integers, got float64"),
        ([[0, 1]], [[0, 1]], "one dimension"),
        ([True, False], [0, 1], "integers, got bool"),
    ],
)
def test_what_is_not_a_pair_of_labellings_is_refused(measure, a, b, words):
    with pytest.raises(ValueError, match=words):
        measure(np.array(a), np.array(b))


def test_cluster_health_refuses_labels_from_another_k():
    with pytest.raises(ValueError, match="hold 5, not below k = 5"):
        cluster_health(np.array([0, 5]), 5)
    with pytest.raises(ValueError, match="negative"):
        cluster_health(np.array([0, -1]), 5)
    with pytest.raises(ValueError, match="integers"):
        cluster_health(torch.tensor([0.5]), 5)


def test_agreement_imports_neither_sklearn_nor_torch():
    code = """if True:
        import sys
        import numpy as np
        from dc_hpc.algorithm.agreement import agreement
        agreement(np.array([0, 1]), np.array([0, 0]))
        assert not {"sklearn", "torch"} & set(sys.modules), "imported without need"
    """
    subprocess.run([sys.executable, "-c", code], check=True)
