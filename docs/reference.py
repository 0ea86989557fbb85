"""Writes REFERENCE.md, the reference of settings, keys, columns and variables, from the declarations in the package.

    python docs/reference.py

Nothing is described here but the environment variables: a setting is described in its declaration in RunConfig, a key
of a site profile in Site, a metric in storage/metrics.py, a column of a table in report/columns.py and report/frames.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from dc_hpc.algorithm.net_specs import NET_SPECS
from dc_hpc.config.allowed import allowed
from dc_hpc.config.baselines import BASELINES, PROTOCOLS
from dc_hpc.config.grid import SETTINGS, TOP_KEYS, Resources
from dc_hpc.config.run_config import RunConfig
from dc_hpc.data.catalog import DATASETS
from dc_hpc.report.claims.catalog import COLUMNS as CLAIM_COLUMNS
from dc_hpc.report.columns import STATISTICS, TABLES, describe_column
from dc_hpc.report.frames.runs import frame_of, no_cycles
from dc_hpc.report.questions.columns import VERDICTS
from dc_hpc.scheduler.site import Site
from dc_hpc.storage.metrics import CYCLE_METRICS, PREDICTIONS, RESULT_RECORD, RESULTS, Metric

PATH = Path(__file__).with_name("REFERENCE.md")
_STAGES = {
    "first_pass": "everything: the features of the untrained net change",
    "first_clustering": "the first clustering and what follows",
    "training": "what follows the first clustering",
    "probe": "the accuracy only",
    "none": "no number",
}
# The environment variables that the package reads or sets. A test looks for others in the code.
VARIABLES = {
    "DC_HPC_DATA": "Folder of the data sets, where no --data is given. The default is `data`.",
    "DC_HPC_GROUP_READABLE": "1: the group may read the outputs. A site profile sets it by `group_readable`.",
    "DC_HPC_MPS": "1: a task starts NVIDIA's multi-process service. A site profile sets it by `mps`.",
    "DC_HPC_MAX_MEMORY_GB": "A run out of memory ends its tries in a task. A site profile sets it by `max_memory_gb`.",
    "CUDA_MPS_PIPE_DIRECTORY": "Folder of the sockets of NVIDIA's multi-process service. A task with `mps` sets it.",
    "CUDA_MPS_LOG_DIRECTORY": "Folder of the logs of NVIDIA's multi-process service. A task with `mps` sets it.",
    "SOURCE_DATE_EPOCH": "Date of the HTML page, in seconds since 1970. The default is the time of `aggregate`.",
    "SUBMITIT_LOCAL_JOB_ID": "Number of a job on this machine, which an attempt records. submitit sets it.",
    "SUBMITIT_FOLDER": "Folder of the logs of a job on this machine. submitit sets it.",
    "XDG_CACHE_HOME": "Folder of caches. The compiled kernels are in its folder `dc_hpc`. The default is `~/.cache`.",
    "CUDA_VISIBLE_DEVICES": "GPUs that a run sees. Local runs get the GPUs of the process that submitted them.",
    "CUBLAS_WORKSPACE_CONFIG": "Set to `:4096:8` where it is not set, so that cuBLAS gives the same bits each time.",
    "SLURM_CONF": "Configuration of the cluster that the commands of SLURM talk to.",
    "SLURM_JWT": "Token of the person, where the cluster asks for one. The commands of SLURM get it.",
    "SLURM_TIME_FORMAT": "Always `standard` for the commands of SLURM, so that their dates can be read.",
    "SLURM_CLUSTERS": "Not used. A site profile names another cluster by `extra: {clusters: NAME}`.",
    "SBATCH_*": "Not used, and `submit` says so: the site profile says what sbatch gets. The same holds for the other "
    "variables that change what a command of SLURM does or prints, such as SQUEUE_PARTITION.",
    "SLURM_JOB_ID": "Number of the job, which an attempt records. SLURM sets it.",
    "SLURM_ARRAY_JOB_ID": "Number of the array, which an attempt records. SLURM sets it.",
    "SLURM_ARRAY_TASK_ID": "Number of the task in its array, which an attempt records. SLURM sets it.",
    "SLURM_RESTART_COUNT": "How often the task was put back into the queue, which an attempt records. SLURM sets it.",
    "SLURM_MEM_PER_NODE": "Memory of the task in MiB, for the message about a task that ran out of it. SLURM sets it.",
    "SUBMITIT_EXECUTOR": "`slurm` in a task of a cluster. submitit sets it.",
    "NUMBA_*": "Options of numba. Kernels that were compiled with other options are compiled again.",
    "OMP_NUM_THREADS": "The benchmark removes it for the authors' code. A run has the threads of --threads.",
    "_DC_HPC_COMPLETE": "The shell sets it when it asks `dc-hpc` for completions.",
}


def text() -> str:
    """The whole page."""
    parts = [
        "# Reference",
        "`make reference` writes this page from the declarations in the code; change it there. Units are in brackets.",
        "## A grid",
        "A grid is a YAML file. Its keys are " + ", ".join(f"`{key}`" for key in TOP_KEYS) + ".",
        *_grid(),
        "### Settings",
        "They stand under `fixed`, or under `sweep` with a list or a range (`1..5`, both ends included), or in "
        "`--set`. Where the default depends on the base, the next table has it.",
        _settings(),
        f"Official data sets are {', '.join(DATASETS)}. The layers that can be probed are, by net:",
        _table(("net", "layers"), ((f"`{name}`", ", ".join(net.layers)) for name, net in NET_SPECS.items())),
        "### Defaults by base",
        "Where the protocols differ, the values are those of " + ", ".join(f"`{one}`" for one in _protocols()) + ", in "
        "this order.",
        _defaults(),
        "### Resources",
        "They stand under `resources` and change no result.",
        _keys(Resources),
        "## A site profile",
        "A site profile is a YAML file that `--site` names. It changes no result. "
        "`extra` takes the options of sbatch that have no key.",
        _keys(Site),
        "## Files of a run",
        "### metrics.csv",
        "It has a row for each cycle. A cell is empty where a cycle has no such number.",
        _metrics(CYCLE_METRICS),
        "### result.json",
        "It is written last, and a run with it is done. `accuracy_LAYER` is the test accuracy in percent of the "
        "probe's last epoch, one for each probed layer. A number that a run does not have is null.",
        _metrics((*RESULTS, *RESULT_RECORD)),
        "### predictions.h5",
        "A probed run keeps what its probe says of each test image. `accuracy_LAYER` is the share of `LAYER.last` that "
        "equals `labels`, `accuracy_best` that of `LAYER.best` for the first layer. "
        "`dc_hpc.load_run(DIRECTORY).predictions[LAYER]` has `last`, `best` and `labels` as NumPy arrays.",
        _metrics(PREDICTIONS, head="data set"),
        "## Tables of aggregate",
        "They are in `outputs/tables`. In CSV files all digits are kept.",
        "### runs.csv",
        "It has a row for each run. `accuracy_LAYER` is there for each layer that a run has probed.",
        _columns("runs", frame_of([]).columns),
        "### cycles.csv",
        "It has a row for each cycle of each run.",
        _columns("cycles", no_cycles().columns),
        "### claims.csv",
        "It has a row for each claim and group of runs that may be compared.",
        _columns("claims", CLAIM_COLUMNS),
        "### questions.csv",
        "It has a row for each question of ours and group of runs that may be compared. A panel's own questions are in "
        "`PANEL_questions.csv`, with the same columns.",
        _columns("questions", VERDICTS),
        *_missing(),
        "### Tables of panels",
        "A line is one setting over its seeds. It has the columns of the settings, and for a number such as `accuracy` "
        "or `ia` the columns `NUMBER_STATISTIC`, for example `accuracy_median`. A table with one number may leave "
        "`NUMBER_` out.",
        _metrics(STATISTICS.values(), head="statistic"),
        "Further columns:",
        _metrics(TABLES["panels"].values()),
        "## Environment variables",
        _table(("variable", "meaning"), ((f"`{name}`", meaning) for name, meaning in VARIABLES.items())),
    ]
    return "\n\n".join(parts) + "\n"


def _grid() -> Iterator[str]:
    yield f"`base` is the baseline of the paper that the runs follow: {', '.join(BASELINES)}."
    yield (
        f"`protocol` is {', '.join(_protocols())}: what the paper says, or what its authors ran, in 2022 and before. "
        "docs/FIDELITY.md says which figure belongs to which."
    )
    yield (
        "`fixed` maps settings to values, the same in every run. `sweep` maps settings to lists, and the runs are "
        "their product; a list of such blocks is their union, and `zip` in a block walks lists side by side."
    )


def _settings() -> str:
    def rows() -> Iterator[Sequence[str]]:
        for name in SETTINGS:
            if name == "protocol":  # a key of the grid
                continue
            one = RunConfig.declared[name]
            default = _word(name, _default(next(iter(BASELINES)), name)[0]) if _is_constant(name) else "by base"
            in_name = "" if one.identity else " It is no part of the run's name."
            yield (
                f"`{name}`", f"{_sentence(one.meaning)} Allowed: {allowed(RunConfig, name)}.", default,
                f"{_STAGES[one.affects]}.{in_name}",
            )  # fmt: skip

    return _table(("setting", "meaning", "default", "changes"), rows())


def _is_constant(name: str) -> bool:
    """Whether all bases and protocols have the same default."""
    return len({value for base in BASELINES for value in _default(base, name)}) == 1


def _protocols() -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for one in PROTOCOLS.values() for name in one))


def _default(base: str, name: str) -> tuple[Any, ...]:
    """The value of a base by each protocol; "" where a grid has to give it."""
    field = RunConfig.model_fields[name]
    neutral = {} if field.is_required() else {name: field.default}
    return tuple((neutral | BASELINES[base] | PROTOCOLS[base][one]).get(name, "") for one in _protocols())


def _defaults() -> str:
    def cell(base: str, name: str) -> str:
        values = [_word(name, value) for value in _default(base, name)]
        return values[0] if len(set(values)) == 1 else " / ".join(values)

    ordered = [name for name in SETTINGS if name != "protocol" and not _is_constant(name)]
    rows = ((f"`{name}`", *(cell(base, name) for base in BASELINES)) for name in ordered)
    return _table(("setting", *BASELINES), rows)


def _word(name: str, value: Any) -> str:
    """A value as a grid writes it."""
    if value in (None, ()):
        return next(iter(RunConfig.words_for_none(name)), "none")
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    return str(value) if value != "" else "the grid gives it"


def _keys(model: type[BaseModel]) -> str:
    def rows() -> Iterator[Sequence[str]]:
        for name, field in model.model_fields.items():
            if not field.description:
                raise ValueError(f"{model.__name__}.{name} has no description; add Field(description=...) to its type")
            yield (
                f"`{name}`",
                f"{_sentence(field.description)} Allowed: {allowed(model, name)}.",
                _default_key(field.default),
            )

    return _table(("key", "meaning", "default"), rows())


def _default_key(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return "none" if value in (None, (), {}) else str(value)


def _columns(table: str, names: Iterable[str]) -> str:
    found = [(name, describe_column(table, name)) for name in names]
    for name, one in found:
        if one is None:
            raise ValueError(f"column {name} of {table}.csv has no description; add it to dc_hpc/report/columns.py")
    return _metrics(one for _, one in found if one)


def _missing() -> Iterator[str]:
    """The table of missing runs, where this version writes one."""
    import importlib.util

    if importlib.util.find_spec("dc_hpc.report.missing"):
        yield "### missing.csv"
        yield "It has a row for each panel, grid and setting with missing seeds."
        yield _columns("missing", TABLES["missing"])


def _metrics(metrics: Iterable[Metric], head: str = "column") -> str:
    kinds: Mapping[str, str] = {"int": "whole number", "float": "number", "flag": "True or False", "text": "text"}
    rows = (
        (f"`{one.name}`", f"{kinds[one.dtype]}{f' [{one.unit}]' if one.unit else ''}", _sentence(one.meaning))
        for one in metrics
    )
    return _table((head, "holds", "meaning"), rows)


def _sentence(meaning: str) -> str:
    first, space, rest = meaning.partition(" ")
    first = f"`{first}`" if "_" in first else first[0].upper() + first[1:]  # another column
    return f"{first}{space}{rest}".rstrip(".") + "."


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    PATH.write_text(text())
    print(f"wrote {os.path.relpath(PATH)}")
