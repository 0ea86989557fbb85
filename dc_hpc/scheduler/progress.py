"""The progress of local runs on the terminal, read from the run directories and never from the jobs' pickles."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import submitit
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from dc_hpc.storage import run_directory
from dc_hpc.storage.run_directory import RunState

_LOOK_SECONDS = 1.0
# Without a terminal (a log file, CI) an unchanged count is printed at most this often.
_LINE_SECONDS = 20.0


def watch(job: submitit.Job[Any], directories: Sequence[Path]) -> None:
    """Show the progress of the runs until their job has ended."""
    lengths = {directory: max(run_directory.read_config(directory).cycles, 1) for directory in directories}
    if sys.stdout.isatty():
        _watch_live(job, lengths)
    else:
        _watch_in_lines(job, lengths)


def wait_for_end(job: submitit.Job[Any]) -> None:
    """Wait until a job has ended."""
    while not job.done():
        time.sleep(0.2)


def print_outcome(directories: Sequence[Path], folder: Path) -> int:
    """Print how the runs ended and why the failed ones failed. Returns the number of runs that are not done."""
    states = {directory: run_directory.state_of(directory) for directory in directories}
    done = sum(state.name == "done" for state in states.values())
    print(f"{done} of {len(states)} runs done")
    for directory, state in states.items():
        if state.name == "failed":
            print(f"  failed: {directory.name}: {state.reason}\n    traceback: {_last_error(directory)}")
        elif state.name != "done":
            print(f"  {state.name}: {directory.name}; the log of its job is in {folder}")
    return len(states) - done


def _watch_live(job: submitit.Job[Any], lengths: dict[Path, int]) -> None:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(), refresh_per_second=4) as display:
        total = display.add_task("cycles of all runs", total=sum(lengths.values()))
        rows: dict[Path, TaskID] = {}
        while True:
            ended = job.done()
            states = {directory: run_directory.state_of(directory) for directory in lengths}
            display.update(total, completed=_cycles(states, lengths))
            for directory, state in states.items():
                _show_row(display, rows, directory, state, lengths[directory])
            if ended:
                return
            time.sleep(_LOOK_SECONDS)


def _show_row(display: Progress, rows: dict[Path, TaskID], directory: Path, state: RunState, length: int) -> None:
    """Show a row for a run while it runs."""
    if state.name == "running":
        if directory not in rows:
            rows[directory] = display.add_task(f"  {directory.name}", total=length)
        display.update(rows[directory], completed=state.cycles_done)
    elif directory in rows:
        display.remove_task(rows.pop(directory))


def _watch_in_lines(job: submitit.Job[Any], lengths: dict[Path, int]) -> None:
    started, printed, before = time.monotonic(), -_LINE_SECONDS, -1
    while True:
        ended = job.done()
        states = {directory: run_directory.state_of(directory) for directory in lengths}
        done = sum(state.name == "done" for state in states.values())
        now = time.monotonic()
        if done != before or now - printed >= _LINE_SECONDS or ended:
            print(
                f"{now - started:6.0f} s  {done} of {len(lengths)} runs done, {_cycles(states, lengths)} of "
                f"{sum(lengths.values())} cycles",
                flush=True,
            )
            printed, before = now, done
        if ended:
            return
        time.sleep(_LOOK_SECONDS)


def _cycles(states: dict[Path, RunState], lengths: dict[Path, int]) -> int:
    """The finished cycles of all runs; a run that is done counts all of its cycles."""
    return sum(lengths[run] if state.name == "done" else state.cycles_done for run, state in states.items())


def _last_error(directory: Path) -> Path:
    return max((directory / "attempts").glob("*.error"), default=directory / "attempts")
