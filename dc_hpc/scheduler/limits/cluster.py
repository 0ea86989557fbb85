"""The cluster as its controller describes it: settings, partitions and the kinds of nodes that they have."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dc_hpc.scheduler import slurm


@dataclass(frozen=True)
class NodeKind:
    """One kind of node of a partition. memory_mb: its memory in MiB. gpus: type -> number; the type may be ""."""

    cpus: int
    memory_mb: int
    gpus: Mapping[str, int] = field(default_factory=dict)

    def gpus_of(self, kind: str | None) -> int:
        """Its GPUs of a type, or all of them."""
        return sum(self.gpus.values()) if kind is None else self.gpus.get(kind, 0)


@dataclass(frozen=True)
class Partition:
    """One partition: the fields that `scontrol show partition` prints, and its kinds of nodes, empty if not known."""

    fields: Mapping[str, str]
    nodes: Sequence[NodeKind] = ()

    @property
    def name(self) -> str:
        """What the site profile calls it."""
        return self.fields.get("PartitionName", "")

    @property
    def minutes(self) -> float:
        """The longest time limit that it takes, in minutes; infinite where it has none."""
        return minutes_of(self.fields.get("MaxTime", ""))

    def number(self, name: str) -> float:
        """The value of a numeric field; infinite where it is no limit."""
        text = self.fields.get(name, "")
        return int(text) if re.fullmatch("[0-9]{1,18}", text) else math.inf

    def names(self, name: str) -> list[str] | None:
        """The names in a field such as AllowAccounts; None where it names all or is missing."""
        text = self.fields.get(name, "ALL")
        return None if text in ("ALL", "(null)", "") else text.split(",")


@dataclass(frozen=True)
class Cluster:
    """What a controller answered. settings: of `scontrol show config`. All are empty where it did not answer."""

    settings: Mapping[str, str] = field(default_factory=dict)
    partitions: Sequence[Partition] = ()

    @property
    def default(self) -> str | None:
        """The name of the partition of jobs that name none."""
        return next((one.name for one in self.partitions if one.fields.get("Default") == "YES"), None)

    @property
    def has_accounting(self) -> bool:
        """Whether it has a database of accounts and qualities of service."""
        return self.settings.get("AccountingStorageType", "").endswith("slurmdbd")

    def enforces(self, word: str) -> bool:
        """Whether AccountingStorageEnforce has this word: associations, limits, qos."""
        return word in self.settings.get("AccountingStorageEnforce", "").split(",")


def ask_cluster() -> Cluster:
    """Ask the controller; about three calls, none after one that was not answered."""
    settings = parse_settings(ask(["scontrol", "show", "config"]))
    if not settings:
        return Cluster()
    # -a: hidden partitions, too
    found = parse_partitions(ask(["scontrol", "-a", "show", "partition", "-o"]))
    nodes = parse_nodes(ask(["sinfo", "-a", "-h", "-e", "-o", "%R|%c|%m|%G"]))
    return Cluster(settings, tuple(Partition(one, nodes.get(one.get("PartitionName", ""), ())) for one in found))


def ask(command: list[str]) -> str:
    """What a command of SLURM prints; "" where it does not answer."""
    return slurm.ask(command) or ""


def parse_settings(text: str) -> dict[str, str]:
    """The lines `Name = value` of `scontrol show config`."""
    return dict(re.findall(r"^(\w+)[ \t]*= *(.*?)[ \t]*$", text, re.M))


def parse_partitions(text: str) -> list[dict[str, str]]:
    """The fields in the lines of `scontrol show partition -o`."""
    found = [dict(re.findall(r"(\w+)=(\S*)", line)) for line in text.splitlines()]
    return [one for one in found if "PartitionName" in one]


def parse_nodes(text: str) -> dict[str, list[NodeKind]]:
    """Partition -> its kinds of nodes, from the lines of sinfo; other lines are skipped."""
    found: dict[str, list[NodeKind]] = {}
    for line in text.splitlines():
        match = re.fullmatch(r"([^|]+)\|([0-9]{1,9})\+?\|([0-9]{1,12})\+?\|([^|]*)", line.strip())
        if match:
            kind = NodeKind(int(match[2]), int(match[3]), parse_gpus(match[4]))
            found.setdefault(match[1].rstrip("*"), []).append(kind)
    return found


def parse_gpus(text: str) -> dict[str, int]:
    """Type -> number of the GPUs in generic resources such as `gpu:a100:4(S:0-1),lscratch:100`."""
    found: dict[str, int] = {}
    for one in re.sub(r"\([^)]*\)", "", text).split(","):
        match = re.fullmatch(r"gpu(?::([^:]+?))??(?::([0-9]{1,6}))?", one.strip())
        if match:
            found[match[1] or ""] = found.get(match[1] or "", 0) + int(match[2] or 1)
    return found


def minutes_of(text: str) -> float:
    """A time of SLURM in minutes: `30`, `15:00`, `01:30:00`, `2-00:00:00` or UNLIMITED, which is infinite."""
    match = re.fullmatch(r"(?:([0-9]{1,6})-)?([0-9]{1,8})(?::([0-9]{1,2}))?(?::([0-9]{1,2}))?", text.strip())
    if not match:
        return math.inf
    days, first, second, third = (int(one) if one else 0 for one in match.groups())
    if match[1] or match[4]:  # days-hours:minutes:seconds, hours:minutes:seconds
        return days * 1440 + first * 60 + second + third / 60
    return first + second / 60  # minutes:seconds
