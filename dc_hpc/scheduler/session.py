"""What `submit` and `select` have in common: check the options, look at the runs, and start those that are missing."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dc_hpc.config.own_nets import is_own_net, source_path
from dc_hpc.config.run_config import RunConfig, run_id
from dc_hpc.config.yaml_reader import did_you_mean
from dc_hpc.errors import InputError
from dc_hpc.experiment.execution import CLUSTERS, Execution
from dc_hpc.storage import atomic_files, numerics, run_directory

if TYPE_CHECKING:  # importing submitit takes a third of a second; --help and --dry-run do without it
    from dc_hpc.scheduler.run_status import RunStatusTable
    from dc_hpc.scheduler.site import Site


def check_choice(flag: str, value: str, allowed: Collection[str]) -> None:
    """Refuse a value that an option does not have."""
    if value not in allowed:
        raise InputError(
            f"{flag} {value!r} is not allowed{did_you_mean(value, allowed)}; allowed: {', '.join(allowed)}"
        )


def check_cluster(cluster: str) -> None:
    """Refuse a place to run that does not exist."""
    check_choice("--cluster", cluster, CLUSTERS)


def check_outputs(outputs: Path) -> None:
    """Refuse a path that cannot become a folder, before anything is looked up in it."""
    place = outputs
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK):
        why = "is not a folder" if not place.is_dir() else "is not writable by you"
        raise InputError(f"--outputs {outputs} cannot be written ({place} {why}); give a folder of your own")


def check_data(configs: Mapping[str, RunConfig], data_root: Path) -> None:
    """Refuse a data set that is missing or damaged or does not fit the runs, before anything is written."""
    from dc_hpc.data.official import verify

    found = {dataset: verify(dataset, data_root) for dataset in {config.dataset for config in configs.values()}}
    for name, config in configs.items():
        channels, images = found[config.dataset]
        if channels != len(config.mean):
            raise InputError(
                f"{name}: net {config.net} reads {len(config.mean)} channels and the images of "
                f"{config.dataset} have {channels}; choose another base or net"
            )
        if config.k > images:
            raise InputError(f"{name}: k {config.k} is larger than the {images} training images of {config.dataset}")
        if config.pca is not None and config.pca > images:
            raise InputError(
                f"{name}: pca {config.pca} is larger than the {images} training images of {config.dataset}; "
                f"allowed: 1 to {images}, or off"
            )


def check_faiss(configs: Mapping[str, RunConfig]) -> None:
    """Refuse runs that this machine cannot compute because it has no faiss, before anything is written."""
    for name, config in configs.items():
        if config.draws == "authors" and config.kmeans_init == "random" and importlib.util.find_spec("faiss") is None:
            raise InputError(
                f"{name}: draws authors with kmeans_init random calls faiss, which is not installed here: pip install "
                '"dc-hpc[cpu]", or use draws ours'
            )


def cluster_profile(cluster: str, path: Path, *, dry_run: bool = False) -> Site | None:
    """The site profile for `--cluster slurm`, None elsewhere; InputError before anything is written.

    A dry run needs no sbatch on this machine.
    """
    if cluster != "slurm":
        return None
    for command in ("sbatch", "srun"):  # a container may bind one of them
        if shutil.which(command) is None and not dry_run:
            raise InputError(
                f"--cluster slurm needs {command}, which is not on this machine's PATH; log in to the cluster, or "
                "use --cluster local"
            )
    from dc_hpc.scheduler.launch import cluster_of
    from dc_hpc.scheduler.site import read_site

    site = read_site(path)
    cluster_of(site)
    return site


def current_status(
    outputs: Path,
    names: Collection[str],
    *,
    cluster: str,
    dry_run: bool = False,
    site: Site | None = None,
    grids: Sequence[str] = (),
) -> RunStatusTable:
    """The status of the runs; for a cluster it is a first look, and `send_to_slurm` looks again under a lock.

    Submissions whose answer from sbatch was lost are searched for in the queue. Where SLURM does not answer, the runs
    of such submissions, and of those that may wait in a queue that cannot be seen from here, have the state
    `unanswered`; for a cluster it is an InputError. A dry run takes the records
    as they are. grids: names that SLURM gets; InputError where it cannot.
    """
    from dc_hpc.scheduler import run_status, submissions

    damaged: list[str] = []
    known = submissions.read_all(outputs, damaged)
    if site is not None:
        from dc_hpc.scheduler.launch import check_names

        check_names(outputs, grids)
    if dry_run or not (known or damaged or site):
        return run_status.hold_back(run_status.collect(outputs, names, known=known))
    from dc_hpc.scheduler import launch, slurm
    from dc_hpc.scheduler.submitting import situation
    from dc_hpc.scheduler.submitting.settle import no_answer

    target = launch.cluster_of(site) if site else None
    queue = slurm.queue(submissions.clusters_of(known) | ({target} if target is not None else set()))
    if queue.tasks is None and site is not None:
        raise InputError(no_answer(queue))
    if queue.tasks is not None and (site is None or any(one.job is None for one in known)):
        with situation.submission_lock(outputs):
            return situation.look(outputs, names, target).table
    return run_status.hold_back(run_status.collect(outputs, names, queue.tasks, known, queue=lambda known: queue.tasks))


def with_own_nets(
    execution: Execution, configs: Mapping[str, RunConfig], *, allowed: bool, site: Site | None = None
) -> Execution:
    """The same execution, which may run the files of the runs' own nets from this folder; InputError if not allowed.

    allowed: by the person. A site profile may allow it, too.
    """
    own = next((one for one in configs.values() if is_own_net(one.net)), None)
    if own is None:
        return execution
    if not (allowed or (site and site.allow_own_nets)):
        raise InputError(
            f"net {own.net} runs Python code: {source_path(own.net, Path.cwd())}; read that file, then give "
            "--allow-own-nets, or write allow_own_nets: true into the site profile"
        )
    return replace(execution, own_nets=str(Path.cwd()))


def create_runs(
    outputs: Path, configs: Sequence[RunConfig], site: Site | None = None, *, anew: bool = False
) -> list[Path]:
    """Create the directories of runs that are to be submitted, readable by the group where the site says so.

    anew: let the runs that other numerics began start again. Without it such a run is an InputError.
    """
    known = [run_directory.runs_folder(outputs) / run_id(config) for config in configs]
    try:
        if not anew:
            numerics.check_numerics(known)
        elif begun := sum(map(numerics.begin_anew, known)):
            print(f"{begun} runs of other numerics begin anew; what they had is in their quarantine folders")
        share_folders(outputs, site)
        return [run_directory.create(outputs, config) for config in configs]
    except OSError as error:
        raise InputError(
            f"--outputs {outputs} cannot be written ({error.strerror}); free space or take another "
            "folder, and run the same command again"
        ) from None


def share_folders(outputs: Path, site: Site | None) -> None:
    """Let the group read what is written from now on, where the site says so."""
    if site and site.group_readable:
        atomic_files.share_with_group()
        for folder in (outputs, run_directory.runs_folder(outputs), outputs / "slurm"):
            atomic_files.make_directory(folder)


def run_here(
    directories: Sequence[Path],
    execution: Execution,
    *,
    name: str,
    cluster: str,
    outputs: Path,
    slots: int,
    wait: bool,
    suggest_aggregate: bool = False,
) -> int:
    """Compute runs on this machine and print their progress; cluster: `local` or `debug`.

    suggest_aggregate: whether the end names the command that makes tables and figures.
    Returns the number of runs that are not done in the end; 0 without `wait`. After Ctrl-C the runs are saved before
    KeyboardInterrupt is raised again.
    """
    from dc_hpc.scheduler import launch, progress

    folder = outputs / "slurm" / (re.sub(r"[^A-Za-z0-9._+-]", "_", name).lstrip(".-") or "grid")
    if cluster == "debug":
        launch.run_debug(directories, execution, folder=folder)
        return progress.print_outcome(directories, folder, outputs, suggest_aggregate)
    job = launch.submit_local(directories, execution, slots=slots, folder=folder, survive_logout=not wait)
    if not wait:
        path = shlex.quote(str(outputs))
        print(f"started on this machine; logs in {folder}; their status: python -m dc_hpc.status --outputs {path}")
        return 0
    _watch(job, directories, outputs, folder, slots=slots)
    return progress.print_outcome(directories, folder, outputs, suggest_aggregate)


def _watch(job: Any, directories: Sequence[Path], outputs: Path, folder: Path, *, slots: int) -> None:
    from dc_hpc.scheduler import launch, progress

    try:
        progress.watch(job, directories, outputs, slots=slots)
    except KeyboardInterrupt:
        print("\nsaving; press Ctrl-C again to leave at once (that costs the running phase and up to a minute before)")
        launch.stop_local(job)
        progress.wait_for_end(job)
        progress.print_outcome(directories, folder, outputs)
        print("stopped; the same command continues from here")
        raise
