"""`mps: true`: a task starts NVIDIA's multi-process service in private folders and stops it however it ends.

A stand-in keeps the service's interface: `-d` starts it, and it reads commands from its standard input otherwise.
"""

import errno
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.commands import REPOSITORY
from support.small_runs import new_run

from dc_hpc.experiment.execution import Execution
from dc_hpc.scheduler.site import Site, python_of, sbatch_parameters
from dc_hpc.scheduler.tasks import mps
from dc_hpc.scheduler.worker import TaskPayload
from dc_hpc.storage import run_directory

STAND_IN = """#!/bin/sh
pid="$CUDA_MPS_PIPE_DIRECTORY/nvidia-cuda-mps-control.pid"
if [ "$1" = -d ]; then
    {start}
    setsid sh -c 'trap "" TERM; echo $$ > "$0"; while sleep 0.1; do :; done' "$pid" &
    echo "started $CUDA_MPS_PIPE_DIRECTORY $CUDA_MPS_LOG_DIRECTORY" >> "$NOTES"
    exit 0
fi
read -r command
echo "$command" >> "$NOTES"
{answer}
[ -r "$pid" ] && kill -0 "$(cat "$pid")" || exit 1
{end}
"""


class Noting(TaskPayload):
    """Runs that note the folder of the service and wait until they may end."""

    def run_function(self):
        return _note


def _note(directory, execution, stop):
    number = run_directory.start_attempt(directory, {})
    (directory.parent.parent / "seen").write_text(os.environ.get("CUDA_MPS_PIPE_DIRECTORY", "none"))
    while (directory.parent.parent / "wait").exists() and not stop():
        time.sleep(0.05)
    run_directory.update_attempt(directory, number, {"ended": "done"})
    return "done"


@pytest.fixture
def task(tmp_path, digits_root, monkeypatch):
    """A task with one run, whose service is the stand-in."""
    monkeypatch.setenv(mps.VARIABLE, "1")
    monkeypatch.setenv("NOTES", str(tmp_path / "notes"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr(mps, "_LONGEST_FOLDER", 1000)
    monkeypatch.setattr(mps, "_ANSWER_SECONDS", 2.0)
    (tmp_path / "tmp").mkdir()
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    stand_in(tmp_path)
    return Noting((str(new_run(tmp_path, digits_root)),), Execution(str(digits_root)))


def stand_in(folder, start="", answer="", end='[ "$command" = quit ] && kill -9 "$(cat "$pid")"; exit 0'):
    path = folder / "bin" / "nvidia-cuda-mps-control"
    path.write_text(STAND_IN.replace("{start}", start).replace("{answer}", answer).replace("{end}", end))
    path.chmod(0o700)


def service_pid(folder):
    (found,) = (folder / "tmp").glob("*/pipe/*.pid")
    return int(found.read_text())


def lives(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


def wait_until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_service_runs_with_the_runs_and_no_longer(task, tmp_path, capfd):
    assert set(task().values()) == {"done"}
    notes = (tmp_path / "notes").read_text().splitlines()
    _, pipes, logs = notes[0].split()
    assert (tmp_path / "seen").read_text() == pipes and Path(pipes).parent == Path(logs).parent
    assert Path(pipes).is_relative_to(tmp_path / "tmp") and "get_server_list" in notes and notes[-1] == "quit"
    assert list((tmp_path / "tmp").iterdir()) == [] and "CUDA_MPS_PIPE_DIRECTORY" not in os.environ
    assert "mps" not in capfd.readouterr().err


def test_the_folders_are_private(task, tmp_path, monkeypatch):
    modes = []
    compute = mps._start
    monkeypatch.setattr(
        mps,
        "_start",
        lambda: modes.extend(stat.S_IMODE(one.stat().st_mode) for one in (tmp_path / "tmp").rglob("*")) or compute(),
    )
    task()
    assert modes == [0o700] * 3


@pytest.mark.parametrize(
    "broken, said",
    [
        ({"start": "exit 1"}, "nvidia-cuda-mps-control -d ended with code 1"),
        ({"answer": "exit 1"}, "it does not answer"),
        (None, "nvidia-cuda-mps-control is not on this node"),
    ],
)
def test_without_the_service_the_runs_go_on_after_one_warning(task, tmp_path, monkeypatch, capfd, broken, said):
    stand_in(tmp_path, **(broken or {}))
    if broken is None:
        (tmp_path / "bin" / "nvidia-cuda-mps-control").unlink()
    assert set(task().values()) == {"done"} and (tmp_path / "seen").read_text() == "none"
    warned = [line for line in capfd.readouterr().err.splitlines() if "mps" in line]
    assert len(warned) == 1 and said in warned[0] and "without it" in warned[0]
    wait_until(lambda: list((tmp_path / "tmp").iterdir()) == [])


def test_without_a_place_for_its_folder_the_runs_go_on_too(task, tmp_path, monkeypatch, capfd):
    """The disk of temporary files is full, or it may only be read."""

    def full(*args, **more):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/tmp/dc_hpc-mps-x")

    monkeypatch.setattr("tempfile.mkdtemp", full)
    assert set(task().values()) == {"done"} and (tmp_path / "seen").read_text() == "none"
    warned = [line for line in capfd.readouterr().err.splitlines() if "mps" in line]
    assert len(warned) == 1 and "No space left" in warned[0] and "without it" in warned[0]


def test_a_site_that_does_not_ask_for_it_gets_none(task, tmp_path, monkeypatch):
    monkeypatch.delenv(mps.VARIABLE)
    task()
    assert not (tmp_path / "notes").exists() and (tmp_path / "seen").read_text() == "none"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2, signal.SIGKILL])
def test_the_service_ends_with_a_task_that_is_told_to_stop_or_killed(task, tmp_path, number):
    (tmp_path / "wait").touch()
    code = (
        f"import sys; sys.path[:0] = [{str(REPOSITORY)!r}, {str(REPOSITORY / 'tests')!r}, "
        f"{str(REPOSITORY / 'tests' / 'scheduler')!r}]\n"
        "from dc_hpc.scheduler.tasks import mps\nmps._LONGEST_FOLDER = 1000\nimport test_mps\n"
        f"from dc_hpc.experiment.execution import Execution\n"
        f"test_mps.Noting({task.directories!r}, Execution('data'))()"
    )
    process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    try:
        wait_until(lambda: (tmp_path / "seen").exists())
        pid = service_pid(tmp_path)
        assert lives(pid)
        process.send_signal(number)
        process.wait(timeout=60)
        (tmp_path / "wait").unlink()  # a worker process that was left behind ends now
        wait_until(lambda: not lives(pid))
        wait_until(lambda: list((tmp_path / "tmp").iterdir()) == [])
    finally:
        process.kill()


def test_a_service_that_does_not_quit_is_killed(task, tmp_path):
    stand_in(tmp_path, end="exit 0")
    pids = []
    run = mps._answers
    try:
        mps._answers = lambda: run() and not pids.append(service_pid(tmp_path))
        task()
    finally:
        mps._answers = run
    assert pids
    wait_until(lambda: not lives(pids[0]))


def test_the_profile_reaches_the_task_also_in_a_container():
    site = Site(mps=True, max_memory_gb=64)
    setup = sbatch_parameters(site, minutes=10, parallel_runs=1)["setup"]
    assert "export DC_HPC_MPS=1" in setup and "export DC_HPC_MAX_MEMORY_GB=64" in setup
    contained = python_of(Site(mps=True, container="apptainer exec x.sif"))
    assert contained == "apptainer exec x.sif env DC_HPC_MPS=1 python3"
    assert not any("DC_HPC" in line for line in sbatch_parameters(Site(), minutes=10, parallel_runs=1)["setup"])
