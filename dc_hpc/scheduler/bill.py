"""The bill, before anything is submitted: runs by state, tasks, and the hours that they may take."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from dc_hpc.experiment.config import RunConfig
from dc_hpc.experiment.grid import Grid, Resources
from dc_hpc.scheduler.overview import Overview, measure
from dc_hpc.scheduler.site import Site


def runs_bill(grids: Sequence[Grid], seen: Overview, missing: Sequence[str], outputs: Path) -> str:
    """The runs of the grids by state, why the failed ones failed, and how many will be submitted."""
    lines = []
    for one in grids:
        shared = f", {len(one.runs)} runs" if len(one.runs) < len(one.points) else ""
        lines.append(f"{one.path}: {len(one.points)} points{shared}")
    lines.append(", ".join(f"{count} {name}" for name, count in seen.counts().items()) + f" in {outputs}")
    lines += [f"  failed: {run.name}: {run.reason} (traceback in its attempts folder)"
              for run in seen.runs.values() if run.state == "failed"]  # fmt: skip
    return "\n".join([*lines, f"to submit: {len(missing)}"])


def tasks(missing: Sequence[str], resources: Resources) -> int:
    """The number of tasks that these runs are packed into."""
    return math.ceil(len(missing) / resources.runs_per_task)


def cluster_bill(missing: Sequence[str], configs: dict[str, RunConfig], seen: Overview, *, resources: Resources,
                 site: Site, outputs: Path) -> str:
    """What a cluster may charge: at most, by the time limits; likely, by what cycles took so far."""
    count = tasks(missing, resources)
    unit, each = ("GPU-hours", site.gpus) if site.gpus else ("core-hours", site.cores(resources.parallel_runs))
    most = count * resources.minutes / 60 * each
    line = (f"tasks: {count} of {resources.runs_per_task} runs, {resources.parallel_runs} at a time, at most "
            f"{resources.minutes} minutes each: at most {most:.1f} {unit}")  # fmt: skip
    return f"{line}\n{_estimate(missing, configs, seen, outputs, each / resources.parallel_runs, unit)}"


def _estimate(missing: Sequence[str], configs: dict[str, RunConfig], seen: Overview, outputs: Path, share: float,
              unit: str) -> str:
    """share: cores or GPUs that one run has for itself."""
    seconds = measure(outputs, seen).cycle_seconds
    if seconds is None:
        return "estimate: no run of this grid was measured yet; try --limit 1 first"
    left = sum(max(configs[name].cycles, 1) - seen.runs[name].cycles_done for name in missing)
    return (f"estimate: {left} cycles of {seconds:.2g} s (median so far): {left * seconds / 3600 * share:.2g} {unit}, "
            "without loading and probes")
