"""python -m dc_hpc.status: the status of all runs, with or without a cluster; and `logs RUN`, `check` and `cancel`."""

from __future__ import annotations

import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dc_hpc.cli import DataOption, OutputsOption, new_app, run_cli
from dc_hpc.config.grid import read_grid
from dc_hpc.errors import InputError
from dc_hpc.storage import run_directory

if TYPE_CHECKING:
    from dc_hpc.scheduler.estimates import Estimate, Length, MeasuredTimes
    from dc_hpc.scheduler.run_status import RunStatus, RunStatusTable

_LISTED, _WATCH_SECONDS = 20, 5.0

GridOption = Annotated[
    list[Path] | None,
    typer.Option("--grid", "-g", metavar="FILE", help="Only the runs of this grid. May be given several times."),
]

app = new_app()


@app.callback(invoke_without_command=True)
def status(
    context: typer.Context,
    grid: GridOption = None,
    watch: Annotated[bool, typer.Option("--watch", help="Print again every few seconds while runs compute.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
    outputs: OutputsOption = Path("outputs"),
    data: DataOption = Path("data"),
) -> None:
    """Show the runs by state and their progress. Reads only.

    Failed runs are listed with the reason.
    """
    if context.invoked_subcommand:
        return
    from dc_hpc.scheduler import run_status

    names = _names(grid, outputs, data)
    while True:
        table = run_status.collect(outputs, names)
        _print(table, outputs, as_json=as_json)
        if not watch or not any(run.is_active for run in table.runs.values()):
            return
        sys.stdout.flush()
        time.sleep(_WATCH_SECONDS)


@app.command()
def logs(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The name of a run, or a unique beginning of it.")],
    outputs: OutputsOption = Path("outputs"),
) -> None:
    """Print the log of one run.

    It is the output of its task, and the traceback if its last attempt failed.
    """
    from dc_hpc.scheduler import run_status, submissions

    name = _one_run(run, outputs)
    found = run_status.task_of(name, submissions.read_all(outputs))
    paths = [run_status.log_of(*found, ending) for ending in ("out", "err")] if found else []
    paths += sorted((run_directory.runs_folder(outputs) / name / "attempts").glob("*.error"))[-1:]
    existing = [path for path in paths if path.exists()]
    for path in existing:
        print(f"== {path}\n{path.read_text('utf-8', 'replace')}", end="")
    if not existing:
        print(f"{name} has no log of a cluster and no error; local logs are in {outputs / 'slurm'}")


@app.command()
def check(
    grid: GridOption = None,
    quarantine: Annotated[
        bool,
        typer.Option("--quarantine", help="Move damaged files to quarantine/; submit then computes these runs again."),
    ] = False,
    put_aside: Annotated[bool, typer.Option("--put-aside", hidden=True)] = False,  # the name that --quarantine had
    outputs: OutputsOption = Path("outputs"),
    data: DataOption = Path("data"),
) -> None:
    """Read every file of these runs and name the damaged ones. The exit code is 1 if there is one."""
    from dc_hpc.storage.integrity import damaged_files, quarantine_damaged

    names, count = _names(grid, outputs, data), 0
    quarantine = quarantine or put_aside
    for directory in (run_directory.runs_folder(outputs) / name for name in names):
        damaged = list(damaged_files(directory)) if directory.is_dir() else []
        for error in damaged:
            print(error)
        if damaged and quarantine:
            quarantine_damaged(directory, damaged)
        count += bool(damaged)
    print(
        f"{count} of {len(names)} runs are damaged"
        + (" and now in quarantine/: submit them again" if count and quarantine else "")
    )
    raise typer.Exit(1 if count else 0)


@app.command()
def cancel(
    runs: Annotated[list[str] | None, typer.Argument(metavar="RUN", help="Names of runs; several are allowed.")] = None,
    grid: GridOption = None,
    outputs: OutputsOption = Path("outputs"),
    data: DataOption = Path("data"),
) -> None:
    """Cancel the tasks of these runs and no others. Finished cycles are kept, and submit continues from them."""
    from dc_hpc.scheduler import run_status, slurm

    if bool(runs) == bool(grid):
        raise InputError("give either --grid G or the names of runs")
    names = [_one_run(run, outputs) for run in runs] if runs else _names(grid, outputs, data)
    table = run_status.collect(outputs, names)
    if not table.cluster:
        raise InputError("no SLURM answers here, so nothing can be cancelled; local runs end with Ctrl-C or kill")
    tasks = {run.task.id: run.task for run in table.runs.values() if run.task and run.task.is_active}
    slurm.cancel(list(tasks.values()))
    with_others = {task.id: _others(task.name, task.index, names, table) for task in tasks.values()}
    for task in tasks.values():
        more = f" (with {', '.join(with_others[task.id])} in the same task)" if with_others[task.id] else ""
        print(f"cancelled {task.id}, which was {task.state.lower()}{more}")
    idle = sum(1 for run in table.runs.values() if not (run.task and run.task.is_active))
    print(f"{len(tasks)} tasks cancelled; {idle} of {len(names)} runs had none in the queue")


def _others(job: str, index: int, names: list[str], table: RunStatusTable) -> list[str]:
    """The runs of a task that are not in `names`."""
    return [run for one in table.submissions if one.name == job for run in one.runs[index] if run not in names]


def _names(grids: list[Path] | None, outputs: Path, data: Path) -> list[str]:
    if not grids:
        return [directory.name for directory in run_directory.run_directories(outputs)]
    return [name for path in grids for name in read_grid(path, data_root=data.expanduser().resolve()).runs]


def _one_run(text: str, outputs: Path) -> str:
    names = [directory.name for directory in run_directory.run_directories(outputs)]
    found = [text] if text in names else [name for name in names if name.startswith(text)]
    if len(found) != 1:
        why = (
            f"{len(found)} runs begin with it, e.g. {', '.join(found[:3])}"
            if found
            else f"no run in {outputs} begins with it"
        )
        raise InputError(f"run {text!r}: {why}; {run_directory.runs_folder(outputs)} has a folder for each run")
    return found[0]


def _print(table: RunStatusTable, outputs: Path, *, as_json: bool) -> None:
    from dc_hpc.scheduler import estimates

    lengths = {name: estimates.read_length(run_directory.runs_folder(outputs) / name) for name in table.runs}
    measured = estimates.measure(outputs, table, lengths)
    unfinished = [
        (length, run.cycles_done, measured.device_of(run.name))
        for run in table.runs.values()
        if run.state != "done" and (length := lengths[run.name])
    ]
    left = estimates.estimate(measured, unfinished)
    if as_json:
        print(estimates.as_json(table, measured, left))
    elif not table.runs:
        print(
            f"no run in {run_directory.runs_folder(outputs)}; submit some: python -m dc_hpc.submit --grid "
            "jobs/fmnist_demo.yaml"
        )
    else:
        _print_counts(table, lengths, measured, left)
        _print_runs(table, lengths)


def _print_counts(
    table: RunStatusTable, lengths: dict[str, Length | None], measured: MeasuredTimes, left: Estimate
) -> None:
    where = (
        ""
        if table.cluster or not table.submissions
        else " (no SLURM answers here; this is from the run directories alone)"
    )
    print(", ".join(f"{count} {name}" for name, count in table.counts().items()) + f" of {len(table.runs)} runs{where}")
    for line in table.warnings:
        print(f"! {line}; this record of a job is lost, its runs are not")
    unknown = [
        f"{name}/config.json: its settings cannot be read"
        for name, length in lengths.items()
        if not length and table.runs[name].state != "new"
    ]
    _print_damaged([*unknown, *measured.warnings])
    cycles = sum(length.cycles for length in lengths.values() if length)
    gpu = f", {measured.gpu_hours:.2f} GPU-hours" if measured.gpu_hours else ""
    print(f"{cycles - left.cycles} of {cycles} cycles; {_duration(measured.hours)} computed{gpu}")
    if left.seconds or (left.cycles and (measured.training or measured.clustering)):
        print(_describe_left(left, measured, running=table.counts()["running"]))


def _describe_left(left: Estimate, measured: MeasuredTimes, *, running: int) -> str:
    hours, doubts = left.seconds / 3600, left.doubts()
    text = f"left: {_duration(hours)} of computing"
    if measured.gpu_hours:  # with as many GPUs for an hour as so far
        text += f" ({hours * measured.gpu_hours / measured.hours:.2f} GPU-hours)"
    if running:
        text += f"; ready in about {_duration(max(hours / running, left.longest / 3600))} with {running} running"
    return f"{text}; {doubts}" if doubts else text


def _print_runs(table: RunStatusTable, lengths: dict[str, Length | None]) -> None:
    for state in ("running", "resumable", "failed"):
        _print_some([run for run in table.runs.values() if run.state == state], lengths)
    waiting = Counter(run.reason for run in table.runs.values() if run.state == "queued")
    for reason, count in list(waiting.items())[:_LISTED]:
        print(f"  queued     {count} run{'s' if count > 1 else ''}  {reason}")
    if len(waiting) > _LISTED:
        print(f"  and {len(waiting) - _LISTED} more tasks")


def _print_damaged(lines: list[str]) -> None:
    for line in lines[:_LISTED]:
        print(f"! {line}")
    if lines:
        more = f"and {len(lines) - _LISTED} more such lines; " if len(lines) > _LISTED else ""
        print(f"  {more}python -m dc_hpc.status check names everything that is damaged")


def _duration(hours: float) -> str:
    """Hours as text, in seconds, minutes or hours."""
    seconds = hours * 3600
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min" if hours < 2 else f"{hours:.1f} hours"


def _print_some(runs: list[RunStatus], lengths: dict[str, Length | None]) -> None:
    for run in runs[:_LISTED]:
        length = lengths[run.name]
        cycles = f"{run.cycles_done}/{length.cycles if length else '?'}"
        print(f"  {run.state:<9}  {run.name}  {cycles}  {run.reason}".rstrip())
    if len(runs) > _LISTED:
        print(f"  and {len(runs) - _LISTED} more {runs[0].state}")


if __name__ == "__main__":
    run_cli(app)
