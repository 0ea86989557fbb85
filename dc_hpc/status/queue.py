"""`status cancel` and `status forget`: the subcommands about the tasks and submissions of a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dc_hpc.cli import DataOption, OutputsOption, ask_consent
from dc_hpc.errors import InputError
from dc_hpc.status.chosen import GridOption, YesOption, one_run, run_names
from dc_hpc.storage import run_directory

if TYPE_CHECKING:
    from dc_hpc.scheduler.run_status import RunStatusTable

_LOCAL = "local runs end with Ctrl-C, or with kill and the pids that `status` shows"


def cancel(
    runs: Annotated[list[str] | None, typer.Argument(metavar="RUN", help="Names of runs; several are allowed.")] = None,
    grid: GridOption = None,
    outputs: OutputsOption = Path("outputs"),
    data: DataOption = Path("data"),
) -> None:
    """Cancel the tasks of these runs and no others. Finished cycles are kept, and submit continues from them.

    An aggregator whose jobs have all ended by that is cancelled, too.
    """
    from dc_hpc.scheduler import run_status, slurm, submissions
    from dc_hpc.scheduler.submitting.cancelling import idle_aggregators, living_tasks

    if bool(runs) == bool(grid):
        raise InputError("give either --grid G or the names of runs")
    names = [one_run(run, outputs) for run in runs] if runs else run_names(grid, outputs, data)
    known = submissions.read_all(outputs)
    if not any(set(names) & set(one.run_names()) for one in known):
        print(f"0 tasks cancelled; none of {len(names)} runs was submitted to a cluster, {_LOCAL}")
        return
    queue = slurm.queue(submissions.clusters_of(known))
    if queue.tasks is None:
        raise InputError(f"no SLURM answers here ({queue.problem[-300:]}), so nothing can be cancelled; {_LOCAL}")
    table = run_status.collect(outputs, names, queue.tasks, known)
    tasks = living_tasks(names, known, queue.tasks)
    aggregators = idle_aggregators(names, known, queue.tasks, tasks)
    slurm.cancel([*aggregators, *tasks])  # the aggregators first: they start when the last task has ended
    for task in tasks:
        others = _others(task.name, task.index, names, table)
        more = f" (with {', '.join(others)} in the same task)" if others else ""
        print(f"cancelled {task.id}, which was {task.state.lower()}{more}")
    for task in aggregators:
        print(f"cancelled {task.id}, the aggregator")
    with_task = {run for task in tasks for one in known if one.name == task.name for run in one.runs[task.index]}
    idle = len(set(names) - with_task)
    print(f"{len(tasks)} tasks cancelled; {idle} of {len(names)} runs had none in the queue")


def forget(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name of a submission that `status` lists.")],
    yes: YesOption = False,
    outputs: OutputsOption = Path("outputs"),
) -> None:
    """Forget a submission whose answer was lost or whose cluster is gone, so that its runs can be submitted again.

    A submission that is in the queue is not forgotten. Neither is one that arrived, where its queue can be seen.
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
    tasks = slurm.tasks(submissions.clusters_of(submissions.read_all(outputs)))
    one = submissions.check_forgettable(outputs, found[0], tasks, slurm.cluster_name)
    doubt = "" if tasks is not None else " (SLURM does not answer, so nobody can see whether it arrived)"
    if one is not None and one.job:
        doubt = f" (nobody can see from here whether its job {one.job} still waits or computes)"
    ask_consent(f"forget submission {found[0]}{doubt}", yes)
    submissions.forget(outputs, found[0])
    print(f"forgot {found[0]}; its runs can be submitted again")


def _others(job: str, index: int, names: list[str], table: RunStatusTable) -> list[str]:
    """The runs of a task that are not in `names`."""
    return [run for one in table.submissions if one.name == job for run in one.runs[index] if run not in names]
