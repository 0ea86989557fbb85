"""Which phases a run has: clustering until it halts, training in all cycles or all but the last."""

import pytest

from dc_hpc.algorithm import Schedule


def phases(schedule):
    """The cycles that cluster and the cycles that train."""
    cycles = range(schedule.end)
    return [c for c in cycles if schedule.clusters_in(c)], [c for c in cycles if schedule.trains_in(c)]


@pytest.mark.parametrize(
    "schedule, clustered, trained",
    [
        (Schedule(3), [0, 1, 2], [0, 1, 2]),
        (Schedule(4, halt_cycle=2), [0, 1], [0, 1, 2, 3]),
        (Schedule(5, reassign=2), [0, 2, 4], [0, 1, 2, 3, 4]),
        (Schedule(5, reassign=2, halt_cycle=3), [0, 2], [0, 1, 2, 3, 4]),
        (Schedule(3, last_cycle="skip"), [0, 1, 2], [0, 1]),
        (Schedule(3, last_cycle="stop"), [0, 1], [0, 1]),
        (Schedule(3, last_cycle="stop", halt_cycle=1), [0], [0, 1]),
        (Schedule(0), [0], []),
        (Schedule(0, last_cycle="stop"), [0], []),
        (Schedule(0, last_cycle="skip"), [0], []),
    ],
)
def test_the_phases_of_a_run(schedule, clustered, trained):
    assert phases(schedule) == (clustered, trained)


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(cycles=-1), "cycles -1 must be 0 or more"),
        (dict(cycles=1, halt_cycle=0), "halt_cycle 0 must be 1 or more, or None for never"),
        (dict(cycles=1, last_cycle="no"), "last_cycle 'no' is not one of train, skip, stop"),
        (dict(cycles=1, last_cycle="stop"), "last_cycle stop leaves nothing of 1 cycle; give cycles of 2 or more"),
        (dict(cycles=1, reassign=0), "reassign 0 must be 1 or more"),
        (dict(cycles=1, epochs_per_cycle=0), "epochs_per_cycle 0 must be 1 or more"),
    ],
)
def test_a_value_that_is_not_allowed_is_named(settings, message):
    with pytest.raises(ValueError, match=message):
        Schedule(**settings)
