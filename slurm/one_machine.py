"""Start a real SLURM on one machine for trials and tests: one controller, nodes n1 and n2, no systemd.

    python slurm/one_machine.py up          # then: export SLURM_CONF=<state>/slurm.conf
    python slurm/one_machine.py down

It needs `apt-get install slurm-wlm munge`. As root it serves every user of the machine, else only you. It listens on
127.0.0.1. It uses only the standard library, so that it runs before anything is installed.

Partitions: jobs of `high` preempt the others. Jobs of `low` have a grace period of 10 s, those of `low0` have none, and
those of `lowc` are cancelled instead of requeued.

`--like NAME` makes the cluster like another kind of site (VARIANTS); it may be given several times:
    database  accounting with slurmdbd and MariaDB: sacct, sacctmgr, QOS (apt-get install slurmdbd mariadb-server)
    strict    with `database`: what exceeds a limit of a partition, QOS or account is refused when it is submitted
    plugin    a plugin of the site (job_submit/lua) refuses jobs of more than 20 minutes
    qos       with `database`: jobs of QOS `urgent` preempt those of the other QOS
    gang      preempted jobs are suspended, and go on later
    cgroup    each task has its memory limited by a cgroup
    overkill  the daemon of a node kills a task that uses more memory than it asked for
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
from collections.abc import Callable, Sequence
from pathlib import Path

from one_machine_config import NODES, PARTITIONS, PATH, VARIANTS, write_config

_DAEMONS = ("slurmctld", "slurmd", "slurmdbd", "mariadbd", "munged")
PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "squeue", "scontrol")
DATABASE_PROGRAMS = ("slurmdbd", "sacctmgr", "mariadbd", "mariadb-install-db", "mariadb")


def missing_programs(like: Sequence[str] = ()) -> list[str]:
    """The programs of SLURM, munge and what these variants need that this machine lacks."""
    needed = PROGRAMS + (DATABASE_PROGRAMS if "database" in like else ())
    return [name for name in needed if shutil.which(name, path=PATH) is None]


def up(
    state: Path, *, cpus: int = 2, max_array_size: int = 1001, user_signal: bool = False, like: Sequence[str] = ()
) -> None:
    """Start the cluster with its files under `state`, and return when it answers.

    cpus: of each node, which may be more than the machine has. max_array_size: array indices are smaller than this.
    user_signal: preemption sends the signal of --signal too. like: names of VARIANTS. RuntimeError, with the end of the
    controller's log, when the cluster does not start.
    """
    for folder in (state, state / "controller", state / "munge", *(state / f"spool-{node}" for node in NODES)):
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
    write_config(state, cpus=cpus, max_array_size=max_array_size, user_signal=user_signal, like=like)
    _start_munge(state)
    if "database" in like:
        _start_database(state)
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
    if not (state / "slurm.conf").exists():  # `up` writes it before it starts a daemon
        return
    if _idle_nodes(state) or _pid(state / "slurmctld.pid"):
        _run(state, ["scancel", "--full", "--state=PENDING"]), _run(state, ["scancel", "--full", "--state=RUNNING"])
        _run(state, ["scancel", "--state=SUSPENDED"])
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline and _run(state, ["squeue", "-h", "-o", "%i"]).stdout.strip():
            time.sleep(0.5)
    for name in (*(f"slurmd-{node}" for node in NODES), "slurmctld", "slurmdbd", "mariadbd", "munge/munged"):
        stop_daemon(state / f"{name}.pid")
    _remove_cgroups(state)


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


def can_limit_memory() -> bool:
    """Whether this machine lets a process limit the memory of others with cgroups of version 1."""
    probe = Path("/sys/fs/cgroup/memory/one_machine_probe")
    try:
        probe.mkdir()
        (probe / "memory.limit_in_bytes").write_text(str(1 << 30))
        probe.rmdir()
    except OSError:
        return False
    return True


def _remove_cgroups(state: Path) -> None:
    """Remove the cgroups that the daemons of the nodes have left."""
    if "ConstrainRAMSpace" not in (state / "cgroup.conf").read_text():
        return
    for folder in Path("/sys/fs/cgroup").glob("*/slurm_n[12]"):
        for inner in sorted(folder.rglob("*"), reverse=True):
            if inner.is_dir():
                inner.rmdir()
        folder.rmdir()


def _start_database(state: Path) -> None:
    """Start MariaDB, on 127.0.0.1 with a folder of its own, and slurmdbd."""
    data, user, port = state / "mysql", getpass.getuser(), _port(state, "mysql")
    if not data.exists():
        _daemon(
            state,
            [
                "mariadb-install-db",
                "--no-defaults",
                f"--datadir={data}",
                f"--user={user}",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
            ],
        )
    command = [
        "mariadbd",
        "--no-defaults",
        f"--datadir={data}",
        f"--user={user}",
        f"--socket={state}/mysql.socket",
        f"--pid-file={state}/mariadbd.pid",
        "--bind-address=127.0.0.1",
        f"--port={port}",
        "--skip-name-resolve",
        "--innodb-flush-log-at-trx-commit=0",
        "--innodb-lock-wait-timeout=900",
    ]
    # it stays in the foreground, so a shell leaves it behind
    _daemon(state, ["sh", "-c", 'setsid "$@" >>"$0" 2>&1 &', f"{state}/mariadbd.log", *command])
    _wait(lambda: _answers(port), f"MariaDB did not start; its log: {state}/mariadbd.log")
    client = ["mariadb", "--no-defaults", f"--socket={state}/mysql.socket", f"--user={user}", "-e"]
    _daemon(state, [*client, "GRANT ALL ON slurm.* TO 'slurm'@'127.0.0.1' IDENTIFIED BY 'one_machine'"])
    _daemon(state, ["slurmdbd"])
    _wait(lambda: _answers(_port(state, "dbd")), f"slurmdbd did not start; its log: {state}/slurmdbd.log")


def _port(state: Path, name: str) -> int:
    return int(re.search(rf"# port {name} (\d+)", (state / "slurm.conf").read_text())[1])


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _wait(condition: Callable[[], bool], problem: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(problem)
        time.sleep(0.2)


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
    environment = os.environ | {"SLURM_CONF": str(state / "slurm.conf"), "PATH": PATH}
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
        return pid if name in _DAEMONS else None
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
    parser.add_argument("--like", action="append", choices=VARIANTS, default=[], help="the kind of site")
    parser.add_argument("--user-signal", action="store_true", help="preemption sends the signal of --signal too")
    arguments = parser.parse_args()
    if missing := missing_programs(arguments.like):
        more = " slurmdbd mariadb-server" if "database" in arguments.like else ""
        sys.exit(f"{', '.join(missing)} not found; as root: apt-get install slurm-wlm munge{more}")
    state = arguments.state.resolve()
    if arguments.action == "down":
        down(state)
        return
    try:
        up(
            state,
            cpus=arguments.cpus,
            max_array_size=arguments.max_array_size,
            user_signal=arguments.user_signal,
            like=arguments.like,
        )
    except RuntimeError as error:
        sys.exit(str(error))
    print(f"SLURM is up: two nodes, CPUs of each: {arguments.cpus}, partitions {', '.join(PARTITIONS)}")
    print(f"export SLURM_CONF={state}/slurm.conf")


if __name__ == "__main__":
    main()
