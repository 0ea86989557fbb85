"""python -m dc_hpc.status: how all runs stand, with or without a cluster; `logs RUN` and `cancel` beside it."""

from __future__ import annotations

import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from dc_hpc.config.grid import read_grid
from dc_hpc.errors import InputError
from dc_hpc.storage import run_directory

if TYPE_CHECKING:
    from dc_hpc.scheduler.estimates import Estimate, Length, Times
    from dc_hpc.scheduler.run_status import Overview, RunView

_LISTED, _WATCH_SECONDS = 20, 5.0

# typer reads the annotations at run time, on python 3.10 too
OptionalGrids, OptionalNames = Optional[list[Path]], Optional[list[str]]  # noqa: UP045
GridOption = Annotated[OptionalGrids, typer.Option("--grid", "-g", help="Only the runs of this grid; repeatable.")]
OutputsOption = Annotated[Path, typer.Option(help="Folder of the runs.")]
DataOption = Annotated[Path, typer.Option(envvar="DC_HPC_DATA", help="Folder of the data sets.")]

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.callback(invoke_without_command=True)
def status(
    context: typer.Context,
    grid: GridOption = None,
    watch: Annotated[bool, typer.Option("--watch", help="Look again every few seconds.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    outputs: OutputsOption = Path("outputs"),
    data: DataOption = Path("data"),
) -> None:
    """Show the runs by state, their progress, and why the failed ones failed. Reads only."""
    if context.invoked_subcommand:
        return
    from dc_hpc.scheduler import run_status

    names = _names(grid, outputs, data)
    while True:
        seen = run_status.look(outputs, names)
        _print(seen, outputs, as_json=as_json)
        if not watch or not any(run.lives for run in seen.runs.values()):
            return
        sys.stdout.flush()
        time.sleep(_WATCH_SECONDS)


@app.command()
def logs(
    run: Annotated[str, typer.Argument(help="A run's name, or enough of its beginning.")],
    outputs: OutputsOption = Path("outputs"),
) -> None:
    """Print one run's log: what its task said, then the traceback of its last attempt if that failed."""
    from dc_hpc.scheduler import run_status, submissions

    name = _one_run(run, outputs)
    found = run_status.task_of(name, submissions.read_all(outputs))
    printed = False
    for ending in ("out", "err") if found else ():
        path = run_status.log_of(*found, ending)
        if path.exists():
            print(f"== {path}\n{path.read_text('utf-8', 'replace')}", end="")
            printed = True
    for path in sorted((run_directory.runs_folder(outputs) / name / "attempts").glob("*.error"))[-1:]:
        print(f"== {path}\n{path.read_text('utf-8', 'replace')}", end="")
        printed = True
    if not printed:
        print(f"{name} has no log of a cluster and no error; local logs are in {outputs / 'slurm'}")


@app.command()
def check(
    grid: GridOption = None,
    aside: Annotated[
        bool,
        typer.Option("--put-aside", help="Move what is damaged to quarantine/; submit then computes these runs again."),
    ] = False,
    outputs: OutputsOption = Path("outputs"),
    data: DataOption = Path("data"),
) -> None:
    """Read every file of these runs, weights and features too, and name each damaged one; then exit with 1."""
    from dc_hpc.storage.integrity import damaged_files, quarantine_damaged

    names, count = _names(grid, outputs, data), 0
    for directory in (run_directory.runs_folder(outputs) / name for name in names):
        damaged = list(damaged_files(directory)) if directory.is_dir() else []
        for error in damaged:
            print(error)
        if damaged and aside:
            quarantine_damaged(directory, damaged)
        count += bool(damaged)
    print(f"{count} of {len(names)} runs are damaged" + (", put aside: submit them again" if count and aside else ""))
    raise typer.Exit(1 if count else 0)


@app.command()
def cancel(
    runs: Annotated[OptionalNames, typer.Argument(help="Names of runs.")] = None,
    grid: GridOption = None,
    outputs: OutputsOption = Path("outputs"),
    data: DataOption = Path("data"),
) -> None:
    """Cancel the tasks of these runs, and no others. What is computed stays; submit goes on from it."""
    from dc_hpc.scheduler import run_status, slurm

    if bool(runs) == bool(grid):
        raise InputError("give either --grid G or the names of runs")
    names = [_one_run(run, outputs) for run in runs] if runs else _names(grid, outputs, data)
    seen = run_status.look(outputs, names)
    if not seen.cluster:
        raise InputError("no SLURM answers here, so nothing can be cancelled; local runs end with Ctrl-C or kill")
    tasks = {run.task.id: run.task for run in seen.runs.values() if run.task and run.task.lives}
    slurm.cancel(list(tasks.values()))
    with_others = {task.id: _others(task.name, task.index, names, seen) for task in tasks.values()}
    for task in tasks.values():
        more = f" (with {', '.join(with_others[task.id])} in the same task)" if with_others[task.id] else ""
        print(f"cancelled {task.id}, which was {task.state.lower()}{more}")
    idle = sum(1 for run in seen.runs.values() if not (run.task and run.task.lives))
    print(f"{len(tasks)} tasks cancelled; {idle} of {len(names)} runs had none in the queue")


def _others(job: str, index: int, names: list[str], seen: Overview) -> list[str]:
    """The runs of a task that were not asked for."""
    return [run for one in seen.submissions if one.name == job for run in one.runs[index] if run not in names]


def _names(grids: list[Path] | None, outputs: Path, data: Path) -> list[str]:
    if not grids:
        return [directory.name for directory in run_directory.run_directories(outputs)]
    return [name for path in grids for name in read_grid(path, data_root=data.expanduser().resolve()).runs]


def _one_run(text: str, outputs: Path) -> str:
    names = [directory.name for directory in run_directory.run_directories(outputs)]
    found = [text] if text in names else [name for name in names if name.startswith(text)]
    if len(found) != 1:
        many = f"{len(found)} runs begin so, e.g. {', '.join(found[:3])}" if found else f"none in {outputs} begins so"
        raise InputError(f"run {text!r}: {many}; python -m dc_hpc.status lists them")
    return found[0]


def _print(seen: Overview, outputs: Path, *, as_json: bool) -> None:
    from dc_hpc.scheduler import estimates

    lengths = {name: estimates.read_length(run_directory.runs_folder(outputs) / name) for name in seen.runs}
    took = estimates.measure(outputs, seen, lengths)
    unfinished = [run for run in seen.runs.values() if run.state != "done" and lengths[run.name]]
    left = estimates.estimate(
        took, [(lengths[run.name], run.cycles_done, took.device_of(run.name)) for run in unfinished]
    )
    if as_json:
        print(estimates.as_json(seen, took, left))
    elif not seen.runs:
        print(
            f"no run in {run_directory.runs_folder(outputs)}; submit some: python -m dc_hpc.submit --grid "
            "jobs/fmnist_demo.yaml"
        )
    else:
        _print_counts(seen, lengths, took, left)
        _print_runs(seen, lengths)


def _print_counts(seen: Overview, lengths: dict[str, Length | None], took: Times, left: Estimate) -> None:
    where = "" if seen.cluster or not seen.submissions else " (no SLURM answers here; from the run directories alone)"
    print(", ".join(f"{count} {name}" for name, count in seen.counts().items()) + f" of {len(seen.runs)} runs{where}")
    for line in seen.complaints:
        print(f"! {line}; what it says of its job is lost, the runs are not")
    unknown = [
        f"{name}/config.json: its settings cannot be read"
        for name, length in lengths.items()
        if not length and seen.runs[name].state != "new"
    ]
    _print_damaged([*unknown, *took.complaints])
    cycles = sum(length.cycles for length in lengths.values() if length)
    gpu = f", {took.gpu_hours:.2f} GPU-hours" if took.gpu_hours else ""
    print(f"{cycles - left.cycles} of {cycles} cycles; {_long(took.hours)} computed{gpu}")
    if left.seconds or (left.cycles and (took.training or took.clustering)):
        print(_left_in_words(left, took, running=seen.counts()["running"]))


def _left_in_words(left: Estimate, took: Times, *, running: int) -> str:
    hours, doubts = left.seconds / 3600, left.doubts()
    said = f"left: {_long(hours)} of computing"
    if took.gpu_hours:  # as many GPUs to an hour as so far
        said += f" ({hours * took.gpu_hours / took.hours:.2f} GPU-hours)"
    if running:
        said += f"; ready in about {_long(max(hours / running, left.longest / 3600))} with {running} running"
    return f"{said}; {doubts}" if doubts else said


def _print_runs(seen: Overview, lengths: dict[str, Length | None]) -> None:
    for state in ("running", "resumable", "failed"):
        _print_some([run for run in seen.runs.values() if run.state == state], lengths)
    waiting = Counter(run.reason for run in seen.runs.values() if run.state == "queued")
    for reason, count in list(waiting.items())[:_LISTED]:
        print(f"  queued     {count} run{'s' if count > 1 else ''}  {reason}")
    if len(waiting) > _LISTED:
        print(f"  and {len(waiting) - _LISTED} more tasks")


def _print_damaged(lines: list[str]) -> None:
    for line in lines[:_LISTED]:
        print(f"! {line}")
    if lines:
        more = f"and {len(lines) - _LISTED} more such lines; " if len(lines) > _LISTED else ""
        print(f"  {more}what is damaged in all: python -m dc_hpc.status check")


def _long(hours: float) -> str:
    """A length of time in the unit that suits it."""
    seconds = hours * 3600
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min" if hours < 2 else f"{hours:.1f} hours"


def _print_some(runs: list[RunView], lengths: dict[str, Length | None]) -> None:
    for run in runs[:_LISTED]:
        length = lengths[run.name]
        cycles = f"{run.cycles_done}/{length.cycles if length else '?'}"
        print(f"  {run.state:<9}  {run.name}  {cycles}  {run.reason}".rstrip())
    if len(runs) > _LISTED:
        print(f"  and {len(runs) - _LISTED} more {runs[0].state}")


if __name__ == "__main__":
    from dc_hpc.cli import run_cli

    run_cli(app)
