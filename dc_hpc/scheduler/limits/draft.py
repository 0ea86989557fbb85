"""The draft of a site profile that `submit --probe-site` makes from the answers of a cluster."""

from __future__ import annotations

from dc_hpc.config.grid import Resources
from dc_hpc.scheduler import slurm
from dc_hpc.scheduler.limits.before_sending import choose_partition
from dc_hpc.scheduler.limits.cluster import Cluster


def draft(cluster: Cluster, gpus: str, max_array_size: int) -> str:
    """The text of the draft. gpus: as sinfo names them. max_array_size: tasks that one array may have.

    Its partition is one that can run a grid with the default resources, where there is one.
    """
    chosen, can = choose_partition(cluster)
    minutes = Resources().minutes
    lines = [
        "# Drafted by `submit --probe-site` from the answers of this cluster. Check it, then use it with --site.",
        f"# Arrays have at most {max_array_size} tasks here: a longer grid is submitted as several arrays.",
    ]
    for one in cluster.partitions:
        if one.fields.get("State", "UP") == "UP":
            field = one.fields.get
            lines.append(
                f"# partition {one.name}: MaxTime {field('MaxTime')}, {field('TotalNodes')} nodes, "
                f"PreemptMode {field('PreemptMode')}, GraceTime {field('GraceTime')}"
            )
    if chosen and not can:
        longest = f"{chosen.minutes:.0f} minutes" if chosen.minutes < minutes else "less than that"
        lines.append(
            f"# No partition takes a task of {minutes} minutes with 2 CPU cores, the default of a grid. This one takes "
            f"{longest}: write a shorter time under `resources` of the grid."
        )
    lines += [
        f"partition: {chosen.name if chosen else 'main'}",
        "# account: my_account",
        "# qos: normal",
        f"# GPUs here: {gpus}" if gpus else "# this cluster names no GPU",
        "gpus: 0",
        "cpus: 2",
        "array_throttle: 50",
        "signal_delay: 90",
        "requeue: true",
    ]
    return "\n".join(lines) + "\n"


def ask_draft(cluster: Cluster) -> str:
    """The draft for a cluster that has answered."""
    return draft(cluster, slurm.gpus_of_nodes(), slurm.max_array_size())
