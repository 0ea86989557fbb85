"""Finds work that several runs have in common, and which run can be the donor of it.

Everything here is exact. A first forward pass is a function of the fresh net and the images; two runs that differ in
when they halt are the same run until the last clustering of the shorter one (section 4.2); the first clustering of a
run is the whole of its IA run (section 4.1.1).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import ValidationError

from dc_hpc.algorithm.schedule import last_phase
from dc_hpc.config.beyond import AFTER_FIRST
from dc_hpc.config.run_config import RunConfig, run_id

# The settings of a run that ends with its first clustering, where others have more.
UNTRAINED: dict[str, Any] = {
    **{name: RunConfig.model_fields[name].default for name in AFTER_FIRST},
    **dict(cycles=0, halt_cycle=None, resume_leak=None, probe=(), test_digest=None),
}


def first_pass(config: RunConfig) -> tuple[Any, ...]:
    """What decides the features of the net that is clustered first: runs with the same value share a forward pass."""
    return tuple(getattr(labelling(config), name) for name in type(config).affecting("first_pass"))


def labelling(config: RunConfig) -> RunConfig:
    """The run whose first clustering this one takes its labels from: itself, or a run with the seed of its teacher.

    The teacher is a run of its own, which halts after that clustering, too.
    """
    if config.teacher_seed is None:
        return config
    return config.model_copy(update={"seed": config.teacher_seed, "teacher_seed": None})


def ordered(configs: dict[str, RunConfig]) -> list[str]:
    """The runs in an order in which those that share a first pass are neighbours, and a donor comes before its
    recipients."""
    place = {group: number for number, group in enumerate(dict.fromkeys(map(first_pass, configs.values())))}

    def rank(name: str) -> tuple[int, bool, bool, int]:
        one = configs[name]
        return place[first_pass(one)], one.cycles > 0, one.halt_cycle is not None, -(one.halt_cycle or 0)

    return sorted(configs, key=rank)


def ia_donor(config: RunConfig) -> str | None:
    """The run that only measures the IA of this one; None for a run that is one itself or never clusters."""
    if config.cycles == 0 or config.labels:
        return None
    return run_id(_with(labelling(config), **UNTRAINED))


def halted_recipients(config: RunConfig, cycle: int) -> Iterator[str]:
    """The runs that equal this one up to the end of `cycle`, may cluster in the next, and then halt, while it goes on.

    The leak of a restart comes after the halt, so it changes nothing before it.
    """
    # The cycle after this one stays with the recipient: its clustering, if there is one, is the recipient's last, whose
    # features the recipient may write and this run may not.
    halt = cycle + 2
    if config.labels or halt >= _last_clustering(config):
        return
    for leak in (None, halt, halt + 1) if config.halt_rule is None else (None,):
        try:
            recipient = _with(config, halt_cycle=halt, resume_leak=leak)
        except ValidationError:  # no run: with a `reassign` of 2 or more, too few clusterings for other settings
            continue
        yield run_id(recipient)


def reuse_savings(packs: Sequence[Sequence[RunConfig]]) -> tuple[int, int]:
    """(first forward passes, whole cycles) that the runs of these tasks need not compute, each task by itself."""
    clustering = [[one for one in pack if not one.labels] for pack in packs]
    passes = sum(len(runs) - len(set(map(first_pass, runs))) for runs in clustering)
    return passes, sum(copied_cycles(packs).values())


def copied_cycles(packs: Sequence[Sequence[RunConfig]]) -> dict[str, int]:
    """Halted run -> the number of whole cycles that it copies from another run of its task."""
    copied: dict[str, int] = {}
    for pack in packs:
        longest: dict[str, int] = {}
        for one in pack:
            if not one.labels and one.teacher_seed is None:
                longest[_unhalted(one)] = max(longest.get(_unhalted(one), 0), _last_clustering(one))
        for one in pack:
            halt = one.halt_cycle
            if halt is not None and _may_receive(one) and halt < longest[_unhalted(one)]:
                copied[run_id(one)] = halt - 1
    return copied


def _last_clustering(config: RunConfig) -> int:
    """The number of cycles until a run clusters no more."""
    return last_phase(config.cycles, config.last_cycle) if config.halt_cycle is None else config.halt_cycle


def _unhalted(config: RunConfig) -> str:
    return run_id(_with(config, halt_cycle=None, resume_leak=None))


def _may_receive(config: RunConfig) -> bool:
    halt = config.halt_cycle
    if halt is None or config.labels or config.teacher_seed is not None:
        return False
    return config.resume_leak in (None, halt, halt + 1)


def _with(config: RunConfig, **changes: Any) -> RunConfig:
    """The same settings but for these; checked like any other."""
    return RunConfig(**(dict(config) | changes))
