"""Start a real SLURM on one machine for trials and tests: one controller, nodes n1 and n2, no database, no systemd.

    python slurm/one_machine.py up          # then: export SLURM_CONF=<state>/slurm.conf
    python slurm/one_machine.py down

It needs `apt-get install slurm-wlm munge`. As root it serves every user of the machine, else only you. It listens on
127.0.0.1. It uses only the standard library, so that it runs before anything is installed.

Partitions: jobs of `high` preempt the others. Jobs of `low` have a grace period of 10 s, those of `low0` have none, and
those of `lowc` are cancelled instead of requeued.
"""

from __future__ import annotations

import argparse
import getpass
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NODES = ("n1", "n2")
PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "squeue", "scontrol")
_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"

CONFIG = """ClusterName=one_machine
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
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
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
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
{controller_parameters}
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
GresTypes=gpu
{nodes}
PartitionName=low Nodes=n1,n2 Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime=10 MaxTime=INFINITE
PartitionName=low0 Nodes=n1,n2 PriorityTier=1 PreemptMode=REQUEUE GraceTime=0 MaxTime=INFINITE
PartitionName=lowc Nodes=n1,n2 PriorityTier=1 PreemptMode=CANCEL GraceTime=0 MaxTime=INFINITE
PartitionName=high Nodes=n1,n2 PriorityTier=10 PreemptMode=OFF MaxTime=INFINITE
"""
NODE = "NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={cpus} RealMemory=4000 Gres=gpu:fake:2"


def missing_programs() -> list[str]:
    """The programs of SLURM and munge that this machine lacks."""
    return [name for name in PROGRAMS if shutil.which(name, path=_PATH) is None]


def up(state: Path, *, cpus: int = 2, max_array_size: int = 1001, user_signal: bool = False) -> None:
    """Start the cluster with its files under `state`, and return when it answers.

    cpus: of each node, which may be more than the machine has. max_array_size: array indices are smaller than this.
    user_signal: preemption sends the signal of --signal too. RuntimeError, with the end of the controller's log, when
    the cluster does not start.
    """
    for folder in (state, state / "controller", state / "munge", *(state / f"spool-{node}" for node in NODES)):
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
    write_config(state, cpus=cpus, max_array_size=max_array_size, user_signal=user_signal)
    _start_munge(state)
    _daemon(state, ["slurmctld"])
    for node in NODES:
        start_node(state, node)
    deadline = time.monotonic() + 60
    while _idle_nodes(state) < len(NODES):
        if time.monotonic() > deadline:
            log = state / "slurmctld.log"
            last = "".join(log.read_text().splitlines(True)[-15:]) if log.exists() else "it wrote no log"
            raise RuntimeError(f"SLURM did not start within a minute; the controller's log ends:\n{last}")
        time.sleep(0.3)


def down(state: Path) -> None:
    """Cancel what is queued, then stop the daemons that `up` started, by their pid files."""
    if _idle_nodes(state) or _pid(state / "slurmctld.pid"):
        _run(state, ["scancel", "--full", "--state=PENDING"]), _run(state, ["scancel", "--full", "--state=RUNNING"])
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline and _run(state, ["squeue", "-h", "-o", "%i"]).stdout.strip():
            time.sleep(0.5)
    for name in (*(f"slurmd-{node}" for node in NODES), "slurmctld", "munge/munged"):
        stop_daemon(state / f"{name}.pid")


def start_node(state: Path, node: str) -> None:
    """Start the slurmd of one node, in `up` or again after `stop_daemon`."""
    _daemon(state, ["slurmd", "-N", node])


def stop_daemon(pid_file: Path, number: int = signal.SIGTERM) -> None:
    """Signal the daemon of a pid file and wait for its end; does nothing when there is no such daemon."""
    pid = _pid(pid_file)
    if pid is None:
        return
    os.kill(pid, number)
    deadline = time.monotonic() + 15
    while _pid(pid_file) == pid and time.monotonic() < deadline:
        time.sleep(0.1)


def write_config(state: Path, *, cpus: int = 2, max_array_size: int = 1001, user_signal: bool = False) -> None:
    """Write slurm.conf, gres.conf and cgroup.conf; keeps the ports of an earlier slurm.conf."""
    path, host, user = state / "slurm.conf", socket.gethostname().split(".")[0], getpass.getuser()
    ports = re.findall(r"Port=(\d+)", path.read_text()) if path.exists() else free_ports(1 + len(NODES))
    nodes = "\n".join(NODE.format(node=node, host=host, port=port, cpus=cpus) for node, port in zip(NODES, ports[1:]))
    parameters = "SlurmctldParameters=preempt_send_user_signal" if user_signal else ""
    path.write_text(
        CONFIG.format(
            host=host,
            controller_port=ports[0],
            state=state,
            user=user,
            nodes=nodes,
            max_array_size=max_array_size,
            controller_parameters=parameters,
        )
    )
    devices = [state / f"gpu{number}" for number in range(2)]
    for device in devices:
        device.touch()
    (state / "gres.conf").write_text(f"Name=gpu Type=fake File={state}/gpu[0-1]\n")
    (state / "cgroup.conf").write_text(_cgroup_config(state))
    for file in (path, state / "gres.conf", state / "cgroup.conf"):
        file.chmod(0o644)


def free_ports(count: int) -> list[int]:
    """Port numbers of 127.0.0.1 that are free at this moment."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _cgroup_config(state: Path) -> str:
    """Do without cgroups, which a container lacks. SLURM 22.05 has no option for that; it gets an empty mount point."""
    version = _run(state, ["slurmctld", "-V"]).stdout
    year = int((re.search(r"(\d+)\.", version) or ["", "22"])[1])
    if year >= 24:
        return "CgroupPlugin=disabled\n"
    (state / "cgroup").mkdir(exist_ok=True)
    return f"CgroupPlugin=cgroup/v1\nCgroupMountpoint={state}/cgroup\nCgroupAutomount=no\n"


def _start_munge(state: Path) -> None:
    folder = state / "munge"
    if _pid(folder / "munged.pid"):
        return
    key = folder / "key"
    if not key.exists():
        key.touch(0o600)
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
    command = [
        "munged",
        f"--key-file={key}",
        f"--socket={folder}/socket",
        f"--pid-file={folder}/munged.pid",
        f"--log-file={folder}/munged.log",
        f"--seed-file={folder}/seed",
    ]
    if os.getuid() == 0:
        owner = pwd.getpwnam("munge")
        for path in (folder, key):
            os.chown(path, owner.pw_uid, owner.pw_gid)
        command = ["runuser", "-u", "munge", "--", *command]
    _daemon(state, command)


def _daemon(state: Path, command: list[str]) -> None:
    done = _run(state, command)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr.strip() or done.stdout.strip()}")


def _idle_nodes(state: Path) -> int:
    return _run(state, ["sinfo", "-h", "-N", "-p", "low", "-t", "idle,alloc,mix", "-o", "%N"]).stdout.count("n")


def _run(state: Path, command: list[str]) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"SLURM_CONF": str(state / "slurm.conf"), "PATH": _PATH}
    # A daemon would keep a pipe open for ever, so the output goes through files.
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=errors, timeout=60)
        out.seek(0), errors.seek(0)
        return subprocess.CompletedProcess(command, done.returncode, out.read(), errors.read())


def _pid(pid_file: Path) -> int | None:
    """The living process of a pid file, if it is a daemon of SLURM or munge."""
    try:
        pid = int(pid_file.read_text())
        name = Path(f"/proc/{pid}/comm").read_text().strip()
        return pid if name in ("slurmctld", "slurmd", "munged") else None
    except (FileNotFoundError, ValueError, ProcessLookupError):
        return None


def main() -> None:
    """Start or stop the cluster from a shell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=("up", "down"))
    parser.add_argument("--state", type=Path, default=Path(tempfile.gettempdir()) / f"dc-hpc-slurm-{getpass.getuser()}")
    parser.add_argument(
        "--cpus",
        type=int,
        default=max(1, (os.cpu_count() or 2) // len(NODES)),
        help="CPUs of each node; default: this machine's, shared between them",
    )
    parser.add_argument("--max-array-size", type=int, default=1001)
    parser.add_argument("--user-signal", action="store_true", help="preemption sends the signal of --signal too")
    arguments = parser.parse_args()
    if missing_programs():
        sys.exit(f"{', '.join(missing_programs())} not found; as root: apt-get install slurm-wlm munge")
    state = arguments.state.resolve()
    if arguments.action == "down":
        down(state)
        return
    try:
        up(state, cpus=arguments.cpus, max_array_size=arguments.max_array_size, user_signal=arguments.user_signal)
    except RuntimeError as error:
        sys.exit(str(error))
    print(f"SLURM is up: two nodes, CPUs of each: {arguments.cpus}, partitions low, low0, lowc, high")
    print(f"export SLURM_CONF={state}/slurm.conf")


if __name__ == "__main__":
    main()
