import copy
import inspect
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dc_hpc.algorithm import ImageViews, Views, alexnet_small, deep_cluster, extract_features, init_state, lenet5
from dc_hpc.algorithm.clustering import cluster_by_kmeans, reduce_features
from dc_hpc.algorithm.deepcluster import balanced_order
from dc_hpc.algorithm.kmeans.lloyd import kmeans
from dc_hpc.algorithm.schedule import Schedule
from dc_hpc.algorithm.state import load_state, state_tensors

VIEWS = Views(44, 32, (0.3,), (0.37,), "flip")
SETTINGS = dict(k=6, schedule=Schedule(4), batch_size=50, seed=3)


@pytest.fixture(scope="module")
def images():
    from sklearn.datasets import load_digits

    pixels = torch.from_numpy((load_digits().images[:400] * 255 / 16).round().astype(np.uint8)).unsqueeze(1)
    return ImageViews(pixels, VIEWS)


def start(seed=3):
    return init_state(lenet5(), seed=seed, lr=0.1, momentum=0.5, weight_decay=1e-3)


def phases_of(state, images, **changes):
    return deep_cluster(state, images, **(SETTINGS | changes))


def run(state, images, *, cycles=4, schedule=(), **changes):
    """All phases of a run; `schedule` holds the other settings of its Schedule."""
    return list(phases_of(state, images, schedule=Schedule(cycles, **dict(schedule)), **changes))


def test_a_run_alternates_clustering_and_training(images):
    phases = run(start(), images)
    assert [(p.index, p.phase) for p in phases] == [(c, p) for c in range(4) for p in ("clustered", "trained")]
    assert all(p.pseudo_labels.shape == (400,) and p.pseudo_labels.max() < 6 for p in phases)
    assert phases[0].previous_pseudo_labels is None
    assert torch.equal(phases[2].previous_pseudo_labels, phases[0].pseudo_labels)
    assert phases[0].features.shape == (400, 84) and phases[1].features is None
    assert phases[-1].loss < phases[1].loss


def test_one_epoch_is_plain_sgd_on_the_pseudo_labels(images):
    """Against a hand-written loop in torch: no flips, all images of one epoch in the order of the sampler."""
    from dc_hpc.algorithm.nets import new_head
    from dc_hpc.algorithm.randomness import numpy_generator

    plain = ImageViews(images.images, Views(44, 32, (0.3,), (0.37,), "none"))
    state = start()
    clustered, _ = run(state, plain, cycles=1)
    trunk, head = start().trunk, new_head(84, 6, seed=3, cycle=0)
    both = torch.nn.Sequential(trunk, head).train()
    optimizer = torch.optim.SGD(both.parameters(), lr=0.1, momentum=0.5, weight_decay=1e-3)
    order = balanced_order(clustered.pseudo_labels.numpy(), numpy_generator(3, 0, "sampling"))
    for indices in torch.from_numpy(order).split(50):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(both(plain.clustering(indices)), clustered.pseudo_labels[indices]).backward()
        optimizer.step()
    for ours, theirs in zip(state.trunk.state_dict().values(), trunk.state_dict().values()):
        assert torch.allclose(ours.double(), theirs.double(), atol=2e-5)


def test_a_halted_run_equals_the_unhalted_one_before_the_halt(images):
    whole, halted = run(start(), images), run(start(), images, schedule={"halt_cycle": 2})
    for one, other in zip(whole[:4], halted[:4]):
        assert torch.equal(one.pseudo_labels, other.pseudo_labels) and one.loss == other.loss
    assert [(p.index, p.phase) for p in halted[4:]] == [(2, "trained"), (3, "trained")]
    assert all(torch.equal(p.pseudo_labels, whole[2].pseudo_labels) for p in halted[4:])
    assert halted[-1].loss != whole[-1].loss


def test_every_cycle_has_a_fresh_head_halted_or_not(images, monkeypatch):
    from dc_hpc.algorithm import deepcluster

    heads, real = [], deepcluster.new_head

    def remembered(*arguments, **settings):
        heads.append(real(*arguments, **settings))
        return copy.deepcopy(heads[-1])  # training goes on with a copy

    monkeypatch.setattr(deepcluster, "new_head", remembered)
    run(start(), images, schedule={"halt_cycle": 2})
    weights = [head.linear.weight for head in heads]
    assert len(weights) == 4 and not any(torch.equal(a, b) for a, b in zip(weights, weights[1:]))
    expected = [real(84, 6, seed=3, cycle=cycle).linear.weight for cycle in range(4)]
    assert all(torch.equal(a, b) for a, b in zip(weights, expected))


def test_an_ia_only_run_is_the_first_clustering_of_the_full_run(images):
    full, only = run(start(), images), run(start(), images, cycles=0)
    assert len(only) == 1 and torch.equal(only[0].pseudo_labels, full[0].pseudo_labels)


@pytest.mark.parametrize("stop_after", range(1, 9))
def test_going_on_from_a_saved_state_gives_the_same_bits(images, stop_after):
    whole_state, state = start(), start()
    whole = run(whole_state, images)
    phases = phases_of(state, images)
    for _ in range(stop_after):
        next(phases)
    saved = {name: value.clone() for name, value in state_tensors(state).items()}
    resumed = start(seed=99)  # whatever is in it is replaced
    load_state(resumed, saved, cycle=state.cycle, phase=state.phase)
    rest = run(resumed, images)
    assert [(p.index, p.phase, p.loss) for p in rest] == [(p.index, p.phase, p.loss) for p in whole[stop_after:]]
    assert all(torch.equal(a.pseudo_labels, b.pseudo_labels) for a, b in zip(rest, whole[stop_after:]))
    for name, value in state_tensors(whole_state).items():
        assert torch.equal(value, state_tensors(resumed)[name]), name


def test_a_resumed_run_without_its_momentum_would_differ(images):
    """The negative control of the test above."""
    state, whole = start(), run(start(), images)
    phases = phases_of(state, images)
    for _ in range(4):
        next(phases)
    saved = {name: value for name, value in state_tensors(state).items() if not name.startswith("momentum")}
    resumed = start()
    load_state(resumed, saved, cycle=state.cycle, phase=state.phase)
    assert [p.loss for p in run(resumed, images)] != [p.loss for p in whole[4:]]


def test_dropout_resumes_too():
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (60, 3, 32, 32), np.uint8))
    views = Views(45, 32, (0.4,) * 3, (0.2,) * 3, "flip")
    cluster = partial(cluster_by_kmeans, pca=8)
    settings_ = dict(k=4, schedule=Schedule(2), batch_size=30, seed=1, cluster=cluster, views=views)

    def begin():
        return init_state(alexnet_small(), seed=1, lr=0.05, momentum=0.9, weight_decay=1e-4)

    whole = list(deep_cluster(begin(), pixels, **settings_))
    state = begin()
    phases = deep_cluster(state, pixels, **settings_)
    for _ in range(3):
        next(phases)
    torch.rand(17)  # whoever else uses the global generator changes nothing
    resumed = begin()
    load_state(resumed, state_tensors(state), cycle=state.cycle, phase=state.phase)
    assert [p.loss for p in deep_cluster(resumed, pixels, **settings_)] == [whole[3].loss]


def test_the_global_generator_is_left_alone(images):
    state = start()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    run(state, images, cycles=1)
    assert torch.equal(torch.rand(3), expected)


def test_no_parameter_of_the_algorithm_carries_labels():
    functions = (deep_cluster, init_state, extract_features, cluster_by_kmeans, kmeans, reduce_features)
    for function in functions:
        assert not {"labels", "targets", "y", "truth"} & set(inspect.signature(function).parameters)


def test_the_last_cycle_may_be_left_untrained_as_in_the_authors_loop(images):
    phases = run(start(), images, cycles=3, schedule={"last_cycle": "skip"})
    assert [(p.index, p.phase) for p in phases][-2:] == [(1, "trained"), (2, "clustered")]


def test_more_epochs_and_rarer_clusterings(images):
    rare = run(start(), images, schedule={"reassign": 2})
    assert [p.index for p in rare if p.phase == "clustered"] == [0, 2]
    longer = run(start(), images, cycles=1, schedule={"epochs_per_cycle": 3})
    assert longer[-1].loss < run(start(), images, cycles=1)[-1].loss


def test_features_do_not_depend_on_what_else_is_in_the_batch(images):
    state = start()
    features = extract_features(state.trunk, images)
    few = extract_features(state.trunk, ImageViews(images.images[:37], VIEWS))
    assert torch.allclose(features[:37], few, atol=1e-6) and not state.trunk.training


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=300), st.integers(0, 2**31))
def test_an_epoch_is_uniform_over_the_clusters_that_have_images(pseudo_labels, seed):
    pseudo_labels = np.array(pseudo_labels)
    order = balanced_order(pseudo_labels, np.random.default_rng(seed))
    present, counts = np.unique(pseudo_labels, return_counts=True)
    each = len(pseudo_labels) // len(present) + 1
    assert np.array_equal(np.unique(pseudo_labels[order], return_counts=True), (present, [each] * len(present)))
    for label, count in zip(present, counts):
        drawn = order[pseudo_labels[order] == label]
        assert (len(np.unique(drawn)) == each) or count <= each


def test_balanced_order_shuffles_and_repeats():
    labels = np.repeat([0, 1], 500)
    orders = [balanced_order(labels, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert np.array_equal(orders[0], orders[1]) and not np.array_equal(orders[0], orders[2])
    assert 200 < (labels[orders[0][:500]] == 0).sum() < 300


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(k=0), "k 0 must be between 1 and the 400 images"),
        (dict(k=401), "k 401 must be between 1 and the 400 images"),
        (dict(cluster=partial(cluster_by_kmeans, pca=85)), "pca 85 must be between 1 and the 84 features"),
        (dict(cluster=partial(cluster_by_kmeans, pca=0)), "pca 0 must be between 1 and the 84 features"),
        (dict(batch_size=0), "batch_size 0 must be 1 or more"),
    ],
)
def test_arguments_that_do_not_fit_are_named(images, change, message):
    with pytest.raises(ValueError, match=message):
        run(start(), images, **change)


def test_views_are_asked_for(images):
    with pytest.raises(ValueError, match="views is missing"):
        next(phases_of(start(), images.images))


def test_the_state_is_all_there_is(images):
    """A deep copy of the State is a fork: both go on equally."""
    state = start()
    phases = phases_of(state, images)
    for _ in range(3):
        next(phases)
    fork = copy.deepcopy(state)
    assert [p.loss for p in phases] == [p.loss for p in run(fork, images)]
