"""Whether the accounting of a cluster takes the tasks of a grid: the limits of the account and of the QOS.

`sacctmgr` answers these questions where a site has an accounting database and lets its users ask it.
"""

from __future__ import annotations

import math
import os
import pwd
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from dc_hpc.config.yaml_reader import did_you_mean
from dc_hpc.errors import InputError
from dc_hpc.scheduler.limits.cluster import Cluster, Partition, ask, minutes_of
from dc_hpc.scheduler.limits.partitions import Wanted

_QOS = ("Name", "Flags", "MaxWall", "MaxSubmitJobsPerUser", "GrpSubmitJobs", "MaxTRES", "MaxTRESPerUser", "MinTRES")
_ASSOCIATION = ("Account", "Partition", "QOS", "DefaultQOS", "MaxWall", "MaxSubmitJobs", "MaxTRES")
# Flags of a QOS by which its limit of time replaces that of the partition.
_ANY_TIME = ("PartitionTimeLimit", "OverPartQOS")
_MIB = {"K": 1 / 1024, "M": 1, "G": 1024, "T": 1024**2, "P": 1024**3}
_NAMES = {"cpu": "CPU cores", "mem": "MiB of memory", "gres/gpu": "GPUs", "node": "nodes"}

Record = Mapping[str, str]


@dataclass(frozen=True)
class Accounting:
    """What the database says about this user's jobs.

    limits: what to call each record that limits the jobs, and the record: of their QOS, of the QOS of their partition,
    of their account. flags: of their QOS; None where it is not known.
    """

    limits: Sequence[tuple[str, Record]] = ()
    flags: Sequence[str] | None = None

    @property
    def may_replace_time_limit(self) -> bool:
        """Whether the QOS allows more time than the partition."""
        return any(flag in (self.flags or ()) for flag in _ANY_TIME)


def ask_accounting(
    cluster: Cluster, account: str | None, qos: str | None, partition: Partition | None = None
) -> Accounting:
    """What the database says. InputError: the account or the QOS is not one of this user's.

    account, qos: as in the site profile, None for the defaults of the user. partition: of the jobs, if it is known.
    """
    user, name = _user(), cluster.settings.get("ClusterName", "")
    if not user or not cluster.has_accounting:
        return Accounting()
    mine = _records(["assoc", "where", f"user={user}", f"cluster={name}"], _ASSOCIATION)
    if not mine:
        return Accounting()
    if account and cluster.enforces("associations") and account not in (known := {one["Account"] for one in mine}):
        raise InputError(
            f"account {account} is not one of yours on this cluster{did_you_mean(account, known)}; yours: "
            f"{', '.join(sorted(known))}"
        )
    default = ask(["sacctmgr", "-nP", "show", "user", user, "format=DefaultAccount"]).strip()
    chosen = account or default
    association = next((one for one in mine if one["Account"] == chosen and not one["Partition"]), None)
    if association is None:
        return Accounting()
    allowed = [one for one in association["QOS"].split(",") if one]
    if qos and allowed and cluster.enforces("qos") and qos not in allowed:
        raise InputError(
            f"qos {qos} is not allowed for account {chosen}{did_you_mean(qos, allowed)}; allowed: {', '.join(allowed)}"
        )
    named = qos or association["DefaultQOS"] or ("normal" if "normal" in allowed else "")
    of_jobs, of_partition = _qos(named), _qos(partition.fields.get("QoS", "") if partition else "")
    flags = of_jobs.get("Flags", "").split(",") if of_jobs else None
    if "OverPartQOS" not in (flags or ()):  # a limit of the partition's QOS replaces that of the jobs
        of_jobs = {field: "" if of_partition.get(field) and field != "Name" else of_jobs[field] for field in of_jobs}
    limits = (
        (f"qos {named}", of_jobs),
        (f"the qos of partition {partition.name if partition else ''}", of_partition),
        (f"account {chosen}", association),
    )
    return Accounting(tuple((label, record) for label, record in limits if record), flags)


def _qos(name: str) -> dict[str, str]:
    """The record of a quality of service; an empty one where it is not known."""
    found = _records(["qos", name], _QOS) if name not in ("", "N/A") else []
    return next((one for one in found if one["Name"] == name), {})


def check_accounting(
    cluster: Cluster, found: Accounting, wanted: Sequence[Wanted], follower: Wanted | None = None
) -> None:
    """InputError when a limit that the cluster enforces never lets these tasks run, or not so many at once.

    follower: the aggregator behind them. It asks for no more than they do, so that it can only ask for too little.
    """
    if not cluster.enforces("limits"):
        return
    for one in wanted:
        for problem in _problems_of_task(found, one):
            raise InputError(problem)
    for least, _ in _too_little(found, follower) if follower else ():
        raise InputError(f"{least} and would refuse the aggregator, which asks for no GPU; give --no-aggregate")
    _check_count(found, [*wanted, follower] if follower else wanted)


def longest_minutes(cluster: Cluster, found: Accounting) -> float:
    """The longest time limit that QOS and account allow; infinite where they limit none."""
    if not cluster.enforces("limits"):
        return math.inf
    return min((minutes_of(record["MaxWall"]) for _, record in found.limits), default=math.inf)


def _problems_of_task(found: Accounting, wanted: Wanted) -> Iterator[str]:
    """What one task asks for and never gets."""
    for named, record in found.limits:
        minutes = minutes_of(record["MaxWall"])
        if wanted.minutes > minutes:
            yield (
                f"{named} allows at most {minutes:.0f} minutes (MaxWall) and a task of {wanted.grid} has a limit of "
                f"{wanted.minutes}; write resources: {{minutes: {minutes:.0f}}} into the grid, or another qos into the "
                "site profile"
            )
        asked = _asked(wanted)
        for limit in ("MaxTRES", "MaxTRESPerUser"):
            for resource, most in resources_of(record.get(limit, "")).items():
                if asked.get(resource, 0) > most:
                    yield (
                        f"{named} allows at most {most:.0f} {_NAMES.get(resource, resource)} ({limit}) and a task asks "
                        f"for {asked[resource]}; correct the site profile"
                    )
    for least, number in _too_little(found, wanted):
        yield f"{least} and a task asks for {number}; correct the site profile, or write another qos into it"


def _too_little(found: Accounting, wanted: Wanted) -> Iterator[tuple[str, int]]:
    """(the limit in words, what the task asks for) of each resource of which a limit wants more."""
    asked = _asked(wanted)
    for named, record in found.limits:
        for resource, least in resources_of(record.get("MinTRES", "")).items():
            if resource in asked and asked[resource] < least and (resource != "mem" or wanted.memory_gb):
                yield f"{named} wants at least {least:.0f} {_NAMES.get(resource, resource)} (MinTRES)", asked[resource]


def _asked(wanted: Wanted) -> dict[str, int]:
    """Resource, as limits name it -> what one task asks for."""
    asked = {"cpu": wanted.cpus, "mem": (wanted.memory_gb or 0) * 1024, "gres/gpu": wanted.gpus, "node": 1}
    return asked | ({f"gres/gpu:{wanted.gpu_type}": wanted.gpus} if wanted.gpu_type else {})


def _check_count(found: Accounting, wanted: Sequence[Wanted]) -> None:
    """InputError when there are more tasks than this user may have in the queue."""
    count = sum(one.tasks for one in wanted)
    for named, record in found.limits:
        for limit in ("MaxSubmitJobsPerUser", "MaxSubmitJobs", "GrpSubmitJobs"):
            if not record.get(limit, "").isdigit():
                continue
            most, flag = int(record[limit]), "-q" if "Name" in record else "-A"
            there = _queued(flag, record.get("Name") or record["Account"])
            if there + count > most:
                raise InputError(
                    f"{named} takes at most {most} tasks of yours at a time ({limit}), {there} are in the queue and "
                    f"{count} would come; give --limit N, or more runs_per_task under resources of the grid, and the "
                    "rest later"
                )


def _queued(flag: str, name: str) -> int:
    """How many tasks of this user in a QOS or an account wait or run."""
    answer = ask(["squeue", "-u", str(os.getuid()), "-r", "-h", flag, name, "-o", "%i"])
    return len(answer.split())


def resources_of(text: str) -> dict[str, float]:
    """Resource -> number in a limit such as `cpu=4,mem=2G,gres/gpu=1`; memory in MiB."""
    found = {}
    for name, number, unit in re.findall(r"([\w/:.-]+)=([0-9]{1,18})([KMGTP]?)", text):
        found[name] = int(number) * (_MIB[unit or "M"] if name == "mem" else 1.0)
    return found


def _records(entity: Sequence[str], fields: Sequence[str]) -> list[dict[str, str]]:
    answer = ask(["sacctmgr", "-nP", "show", *entity, f"format={','.join(fields)}"])
    lines = [line.split("|") for line in answer.splitlines()]
    return [dict(zip(fields, line)) for line in lines if len(line) == len(fields)]


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container may not know its user
        return ""
