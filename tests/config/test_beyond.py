"""The settings that go beyond the paper: which combinations make no sense, and which runs keep their names."""

import pytest

from dc_hpc.config.baselines import BASELINES, PROTOCOLS
from dc_hpc.config.run_config import canonical_json, make_config, run_id
from dc_hpc.errors import InputError
from dc_hpc.experiment import reuse

NEW = ("halt_rule", "halt_patience", "halt_tolerance", "soft_reset", "teacher_seed")


def config(**changes):
    return make_config(BASELINES["fmnist"] | PROTOCOLS["fmnist"]["code"] | {"seed": 3, "protocol": "code"} | changes)


def test_at_their_defaults_they_are_no_part_of_a_name():
    assert run_id(config()) == "fmnist-k5-seed3-6491477b27ef"
    assert not any(name in canonical_json(config()) for name in NEW)


def test_each_of_them_makes_another_run():
    changes = [
        {}, {"halt_rule": "plateau"}, {"halt_rule": "effective_rank"}, {"halt_rule": "plateau", "halt_patience": 5},
        {"halt_rule": "plateau", "halt_tolerance": 0.1}, {"soft_reset": 0.2}, {"soft_reset": 0.3},
        {"halt_cycle": 1}, {"halt_cycle": 1, "teacher_seed": 4}, {"halt_cycle": 1, "teacher_seed": 5},
    ]  # fmt: skip
    assert len({run_id(config(**one)) for one in changes}) == len(changes)


def test_a_run_that_is_its_own_teacher_is_the_run_without_one():
    assert run_id(config(halt_cycle=1, teacher_seed=3)) == run_id(config(halt_cycle=1))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"halt_rule": "plateau", "halt_cycle": 1}, "halt_rule plateau needs a second clustering"),
        ({"halt_rule": "plateau", "cycles": 0, "probe": ()}, "halt_rule plateau needs a second clustering"),
        ({"halt_rule": "plateau", "labels": True}, "halt_rule plateau needs a second clustering"),
        ({"halt_rule": "plateau", "reassign": 50}, "halt_rule plateau needs a second clustering"),
        (
            {"halt_rule": "effective_rank", "halt_cycle": 2, "resume_leak": 4},
            "halt_rule effective_rank sees no label: leave resume_leak 4 out",
        ),
        ({"halt_patience": 5}, "halt_patience 5 belongs to a halt_rule"),
        ({"halt_tolerance": 0.5}, "halt_tolerance 0.5 belongs to a halt_rule"),
        ({"soft_reset": 0.5, "halt_cycle": 1}, "soft_reset 0.5 needs a second clustering"),
        ({"teacher_seed": 9}, "teacher_seed 9 gives the labels of another net, which never change: give halt_cycle"),
        ({"teacher_seed": 9, "cycles": 0, "probe": ()}, "teacher_seed 9 gives the labels of another net"),
        ({"teacher_seed": 9, "labels": True}, "teacher_seed 9 gives the labels of another net"),
        ({"soft_reset": 0.0}, "soft_reset 0.0 is not allowed; allowed: a number above 0 and of at most 1, or off"),
        ({"halt_rule": "rank"}, "halt_rule 'rank' is not allowed; allowed: effective_rank, plateau, or none"),
    ],
)
def test_what_makes_no_sense_is_one_line(changes, message):
    with pytest.raises(InputError, match=message.replace("(", r"\(")):
        config(**changes)


def test_the_ia_run_of_a_run_is_that_of_its_first_clustering():
    plain = reuse.ia_donor(config())
    assert plain == run_id(config(cycles=0, probe=()))
    assert {reuse.ia_donor(config(**one)) for one in ({"halt_rule": "plateau"}, {"soft_reset": 0.2})} == {plain}
    assert reuse.ia_donor(config(halt_cycle=1, teacher_seed=8)) == reuse.ia_donor(config(seed=8))


def test_estimates_and_the_order_of_runs_know_them():
    runs = [config(halt_cycle=1, teacher_seed=8), config(seed=8), config(halt_rule="plateau", halt_cycle=9)]
    runs += [config(halt_rule="plateau"), config(soft_reset=0.1, halt_cycle=4), config(soft_reset=0.1)]
    ordered = reuse.ordered({run_id(one): one for one in runs})
    assert abs(ordered.index(run_id(runs[0])) - ordered.index(run_id(runs[1]))) == 1, "they share a first pass"
    assert reuse.copied_cycles([runs]) == {run_id(runs[2]): 8, run_id(runs[4]): 3}
