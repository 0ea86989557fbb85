"""What each question needs before it is judged: how many seeds, from which grids, since which day.

The rules are those of `claims.plans`: no verdict before the planned seeds have run. A question says nothing about the
paper, so that the paper's verdicts and their correction leave it out. This module is plain data.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dc_hpc.config.yaml_reader import did_you_mean
from dc_hpc.errors import InputError
from dc_hpc.report.claims import plans
from dc_hpc.report.claims.plans import Plan


class QuestionPlan(Plan):
    """A plan whose grids already have its seeds and its protocol."""

    def overrides(self, grid: str, settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The settings of a person; a data set among them replaces only the one it is a copy of."""
        own = dict(settings or {})
        dataset = own.get("dataset")
        if isinstance(dataset, str) and dataset.split("-")[0] not in grid.split("_"):
            del own["dataset"]
        return own


def _plan(seeds: tuple[int, ...], grid: str) -> Plan:
    return QuestionPlan(seeds, {grid: {}}, declared="2026-11-29")


_FIVE, _SIX, _EIGHT, _TWENTY = (tuple(range(1, n + 1)) for n in (5, 6, 8, 20))
_IA_FIXED = (24, 57, 54, 43, 97, 13, 33, 74, 72, 37, 9, 40, 31, 78, 50, 42)
_IA_RANDOM = (78, 89, 75, 24, 33, 90, 62, 29, 2, 6, 64, 67, 27, 98, 35, 26)
_OVER_SEEDS, _HALTING = _plan(_TWENTY, "beyond_choosing_fmnist"), _plan(_EIGHT, "beyond_halting_fmnist")

# A panel -> the plan of the questions that it asks; a panel and a question, `panel.question` -> a plan of its own.
PLANS: Mapping[str, Plan] = {
    "valley_arms": _plan(_SIX, "svhn_valley"),
    "valley_halts": _plan(_FIVE, "svhn_valley_20"),
    "ia_layers_fixed": _plan(_IA_FIXED, "svhn_ia_layers"),
    "ia_layers_random": _plan(_IA_RANDOM, "svhn_ia_layers_random"),
    "views_fmnist": _plan(_FIVE, "fmnist_views"),
    "beyond_choosing_fmnist": _plan(_EIGHT, "beyond_choosing_fmnist"),
    "beyond_choosing_fmnist.ia_seeds": _OVER_SEEDS,
    "beyond_choosing_fmnist.effective_rank_seeds": _OVER_SEEDS,
    "beyond_choosing_fmnist.ia_cycles": _HALTING,
    "beyond_choosing_fmnist.effective_rank_cycles": _HALTING,
    "beyond_choosing_svhn": _plan(_EIGHT, "beyond_choosing_svhn"),
    "beyond_halting_fmnist": _HALTING,
    "beyond_reset_fmnist": _plan(_EIGHT, "beyond_reset_fmnist"),
    "beyond_reset_svhn": _plan(_EIGHT, "beyond_reset_svhn"),
    "beyond_teacher_fmnist": _plan(_EIGHT, "beyond_teacher_fmnist"),
}


def name_of_plan(panel: str, question: str) -> str:
    """The name of the plan of a question, as `submit --claim` takes it."""
    own = f"{panel}.{question}"
    return own if own in PLANS else panel


def plans_of(panel: str) -> list[Plan]:
    """The plans of a panel: of all its questions, then those of single ones."""
    return [plan for name, plan in PLANS.items() if name.split(".")[0] == panel]


def plan_of(name: str) -> Plan:
    """The plan of a claim of the paper, by its figure and its own name, or of our questions, by a name of PLANS.

    InputError for another name.
    """
    known = {**plans.PLANS, **PLANS}
    if name not in known:
        raise InputError(
            f"--claim {name}: no such claim{did_you_mean(name, tuple(known))}; docs/results/tables/claims.csv lists "
            "all: FIGURE.CLAIM, for example fig_5b.dip; questions.csv beside it has our questions: PANEL, for example "
            "valley_arms"
        )
    return known[name]
