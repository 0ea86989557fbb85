"""What each question beyond the paper needs before it is judged: how many seeds, from which grids, since which day.

The rules are those of `claims.plans`: a question has no verdict before its planned seeds have run. Its grids hold
exactly these runs. It says nothing about the paper, so that the paper's verdicts and their correction leave it out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dc_hpc.report.claims import plans
from dc_hpc.report.claims.plans import Plan

_DECLARED = "2026-11-29"


class QuestionPlan(Plan):
    """A plan whose grids already have its seeds and its protocol."""

    def overrides(self, grid: str, settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The settings of a person; a data set among them replaces only the one it is a copy of."""
        own = dict(settings or {})
        dataset = own.get("dataset")
        if isinstance(dataset, str) and dataset.split("-")[0] not in grid.split("_"):
            del own["dataset"]
        return own


def _plan(n: int, *grids: str) -> Plan:
    return QuestionPlan(tuple(range(1, n + 1)), {grid: {} for grid in grids}, declared=_DECLARED)


_SEEDS_FMNIST, _K_FMNIST = _plan(20, "beyond_choosing_fmnist"), _plan(8, "beyond_choosing_fmnist")
_HALTS, _SVHN = _plan(8, "beyond_halting_fmnist"), _plan(8, "beyond_choosing_svhn")
_RESET_FMNIST, _RESET_SVHN = _plan(8, "beyond_reset_fmnist"), _plan(8, "beyond_reset_svhn")
_TEACHER = _plan(8, "beyond_teacher_fmnist")

PLANS: dict[str, Plan] = {
    "beyond_choosing_fmnist.ia_seeds": _SEEDS_FMNIST,
    "beyond_choosing_fmnist.effective_rank_seeds": _SEEDS_FMNIST,
    "beyond_choosing_fmnist.ia_k": _K_FMNIST,
    "beyond_choosing_fmnist.silhouette_k": _K_FMNIST,
    "beyond_choosing_fmnist.effective_rank_k_trained": _K_FMNIST,
    "beyond_choosing_fmnist.ia_cycles": _HALTS,
    "beyond_choosing_fmnist.effective_rank_cycles": _HALTS,
    "beyond_choosing_svhn.ia_seeds": _SVHN,
    "beyond_choosing_svhn.effective_rank_seeds": _SVHN,
    "beyond_choosing_svhn.ia_k": _SVHN,
    "beyond_choosing_svhn.silhouette_k": _SVHN,
    "beyond_choosing_svhn.effective_rank_k_trained": _SVHN,
    "beyond_halting_fmnist.effective_rank_always": _HALTS,
    "beyond_halting_fmnist.effective_rank_once": _HALTS,
    "beyond_halting_fmnist.effective_rank_oracle": _HALTS,
    "beyond_halting_fmnist.effective_rank_saves": _HALTS,
    "beyond_halting_fmnist.plateau_always": _HALTS,
    "beyond_halting_fmnist.plateau_once": _HALTS,
    "beyond_halting_fmnist.plateau_oracle": _HALTS,
    "beyond_halting_fmnist.plateau_saves": _HALTS,
    "beyond_reset_fmnist.reset_always": _RESET_FMNIST,
    "beyond_reset_fmnist.reset_once": _RESET_FMNIST,
    "beyond_reset_svhn.reset_always": _RESET_SVHN,
    "beyond_reset_svhn.reset_once": _RESET_SVHN,
    "beyond_teacher_fmnist.own_net": _TEACHER,
}


def plan_of(name: str) -> Plan:
    """The plan of a question, or of a claim of the paper, by the name of its panel and its own. InputError: none."""
    return PLANS[name] if name in PLANS else plans.plan_of(name)
