"""What each claim needs before it is judged: how many seeds, in which setting, declared on which day.

A verdict that is read while seeds still arrive can be had either way: one only has to stop at the right moment. So
every claim names its number of seeds beforehand, and has no verdict until they have run. Whoever wants to know more
after that raises the number here and gives a new date; adding seeds until a claim is decided is what this prevents.

This module is plain data, so that `submit --claim` answers at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_FIRST = "2026-11-29"
_HUNDRED = tuple(range(1, 101))
# Figure 3a: the paper's eleven, those that other figures have run, and the next ones up to 47.
_FIG_3A = tuple(dict.fromkeys([6, 39, 19, 50, 76, 59, 49, 37, 61, 55, 32, 2, 5, 22, 66, 11, 23, 9, 12, 52, 78,
                               1, 3, 4, *range(7, 40)]))[:47]  # fmt: skip
_FIG_3B = (15, 7, 35, 36, 63, 18, 10, 55, 79, 76)
_FIG_3C = (9, 88, 70, 87, 42, 93, 16, 22, 66, 84)
_FIG_A1 = (39, 6, 3, 59, 11, 29, 0, 99, 28, 60)
_FIG_4A = (2, 5, 22, 66, 11, 23, 9, 12, 52, 78)
_FIG_4 = (12, 45, 56, 87, 23)
_FIG_5A = (61, 6, 39, 19, 50)
_FIG_5B = (79, 12, 45, 56, 87)
_FIG_5C = (87, 12, 45, 56, 23)
_FIG_B3 = (12, 45, 56, 87, 23, 666, 213, 564, 123, 340)
_APPENDIX = (42, 1, 2, 3, 4)


@dataclass(frozen=True)
class Plan:
    """The runs of a claim.

    seeds: as many as the claim needs. protocol: of its primary setting; verdicts of other settings say nothing about
    the paper, or less. grids: the file of jobs/ that makes the runs -> the settings that differ from it.
    declared: the day on which n and the setting were fixed.
    """

    seeds: tuple[int, ...]
    grids: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    protocol: str = "code"
    declared: str = _FIRST

    @property
    def n(self) -> int:
        """The number of seeds that a verdict needs."""
        return len(self.seeds)

    def overrides(self, grid: str, settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The settings that differ from one of the grids, the seeds among them.

        settings: those of a person, which come first. A data set among them replaces only the one it is a copy of.
        """
        own = dict(settings or {})
        dataset = own.get("dataset")
        if isinstance(dataset, str) and not grid.startswith(dataset.split("-")[0]):
            del own["dataset"]
        return {**self.grids[grid], "protocol": self.protocol, "seed": list(self.seeds), **own}


def _plan(seeds: tuple[int, ...], *grids: str, protocol: str = "code", **settings: Any) -> Plan:
    return Plan(seeds, {grid: settings for grid in grids}, protocol)


_IA_BY_K = _plan(_HUNDRED, "svhn_k_ia")
_ACCURACY_BY_K = _plan(_FIG_4, "svhn_k")
_BOTH_BY_K = Plan(_FIG_4, {"svhn_k": {}, "svhn_k_ia": {}})
_HALT_FMNIST, _HALT_SVHN, _HALT_CIFAR10 = (
    _plan(_FIG_5A, "fmnist_halt"), _plan(_FIG_5B, "svhn_halt"), _plan(_FIG_5C, "cifar10_halt")
)  # fmt: skip

PLANS: dict[str, Plan] = {
    "fig_3a.ia_range": _plan(_HUNDRED, "fmnist_ia"),
    "fig_3b.ia_range": _plan(_HUNDRED, "svhn_ia"),
    "fig_3c.ia_range": _plan(_HUNDRED, "cifar10_ia"),
    # The authors' job of this figure is of June 2021: it trained every cycle and cut one box for a whole batch.
    "fig_3a.ia_accuracy": _plan(_FIG_3A, "fmnist_ia_accuracy", protocol="code_2021", training_view="box_per_batch"),
    "fig_3b.ia_accuracy": _plan(_FIG_3B, "svhn_ia_accuracy"),
    "fig_3c.ia_accuracy": _plan(_FIG_3C, "cifar10_ia_accuracy"),
    "fig_a1.ia_accuracy": _plan(_FIG_A1, "cifar10_alexnet_ia_accuracy"),
    "ia_k_fmnist.suitability_k10": _plan(_HUNDRED, "fmnist_k_ia", "svhn_k_ia", "cifar10_k_ia", k=10),
    "fig_b1.suitability_k10": _plan(_HUNDRED, "svhn_k_ia", "cifar10_k_ia", k=10),
    "fig_b1.suitability_k100": _plan(_HUNDRED, "svhn_k_ia", "cifar10_k_ia", k=100),
    "sobel_svhn.sobel_ia": _plan(_HUNDRED, "svhn_sobel"),
    "sobel_cifar10.sobel_ia": _plan(_HUNDRED, "cifar10_sobel"),
    # The authors' job of this figure is of 2021, when their program cropped each image and trained every cycle.
    "fig_4a.k_accuracy": _plan(_FIG_4A, "fmnist_k", protocol="code_2021", k=[5, 20, 200]),
    "fig_4b.k_accuracy": _ACCURACY_BY_K,
    "fig_4c.k_accuracy": _plan(_FIG_4, "cifar10_k"),
    "fig_5a.continuous_clustering": _HALT_FMNIST,
    "fig_5c.continuous_clustering": _HALT_CIFAR10,
    "fig_5b.halting_spread": _HALT_SVHN,
    "fig_5b.once_is_best": _HALT_SVHN,
    "fig_5a.dip": _HALT_FMNIST,
    "fig_5b.dip": _HALT_SVHN,
    "fig_5c.dip": _HALT_CIFAR10,
    "fig_5a.halting_saves_time": _HALT_FMNIST,
    "fig_5b.halting_saves_time": _HALT_SVHN,
    "fig_5c.halting_saves_time": _HALT_CIFAR10,
    "fig_b1.ia_k10": _IA_BY_K,
    "fig_b1.ia_k50": _IA_BY_K,
    "fig_b1.ia_k100": _IA_BY_K,
    "fig_b1.ia_k500": _IA_BY_K,
    "fig_b1.ia_500_100": _IA_BY_K,
    "fig_6.accuracy_k10": _ACCURACY_BY_K,
    "fig_6.accuracy_k50": _ACCURACY_BY_K,
    "fig_6.accuracy_k100": _ACCURACY_BY_K,
    "fig_6.accuracy_k500": _ACCURACY_BY_K,
    "fig_6.accuracy_500_100": _ACCURACY_BY_K,
    "fig_6.ia_accuracy_by_k": _BOTH_BY_K,
    "fig_b2.pca_ia": _plan(_HUNDRED, "svhn_pca_ia"),
    "fig_b3.pca_accuracy": _plan(_FIG_B3, "svhn_pca_accuracy"),
    "table_a2.pca_accuracy": _plan(_APPENDIX, "cifar10_alexnet_pca"),
    "table_a1.halting_gain": _plan(_APPENDIX, "cifar10_alexnet_halt"),
}
