"""The measures of a clustering that need no label, and which of two values each of them prefers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class LabelFree:
    """A measure of a clustering that needs no label.

    name: of its column in metrics.csv. title: for people. badness: of a value; the measure prefers the lowest one.
    prefers: that in words. first: whether the first clustering has it. of_features: whether it is one of the features
    before they are clustered, so that nothing of the clustering, such as k, changes it there.
    """

    name: str
    title: str
    prefers: str
    badness: Callable[[float], float]
    first: bool = True
    of_features: bool = False


MEASURES: dict[str, LabelFree] = {
    one.name: one
    for one in (
        LabelFree("effective_rank", "effective rank", "the highest", lambda value: -value, of_features=True),
        LabelFree(
            "spectrum_alpha",
            "alpha of the spectrum",
            "the nearest to 1",
            lambda value: abs(value - 1),
            of_features=True,
        ),
        LabelFree("inertia_per_point", "inertia per image", "the lowest", lambda value: value),
        LabelFree("effective_clusters", "effective clusters", "the highest", lambda value: -value),
        LabelFree("silhouette", "silhouette", "the highest", lambda value: -value),
        LabelFree("nmi_prev", "NMI, before", "the highest", lambda value: -value, first=False),
    )
}
OF_FIRST = tuple(name for name, one in MEASURES.items() if one.first)
