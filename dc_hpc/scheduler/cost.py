"""The bill, before anything is submitted: runs by state, tasks, and the hours that they may take."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dc_hpc.config.grid import Grid, Resources
from dc_hpc.config.run_config import RunConfig, run_id
from dc_hpc.experiment import reuse
from dc_hpc.scheduler.estimates import CPU, GPU, estimate, length_of, typical
from dc_hpc.scheduler.run_status import Overview
from dc_hpc.scheduler.site import Site


def runs_bill(grids: Sequence[Grid], seen: Overview, missing: Sequence[str], outputs: Path) -> str:
    """The runs of the grids by state, why the failed ones failed, and how many will be submitted."""
    lines = []
    for one in grids:
        shared = f", {len(one.runs)} runs" if len(one.runs) < len(one.points) else ""
        lines.append(f"{one.path}: {len(one.points)} points{shared}")
    lines.append(", ".join(f"{count} {name}" for name, count in seen.counts().items()) + f" in {outputs}")
    lines += [
        f"  failed: {run.name}: {run.reason} (traceback in its attempts folder)"
        for run in seen.runs.values()
        if run.state == "failed"
    ]
    return "\n".join([*lines, f"to submit: {len(missing)}"])


def sharing_bill(packs: Sequence[Sequence[RunConfig]]) -> str:
    """What runs of the same task will give each other; "" where they have nothing in common."""
    passes, cycles = reuse.reuse_savings(packs)
    if not passes and not cycles:
        return ""
    runs = [one for pack in packs for one in pack]
    return (
        f"not computed twice: {passes} of {len(runs)} first passes over the images, {cycles} of "
        f"{sum(one.cycles for one in runs)} cycles"
    )


def packed(runs: Sequence[Any], resources: Resources) -> list[Sequence[Any]]:
    """The runs of each task."""
    size = resources.runs_per_task
    return [runs[start : start + size] for start in range(0, len(runs), size)]


def cluster_bill(
    missing: Sequence[RunConfig], seen: Overview, *, resources: Resources, site: Site, outputs: Path
) -> str:
    """What a cluster may charge: at most, by the time limits; likely, by what cycles took so far."""
    packs = packed(missing, resources)
    unit, each = ("GPU-hours", site.gpus) if site.gpus else ("core-hours", site.cores(resources.parallel_runs))
    most = len(packs) * resources.minutes / 60 * each
    line = (
        f"tasks: {len(packs)} of {resources.runs_per_task} runs, {resources.parallel_runs} at a time, at most "
        f"{resources.minutes} minutes each: at most {most:.1f} {unit}"
    )
    device = GPU if site.gpus else CPU
    estimate = _estimate(packs, seen, outputs, device, each / resources.parallel_runs, unit)
    return "\n".join(filter(None, [line, sharing_bill(packs), estimate]))


def _estimate(
    packs: Sequence[Sequence[RunConfig]], seen: Overview, outputs: Path, device: str, share: float, unit: str
) -> str:
    """share: cores or GPUs that one run has for itself."""
    given = reuse.copied_cycles(packs)
    runs = [(one, max(seen.runs[run_id(one)].cycles_done, given.get(run_id(one), 0))) for pack in packs for one in pack]
    took = typical(outputs, {one.dataset for one, _ in runs})
    left = estimate(took, [(length_of(one.model_dump()), done, device) for one, done in runs])
    if left.unmeasured.get(device) == len(runs):
        return f"estimate: no run like these was measured on a {device} yet in {outputs}; try --limit 1 first"
    doubts = left.doubts()
    return (
        f"estimate: {left.seconds / 3600 * share:.2g} {unit} for {left.cycles} cycles, by what such runs took so "
        f"far{'; ' if doubts else ''}{doubts}"
    )
