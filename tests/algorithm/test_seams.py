"""Another clustering and another loss are arguments of deep_cluster: they train, and a resumed run is bit-exact."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from dc_hpc.algorithm import (
    Clustering,
    ImageViews,
    Schedule,
    Views,
    cluster_by_kmeans,
    deep_cluster,
    init_state,
    lenet5,
    reduce_features,
)
from dc_hpc.algorithm.state import load_state, state_tensors


@pytest.fixture(scope="module")
def images():
    from sklearn.datasets import load_digits

    pixels = torch.from_numpy((load_digits().images[:300] * 255 / 16).round().astype(np.uint8)).unsqueeze(1)
    return ImageViews(pixels, Views(44, 32, (0.3,), (0.37,), "flip"))


def start():
    return init_state(lenet5(), seed=5, lr=0.1, momentum=0.5, weight_decay=1e-3)


def phases(state, images, **changes):
    return deep_cluster(state, images, k=6, seed=5, schedule=Schedule(3), batch_size=50, **changes)


def sinkhorn(features, *, k, seed):
    """A balanced assignment to random prototypes, as Sinkhorn-Knopp makes it: all clusters get the same mass."""
    points = reduce_features(features, pca=None)
    generator = torch.Generator().manual_seed(seed)
    prototypes = reduce_features(torch.randn(k, points.shape[1], generator=generator), pca=None)
    mass = torch.exp(10 * points @ prototypes.T)
    for _ in range(50):
        mass = mass / mass.sum(0, keepdim=True)
        mass = mass / mass.sum(1, keepdim=True)
    return Clustering(mass.argmax(1), points, None)


def smoothed(logits, labels):
    """Cross-entropy with smoothed labels."""
    return cross_entropy(logits, labels, label_smoothing=0.1)


CHANGES = {
    "another clustering": {"cluster": sinkhorn},
    "another loss": {"loss": smoothed},
    "both": {"cluster": sinkhorn, "loss": smoothed},
}


@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES)
def test_another_clustering_and_another_loss_train_and_resume_to_the_same_bits(images, changes):
    whole_state = start()
    whole = list(phases(whole_state, images, **changes))
    assert whole[-1].loss < whole[1].loss
    for stop_after in range(1, 6):
        state, resumed = start(), start()
        begun = phases(state, images, **changes)
        for _ in range(stop_after):
            next(begun)
        saved = {name: value.clone() for name, value in state_tensors(state).items()}
        load_state(resumed, saved, cycle=state.cycle, phase=state.phase)
        rest = list(phases(resumed, images, **changes))
        assert [(p.index, p.phase, p.loss) for p in rest] == [(p.index, p.phase, p.loss) for p in whole[stop_after:]]
        assert all(torch.equal(a.pseudo_labels, b.pseudo_labels) for a, b in zip(rest, whole[stop_after:]))
        after = state_tensors(resumed)
        assert all(torch.equal(value, after[name]) for name, value in state_tensors(whole_state).items())


def test_the_arguments_are_used(images):
    """Labels are those of the clustering and losses those of the loss, not k-means and cross-entropy."""
    plain, balanced = list(phases(start(), images)), list(phases(start(), images, cluster=sinkhorn))
    assert not torch.equal(plain[0].pseudo_labels, balanced[0].pseudo_labels)
    assert balanced[0].inertia is None and balanced[0].features.shape == (300, 84)
    smooth = list(phases(start(), images, loss=smoothed))
    assert torch.equal(plain[0].pseudo_labels, smooth[0].pseudo_labels) and plain[1].loss != smooth[1].loss


def test_a_clustering_gets_the_features_and_a_key_of_the_cycle_and_no_labels(images):
    calls = []

    def remembered(features, **settings):
        calls.append((features.dtype, tuple(features.shape), settings))
        return cluster_by_kmeans(features, **settings)

    expected = list(phases(start(), images))
    found = list(phases(start(), images, cluster=remembered))
    assert [p.loss for p in found] == [p.loss for p in expected]
    assert [(dtype, shape, set(settings)) for dtype, shape, settings in calls] == [
        (torch.float32, (300, 84), {"k", "seed"})
    ] * 3
    assert len({settings["seed"] for _, _, settings in calls}) == 3


def test_the_first_clustering_of_another_run_is_taken_as_it_is(images):
    calls = []

    def counted(features, *, k, seed):
        calls.append(seed)
        return cluster_by_kmeans(features, k=k, seed=seed)

    whole = list(phases(start(), images))
    first = Clustering(whole[0].pseudo_labels, None, whole[0].inertia)
    rest = list(phases(start(), images, cluster=counted, first_clustering=first))
    assert [p.loss for p in rest] == [p.loss for p in whole] and len(calls) == 2
    assert rest[0].features is None and rest[0].inertia == whole[0].inertia


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            torch.zeros(300),
            r"Clustering.labels must be whole numbers, not torch.float32; pass Clustering.labels.long\(\)",
        ),
        (torch.zeros(299, dtype=torch.int64), r"Clustering.labels must have the shape \(300,\), .* not \(299,\)"),
        (np.full(300, -1), "Clustering.labels must be 0 or more, and one is -1"),
    ],
)
def test_labels_that_are_not_one_whole_number_an_image_are_refused(images, labels, message):
    with pytest.raises(ValueError, match=message):
        next(phases(start(), images, cluster=lambda features, *, k, seed: Clustering(labels, None, None)))


def test_a_clustering_of_scikit_learn_is_one(images):
    """Its labels are NumPy's int32."""
    from sklearn.cluster import KMeans

    def by_sklearn(features, *, k, seed):
        found = KMeans(k, n_init=1, random_state=seed % 2**32).fit(features.numpy())
        return Clustering(found.labels_, features, found.inertia_)

    found = list(phases(start(), images, cluster=by_sklearn))
    assert found[0].pseudo_labels.dtype == torch.int64 and found[-1].loss < found[1].loss
