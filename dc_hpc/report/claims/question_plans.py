"""What the questions of ours need before they are judged, as `plans` has it for the claims of the paper.

A question is none of the paper's claims: it is counted apart, and Holm's correction over the claims of the paper does
not know it. This module is plain data.
"""

from __future__ import annotations

from collections.abc import Mapping

from dc_hpc.report.claims.plans import Plan

_VALLEY = (1, 2, 3, 4, 5, 6)
_VALLEY_20 = (1, 2, 3, 4, 5)
_IA_FIXED = (24, 57, 54, 43, 97, 13, 33, 74, 72, 37, 9, 40, 31, 78, 50, 42)
_IA_RANDOM = (78, 89, 75, 24, 33, 90, 62, 29, 2, 6, 64, 67, 27, 98, 35, 26)
_VIEWS = (1, 2, 3, 4, 5)


def _plan(seeds: tuple[int, ...], grid: str) -> Plan:
    return Plan(seeds, {grid: {}}, protocol="code", declared="2026-11-29")


# The panel of the report -> the plan of all questions that it asks.
QUESTION_PLANS: Mapping[str, Plan] = {
    # Of each arm: is the fall of NMI with the truth, from cycle 0 to the lowest cycle, less than the base's?
    "valley_arms": _plan(_VALLEY, "svhn_valley"),
    # Is accuracy higher halted after 1 cycle, and after 4, than never halted?
    "valley_halts": _plan(_VALLEY_20, "svhn_valley_20"),
    # At each of seven layers: do accuracy, and the gain over one's own untrained net, rise with Initial Alignment?
    "ia_layers_fixed": _plan(_IA_FIXED, "svhn_ia_layers"),
    "ia_layers_random": _plan(_IA_RANDOM, "svhn_ia_layers_random"),
    # Is accuracy higher with one view than with another, and halted once than never halted?
    "views_fmnist": _plan(_VIEWS, "fmnist_views"),
}
