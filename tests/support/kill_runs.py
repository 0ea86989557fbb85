"""True runs as processes, and the means to kill them at a moment that nobody chose."""

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

ANY_TRACER = 0x59616D61, -1  # of prctl: strace is no ancestor of what it attaches to


@cache
def nursery() -> ForkServerContext:
    """Forks processes that have all of preloaded.py."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["support.preloaded"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # it does not hear of ours otherwise
        forkserver.ensure_running()
    return context


def start_at_once(directory: Path, root: Path) -> BaseProcess:
    """The run of a directory as a process of its own, saving after every phase; without the door."""
    process = nursery().Process(target=_run, args=(directory, root))
    process.start()
    return process


def _run(directory: Path, root: Path) -> None:
    from dc_hpc.experiment.execution import Execution
    from dc_hpc.experiment.run import run

    os.umask(0o077)
    run(directory, Execution(str(root), save_seconds=0))


def run_with_failing_calls(directory: Path, root: Path, rule: str) -> tuple[int | None, str]:
    """A run through its door while strace injects a rule from its first moment on; its exit code and what it said."""
    said = root / f"{directory.name}.said"
    gate, opener = nursery().Pipe(duplex=False)
    process = nursery().Process(target=_run_when_let, args=(directory, root, gate, said))
    process.start()
    with subprocess.Popen(
        ["strace", "-f", "-q", "-o", "/dev/null", "-e", rule, "-p", str(process.pid)], stderr=subprocess.DEVNULL
    ) as tracer:
        while f"TracerPid:\t{tracer.pid}" not in Path(f"/proc/{process.pid}/status").read_text():
            assert tracer.poll() is None, "strace could not attach"
            time.sleep(0.001)
        opener.send_bytes(b"x")
        process.join(300)
    return process.exitcode, said.read_text()


def _run_when_let(directory: Path, root: Path, gate: Connection, said: Path) -> None:
    from dc_hpc.experiment.run import main

    ctypes.CDLL(None).prctl(*ANY_TRACER, 0, 0, 0)
    with open(said, "w") as stream:
        os.dup2(stream.fileno(), 2)
    gate.poll(None)
    sys.argv = ["run", str(directory), "--data", str(root), "--save-seconds", "0"]
    main()


def kill_at_random(directory: Path, root: Path, rng: random.Random, kills: int) -> int:
    """SIGKILL the run `kills` times, each after a random number of further checkpoints and a random moment more.

    Returns how many hit a living run; fewer only when it reached its end.
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


def wait_for_checkpoints(directory: Path, further: int, goes_on: Callable[[], bool]) -> None:
    """Wait until so many further checkpoints of a run were written."""
    seen = set(checkpoints(directory))
    while goes_on() and len(set(checkpoints(directory)) - seen) < further:
        time.sleep(0.003)


def checkpoints(directory: Path) -> list[str]:
    """The names of the checkpoints of a run."""
    return [path.name for path in (directory / "checkpoints").glob("c*.safetensors")]


def good(directory: Path) -> dict[str, bytes]:
    """`results` without what was moved to quarantine."""
    return {name: data for name, data in results(directory).items() if "quarantine" not in name}
