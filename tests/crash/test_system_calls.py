"""A kill, and an error, at every file call of a save, of a recovery, and of the end of a run.

strace injects them, so no code of ours is replaced by a mock.
"""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.failing_calls import CALLS, FAILED, HISTORY, end, recover, save, tensors
from support.kill_runs import results_without_quarantine, run_with_failing_calls
from support.small_runs import new_run, results

from dc_hpc.experiment.execution import Execution
from dc_hpc.experiment.run import run
from dc_hpc.storage import feature_dumps, metrics_csv, run_directory

ERRORS = ("ENOSPC", "EDQUOT", "EIO", "ESTALE")
SHARE = 9  # `make test`: a kill at every 9th site, an error at every 36th; `make crash`: at every site


class Injector:
    """The client of the server in support/failing_calls.py."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, Path(__file__).parents[1] / "support" / "failing_calls.py"],
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def run(self, operation, directory, *inject):
        self.process.stdin.write(
            json.dumps({"operation": operation, "directory": str(directory), "inject": inject}) + "\n"
        )
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


@pytest.fixture(scope="module")
def injector():
    if shutil.which("strace") is None:
        message = "no strace here: apt-get install strace"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    server = Injector()
    yield server
    server.process.stdin.close()
    server.process.wait()
    server.process.stdout.close()


def interrupted_run(place: Path, operation: str) -> Path:
    """A run that has saved its cycles 0 to 2; for a recovery it also has a damaged newest checkpoint."""
    shutil.rmtree(place, ignore_errors=True)
    directory = place / "outputs" / "runs" / "the-run"
    number = run_directory.start_attempt(directory, {})
    metrics_csv.report_progress(directory, number, HISTORY[:3], {"cycles_done": 3})
    for cycle in range(3):
        save(directory, cycle)
    if operation == "recover":
        save(directory, 3)
        newest = sorted((directory / "checkpoints").iterdir())[-1]
        newest.write_bytes(newest.read_bytes()[:-1])
    return directory


def check_and_continue(directory: Path) -> None:
    """The last good checkpoint loads, and the operations can be repeated; then every file exists and no other."""
    if run_directory.state_of(directory).name == "done":
        run_directory.tidy(directory)  # a new attempt does nothing else
    else:
        checkpoint, _ = run_directory.load_checkpoint(directory)
        assert checkpoint is not None and checkpoint.cycle in (2, 3)
        assert all(np.array_equal(checkpoint.tensors[name], one) for name, one in tensors(checkpoint.cycle).items())
        assert checkpoint.history == HISTORY[: checkpoint.cycle + 1]
        metrics_csv.read_metrics(directory)
        assert run_directory.look_at_attempts(directory)[1] == []
        recover(directory)
        assert run_directory.load_checkpoint(directory)[0].cycle == 3
        end(directory)
    names = {"features/c0000.h5", "trunk.safetensors", "metrics.csv", "result.json"}
    assert set(results_without_quarantine(directory)) == names
    assert feature_dumps.read_features(directory, 0)["features"].shape == (500, 8)
    assert len(feature_dumps.read_trunk(directory)) == 2
    assert len(metrics_csv.read_metrics(directory)) == 4 and run_directory.read_result(directory)["ia"] == 0.5
    assert not [path for path in directory.rglob("*") if path.name.endswith(".tmp")]


def sites(injector, place, operation):
    """(call, how many times) of an undisturbed operation."""
    outcome = injector.run(operation, interrupted_run(place, operation))
    assert outcome["code"] == 0 and outcome["calls"]["fsync"] >= 2, outcome
    return [(call, outcome["calls"][call]) for call in CALLS if outcome["calls"].get(call)]


SHARES = pytest.mark.parametrize(
    "step", [pytest.param(SHARE, id="some"), pytest.param(1, id="all", marks=pytest.mark.crash)]
)


@SHARES
@pytest.mark.parametrize("operation", ["save", "recover", "end"])
def test_a_kill_at_every_call(injector, tmp_path, operation, step):
    every = [(call, at) for call, times in sites(injector, tmp_path / "x", operation) for at in range(1, times + 1)]
    killed = 0
    for call, at in every[::step]:
        directory = interrupted_run(tmp_path / "x", operation)
        outcome = injector.run(operation, directory, f"{call}:signal=KILL:when={at}")
        assert outcome["code"] in (-signal.SIGKILL, 0), (call, at, outcome)
        killed += outcome["code"] == -signal.SIGKILL
        check_and_continue(directory)
    print(f"{operation}: {killed} kills at {len(every[::step])} of {len(every)} sites")
    assert killed >= 0.95 * len(every[::step])


@SHARES
@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("when", ["{}", "{}+"], ids=["once", "for_ever"])
@pytest.mark.parametrize("operation", ["save", "recover", "end"])
def test_an_error_at_every_call(injector, tmp_path, operation, when, error, step):
    """The operation succeeds or raises an OSError; nothing is lost; afterwards the run continues to its end."""
    every = [(call, at) for call, times in sites(injector, tmp_path / "x", operation) for at in range(1, times + 1)]
    chosen = every[ERRORS.index(error) :: step * 4] if step > 1 else every
    failed = 0
    for call, at in chosen:
        directory = interrupted_run(tmp_path / "x", operation)
        outcome = injector.run(operation, directory, f"{call}:error={error}:when={when.format(at)}")
        assert outcome["code"] in (0, FAILED), (call, at, outcome)
        failed += outcome["code"] == FAILED
        check_and_continue(directory)
    print(f"{operation}: {error} {when}: {failed} failures at {len(chosen)} of {len(every)} sites")
    assert failed


# ---- real runs


@pytest.fixture(scope="module")
def reference(digits_root, tmp_path_factory):
    directory = new_run(tmp_path_factory.mktemp("reference"), digits_root, features="every")
    assert run(directory, Execution(str(digits_root))) == "done"
    return results(directory)


def run_as_command(directory, root, **more):
    command = [
        sys.executable,
        "-m",
        "dc_hpc.experiment.run",
        str(directory),
        "--data",
        str(root),
        "--save-seconds",
        "0",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, **more)
    return done.returncode, done.stderr


def assert_one_line(code, stderr):
    """A failed run prints its name and one line with the reason, without a traceback."""
    assert code in (0, 1), (code, stderr)
    assert "Traceback" not in stderr and len(stderr.splitlines()) <= 2, stderr


@pytest.mark.parametrize(
    "call, error, when",
    [
        ("fsync", "ENOSPC", "3+"),
        *[
            pytest.param(call, error, when, marks=pytest.mark.crash)
            for call in ("fsync", "renameat", "linkat", "mkdirat")
            for error in ERRORS
            for when in ("1", "1+", "3+", "6", "9")
            if (call, error, when) != ("fsync", "ENOSPC", "3+")
        ],
    ],
)
def test_a_true_run_prints_one_line_and_continues_later(injector, digits_root, tmp_path, reference, call, error, when):
    directory = new_run(tmp_path / "outputs", digits_root, features="every")
    rule = (
        f"inject=?{call},?{call}2:error={error}:when={when}"
        if call == "renameat"
        else f"inject={call}:error={error}:when={when}"
    )
    assert_one_line(*run_with_failing_calls(directory, digits_root, rule))
    assert run(directory, Execution(str(digits_root))) == "done"
    assert results_without_quarantine(directory) == reference


@pytest.mark.parametrize(
    "limit",
    [
        1 << 10,
        pytest.param(0, marks=pytest.mark.crash),
        pytest.param(1 << 15, marks=pytest.mark.crash),
        pytest.param(1 << 17, marks=pytest.mark.crash),
        pytest.param(1 << 18, marks=pytest.mark.crash),
    ],
)
def test_no_file_may_grow(digits_root, tmp_path, reference, limit):
    """Under RLIMIT_FSIZE, where HDF5 by itself would crash Python."""
    directory = new_run(tmp_path, digits_root, features="every")
    code, stderr = run_as_command(
        directory, digits_root, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    )
    assert code == 1
    assert_one_line(code, stderr)
    assert run(directory, Execution(str(digits_root))) == "done"
    assert results_without_quarantine(directory) == reference


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one mebibyte."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted here ({mounted.stderr.strip()})")
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize(
    "free", [pytest.param(0, marks=pytest.mark.crash), 90, pytest.param(300, marks=pytest.mark.crash)]
)
def test_a_full_disk(digits_root, small_disk, reference, free):
    """free: KiB that are free when the run begins. Once there is space again, it ends with the same results."""
    directory = new_run(small_disk / "outputs", digits_root, features="every")
    (small_disk / "filler").write_bytes(b"")
    used = os.statvfs(small_disk)
    (small_disk / "filler").write_bytes(bytes(max(0, used.f_bavail * used.f_frsize - (free << 10))))
    code, stderr = run_as_command(directory, digits_root)
    assert code == 1 and "No space left on device" in stderr, stderr
    assert_one_line(code, stderr)
    for command in ("status", "aggregate"):
        done = subprocess.run(
            [sys.executable, "-m", f"dc_hpc.{command}", "--outputs", small_disk / "outputs"],
            capture_output=True,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        assert "Traceback" not in done.stderr and done.returncode in (0, 2), done.stderr
    (small_disk / "filler").unlink()
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    assert run(directory, Execution(str(digits_root))) == "done"
    assert results_without_quarantine(directory) == reference
