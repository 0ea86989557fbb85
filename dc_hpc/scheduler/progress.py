"""The progress of local runs on the screen, a live table on a terminal and else a line a minute; and how they ended."""

from __future__ import annotations

import shlex
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import submitit
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from dc_hpc.scheduler.run_watch import GridProgress, RunWatch, WatchedRun
from dc_hpc.scheduler.tasks.words import duration
from dc_hpc.storage import run_directory
from dc_hpc.storage.atomic_files import DamagedFile
from dc_hpc.storage.run_directory import RunState

_LOOK_SECONDS = 1.0
_LINE_SECONDS = 60.0
_RUNS_IN_A_LINE = 4
# Of a screen: two for all runs together, the head of the table, what is left out, the cursor.
_OTHER_LINES = 5
# With the lines around them these fill a terminal of 24 lines.
_LISTED_DONE, _LISTED_FAILED = 10, 3


def watch(job: submitit.Job[Any], directories: Sequence[Path], outputs: Path, *, slots: int) -> None:
    """Show the progress of the runs until their job has ended. slots: how many compute at the same time."""
    watched, console = RunWatch(directories, outputs, slots=slots), Console()
    if sys.stdout.isatty() and not console.is_dumb_terminal:
        _watch_live(job, watched, console)
    else:
        _watch_in_lines(job, watched)


def wait_for_end(job: submitit.Job[Any]) -> None:
    """Wait until a job has ended."""
    while not job.done():
        time.sleep(0.2)


def print_outcome(directories: Sequence[Path], folder: Path, outputs: Path, suggest_aggregate: bool = False) -> int:
    """Print how the runs ended and why the failed ones failed. Returns the number of runs that are not done.

    folder: of the logs. suggest_aggregate: whether to print the command that makes tables and figures.
    """
    states = {directory: run_directory.state_of(directory) for directory in directories}
    done = [directory for directory, state in states.items() if state.name == "done"]
    print(f"{len(done)} of {len(states)} runs done")
    _print_results(done)
    _print_others({one: state for one, state in states.items() if state.name != "done"}, folder, outputs)
    print(f"files: {run_directory.runs_folder(outputs)}, a folder for each run")
    if suggest_aggregate and done:
        print(f"tables and figures: python -m dc_hpc.aggregate{_outputs_option(outputs)}")
    return len(states) - len(done)


def _watch_live(job: submitit.Job[Any], watched: RunWatch, console: Console) -> None:
    with Live(console=console, auto_refresh=False, transient=True) as display:
        while True:
            ended = job.done()
            display.update(_screen(watched.look(), console.height), refresh=True)
            if ended:
                return
            time.sleep(_LOOK_SECONDS)


def _screen(grid: GridProgress, height: int) -> Group:
    """The line of all runs, and a row for each that computes, as many as the screen has lines for."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    table.add_column("run", overflow="ellipsis", no_wrap=True, ratio=1)
    table.add_column("phase", no_wrap=True, min_width=18)
    # a narrow screen cuts the names, not the numbers
    for name, width in (("cycle", 5), ("NMI", 5), ("loss", 5), ("ETA", 7)):
        table.add_column(name, no_wrap=True, justify="right", min_width=width)
    listed = grid.running[: max(height - _OTHER_LINES, 1)]
    for run in listed:
        # Text, so that no name is read as markup
        cells = (run.name, _short(run.phase), run.cycle, _nmi(run), _loss(run), _eta(run))
        table.add_row(*map(Text, cells))
    hidden = len(grid.running) - len(listed)
    parts: list[Table | Text] = [Text(grid.summary()), *([table] if listed else [])]
    return Group(*parts, *([Text(f"and {hidden} more that are running")] if hidden else []))


def _watch_in_lines(job: submitit.Job[Any], watched: RunWatch) -> None:
    started, printed = time.monotonic(), -_LINE_SECONDS
    before: dict[Path, RunState] = {}
    while True:
        ended = job.done()
        grid, now = watched.look(), time.monotonic()
        for directory, state in grid.states.items():
            if state != before.get(directory) and state.name in ("done", "failed"):
                why = state.reason if state.name == "failed" else _result_in_words(directory)
                print(f"{now - started:6.0f} s  {state.name}: {directory.name}: {why}".rstrip(": "), flush=True)
        if now - printed >= _LINE_SECONDS or ended:
            print(f"{now - started:6.0f} s  {_line(grid)}", flush=True)
            printed = now
        before = grid.states
        if ended:
            return
        time.sleep(_LOOK_SECONDS)


def _line(grid: GridProgress) -> str:
    """All runs, and the first few of those that compute, in one line."""
    parts = [grid.summary()]
    for run in grid.running[:_RUNS_IN_A_LINE]:
        numbers = [f"NMI {_nmi(run)}"] if _nmi(run) else []
        numbers += [f"loss {_loss(run)}"] if _loss(run) else []
        parts.append(", ".join([f"{run.name} cycle {run.cycle} {run.phase}", *numbers, f"ETA {_eta(run)}"]))
    if len(grid.running) > _RUNS_IN_A_LINE:
        parts.append(f"and {len(grid.running) - _RUNS_IN_A_LINE} more")
    return " | ".join(parts)


def _short(phase: str) -> str:
    """`training 120/938`: the phase in a narrow column."""
    return phase.replace(" batch ", " ").replace(" epoch ", " ").replace(" of ", "/")


def _nmi(run: WatchedRun) -> str:
    value = run.progress.nmi if run.progress else None
    return "" if value is None else f"{value:.3f}"


def _loss(run: WatchedRun) -> str:
    value = run.progress.loss if run.progress else None
    return "" if value is None else f"{value:.3f}"


def _eta(run: WatchedRun) -> str:
    return "unknown" if run.seconds_left is None else duration(run.seconds_left)


def _result_in_words(directory: Path) -> str:
    """`IA 0.412, accuracy 79.12 %` of a run that is done; "" where its result has neither."""
    result = _result(directory)
    words = [f"IA {_ia(result)}"] if _ia(result) else []
    words += [f"accuracy {_accuracy(result)} %"] if _accuracy(result) else []
    return ", ".join(words)


def _outputs_option(outputs: Path) -> str:
    """` --outputs FOLDER` for a command that shall look there, "" where it looks by itself."""
    return "" if outputs == Path("outputs") else f" --outputs {shlex.quote(str(outputs))}"


def _print_results(done: Sequence[Path]) -> None:
    if not done:
        return
    listed = done[:_LISTED_DONE]
    width = max(len(directory.name) for directory in listed)
    print(f"  {'run':<{width}}  {'IA':>6}  accuracy")
    for directory in listed:
        result = _result(directory)
        accuracy = (
            f"{_accuracy(result)} %"
            if _accuracy(result)
            else "diverged"
            if result.get(run_directory.PROBE_DIVERGED)
            else "-"
        )
        print(f"  {directory.name:<{width}}  {_ia(result) or '-':>6}  {accuracy:>8}")
    if len(done) > len(listed):
        print(f"  and {len(done) - len(listed)} more that are done")


def _print_others(others: dict[Path, RunState], folder: Path, outputs: Path) -> None:
    failed = {directory: state for directory, state in others.items() if state.name == "failed"}
    for directory, state in list(failed.items())[:_LISTED_FAILED]:
        print(f"  failed: {directory.name}: {state.reason}\n    traceback: {_last_error(directory)}")
        print(f"    its log: python -m dc_hpc.status logs {directory.name}{_outputs_option(outputs)}")
    if len(failed) > _LISTED_FAILED:
        print(f"  and {len(failed) - _LISTED_FAILED} more failed")
    stopped = Counter(state.name for state in others.values() if state.name != "failed")
    if stopped:
        print(f"  {', '.join(f'{count} {name}' for name, count in stopped.items())}; the logs are in {folder}")


def _result(directory: Path) -> dict[str, Any]:
    try:
        return run_directory.read_result(directory)
    except (DamagedFile, OSError):
        return {}


def _ia(result: dict[str, Any]) -> str:
    value = result.get("ia")
    return f"{value:.3f}" if isinstance(value, int | float) else ""


def _accuracy(result: dict[str, Any]) -> str:
    value = result.get("accuracy")
    return f"{value:.2f}" if isinstance(value, int | float) else ""


def _last_error(directory: Path) -> Path:
    return max((directory / "attempts").glob("*.error"), default=directory / "attempts")
