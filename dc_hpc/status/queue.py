"""`status cancel` and `status forget`: the subcommands about the tasks and submissions of a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dc_hpc.cli import DataOption, OutputsOption
from dc_hpc.errors import InputError
from dc_hpc.status.chosen import GridOption, YesOption, ask, one_run, run_names
from dc_hpc.storage import run_directory

if TYPE_CHECKING:
    from dc_hpc.scheduler.run_status import RunStatusTable


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
    names = [one_run(run, outputs) for run in runs] if runs else run_names(grid, outputs, data)
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


def forget(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name of a submission that `status` lists.")],
    yes: YesOption = False,
    outputs: OutputsOption = Path("outputs"),
) -> None:
    """Forget a submission whose answer was lost, so that its runs can be submitted again.

    A submission that is in the queue is not forgotten. Neither is one that arrived.
    """
    from dc_hpc.scheduler import slurm, submissions

    run_directory.check_outputs_exist(outputs)
    names = [path.stem for path in sorted(submissions.folder_of(outputs).glob("*.json"))]
    found = [name] if name in names else [one for one in names if one.startswith(name)]
    if len(found) != 1:
        open_ = [one.name for one in submissions.read_all(outputs) if one.job is None]
        raise InputError(
            f"submission {name!r}: {len(found)} records in {submissions.folder_of(outputs)} begin with it; without an "
            f"answer: {', '.join(open_) or 'none'}"
        )
    tasks = slurm.tasks()
    submissions.check_forgettable(outputs, found[0], tasks)
    doubt = "" if tasks is not None else " (SLURM does not answer, so nobody can see whether it arrived)"
    ask(f"forget submission {found[0]}{doubt}", yes)
    submissions.forget(outputs, found[0])
    print(f"forgot {found[0]}; its runs can be submitted again")


def _others(job: str, index: int, names: list[str], table: RunStatusTable) -> list[str]:
    """The runs of a task that are not in `names`."""
    return [run for one in table.submissions if one.name == job for run in one.runs[index] if run not in names]
