"""Site profiles: `slurm/<site>.yaml` -> a checked Site: how to submit on one cluster. It changes no result."""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dc_hpc.config.allowed import Line, OptionValue, Word
from dc_hpc.config.explain import explain
from dc_hpc.config.key_names import unknown_key
from dc_hpc.config.yaml_reader import read_yaml
from dc_hpc.errors import InputError
from dc_hpc.scheduler.limits.options import check_extra, joined_gres
from dc_hpc.scheduler.tasks import mps
from dc_hpc.storage import atomic_files

# Tells a task that runs which run out of memory get another task with more, so that it does not try them again itself.
MEMORY_VARIABLE = "DC_HPC_MAX_MEMORY_GB"


class Site(BaseModel):
    """One site profile."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    partition: Annotated[Word | None, Field(description="partition of the jobs")] = None
    account: Annotated[Word | None, Field(description="account that is charged")] = None
    qos: Annotated[Word | None, Field(description="quality of service")] = None
    gpus: Annotated[int, Field(ge=0, le=64, description="GPUs of a task; 0 computes on the CPU")] = 0
    gpu_type: Annotated[Word | None, Field(description="type of the GPUs, as the cluster calls it")] = None
    gpu_flag: Annotated[
        Literal["gres", "gpus-per-node"],
        Field(description="how GPUs are requested: --gres=gpu:TYPE:N or --gpus-per-node=TYPE:N"),
    ] = "gpus-per-node"
    cpus: Annotated[int, Field(ge=1, le=1024, description="CPU cores of a task, at least one for each run")] = 2
    memory_gb: Annotated[int | None, Field(ge=1, le=100_000, description="memory of a task, in GiB")] = None
    max_memory_gb: Annotated[
        int | None,
        Field(
            ge=1,
            le=100_000,
            description="memory up to which runs that ran out of memory are tried once more, in GiB; without it they "
            "are tried again with memory_gb",
        ),
    ] = None
    mps: Annotated[
        bool,
        Field(description="whether a task starts NVIDIA's multi-process service, so that its runs share a GPU"),
    ] = False
    array_throttle: Annotated[
        int, Field(ge=1, le=100_000, description="tasks of an array that may run at the same time")
    ] = 100
    signal_delay: Annotated[
        int,
        Field(ge=1, le=65_535, description="warning before the time limit, in seconds; at most a third of it counts"),
    ] = 90
    requeue: Annotated[bool, Field(description="whether SLURM queues preempted and lost tasks again")] = True
    wckey: Annotated[Word | None, Field(description="workload key, which some sites require")] = None
    setup: Annotated[
        tuple[Line, ...], Field(description="shell lines that a task runs first, for example to load modules")
    ] = ()
    container: Annotated[Line | None, Field(description="command in front of `python3` that starts a container")] = None
    group_readable: Annotated[
        bool, Field(description="whether the group may read the outputs (files 0640, folders 0750)")
    ] = False
    extra: Annotated[
        dict[Word, OptionValue | int | bool], Field(description="further sbatch options, long names without dashes")
    ] = {}
    allow_own_nets: Annotated[
        bool, Field(description="whether tasks execute the Python file of a net of a person's own")
    ] = False

    def cores(self, parallel_runs: int) -> int:
        """The cores of one task: at least one for each of its runs that compute at the same time."""
        return max(self.cpus, parallel_runs)


def read_site(path: Path) -> Site:
    """Read and check a site profile; InputError names the file and the line of a mistake."""
    document = read_yaml(path)
    for key in document.data:
        if key not in Site.model_fields:
            named = unknown_key(key, "site", tuple(Site.model_fields))
            raise InputError(f"{document.name}:{document.line((key,))}: {named}")
    try:
        site = Site.model_validate({key: _meant(key, value) for key, value in document.data.items()})
        check_extra(site.extra)
    except ValidationError as error:
        problem = explain(error, Site)
        raise InputError(f"{document.name}:{document.line((problem.key,) if problem.key else ())}: {problem}") from None
    except InputError as error:
        raise InputError(f"{document.name}:{document.line((error.key,) if error.key else ())}: {error}") from None
    if site.max_memory_gb is not None and site.memory_gb is not None and site.max_memory_gb < site.memory_gb:
        raise InputError(
            f"{document.name}:{document.line(('max_memory_gb',))}: max_memory_gb {site.max_memory_gb} is less than "
            f"memory_gb {site.memory_gb}; allowed: {site.memory_gb} or more"
        )
    return site


def _meant(key: str, value: Any) -> Any:
    """The value as the strict model takes it: a tuple for a list, and `on` and `off` as in grids.

    A shell expands ~ at the start of a word only, so the command of a container is given its paths written out.
    """
    if isinstance(value, list):
        return tuple(value)
    if key == "container" and isinstance(value, str):
        return re.sub(r"(?<![^\s=:,])~(?=/)", lambda _: os.path.expanduser("~"), value)
    is_flag = Site.model_fields[key].annotation is bool
    return value == "on" if is_flag and value in ("on", "off") else value


def check_name(name: str) -> str:
    """Return a job name that is safe in a line of a shell script; InputError for any other."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,99}", name):
        raise InputError(
            f"job name {name!r} is not allowed; allowed: letters, digits and . _ + -, at most 100; "
            "rename the grid's file"
        )
    return name


def python_of(site: Site) -> str:
    """The shell words that start python in a task: this interpreter, or the one of the container."""
    if not site.container:
        return shlex.quote(sys.executable)
    # a container may start with an empty environment
    variables = " ".join(f"{name}={value}" for name, value in _variables(site).items())
    return f"{site.container} {f'env {variables} ' if variables else ''}python3"


def sbatch_parameters(site: Site, *, minutes: int, parallel_runs: int) -> dict[str, Any]:
    """The profile as parameters of submitit's SlurmExecutor."""
    cpus = site.cores(parallel_runs)
    gpus = f"{site.gpu_type}:{site.gpus}" if site.gpu_type else str(site.gpus)
    by_gres = f"gpu:{gpus}" if site.gpus and site.gpu_flag == "gres" else None
    extra: dict[str, Any] = {"requeue": True} if site.requeue else {"no-requeue": True}
    if site.gpus and not by_gres:
        extra["gpus-per-node"] = gpus
    return {
        "time": minutes,
        "cpus_per_task": cpus,
        "mem": None if site.memory_gb is None else f"{site.memory_gb}GB",
        "partition": site.partition,
        "account": site.account,
        "qos": site.qos,
        "array_parallelism": site.array_throttle,
        "signal_delay_s": site.signal_delay,
        "wckey": site.wckey,  # None removes submitit's own
        # since SLURM 22.05 srun does not inherit --cpus-per-task
        "setup": [*_modes(site), *site.setup, f"export SRUN_CPUS_PER_TASK={cpus}"],
        "additional_parameters": {
            **extra,
            **{key: value for key, value in site.extra.items() if value is not False},
            **joined_gres(by_gres, site.extra),
        },
    }


def _modes(site: Site) -> list[str]:
    """The shell lines that decide the modes of the files that a task writes, and what else the profile asks of it."""
    umask = "umask 027" if site.group_readable else "umask 077"
    return [umask, *(f"export {name}={value}" for name, value in _variables(site).items())]


def _variables(site: Site) -> dict[str, str]:
    """The environment variables by which a task knows what the profile says."""
    variables = {}
    if site.group_readable:
        variables[atomic_files.GROUP_VARIABLE] = "1"
    if site.mps:
        variables[mps.VARIABLE] = "1"
    if site.max_memory_gb is not None:
        variables[MEMORY_VARIABLE] = str(site.max_memory_gb)
    return variables
