"""python -m dc_hpc.submit --grid jobs/fmnist_k.yaml: compute the runs of one or more grids that are not done yet."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dc_hpc.cli import (
    AllowOwnNetsOption,
    DataOption,
    OutputsOption,
    OverridesOption,
    SiteOption,
    SlotsOption,
    SubmitYesOption,
    ask_consent,
    new_app,
    one_of,
    run_cli,
)
from dc_hpc.config.grid import Grid, parse_overrides, read_grid
from dc_hpc.config.run_config import RunConfig
from dc_hpc.errors import InputError
from dc_hpc.experiment import reuse
from dc_hpc.experiment.device import check_device, check_kmeans_backend
from dc_hpc.experiment.execution import CLUSTERS, DEVICES, KMEANS_BACKENDS, Execution, cores
from dc_hpc.report.claims.plans import PLANS
from dc_hpc.report.questions.plans import PLANS as QUESTION_PLANS
from dc_hpc.report.questions.plans import plan_of
from dc_hpc.scheduler import session
from dc_hpc.storage import numerics, run_directory

if TYPE_CHECKING:
    from dc_hpc.scheduler.run_status import RunStatusTable
    from dc_hpc.scheduler.site import Site
    from dc_hpc.scheduler.submitting.grids import GridRequest

_ONLY = ("failed", "resumable", "new")
_CORES, _DEFAULT_SITE = cores(), Path("slurm/default.yaml")

app = new_app()


@app.command()
def submit(
    grid: Annotated[
        list[Path] | None, typer.Option("--grid", "-g", metavar="FILE", help="A YAML grid. May be given several times.")
    ] = None,
    claim: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A claim of the paper, e.g. fig_5b.dip, or a panel of our questions, e.g. valley_arms: the runs "
            "that the verdict needs. May be given several times.",
            autocompletion=one_of((*PLANS, *QUESTION_PLANS)),
        ),
    ] = None,
    cluster: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Where to run: local (processes here), slurm, debug (this process alone).",
            autocompletion=one_of(CLUSTERS),
        ),
    ] = "local",
    outputs: OutputsOption = Path("outputs"),
    data: DataOption = Path("data"),
    overrides: OverridesOption = None,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="STATE", help=f"Only runs in this state: {', '.join(_ONLY)}. Repeatable."),
    ] = None,
    limit: Annotated[int | None, typer.Option(metavar="N", min=1, help="Submit at most this many runs.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be submitted and write nothing.")
    ] = False,
    yes: SubmitYesOption = False,
    new: Annotated[
        bool, typer.Option("--new", help="Let runs that an older numerics began start again; else they are refused.")
    ] = False,
    wait: Annotated[
        bool, typer.Option(help="local: wait and show the progress. Ctrl-C stops the runs; all can be resumed.")
    ] = True,
    slots: SlotsOption = _CORES,
    site: SiteOption = _DEFAULT_SITE,
    aggregate: Annotated[bool, typer.Option(help="slurm: queue a last job that makes the tables and figures.")] = True,
    snapshot: Annotated[bool, typer.Option("--snapshot", help="slurm: run from a copy of the code.")] = False,
    probe_site: Annotated[
        bool, typer.Option("--probe-site", help="Only draft a site profile from this cluster's answers.")
    ] = False,
    device: Annotated[
        str, typer.Option(metavar="NAME", help=f"Compute on: {', '.join(DEVICES)}.", autocompletion=one_of(DEVICES))
    ] = "auto",
    kmeans_backend: Annotated[
        str,
        typer.Option(
            metavar="NAME", help=f"k-means by: {', '.join(KMEANS_BACKENDS)}.", autocompletion=one_of(KMEANS_BACKENDS)
        ),
    ] = "torch",
    engine: Annotated[str | None, typer.Option(hidden=True)] = None,  # the name that --kmeans-backend had
    threads: Annotated[int, typer.Option(metavar="N", min=1, help="CPU threads of one run.")] = 1,
    allow_own_nets: AllowOwnNetsOption = False,
) -> None:
    """Compute the runs of a grid that are not done yet.

    Runs that are done, running or queued are left alone. After an interruption or a failure, run the same command
    again: it continues every run from its last checkpoint.
    """
    if probe_site:
        _probe_site(site)
        return
    if not grid and not claim:
        raise InputError("--grid is missing; give a YAML grid, for example --grid jobs/fmnist_demo.yaml")
    execution = Execution(str(data.expanduser().resolve()), device, threads, engine or kmeans_backend)
    _check_options(cluster, execution, outputs, only or [])
    settings = parse_overrides(overrides or [])
    sources = [(path, settings) for path in grid or ()]
    sources += [one for name in claim or () for one in _grids_of(name, settings)]
    profile, plan = _plan(sources, outputs, execution, cluster=cluster, site=site, dry_run=dry_run)
    execution = session.with_own_nets(execution, plan.configs, allowed=allow_own_nets, site=profile)
    plan = plan.reduced(only or (), limit)
    _print_cost(plan, outputs, profile, execution, slots=slots, with_scripts=dry_run)
    if profile:
        from dc_hpc.scheduler.limits.before_sending import check_limits

        requested = [(one.name, one.resources, len(share)) for one, share in plan.shares()]
        check_limits(profile, requested, device=device, threads=threads, aggregate=aggregate)
    if dry_run or not (plan.missing or (profile and aggregate and plan.lacks_aggregator())):
        return
    session.check_data(plan.configs, Path(execution.data))
    if not new:
        numerics.check_numerics(run_directory.runs_folder(outputs) / name for name in plan.missing)
    if profile:
        _send(plan, profile, execution, outputs, yes=yes, aggregate=aggregate, snapshot=snapshot, anew=new)
    else:
        check_device(device)
        _compute(plan, execution, outputs, cluster=cluster, slots=slots, wait=wait, anew=new)


@dataclass(frozen=True)
class _Plan:
    """The grids, their runs, the status of these, the names of the runs to submit, and the site; None without one."""

    grids: list[Grid]
    configs: dict[str, RunConfig]
    status: RunStatusTable
    missing: list[str]
    site: Site | None = None

    @property
    def name(self) -> str:
        """The names of the grids, at most 64 letters."""
        return "+".join(one.name for one in self.grids)[:64]

    def reduced(self, states: Collection[str], limit: int | None) -> _Plan:
        """The plan to submit only runs in these states, all where there are none, and at most so many.

        Runs that diverged are left out unless a person asks for failed runs.
        """
        runs, chosen = self.status.runs, list(self.missing)
        if states:
            chosen = [name for name in chosen if runs[name].state in states]
        if "failed" not in states:
            chosen = [name for name in chosen if not runs[name].has_diverged]
        return replace(self, missing=chosen[:limit])

    def shares(self) -> list[tuple[Grid, list[str]]]:
        """The missing runs of each grid that has some. A run that several grids share belongs to the first.

        Runs that ran out of memory are apart from the others of their grid where the site lets them have more.
        """
        left, shares = list(self.missing), []
        for one in self.grids:
            share = [name for name in left if name in one.runs]
            left = [name for name in left if name not in one.runs]
            shares += [(one, part) for part in self._parts(share) if part]
        return shares

    def requests(self) -> list[GridRequest]:
        """What to send of each grid; of the first grid at least its name, which the aggregator takes."""
        from dc_hpc.scheduler.submitting.grids import GridRequest

        shares = self.shares() or [(self.grids[0], [])]
        return [
            GridRequest(one.name, one.resources, {run: self.configs[run] for run in share}) for one, share in shares
        ]

    def lacks_aggregator(self) -> bool:
        """Whether an earlier call did not send the aggregator, or SLURM refused it."""
        from dc_hpc.scheduler.submitting.situation import Situation

        now = Situation(self.status)
        return now.needs_aggregator(self.grids[0].name, now.living())

    def _parts(self, share: list[str]) -> list[list[str]]:
        if self.site is None:
            return [share]
        from dc_hpc.scheduler.tasks import memory_retry

        return memory_retry.split(self.site, share, self.status)


def _check_options(cluster: str, execution: Execution, outputs: Path, only: Sequence[str]) -> None:
    session.check_cluster(cluster)
    for state in only:
        session.check_choice("--only", state, _ONLY)
    session.check_choice("--device", execution.device, DEVICES)
    session.check_choice("--kmeans-backend", execution.kmeans_backend, KMEANS_BACKENDS)
    session.check_outputs(outputs)


def _grids_of(claim: str, settings: Mapping[str, Any]) -> list[tuple[Path, dict[str, Any]]]:
    """The grids of a claim, each with the settings that differ from it: the claim's, then those of --set."""
    plan = plan_of(claim)
    return [(Path("jobs") / f"{name}.yaml", plan.overrides(name, settings)) for name in plan.grids]


def _plan(
    sources: Sequence[tuple[Path, dict[str, Any]]],
    outputs: Path,
    execution: Execution,
    *,
    cluster: str,
    site: Path,
    dry_run: bool,
) -> tuple[Site | None, _Plan]:
    """The site profile, None without a cluster, and what is to be submitted. Reads only.

    sources: the file of each grid, and the settings that differ from it.
    """
    data = Path(execution.data)
    grids = [read_grid(path, data_root=data, overrides=settings) for path, settings in sources]
    configs = {name: config for one in grids for name, config in one.runs.items()}
    profile = session.cluster_profile(cluster, site, dry_run=dry_run)
    status = session.current_status(
        outputs, configs, cluster=cluster, dry_run=dry_run, site=profile, grids=[one.name for one in grids]
    )
    missing = [name for name in reuse.ordered(configs) if status.runs[name].is_missing]
    return profile, _Plan(grids, configs, status, missing, profile)


def _print_cost(
    plan: _Plan, outputs: Path, site: Site | None, execution: Execution, *, slots: int, with_scripts: bool
) -> None:
    """Print the cost estimate, with the scripts for sbatch where asked for."""
    from dc_hpc.scheduler import cost

    shares = plan.shares()
    print(cost.describe_runs(plan.grids, plan.status, plan.missing, outputs))
    if site is None:
        reused = cost.describe_reuse([[plan.configs[name] for _, share in shares for name in share]])
        runs = [plan.configs[name] for name in plan.missing]
        device = execution.device
        time = cost.describe_local_time(runs, plan.status, requested=device, slots=slots, outputs=outputs)
        print(*filter(None, (reused, time)), sep="\n", end="\n" if reused or time else "")
        return
    from dc_hpc.scheduler.tasks import memory_retry

    usual = site
    for one, share in shares:
        runs = [plan.configs[name] for name in share]
        site = memory_retry.raised(usual, share, plan.status)
        if line := memory_retry.describe_share(usual, share, plan.status):
            print(line)
        print(cost.describe_cluster_cost(runs, plan.status, resources=one.resources, site=site, outputs=outputs))
        if with_scripts:
            from dc_hpc.scheduler.launch import sbatch_text

            tasks = len(cost.split_into_tasks(runs, one.resources))
            print(sbatch_text(site, one.resources, name=one.name, outputs=outputs, tasks=tasks))


def _send(
    plan: _Plan,
    site: Site,
    execution: Execution,
    outputs: Path,
    *,
    yes: bool,
    aggregate: bool,
    snapshot: bool,
    anew: bool,
) -> None:
    """Send the runs to SLURM, and the aggregator behind them. yes: without asking."""
    from dc_hpc.scheduler.submitting.grids import send_to_slurm

    # a task in a container or after setup lines may have other libraries than this machine
    if not (site.container or site.setup):
        check_kmeans_backend(execution.kmeans_backend)
    ask_consent("submit" if plan.missing else "queue the aggregator, which is missing", yes)
    after = ["--outputs", str(outputs.absolute()), "--data", execution.data] if aggregate else None
    send_to_slurm(
        plan.requests(),
        execution,
        site=site,
        outputs=outputs,
        names=list(plan.configs),
        aggregate=after,
        snapshot=snapshot,
        anew=anew,
    )


def _compute(
    plan: _Plan, execution: Execution, outputs: Path, *, cluster: str, slots: int, wait: bool, anew: bool
) -> None:
    """Compute the runs on this machine."""
    check_kmeans_backend(execution.kmeans_backend)
    session.check_faiss(plan.configs)
    created = session.create_runs(outputs, [plan.configs[name] for name in plan.missing], anew=anew)
    failed = session.run_here(
        created,
        execution,
        name=plan.name,
        cluster=cluster,
        outputs=outputs,
        slots=slots,
        wait=wait,
        suggest_aggregate=True,
    )
    if failed:
        raise typer.Exit(1)


def _probe_site(site: Path) -> None:
    """Print a draft of a site profile and write it to a new file."""
    from dc_hpc.scheduler.limits.cluster import ask_cluster
    from dc_hpc.scheduler.limits.draft import ask_draft
    from dc_hpc.storage import atomic_files

    cluster = ask_cluster()
    if not cluster.partitions:
        raise InputError(
            "--probe-site needs a SLURM that answers, and `scontrol show partition` does not; log in to the cluster"
        )
    draft = ask_draft(cluster)
    print(draft, end="")
    target = Path("slurm/probed.yaml") if site == _DEFAULT_SITE else site
    atomic_files.make_directory(target.parent)
    if not atomic_files.write_once(target, draft.encode()):
        raise InputError(f"{target} exists already and is left as it is; give another --site")
    print(f"# written to {target}")


if __name__ == "__main__":
    run_cli(app)
