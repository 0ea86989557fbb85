"""python -m dc_hpc.submit --grid jobs/fmnist_k.yaml: run what is missing of one or more grids."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from dc_hpc.experiment import store
from dc_hpc.experiment.config import NETS, RunConfig
from dc_hpc.experiment.errors import InputError
from dc_hpc.experiment.execution import DEVICES, ENGINES, Execution, cores
from dc_hpc.experiment.grid import Grid, Resources, parse_override, read_grid

if TYPE_CHECKING:
    from dc_hpc.scheduler.overview import Overview

CLUSTERS = ("local", "slurm", "debug")

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def submit(
    grid: Annotated[
        Optional[list[Path]],  # noqa: UP045  typer reads it at run time, on python 3.10 too
        typer.Option("--grid", "-g", help="A YAML grid; several are allowed."),
    ] = None,
    cluster: Annotated[str, typer.Option(help=f"Where to run: {', '.join(CLUSTERS)}.")] = "local",
    outputs: Annotated[Path, typer.Option(help="Folder for runs, tables and logs.")] = Path("outputs"),
    data: Annotated[Path, typer.Option(envvar="DC_HPC_DATA", help="Folder of the data sets.")] = Path("data"),
    overrides: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--set", metavar="KEY=VALUE", help="Override a setting, e.g. cycles=2 or k=[5,20]; repeatable."),
    ] = None,
    limit: Annotated[Optional[int], typer.Option(min=1, help="Submit at most this many runs.")] = None,  # noqa: UP045
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be submitted; touch nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="slurm: do not ask before submitting.")] = False,
    wait: Annotated[bool, typer.Option(help="local: wait and show progress. Ctrl-C leaves all resumable.")] = True,
    slots: Annotated[int, typer.Option(min=1, help="local: runs at the same time.")] = cores(),
    site: Annotated[Path, typer.Option(help="slurm: the site profile.")] = Path("slurm/default.yaml"),
    aggregate: Annotated[bool, typer.Option(help="slurm: queue the aggregator to come after all runs.")] = True,
    snapshot: Annotated[bool, typer.Option("--snapshot", help="slurm: run from a copy of the code.")] = False,
    probe_site: Annotated[bool, typer.Option("--probe-site", help="Draft a site profile from this cluster.")] = False,
    device: Annotated[str, typer.Option(help=f"{', '.join(DEVICES)}.")] = "auto",
    engine: Annotated[str, typer.Option(help=f"k-means engine: {', '.join(ENGINES)}.")] = "torch",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of one run.")] = 1,
) -> None:
    """Run what is missing of a grid; done and running runs are left alone. Running it again is the recovery."""
    if probe_site:
        _probe_site(site)
        return
    if not grid:
        raise InputError("--grid is missing; give a YAML grid, for example --grid jobs/fmnist_demo.yaml")
    check_cluster(cluster)
    _one_of("--device", device, DEVICES)
    _one_of("--engine", engine, ENGINES)
    check_outputs(outputs)
    data_root = data.expanduser().resolve()
    settings = dict(parse_override(text) for text in overrides or [])
    grids = [read_grid(path, data_root=data_root, overrides=settings) for path in grid]
    configs = {name: config for one in grids for name, config in one.runs.items()}
    seen = look_at(outputs, configs, reconcile=not dry_run)
    missing = [name for name, run in seen.runs.items() if run.state != "done" and not run.lives][:limit]
    _print_bill(grids, seen, missing, outputs)
    job, resources = "+".join(one.name for one in grids)[:64], grids[0].resources
    if cluster == "slurm" and missing:
        _print_slurm_bill(missing, configs, seen, job=job, resources=resources, site=site, outputs=outputs,
                          whole=dry_run)  # fmt: skip
    if dry_run or not missing:
        return
    check_data(configs, data_root)
    if cluster == "slurm":
        _check_slurm()
        _ask(yes)
    execution = Execution(str(data_root), device, threads, engine)
    directories = create_runs(outputs, [configs[name] for name in missing])
    after = ["--outputs", str(outputs.absolute()), "--data", str(data_root)] if aggregate else None
    unfinished = launch_runs(directories, execution, name=job, resources=resources, cluster=cluster, outputs=outputs,
                             slots=slots, site=site, wait=wait, aggregate=after, snapshot=snapshot)  # fmt: skip
    if unfinished:
        raise typer.Exit(1)


def look_at(outputs: Path, configs: dict[str, RunConfig], *, reconcile: bool = True) -> Overview:
    """The runs as they stand. reconcile: first settle submissions whose answer from sbatch was lost."""
    from dc_hpc.scheduler import overview, submissions

    known = submissions.read_all(outputs)
    if reconcile and any(one.job is None for one in known):
        from dc_hpc.scheduler import launch, slurm

        tasks = slurm.tasks()
        if tasks is None:
            lost = [one.name for one in known if one.job is None]
            raise InputError(f"SLURM does not answer, and nobody knows whether {', '.join(lost)} arrived; try again "
                             "when squeue works")  # fmt: skip
        return overview.look(outputs, configs, tasks, launch.reconcile(outputs, tasks))
    return overview.look(outputs, configs, known=known)


def launch_runs(directories: list[Path], execution: Execution, *, name: str, resources: Resources, cluster: str,
                outputs: Path, slots: int, site: Path, wait: bool, aggregate: list[str] | None = None,
                snapshot: bool = False) -> int | None:
    """Submit run directories; returns how many did not end done, or None when nobody waited for them.

    aggregate: arguments of the aggregator that is queued after them on a cluster.
    """
    # submitit takes a third of a second to import; --dry-run and --help do without
    from dc_hpc.scheduler import launch, progress

    folder = outputs / "slurm" / name
    if cluster == "debug":
        launch.run_here(directories, execution, folder=folder)
    elif cluster == "slurm":
        _launch_slurm(directories, execution, name=name, resources=resources, outputs=outputs, site=site,
                      aggregate=aggregate, snapshot=snapshot)  # fmt: skip
        return None
    else:
        jobs = launch.submit_local(directories, execution, slots=slots, folder=folder, survive_logout=not wait)
        if not wait:
            print(f"started {len(jobs)} jobs on this machine; logs in {folder}; the same command shows the states")
            return None
        _watch(jobs, directories)
    return progress.print_outcome(directories, folder)


def _launch_slurm(directories: list[Path], execution: Execution, *, name: str, resources: Resources, outputs: Path,
                  site: Path, aggregate: list[str] | None, snapshot: bool) -> None:
    from dc_hpc.experiment import code
    from dc_hpc.scheduler import launch
    from dc_hpc.scheduler.site import read_site

    profile = read_site(site)
    if snapshot:
        copied = code.snapshot(outputs)
        profile = launch.with_code(profile, copied)
        print(f"the runs use the copy of the code in {copied}")
    made = launch.submit_slurm(directories, execution, site=profile, resources=resources, name=name, outputs=outputs,
                               code=code.code_facts())  # fmt: skip
    for one in made:
        print(f"submitted job {one.job} ({one.name}): {len(one.runs)} tasks")
    if aggregate is not None:
        last = launch.submit_aggregator(made, aggregate, site=profile, name=name, outputs=outputs)
        print(f"submitted job {last.job}: the aggregator, when all of them have ended")
    print(f"logs in {outputs / 'slurm' / name}; how they stand: python -m dc_hpc.status --outputs {outputs}")


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


def _print_bill(grids: list[Grid], seen: Overview, missing: list[str], outputs: Path) -> None:
    """The runs by state, and how many will be submitted."""
    for one in grids:
        shared = f", {len(one.runs)} runs" if len(one.runs) < len(one.points) else ""
        print(f"{one.path}: {len(one.points)} points{shared}")
    print(", ".join(f"{count} {name}" for name, count in seen.counts().items()) + f" in {outputs}")
    for run in seen.runs.values():
        if run.state == "failed":
            print(f"  failed: {run.name}: {run.reason} (traceback in its attempts folder)")
    print(f"to submit: {len(missing)}")


def _print_slurm_bill(missing: list[str], configs: dict[str, RunConfig], seen: Overview, *, job: str,
                      resources: Resources, site: Path, outputs: Path, whole: bool) -> None:
    """Tasks, and the hours they may take: at most by the limits, likely by what cycles took so far."""
    from dc_hpc.scheduler.overview import measure
    from dc_hpc.scheduler.site import read_site

    profile = read_site(site)
    tasks = math.ceil(len(missing) / resources.runs_per_task)
    cores_each = max(profile.cpus, resources.parallel_runs)
    unit, each = ("GPU-hours", profile.gpus) if profile.gpus else ("core-hours", cores_each)
    print(f"tasks: {tasks} of {resources.runs_per_task} runs, {resources.parallel_runs} at a time, at most "
          f"{resources.minutes} minutes each: at most {tasks * resources.minutes / 60 * each:.1f} {unit}")
    seconds = measure(outputs, seen).cycle_seconds
    if seconds is None:
        print("estimate: no run of this grid was measured yet; try --limit 1 first")
    else:
        left = sum(max(configs[name].cycles, 1) - seen.runs[name].cycles_done for name in missing)
        print(f"estimate: {left} cycles of {seconds:.2g} s (median so far): "
              f"{left * seconds / 3600 / resources.parallel_runs * each:.2g} {unit}, without loading and probes")
    if whole:
        from dc_hpc.scheduler.launch import sbatch_text

        print(sbatch_text(profile, resources, name=job, outputs=outputs, tasks=tasks))


def _check_slurm() -> None:
    from dc_hpc.scheduler.launch import check_slurm

    check_slurm()


def _ask(yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise InputError("submitting to a cluster wants a yes: give --yes (or look first with --dry-run)")
    if not typer.confirm("submit?"):
        raise typer.Exit(1)


def _probe_site(site: Path) -> None:
    from dc_hpc.experiment import files
    from dc_hpc.scheduler import slurm
    from dc_hpc.scheduler.site import drafted

    found = slurm.partitions()
    if not found:
        raise InputError("--probe-site needs a SLURM that answers, and `scontrol show partition` does not; log in to "
                         "the cluster")  # fmt: skip
    draft = drafted(found, slurm.gpus_of_nodes(), slurm.max_array_size())
    print(draft, end="")
    target = Path("slurm/probed.yaml") if site == Path("slurm/default.yaml") else site
    files.make_directory(target.parent)
    if not files.write_once(target, draft.encode()):
        raise InputError(f"{target} is there already and is left as it is; give another --site")
    print(f"# written to {target}")


def check_cluster(cluster: str) -> None:
    """Refuse a place to run that does not exist."""
    _one_of("--cluster", cluster, CLUSTERS)


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
    from dc_hpc.cli import run_door

    run_door(app)
