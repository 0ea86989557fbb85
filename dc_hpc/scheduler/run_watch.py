"""What a person who watches local runs wants to know: the state of each, where it is, and when it will be done.

It reads the run directories and never the jobs' pickles.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dc_hpc.scheduler import estimates
from dc_hpc.scheduler.estimates import CPU, Length, MeasuredTimes
from dc_hpc.scheduler.tasks.words import duration
from dc_hpc.storage import run_directory, run_progress
from dc_hpc.storage.run_directory import RunState
from dc_hpc.storage.run_progress import RunProgress

_MEASURE_SECONDS = 15.0


@dataclass(frozen=True)
class WatchedRun:
    """One run that computes. cycles: how many it has. seconds_left: None where nothing like it was measured."""

    name: str
    state: RunState
    cycles: int
    progress: RunProgress | None
    seconds_left: float | None

    @property
    def phase(self) -> str:
        """The stage in words."""
        return self.progress.phase if self.progress else "starting"

    @property
    def cycle(self) -> str:
        """`3/50`: the third cycle of fifty computes, or the last of fifty is over."""
        number = self.progress.cycle if self.progress else self.state.cycles_done
        return f"{min(number + 1, self.cycles)}/{self.cycles}"


@dataclass(frozen=True)
class GridProgress:
    """All runs of a submission. running: those that compute. seconds_left: None where it is unknown."""

    states: dict[Path, RunState]
    running: list[WatchedRun]
    cycles_done: int
    cycles: int
    seconds_left: float | None

    def summary(self) -> str:
        """`1 of 4 runs done, 2 running, 1 waiting, 0 failed; 7/20 cycles; ETA 3 min`."""
        names = [state.name for state in self.states.values()]
        done, running, failed = (names.count(name) for name in ("done", "running", "failed"))
        waiting = len(names) - done - running - failed
        counts = f"{done} of {len(names)} runs done, {running} running, {waiting} waiting, {failed} failed"
        summary = f"{counts}; {self.cycles_done}/{self.cycles} cycles"
        if not running and not waiting:
            return summary
        return f"{summary}; ETA {'unknown' if self.seconds_left is None else duration(self.seconds_left)}"


class RunWatch:
    """Looks at the runs of a submission again and again, and reads little each time.

    slots: how many runs compute at the same time.
    """

    def __init__(self, directories: Sequence[Path], outputs: Path, *, slots: int) -> None:
        self.outputs, self.slots = outputs, slots
        self.lengths: dict[Path, Length | None] = {one: estimates.read_length(one) for one in directories}
        self.states = {directory: RunState("new") for directory in directories}
        self._measured, self._measured_at = MeasuredTimes(), float("-inf")

    def look(self) -> GridProgress:
        """The progress of all runs now. A run that is done is not read again."""
        self.states = {
            one: state if state.name == "done" else run_directory.state_of(one) for one, state in self.states.items()
        }
        self._measure()
        running = [self._watched(one) for one, state in self.states.items() if state.name == "running"]
        lengths = {one: length.cycles if length else 1 for one, length in self.lengths.items()}
        done = sum(lengths[one] if state.name == "done" else state.cycles_done for one, state in self.states.items())
        return GridProgress(self.states, running, done, sum(lengths.values()), self._seconds_left(running))

    def _measure(self) -> None:
        if time.monotonic() - self._measured_at < _MEASURE_SECONDS:
            return
        datasets = {length.dataset for length in self.lengths.values() if length}
        self._measured = estimates.measure_datasets(self.outputs, datasets)
        self._measured_at = time.monotonic()

    def _watched(self, directory: Path) -> WatchedRun:
        state, length, left = self.states[directory], self.lengths[directory], None
        progress = run_progress.read(directory)
        if length:
            own, device = estimates.measure_run(directory, length)
            measured = self._measured.refined_by(own)
            left = measured.left_of_running(length, state.cycles_done, device or self._device(), progress)
        return WatchedRun(directory.name, state, length.cycles if length else 1, progress, left)

    def _seconds_left(self, running: Sequence[WatchedRun]) -> float | None:
        """As `status` estimates it: all seconds over the runs at a time, and at least those of the longest run."""
        seconds = [run.seconds_left for run in running]
        for directory, state in self.states.items():
            length = self.lengths[directory]
            if state.name in ("new", "resumable"):
                seconds.append(self._measured.left(length, state.cycles_done, self._device()) if length else None)
        known = [one for one in seconds if one is not None]
        if len(known) < len(seconds):
            return None
        return max(sum(known) / self.slots, max(known, default=0.0))

    def _device(self) -> str:
        """Where runs compute that have not begun: where most measurements come from."""
        kinds = [device for _, _, device in self._measured.training] or [CPU]
        return max(set(kinds), key=kinds.count)
