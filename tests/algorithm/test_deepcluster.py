import copy
import inspect

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import dc_hpc.algorithm as algorithm
from dc_hpc.algorithm import ImageViews, Views, alexnet_small, deep_cluster, extract_features, init_state, lenet5
from dc_hpc.algorithm.deepcluster import balanced_order, load_state, state_tensors

VIEWS = Views(44, 32, (0.3,), (0.37,), "flip")
SETTINGS = dict(k=6, cycles=4, batch_size=50, seed=3)


@pytest.fixture(scope="module")
def seen():
    from sklearn.datasets import load_digits

    images = torch.from_numpy((load_digits().images[:400] * 255 / 16).round().astype(np.uint8)).unsqueeze(1)
    return ImageViews(images, VIEWS)


def start(seed=3, **settings):
    return init_state(lenet5(), seed=seed, lr=0.1, momentum=0.5, weight_decay=1e-3)


def run(state, seen, **changes):
    return list(deep_cluster(state, seen, **(SETTINGS | changes)))


def test_a_run_alternates_clustering_and_training(seen):
    phases = run(start(), seen)
    assert [(p.index, p.phase) for p in phases] == [(c, p) for c in range(4) for p in ("clustered", "trained")]
    assert all(p.pseudo_labels.shape == (400,) and p.pseudo_labels.max() < 6 for p in phases)
    assert phases[0].previous_pseudo_labels is None
    assert torch.equal(phases[2].previous_pseudo_labels, phases[0].pseudo_labels)
    assert phases[0].features.shape == (400, 84) and phases[1].features is None
    assert phases[-1].loss < phases[1].loss


def test_one_epoch_is_plain_sgd_on_the_pseudo_labels(seen):
    """Against a hand-written loop in torch: no flips, all images of one epoch in the order of the sampler."""
    from dc_hpc.algorithm.nets import new_head
    from dc_hpc.algorithm.randomness import numpy_generator

    plain = ImageViews(seen.images, Views(44, 32, (0.3,), (0.37,), "none"))
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


def test_a_halted_run_equals_the_unhalted_one_before_the_halt(seen):
    whole, halted = run(start(), seen), run(start(), seen, halt_cycle=2)
    for one, other in zip(whole[:4], halted[:4]):
        assert torch.equal(one.pseudo_labels, other.pseudo_labels) and one.loss == other.loss
    assert [(p.index, p.phase) for p in halted[4:]] == [(2, "trained"), (3, "trained")]
    assert all(torch.equal(p.pseudo_labels, whole[2].pseudo_labels) for p in halted[4:])
    assert halted[-1].loss != whole[-1].loss


def test_every_cycle_has_a_fresh_head_halted_or_not(seen, monkeypatch):
    from dc_hpc.algorithm import deepcluster

    heads, real = [], deepcluster.new_head

    def remembered(*arguments, **settings):
        heads.append(real(*arguments, **settings))
        return copy.deepcopy(heads[-1])  # training goes on with a copy

    monkeypatch.setattr(deepcluster, "new_head", remembered)
    run(start(), seen, halt_cycle=2)
    weights = [head.linear.weight for head in heads]
    assert len(weights) == 4 and not any(torch.equal(a, b) for a, b in zip(weights, weights[1:]))
    expected = [real(84, 6, seed=3, cycle=cycle).linear.weight for cycle in range(4)]
    assert all(torch.equal(a, b) for a, b in zip(weights, expected))


def test_an_ia_only_run_is_the_first_clustering_of_the_full_run(seen):
    full, only = run(start(), seen), run(start(), seen, cycles=0)
    assert len(only) == 1 and torch.equal(only[0].pseudo_labels, full[0].pseudo_labels)


@pytest.mark.parametrize("stop_after", range(1, 9))
def test_going_on_from_a_saved_state_gives_the_same_bits(seen, stop_after):
    whole_state, state = start(), start()
    whole = run(whole_state, seen)
    phases = deep_cluster(state, seen, **SETTINGS)
    for _ in range(stop_after):
        next(phases)
    saved = {name: value.clone() for name, value in state_tensors(state).items()}
    resumed = start(seed=99)  # whatever is in it is replaced
    load_state(resumed, saved, cycle=state.cycle, phase=state.phase)
    rest = run(resumed, seen)
    assert [(p.index, p.phase, p.loss) for p in rest] == [(p.index, p.phase, p.loss) for p in whole[stop_after:]]
    assert all(torch.equal(a.pseudo_labels, b.pseudo_labels) for a, b in zip(rest, whole[stop_after:]))
    for name, value in state_tensors(whole_state).items():
        assert torch.equal(value, state_tensors(resumed)[name]), name


def test_a_resumed_run_without_its_momentum_would_differ(seen):
    """The negative control of the test above."""
    state, whole = start(), run(start(), seen)
    phases = deep_cluster(state, seen, **SETTINGS)
    for _ in range(4):
        next(phases)
    saved = {name: value for name, value in state_tensors(state).items() if not name.startswith("momentum")}
    resumed = start()
    load_state(resumed, saved, cycle=state.cycle, phase=state.phase)
    assert [p.loss for p in run(resumed, seen)] != [p.loss for p in whole[4:]]


def test_dropout_resumes_too():
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (60, 3, 32, 32), np.uint8))
    views = Views(45, 32, (0.4,) * 3, (0.2,) * 3, "flip")
    settings_ = dict(k=4, cycles=2, batch_size=30, seed=1, pca=8, views=views)

    def begin():
        return init_state(alexnet_small(), seed=1, lr=0.05, momentum=0.9, weight_decay=1e-4)

    whole = list(deep_cluster(begin(), images, **settings_))
    state = begin()
    phases = deep_cluster(state, images, **settings_)
    for _ in range(3):
        next(phases)
    torch.rand(17)  # whoever else uses the global generator changes nothing
    resumed = begin()
    load_state(resumed, state_tensors(state), cycle=state.cycle, phase=state.phase)
    assert [p.loss for p in deep_cluster(resumed, images, **settings_)] == [whole[3].loss]


def test_the_global_generator_is_left_alone(seen):
    state = start()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    run(state, seen, cycles=1)
    assert torch.equal(torch.rand(3), expected)


def test_no_parameter_of_the_algorithm_carries_labels():
    for function in (deep_cluster, init_state, extract_features, algorithm.kmeans, algorithm.reduce_features):
        assert not {"labels", "targets", "y", "truth"} & set(inspect.signature(function).parameters)


def test_the_last_cycle_may_be_left_untrained_as_in_the_authors_loop(seen):
    phases = run(start(), seen, cycles=3, last_cycle="skip")
    assert [(p.index, p.phase) for p in phases][-2:] == [(1, "trained"), (2, "clustered")]


def test_more_epochs_and_rarer_clusterings(seen):
    rare = run(start(), seen, reassign=2)
    assert [p.index for p in rare if p.phase == "clustered"] == [0, 2]
    longer = run(start(), seen, cycles=1, epochs_per_cycle=3)
    assert longer[-1].loss < run(start(), seen, cycles=1)[-1].loss


def test_features_do_not_depend_on_what_else_is_in_the_batch(seen):
    state = start()
    features = extract_features(state.trunk, seen)
    few = extract_features(state.trunk, ImageViews(seen.images[:37], VIEWS))
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
        (dict(pca=85), "pca 85 must be between 1 and the 84 features"),
        (dict(cycles=-1), "cycles -1 must be 0 or more"),
        (dict(halt_cycle=0), "halt_cycle 0 must be 1 or more, or None for never"),
        (dict(last_cycle="no"), "last_cycle 'no' is not one of train, skip"),
        (dict(batch_size=0), "batch_size, reassign, epochs_per_cycle must be 1 or more"),
    ],
)
def test_arguments_that_do_not_fit_are_named(seen, change, message):
    with pytest.raises(ValueError, match=message):
        run(start(), seen, **change)


def test_views_are_asked_for(seen):
    with pytest.raises(ValueError, match="views is missing"):
        next(deep_cluster(start(), seen.images, **SETTINGS))


def test_the_state_is_all_there_is(seen):
    """A deep copy of the State is a fork: both go on equally."""
    state = start()
    phases = deep_cluster(state, seen, **SETTINGS)
    for _ in range(3):
        next(phases)
    fork = copy.deepcopy(state)
    assert [p.loss for p in phases] == [p.loss for p in run(fork, seen)]
