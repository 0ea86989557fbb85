"""NVIDIA's multi-process service beside the runs of a task, which lets their kernels run side by side on one GPU.

The service has folders of this task alone. A guardian process stops it when the last process of the task has ended, in
whatever way: it waits for the end of a pipe that they all hold open.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# A site profile with `mps: true` sets it for the task: 1 starts the service.
VARIABLE = "DC_HPC_MPS"
_CONTROL = "nvidia-cuda-mps-control"
_PIPES, _LOGS = "CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY"
_ANSWER_SECONDS = 10.0
_START_SECONDS = 20.0
_STOP_SECONDS = 30.0
# The path of the service's socket may have 107 bytes.
_LONGEST_FOLDER = 60
# $1 is the folder. The signals of SLURM reach this process, too; only the end of the pipe ends it. Clients are gone by
# then, so the service ends at once; one that does not answer is killed.
_GUARDIAN = """
trap '' HUP INT TERM USR1 USR2
read -r line
echo quit | timeout 10 nvidia-cuda-mps-control >/dev/null 2>&1
pid=$(cat "$1/pipe/nvidia-cuda-mps-control.pid" 2>/dev/null)
for step in 1 2 3 4 5; do
    [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null || break
    sleep 1
done
[ -n "$pid" ] && kill -9 "$pid" 2>/dev/null
rm -rf "$1"
"""


@contextmanager
def service(stop: Callable[[], bool]) -> Iterator[bool]:
    """Run the service meanwhile, where the site profile asks for it; yields whether it runs.

    Where it does not start, the runs go on without it, after one warning. stop: whether the task was told to stop; then
    nothing waits for the end of the service, because the time before the task is killed may be short.
    """
    if os.environ.get(VARIABLE) != "1":
        yield False
        return
    before = {name: os.environ.get(name) for name in (_PIPES, _LOGS)}
    try:
        folder = _private_folder()
    except OSError as error:  # the disk of temporary files is full, or it may only be read
        _warn(str(error))
        yield False
        return
    os.environ[_PIPES], os.environ[_LOGS] = str(folder / "pipe"), str(folder / "log")
    guardian = subprocess.Popen(
        ["/bin/sh", "-c", _GUARDIAN, "guardian", str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    problem = _start()
    if problem:
        _restore(before)  # CUDA would look for a service there
        _end(guardian, _STOP_SECONDS)
        _warn(problem)
    try:
        yield not problem
    finally:
        if not problem:
            _end(guardian, 0.0 if stop() else _STOP_SECONDS)
            _restore(before)


def _warn(problem: str) -> None:
    print(
        f"dc_hpc: mps: true, but NVIDIA's multi-process service does not run here ({problem}); the runs compute "
        "without it",
        file=sys.stderr,
        flush=True,
    )


def _private_folder() -> Path:
    """A new folder that nobody else may read; in /tmp where the usual place has too long a path for a socket."""
    usual = tempfile.gettempdir()
    folder = Path(tempfile.mkdtemp(prefix="dc_hpc-mps-", dir=usual if len(usual) <= _LONGEST_FOLDER else "/tmp"))
    for name in ("pipe", "log"):
        (folder / name).mkdir(mode=0o700)
    return folder


def _start() -> str:
    """Start the service and wait until it answers; why it does not, "" where it does."""
    if shutil.which(_CONTROL) is None:
        return f"{_CONTROL} is not on this node"
    try:
        # no pipe: the service keeps its streams open as long as it runs
        started = subprocess.run(
            [_CONTROL, "-d"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_START_SECONDS,
            start_new_session=True,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if started.returncode:
        return f"{_CONTROL} -d ended with code {started.returncode}"
    deadline = time.monotonic() + _ANSWER_SECONDS
    while not _answers():
        if time.monotonic() >= deadline:
            return "it does not answer"
        time.sleep(0.2)
    return ""


def _answers() -> bool:
    """Whether the service answers a question."""
    try:
        done = subprocess.run(
            [_CONTROL],
            input=b"get_server_list\n",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_ANSWER_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _end(guardian: subprocess.Popen[bytes], seconds: float) -> None:
    """Let the guardian stop the service, and wait so long for it; without waiting, it does so all the same."""
    if guardian.stdin:
        with suppress(OSError):
            guardian.stdin.close()
    with suppress(subprocess.TimeoutExpired):
        guardian.wait(seconds)


def _restore(before: dict[str, str | None]) -> None:
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
