"""The authors' own draws: their nets built by torch layer by layer, k-means of scikit-learn 0.2x, faiss's start."""

import math
import sys
from itertools import accumulate

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from torch import nn

from dc_hpc.algorithm import ImageViews, Views, extract_features
from dc_hpc.algorithm.authors.clustering import cluster_as_authors, features_as_authors, reduce_as_authors
from dc_hpc.algorithm.authors.kmeans import faiss_seed, kmeans_as_authors, plusplus_as_authors
from dc_hpc.algorithm.clustering import Reduced, reduce_features
from dc_hpc.algorithm.nets import build_net, initialise
from dc_hpc.algorithm.state import init_state

# (channels in, channels out, side of the kernel) of the convolutions; (values in, out) of the Linear layers
LAYERS = {
    "lenet5": ([(1, 6, 5), (6, 16, 5)], [(400, 120), (120, 84)]),
    "alexnet_small": (
        [(2, 48, 8), (48, 126, 2), (126, 192, 3), (192, 192, 2), (192, 128, 2)],
        [(128, 1024), (1024, 1024)],
    ),
    "alexnet": (
        [(2, 64, 11), (64, 192, 5), (192, 384, 3), (384, 256, 3), (256, 256, 3)],
        [(9216, 2048), (2048, 2048)],
    ),
}
# The first centroids that scikit-learn 1.2.2 draws among the 1,797 digits for the random_state that version 0.2x would
# have drawn from the seed: the last releases before its draws changed. The first nine of k.
STORED = {
    (9, 0): [236, 1393, 826, 708, 1493, 755, 1442, 14, 1436],
    (9, 1): [132, 1706, 660, 65, 1422, 724, 781, 1770, 249],
    (9, 6): [1457, 1186, 431, 1013, 1515, 357, 1, 1409, 1133],
    (9, 37): [989, 1763, 1262, 1399, 1793, 301, 1528, 823, 1127],
    (40, 0): [236, 1393, 868, 1513, 761, 297, 941, 733, 1017],
    (40, 1): [132, 1282, 660, 65, 1069, 698, 1287, 709, 1667],
    (40, 6): [1457, 1186, 431, 726, 741, 124, 747, 135, 631],
    (40, 37): [989, 1763, 1262, 478, 1793, 826, 459, 1, 995],
}


@pytest.fixture(scope="module")
def digits():
    """Rows of length 1: float64 (1797, 64)."""
    rows = load_digits().data
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def built_by_torch(net, seed):
    """The weights of a net as torch draws them when its layers are built in the authors' order and drawn again."""
    convolutions, linears = LAYERS[net]
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        layers = [nn.Conv2d(*sizes) for sizes in convolutions] + [nn.Linear(*sizes) for sizes in linears]
        if net != "lenet5":  # the Sobel filter is built last and comes first in the net
            layers = [nn.Conv2d(3, 1, 1), nn.Conv2d(1, 2, 3)] + layers
        for layer in layers:
            if isinstance(layer, nn.Linear):
                layer.weight.normal_(0, 0.01)
                continue
            side = layer.kernel_size[0]
            for filter_ in layer.weight:
                filter_.normal_(0, math.sqrt(2 / (side * side * layer.out_channels)))
    return [layer.weight for layer in layers]


def weights(trunk):
    return [layer.weight for layer in trunk.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]


@pytest.mark.parametrize("net", LAYERS)
@pytest.mark.parametrize("seed", [0, 61])
def test_the_filters_are_those_of_torch_in_the_authors_order_of_construction(net, seed):
    trunk = build_net(net, sobel="off" if net == "lenet5" else "random")
    initialise(trunk, seed=seed, draws="authors")
    expected = built_by_torch(net, seed)
    assert len(weights(trunk)) == len(expected)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(weights(trunk), expected))
    biases = [value for name, value in trunk.named_parameters() if name.endswith("bias")]
    assert all(torch.count_nonzero(bias) == 0 for bias in biases)
    assert torch.equal(trunk.bn1.weight, torch.ones_like(trunk.bn1.weight))


def test_the_filters_are_those_that_the_authors_program_draws():
    """A few numbers of its nets, so that a change in torch's generator is seen."""
    lenet, alexnet = build_net("lenet5"), build_net("alexnet_small", sobel="random")
    for trunk in (lenet, alexnet):
        initialise(trunk, seed=0, draws="authors")
    found = [weights(trunk)[layer].flatten()[layer].item() for trunk in (lenet, alexnet) for layer in (0, -1)]
    assert found == pytest.approx([-0.0804062, 0.0021253, 0.4772243, -0.0030545], abs=2e-7)


def test_the_draws_leave_the_callers_generator_and_a_used_net_alone():
    trunk = build_net("lenet5")
    trunk(torch.rand(4, 1, 32, 32))  # batch norm remembers it
    before = torch.get_rng_state()
    state = init_state(trunk, seed=3, lr=0.1, momentum=0.1, weight_decay=0.0, draws="authors")
    assert torch.equal(torch.get_rng_state(), before)
    fresh = build_net("lenet5")
    initialise(fresh, seed=3, draws="authors")
    assert all(torch.equal(a, b) for a, b in zip(state.trunk.state_dict().values(), fresh.state_dict().values()))


def test_a_fixed_sobel_filter_keeps_its_kernels_and_shares_all_other_filters():
    fixed, random = (build_net("alexnet_small", sobel=sobel) for sobel in ("fixed", "random"))
    for trunk in (fixed, random):
        initialise(trunk, seed=5, draws="authors")
    assert torch.equal(fixed.sobel.grey.weight, torch.full((1, 3, 1, 1), 1 / 3))
    assert not torch.equal(random.sobel.grey.weight, fixed.sobel.grey.weight)
    assert all(torch.equal(a, b) for a, b in zip(weights(fixed)[2:], weights(random)[2:]))
    assert not any(parameter.requires_grad for parameter in fixed.sobel.parameters())


def test_other_draws_are_refused():
    with pytest.raises(ValueError, match="draws 'theirs' is not one of ours, authors"):
        initialise(build_net("lenet5"), seed=1, draws="theirs")


@pytest.mark.parametrize(("k", "seed"), STORED)
def test_the_first_centroids_are_those_of_the_old_scikit_learn(digits, k, seed):
    found = plusplus_as_authors(digits - digits.mean(0), k=k, seed=seed)
    assert found[:9].tolist() == STORED[k, seed] and len(found) == k


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(0, 3))
def test_the_first_centroids_are_chosen_as_the_text_of_the_algorithm_says(seed, k, start):
    """Point by point in plain Python, on few points with a duplicate among them. Each of four starts has a seed."""
    points = np.random.default_rng(seed).normal(size=(15, 3))
    points[7] = points[3]
    rng = np.random.RandomState(np.random.RandomState(seed).randint(2**31 - 1, size=4)[start])
    chosen, trials = [rng.randint(15)], 2 + int(math.log(k))
    nearest = [float(((one - points[chosen[0]]) ** 2).sum()) for one in points]
    for _ in range(k - 1):
        draws = rng.random_sample(trials) * sum(nearest)
        candidates = [next(i for i, total in enumerate(accumulate(nearest)) if total >= drawn) for drawn in draws]
        trial = [[min(d, float(((one - points[c]) ** 2).sum())) for d, one in zip(nearest, points)] for c in candidates]
        sums = [sum(distances) for distances in trial]
        best = sums.index(min(sums))
        # two points that are each other's nearest lower the sum equally: rounding decides
        assume(all(abs(one - sums[best]) > 1e-9 or c == candidates[best] for one, c in zip(sums, candidates)))
        chosen.append(candidates[best])
        nearest = trial[best]
    assert plusplus_as_authors(points, k=k, seed=seed, start=start).tolist() == chosen


def test_lloyds_iterations_start_there_and_stop_by_the_rule_of_scikit_learn():
    """In plain NumPy: at most so many updates, none after one that moved the centroids by the tolerance or less."""
    given = np.random.default_rng(0).normal(size=(3000, 2))
    points, k, seed = given - given.mean(0), 6, 1
    centroids, tolerance = points[plusplus_as_authors(points, k=k, seed=seed)], 1e-4 * points.var(0).mean()
    shift, done = np.inf, 0
    while shift > tolerance:
        done += 1
        labels = ((points[:, None] - centroids) ** 2).sum(2).argmin(1)
        moved = np.array([points[labels == cluster].mean(0) for cluster in range(k)])
        shift, centroids = ((moved - centroids) ** 2).sum(), moved
    assert 3 < done < 300 and shift > 0, "this data must stop by the tolerance"
    found = kmeans_as_authors(torch.from_numpy(given), k=k, seed=seed, init="k-means++", iterations=300)
    assert found.iterations == done
    labels = ((points[:, None] - centroids) ** 2).sum(2).argmin(1)
    assert found.labels.tolist() == labels.tolist()
    assert found.inertia == pytest.approx(((points - centroids[labels]) ** 2).sum(), rel=1e-9)
    few = kmeans_as_authors(torch.from_numpy(given), k=k, seed=seed, init="k-means++", iterations=3)
    assert few.iterations == 3 and few.inertia > found.inertia


def test_of_several_starts_the_least_inertia_counts_as_in_the_old_scikit_learn(digits):
    """Version 0.2x draws a seed for each start from `random_state`; the first start is that of a single one."""
    from sklearn.cluster import KMeans

    k, seed, starts = 12, 37, 3
    points, tries = torch.from_numpy(digits), []
    for start in range(starts):
        first = digits[plusplus_as_authors(digits - digits.mean(0), k=k, seed=seed, start=start)]
        tries.append(KMeans(k, init=first, n_init=1, max_iter=20, tol=1e-4).fit(digits))
    best = min(tries, key=lambda one: one.inertia_)
    assert best is tries[2], "a later start must be the best one"
    found = kmeans_as_authors(points, k=k, seed=seed, init="k-means++", n_init=starts)
    assert found.labels.tolist() == best.labels_.tolist()
    single = kmeans_as_authors(points, k=k, seed=seed, init="k-means++")
    assert single.labels.tolist() == tries[0].labels_.tolist()
    with pytest.raises(ValueError, match="n_init 0 must be 1 or more"):
        kmeans_as_authors(points, k=k, seed=seed, init="k-means++", n_init=0)


def faiss_permutation(n, seed):
    """The permutation of faiss's `rand_perm`: Fisher and Yates with the Mersenne Twister of C++."""
    words = np.random.RandomState(seed)
    order = np.arange(n)
    for place in range(n - 1):
        other = place + int(words.randint(0, 2**32, dtype=np.uint32)) % (n - place)
        order[place], order[other] = order[other], order[place]
    return order


def test_faiss_starts_at_random_points_of_the_seed_that_the_authors_give_it(digits):
    """Without an update the centroids are the points that faiss draws; it adds 1 to its seed."""
    pytest.importorskip("faiss")
    for seed in (1, 15, 79):
        expected = faiss_permutation(len(digits), faiss_seed(seed) + 1)[:20]
        found = kmeans_as_authors(torch.from_numpy(digits), k=20, seed=seed, init="random", iterations=0)
        assert np.allclose(found.centroids.numpy(), digits[expected], atol=1e-7)


def test_faiss_computes_lloyds_iterations_over_all_points(digits):
    pytest.importorskip("faiss")
    rows = torch.from_numpy(np.repeat(digits, 2, axis=0))  # 3,594 points: more than 256 for each of 10 clusters
    centroids = rows.numpy()[faiss_permutation(len(rows), faiss_seed(15) + 1)[:10]]
    for _ in range(5):
        labels = ((rows.numpy()[:, None] - centroids) ** 2).sum(2).argmin(1)
        centroids = np.array([rows.numpy()[labels == cluster].mean(0) for cluster in range(10)])
    found = kmeans_as_authors(rows, k=10, seed=15, init="random", iterations=5)
    labels = ((rows.numpy()[:, None] - centroids) ** 2).sum(2).argmin(1)
    assert (found.labels.numpy() == labels).mean() > 0.998  # faiss computes in float32
    assert np.allclose(found.centroids.numpy(), centroids, atol=2e-3)


def test_faiss_begins_anew_and_keeps_the_least_inertia(digits):
    faiss = pytest.importorskip("faiss")
    matrix, ends = digits.astype(np.float32), []
    for start in range(4):
        clustering, index = faiss.Clustering(64, 12), faiss.IndexFlatL2(64)
        clustering.seed, clustering.niter = faiss_seed(15) + 15486557 * start, 20  # faiss's distance between its starts
        clustering.train(matrix, index)
        ends.append((index.search(matrix, 1)[0].sum(), index.reconstruct_n(0, 12)))
    inertia, centroids = min(ends, key=lambda one: one[0])
    assert inertia < ends[0][0], "another start than the first one must be the best one"
    found = kmeans_as_authors(torch.from_numpy(digits), k=12, seed=15, init="random", n_init=4)
    assert np.array_equal(found.centroids.numpy(), centroids)


def test_the_seed_of_faiss_is_below_that_of_the_run():
    assert [faiss_seed(seed) for seed in (1, 2, 15, 88)] == [
        int(np.random.RandomState(seed).randint(0, seed)) for seed in (1, 2, 15, 88)
    ]
    with pytest.raises(ValueError, match="seed 0 must be 1 or more"):
        faiss_seed(0)


def test_missing_faiss_names_the_extra_and_the_way_round_it(monkeypatch, digits):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ValueError, match=r'pip install "dc-hpc\[cpu\]", or use draws ours'):
        kmeans_as_authors(torch.from_numpy(digits), k=3, seed=1, init="random")


def test_the_features_are_those_of_torchs_own_layers():
    """Bit for bit those of the net called as a function, in its mode of evaluation; the callers' mode is kept."""
    images = ImageViews(torch.randint(256, (300, 1, 28, 28), dtype=torch.uint8), Views(44, 32, (0.3,), (0.3,)))
    trunk = build_net("lenet5").train()
    initialise(trunk, seed=4, draws="authors")
    seen = []
    found = features_as_authors(trunk, images, lambda *place: seen.append(place))
    assert trunk.training and trunk.bn1.training and seen == [("features", 256, 300), ("features", 300, 300)]
    with torch.no_grad():
        trunk.eval()
        parts = [trunk(images.clustering(rows)) for rows in (slice(0, 256), slice(256, 300))]
    assert torch.equal(found, torch.cat(parts))
    assert torch.allclose(found, extract_features(trunk, images), atol=1e-5)


@pytest.mark.parametrize(("rows", "pca", "solver"), [(1500, 8, "randomized"), (1500, 60, "full"), (400, 8, "full")])
def test_the_reduction_is_scikit_learns_with_the_solver_of_its_old_versions(rows, pca, solver):
    from sklearn.decomposition import PCA

    features = (load_digits().data[:rows] / 16).astype(np.float32)
    found = reduce_as_authors(torch.from_numpy(features), pca=pca, seed=7)
    expected = PCA(pca, whiten=True, svd_solver=solver, random_state=7).fit_transform(features).astype(np.float64)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert found.dtype == torch.float64 and np.array_equal(found.numpy(), expected)
    exact = reduce_features(features, pca=pca).numpy()
    signs = np.sign((exact * expected).sum(0))
    assert np.abs(exact * signs - expected).max() < (0.2 if solver == "randomized" else 1e-3)


def test_a_row_of_zeros_stays_zero_and_wrong_input_is_refused():
    features = torch.rand(10, 4)
    features[3] = 0
    reduced = reduce_as_authors(features, pca=None, seed=0)
    assert reduced.dtype == torch.float64 and not reduced[3].any() and reduced[4].norm().item() == pytest.approx(1)
    with pytest.raises(ValueError, match="pca 5 is not between 1 and 4: the features are 10 x 4"):
        reduce_as_authors(features, pca=5, seed=0)
    with pytest.raises(ValueError, match="NaN or infinite"):
        reduce_as_authors(features.fill_(torch.nan), pca=None, seed=0)
    with pytest.raises(ValueError, match="k 11 is not between 1 and the number of points, 10"):
        cluster_as_authors(Reduced(reduced, None, 1.0), k=11, seed=0, init="k-means++")
    with pytest.raises(ValueError, match="init 'farthest' is not one of k-means"):
        cluster_as_authors(Reduced(reduced, None, 1.0), k=2, seed=0, init="farthest")


def test_fewer_different_points_than_clusters_are_clustered_without_a_warning():
    reduced = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64).repeat(6, 1)
    found = cluster_as_authors(Reduced(reduced, None, 1.0), k=4, seed=3, init="k-means++")
    assert len(set(found.labels.tolist())) == 2 and found.inertia == pytest.approx(0)
    assert found.features.dtype == torch.float32
