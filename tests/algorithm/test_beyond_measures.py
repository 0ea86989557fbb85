"""The measures of a clustering that need no label, against NumPy and scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.metrics import silhouette_score

from dc_hpc.algorithm.agreement import effective_clusters
from dc_hpc.algorithm.beyond.silhouette import SAMPLE, sample_of, sample_silhouette
from dc_hpc.algorithm.clustering import LinearFeatures, cluster_by_kmeans, principal_components


def features_of(n=3000, d=20, seed=0, decay=1.0):
    """Features whose spectrum falls as a power of the rank."""
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(size=(n, d)) * np.arange(1, d + 1) ** (-decay / 2)).float()


@pytest.mark.parametrize("decay", [0.0, 0.7, 2.0])
def test_spectrum_alpha_is_the_slope_that_numpy_fits(decay):
    features = features_of(decay=decay)
    variances = np.sort(np.linalg.eigvalsh(np.cov(features.double().numpy().T)))[::-1]
    slope = np.polyfit(np.log(np.arange(1, 21)), np.log(variances), 1)[0]
    found = principal_components(features).spectrum_alpha()
    assert found == pytest.approx(-slope, rel=1e-6) and found == pytest.approx(decay, abs=0.1)


def test_the_effective_rank_is_that_of_the_covariance_and_not_rankmes():
    """RankMe takes singular values, ours are their squares: docs/BEYOND.md says that two nets may change places."""
    basis = torch.linalg.qr(features_of(n=500, d=41) - features_of(n=500, d=41).mean(0)).Q
    few, many = basis[:, :6], basis * torch.tensor([1.0] + 40 * [0.1])

    def rankme(features):
        shares = torch.linalg.svdvals(features.double())
        shares = shares / shares.sum() + 1e-7
        return float((-shares * shares.log()).sum().exp())

    assert rankme(few) == pytest.approx(6, rel=1e-3) and rankme(many) == pytest.approx(31.5, rel=0.01)
    ours = [principal_components(features).effective_rank() for features in (few, many)]
    assert ours[0] == pytest.approx(6, rel=1e-3) and ours[1] == pytest.approx(5.2, rel=0.01)


def test_spectrum_alpha_leaves_out_the_components_without_variance():
    features = features_of(d=10)
    padded = torch.cat([features, torch.zeros(len(features), 5)], 1)
    assert principal_components(padded).spectrum_alpha() == pytest.approx(
        principal_components(features).spectrum_alpha(), rel=1e-6
    )
    one = torch.zeros(50, 4)
    one[:, 0] = torch.arange(50.0)
    assert principal_components(one).spectrum_alpha() is None
    assert principal_components(torch.ones(50, 4)).spectrum_alpha() is None


def test_spectrum_alpha_of_a_last_layer_that_is_not_computed_is_the_same():
    rows, weight, bias = features_of(d=8), torch.randn(12, 8), torch.randn(12)
    apart = LinearFeatures(rows, weight, bias)
    clustered = cluster_by_kmeans(apart, k=4, seed=1, pca=6)
    assert clustered.spectrum_alpha == pytest.approx(principal_components(apart.computed()).spectrum_alpha(), rel=1e-3)


@pytest.mark.parametrize("sizes", [[5], [7, 7, 7], [1, 2, 30], [1] * 9])
def test_effective_clusters_by_hand(sizes):
    shares = np.array(sizes) / sum(sizes)
    labels = np.repeat(np.arange(len(sizes)) * 3, sizes)
    assert effective_clusters(labels) == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))


@pytest.mark.parametrize("k", [2, 6, 40, 300])
def test_silhouette_is_that_of_scikit_learn_on_the_sample(k):
    features = features_of(decay=0.5)
    labels = cluster_by_kmeans(features, k=k, seed=3).labels
    chosen = sample_of(len(features))
    expected = silhouette_score(features[chosen].double().numpy(), labels[chosen].numpy())
    assert sample_silhouette(features, labels) == pytest.approx(expected, abs=1e-9)


def test_silhouette_of_a_collapsed_net_is_that_of_scikit_learn():
    """Tight groups, whose distances float32 products would round to nothing."""
    centres = torch.nn.functional.normalize(torch.randn(5, 30, generator=torch.Generator().manual_seed(1)))
    labels = torch.arange(2000) % 5
    features = centres[labels] + 1e-4 * torch.randn(2000, 30, generator=torch.Generator().manual_seed(2))
    labels = (labels + torch.arange(2000) // 1000) % 5
    chosen = sample_of(2000)
    expected = silhouette_score(features[chosen].double().numpy(), labels[chosen].numpy())
    assert sample_silhouette(features, labels) == pytest.approx(expected, abs=1e-6)


def test_the_sample_is_fixed_and_a_small_set_is_its_own_sample():
    assert np.array_equal(sample_of(60_000), sample_of(60_000)) and len(set(sample_of(60_000).tolist())) == SAMPLE
    assert np.array_equal(sample_of(700), np.arange(700))


@pytest.mark.parametrize("labels", [torch.zeros(50).long(), torch.arange(50)])
def test_silhouette_that_is_not_defined_is_missing(labels):
    assert sample_silhouette(features_of(n=50), labels) is None


def test_equal_images_have_the_silhouette_zero():
    assert sample_silhouette(torch.ones(40, 3), torch.arange(40) % 2) == 0
