"""A server that does one piece of storage work at a time in a fork of itself, with strace failing or killing it.

    python failing_calls.py         reads {"work": ..., "directory": ..., "inject": [...]}, a line each, and answers in kind

It imports the storage rooms once and no torch, so that an injection costs hundredths of a second.
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
from pathlib import Path

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
FAILED, WRONG = 3, 5


def tensors(cycle: int) -> dict[str, np.ndarray]:
    """What the checkpoint of a cycle holds."""
    return {"trunk.w": np.full(30_000, cycle, np.float32), "pseudo_labels": np.arange(400, dtype=np.int32)}


def save(directory: Path, cycle: int = 3) -> None:
    """One save."""
    run_directory.save_checkpoint(
        directory, cycle=cycle, phase="trained", tensors=tensors(cycle), history=HISTORY[: cycle + 1]
    )


def recover(directory: Path) -> None:
    """What a new attempt does first: claim its number, load, and save what it computed next."""
    number = run_directory.start_attempt(directory, {})
    checkpoint, _ = run_directory.load_checkpoint(directory)
    cycle = checkpoint.cycle + 1 if checkpoint else 0
    metrics_csv.report_progress(directory, number, HISTORY[:cycle], {"cycles_done": cycle})
    save(directory, min(cycle, 3))


def end(directory: Path) -> None:
    """The last things that a run writes."""
    feature_dumps.dump_features(directory, cycle=0, features=np.ones((500, 8)), pseudo_labels=np.arange(500) % 7, k=7)
    trunk = feature_dumps.write_trunk(directory, tensors(3))
    number = max(len(run_directory.attempts(directory)), 1)
    digest = metrics_csv.report_progress(directory, number, HISTORY[:4], {"cycles_done": 4})
    run_directory.finish(directory, {"ia": 0.5, "trunk_sha256": trunk, "metrics_sha256": digest})


WORKS = {"save": save, "recover": recover, "end": end}


def serve() -> None:
    """Answer until the input ends."""
    assert "torch" not in sys.modules
    for line in sys.stdin:
        order = json.loads(line)
        print(json.dumps(_injected(WORKS[order["work"]], Path(order["directory"]), order["inject"])), flush=True)


def _injected(work, directory: Path, inject: list[str]) -> dict:
    """How the child ended, and how often it made each call."""
    trace, (gate, opener) = directory.parent / "trace", os.pipe()
    child = os.fork()
    if child == 0:
        os.close(opener)
        ctypes.CDLL(None).prctl(0x59616D61, -1, 0, 0, 0)  # PR_SET_PTRACER, any: strace is no ancestor
        select.select([gate], [], [])  # no call that is traced: nothing is injected before the work begins
        os._exit(_outcome(work, directory))
    os.close(gate)
    rules = [word for rule in inject for word in ("-e", f"inject={rule}")]
    command = ["strace", "-q", "-o", str(trace), "-e", f"trace=?{',?'.join(CALLS)}", *rules, "-p", str(child)]
    tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while f"TracerPid:\t{tracer.pid}" not in Path(f"/proc/{child}/status").read_text() and tracer.poll() is None:
        time.sleep(0.001)
    os.write(opener, b"x")
    os.close(opener)
    _, status = os.waitpid(child, 0)
    said = tracer.communicate()[1]
    lines = trace.read_text().splitlines()
    return {
        "code": os.waitstatus_to_exitcode(status),
        "calls": Counter(re.split(r"\(", one)[0] for one in lines),
        "hit": sum("(INJECTED)" in one or "SIGKILL" in one for one in lines),
        "said": said,
        "last": lines[-3:],
    }


def _outcome(work, directory: Path) -> int:
    try:
        work(directory)
    except OSError:
        return FAILED
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return WRONG
    return 0


if __name__ == "__main__":
    serve()
