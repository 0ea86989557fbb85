"""Checks of a submission before anything is written: whether the cluster of a site profile can run the tasks at all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from dc_hpc.config.grid import Resources
from dc_hpc.errors import InputError
from dc_hpc.scheduler.limits.accounting import Accounting, ask_accounting, check_accounting, longest_minutes
from dc_hpc.scheduler.limits.cluster import Cluster, Partition, ask_cluster
from dc_hpc.scheduler.limits.partitions import Wanted, check_partition, problems_of
from dc_hpc.scheduler.site import Site


@dataclass(frozen=True)
class _Answers:
    """What a cluster said about the jobs of a site profile."""

    cluster: Cluster
    accounting: Accounting


def check_limits(
    site: Site,
    grids: Sequence[tuple[str, Resources, int]],
    *,
    device: str = "auto",
    threads: int = 1,
    aggregate: bool = False,
) -> None:
    """InputError, one line, about the first limit of the cluster that these tasks never meet.

    grids: (name, resources, number of runs) of each. device: on which runs compute. threads: of one run. aggregate:
    whether an aggregator follows them. What the cluster does not say is not checked.
    """
    if device == "cuda" and not site.gpus:
        raise InputError("--device cuda needs a GPU and the site profile requests none; write gpus: 1 into it")
    for name, resources, runs in grids:
        at_once = resources.parallel_runs
        needed, cores = threads * at_once, site.cores(at_once)
        if runs and needed > cores:
            raise InputError(
                f"--threads {threads} with {at_once} runs of {name} at a time needs {needed} CPU cores and a task has "
                f"{cores}; write cpus: {needed} into the site profile, or give fewer threads"
            )
    wanted = [_wanted(site, *one) for one in grids if one[2]]
    if not wanted:
        return
    answers = _ask(site)
    for one in wanted:
        check_partition(answers.cluster, site.partition, one, any_time=_may_replace_time_limit(answers, site))
    _check_number_of_jobs(answers.cluster, wanted)
    follower = replace(wanted[0], minutes=1, gpus=0, tasks=1, memory_gb=None) if aggregate else None
    check_accounting(answers.cluster, answers.accounting, wanted, follower)


def minutes_for(site: Site, minutes: int) -> int:
    """A time limit that the partition and the QOS of a profile take: this one, or a shorter one if it is too long."""
    answers = _ask(site)
    named = (site.partition or answers.cluster.default or "").split(",")
    of_partitions = [one.minutes for one in answers.cluster.partitions if one.name in named]
    most = min(min(of_partitions, default=math.inf), longest_minutes(answers.cluster, answers.accounting))
    return max(1, min(minutes, int(most))) if most < math.inf else minutes


def choose_partition(cluster: Cluster) -> tuple[Partition | None, bool]:
    """The partition for a draft of a site profile, and whether it can run a grid with the default resources.

    It is the default partition where that can, else another that can, else the one with the longest time limit.
    """
    site = Site()
    wanted = _wanted(site, "a grid", Resources(), 1)
    by_default = sorted(cluster.partitions, key=lambda one: one.name != cluster.default)
    can = [one for one in by_default if not any(problems_of(one, wanted))]
    # a partition for some people only is no good guess
    usable = [one for one in can if one.names("AllowGroups") is None and one.names("AllowAccounts") is None] or can
    is_open = [one for one in by_default if one.fields.get("State", "UP") == "UP"]
    return (usable[0], True) if usable else (max(is_open, key=lambda one: one.minutes, default=None), False)


def _ask(site: Site) -> _Answers:
    """Ask the cluster; nothing where the profile sends its jobs to another cluster of a federation."""
    cluster = Cluster() if "clusters" in site.extra else ask_cluster()
    named = site.partition or cluster.default
    partition = next((one for one in cluster.partitions if one.name == named), None)
    return _Answers(cluster, ask_accounting(cluster, site.account, site.qos, partition))


def _wanted(site: Site, name: str, resources: Resources, runs: int) -> Wanted:
    return Wanted(
        name,
        minutes=resources.minutes,
        cpus=site.cores(resources.parallel_runs),
        memory_gb=site.memory_gb,
        gpus=site.gpus,
        gpu_type=site.gpu_type,
        tasks=math.ceil(runs / resources.runs_per_task),
        account=site.account,
        qos=site.qos,
    )


def _may_replace_time_limit(answers: _Answers, site: Site) -> bool:
    """Whether a QOS may allow more time than the partition: its flags say so, or they are not known."""
    not_known = answers.accounting.flags is None and answers.cluster.has_accounting
    return answers.accounting.may_replace_time_limit or (site.qos is not None and not_known)


def _check_number_of_jobs(cluster: Cluster, wanted: Sequence[Wanted]) -> None:
    most, count = cluster.settings.get("MaxJobCount", ""), sum(one.tasks for one in wanted)
    if most.isdigit() and count >= int(most):
        raise InputError(
            f"this cluster holds at most {most} jobs (MaxJobCount) and these are {count} tasks; give --limit N, or "
            "more runs_per_task under resources of the grid"
        )
