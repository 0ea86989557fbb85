"""Whether a partition takes the tasks of a grid: its time limit, the accounts that it allows, the nodes that it has."""

from __future__ import annotations

import grp
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from dc_hpc.config.yaml_reader import did_you_mean
from dc_hpc.errors import InputError
from dc_hpc.scheduler.limits.cluster import Cluster, NodeKind, Partition

_CLOSED = ("DRAIN", "INACTIVE")  # SLURM queues jobs of a partition that is DOWN, and none of one in these states


@dataclass(frozen=True)
class Wanted:
    """What one task asks for.

    grid: whose task it is. minutes: its time limit. cpus: cores. memory_gb: in GiB, None for what the cluster gives by
    itself. gpus, gpu_type: as in the site profile. tasks: how many such tasks there are. account, qos: of the jobs.
    """

    grid: str
    minutes: int
    cpus: int
    memory_gb: int | None = None
    gpus: int = 0
    gpu_type: str | None = None
    tasks: int = 1
    account: str | None = None
    qos: str | None = None


def check_partition(cluster: Cluster, named: str | None, wanted: Wanted, *, any_time: bool = False) -> None:
    """InputError when no partition of a profile can ever run these tasks, with what would fit.

    named: as in the site profile: a partition, several with commas between them, or None for the cluster's default.
    any_time: their time limits do not count, because a quality of service may replace them.
    """
    known = {one.name: one for one in cluster.partitions}
    names = (named or cluster.default or "").split(",")
    for name in names if named and known else ():
        if name not in known:
            raise InputError(
                f"partition {name} is not on this cluster{did_you_mean(name, known)}; its partitions: "
                f"{', '.join(known)}"
            )
    chosen = [known[name] for name in names if name in known]
    problems = [next(problems_of(one, wanted, any_time=any_time), "") for one in chosen]
    # a job may wait in several partitions; where a site is strict, it must fit each of them
    strict = cluster.settings.get("EnforcePartLimits") == "ALL"
    refused = problems and (any(problems) if strict else all(problems))
    if not refused:
        return
    others = [one.name for one in cluster.partitions if one not in chosen and not any(problems_of(one, wanted))]
    hint = f"; partitions that take these tasks: {', '.join(others)}" if others else ""
    raise InputError(f"{next(filter(None, problems))}{hint}")


def problems_of(partition: Partition, wanted: Wanted, *, any_time: bool = False) -> Iterator[str]:
    """Why a partition can never run such tasks: one line for each reason."""
    name, state = f"partition {partition.name}", partition.fields.get("State", "UP")
    if state in _CLOSED:
        yield f"{name} takes no jobs now (its state is {state}); name another partition in the site profile"
    if wanted.minutes > partition.minutes and not any_time:
        yield (
            f"{name} takes at most {partition.minutes:.0f} minutes and a task of {wanted.grid} has a limit of "
            f"{wanted.minutes}; write resources: {{minutes: {partition.minutes:.0f}}} into the grid (runs save, and "
            "their task is queued again)"
        )
    if partition.number("MaxNodes") < 1 or 1 < partition.number("MinNodes") < math.inf:
        nodes = partition.fields.get("MinNodes" if partition.number("MaxNodes") >= 1 else "MaxNodes")
        yield f"{name} does not take jobs of one node (its limit is {nodes}); name another one in the site profile"
    yield from _problems_of_groups(partition)
    yield from _problems_of_names(partition, wanted)
    yield from _problems_of_nodes(partition, wanted)


def _problems_of_names(partition: Partition, wanted: Wanted) -> Iterator[str]:
    for key, value, field in (("account", wanted.account, "Accounts"), ("qos", wanted.qos, "Qos")):
        allowed, denied = partition.names(f"Allow{field}"), partition.names(f"Deny{field}")
        if value is None:
            continue
        if allowed is not None and value not in allowed:
            yield f"partition {partition.name} does not take {key} {value}; allowed: {', '.join(allowed)}"
        if allowed is None and denied is not None and value in denied:
            yield f"partition {partition.name} does not take {key} {value}; name another {key} in the site profile"


def _problems_of_groups(partition: Partition) -> Iterator[str]:
    allowed = partition.names("AllowGroups")
    if allowed is None or os.getuid() == 0:
        return
    try:
        mine = {grp.getgrgid(number).gr_name for number in (os.getgid(), *os.getgroups())}
    except KeyError:  # a group without a name here may be one of them
        return
    if not mine & set(allowed):
        yield f"partition {partition.name} is for the groups {', '.join(allowed)} only; name another one"


def _problems_of_nodes(partition: Partition, wanted: Wanted) -> Iterator[str]:
    """What no node of the partition has. Where the nodes are not known, only the limits of the partition count."""
    nodes, most_cpus = partition.nodes, partition.number("MaxCPUsPerNode")
    most_memory = partition.number("MaxMemPerNode")
    kind = f"{wanted.gpu_type} GPUs" if wanted.gpu_type else "GPUs"
    gpus = _most(nodes, lambda one: one.gpus_of(wanted.gpu_type))
    cpus = min(most_cpus, _most(nodes, lambda one: one.cpus))
    memory = min(most_memory, _most(nodes, lambda one: one.memory_mb)) / 1024
    if wanted.gpus > gpus:
        types = sorted({name for one in nodes for name in one.gpus if name})
        yield (
            f"partition {partition.name} has no node with {wanted.gpus} {kind}, at most {gpus:.0f}"
            f"{_types(types)}; correct gpus or gpu_type in the site profile, or name another partition"
        )
    if wanted.cpus > cpus:
        yield (
            f"partition {partition.name} has no node that gives a task {wanted.cpus} CPU cores, at most {cpus:.0f}; "
            "lower cpus in the site profile, or parallel_runs under resources of the grid"
        )
    if (wanted.memory_gb or 0) > memory:
        yield (
            f"partition {partition.name} has no node that gives a task {wanted.memory_gb} GiB, at most {memory:.1f}; "
            f"lower memory_gb in the site profile to {max(1, math.floor(memory))}"
        )
    if nodes and not any(_fits(one, wanted) for one in nodes) and wanted.gpus <= gpus and wanted.cpus <= cpus:
        if (wanted.memory_gb or 0) <= memory:
            amount = f"{wanted.memory_gb} GiB and " if wanted.memory_gb else ""
            yield (
                f"partition {partition.name} has no node with {wanted.cpus} CPU cores, {amount}{wanted.gpus} {kind} "
                "together; lower one of them in the site profile"
            )


def _fits(node: NodeKind, wanted: Wanted) -> bool:
    return (
        node.cpus >= wanted.cpus
        and node.memory_mb >= (wanted.memory_gb or 0) * 1024
        and node.gpus_of(wanted.gpu_type) >= wanted.gpus
    )


def _most(nodes: Sequence[NodeKind], of: Callable[[NodeKind], int]) -> float:
    """The largest value among the kinds of nodes; infinite where they are not known."""
    return max(map(of, nodes), default=math.inf)


def _types(types: Sequence[str]) -> str:
    return f" (its types: {', '.join(types)})" if types else ""
