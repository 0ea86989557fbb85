"""How often SLURM is asked: `status --watch` of an array of 100 tasks for an hour, and the tasks themselves.

The commands of SLURM are stand-ins that note each call; the clock of the hour is a fake one.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from types import SimpleNamespace

import pytest
from support.commands import REPOSITORY
from support.small_runs import new_run

from dc_hpc.scheduler import slurm, submissions
from dc_hpc.scheduler.submissions import Submission
from dc_hpc.scheduler.tasks import polling
from dc_hpc.scheduler.worker import TaskPayload
from dc_hpc.status import table, view
from dc_hpc.storage import run_directory

TASKS = 100


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """Stand-ins that note their calls and print files of the same name; returns the number of calls by command."""
    (tmp_path / "bin").mkdir()
    for name in ("squeue", "sacct", "scontrol"):
        (tmp_path / f"{name}.txt").write_text("")
        (tmp_path / "bin" / name).write_text(
            f"#!/bin/sh\necho {name} $1 >> {tmp_path / 'calls'}\nexec /bin/cat {tmp_path / name}.txt\n"
        )
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "calls").touch()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return lambda: Counter(line.split()[0] for line in (tmp_path / "calls").read_text().splitlines())


@pytest.fixture
def clock(monkeypatch):
    """A list with the time that time.monotonic tells."""
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


@pytest.fixture
def array(tmp_path, digits_root, commands):
    """An array of 100 tasks: ten have left squeue, of which sacct knows five; the others run or wait."""
    outputs = tmp_path / "outputs"
    runs = [new_run(outputs, digits_root, seed=seed).name for seed in range(TASKS)]
    packs = tuple((run,) for run in runs)
    submissions.write(outputs, Submission("grid-ab", str(outputs / "slurm" / "grid"), packs, minutes=10, job="43"))
    number = run_directory.start_attempt(outputs / "runs" / runs[-1], {"slurm": {"slurm_array_job_id": "43"}})
    assert number == 1
    queue = "".join(
        f"43|{index}|{index}|{'RUNNING' if index < 50 else 'PENDING'}|None|N/A|N/A|n1|grid-ab\n"
        for index in range(10, TASKS)
    )
    (tmp_path / "squeue.txt").write_text(queue)
    (tmp_path / "sacct.txt").write_text(
        "".join(f"43_{index}|grid-ab|FAILED|n1\n" for index in range(5)) + "43_10|grid-ab|RUNNING|n1\n"
    )
    return outputs, runs


def watch_for_an_hour(array, clock, monkeypatch, interval):
    """`status --watch` until the fake clock has gone on for an hour; returns the number of screens."""
    outputs, runs = array
    watched, screens = view.Watch(outputs, dict.fromkeys(runs)), []

    def look():
        screens.append(watched.look().table.counts())
        return "", clock[0] < 3600

    def sleep(seconds):
        clock[0] += seconds

    monkeypatch.setattr(table, "time", SimpleNamespace(sleep=sleep, strftime=time.strftime))
    table._watch(look, interval, timed=False)
    wrong = [(number, one) for number, one in enumerate(screens) if one["failed"] != 5 or one["queued"] < 85]
    assert not wrong, str(wrong[:2])
    return len(screens)


@pytest.mark.parametrize("interval, screens", [(30, 121), (10, 361)])
def test_an_hour_of_watching(array, commands, clock, monkeypatch, capsys, interval, screens):
    """At most one squeue in half a minute and one sacct a minute, whatever the interval of the screen."""
    assert watch_for_an_hour(array, clock, monkeypatch, interval) == screens
    calls = commands()
    with capsys.disabled():
        print(f"\n100 tasks, an hour of status --watch --interval {interval}: {dict(calls)}")
    assert 100 <= calls["squeue"] <= 121 and 50 <= calls["sacct"] <= 61 and calls["scontrol"] == 0


def test_a_slow_controller_is_asked_less_often(array, commands, clock, monkeypatch):
    """An answer that takes 10 s is asked for again after five minutes."""
    ask = slurm.tasks

    def slow(clusters):
        clock[0] += 10
        return ask(clusters)

    monkeypatch.setattr(slurm, "tasks", slow)
    watch_for_an_hour(array, clock, monkeypatch, 30)
    assert 8 <= commands()["squeue"] <= 12


def test_a_controller_that_is_away_is_asked_less_and_less(clock, monkeypatch):
    """The last answer counts for a quarter of an hour, then the status says that SLURM does not answer."""
    asked, answers = [], [[slurm.Task("43_0", "grid-ab", 0, "RUNNING")]]
    monkeypatch.setattr(slurm, "tasks", lambda clusters: asked.append(clock[0]) or (answers.pop() if answers else None))
    queue, seen = polling.QueueWatch(), []
    while clock[0] < 3600:
        seen.append((clock[0], queue([]) is not None))
        clock[0] += 10
    assert asked[:5] == [0, 30, 90, 210, 450] and len(asked) < 10
    assert all(known == (at <= 900) for at, known in seen)


def test_a_new_submission_is_looked_for_at_once(clock, monkeypatch):
    """Its tasks are not in the answer of before, so nobody may take them for ended."""
    asked = []
    monkeypatch.setattr(slurm, "tasks", lambda clusters: asked.append(clock[0]) or [])
    queue = polling.QueueWatch()
    assert queue([]) == [] and queue([]) == [] and len(asked) == 1
    one = Submission("grid-ab", "/x", (("run",),), minutes=1, submitted=time.time() + 0.001)
    time.sleep(0.01)
    assert queue([one]) == [] and len(asked) == 2
    assert queue([one]) == [] and len(asked) == 2


def test_a_submission_from_a_machine_whose_clock_is_ahead_is_no_reason_to_ask_again_and_again(clock, monkeypatch):
    asked = []
    monkeypatch.setattr(slurm, "tasks", lambda clusters: asked.append(clock[0]) or [])
    queue = polling.QueueWatch()
    ahead = Submission("grid-ab", "/x", (("run",),), minutes=1, submitted=time.time() + 3600)
    for clock[0] in range(20):
        assert queue([ahead]) == []
    assert asked == [0]


def test_ended_jobs_are_not_asked_about_again(clock, monkeypatch):
    asked = []

    def accounted(names, clusters):
        asked.append(names)
        return [slurm.Task(f"{name}_0", name, 0, "FAILED") for name in names if name == "ended"]

    monkeypatch.setattr(slurm, "accounted", accounted)
    accounting = polling.AccountingWatch()
    for clock[0] in (0.0, 30.0, 60.0, 120.0):
        assert [task.name for task in accounting(["ended", "unknown"])] == ["ended"]
    assert asked == [["ended", "unknown"], ["unknown"], ["unknown"]]


COMPUTES = """
import sys, time
sys.path[:0] = [{tests!r}, {scheduler!r}]
from dc_hpc.experiment.execution import Execution
import test_controller_calls
test_controller_calls.Computes(({directory!r},), Execution("data"))()
"""


def _compute(directory, execution, stop):
    number = run_directory.start_attempt(directory, {})
    deadline = time.monotonic() + 120
    while not stop() and time.monotonic() < deadline:
        time.sleep(0.05)
    run_directory.update_attempt(directory, number, {"ended": "stopped"})
    return "stopped"


class Computes(TaskPayload):
    """Runs that compute until they are told to stop."""

    def run_function(self):
        return _compute


def test_a_task_asks_nothing_while_it_computes_and_twice_when_it_is_stopped(
    commands, tmp_path, digits_root, monkeypatch, capsys
):
    """Once why, and once for its place in the queue: 100 tasks that are preempted make 200 calls, and none before."""
    directory = new_run(tmp_path, digits_root)
    (tmp_path / "scontrol.txt").write_text("JobState=RUNNING PreemptTime=2026-01-01T10:00:00\n")
    code = COMPUTES.format(
        tests=str(REPOSITORY / "tests"), scheduler=str(REPOSITORY / "tests" / "scheduler"), directory=str(directory)
    )
    environment = {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY),
        "SUBMITIT_EXECUTOR": "slurm",
        "SLURM_ARRAY_JOB_ID": "43",
        "SLURM_ARRAY_TASK_ID": "7",
    }
    process = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 60
        while run_directory.state_of(directory).name != "running":
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert commands() == {}, "nothing while it computes"
        process.send_signal(signal.SIGTERM)
        while commands()["scontrol"] < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(1.5)
        calls = (tmp_path / "calls").read_text().split()
    finally:
        process.kill()
    with capsys.disabled():
        print(f"\na task that computes: 0 calls; one that is preempted: {' '.join(calls)}")
    assert calls == ["scontrol", "show", "scontrol", "requeue"]
    assert re.search("told to stop: preempted", process.communicate()[0])
