"""What does not fit together among the settings that go beyond the paper: halting rules, soft resets, teachers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from dc_hpc.algorithm.schedule import last_phase

if TYPE_CHECKING:
    from dc_hpc.config.run_config import RunConfig

# The settings that act after the first clustering, so that a run without training has them at their defaults.
AFTER_FIRST = ("halt_rule", "halt_patience", "halt_tolerance", "soft_reset")


def misfits(c: RunConfig) -> Iterator[str]:
    """What does not fit; each line begins with the setting."""
    last = min(c.halt_cycle or last_phase(c.cycles, c.last_cycle), last_phase(c.cycles, c.last_cycle))
    clusterings = 0 if c.labels else -(-last // c.reassign)
    needs = "needs a second clustering, and this run has none: give cycles of 2 or more and no halt_cycle of 1"
    if c.halt_rule and clusterings < 2:
        yield f"halt_rule {c.halt_rule} {needs}"
    if c.halt_rule and c.resume_leak is not None:
        yield f"halt_rule {c.halt_rule} sees no label: leave resume_leak {c.resume_leak} out"
    for name in ("halt_patience", "halt_tolerance"):
        if not c.halt_rule and getattr(c, name) != type(c).model_fields[name].default:
            yield f"{name} {getattr(c, name)} belongs to a halt_rule: give one, or leave {name} out"
    if c.soft_reset and clusterings < 2:
        yield f"soft_reset {c.soft_reset:g} {needs}"
    if c.teacher_seed is not None and (c.cycles == 0 or clusterings != 1):
        yield (
            f"teacher_seed {c.teacher_seed} gives the labels of another net, which never change: give halt_cycle of 1, "
            "cycles of 1 or more, and no labels"
        )
    if c.teacher_seed is not None and c.draws == "authors" and c.kmeans_init == "random" and c.teacher_seed < 1:
        yield f"teacher_seed {c.teacher_seed} has no draws of the authors where faiss clusters: give one of 1 or more"
