"""The rules that halt the clustering: what they decide, by hand, and what deep_cluster makes of it."""

import math

import numpy as np
import pytest
import torch

from dc_hpc.algorithm import Clustering, Schedule, Views, deep_cluster, init_state, lenet5
from dc_hpc.algorithm.beyond.halting import HaltRule

VIEWS = Views(resize=32, crop=32, mean=(0.3,), std=(0.3,), training="none")


def decisions(rule, scores):
    """(cycle whose labels are kept, whether it halts) after each clustering."""
    known, found = {}, []
    for cycle, score in enumerate(scores):
        known[cycle] = score
        found.append((rule.kept(known), rule.halted(known)))
    return found


def test_effective_rank_keeps_the_highest_and_halts_after_patience():
    rule = HaltRule("effective_rank", patience=2)
    found = decisions(rule, [3.0, 5.0, 5.0, 4.0])
    assert found == [(0, False), (1, False), (1, False), (1, True)]
    assert decisions(rule, [3.0, 2.0, 4.0, 1.0])[-1] == (2, False)


def test_plateau_keeps_the_newest_and_halts_when_the_agreement_rises_no_more():
    rule = HaltRule("plateau", patience=2, tolerance=0.02)
    found = decisions(rule, [math.nan, 0.5, 0.6, 0.61, 0.619])
    assert found == [(0, False), (1, False), (2, False), (3, False), (4, True)]
    slow = decisions(HaltRule("plateau", patience=2, tolerance=0.02), [math.nan, 0.5, 0.51, 0.53, 0.54, 0.56])
    assert [halted for _, halted in slow] == [False] * 6, "small steps that add up to the tolerance are progress"


def test_patience_counts_clusterings_and_not_cycles():
    assert HaltRule("effective_rank", patience=2).halted({0: 5.0, 10: 4.0, 20: 3.0})
    assert not HaltRule("effective_rank", patience=3).halted({0: 5.0, 10: 4.0, 20: 3.0})


@pytest.mark.parametrize("name", ["effective_rank", "plateau"])
def test_a_rule_is_not_halted_before_a_clustering(name):
    assert not HaltRule(name, patience=1).halted({})
    assert not HaltRule("plateau", patience=1).halted({0: math.nan})


@pytest.mark.parametrize(
    "settings, message",
    [
        (("rank",), "halt_rule 'rank' is not one of effective_rank, plateau"),
        (("plateau", 0), "halt_patience 0 must be 1 or more"),
        (("plateau", 1, -0.1), "halt_tolerance -0.1 must be 0 or more"),
    ],
)
def test_a_value_that_is_not_allowed_is_named(settings, message):
    with pytest.raises(ValueError, match=message):
        HaltRule(*settings)


def run_with(rule, ranks, **schedule):
    """The phases of a run whose clusterings have these effective ranks; label 0 of image 0 names the clustering."""
    made = iter(enumerate(ranks))

    def cluster(features, *, k, seed):
        number, rank = next(made)
        labels = torch.arange(len(features)) % 3
        labels[0] = number
        return Clustering(labels, features, 1.0, None, rank)

    images = np.random.default_rng(0).integers(0, 255, (40, 32, 32), dtype=np.uint8)
    state = init_state(lenet5(), seed=1, lr=0.01, momentum=0.5, weight_decay=0)
    phases = deep_cluster(
        state, images, views=VIEWS, k=12, seed=1, schedule=Schedule(**schedule), batch_size=8, cluster=cluster,
        halt_rule=rule,
    )  # fmt: skip
    return [(one.index, one.phase, int(one.pseudo_labels[0]), one.labels_cycle, one.halted) for one in phases], state


def test_the_net_trains_on_the_labels_of_the_highest_rank():
    rule = HaltRule("effective_rank", patience=2)
    found, state = run_with(rule, [4.0, 6.0, 5.0, 5.5], cycles=6)
    assert found == [
        (0, "clustered", 0, 0, False), (0, "trained", 0, None, None),
        (1, "clustered", 1, 1, False), (1, "trained", 1, None, None),
        (2, "clustered", 2, 1, False), (2, "trained", 1, None, None),
        (3, "clustered", 3, 1, True), (3, "trained", 1, None, None),
        (4, "trained", 1, None, None), (5, "trained", 1, None, None),
    ]  # fmt: skip
    assert state.scores == {0: 4.0, 1: 6.0, 2: 5.0, 3: 5.5}


def test_a_schedule_that_halts_earlier_or_clusters_seldom_bounds_the_rule():
    rule = HaltRule("effective_rank", patience=2)
    found, _ = run_with(rule, [4.0, 6.0, 5.0], cycles=5, halt_cycle=3)
    assert [(cycle, phase) for cycle, phase, *_ in found if phase == "clustered"] == [
        (cycle, "clustered") for cycle in range(3)
    ]
    assert found[-1][2] == 1
    seldom, _ = run_with(rule, [4.0, 3.0, 2.0], cycles=9, reassign=2)
    assert [(cycle, kept, halted) for cycle, phase, _, kept, halted in seldom if phase == "clustered"] == [
        (0, 0, False), (2, 0, False), (4, 0, True),
    ]  # fmt: skip


def test_a_clustering_that_does_not_know_its_rank_is_one_line():
    with pytest.raises(ValueError, match="halt_rule effective_rank needs a clustering that says it"):
        run_with(HaltRule("effective_rank"), [None], cycles=2)
