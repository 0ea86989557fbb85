"""python -m dc_hpc.select: choose seeds or settings by their first clustering, with its labels or without.

With labels it is the Initial Alignment (sections 4.1.2 and 4.3), without them a measure such as the effective rank.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
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
    run_cli,
)
from dc_hpc.config.grid import Grid, Resources, parse_overrides, read_grid
from dc_hpc.config.run_config import RunConfig, run_id
from dc_hpc.config.yaml_reader import short
from dc_hpc.errors import InputError
from dc_hpc.experiment import reuse
from dc_hpc.experiment.execution import CLUSTERS, Execution, cores
from dc_hpc.scheduler import session
from dc_hpc.storage import atomic_files, run_directory

if TYPE_CHECKING:
    from dc_hpc.report.selection.ia import Value
    from dc_hpc.scheduler.site import Site

_CORES = cores()

app = new_app()


@app.command()
def select(
    grid: Annotated[Path, typer.Option("--grid", "-g", metavar="FILE", help="A YAML grid.")],
    span: Annotated[
        int | None, typer.Option(metavar="N", min=2, help="Choose N seeds that are spread evenly over the range of IA.")
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="A setting: rank its values by their median IA. Or a measure of the first clustering, ia or one "
            "without labels (effective_rank, ...): rank by it what the runs of the grid differ in.",
        ),
    ] = None,
    keep: Annotated[int, typer.Option(metavar="N", min=1, help="--by: how many values or seeds to keep.")] = 2,
    seeds: Annotated[int, typer.Option(metavar="N", min=1, help="--by: measure the IA of seeds 1..N.")] = 100,
    run: Annotated[
        bool, typer.Option("--run/--read", help="--by: compute the missing IA runs, or only read those that are done.")
    ] = True,
    write: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The grid to write. Default: a new file beside --grid.")
    ] = None,
    outputs: OutputsOption = Path("outputs"),
    data: DataOption = Path("data"),
    cluster: Annotated[
        str, typer.Option(metavar="NAME", help=f"--by: where to compute missing IA runs: {', '.join(CLUSTERS)}.")
    ] = "local",
    slots: SlotsOption = _CORES,
    site: SiteOption = Path("slurm/default.yaml"),
    yes: SubmitYesOption = False,
    overrides: OverridesOption = None,
    allow_own_nets: AllowOwnNetsOption = False,
) -> None:
    """Choose seeds or settings by their Initial Alignment (IA).

    The choice is written as a grid. IA is the NMI between the first pseudo-labels and the true labels. --span N chooses
    seeds that are spread over the range of IA among the finished runs of a grid. --by SETTING ranks the values of a
    setting by their median IA, which is measured with short runs, and keeps the best. --by MEASURE ranks the values of
    the grid's one setting, or its seeds, by a measure of the first clustering: ia, or effective_rank, spectrum_alpha,
    inertia_per_point, effective_clusters or silhouette, which need no labels.
    """
    if (span is None) == (by is None):
        raise InputError("give either --span N (seeds over the IA range) or --by NAME (rank values by IA or a measure)")
    data_root = data.expanduser().resolve()
    settings = parse_overrides(overrides or [])
    read = read_grid(grid, data_root=data_root, overrides=settings)
    if span is not None or not run:
        run_directory.check_outputs_exist(outputs)
    if span is not None:
        path = write or grid.with_name(f"{grid.stem}_span_{span}.yaml")
        missing = _submit_command(grid, outputs, data, overrides or [])
        _select_seeds(read, span, path, outputs, settings, missing)
        print(f"wrote {path}; run it: {_submit_command(path, outputs, data)}")
        return
    assert by is not None  # one of the two is given
    from dc_hpc.report.selection.ia import check_rewritable
    from dc_hpc.report.selection.label_free import what_is_ranked

    setting, measure = what_is_ranked(read, by)
    ia_runs = _ia_runs(read, setting, keep, seeds)
    check_rewritable(read, [setting], settings)  # before hours of runs
    if run:
        session.check_cluster(cluster)
        execution, profile = Execution(str(data_root)), session.cluster_profile(cluster, site)
        configs = {run_id(config): config for runs in ia_runs.values() for config in runs}
        execution = session.with_own_nets(execution, configs, allowed=allow_own_nets, site=profile)
        name = f"{read.name}_by_{measure}"[:64]
        _run_missing(
            configs,
            name,
            outputs,
            execution,
            cluster=cluster,
            slots=slots,
            profile=profile,
            resources=read.resources,
            yes=yes,
        )
    path = write or grid.with_name(f"{grid.stem}_by_{measure}.yaml")
    if measure == "ia":
        _select_values(read, setting, keep, ia_runs, path, outputs, settings)
    else:
        _select_without_labels(read, setting, measure, keep, ia_runs, path, outputs, settings)
    print(f"wrote {path}; run it: {_submit_command(path, outputs, data)}")


def _submit_command(grid: Path, outputs: Path, data: Path, overrides: Sequence[str] = ()) -> str:
    """The command that computes a grid where this command looks for its runs and its data."""
    options = [("--outputs", outputs)] * (outputs != Path("outputs")) + [("--data", data)] * (data != Path("data"))
    words = [
        word for flag, value in [*options, *(("--set", text) for text in overrides)] for word in (flag, str(value))
    ]
    return shlex.join(["python", "-m", "dc_hpc.submit", "--grid", str(grid), *words])


def _select_seeds(read: Grid, span: int, path: Path, outputs: Path, settings: dict[str, Any], missing: str) -> None:
    """Write the grid of `span` seeds. missing: the command that computes the runs of `read` that are not done."""
    from dc_hpc.report.selection.ia import alignments_by_seed, rewritten, spread_evenly

    found = alignments_by_seed(read, outputs)
    if len(read.runs) < span:
        raise InputError(f"--span {span}: {read.path} has {len(read.runs)} seeds; give a smaller span or a larger grid")
    if len(found) < span:
        raise InputError(
            f"{len(found)} of {len(read.runs)} runs of {read.path} have an IA, {span} are needed; run: {missing}"
        )
    chosen = spread_evenly(found, span)
    reach = f"{min(found.values()):.4f} to {max(found.values()):.4f}, n = {len(found)}"
    print(f"IA: {reach}")
    for seed in chosen:
        print(f"  seed {seed:>4}: IA {found[seed]:.4f}")
    comment = f"{span} seeds that span the IA of {short(read.path.name, 200)} ({reach}). {span} runs."
    _write(path, rewritten(read, {"seed": chosen}, comment, settings))


def _ia_runs(read: Grid, by: str, keep: int, seeds: int) -> dict[Any, list[RunConfig]]:
    """The runs that end with the first clustering of each value of `by`, or of each seed of the grid."""
    from dc_hpc.report.selection.ia import check_first_clusterings, ia_runs
    from dc_hpc.report.selection.label_free import runs_of_seeds

    check_first_clusterings(read)
    found = runs_of_seeds(read) if by == "seed" else ia_runs(read, by, seeds)
    if keep >= len(found):
        raise InputError(f"--keep {keep} would keep all {len(found)} values of {by}; keep fewer")
    return found


def _run_missing(
    configs: dict[str, RunConfig],
    name: str,
    outputs: Path,
    execution: Execution,
    *,
    cluster: str,
    slots: int,
    profile: Site | None,
    resources: Resources,
    yes: bool,
) -> None:
    """Compute the IA runs that are not done. On a cluster this only submits them, after a question, and ends.

    It also ends where others are under way: a choice among some of their seeds would be another one.
    """
    session.check_outputs(outputs)
    table = session.current_status(outputs, configs, cluster=cluster, site=profile, grids=[name])
    print("".join(f"! {line}\n" for line in table.describe_unanswered()), end="")
    status = table.runs
    missing = [configs[run] for run in reuse.ordered(configs) if status[run].is_missing]
    done = sum(one.state == "done" for one in status.values())
    under_way = len(status) - done - len(missing)
    print(f"IA runs: {done} done, {f'{under_way} under way, ' if under_way else ''}{len(missing)} to run")
    if not missing:
        _end_if_under_way(under_way)
        return
    session.check_data(configs, Path(execution.data))
    if profile is None:
        session.check_faiss(configs)
    if profile:
        from dc_hpc.scheduler.cost import describe_cluster_cost
        from dc_hpc.scheduler.limits.before_sending import check_limits
        from dc_hpc.scheduler.submitting.grids import GridRequest, send_to_slurm

        print(describe_cluster_cost(missing, table, resources=resources, site=profile, outputs=outputs))
        check_limits(profile, [(name, resources, len(missing))])
        ask_consent("submit", yes)
        requests = [GridRequest(name, resources, {run_id(one): one for one in missing})]
        send_to_slurm(requests, execution, site=profile, outputs=outputs, names=list(configs), aggregate=None)
        print("run this command again when they are done")
        raise typer.Exit()
    directories = session.create_runs(outputs, missing)
    if session.run_here(directories, execution, name=name, cluster=cluster, outputs=outputs, slots=slots, wait=True):
        raise typer.Exit(1)
    _end_if_under_way(under_way)


def _end_if_under_way(count: int) -> None:
    if count:
        print("run this command again when those under way are done; --read chooses by what is done now")
        raise typer.Exit()


def _select_without_labels(
    read: Grid,
    by: str,
    measure: str,
    keep: int,
    runs: dict[Any, list[RunConfig]],
    path: Path,
    outputs: Path,
    settings: dict[str, Any],
) -> None:
    from dc_hpc.report.selection.label_free import lines_of, rank
    from dc_hpc.report.selection.measures import MEASURES

    ranked = rank(measure, by, runs, outputs)
    print("\n".join(lines_of(measure, by, ranked, keep)))
    _write_kept(
        read,
        by,
        [one.value for one in ranked[:keep]],
        runs,
        f"whose median {measure} of the first clustering is best ({MEASURES[measure].prefers}), "
        "chosen without a label.",
        path,
        settings,
    )


def _select_values(
    read: Grid,
    by: str,
    keep: int,
    ia_runs: dict[Any, list[RunConfig]],
    path: Path,
    outputs: Path,
    settings: dict[str, Any],
) -> None:
    from dc_hpc.report.selection.ia import rank, regret, saving

    ranked = rank(read, by, ia_runs, outputs)
    _print_ranking(by, ranked, keep)
    print(saving(read, by, ranked, keep))
    print(regret(by, ranked, keep))
    _write_kept(
        read,
        by,
        [one.value for one in ranked[:keep]],
        ia_runs,
        f"whose median IA above chance is highest (n = {min(len(one.corrected) for one in ranked)} seeds each).",
        path,
        settings,
    )


def _write_kept(
    read: Grid,
    by: str,
    kept: Sequence[Any],
    runs: Mapping[Any, Any],
    why: str,
    path: Path,
    settings: dict[str, Any],
) -> None:
    """Write the grid with these values of a setting, in the order that the grid has them."""
    from dc_hpc.report.selection.ia import rewritten

    comment = f"{short(read.path.name, 200)} with the {len(kept)} values of {by} {why}"
    _write(path, rewritten(read, {by: [value for value in runs if value in kept]}, comment, settings))


def _print_ranking(by: str, ranked: list[Value], keep: int) -> None:
    from statistics import median

    from dc_hpc.report.selection.ia import word

    print(f"{by:>12}  {'n':>4}  {'median IA':>9}  {'above chance (95 %)':>26}  {'median accuracy %':>18}")
    for place, one in enumerate(ranked):
        between = f" ({one.interval.low:.4f}, {one.interval.high:.4f})" if one.interval else ""
        accuracy = f"{median(one.accuracies):.2f} (n {len(one.accuracies)})" if one.accuracies else "not run"
        print(
            f"{word(one.value):>12}  {len(one.corrected):>4}  {median(one.alignments):>9.4f}  "
            f"{median(one.corrected):>8.4f}{between:>18}  {accuracy:>18}  {'kept' if place < keep else 'dropped'}"
        )


def _write(path: Path, text: str) -> None:
    try:
        if path.exists():
            atomic_files.replace_content(path, text.encode())  # it keeps its mode, and a link stays one
        else:
            atomic_files.write_text(path, text)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}); give another file with --write") from None


if __name__ == "__main__":
    run_cli(app)
