"""One more try with more memory after a run was out of it, up to `max_memory_gb` of the site profile."""

import os
import re
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
from support.commands import GRID, run_command, submit_grid
from support.small_runs import new_run

from dc_hpc.config.grid import read_grid
from dc_hpc.errors import InputError
from dc_hpc.experiment.execution import Execution
from dc_hpc.scheduler import submissions, worker
from dc_hpc.scheduler.site import MEMORY_VARIABLE, read_site
from dc_hpc.scheduler.submissions import Submission
from dc_hpc.scheduler.worker import TaskPayload
from dc_hpc.storage import run_directory

SBATCH = """#!{python}
import pathlib, re, sys
folder = pathlib.Path({folder!r})
number = 100 + len(list(folder.glob("*.sh")))
text = pathlib.Path(sys.argv[-1]).read_text()
(folder / f"{{number}}.sh").write_text(text)
print("Submitted batch job", number)
"""


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """Stand-ins for SLURM's commands: sbatch keeps its scripts, squeue and sacct print files."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "scripts").mkdir()
    for name in ("squeue", "sacct"):
        (tmp_path / name).write_text("")
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\ncat {tmp_path / name}\n")
    (tmp_path / "bin" / "srun").write_text("#!/bin/sh\n")
    (tmp_path / "bin" / "scontrol").write_text("#!/bin/sh\n")
    (tmp_path / "bin" / "sbatch").write_text(SBATCH.format(python=sys.executable, folder=str(tmp_path / "scripts")))
    for tool in (tmp_path / "bin").iterdir():
        tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    (tmp_path / "grid.yaml").write_text(GRID)
    return tmp_path


def submit(place, root, *more):
    return submit_grid(
        place, root, "--cluster", "slurm", "--site", "site.yaml", "--yes", "--no-aggregate", *more, check=0
    ).stdout


def memory_of_scripts(place):
    """The memory and the number of tasks of each script that sbatch got, oldest first."""
    found = []
    for path in sorted((place / "scripts").glob("*.sh")):
        text = path.read_text()
        memory = re.search("^#SBATCH --mem=(.*)$", text, re.M)
        tasks = re.search("^#SBATCH --array=0-([0-9]+)", text, re.M)
        found.append((memory[1] if memory else None, int(tasks[1]) + 1 if tasks else 1))
    return found


def end_all(place, *states):
    """Let the tasks of the newest submission end in these states."""
    newest = submissions.read_all(place / "outputs")[-1]
    lines = [f"{newest.task_id(i)}|{newest.name}|{state}|n1" for i, state in enumerate(states)]
    with (place / "sacct").open("a") as file:
        file.write("\n".join(lines) + "\n")


def test_a_run_out_of_memory_is_tried_once_more_with_more(cluster, digits_root):
    """Only the run that needs it gets more; after the second end it stays as it is, and the status says so."""
    (cluster / "site.yaml").write_text("memory_gb: 8\nmax_memory_gb: 12\n")
    submit(cluster, digits_root)
    end_all(cluster, "OUT_OF_MEMORY", "CANCELLED", "CANCELLED")
    shown = run_command("status", cwd=cluster, check=0).stdout
    assert "! 1 run ran out of memory with 8 GiB; the same submit command tries once more with 12 GiB" in shown
    said = submit(cluster, digits_root)
    assert "memory: 12 GiB instead of 8 for 1 run that ran out of memory" in said
    assert memory_of_scripts(cluster) == [("8GB", 3), ("12GB", 1), ("8GB", 2)]
    retry = next(one for one in submissions.read_all(cluster / "outputs") if one.memory_gb == 12)
    (cluster / "squeue").write_text(f"{retry.job}|N/A|{retry.job}|RUNNING|None|N/A|N/A|n1|{retry.name}\n")
    shown = run_command("status", cwd=cluster, check=0).stdout
    assert "! 1 run is tried once more with 12 GiB instead of 8 GiB" in shown
    (cluster / "squeue").write_text(f"{retry.job}|N/A|{retry.job}|OUT_OF_MEMORY|OutOfMemory|N/A|N/A|n1|{retry.name}\n")
    shown = run_command("status", cwd=cluster, check=0).stdout
    assert "! 1 run ran out of memory with 12 GiB, the last try; set a larger memory_gb" in shown
    submit(cluster, digits_root)
    assert memory_of_scripts(cluster)[3:] == [("12GB", 1), ("8GB", 2)], "a person asks again: with no more, and no less"


@pytest.mark.parametrize(
    "usual, most, expected", [(8, None, "8GB"), (8, 8, "8GB"), (8, 100, "16GB"), (None, 32, "32GB")]
)
def test_how_much_a_retry_gets(cluster, digits_root, usual, most, expected):
    lines = [f"memory_gb: {usual}\n" if usual else "", f"max_memory_gb: {most}\n" if most else "", "cpus: 2\n"]
    (cluster / "site.yaml").write_text("".join(lines))
    submit(cluster, digits_root, "--limit", "1")
    end_all(cluster, "OUT_OF_MEMORY")
    submit(cluster, digits_root, "--limit", "1")
    assert memory_of_scripts(cluster)[1] == (expected, 1)


def test_a_retry_that_was_preempted_keeps_its_memory(cluster, digits_root):
    (cluster / "site.yaml").write_text("memory_gb: 8\nmax_memory_gb: 64\n")
    for state in ("OUT_OF_MEMORY", "PREEMPTED", "CANCELLED"):
        submit(cluster, digits_root, "--limit", "1")
        end_all(cluster, state)
    assert [memory for memory, _ in memory_of_scripts(cluster)] == ["8GB", "16GB", "16GB"]


def test_a_larger_memory_in_the_profile_counts(cluster, digits_root):
    (cluster / "site.yaml").write_text("memory_gb: 8\nmax_memory_gb: 64\n")
    submit(cluster, digits_root, "--limit", "1")
    end_all(cluster, "OUT_OF_MEMORY")
    (cluster / "site.yaml").write_text("memory_gb: 10\nmax_memory_gb: 64\n")
    submit(cluster, digits_root, "--limit", "1")
    assert [memory for memory, _ in memory_of_scripts(cluster)] == ["8GB", "10GB"]


def test_the_script_of_a_dry_run_shows_the_memory(cluster, digits_root):
    (cluster / "site.yaml").write_text("memory_gb: 8\nmax_memory_gb: 64\n")
    submit(cluster, digits_root, "--limit", "1")
    end_all(cluster, "OUT_OF_MEMORY")
    shown = submit_grid(
        cluster, digits_root, "--cluster", "slurm", "--site", "site.yaml", "--dry-run", "--limit", "1", check=0
    ).stdout
    assert "#SBATCH --mem=16GB" in shown and "export DC_HPC_MAX_MEMORY_GB=64" in shown


def test_a_run_whose_process_was_killed_counts_too(cluster, digits_root):
    """The task lived on, so SLURM calls it completed."""
    (cluster / "site.yaml").write_text("memory_gb: 8\nmax_memory_gb: 64\n")
    submit(cluster, digits_root, "--limit", "1")
    names = read_grid(cluster / "grid.yaml", data_root=digits_root).runs
    (newest,) = submissions.read_all(cluster / "outputs")
    directory = next(cluster / "outputs" / "runs" / name for name in names if name in newest.run_names())
    number = run_directory.start_attempt(directory, {"slurm": {"slurm_job_id": newest.job}})
    error = "Crashed: out of memory, most likely: killed by SIGKILL at 7.9 GiB of 8.0 GiB; set memory_gb: 13"
    run_directory.update_attempt(directory, number, {"ended": "failed", "error": error})
    end_all(cluster, "COMPLETED")
    submit(cluster, digits_root, "--limit", "1")
    assert [memory for memory, _ in memory_of_scripts(cluster)] == ["8GB", "16GB"]


class LacksGpuMemory(TaskPayload):
    """Runs that fail because others fill their GPU."""

    def run_function(self):
        return _lack_gpu_memory


def _lack_gpu_memory(directory, execution, stop):
    number = run_directory.start_attempt(directory, {})
    error = "OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB"
    run_directory.update_attempt(directory, number, {"ended": "failed", "error": error})
    return "failed"


def test_more_memory_of_a_task_is_no_help_for_a_full_gpu(digits_root, tmp_path, monkeypatch):
    monkeypatch.setenv(MEMORY_VARIABLE, "64")
    directory = new_run(tmp_path, digits_root)
    LacksGpuMemory((str(directory),), Execution(str(digits_root)), attempts=5)()
    assert len(run_directory.attempts(directory)) == 5


def test_a_killed_process_is_recorded_with_its_own_attempt_beside_a_damaged_record(digits_root, tmp_path):
    directory = new_run(tmp_path, digits_root)
    numbers = [run_directory.start_attempt(directory, {"pid": 4_000_000}) for _ in range(2)]
    (directory / "attempts" / "0001.json").write_text("{")
    worker._record_crash(directory, SimpleNamespace(pid=4_000_000, exitcode=-9))
    state = run_directory.state_of(directory)
    assert numbers == [1, 2] and state.name == "failed" and "out of memory" in state.reason
    assert (directory / "attempts" / "0001.json").read_text() == "{"


class DiesAtOnce(TaskPayload):
    """Runs whose process is killed, as one that is out of memory."""

    def run_function(self):
        return _die


def _die(directory, execution, stop):
    run_directory.start_attempt(directory, {})
    os.kill(os.getpid(), 9)


@pytest.mark.parametrize("retried, attempts", [(True, 1), (False, 5)])
def test_a_task_does_not_try_again_what_another_task_gets_more_memory_for(
    digits_root, tmp_path, monkeypatch, retried, attempts
):
    if retried:
        monkeypatch.setenv(MEMORY_VARIABLE, "64")
    directory = new_run(tmp_path, digits_root)
    DiesAtOnce((str(directory),), Execution(str(digits_root)), attempts=5)()
    assert len(run_directory.attempts(directory)) == attempts


def test_less_than_the_usual_memory_is_refused(tmp_path):
    (tmp_path / "site.yaml").write_text("cpus: 2\nmemory_gb: 8\nmax_memory_gb: 4\n")
    with pytest.raises(InputError, match="site.yaml:3: max_memory_gb 4 is less than memory_gb 8; allowed: 8 or more"):
        read_site(tmp_path / "site.yaml")


def test_a_record_without_memory_is_read(tmp_path):
    one = Submission("grid-ab", str(tmp_path), (("run",),), minutes=10, job="7")
    submissions.write(tmp_path, one)
    (read,) = submissions.read_all(tmp_path)
    assert (read.memory_gb, read.max_memory_gb) == (None, None)
    submissions.write(tmp_path, replace(read, memory_gb="8"))
    warnings = []
    assert submissions.read_all(tmp_path, warnings) == [] and len(warnings) == 1
