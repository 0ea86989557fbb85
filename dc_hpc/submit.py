"""python -m dc_hpc.submit --grid jobs/fmnist_k.yaml: run what is missing of one or more grids."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Optional

import typer

from dc_hpc.experiment import store
from dc_hpc.experiment.config import NETS, RunConfig
from dc_hpc.experiment.errors import InputError
from dc_hpc.experiment.execution import DEVICES, ENGINES, Execution
from dc_hpc.experiment.grid import Grid, parse_override, read_grid

CLUSTERS = ("local", "slurm", "debug")

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def submit(
    grid: Annotated[list[Path], typer.Option("--grid", "-g", help="A YAML grid; several are allowed.")],
    cluster: Annotated[str, typer.Option(help=f"Where to run: {', '.join(CLUSTERS)}.")] = "local",
    outputs: Annotated[Path, typer.Option(help="Folder for runs, tables and logs.")] = Path("outputs"),
    data: Annotated[Path, typer.Option(envvar="DC_HPC_DATA", help="Folder of the data sets.")] = Path("data"),
    overrides: Annotated[
        Optional[list[str]],  # noqa: UP045  typer reads it at run time, on python 3.10 too
        typer.Option("--set", metavar="KEY=VALUE", help="Override a setting, e.g. cycles=2 or k=[5,20]; repeatable."),
    ] = None,
    limit: Annotated[Optional[int], typer.Option(min=1, help="Submit at most this many runs.")] = None,  # noqa: UP045
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be submitted; touch nothing.")] = False,
    wait: Annotated[bool, typer.Option(help="local: wait and show progress. Ctrl-C leaves all resumable.")] = True,
    slots: Annotated[int, typer.Option(min=1, help="local: runs at the same time.")] = os.cpu_count() or 1,
    site: Annotated[Path, typer.Option(help="slurm: the site profile.")] = Path("slurm/default.yaml"),
    device: Annotated[str, typer.Option(help=f"{', '.join(DEVICES)}.")] = "auto",
    engine: Annotated[str, typer.Option(help=f"k-means engine: {', '.join(ENGINES)}.")] = "torch",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of one run.")] = 1,
) -> None:
    """Run what is missing of a grid; done and running runs are left alone. Running it again is the recovery."""
    _one_of("--cluster", cluster, CLUSTERS)
    _one_of("--device", device, DEVICES)
    _one_of("--engine", engine, ENGINES)
    data_root = data.expanduser().resolve()
    settings = dict(parse_override(text) for text in overrides or [])
    grids = [read_grid(path, data_root=data_root, overrides=settings) for path in grid]
    configs = {name: config for one in grids for name, config in one.runs.items()}
    states = {name: store.state_of(store.runs_folder(outputs) / name) for name in configs}
    missing = [name for name, state in states.items() if state.name not in ("done", "running")][:limit]
    _print_bill(grids, states, missing, outputs)
    if dry_run or not missing:
        return
    _check_data(configs, data_root)
    execution = Execution(str(data_root), device, threads, engine)
    directories = _create(outputs, [configs[name] for name in missing])
    _launch(directories, execution, grids=grids, cluster=cluster, outputs=outputs, slots=slots, site=site, wait=wait)


def _launch(directories: list[Path], execution: Execution, *, grids: list[Grid], cluster: str, outputs: Path,
            slots: int, site: Path, wait: bool) -> None:
    # submitit takes a third of a second to import; --dry-run and --help do without
    from dc_hpc.scheduler import launch, progress
    from dc_hpc.scheduler.site import read_site

    name = "+".join(one.name for one in grids)
    folder = outputs / "slurm" / name[:64]
    if cluster == "debug":
        launch.run_here(directories, execution, folder=folder)
    elif cluster == "slurm":
        jobs = launch.submit_slurm(directories, execution, site=read_site(site), resources=grids[0].resources,
                                   name=name[:64], folder=folder)  # fmt: skip
        print(f"submitted {len(jobs)} tasks of job {jobs[0].job_id.split('_')[0]}; logs in {folder}")
        return
    else:
        jobs = launch.submit_local(directories, execution, slots=slots, folder=folder, survive_logout=not wait)
        if not wait:
            print(f"started {len(jobs)} jobs on this machine; logs in {folder}; the same command shows the states")
            return
        _watch(jobs, directories)
    failed = progress.print_outcome(directories, folder)
    raise typer.Exit(1 if failed else 0)


def _watch(jobs: list, directories: list[Path]) -> None:
    from dc_hpc.scheduler import launch, progress

    try:
        progress.watch(jobs, directories)
    except KeyboardInterrupt:
        print("\nsaving; press Ctrl-C again to leave at once (nothing is lost but the last minute)")
        launch.stop_local(jobs)
        progress.wait_for_end(jobs)
        print("stopped; the same command goes on from here")
        raise typer.Exit(130) from None


def _print_bill(grids: list[Grid], states: dict[str, store.RunState], missing: list[str], outputs: Path) -> None:
    """The runs by state, and how many will be submitted."""
    for one in grids:
        shared = f", {len(one.runs)} runs" if len(one.runs) < len(one.points) else ""
        print(f"{one.path}: {len(one.points)} points{shared}")
    counts = {name: sum(state.name == name for state in states.values()) for name in store.STATES}
    print(", ".join(f"{count} {name}" for name, count in counts.items()) + f" in {outputs}")
    for name, state in states.items():
        if state.name == "failed":
            print(f"  failed: {name}: {state.reason} (traceback in its attempts folder)")
    print(f"to submit: {len(missing)}")


def _create(outputs: Path, configs: list[RunConfig]) -> list[Path]:
    try:
        return [store.create(outputs, config) for config in configs]
    except OSError as error:
        raise InputError(f"--outputs {outputs} cannot be written ({error.strerror}); give a folder of your own with "
                         "--outputs") from None


def _check_data(configs: dict[str, RunConfig], data_root: Path) -> None:
    """Refuse before anything is written when a data set is missing, damaged, or does not fit the runs."""
    from dc_hpc.experiment.datasets import verify

    found = {dataset: verify(dataset, data_root) for dataset in {config.dataset for config in configs.values()}}
    for name, config in configs.items():
        channels, images = found[config.dataset]
        if channels != NETS[config.net].channels:
            raise InputError(f"{name}: net {config.net} reads {NETS[config.net].channels} channels and the images of "
                             f"{config.dataset} have {channels}; choose another base or net")
        if config.k > images:
            raise InputError(f"{name}: k {config.k} is larger than the {images} training images of {config.dataset}")


def _one_of(flag: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InputError(f"{flag} {value!r} is not allowed; allowed: {', '.join(allowed)}")


if __name__ == "__main__":
    from dc_hpc.cli import run_door

    run_door(app)
