"""Tasks that end before their runs begin are named, with the cause, the log's last line and the next step."""

import json
import os
import sys
import time

import pytest
from support.commands import GRID, REPOSITORY, run_command, submit_grid
from support.small_runs import new_run

from dc_hpc.scheduler import run_status, submissions
from dc_hpc.scheduler.slurm import Task
from dc_hpc.scheduler.submissions import Submission
from dc_hpc.scheduler.tasks import causes
from dc_hpc.scheduler.tasks.waiting import reason_in_words
from dc_hpc.storage import run_directory

EXITED = "srun: error: n1: task 0: Exited with exit code 1"
SCRIPT = "/var/spool/slurmd/job00012/slurm_script: line 14:"


@pytest.mark.parametrize(
    "state, reason, log, name, words",
    [
        ("FAILED", "", f"{SCRIPT} module: command not found\n{EXITED}", "no module command", "no `module` command"),
        (
            "FAILED",
            "",
            "ERROR: Unable to locate a modulefile for 'cuda/99'",
            "module not found",
            "the node has no module cuda/99",
        ),
        (
            "FAILED",
            "",
            'Lmod has detected the following error:  The following module(s) are unknown: "cuda/99"',
            "module not found",
            "cuda/99",
        ),
        (
            "FAILED",
            "",
            f"slurmstepd: error: execve(): apptainer: No such file or directory\n{EXITED}",
            "container program not found",
            "apptainer is not on the node",
        ),
        (
            "FAILED",
            "",
            "FATAL:   could not open image /x/dc_hpc.sif: no such file",
            "container image not found",
            "image",
        ),
        ("FAILED", "", "FATAL:   container creation failed: mount /etc/slurm->/etc/slurm", "container bind", "bind"),
        (
            "FAILED",
            "",
            f"slurmstepd: error: execve(): /home/me/.venv/bin/python3.11: No such file or directory\n{EXITED}",
            "python not found",
            "cannot start /home/me/.venv/bin/python3.11",
        ),
        ("FAILED", "", f"{SCRIPT} python3: command not found", "python not found", "cannot start python3"),
        ("FAILED", "", "/usr/bin/env: ‘python3’: No such file or directory", "python not found", "python3"),
        (
            "FAILED",
            "",
            "/usr/bin/python3: Error while finding module specification for 'submitit.core._submit' "
            "(ModuleNotFoundError: No module named 'submitit')",
            "package not found",
            "no package submitit",
        ),
        (
            "FAILED",
            "",
            "Waited for 60 seconds but could not find submitted jobs in path:\n/x",
            "folder not visible",
            "",
        ),
        (
            "FAILED",
            "",
            "srun: fatal: SLURM_MEM_PER_CPU, SLURM_MEM_PER_GPU, and SLURM_MEM_PER_NODE are mutually exclusive.",
            "srun failed",
            "srun refuses",
        ),
        (
            "FAILED",
            "",
            "srun: error: CPU binding outside of job step allocation, allocated CPUs are: 0x01.",
            "bind failed",
            "cannot bind",
        ),
        ("FAILED", "", "srun: error: Unable to create step for job 12: Invalid job id", "srun failed", "cannot start"),
        ("FAILED", "", f"{SCRIPT} source: /x/activate: No such file or directory", "setup failed", "/x/activate"),
        ("TIMEOUT", "TimeLimit", "Collecting package metadata", "time limit", "time limit"),
        (
            "",
            "",
            "slurmstepd: error: *** JOB 12 ON n1 CANCELLED AT 2026-01-01T00:01:00 DUE TO TIME LIMIT ***",
            "time limit",
            "",
        ),
        ("OUT_OF_MEMORY", "OutOfMemory", "", "out of memory", "more memory"),
        (
            "FAILED",
            "",
            "slurmstepd: error: Detected 1 oom_kill event in StepId=12.0. Some of the step tasks have been OOM Killed.",
            "out of memory",
            "",
        ),
        (
            "CANCELLED",
            "",
            "slurmstepd: error: StepId=12.0 exceeded memory limit (5000000 > 4194304), being killed\n"
            "slurmstepd: error: Exceeded job memory limit\n"
            "slurmstepd: error: *** STEP 12.0 ON n1 CANCELLED AT 2026-01-01T00:01:00 ***",
            "out of memory",
            "",
        ),
        ("FAILED", "", "RuntimeError: CUDA error: out of memory", "GPU out of memory", "GPU"),
        ("FAILED", "", "OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", "GPU out of memory", "GPU"),
        ("NODE_FAIL", "NodeDown", "", "node failure", "its node failed"),
        ("CANCELLED", "", f"{SCRIPT} python3: command not found", "cancelled", ""),
        ("FAILED", "", "srun: error: n1: task 0: Killed", "killed", "SIGKILL"),
        ("FAILED", "RaisedSignal:9(Killed)", "", "killed", "SIGKILL"),
        ("FAILED", "JobLaunchFailure", "", "launch failure", "SIGKILL ended its script"),
    ],
)
def test_a_known_cause_has_words_and_a_next_step(state, reason, log, name, words):
    found = causes.find(log, state=state, reason=reason)
    assert found is not None and found.name == name and words in found.words and found.next_step


def test_an_end_before_a_restart_is_not_the_cause():
    """The log of a requeued task has the lines of its earlier starts, too."""
    before = "slurmstepd: error: *** JOB 12 ON n1 CANCELLED AT 2026-01-01T00:01:00 DUE TO PREEMPTION ***\n"
    found = causes.find(f"{before}{SCRIPT} python3: command not found\n", state="FAILED")
    assert found is not None and found.name == "python not found"
    assert causes.find(before, state="").name == "preempted"


@pytest.fixture
def cluster(monkeypatch, tmp_path):
    """A folder that is all of PATH; a test puts stubs of SLURM's commands into it."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))

    def answers(command, text):
        path = tmp_path / "bin" / command
        path.write_text(f"#!{sys.executable}\nprint({text!r}, end='')\n")
        path.chmod(0o755)

    return answers


def submitted(outputs, *packs, name="grid-ab", job="43"):
    submissions.write(outputs, Submission(name, str(outputs / "slurm" / "grid"), packs, minutes=10, job=job))


def write_log(outputs, task, text, ending="err"):
    folder = outputs / "slurm" / "grid"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{task}_0_log.{ending}").write_text(text)


def test_a_task_that_dies_before_its_run_is_named(digits_root, tmp_path, cluster):
    """squeue knows the end of one task, sacct that of its sibling, and one task computes."""
    outputs = tmp_path / "outputs"
    runs = [new_run(outputs, digits_root, seed=seed) for seed in (1, 2, 3)]
    submitted(outputs, *((one.name,) for one in runs))
    for task in ("43_0", "43_1"):
        write_log(outputs, task, f"{SCRIPT} python3: command not found\n{EXITED}\n")
    cluster(
        "squeue",
        "43|0|44|FAILED|NonZeroExitCode|N/A|N/A|n1|grid-ab\n43|2|46|RUNNING|None|N/A|N/A|n1|grid-ab\n",
    )
    cluster("sacct", "43_0|grid-ab|FAILED|n1\n43_1|grid-ab|FAILED|n1\n43_2|grid-ab|RUNNING|n1\n")
    table = run_status.collect(outputs, [one.name for one in runs])
    first, second, third = (table.runs[one.name] for one in runs)
    line = f"{SCRIPT} python3: command not found"
    assert first.state == second.state == "failed" and first.is_missing and third.state == "queued"
    assert first.reason == f"task 43_0 failed before the run began: {line}; status logs {first.name}"
    assert second.reason == f"task 43_1 failed before the run began: {line}; status logs {second.name}"
    shown = run_command("status", cwd=tmp_path, check=0).stdout
    assert "2 failed" in shown and first.reason in shown and "! 2 tasks (43_0, ...) failed before the runs" in shown
    found = json.loads(run_command("status", "--json", cwd=tmp_path, check=0).stdout)
    end = next(one for one in found["runs"] if one["run"] == first.name)["task_end"]
    assert (end["task"], end["state"], end["before_the_run"]) == ("43_0", "FAILED", True)
    assert end["cause"] == "python not found" and end["last_line"] == line and "`setup`" in end["next_step"]
    assert line in run_command("status", "logs", first.name, cwd=tmp_path, check=0).stdout


def test_submit_says_why_before_it_sends_again(digits_root, tmp_path, cluster):
    outputs = tmp_path / "outputs"
    (tmp_path / "grid.yaml").write_text(GRID)
    command = ("--cluster", "slurm", "--site", REPOSITORY / "slurm" / "default.yaml", "--dry-run")
    cluster("squeue", "")
    submit_grid(tmp_path, digits_root, *command, check=0)
    from dc_hpc.config.grid import read_grid

    names = list(read_grid(tmp_path / "grid.yaml", data_root=digits_root).runs)
    submitted(outputs, *((name,) for name in names))
    write_log(outputs, "43_0", "slurmstepd: error: execve(): /x/python: No such file or directory\n")
    cluster("squeue", "".join(f"43|{i}|44|FAILED|NonZeroExitCode|N/A|N/A|n1|grid-ab\n" for i in range(3)))
    said = submit_grid(tmp_path, digits_root, *command, check=0).stdout
    assert "! task 43_0 failed before the runs began: the node cannot start /x/python; load or activate" in said
    assert "task 43_0 failed before the run began: " in said and "to submit: 3" in said


@pytest.mark.parametrize(
    "state, log, verb, is_failure",
    [
        ("TIMEOUT", "conda activate", "reached its time limit", True),
        ("OUT_OF_MEMORY", "", "ran out of memory", True),
        ("NODE_FAIL", "", "lost its node", True),
        ("FAILED", "", "failed", True),
        ("COMPLETED", "nothing to do", "ended", True),
        ("CANCELLED", "", "was cancelled", False),
        ("PREEMPTED", "", "was preempted and not requeued", False),
    ],
)
def test_each_end_before_the_run(digits_root, tmp_path, cluster, state, log, verb, is_failure):
    directory = new_run(tmp_path, digits_root)
    submitted(tmp_path, (directory.name,))
    if log:
        write_log(tmp_path, "43", log)
    cluster("squeue", f"43|N/A|43|{state}|None|N/A|N/A|n1|grid-ab\n")
    (status,) = run_status.collect(tmp_path, [directory.name]).runs.values()
    assert status.reason.startswith(f"task 43 {verb} before the run began")
    assert status.state == ("failed" if is_failure else "new") and status.is_missing


def test_a_task_that_slurm_has_forgotten_is_known_by_its_log(digits_root, tmp_path, cluster):
    """No accounting, and the task left squeue: with a log it failed, without one nobody can say so."""
    first, second = (new_run(tmp_path, digits_root, seed=seed) for seed in (1, 2))
    submitted(tmp_path, (first.name,), (second.name,))
    write_log(tmp_path, "43_0", f"{SCRIPT} module: command not found\n")
    cluster("squeue", "")
    table = run_status.collect(tmp_path, [first.name, second.name])
    assert table.runs[first.name].state == "failed" and "43_0 failed before" in table.runs[first.name].reason
    assert table.runs[second.name].state == "new"


def test_an_attempt_that_was_made_later_says_more_than_an_old_task(digits_root, tmp_path, cluster):
    directory = new_run(tmp_path, digits_root)
    submitted(tmp_path, (directory.name,))
    write_log(tmp_path, "43", "srun: fatal: no\n")
    cluster("squeue", "")
    time.sleep(0.01)
    number = run_directory.start_attempt(directory, {})
    run_directory.update_attempt(directory, number, {"ended": "failed", "error": "ValueError: mine"})
    (status,) = run_status.collect(tmp_path, [directory.name]).runs.values()
    assert (status.state, status.reason) == ("failed", "ValueError: mine")


def test_a_run_behind_others_in_a_task_is_no_failure_of_its_start(digits_root, tmp_path, cluster):
    """The task computed its first run until the time limit, so nothing is wrong with its start."""
    first, second = (new_run(tmp_path, digits_root, seed=seed) for seed in (1, 2))
    submitted(tmp_path, (first.name, second.name))
    number = run_directory.start_attempt(first, {"slurm": {"slurm_job_id": "43"}})
    run_directory.update_attempt(first, number, {"ended": "stopped"})
    cluster("squeue", "43|N/A|43|TIMEOUT|TimeLimit|N/A|N/A|n1|grid-ab\n")
    table = run_status.collect(tmp_path, [first.name, second.name])
    assert table.runs[second.name].state == "new" and "time limit" in table.runs[second.name].reason
    assert table.describe_problems() == []


def test_a_terminal_does_not_act_on_what_a_log_holds(digits_root, tmp_path, cluster):
    directory = new_run(tmp_path, digits_root)
    submitted(tmp_path, (directory.name,))
    write_log(tmp_path, "43", "\x1b[2J\x1b]0;title\x07no\r\n")
    cluster("squeue", "43|N/A|43|FAILED|None|N/A|N/A|n1|grid-ab\n")
    (status,) = run_status.collect(tmp_path, [directory.name]).runs.values()
    assert status.reason.isprintable() and "no; status logs" in status.reason


def test_a_failed_aggregator_is_shown_until_tables_are_made(digits_root, tmp_path, cluster):
    outputs = tmp_path / "outputs"
    new_run(outputs, digits_root)
    submitted(outputs, (), name="aggregate-grid-ab", job="44")
    write_log(outputs, "44", "dc_hpc: --data is not there\n")
    cluster("squeue", "44|N/A|44|FAILED|NonZeroExitCode|N/A|N/A|n1|aggregate-grid-ab\n")
    shown = run_command("status", cwd=tmp_path, check=0).stdout
    assert "! aggregator 44 failed: dc_hpc: --data is not there (log: " in shown
    found = json.loads(run_command("status", "--json", cwd=tmp_path, check=0).stdout)
    assert [one["task"] for one in found["failed_aggregators"]] == ["44"]
    cluster("squeue", "")
    assert "! aggregator 44" in run_command("status", cwd=tmp_path, check=0).stdout, "the log is enough"
    (outputs / "report.html").touch()
    assert "aggregator" not in run_command("status", cwd=tmp_path, check=0).stdout


def test_a_part_that_was_refused_is_shown_as_not_submitted(digits_root, tmp_path, cluster):
    outputs = tmp_path / "outputs"
    first, second, third = (new_run(outputs, digits_root, seed=seed) for seed in (1, 2, 3))
    submitted(outputs, (first.name,))
    submitted(outputs, (second.name,), name="grid-cd", job="")
    cluster("squeue", "43|N/A|43|PENDING|Resources|N/A|N/A||grid-ab\n")
    table = run_status.collect(outputs, [first.name, second.name, third.name])
    assert table.runs[first.name].state == "queued"
    assert [table.runs[one.name].reason[:13] for one in (second, third)] == ["not submitted", "not submitted"]
    assert "! 2 of 3 runs not submitted: SLURM did not take" in run_command("status", cwd=tmp_path, check=0).stdout


def test_sacct_is_asked_for_a_task_that_left_squeue_while_a_sibling_lives(digits_root, tmp_path, cluster):
    first, second = (new_run(tmp_path, digits_root, seed=seed) for seed in (1, 2))
    submitted(tmp_path, (first.name,), (second.name,))
    cluster("squeue", "43|1|45|RUNNING|None|N/A|N/A|n1|grid-ab\n")
    asked = []
    accounted = [Task("43_0", "grid-ab", 0, "OUT_OF_MEMORY")]
    table = run_status.collect(
        tmp_path, [first.name, second.name], accounted=lambda names, clusters: asked.append(names) or accounted
    )
    assert asked == [["grid-ab"]] and "43_0 ran out of memory before the run began" in table.runs[first.name].reason
    cluster("squeue", "43|0|44|RUNNING|None|N/A|N/A|n1|grid-ab\n43|1|45|RUNNING|None|N/A|N/A|n1|grid-ab\n")
    run_status.collect(tmp_path, [first.name, second.name], accounted=lambda names, clusters: asked.append(names) or [])
    assert asked == [["grid-ab"], []], "no question about tasks that squeue lists"


@pytest.mark.parametrize(
    "start, has_begun, words",
    [
        (120, True, "requeued, starts again in about 2 minutes"),
        (120, False, "starts in about 2 minutes"),
        (5, True, "requeued, starts again within a minute"),
        (3600, False, "starts in about 60 minutes"),
        (None, True, "requeued, starts again in about 2 minutes"),
        (None, False, "starts at its begin time"),
    ],
)
def test_a_begin_time_is_read_and_not_guessed(start, has_begun, words):
    text = "N/A" if start is None else time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(time.time() + start))
    assert reason_in_words(Task("43", "grid", 0, "PENDING", "BeginTime", start=text), has_begun=has_begun) == words


def test_a_begin_time_of_tomorrow_is_a_date():
    os.environ.setdefault("TZ", "UTC")
    task = Task("43", "grid", 0, "PENDING", "BeginTime", start="2999-01-02T03:04:05")
    assert reason_in_words(task, has_begun=False) == "starts at 2999-01-02 03:04"


def test_a_held_task_names_the_way_out():
    held = Task("43_1", "grid", 1, "PENDING", "launch_failed_requeued_held")
    assert "scontrol release 43_1" in reason_in_words(held, has_begun=False)
