"""The cost estimate that `submit` prints first: runs by state, tasks, and the hours that they may take."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from dc_hpc.config.grid import Grid, Resources
from dc_hpc.config.run_config import RunConfig, run_id
from dc_hpc.experiment import reuse
from dc_hpc.scheduler.estimates import CPU, GPU, Estimate, estimate, length_of, measure_datasets
from dc_hpc.scheduler.run_status import RunStatusTable
from dc_hpc.scheduler.site import Site
from dc_hpc.scheduler.tasks.words import duration

Run = TypeVar("Run")


def describe_runs(grids: Sequence[Grid], table: RunStatusTable, missing: Sequence[str], outputs: Path) -> str:
    """The runs of the grids by state, why the failed ones failed, and how many will be submitted."""
    lines = []
    for one in grids:
        shared = f", {len(one.runs)} runs" if len(one.runs) < len(one.points) else ""
        lines.append(f"{one.path}: {len(one.points)} points{shared}")
    lines.append(f"{table.describe_counts()} in {outputs}")
    lines += [f"! {line}" for line in table.describe_problems()]
    lines += [
        f"  failed: {run.name}: {run.reason}"
        + ("" if run.end and not run.end.began else " (traceback in its attempts folder)")
        for run in table.runs.values()
        if run.state == "failed"
    ]
    lines += [f"  {line}" for line in table.describe_diverged()]
    return "\n".join([*lines, f"to submit: {len(missing)}", *_untrained(grids, missing)])


def _untrained(grids: Sequence[Grid], missing: Sequence[str]) -> list[str]:
    """How many of the runs train no net: with a probe they are a random floor, without one they measure only the IA."""
    configs = {name: config for one in grids for name, config in one.runs.items()}
    probed = [bool(configs[name].probe) for name in missing if configs[name].cycles == 0]
    kinds = {
        "a random floor: cycles 0 with a probe, which reads an untrained net": sum(probed),
        "for the Initial Alignment only: cycles 0 without a probe": len(probed) - sum(probed),
    }
    return [f"  {count} of them {'is' if count == 1 else 'are'} {kind}" for kind, count in kinds.items() if count]


def describe_reuse(tasks: Sequence[Sequence[RunConfig]]) -> str:
    """What the runs of each task need not compute because another run of the task has it; "" where that is nothing."""
    passes, cycles = reuse.reuse_savings(tasks)
    if not passes and not cycles:
        return ""
    runs = [one for task in tasks for one in task]
    return (
        f"not computed twice: {passes} of {len(runs)} first passes over the images, {cycles} of "
        f"{sum(one.cycles for one in runs)} cycles"
    )


def split_into_tasks(runs: Sequence[Run], resources: Resources) -> list[Sequence[Run]]:
    """The runs of each task."""
    size = resources.runs_per_task
    return [runs[start : start + size] for start in range(0, len(runs), size)]


def describe_cluster_cost(
    missing: Sequence[RunConfig], table: RunStatusTable, *, resources: Resources, site: Site, outputs: Path
) -> str:
    """What a cluster may charge: at most, by the time limits; and probably, by the measured seconds of such runs."""
    tasks = split_into_tasks(missing, resources)
    unit, per_task = ("GPU-hours", site.gpus) if site.gpus else ("core-hours", site.cores(resources.parallel_runs))
    most = len(tasks) * resources.minutes / 60 * per_task
    line = (
        f"tasks: {len(tasks)} of {resources.runs_per_task} runs, {resources.parallel_runs} at a time, at most "
        f"{resources.minutes} minutes each: at most {most:.1f} {unit}"
    )
    device = GPU if site.gpus else CPU
    probable = _estimate(tasks, table, outputs, device, per_task / resources.parallel_runs, unit)
    return "\n".join(filter(None, [line, describe_reuse(tasks), probable]))


def describe_local_time(
    missing: Sequence[RunConfig], table: RunStatusTable, *, requested: str, slots: int, outputs: Path
) -> str:
    """How long the runs may take on this machine, by what such runs took in the outputs folder; "" for no run.

    requested: the device that the runs ask for. slots: how many compute at the same time.
    """
    if not missing:
        return ""
    has_gpu = requested == "cuda" or (requested == "auto" and shutil.which("nvidia-smi") is not None)
    device = GPU if has_gpu else CPU  # a login node does not import torch to know it
    left = _left([missing], table, outputs, device)
    elapsed = left.elapsed(slots)
    if elapsed is None:
        return f"estimate: time unknown; no run like these was measured on a {device} yet in {outputs}"
    doubts = left.doubts()
    return (
        f"estimate: {left.at_least()}{duration(elapsed)} with {min(slots, len(missing))} at a time, for {left.cycles} "
        f"cycles{'; ' if doubts else ''}{doubts}"
    )


def _left(tasks: Sequence[Sequence[RunConfig]], table: RunStatusTable, outputs: Path, device: str) -> Estimate:
    """What the runs of these tasks still need, without the cycles that are copied."""
    copied = reuse.copied_cycles(tasks)
    runs = [
        (one, max(table.runs[run_id(one)].cycles_done, copied.get(run_id(one), 0))) for task in tasks for one in task
    ]
    measured = measure_datasets(outputs, {one.dataset for one, _ in runs})
    return estimate(measured, [(length_of(one.model_dump()), done, device) for one, done in runs])


def _estimate(
    tasks: Sequence[Sequence[RunConfig]], table: RunStatusTable, outputs: Path, device: str, share: float, unit: str
) -> str:
    """The probable cost in words. share: cores or GPUs that one run has for itself."""
    left = _left(tasks, table, outputs, device)
    if left.seconds is None:
        return f"estimate: no run like these was measured on a {device} yet in {outputs}; try --limit 1 first"
    doubts = left.doubts()
    hours = left.seconds / 3600 * share
    return (
        f"estimate: {left.at_least()}{hours:.2g} {unit} for {left.cycles} cycles, by what such runs took so far"
        f"{'; ' if doubts else ''}{doubts}"
    )
