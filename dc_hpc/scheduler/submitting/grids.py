"""Send the runs of grids to SLURM: under a lock, after a last look, array by array, and the aggregator behind them."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dc_hpc.config.grid import Resources
from dc_hpc.config.run_config import RunConfig
from dc_hpc.errors import InputError
from dc_hpc.experiment import provenance
from dc_hpc.experiment.execution import Execution
from dc_hpc.scheduler import launch, session
from dc_hpc.scheduler.site import Site
from dc_hpc.scheduler.submissions import Submission
from dc_hpc.scheduler.submitting import answers, command
from dc_hpc.scheduler.submitting.sbatch import Refused
from dc_hpc.scheduler.submitting.situation import Situation, look, submission_lock
from dc_hpc.storage.lock_file import HeldLock


@dataclass(frozen=True)
class GridRequest:
    """Runs of one grid that are to be sent with the same resources. configs: run name -> settings."""

    name: str
    resources: Resources
    configs: Mapping[str, RunConfig]

    def only(self, names: Collection[str]) -> GridRequest:
        """The same request for those of these runs that it has."""
        return replace(self, configs={name: one for name, one in self.configs.items() if name in names})


def send_to_slurm(
    requests: Sequence[GridRequest],
    execution: Execution,
    *,
    site: Site,
    outputs: Path,
    names: Collection[str],
    aggregate: Sequence[str] | None,
    snapshot: bool = False,
    anew: bool = False,
) -> None:
    """Submit those runs of the requests that are still missing, as arrays, and print the jobs as they arrive.

    names: all runs of the grids. aggregate: arguments of the aggregator that is queued after all living jobs of the
    grids; None for none. snapshot: let the tasks run a copy of the code. anew: let runs that other numerics
    began start again (`session.create_runs`). InputError says how many runs are in the
    queue when a part of them, or the aggregator, was refused.
    """
    session.share_folders(outputs, site)
    with submission_lock(outputs) as lock:
        now = look(outputs, names, launch.cluster_of(site))
        missing = {name for name, run in now.table.runs.items() if run.is_missing}
        left = [one.only(missing) for one in requests]
        waiting = {name for name, run in now.table.runs.items() if run.state == "unanswered"}
        taken = sum(len(one.configs.keys() - missing - waiting) for one in requests)
        if taken:
            print(f"{taken} of these runs are in the queue or done by now, and are left alone")
        print("".join(f"! {line}\n" for line in now.table.describe_unanswered()), end="")
        sender = _Sender(execution, site, outputs, lock, now)
        sender.send([one for one in left if one.configs], snapshot=snapshot, anew=anew)
        if aggregate is not None and requests:
            sender.aggregate(requests[0].name, aggregate)
    sender.finish()


class _Sender:
    """Sends arrays and remembers what arrived and the first refusal."""

    def __init__(self, execution: Execution, site: Site, outputs: Path, lock: HeldLock, now: Situation) -> None:
        self.execution, self.site, self.outputs, self.lock, self.now = execution, site, outputs, lock, now
        self.arrived: list[Submission] = []
        self.problem: InputError | None = None
        self.aggregator_problem: InputError | None = None

    def send(self, requests: Sequence[GridRequest], *, snapshot: bool, anew: bool) -> None:
        """Send the arrays of all requests up to the first refusal."""
        if not requests:
            return
        if unused := command.unused_variables():
            print(f"! not used from your environment: {', '.join(unused)}; the site profile says what sbatch gets")
        if snapshot:
            copied = provenance.snapshot(self.outputs)
            self.site = launch.with_snapshot(self.site, copied)
            print(f"the runs use the copy of the code in {copied}")
        code = provenance.code_record()
        for one in requests:
            directories = session.create_runs(self.outputs, list(one.configs.values()), self.site, anew=anew)
            try:
                launch.submit_slurm(
                    directories,
                    self.execution,
                    site=self.site,
                    resources=one.resources,
                    name=one.name,
                    outputs=self.outputs,
                    code=code,
                    arrived=self._print_array,
                    before_sending=self.lock.check,
                )
            except InputError as error:
                self.problem = error
                return

    def aggregate(self, grid: str, arguments: Sequence[str]) -> None:
        """Queue the aggregator behind all living jobs of the grids, unless one waits for them already."""
        after = [*self.now.living(), *self.arrived]
        unclear = self.problem is not None and not isinstance(self.problem, Refused)
        if unclear or not self.now.needs_aggregator(grid, after):
            return
        try:
            last = launch.submit_aggregator(
                after, arguments, site=self.site, name=grid, outputs=self.outputs, before_sending=self.lock.check
            )
        except InputError as error:
            self.aggregator_problem = error
            return
        print(f"submitted job {last.job}: the aggregator, which starts when all of them have ended")

    def finish(self) -> None:
        """Print the command for the status; raise what went wrong, with how many runs are in the queue."""
        in_queue = self.now.in_queue() + sum(len(one.run_names()) for one in self.arrived)
        if self.arrived:
            print(f"their status: python -m dc_hpc.status --outputs {shlex.quote(str(self.outputs))}")
        if self.problem is not None:
            raise InputError(_in_part(self.problem, in_queue, self.now.unfinished()))
        if self.aggregator_problem is not None:
            raise InputError(
                f"{in_queue} runs are in the queue, and the aggregator is not: {self.aggregator_problem}; the next "
                "call of the same command queues it"
            )

    def _print_array(self, one: Submission) -> None:
        self.arrived.append(one)
        print(f"submitted job {one.job} ({one.name}): {len(one.runs)} tasks, logs in {one.folder}", flush=True)


def _in_part(problem: InputError, in_queue: int, unfinished: int) -> str:
    """What to do after a refusal: less or later where SLURM names a limit, else what the refusal says."""
    if isinstance(problem, Refused) and answers.is_limit(problem.words):
        return (
            f"{in_queue} of {unfinished} runs are in the queue; run the same command later, or give --limit N or more "
            f"runs_per_task (sbatch refused the next array: {problem.words})"
        )
    return f"{in_queue} of {unfinished} runs are in the queue; {problem}" if in_queue else str(problem)
