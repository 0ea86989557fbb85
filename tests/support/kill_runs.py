"""Starts real runs as processes and kills them at random moments."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from support.small_runs import results

from dc_hpc.storage import run_directory

ANY_TRACER = 0x59616D61, -1  # arguments of prctl: strace is not an ancestor of the process that it attaches to


@cache
def preloaded_server() -> ForkServerContext:
    """A server that forks processes in which preloaded.py is already imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["support.preloaded"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # the server does not inherit sys.path
        forkserver.ensure_running()
    return context


def start_at_once(directory: Path, root: Path) -> BaseProcess:
    """Start the run of a directory in its own process; it saves after every phase. The command line is left out."""
    process = preloaded_server().Process(target=_run, args=(directory, root))
    process.start()
    return process


def _run(directory: Path, root: Path) -> None:
    from dc_hpc.experiment.execution import Execution
    from dc_hpc.experiment.run import run

    os.umask(0o077)
    run(directory, Execution(str(root), save_seconds=0))


def run_with_failing_calls(directory: Path, root: Path, rule: str) -> tuple[int | None, str]:
    """The command of a run, with strace injecting a rule from its first call on; its exit code and its stderr."""
    stderr = root / f"{directory.name}.stderr"
    reader, writer = preloaded_server().Pipe(duplex=False)
    process = preloaded_server().Process(target=_run_command_after_signal, args=(directory, root, reader, stderr))
    process.start()
    with subprocess.Popen(
        ["strace", "-f", "-q", "-o", "/dev/null", "-e", rule, "-p", str(process.pid)], stderr=subprocess.DEVNULL
    ) as tracer:
        while f"TracerPid:\t{tracer.pid}" not in Path(f"/proc/{process.pid}/status").read_text():
            assert tracer.poll() is None, "strace could not attach"
            time.sleep(0.001)
        writer.send_bytes(b"x")
        process.join(300)
    return process.exitcode, stderr.read_text()


def _run_command_after_signal(directory: Path, root: Path, reader: Connection, stderr: Path) -> None:
    from dc_hpc.experiment.run import main

    ctypes.CDLL(None).prctl(*ANY_TRACER, 0, 0, 0)
    with open(stderr, "w") as stream:
        os.dup2(stream.fileno(), 2)
    reader.poll(None)
    sys.argv = ["run", str(directory), "--data", str(root), "--save-seconds", "0"]
    main()


def kill_at_random(directory: Path, root: Path, rng: random.Random, kills: int) -> int:
    """SIGKILL the run `kills` times, each after a random number of further checkpoints and a random time.

    Returns how many kills hit a living run; it is less than `kills` only when the run reached its end.
    """
    hits = 0
    while hits < kills and not (directory / "result.json").exists():
        attempts = len(run_directory.attempts(directory))
        process = start_at_once(directory, root)
        while process.is_alive() and len(run_directory.attempts(directory)) == attempts:
            time.sleep(0.003)
        wait_for_checkpoints(directory, rng.randrange(3), process.is_alive)
        time.sleep(rng.uniform(0, 0.12))
        process.kill()
        process.join()
        hits += process.exitcode == -signal.SIGKILL
    return hits


def wait_for_checkpoints(directory: Path, further: int, is_alive: Callable[[], bool]) -> None:
    """Wait until a run has written this many further checkpoints, or is no longer alive."""
    before = set(checkpoints(directory))
    while is_alive() and len(set(checkpoints(directory)) - before) < further:
        time.sleep(0.003)


def checkpoints(directory: Path) -> list[str]:
    """The names of the checkpoints of a run."""
    return [path.name for path in (directory / "checkpoints").glob("c*.safetensors")]


def results_without_quarantine(directory: Path) -> dict[str, bytes]:
    """`results` without the files that were moved to quarantine."""
    return {name: data for name, data in results(directory).items() if "quarantine" not in name}
