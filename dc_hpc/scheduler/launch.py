"""Run directories -> submitit jobs: one call for a laptop's slots and for a cluster's arrays.

What is pickled is a `TaskPayload`: the paths of run directories and how to compute. Nothing is read back from submitit's
pickles: the state of a run is what its directory says.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import submitit

from dc_hpc.config.grid import Resources
from dc_hpc.errors import InputError
from dc_hpc.experiment.execution import Execution
from dc_hpc.scheduler import slurm, submissions
from dc_hpc.scheduler.cost import packed
from dc_hpc.scheduler.sbatch import hand_over, make_private
from dc_hpc.scheduler.site import Site, check_name, python_of, sbatch_parameters
from dc_hpc.scheduler.submissions import Submission
from dc_hpc.scheduler.worker import ATTEMPTS, Aggregation, TaskPayload

# submitit ends a local job after this; a laptop has no queue to be fair to.
_LOCAL_MINUTES = 60 * 24 * 30
_AGGREGATE_MINUTES = 30
_CARDS = "CUDA_VISIBLE_DEVICES"  # numbers, or names of cards and of parts of them; not set, all are seen


def submit_local(
    directories: Sequence[Path], execution: Execution, *, slots: int, folder: Path, survive_logout: bool
) -> submitit.Job:
    """One job in the background that does all runs, `slots` at a time."""
    executor = _executor(folder, "local")
    executor.update_parameters(timeout_min=_LOCAL_MINUTES)
    work = TaskPayload(_paths(directories), execution, parallel_runs=slots)
    with _ignored_by_children(survive_logout):
        return executor.submit(_with_the_cards_seen_here, os.environ.get(_CARDS), work)


def submit_slurm(
    directories: Sequence[Path],
    execution: Execution,
    *,
    site: Site,
    resources: Resources,
    name: str,
    outputs: Path,
    code: dict[str, Any],
    work: type[TaskPayload] = TaskPayload,
) -> list[Submission]:
    """Arrays whose tasks do `runs_per_task` runs each; as many arrays as MaxArraySize makes necessary."""
    packs, most = packed(directories, resources), slurm.max_array_size()
    made = []
    for start in range(0, len(packs), most):
        chunk = packs[start : start + most]
        submission = Submission(
            name=submissions.unique_name(name),
            folder=str(_folder(outputs, name)),
            minutes=resources.minutes,
            runs=tuple(tuple(directory.name for directory in pack) for pack in chunk),
            gpus=site.gpus,
            parallel_runs=resources.parallel_runs,
            execution=execution.to_record(),
            code=code,
        )
        calls = [
            work(_paths(pack), execution, resources.parallel_runs, ATTEMPTS, _delay(site, resources.minutes))
            for pack in chunk
        ]
        parameters = slurm_parameters(site, resources)
        made.append(hand_over(submission, calls, parameters, outputs=outputs, python=python_of(site)))
    return made


def submit_aggregator(
    after: Sequence[Submission], arguments: Sequence[str], *, site: Site, name: str, outputs: Path
) -> Submission:
    """The aggregator as a job that starts when the last task of these jobs has ended, well or badly."""
    plain = site.model_copy(update={"gpus": 0})
    parameters = slurm_parameters(plain, Resources(minutes=_AGGREGATE_MINUTES))
    parameters["dependency"] = "afterany:" + ":".join(str(one.job) for one in after)
    submission = Submission(
        name=submissions.unique_name(f"aggregate-{name}"),
        folder=str(_folder(outputs, name)),
        runs=((),),
        minutes=_AGGREGATE_MINUTES,
    )
    call = Aggregation(tuple(arguments), str(Path.cwd()))
    return hand_over(submission, [call], parameters, outputs=outputs, python=python_of(site))


def run_here(directories: Sequence[Path], execution: Execution, *, folder: Path) -> None:
    """`--cluster debug`: the same work through submitit, in this process, one run after the other."""
    _executor(folder, "debug").submit(TaskPayload(_paths(directories), execution).in_this_process).result()


def slurm_parameters(site: Site, resources: Resources) -> dict[str, Any]:
    """What sbatch is told, in submitit's words; a short limit shortens the warning before it."""
    parameters = sbatch_parameters(site, minutes=resources.minutes, parallel_runs=resources.parallel_runs)
    return parameters | {"signal_delay_s": _delay(site, resources.minutes)}


def sbatch_text(site: Site, resources: Resources, *, name: str, outputs: Path, tasks: int) -> str:
    """The script that would go to sbatch, for `--dry-run`. Needs no SLURM and writes nothing."""
    from submitit.slurm.slurm import _make_sbatch_string

    folder = _folder(outputs, name)
    command = f"{python_of(site)} -u -m submitit.core._submit {shlex.quote(str(folder))}"
    count = {"map_count": tasks} if tasks > 1 else {}
    parameters = slurm_parameters(site, resources) | count
    return _make_sbatch_string(command, folder, job_name=f"{name}-<token>", **parameters)


def with_code(site: Site, folder: Path) -> Site:
    """The site whose tasks import the package from `folder`: a snapshot."""
    line = f"export PYTHONPATH={shlex.quote(str(folder))}${{PYTHONPATH:+:$PYTHONPATH}}"
    return site.model_copy(update={"setup": (*site.setup, line)})


def stop_local(job: submitit.Job) -> None:
    """Ask a local job to save and end: its controller passes SIGTERM on to the work."""
    with suppress(ProcessLookupError):
        os.kill(int(job.job_id), signal.SIGTERM)


def _delay(site: Site, minutes: int) -> int:
    return min(site.signal_delay, minutes * 20)


def _folder(outputs: Path, name: str) -> Path:
    """Where submitit puts a job's files: a path that means itself in a script and to sbatch."""
    folder = (outputs / "slurm" / check_name(name)).absolute()
    if not re.fullmatch(r"[A-Za-z0-9._+=,@/ -]+", str(folder)):
        raise InputError(f"--outputs {str(folder)!r} cannot be named to SLURM; use letters, digits and . _ + = , @ / -")
    return folder


def _executor(folder: Path, cluster: str) -> submitit.AutoExecutor:
    make_private(folder)
    return submitit.AutoExecutor(folder=folder, cluster=cluster)


def _paths(directories: Sequence[Path]) -> tuple[str, ...]:
    return tuple(str(directory.resolve()) for directory in directories)


@contextmanager
def _ignored_by_children(survive_logout: bool) -> Iterator[None]:
    """Children started in here never see a terminal's Ctrl-C: the person's door tells them to save instead.

    A signal that is ignored stays ignored in a child; submitit's controller would kill its work one second after a
    Ctrl-C. They do not hold the person's streams either: `submit --no-wait | tee log` ends when submit does.
    """
    numbers = [signal.SIGINT, signal.SIGHUP] if survive_logout else [signal.SIGINT]
    before: dict[int, Any] = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        with _streams_elsewhere():
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _streams_elsewhere() -> Iterator[None]:
    """Standard input, output and error are /dev/null; what submitit's job prints has files of its own."""
    kept = {}
    for number in (0, 1, 2):
        with suppress(OSError):  # a stream may be closed
            kept[number] = os.dup(number)
    nothing = os.open(os.devnull, os.O_RDWR)
    try:
        for number in kept:
            os.dup2(nothing, number)
        yield
    finally:
        os.close(nothing)
        for number, stream in kept.items():
            os.dup2(stream, number)
            os.close(stream)


def _with_the_cards_seen_here(cards: str | None, work: TaskPayload) -> dict[str, str]:
    """Do the work with the GPUs that its submitter saw; submitit hides all cards from a local job."""
    os.environ.pop(_CARDS, None)
    if cards is not None:
        os.environ[_CARDS] = cards
    return work()
