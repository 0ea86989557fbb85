"""Submit run directories with submitit: as one job on this machine, or as arrays of a cluster.

A job is a pickled `TaskPayload`: the paths of run directories and how to compute them. Nothing is read back from
submitit's pickles, because the state of a run is what its directory says.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import submitit

from dc_hpc.config.grid import Resources
from dc_hpc.errors import InputError
from dc_hpc.experiment.execution import Execution
from dc_hpc.scheduler import run_status, slurm, submissions
from dc_hpc.scheduler.cost import split_into_tasks
from dc_hpc.scheduler.limits.before_sending import minutes_for
from dc_hpc.scheduler.site import Site, check_name, python_of, sbatch_parameters
from dc_hpc.scheduler.submissions import Submission
from dc_hpc.scheduler.submitting.sbatch import make_private, script_text, submit_once
from dc_hpc.scheduler.tasks import memory_retry
from dc_hpc.scheduler.worker import ATTEMPTS, Aggregation, TaskPayload

# submitit ends a local job after this time. It is long, because nobody waits in a queue for this machine.
_LOCAL_MINUTES = 60 * 24 * 30
_AGGREGATE_MINUTES = 30
_VISIBLE_GPUS = "CUDA_VISIBLE_DEVICES"  # numbers or names of GPUs; all GPUs are visible where it is not set


def submit_local(
    directories: Sequence[Path], execution: Execution, *, slots: int, folder: Path, survive_logout: bool
) -> submitit.Job[Any]:
    """One job in the background that computes all runs, `slots` at a time. survive_logout: ignore SIGHUP too."""
    executor = _executor(folder, "local")
    executor.update_parameters(timeout_min=_LOCAL_MINUTES)
    payload = TaskPayload(_paths(directories), execution, parallel_runs=slots)
    with _detached_children(survive_logout):
        return executor.submit(_with_visible_gpus, os.environ.get(_VISIBLE_GPUS), payload)


def submit_slurm(
    directories: Sequence[Path],
    execution: Execution,
    *,
    site: Site,
    resources: Resources,
    name: str,
    outputs: Path,
    code: dict[str, Any],
    payload: type[TaskPayload] = TaskPayload,
    arrived: Callable[[Submission], None] = lambda one: None,
    before_sending: Callable[[], None] = lambda: None,
) -> list[Submission]:
    """Submit arrays whose tasks compute `runs_per_task` runs each, as many arrays as MaxArraySize makes necessary.

    name: of the grid. code: what `provenance` says of the code. payload: what a task calls, another class in tests.
    arrived: is called with each array that has arrived. before_sending: raises InputError where nothing may be sent.
    InputError when SLURM refuses an array or does not answer; those before it have arrived.
    """
    cluster, execution = cluster_of(site), execution.on(site.gpus)
    cluster_name = slurm.cluster_name(cluster)
    if site.max_memory_gb is not None:
        names = [directory.name for directory in directories]
        site = memory_retry.raised(site, names, run_status.collect(outputs, names))
    tasks, most = split_into_tasks(directories, resources), slurm.max_array_size(cluster)
    made = []
    for start in range(0, len(tasks), most):
        chunk = tasks[start : start + most]
        submission = Submission(
            name=submissions.unique_name(name),
            folder=str(_folder(outputs, name)),
            minutes=resources.minutes,
            runs=tuple(tuple(directory.name for directory in task) for task in chunk),
            gpus=site.gpus,
            parallel_runs=resources.parallel_runs,
            execution=execution.to_record(),
            code=code,
            cluster=cluster,
            cluster_name=cluster_name,
            memory_gb=site.memory_gb,
            max_memory_gb=site.max_memory_gb,
            signal_delay=_delay(site, resources.minutes),
        )
        calls = [
            payload(_paths(task), execution, resources.parallel_runs, ATTEMPTS, submission.signal_delay)
            for task in chunk
        ]
        parameters = slurm_parameters(site, resources)
        python = python_of(site)
        made.append(
            submit_once(submission, calls, parameters, outputs=outputs, python=python, before_sending=before_sending)
        )
        arrived(made[-1])
    return made


def submit_aggregator(
    after: Sequence[Submission],
    arguments: Sequence[str],
    *,
    site: Site,
    name: str,
    outputs: Path,
    before_sending: Callable[[], None] = lambda: None,
) -> Submission:
    """Submit the aggregator as a job that starts when all tasks of these jobs have ended, successfully or not."""
    plain = site.model_copy(update={"gpus": 0})
    minutes = minutes_for(plain, _AGGREGATE_MINUTES)
    parameters = slurm_parameters(plain, Resources(minutes=minutes))
    if after:
        parameters["dependency"] = "afterany:" + ":".join(str(one.job) for one in after)
    submission = Submission(
        name=submissions.unique_name(aggregator_name(name)),
        folder=str(_folder(outputs, name)),
        runs=((),),
        minutes=minutes,
        cluster=cluster_of(site),
        after=tuple(one.name for one in after),
    )
    call, python = Aggregation(tuple(arguments), str(Path.cwd())), python_of(site)
    return submit_once(submission, [call], parameters, outputs=outputs, python=python, before_sending=before_sending)


def aggregator_name(grid: str) -> str:
    """The name of a grid's aggregators, to which each adds a token."""
    return f"aggregate-{grid}"[:80]


def cluster_of(site: Site) -> str:
    """The cluster that the site profile names for sbatch, "" for none. InputError for more than one."""
    named = str(site.extra.get("clusters") or "")
    if "," in named or named == "all":
        raise InputError(
            f"extra: clusters {named!r} names several clusters; name one, because jobs of one cluster cannot wait for "
            "jobs of another"
        )
    return named


def check_names(outputs: Path, names: Sequence[str]) -> None:
    """Refuse names of grids and a path of outputs that SLURM cannot take, before anything is written."""
    for name in names:
        _folder(outputs, name)


def run_debug(directories: Sequence[Path], execution: Execution, *, folder: Path) -> None:
    """`--cluster debug`: compute the runs through submitit in this process, one after the other."""
    _executor(folder, "debug").submit(TaskPayload(_paths(directories), execution).in_this_process).result()


def slurm_parameters(site: Site, resources: Resources) -> dict[str, Any]:
    """The parameters of submitit's SlurmExecutor. A short time limit shortens the warning before it."""
    parameters = sbatch_parameters(site, minutes=resources.minutes, parallel_runs=resources.parallel_runs)
    return parameters | {"signal_delay_s": _delay(site, resources.minutes)}


def sbatch_text(site: Site, resources: Resources, *, name: str, outputs: Path, tasks: int) -> str:
    """The script that sbatch would get, for `--dry-run`. Needs no SLURM and writes nothing."""
    parameters = slurm_parameters(site, resources)
    return script_text(
        _folder(outputs, name), python_of(site), name=f"{name}-<token>", parameters=parameters, tasks=tasks
    )


def with_snapshot(site: Site, folder: Path) -> Site:
    """The site profile with setup lines that make tasks import the package from `folder`, a copy of the code.

    A task starts in the folder of the submit, often a checkout, which `python -m` would search before PYTHONPATH.
    """
    path = f"export PYTHONPATH={shlex.quote(str(folder))}${{PYTHONPATH:+:$PYTHONPATH}}"
    return site.model_copy(update={"setup": (*site.setup, path, "export PYTHONSAFEPATH=1")})


def stop_local(job: submitit.Job[Any]) -> None:
    """Ask a local job to save and end; submitit's controller passes SIGTERM on to it."""
    with suppress(ProcessLookupError):
        os.kill(int(job.job_id), signal.SIGTERM)


def _delay(site: Site, minutes: int) -> int:
    return min(site.signal_delay, minutes * 20)


def _folder(outputs: Path, name: str) -> Path:
    """The absolute folder of a job's files; InputError where a shell script or sbatch would not take it literally."""
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
def _detached_children(survive_logout: bool) -> Iterator[None]:
    """Children started inside ignore a terminal's Ctrl-C and hold none of its streams.

    `submit` tells them to save instead: submitit's controller would kill its job one second after a Ctrl-C. A signal
    that is ignored here stays ignored in a child. Without the streams `submit --no-wait | tee log` ends with submit.
    """
    numbers = [signal.SIGINT, signal.SIGHUP] if survive_logout else [signal.SIGINT]
    before: dict[int, Any] = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        with _null_streams():
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _null_streams() -> Iterator[None]:
    """Standard input, output and error are /dev/null inside; what submitit's job prints has files of its own."""
    kept = {}
    for number in (0, 1, 2):
        with suppress(OSError):  # a stream may be closed
            kept[number] = os.dup(number)
    null = os.open(os.devnull, os.O_RDWR)
    try:
        for number in kept:
            os.dup2(null, number)
        yield
    finally:
        os.close(null)
        for number, stream in kept.items():
            os.dup2(stream, number)
            os.close(stream)


def _with_visible_gpus(gpus: str | None, payload: TaskPayload) -> dict[str, str]:
    """Compute with the GPUs that were visible to the submitter; submitit hides all GPUs from a local job."""
    os.environ.pop(_VISIBLE_GPUS, None)
    if gpus is not None:
        os.environ[_VISIBLE_GPUS] = gpus
    return payload()
