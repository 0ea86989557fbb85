"""python -m dc_hpc.submit --grid jobs/fmnist_k.yaml: run what is missing of one or more grids."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from dc_hpc.algorithm.net_specs import NET_SPECS
from dc_hpc.config.grid import Grid, Resources, parse_override, read_grid
from dc_hpc.config.run_config import RunConfig
from dc_hpc.errors import InputError
from dc_hpc.experiment import reuse
from dc_hpc.experiment.device import check_device
from dc_hpc.experiment.execution import CLUSTERS, DEVICES, KMEANS_BACKENDS, Execution, cores
from dc_hpc.storage import run_directory

if TYPE_CHECKING:
    from dc_hpc.scheduler.run_status import Overview
    from dc_hpc.scheduler.site import Site

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
    engine: Annotated[str, typer.Option(help=f"k-means engine: {', '.join(KMEANS_BACKENDS)}.")] = "torch",
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
    _one_of("--engine", engine, KMEANS_BACKENDS)
    check_outputs(outputs)
    data_root = data.expanduser().resolve()
    settings = dict(parse_override(text) for text in overrides or [])
    grids = [read_grid(path, data_root=data_root, overrides=settings) for path in grid]
    configs = {name: config for one in grids for name, config in one.runs.items()}
    profile = cluster_profile(cluster, site, dry_run=dry_run)
    seen = look_at(outputs, configs, cluster=cluster, dry_run=dry_run)
    missing = [name for name in reuse.ordered(configs) if seen.runs[name].is_missing][:limit]
    shares = _shares(grids, missing)
    _print_bill(grids, shares, configs, seen, outputs, profile, whole=dry_run)
    if dry_run or not missing:
        return
    check_data(configs, data_root)
    if profile:
        _ask(yes)
    else:
        check_device(device)
    execution = Execution(str(data_root), device, threads, engine)
    directories = dict(zip(missing, create_runs(outputs, [configs[name] for name in missing])))
    if profile:
        work = [(one.name, one.resources, [directories[name] for name in share]) for one, share in shares]
        after = ["--outputs", str(outputs.absolute()), "--data", str(data_root)] if aggregate else None
        send_to_slurm(work, execution, site=profile, outputs=outputs, aggregate=after, snapshot=snapshot)
    elif run_here(
        list(directories.values()),
        execution,
        name="+".join(one.name for one in grids)[:64],
        cluster=cluster,
        outputs=outputs,
        slots=slots,
        wait=wait,
    ):
        raise typer.Exit(1)


def look_at(outputs: Path, configs: dict[str, RunConfig], *, cluster: str, dry_run: bool = False) -> Overview:
    """The runs as they stand, and first, before a submission, what became of those whose answer from sbatch was lost.

    InputError when that, or which runs wait in the queue, cannot be known because SLURM does not answer.
    """
    from dc_hpc.scheduler import run_status, submissions

    known = submissions.read_all(outputs)
    if dry_run or not known:
        return run_status.look(outputs, configs, known=known)
    from dc_hpc.scheduler import sbatch, slurm

    tasks, lost = slurm.tasks(), [one.name for one in known if one.job is None]
    if tasks is None and (lost or cluster == "slurm"):
        unknown = f"whether {', '.join(lost)} arrived" if lost else "which runs are in its queue"
        raise InputError(f"SLURM does not answer, and nobody knows {unknown}; try again when squeue works")
    if lost:
        known = sbatch.reconcile(outputs, tasks)
    return run_status.look(outputs, configs, tasks, known)


def run_here(
    directories: list[Path], execution: Execution, *, name: str, cluster: str, outputs: Path, slots: int, wait: bool
) -> int:
    """Run on this machine; returns how many runs did not end done, 0 when nobody waited for them."""
    # submitit takes a third of a second to import; --dry-run and --help do without
    from dc_hpc.scheduler import launch, progress

    folder = outputs / "slurm" / (re.sub(r"[^A-Za-z0-9._+-]", "_", name).lstrip(".-") or "grid")
    if cluster == "debug":
        launch.run_here(directories, execution, folder=folder)
        return progress.print_outcome(directories, folder)
    job = launch.submit_local(directories, execution, slots=slots, folder=folder, survive_logout=not wait)
    if not wait:
        print(f"started on this machine; logs in {folder}; how they stand: python -m dc_hpc.status --outputs {outputs}")
        return 0
    _watch(job, directories)
    return progress.print_outcome(directories, folder)


def send_to_slurm(
    work: list[tuple[str, Resources, list[Path]]],
    execution: Execution,
    *,
    site: Site,
    outputs: Path,
    aggregate: list[str] | None,
    snapshot: bool = False,
) -> None:
    """Submit run directories as arrays, one or more for each grid's (name, resources, directories).

    aggregate: arguments of the aggregator that is queued after all of them; None for none.
    """
    from dc_hpc.experiment import provenance
    from dc_hpc.scheduler import launch

    if snapshot:
        copied = provenance.snapshot(outputs)
        site = launch.with_code(site, copied)
        print(f"the runs use the copy of the code in {copied}")
    facts, made = provenance.code_record(), []
    for name, resources, directories in work:
        arrays = launch.submit_slurm(
            directories, execution, site=site, resources=resources, name=name, outputs=outputs, code=facts
        )
        for one in arrays:
            print(f"submitted job {one.job} ({one.name}): {len(one.runs)} tasks, logs in {outputs / 'slurm' / name}")
        made += arrays
    if aggregate is not None:
        last = launch.submit_aggregator(made, aggregate, site=site, name=work[0][0], outputs=outputs)
        print(f"submitted job {last.job}: the aggregator, when all of them have ended")
    print(f"how they stand: python -m dc_hpc.status --outputs {outputs}")


def _watch(job: Any, directories: list[Path]) -> None:
    from dc_hpc.scheduler import launch, progress

    try:
        progress.watch(job, directories)
    except KeyboardInterrupt:
        print("\nsaving; press Ctrl-C again to leave at once (nothing is lost but the last minute)")
        launch.stop_local(job)
        progress.wait_for_end(job)
        print("stopped; the same command goes on from here")
        raise typer.Exit(130) from None


def _shares(grids: list[Grid], missing: list[str]) -> list[tuple[Grid, list[str]]]:
    """The missing runs of each grid that has some; a run that several grids share goes with the first."""
    left, shares = list(missing), []
    for one in grids:
        share = [name for name in left if name in one.runs]
        left = [name for name in left if name not in one.runs]
        if share:
            shares.append((one, share))
    return shares


def _print_bill(
    grids: list[Grid],
    shares: list[tuple[Grid, list[str]]],
    configs: dict[str, RunConfig],
    seen: Overview,
    outputs: Path,
    site: Site | None,
    *,
    whole: bool,
) -> None:
    """whole: print the scripts for sbatch too."""
    from dc_hpc.scheduler import cost

    print(cost.runs_bill(grids, seen, [name for _, share in shares for name in share], outputs))
    if site is None:
        common = cost.sharing_bill([[configs[name] for _, share in shares for name in share]])
        print(common, end="\n" if common else "")
        return
    for one, share in shares:
        runs = [configs[name] for name in share]
        print(cost.cluster_bill(runs, seen, resources=one.resources, site=site, outputs=outputs))
        if whole:
            from dc_hpc.scheduler.launch import sbatch_text

            tasks = len(cost.packed(runs, one.resources))
            print(sbatch_text(site, one.resources, name=one.name, outputs=outputs, tasks=tasks))


def _ask(yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise InputError("submitting to a cluster wants a yes: give --yes (or look first with --dry-run)")
    if not typer.confirm("submit?"):
        raise typer.Exit(1)


def _probe_site(site: Path) -> None:
    from dc_hpc.scheduler import slurm
    from dc_hpc.scheduler.site import drafted
    from dc_hpc.storage import atomic_files

    found = slurm.partitions()
    if not found:
        raise InputError(
            "--probe-site needs a SLURM that answers, and `scontrol show partition` does not; log in to the cluster"
        )
    draft = drafted(found, slurm.gpus_of_nodes(), slurm.max_array_size())
    print(draft, end="")
    target = Path("slurm/probed.yaml") if site == Path("slurm/default.yaml") else site
    atomic_files.make_directory(target.parent)
    if not atomic_files.write_once(target, draft.encode()):
        raise InputError(f"{target} is there already and is left as it is; give another --site")
    print(f"# written to {target}")


def check_cluster(cluster: str) -> None:
    """Refuse a place to run that does not exist."""
    _one_of("--cluster", cluster, CLUSTERS)


def cluster_profile(cluster: str, path: Path, *, dry_run: bool = False) -> Site | None:
    """The site profile where one is needed; refused before anything is written. A dry run needs no sbatch."""
    if cluster != "slurm":
        return None
    if shutil.which("sbatch") is None and not dry_run:
        raise InputError(
            "--cluster slurm needs sbatch, which is not on this machine's PATH; log in to the cluster, or "
            "use --cluster local"
        )
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
        return [run_directory.create(outputs, config) for config in configs]
    except OSError as error:
        raise InputError(
            f"--outputs {outputs} cannot be written ({error.strerror}); free space or take another "
            "folder, and run the same command again"
        ) from None


def check_data(configs: dict[str, RunConfig], data_root: Path) -> None:
    """Refuse before anything is written when a data set is missing, damaged, or does not fit the runs."""
    from dc_hpc.data.official import verify

    found = {dataset: verify(dataset, data_root) for dataset in {config.dataset for config in configs.values()}}
    for name, config in configs.items():
        channels, images = found[config.dataset]
        if channels != NET_SPECS[config.net].channels:
            raise InputError(
                f"{name}: net {config.net} reads {NET_SPECS[config.net].channels} channels and the images of "
                f"{config.dataset} have {channels}; choose another base or net"
            )
        if config.k > images:
            raise InputError(f"{name}: k {config.k} is larger than the {images} training images of {config.dataset}")


def _one_of(flag: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InputError(f"{flag} {value!r} is not allowed; allowed: {', '.join(allowed)}")


if __name__ == "__main__":
    from dc_hpc.cli import run_cli

    run_cli(app)
