"""`status`: the states of all runs as text or JSON, once or again and again."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dc_hpc.cli import DataOption, OutputsOption
from dc_hpc.errors import InputError
from dc_hpc.scheduler.tasks.words import duration, number_of_runs
from dc_hpc.status.chosen import GridOption, chosen_runs
from dc_hpc.storage import run_directory

if TYPE_CHECKING:
    from dc_hpc.scheduler.run_status import RunStatus
    from dc_hpc.status.view import StatusView

_LISTED = 20
_DONE_LISTED = 10
_SHOWN_UNASKED = ("running", "resumable", "failed")


def status(
    context: typer.Context,
    grid: GridOption = None,
    state: Annotated[
        list[str] | None,
        typer.Option("--state", metavar="STATE", help="List the runs in this state. May be given several times."),
    ] = None,
    show_all: Annotated[bool, typer.Option("--all", help="List all runs of each state, not only some.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Print again and again while runs compute.")] = False,
    interval: Annotated[
        float,
        typer.Option("--interval", metavar="SECONDS", min=1, max=86_400, help="--watch: seconds between two looks."),
    ] = 30.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
    outputs: OutputsOption = Path("outputs"),
    data: DataOption = Path("data"),
) -> None:
    """Show the runs by state, their progress and results.

    Failed runs are listed with the reason. Reads only.
    """
    if context.invoked_subcommand:
        _check_options_before(context, context.invoked_subcommand)
        return
    from dc_hpc.status import view

    runs, states = chosen_runs(grid, outputs, data), _known_states(state or [])
    watched = view.Watch(outputs, runs)

    def look() -> tuple[str, bool]:
        found = watched.look()
        text = view.as_json(found, states) if as_json else "\n".join(_lines(found, outputs, states, show_all=show_all))
        return text, any(run.is_active for run in found.table.runs.values())

    if watch:
        _watch(look, interval, timed=not as_json)
    else:
        print(look()[0])


def _check_options_before(context: typer.Context, name: str) -> None:
    """InputError about an option of `status` that stands before a sub-command, which would not see it."""
    for param in context.command.params:
        source = context.get_parameter_source(param.name or "")
        if source is None or source.name != "COMMANDLINE":
            continue
        flag, path = param.opts[0], context.command_path
        sub = context.command.get_command(context, name)  # type: ignore[attr-defined]
        if any(flag in one.opts for one in sub.params):
            raise InputError(f"{flag} belongs after {name}: {path} {name} {flag} ...")
        raise InputError(f"{flag} is no option of {name}; leave it out. The options of {name}: {path} {name} --help")


def _known_states(states: Sequence[str]) -> list[str]:
    from dc_hpc.scheduler.run_status import STATES

    for one in states:
        if one not in STATES:
            raise InputError(f"--state {one!r} is not allowed; allowed: {', '.join(STATES)}")
    return list(states)


def _watch(look: Callable[[], tuple[str, bool]], interval: float, *, timed: bool) -> None:
    """Print what `look` returns while it says that runs are active: in place on a terminal, else one after the other.

    timed: print the time above each.
    """
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console()
    in_place = console.is_terminal and not console.is_dumb_terminal
    with Live(console=console, auto_refresh=False, vertical_overflow="ellipsis") if in_place else _NoLive() as live:
        while True:
            text, active = look()
            text = f"{time.strftime('%Y-%m-%d %H:%M:%S')}\n{text}" if timed else text
            if isinstance(live, Live):
                live.update(Text(text), refresh=True)
            else:
                print(text, end="\n\n" if active and timed else "\n", flush=True)
            if not active:
                return
            time.sleep(interval)


class _NoLive:
    """Stands in for rich's Live where the output is no terminal."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


def _lines(view: StatusView, outputs: Path, states: Sequence[str], *, show_all: bool) -> list[str]:
    """The status as lines of text."""
    problems = [f"! {line}" for line in view.table.describe_problems()]
    if not view.table.runs:
        place = run_directory.runs_folder(outputs)
        submit = "python -m dc_hpc.submit --grid jobs/fmnist_demo.yaml"
        return [*problems, f"no run in {place}; submit some: {submit}"]
    lines = [*_count_lines(view), *problems]
    most = sys.maxsize if show_all or states else _LISTED
    if states:
        for state in dict.fromkeys(states):
            lines += _run_lines(view, state, most) if state != "done" else _done_lines(view, most)
        return lines
    for state in _SHOWN_UNASKED:
        lines += _run_lines(view, state, most)
    lines += [f"  {line}" for line in view.table.describe_diverged()]
    lines += _queued_lines(view, most)
    return lines + _done_lines(view, most if show_all else _DONE_LISTED)


def _count_lines(view: StatusView) -> list[str]:
    """The states, the damage, and the time that was needed and is left."""
    table, measured, left = view.table, view.measured, view.left
    no_cluster = table.submissions and not table.cluster
    where = " (no SLURM answers here; this is from the run directories alone)" if no_cluster else ""
    lines = [f"{table.describe_counts()} of {len(table.runs)} runs{where}"]
    lines += [f"! {line}; this record of a job is lost, its runs are not" for line in table.warnings]
    unreadable = [
        f"{name}/config.json: its settings cannot be read"
        for name, length in view.lengths.items()
        if not length and table.runs[name].state != "new"
    ]
    lines += _damage_lines([*unreadable, *measured.warnings])
    cycles = sum(length.cycles for length in view.lengths.values() if length)
    gpu = f", {measured.gpu_hours:.2f} GPU-hours" if measured.gpu_hours else ""
    computed = duration(measured.hours * 3600)
    lines.append(f"{cycles - left.cycles} of {cycles} cycles; {computed} computed{gpu}")
    unfinished = any(run.state != "done" for run in table.runs.values())
    return lines + ([_left_line(view)] if unfinished else [])


def _left_line(view: StatusView) -> str:
    """What is still to compute, in words; unknown where nothing like it was measured."""
    left, measured, running = view.left, view.measured, view.table.counts()["running"]
    doubts = left.doubts()
    if left.seconds is None:
        return f"left: unknown; {doubts}"
    text = f"left: {left.at_least()}{duration(left.seconds)} of computing"
    if measured.gpu_hours and measured.hours:  # with as many GPUs for an hour as so far
        text += f" ({left.seconds / 3600 * measured.gpu_hours / measured.hours:.2f} GPU-hours)"
    elapsed = left.elapsed(running)
    if running and elapsed is not None:
        text += f"; ready in {left.at_least() or 'about '}{duration(elapsed)} with {running} running"
    return f"{text}; {doubts}" if doubts else text


def _damage_lines(damage: list[str]) -> list[str]:
    if not damage:
        return []
    more = f"and {len(damage) - _LISTED} more such lines; " if len(damage) > _LISTED else ""
    shown = [f"! {line}" for line in damage[:_LISTED]]
    return [*shown, f"  {more}python -m dc_hpc.status check names everything that is damaged"]


def _run_lines(view: StatusView, state: str, most: int) -> list[str]:
    """A line for each run in a state other than done."""
    runs = [run for run in view.table.runs.values() if run.state == state]
    lines = [f"  {run.state:<9}  {run.name}  {_cycles(view, run)}  {_words(view, run)}".rstrip() for run in runs[:most]]
    return lines + ([f"  and {len(runs) - most} more {state} (--state {state})"] if len(runs) > most else [])


def _words(view: StatusView, run: RunStatus) -> str:
    """What a run does now, when it will be done and where it is; or the reason of its state."""
    progress = view.progress.get(run.name)
    if progress is None:
        return run.reason
    left = view.seconds_left(run)
    eta = "unknown" if left is None else duration(left)
    return ", ".join(filter(None, (progress.phase, f"ETA {eta}", run.reason)))


def _queued_lines(view: StatusView, most: int) -> list[str]:
    """A line for each reason why runs wait in the queue."""
    waiting = Counter(run.reason for run in view.table.runs.values() if run.state == "queued")
    lines = [f"  queued     {number_of_runs(count)}  {reason}" for reason, count in list(waiting.items())[:most]]
    return lines + ([f"  and {len(waiting) - most} more tasks"] if len(waiting) > most else [])


def _done_lines(view: StatusView, most: int) -> list[str]:
    """A table of the runs that are done, those that finished last first."""
    done = [run for run in view.table.runs.values() if run.state == "done"]
    done.sort(key=lambda run: (-view.totals(run.name).finished, run.name))
    if not done:
        return []
    width = max(len(run.name) for run in done[:most])
    lines = [f"  {'done':<{width}}  {'cycles':>7}  {'IA':>6}  {'accuracy %':>10}  {'computed':>9}"]
    for run in done[:most]:
        result = run.result or {}
        lines.append(
            f"  {run.name:<{width}}  {_cycles(view, run):>7}  {_number(result.get('ia'), 4):>6}  "
            f"{_accuracy(run):>10}  {duration(view.totals(run.name).seconds):>9}"
        )
    return lines + ([f"  and {len(done) - most} more done (--state done)"] if len(done) > most else [])


def _cycles(view: StatusView, run: RunStatus) -> str:
    """`3/5`; `IA only` for a run that trains nothing; `?` for what is unknown where the settings cannot be read."""
    done, cycles = view.cycles_of(run)
    if cycles is None:
        return "?/?" if run.state == "done" else f"{done}/?"
    return "IA only" if cycles == 0 else f"{done}/{cycles}"


def _accuracy(run: RunStatus) -> str:
    found = _number((run.result or {}).get("accuracy"), 2)
    return "diverged" if found == "-" and run.reason.startswith("diverged") else found


def _number(value: object, digits: int) -> str:
    return f"{value:.{digits}f}" if isinstance(value, int | float) else "-"
