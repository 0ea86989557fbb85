"""The configuration of the cluster of one_machine.py, and the kinds of site that it can be like."""

from __future__ import annotations

import getpass
import os
import re
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

NODES = ("n1", "n2")
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"  # of the daemons
CONFIG = """ClusterName=one_machine
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[controller]}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={state}/munge/socket,cred_expire=5
SlurmUser={user}
SlurmdUser={user}
SlurmctldPidFile={state}/slurmctld.pid
SlurmctldLogFile={state}/slurmctld.log
SlurmdPidFile={state}/slurmd-%n.pid
SlurmdLogFile={state}/slurmd-%n.log
SlurmdSpoolDir={state}/spool-%n
StateSaveLocation={state}/controller
SwitchType=switch/none
MpiDefault=none
MailProg=/bin/true
ReturnToService=2
SlurmdTimeout=30
KillWait=5
MinJobAge=300
MaxArraySize={max_array_size}
MaxJobCount=20000
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=2,sched_interval=2,sched_min_interval=0
SelectType=select/cons_tres
JobRequeue=1
GresTypes=gpu,scratch
"""
NODE = (
    "NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={cpus} RealMemory=4000 "
    "Gres=gpu:fake:2,scratch:100 Feature=any,only_{node}"
)
DATABASE_CONFIG = """AuthType=auth/munge
AuthInfo=socket={state}/munge/socket
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
DbdHost={host}
DbdAddr=127.0.0.1
DbdPort={ports[dbd]}
SlurmUser={user}
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={ports[mysql]}
StorageUser=slurm
StoragePass=one_machine
StorageLoc=slurm
PidFile={state}/slurmdbd.pid
LogFile={state}/slurmdbd.log
"""
LIMITING_CGROUPS = """CgroupPlugin=cgroup/v1
CgroupMountpoint=/sys/fs/cgroup
CgroupAutomount=no
ConstrainRAMSpace=yes
"""
# The rule of a site that no limit of SLURM expresses, as plugins of sites have.
PLUGIN = """function slurm_job_submit(job, partitions, user)
  if job.time_limit == slurm.NO_VAL or job.time_limit > 20 then
    slurm.log_user("jobs of this site have a time limit of at most 20 minutes")
    return slurm.ERROR
  end
  return slurm.SUCCESS
end

function slurm_job_modify(job, record, partitions, user)
  return slurm.SUCCESS
end
"""
# Settings of slurm.conf that differ between the kinds of site. Each variant changes those that it names.
SETTINGS = {
    "ProctrackType": "proctrack/linuxproc",
    "TaskPlugin": "task/none",
    "SelectTypeParameters": "CR_Core",
    "AccountingStorageType": "accounting_storage/none",
    "JobAcctGatherType": "jobacct_gather/none",
    "PreemptType": "preempt/partition_prio",
    "PreemptMode": "REQUEUE",
}
VARIANTS = {
    "database": {
        "AccountingStorageType": "accounting_storage/slurmdbd",
        "AccountingStorageHost": "127.0.0.1",
        "AccountingStorageTRES": "gres/gpu",
        "JobAcctGatherType": "jobacct_gather/linux",
    },
    "strict": {"EnforcePartLimits": "ALL", "AccountingStorageEnforce": "limits,qos"},
    "plugin": {"JobSubmitPlugins": "lua"},
    "qos": {"PreemptType": "preempt/qos", "PreemptMode": "REQUEUE"},
    "gang": {"PreemptMode": "SUSPEND,GANG", "SchedulerTimeSlice": "5"},
    "cgroup": {
        "ProctrackType": "proctrack/cgroup",
        "TaskPlugin": "task/cgroup",
        "SelectTypeParameters": "CR_Core_Memory",
        "JobAcctGatherType": "jobacct_gather/linux",
        "DefMemPerNode": "1000",
    },
    "overkill": {
        "SelectTypeParameters": "CR_Core_Memory",
        "JobAcctGatherType": "jobacct_gather/linux",
        "JobAcctGatherParams": "OverMemoryKill",
        "JobAcctGatherFrequency": "task=1",
        "DefMemPerNode": "1000",
    },
}
PARTITIONS = {
    "low": "Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime=10 MaxTime=INFINITE",
    "low0": "PriorityTier=1 PreemptMode=REQUEUE GraceTime=0 MaxTime=INFINITE",
    "lowc": "PriorityTier=1 PreemptMode=CANCEL GraceTime=0 MaxTime=INFINITE",
    "short": "PriorityTier=1 PreemptMode=REQUEUE GraceTime=0 MaxTime=15",
    "high": "PriorityTier=10 PreemptMode=OFF MaxTime=INFINITE",
}
# How the jobs of a variant are preempted, where its partitions differ.
_PREEMPTED = {"gang": "SUSPEND", "qos": "REQUEUE"}


def write_config(
    state: Path, *, cpus: int = 2, max_array_size: int = 1001, user_signal: bool = False, like: Sequence[str] = ()
) -> None:
    """Write slurm.conf and the files beside it; keeps the ports of an earlier slurm.conf. Arguments as in `up`."""
    path, host, user = state / "slurm.conf", socket.gethostname().split(".")[0], getpass.getuser()
    before = dict(re.findall(r"# port (\w+) (\d+)", path.read_text())) if path.exists() else {}
    names = ("controller", "dbd", "mysql", *NODES)
    ports = before or dict(zip(names, map(str, free_ports(len(names)))))
    settings = dict(SETTINGS)
    for name in like:
        settings |= VARIANTS[name]
    if user_signal:
        settings["SlurmctldParameters"] = "preempt_send_user_signal"
    if "database" in like:
        settings["AccountingStoragePort"] = ports["dbd"]
        settings["AccountingStoragePass"] = f"{state}/munge/socket"
    modes = next((_PREEMPTED[name] for name in like if name in _PREEMPTED), None)
    values = {"host": host, "user": user, "state": state, "max_array_size": max_array_size, "ports": ports}
    lines = [
        CONFIG.format(**values),
        *(f"{name}={value}" for name, value in settings.items()),
        *(NODE.format(node=node, host=host, port=ports[node], cpus=cpus) for node in NODES),
        *(f"PartitionName={name} Nodes=n1,n2 {_mode(text, modes)}" for name, text in PARTITIONS.items()),
        *(f"# port {name} {port}" for name, port in ports.items()),
    ]
    path.write_text("\n".join(lines) + "\n")
    devices = [state / f"gpu{number}" for number in range(2)]
    for device in devices:
        device.touch()
    (state / "gres.conf").write_text(f"Name=gpu Type=fake File={state}/gpu[0-1]\nName=scratch Count=100\n")
    (state / "cgroup.conf").write_text(LIMITING_CGROUPS if "cgroup" in like else _cgroup_config(state))
    for file in (path, state / "gres.conf", state / "cgroup.conf"):
        file.chmod(0o644)
    if "plugin" in like:
        (state / "job_submit.lua").write_text(PLUGIN)
    if "database" in like:
        database = state / "slurmdbd.conf"
        database.write_text(DATABASE_CONFIG.format(**values))
        database.chmod(0o600)


def _mode(partition: str, mode: str | None) -> str:
    """The settings of a partition, whose jobs are preempted in this way where it is given."""
    if mode is None or "PreemptMode=OFF" in partition:
        return partition
    return re.sub(r"PreemptMode=\w+", f"PreemptMode={mode}", partition) + " OverSubscribe=FORCE:1"


def free_ports(count: int) -> list[int]:
    """Port numbers of 127.0.0.1 that are free at this moment."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _cgroup_config(state: Path) -> str:
    """Do without cgroups, which a container lacks. SLURM 22.05 has no option for that; it gets an empty mount point."""
    version = subprocess.run(
        ["slurmctld", "-V"], env={"PATH": PATH}, capture_output=True, text=True, check=False
    ).stdout
    year = int((re.search(r"(\d+)\.", version) or ["", "22"])[1])
    if year >= 24:
        return "CgroupPlugin=disabled\n"
    (state / "cgroup").mkdir(exist_ok=True)
    return f"CgroupPlugin=cgroup/v1\nCgroupMountpoint={state}/cgroup\nCgroupAutomount=no\n"
