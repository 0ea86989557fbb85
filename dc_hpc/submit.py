"""python -m dc_hpc.submit --grid jobs/fmnist_k.yaml: run what is missing of one or more grids."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from dc_hpc.experiment import store
from dc_hpc.experiment.config import NETS, RunConfig
from dc_hpc.experiment.errors import InputError
from dc_hpc.experiment.execution import CLUSTERS, DEVICES, ENGINES, Execution, cores
from dc_hpc.experiment.grid import Grid, Resources, parse_override, read_grid

if TYPE_CHECKING:
    from dc_hpc.scheduler.site import Site


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
    slots: Annotated[int, typer.Option(min=1, help="local: runs at the same time.")] = cores(),
    site: Annotated[Path, typer.Option(help="slurm: the site profile.")] = Path("slurm/default.yaml"),
    device: Annotated[str, typer.Option(help=f"{', '.join(DEVICES)}.")] = "auto",
    engine: Annotated[str, typer.Option(help=f"k-means engine: {', '.join(ENGINES)}.")] = "torch",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of one run.")] = 1,
) -> None:
    """Run what is missing of a grid; done and running runs are left alone. Running it again is the recovery."""
    check_cluster(cluster)
    _one_of("--device", device, DEVICES)
    _one_of("--engine", engine, ENGINES)
    check_outputs(outputs)
    data_root = data.expanduser().resolve()
    settings = dict(parse_override(text) for text in overrides or [])
    grids = [read_grid(path, data_root=data_root, overrides=settings) for path in grid]
    configs = {name: config for one in grids for name, config in one.runs.items()}
    states = {name: store.state_of(store.runs_folder(outputs) / name) for name in configs}
    missing = [name for name, state in states.items() if state.name not in ("done", "running")][:limit]
    _print_bill(grids, states, missing, outputs)
    if dry_run or not missing:
        return
    check_data(configs, data_root)
    profile = cluster_profile(cluster, site)
    execution = Execution(str(data_root), device, threads, engine)
    directories = create_runs(outputs, [configs[name] for name in missing])
    name = "+".join(one.name for one in grids)[:64]
    unfinished = launch_runs(directories, execution, name=name, resources=grids[0].resources, cluster=cluster,
                             outputs=outputs, slots=slots, site=profile, wait=wait)  # fmt: skip
    if unfinished:
        raise typer.Exit(1)


def launch_runs(directories: list[Path], execution: Execution, *, name: str, resources: Resources, cluster: str,
                outputs: Path, slots: int, site: Site | None, wait: bool) -> int | None:
    """Submit run directories; returns how many did not end done, or None when nobody waited for them."""
    # submitit takes a third of a second to import; --dry-run and --help do without
    from dc_hpc.scheduler import launch, progress

    folder = outputs / "slurm" / name
    if cluster == "debug":
        launch.run_here(directories, execution, folder=folder)
    elif cluster == "slurm":
        jobs = launch.submit_slurm(directories, execution, site=site, resources=resources, name=name, folder=folder)
        print(f"submitted {len(jobs)} tasks of job {jobs[0].job_id.split('_')[0]}; logs in {folder}")
        return None
    else:
        jobs = launch.submit_local(directories, execution, slots=slots, folder=folder, survive_logout=not wait)
        if not wait:
            print(f"started {len(jobs)} jobs on this machine; logs in {folder}; the same command shows the states")
            return None
        _watch(jobs, directories)
    return progress.print_outcome(directories, folder)


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


def check_cluster(cluster: str) -> None:
    """Refuse a place to run that does not exist."""
    _one_of("--cluster", cluster, CLUSTERS)


def cluster_profile(cluster: str, path: Path) -> Site | None:
    """The site profile where one is needed; refused before anything is written."""
    if cluster != "slurm":
        return None
    if shutil.which("sbatch") is None:
        raise InputError("--cluster slurm needs sbatch, which is not on this machine's PATH; log in to the cluster, or "
                         "use --cluster local")
    from dc_hpc.scheduler.site import read_site

    return read_site(path)


def check_outputs(outputs: Path) -> None:
    """Refuse a place that cannot hold a folder, before anything is looked up in it."""
    place = outputs
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK):
        why = "is not a folder" if not place.is_dir() else "is not writable by you"
        raise InputError(f"--outputs {outputs} cannot be written ({place} {why}); give a folder of your own")


def create_runs(outputs: Path, configs: list[RunConfig]) -> list[Path]:
    """The directories of runs that are to be submitted."""
    try:
        return [store.create(outputs, config) for config in configs]
    except OSError as error:
        raise InputError(f"--outputs {outputs} cannot be written ({error.strerror}); free space or take another "
                         "folder, and run the same command again") from None


def check_data(configs: dict[str, RunConfig], data_root: Path) -> None:
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
    from dc_hpc.door import run_door

    run_door(app)
