"""What a cluster wants to be told: `slurm/<site>.yaml` -> a checked Site. It changes no result."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dc_hpc.experiment.config import explain
from dc_hpc.experiment.errors import InputError
from dc_hpc.experiment.yaml_reader import read_yaml

# These words end up in a shell script: nothing in them may end a line or start a command.
Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._:/=,@+-]{0,127}$")]
Line = Annotated[str, Field(pattern=r"^[^\n\r\x00]{1,500}$")]


class Site(BaseModel):
    """One site profile.

    partition, account, qos: as sbatch knows them. gpus, cpus: of one task. memory_gb: of one task, in GiB.
    array_throttle: tasks of an array that may run at the same time. setup: shell lines before the work, for example
    to load modules. extra: further sbatch options, long names without dashes.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    partition: Word | None = None
    account: Word | None = None
    qos: Word | None = None
    gpus: Annotated[int, Field(ge=0, le=64)] = 0
    cpus: Annotated[int, Field(ge=1, le=1024)] = 2
    memory_gb: Annotated[int, Field(ge=1, le=100_000)] | None = None
    array_throttle: Annotated[int, Field(ge=1, le=100_000)] = 100
    setup: tuple[Line, ...] = ()
    extra: dict[Word, Word | int | bool] = {}


def read_site(path: Path) -> Site:
    """Read a site profile; InputError with file and line for whatever is wrong in it."""
    document = read_yaml(path)
    try:
        return Site(**{key: tuple(value) if isinstance(value, list) else value for key, value in document.data.items()})
    except ValidationError as error:
        problem = explain(error, tuple(Site.model_fields))
        raise InputError(f"{document.name}:{document.line((problem.key,))}: {problem}") from None


def submitit_parameters(site: Site, *, minutes: int, parallel_runs: int) -> dict[str, Any]:
    """The profile in submitit's words."""
    # Preempted and lost tasks must come back without a person: submitit does not ask for it.
    extra: dict[str, Any] = {"requeue": True, **site.extra}
    parameters = {
        "timeout_min": minutes,
        "cpus_per_task": max(site.cpus, parallel_runs),
        "mem_gb": site.memory_gb,
        "gpus_per_node": site.gpus or None,
        "slurm_partition": site.partition,
        "slurm_account": site.account,
        "slurm_qos": site.qos,
        "slurm_array_parallelism": site.array_throttle,
        "slurm_setup": [*site.setup, f"export SRUN_CPUS_PER_TASK={max(site.cpus, parallel_runs)}"],
        "slurm_additional_parameters": extra,
    }
    return {name: value for name, value in parameters.items() if value is not None}
