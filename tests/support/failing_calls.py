"""A server that runs one storage operation at a time in a fork of itself, in which strace injects errors or a kill.

    python failing_calls.py

reads one JSON line for each operation, {"operation": ..., "directory": ..., "inject": [...]}, and answers with one JSON
line. It imports dc_hpc.storage once and no torch, so that an injection costs hundredths of a second.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import select
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py  # noqa: F401  before the fork
import numpy as np
import safetensors.numpy  # noqa: F401

from dc_hpc.storage import feature_dumps, metrics_csv, run_directory

CALLS = (
    "openat",
    "mkdirat",
    "write",
    "fsync",
    "close",
    "renameat",
    "renameat2",
    "rename",
    "linkat",
    "unlinkat",
    "unlink",
    "newfstatat",
    "fstat",
    "getdents64",
    "read",
    "lseek",
)
HISTORY = [{"cycle": cycle, "reassign": True, "nmi_true": 0.25 + cycle, "loss": 1.5} for cycle in range(5)]
FAILED, OTHER_ERROR = 3, 5  # exit codes of an operation that raised an OSError, or something else


def tensors(cycle: int) -> dict[str, np.ndarray]:
    """The tensors of the checkpoint of a cycle."""
    return {"trunk.w": np.full(30_000, cycle, np.float32), "pseudo_labels": np.arange(400, dtype=np.int32)}


def save(directory: Path, cycle: int = 3) -> None:
    """Save the checkpoint of a cycle."""
    run_directory.save_checkpoint(
        directory, cycle=cycle, phase="trained", tensors=tensors(cycle), history=HISTORY[: cycle + 1]
    )


def recover(directory: Path) -> None:
    """Do what a new attempt does first: claim its number, load the last checkpoint, and save the next one."""
    number = run_directory.start_attempt(directory, {})
    checkpoint, _ = run_directory.load_checkpoint(directory)
    cycle = checkpoint.cycle + 1 if checkpoint else 0
    metrics_csv.report_progress(directory, number, HISTORY[:cycle], {"cycles_done": cycle})
    save(directory, min(cycle, 3))


def end(directory: Path) -> None:
    """Write what a run writes at its end."""
    feature_dumps.dump_features(directory, cycle=0, features=np.ones((500, 8)), pseudo_labels=np.arange(500) % 7, k=7)
    trunk = feature_dumps.write_trunk(directory, tensors(3))
    number = max(len(run_directory.attempts(directory)), 1)
    digest = metrics_csv.report_progress(directory, number, HISTORY[:4], {"cycles_done": 4})
    run_directory.finish(directory, {"ia": 0.5, "trunk_sha256": trunk, "metrics_sha256": digest})


OPERATIONS = {"save": save, "recover": recover, "end": end}


def serve() -> None:
    """Answer until the input ends."""
    assert "torch" not in sys.modules
    for line in sys.stdin:
        request = json.loads(line)
        operation, directory = OPERATIONS[request["operation"]], Path(request["directory"])
        print(json.dumps(_with_injections(operation, directory, request["inject"])), flush=True)


def _with_injections(operation: Callable[[Path], None], directory: Path, inject: list[str]) -> dict[str, Any]:
    """Run an operation in a child under strace; return its exit code, and how often it made each call."""
    trace, (reader, writer), (is_ready, ready) = directory.parent / "trace", os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writer)
        ctypes.CDLL(None).prctl(0x59616D61, -1, 0, 0, 0)  # PR_SET_PTRACER, any: strace is not an ancestor
        os.write(ready, b"x")
        select.select([reader], [], [])  # not a traced call, so nothing is injected before the operation begins
        os._exit(_exit_code(operation, directory))
    os.close(reader)
    os.read(is_ready, 1)  # strace must not see the calls above: an injected error would hit one of them
    os.close(is_ready)
    os.close(ready)
    rules = [word for rule in inject for word in ("-e", f"inject={rule}")]
    command = ["strace", "-q", "-o", str(trace), "-e", f"trace=?{',?'.join(CALLS)}", *rules, "-p", str(child)]
    tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while f"TracerPid:\t{tracer.pid}" not in Path(f"/proc/{child}/status").read_text() and tracer.poll() is None:
        time.sleep(0.001)
    os.write(writer, b"x")
    os.close(writer)
    _, status = os.waitpid(child, 0)
    errors = tracer.communicate()[1]
    lines = trace.read_text().splitlines()
    return {
        "code": os.waitstatus_to_exitcode(status),
        "calls": Counter(re.split(r"\(", one)[0] for one in lines),
        "hit": sum("(INJECTED)" in one or "SIGKILL" in one for one in lines),
        "strace": errors,
        "last": lines[-3:],
    }


def _exit_code(operation: Callable[[Path], None], directory: Path) -> int:
    try:
        operation(directory)
    except OSError:
        return FAILED
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return OTHER_ERROR
    return 0


if __name__ == "__main__":
    serve()
