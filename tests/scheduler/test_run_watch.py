"""What is shown of runs that compute: the ETA by hand, and the lines and tables."""

import io
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from support.small_runs import new_run

from dc_hpc.experiment.execution import Execution
from dc_hpc.experiment.run import run
from dc_hpc.scheduler import progress
from dc_hpc.scheduler.estimates import CPU, Length, MeasuredTimes
from dc_hpc.scheduler.run_watch import GridProgress, RunWatch, WatchedRun
from dc_hpc.storage import run_directory, run_progress
from dc_hpc.storage.run_directory import RunState
from dc_hpc.storage.run_progress import RunProgress

KIND = ("fmnist", "lenet5", CPU)
TIMES = MeasuredTimes({KIND: 10.0}, {KIND: {5: 4.0}}, {KIND: 6.0}, {KIND: 1.0})
LENGTH = Length("fmnist", "lenet5", 5, cycles=4, trainings=4, until=2, layers=2)


@pytest.mark.parametrize(
    "done, running, seconds",
    [
        (0, None, 1 + 2 * 4 + 4 * 10 + 2 * 6),
        (0, RunProgress("loading"), 1 + 2 * 4 + 4 * 10 + 2 * 6),
        (0, RunProgress("clustering"), 2 * 4 + 4 * 10 + 2 * 6),
        (0, RunProgress("training", 3, 4), 4 + 4 * 10 - 7.5 + 2 * 6),
        (3, RunProgress("training", 1, 2, cycle=3), 5 + 2 * 6),  # halted: no clustering to leave out
        (4, RunProgress("probe", 10, 40, cycle=4), 9),
    ],
)
def test_the_time_that_a_running_run_needs_by_hand(done, running, seconds):
    assert TIMES.left_of_running(LENGTH, done, CPU, running) == seconds


def test_nothing_measured_is_unknown_and_a_run_is_the_best_measure_of_itself():
    assert MeasuredTimes().left_of_running(LENGTH, 0, CPU, RunProgress("training", 1, 2)) is None
    own = MeasuredTimes(training={KIND: 1.0}, clustering={KIND: {7: 2.0}})
    refined = TIMES.refined_by(own)
    assert refined.training == {KIND: 1.0} and refined.clustering == {KIND: {5: 4.0, 7: 2.0}}
    assert refined.probing == TIMES.probing and MeasuredTimes().refined_by(own).clustering == own.clustering


def test_runs_are_watched_in_their_directories(digits_root, tmp_path):
    """One run is done and two are not; the times of the first are the estimates of the others."""
    directories = [new_run(tmp_path, digits_root, seed=seed) for seed in (1, 2, 3)]
    watched = RunWatch(directories, tmp_path, slots=2)
    assert watched.look().summary() == "0 of 3 runs done, 0 running, 3 waiting, 0 failed; 0/9 cycles; ETA unknown"
    assert run(directories[0], Execution(str(digits_root))) == "done"
    number = run_directory.start_attempt(directories[1], {"gpu": False})
    run_progress.write(directories[1], number, RunProgress("training", 3, 12, cycle=1, nmi=0.5, loss=1.25))
    watched = RunWatch(directories, tmp_path, slots=2)
    grid = watched.look()
    assert grid.summary().startswith("1 of 3 runs done, 1 running, 1 waiting, 0 failed; 3/9 cycles; ETA ")
    (running,) = grid.running
    assert (running.phase, running.cycle) == ("training batch 4 of 12", "2/3")
    assert grid.seconds_left is not None and 0 < running.seconds_left < grid.seconds_left * 2
    run_directory.fail_attempt(directories[1], number, ValueError("bad"), "")
    assert watched.look().running == []


def shown(count: int, left: float | None = 700.0) -> GridProgress:
    states = {Path(f"fmnist-k20-seed{i}-dc3711b316f2"): RunState("running", 12) for i in range(count)}
    where = RunProgress("training", 119, 938, cycle=12, nmi=0.4123, loss=2.3456)
    running = [WatchedRun(one.name, state, 50, where, left) for one, state in states.items()]
    return GridProgress(states, running, 12 * count, 50 * count, left)


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits_the_screen(width):
    console = Console(width=width, height=24, record=True, file=io.StringIO(), force_terminal=True)
    console.print(progress._screen(shown(100), console.height))
    lines = console.export_text().splitlines()
    assert len(lines) < 24 and max(map(len, lines)) <= width
    assert re.sub(r"\s+", " ", " ".join(lines[:2])).startswith(shown(100).summary())
    row = next(line for line in lines if "seed0-" in line)
    assert row.split() == [row.split()[0], "training", "120/938", "13/50", "0.412", "2.346", "12", "min"]
    assert lines[-1] == f"and {100 - (24 - progress._OTHER_LINES)} more that are running"


def test_a_line_names_the_first_runs_and_counts_the_others():
    line = progress._line(shown(6, left=None))
    assert line.startswith("0 of 6 runs done, 6 running, 0 waiting, 0 failed; 72/300 cycles; ETA unknown | fmnist-k20-")
    assert "seed0-dc3711b316f2 cycle 13/50 training batch 120 of 938, NMI 0.412, loss 2.346, ETA unknown |" in line
    assert line.endswith("| and 2 more") and "\n" not in line


class Job:
    """A job that ends after so many looks."""

    def __init__(self, looks):
        self.looks = looks

    def done(self):
        self.looks -= 1
        return self.looks < 0


def test_lines_are_printed_once_a_minute_and_when_a_run_ends(monkeypatch, capsys):
    clock = iter(range(0, 10_000, 20))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    first = shown(2)
    failed = replace(first, states=dict(zip(first.states, [RunState("failed", reason="Boom: x"), RunState("running")])))
    looks = iter([first] * 3 + [failed] * 6)

    class Watched:
        def look(self):
            return next(looks)

    progress._watch_in_lines(Job(8), Watched())
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" s ")[0].strip() for line in lines] == ["20", "80", "80", "140", "180"]
    assert sum("failed: fmnist-k20-seed0-dc3711b316f2: Boom: x" in line for line in lines) == 1
