"""What all forms of `status` show: the runs with their lengths, what they took, and what they still need."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dc_hpc.config.run_config import RunConfig
from dc_hpc.scheduler import estimates, run_status, slurm
from dc_hpc.scheduler.estimates import Estimate, Length, MeasuredTimes, RunTotals
from dc_hpc.scheduler.run_status import RunStatus, RunStatusTable
from dc_hpc.scheduler.tasks.polling import AccountingWatch, QueueWatch
from dc_hpc.storage import run_directory, run_progress
from dc_hpc.storage.run_progress import RunProgress


@dataclass(frozen=True)
class StatusView:
    """The status of some runs at one moment.

    lengths: run name -> its length, None where its config is damaged. progress: run name -> where it is, for those that
    compute now.
    """

    table: RunStatusTable
    lengths: dict[str, Length | None]
    measured: MeasuredTimes
    left: Estimate
    progress: dict[str, RunProgress] = field(default_factory=dict)

    def totals(self, run: str) -> RunTotals:
        """What the attempts of a run took."""
        return self.measured.totals.get(run, RunTotals())

    def cycles_of(self, run: RunStatus) -> tuple[int, int | None]:
        """(finished cycles, all cycles) of a run by its config; 0 for one that only measures IA, None for unknown."""
        length = self.lengths[run.name]
        cycles = None if length is None else 0 if length.only_ia else length.cycles
        return (cycles if run.state == "done" and cycles is not None else run.cycles_done), cycles

    def seconds_left(self, run: RunStatus) -> float | None:
        """Seconds that a run still needs; None where that is unknown."""
        length = self.lengths[run.name]
        if run.state == "done":
            return 0.0
        if length is None:
            return None
        device, progress = self.measured.device_of(run.name), self.progress.get(run.name)
        return self.measured.left_of_running(length, run.cycles_done, device, progress)


class Watch:
    """Looks at the same runs again and again, and asks SLURM as seldom as tasks/polling.py says.

    runs: run name -> the settings that its grid gives it, None where no grid was named.
    """

    def __init__(self, outputs: Path, runs: Mapping[str, RunConfig | None]) -> None:
        self.outputs, self.runs = outputs, runs
        self._queue, self._accounting = QueueWatch(), AccountingWatch()
        self._cluster_name = functools.cache(slurm.cluster_name)

    def look(self) -> StatusView:
        """The status of the runs now."""
        table = run_status.collect(
            self.outputs,
            self.runs,
            accounted=self._accounting,
            queue=self._queue,
            cluster_name=self._cluster_name,
        )
        return view_of(self.outputs, table, self.runs)


def view_of(outputs: Path, table: RunStatusTable, configs: Mapping[str, RunConfig | None]) -> StatusView:
    """The runs of a table with their lengths, what they took and what they still need. configs: see `Watch`."""
    folder = run_directory.runs_folder(outputs)
    lengths = {name: _length(folder / name, configs.get(name)) for name in table.runs}
    measured = estimates.measure(outputs, table, lengths)
    found = {name: run_progress.read(folder / name) for name, run in table.runs.items() if run.state == "running"}
    progress = {name: one for name, one in found.items() if one is not None}
    unfinished = {
        run.name: (length, run.cycles_done, measured.device_of(run.name))
        for run in table.runs.values()
        if run.state != "done" and (length := lengths[run.name])
    }
    left = estimates.estimate(measured, unfinished.values(), map(progress.get, unfinished))
    return StatusView(table, lengths, measured, left, progress)


def _length(directory: Path, config: RunConfig | None) -> Length | None:
    """The length of a run by its directory, or by its grid where nobody has submitted it yet."""
    if config is not None and not directory.exists():
        return estimates.length_of(config.model_dump())
    return estimates.read_length(directory)


def as_json(view: StatusView, states: Sequence[str]) -> str:
    """The status of the runs, what they took and what they still need, for other programs; null for unknown.

    states: `runs` holds the runs in these states only, all runs where there are none.
    """
    table, measured, left = view.table, view.measured, view.left
    content = {
        "time": round(time.time(), 3),
        "cluster": table.cluster,
        "counts": table.counts(),
        "hours": round(measured.hours, 4),
        "gpu_hours": round(measured.gpu_hours, 4),
        "hours_left": None if left.seconds is None else round(left.seconds / 3600, 4),
        "runs_not_estimated": sum(left.unmeasured.values()),
        "complaints": [*table.warnings, *measured.warnings],  # programs know the warnings by this key
        "unanswered": [{"submission": one.name, "runs": one.run_names()} for one in table.unanswered],
        "failed_aggregators": [one.to_record() for one in table.failed_aggregators],
        "runs": [_run_as_json(view, run) for run in table.runs.values() if not states or run.state in states],
    }
    return json.dumps(content, indent=1)


def _run_as_json(view: StatusView, run: RunStatus) -> dict[str, Any]:
    done, cycles = view.cycles_of(run)
    totals, left, result = view.totals(run.name), view.seconds_left(run), run.result or {}
    progress = view.progress.get(run.name)
    return {
        "run": run.name,
        "state": run.state,
        "reason": run.reason,
        "cycles_done": done,
        "cycles": cycles,
        "phase": progress.phase if progress else None,
        "progress": asdict(progress) if progress else None,
        "ia": result.get("ia"),
        "accuracy": result.get("accuracy"),
        "attempts": totals.attempts,
        "attempts_failed": totals.failed,
        "seconds": round(totals.seconds, 3),
        "cpu_seconds": None if totals.cpu_seconds is None else round(totals.cpu_seconds, 3),
        "gpu_seconds": round(totals.gpu_seconds, 3),
        "seconds_by_stage": {stage: round(seconds, 3) for stage, seconds in totals.stages.items()},
        "seconds_left": None if left is None else round(left, 3),
        "task": run.task.id if run.task else None,
        "task_end": run.end.to_record() if run.end else None,
    }
