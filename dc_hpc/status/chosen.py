"""Which runs a subcommand is about: the options that choose them, and the option that consents to a change."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dc_hpc.config.grid import read_grid
from dc_hpc.config.run_config import RunConfig
from dc_hpc.errors import InputError
from dc_hpc.storage import run_directory

GridOption = Annotated[
    list[Path] | None,
    typer.Option("--grid", "-g", metavar="FILE", help="Only the runs of this grid. May be given several times."),
]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="The name of a run, or a unique beginning of it.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.")]


def chosen_runs(grids: list[Path] | None, outputs: Path, data: Path) -> dict[str, RunConfig | None]:
    """The runs of these grids with their settings, or all runs of the outputs folder with None; each once."""
    run_directory.check_outputs_exist(outputs)
    if not grids:
        return dict.fromkeys(directory.name for directory in run_directory.run_directories(outputs))
    root = data.expanduser().resolve()
    return {name: config for path in grids for name, config in read_grid(path, data_root=root).runs.items()}


def run_names(grids: list[Path] | None, outputs: Path, data: Path) -> list[str]:
    """The runs of these grids, or all runs of the outputs folder; each once."""
    return list(chosen_runs(grids, outputs, data))


def one_run(text: str, outputs: Path) -> str:
    """The run that a name, or a unique beginning of one, means."""
    run_directory.check_outputs_exist(outputs)
    names = [directory.name for directory in run_directory.run_directories(outputs)]
    found = [text] if text in names else [name for name in names if name.startswith(text)]
    if len(found) != 1:
        why = (
            f"{len(found)} runs begin with it, e.g. {', '.join(found[:3])}"
            if found
            else f"no run in {outputs} begins with it"
        )
        raise InputError(f"run {text!r}: {why}; {run_directory.runs_folder(outputs)} has a folder for each run")
    return found[0]
