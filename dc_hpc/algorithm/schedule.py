"""In which cycles a run clusters and in which it trains."""

from __future__ import annotations

from dataclasses import dataclass

LAST_CYCLE = ("train", "skip", "stop")


@dataclass(frozen=True)
class Schedule:
    """The phases of a run.

    cycles: N_c; with 0 the fresh net is clustered once and nothing is trained, which is what the Initial Alignment is
    computed from (section 4.1.1). halt_cycle: number of clusterings done (section 4.2): clustering happens in cycles
    0 .. halt_cycle - 1 and their last pseudo-labels serve from then on; None clusters in every cycle. reassign:
    cluster in every reassign-th cycle. epochs_per_cycle: N_e. last_cycle: "skip" leaves out the training of the last
    cycle; "stop" leaves out its clustering too, as the `break` in the authors' loop does. Both give the same net.
    Raises ValueError when a value is not allowed.
    """

    cycles: int
    halt_cycle: int | None = None
    reassign: int = 1
    epochs_per_cycle: int = 1
    last_cycle: str = "train"

    def __post_init__(self) -> None:
        if self.cycles < 0:
            raise ValueError(f"cycles {self.cycles} must be 0 or more")
        if self.halt_cycle is not None and self.halt_cycle < 1:
            raise ValueError(f"halt_cycle {self.halt_cycle} must be 1 or more, or None for never")
        if self.last_cycle not in LAST_CYCLE:
            raise ValueError(f"last_cycle {self.last_cycle!r} is not one of {', '.join(LAST_CYCLE)}")
        if self.last_cycle == "stop" and self.cycles == 1:
            raise ValueError("last_cycle stop leaves nothing of 1 cycle; give cycles of 2 or more, or 0 for the IA")
        for name in ("reassign", "epochs_per_cycle"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} must be 1 or more")

    @property
    def end(self) -> int:
        """The number of cycles that have a phase. A run without training has one: the clustering of cycle 0."""
        return last_phase(self.cycles, self.last_cycle)

    def clusters_in(self, cycle: int) -> bool:
        """Whether the pseudo-labels of a cycle are computed anew."""
        halted = self.halt_cycle is not None and cycle >= self.halt_cycle
        return not halted and cycle % self.reassign == 0

    def trains_in(self, cycle: int) -> bool:
        """Whether a cycle trains the net."""
        return cycle < (self.cycles if self.last_cycle == "train" else self.cycles - 1)


def last_phase(cycles: int, last_cycle: str) -> int:
    """The number of cycles that have a phase, of a schedule with these settings."""
    return max(cycles - 1 if last_cycle == "stop" else cycles, 1)
