"""Rules that halt the clustering, or keep the labels of an earlier one, without looking at a label.

The paper halts after a number of clusterings that is chosen beforehand (section 4.2). A rule decides while the run goes
on, from one score of each clustering: what the features, or the pseudo-labels of two neighbouring cycles, say. It is a
function of the scores so far and of nothing else, so that a resumed run decides as the uninterrupted one did.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dc_hpc.algorithm.agreement import Labels, agreement

HALT_RULES = ("effective_rank", "plateau")
# The score of each clustering so far, by its cycle, in rising order. NaN where a clustering has none.
Scores = Mapping[int, float]


@dataclass(frozen=True)
class HaltRule:
    """When clustering halts, and on whose pseudo-labels the net trains meanwhile.

    A clustering counts as progress where its score is more than `tolerance` above that of the last progress; the first
    clustering with a score always counts. After `patience` clusterings in a row without progress nothing is clustered
    any more.

    name: "effective_rank": the score is the effective rank of the features (`Components.effective_rank`) and the net
    always trains on the pseudo-labels of the last progress, which with a tolerance of 0 is the clustering with the
    highest effective rank so far, the earlier one of equals. "plateau": the score is the NMI of the new pseudo-labels
    with those that the cycle before trained on, so that the first clustering has none, and the net always trains on
    the newest pseudo-labels; once they change no less than before, the newest stay. Raises ValueError: another name, a
    patience below 1, a negative tolerance.
    """

    name: str
    patience: int = 3
    tolerance: float = 0.0

    def __post_init__(self) -> None:
        if self.name not in HALT_RULES:
            raise ValueError(f"halt_rule {self.name!r} is not one of {', '.join(HALT_RULES)}")
        if self.patience < 1:
            raise ValueError(f"halt_patience {self.patience} must be 1 or more")
        if not 0 <= self.tolerance < math.inf:
            raise ValueError(f"halt_tolerance {self.tolerance} must be 0 or more")

    def score(self, labels: Labels, previous: Labels | None, effective_rank: float | None) -> float:
        """The score of a clustering. labels: of this one, (n,). previous: those that the cycle before trained on.

        Raises ValueError: the rule needs the effective rank of the features, and the clustering does not know it.
        """
        if self.name == "plateau":
            return math.nan if previous is None else agreement(previous, labels).nmi
        if effective_rank is None:
            raise ValueError("halt_rule effective_rank needs a clustering that says it: give Clustering.effective_rank")
        return effective_rank

    def halted(self, scores: Scores) -> bool:
        """Whether nothing is clustered any more after clusterings with these scores."""
        best = self._last_progress(scores)
        return best is not None and sum(cycle > best for cycle in scores) >= self.patience

    def kept(self, scores: Scores) -> int:
        """The cycle whose pseudo-labels the net trains on after clusterings with these scores, one at least."""
        best = self._last_progress(scores)
        return max(scores) if best is None or self.name == "plateau" else best

    def _last_progress(self, scores: Scores) -> int | None:
        best: int | None = None
        for cycle, score in _known(scores):
            if best is None or score > scores[best] + self.tolerance:
                best = cycle
        return best


def _known(scores: Scores) -> Iterable[tuple[int, float]]:
    return ((cycle, score) for cycle, score in scores.items() if not math.isnan(score))
