"""Options of sbatch under `extra` in a site profile: those that this package writes itself are refused there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dc_hpc.errors import InputError

_MINUTES = "write minutes under resources of the grid"
_GPUS = "write gpus, gpu_type and gpu_flag"
_CPUS = "write cpus"
_MEMORY = "write memory_gb"
_ONE_TASK = "each job is one task on one node; give a task more runs with runs_per_task under resources of the grid"
_LOGS = "logs are in the outputs folder, where status finds them"
_ANSWER = "submit reads the answer of sbatch itself"
# Option of sbatch -> what to do instead.
WRITTEN: Mapping[str, str] = {
    "account": "write account",
    "array": "an array has a task for each runs_per_task runs; write array_throttle for the number that run at a time",
    "chdir": "start submit in the folder that you want, or write `cd FOLDER` under setup",
    "cpus-per-gpu": _CPUS,
    "cpus-per-task": _CPUS,
    "dependency": "submit orders its jobs itself",
    "error": _LOGS,
    "gpus": _GPUS,
    "gpus-per-node": _GPUS,
    "gpus-per-socket": _GPUS,
    "gpus-per-task": _GPUS,
    "help": "it submits nothing",
    "input": "tasks read nothing",
    "job-name": "the name tells the jobs of submit from others",
    "mem": _MEMORY,
    "mem-per-cpu": _MEMORY,
    "mem-per-gpu": _MEMORY,
    "no-requeue": "write requeue: off",
    "nodes": _ONE_TASK,
    "ntasks": _ONE_TASK,
    "ntasks-per-core": _ONE_TASK,
    "ntasks-per-gpu": _ONE_TASK,
    "ntasks-per-node": _ONE_TASK,
    "ntasks-per-socket": _ONE_TASK,
    "open-mode": _LOGS,
    "output": _LOGS,
    "parsable": _ANSWER,
    "partition": "write partition",
    "qos": "write qos",
    "quiet": _ANSWER,
    "requeue": "write requeue",
    "signal": "write signal_delay",
    "test-only": "look with --dry-run",
    "time": _MINUTES,
    "tres-per-task": _GPUS,
    "uid": "log in as the user whose jobs they are",
    "usage": "it submits nothing",
    "version": "it submits nothing",
    "wait": "submit returns at once; status --watch waits",
    "wckey": "write wckey",
    "wrap": "a task runs dc_hpc; write lines that come before it under setup",
}
_SHORTEST = 3  # letters of an abbreviation; sbatch takes any that fits one option only


def check_extra(extra: Mapping[str, Any]) -> None:
    """InputError about the first option under `extra` that this package writes itself, with the key to use instead.

    sbatch takes abbreviations of long names, so they are refused, too. `gres` is allowed, without GPUs in it.
    """
    for key, value in extra.items():
        option = key.replace("_", "-")
        if option == "gres" and not any(one.split(":")[0] == "gpu" for one in str(value).split(",")):
            continue
        written = [name for name in (*WRITTEN, "gres") if name == option]
        if not written and len(option) >= _SHORTEST:
            written = [name for name in WRITTEN if name.startswith(option)]
        if written:
            instead = WRITTEN.get(written[0], f"{_GPUS}; other resources may stay")
            raise InputError(f"extra.{key} is an option that submit writes itself; {instead}", key="extra")


def joined_gres(requested: str | None, extra: Mapping[str, Any]) -> dict[str, str]:
    """The option `gres` with the GPUs that the profile requests and the other resources of its `extra`, if any."""
    found = [str(one) for one in (requested, extra.get("gres")) if one]
    return {"gres": ",".join(found)} if found else {}
