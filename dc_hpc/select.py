"""python -m dc_hpc.select: choose seeds or hyperparameters by their Initial Alignment (sections 4.1.2 and 4.3)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from dc_hpc.config.grid import Grid, Resources, parse_override, read_grid
from dc_hpc.config.run_config import RunConfig, run_id
from dc_hpc.errors import InputError
from dc_hpc.experiment import reuse
from dc_hpc.experiment.execution import Execution, cores
from dc_hpc.storage import atomic_files
from dc_hpc.submit import (
    check_cluster,
    check_data,
    check_outputs,
    cluster_profile,
    create_runs,
    look_at,
    run_here,
    send_to_slurm,
)

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

# typer reads the annotations at run time, on python 3.10 too
OptionalInt, OptionalStr, OptionalPath = Optional[int], Optional[str], Optional[Path]  # noqa: UP045


@app.command()
def select(
    grid: Annotated[Path, typer.Option("--grid", "-g", help="A YAML grid.")],
    span: Annotated[OptionalInt, typer.Option(min=2, help="Choose so many seeds, evenly over the IA range.")] = None,
    by: Annotated[OptionalStr, typer.Option(help="Rank the values of this setting by their median IA.")] = None,
    keep: Annotated[int, typer.Option(min=1, help="--by: how many values to keep.")] = 2,
    seeds: Annotated[int, typer.Option(min=1, help="--by: seeds 1..N for each value.")] = 100,
    run: Annotated[bool, typer.Option("--run/--read", help="--by: run missing IA runs, or read what is there.")] = True,
    write: Annotated[OptionalPath, typer.Option(help="The grid to write; default: beside the old one.")] = None,
    outputs: Annotated[Path, typer.Option(help="Folder of the runs.")] = Path("outputs"),
    data: Annotated[Path, typer.Option(envvar="DC_HPC_DATA", help="Folder of the data sets.")] = Path("data"),
    cluster: Annotated[str, typer.Option(help="--by: where missing IA runs run: local, slurm or debug.")] = "local",
    slots: Annotated[int, typer.Option(min=1, help="local: runs at the same time.")] = cores(),
    site: Annotated[Path, typer.Option(help="slurm: the site profile.")] = Path("slurm/default.yaml"),
    overrides: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--set", metavar="KEY=VALUE", help="Override a setting, as in submit; repeatable."),
    ] = None,
) -> None:
    """Choose by Initial Alignment: seeds that span its range (--span), or the values that promise most (--by)."""
    if (span is None) == (by is None):
        raise InputError("give either --span N (seeds over the IA range) or --by KEY (rank its values by IA)")
    data_root = data.expanduser().resolve()
    read = read_grid(grid, data_root=data_root, overrides=dict(parse_override(text) for text in overrides or []))
    if span is not None:
        _select_seeds(read, span, write or grid.with_name(f"{grid.stem}_span_{span}.yaml"), outputs)
        return
    wanted = _wanted(read, by, keep, seeds)
    if run:
        check_cluster(cluster)
        _run_missing(wanted, read, outputs, Execution(str(data_root)), cluster=cluster, slots=slots, site=site)
    _select_values(read, by, keep, wanted, write or grid.with_name(f"{grid.stem}_by_ia.yaml"), outputs)


def _select_seeds(read: Grid, span: int, path: Path, outputs: Path) -> None:
    from dc_hpc.report.ia_selection import alignments_by_seed, rewritten, spread_evenly

    found = alignments_by_seed(read, outputs)
    if len(found) < span:
        raise InputError(
            f"{len(found)} of {len(read.points)} runs of {read.path} have an IA, {span} are wanted; run: "
            f"python -m dc_hpc.submit --grid {read.path}"
        )
    chosen = spread_evenly(found, span)
    reach = f"{min(found.values()):.4f} to {max(found.values()):.4f}, n = {len(found)}"
    print(f"IA: {reach}")
    for seed in chosen:
        print(f"  seed {seed:>4}: IA {found[seed]:.4f}")
    comment = f"{span} seeds that span the IA of {read.path.name} ({reach}). {span} runs."
    _write(path, rewritten(read, {"seed": chosen}, comment))


def _wanted(read: Grid, by: str, keep: int, seeds: int) -> dict[Any, list[RunConfig]]:
    from dc_hpc.report.ia_selection import ia_runs

    wanted = ia_runs(read, by, seeds)
    if keep >= len(wanted):
        raise InputError(f"--keep {keep} would keep all {len(wanted)} values of {by}; keep fewer")
    return wanted


def _run_missing(
    wanted: dict[Any, list[RunConfig]],
    read: Grid,
    outputs: Path,
    execution: Execution,
    *,
    cluster: str,
    slots: int,
    site: Path,
) -> None:
    configs = {run_id(config): config for runs in wanted.values() for config in runs}
    check_outputs(outputs)
    seen = look_at(outputs, configs, cluster=cluster).runs
    missing = [configs[name] for name in reuse.ordered(configs) if seen[name].is_missing]
    done = sum(one.state == "done" for one in seen.values())
    under_way = len(seen) - done - len(missing)
    print(f"IA runs: {done} done, {f'{under_way} under way, ' if under_way else ''}{len(missing)} to run")
    if not missing:
        return
    check_data(configs, Path(execution.data))
    profile = cluster_profile(cluster, site)
    directories, name = create_runs(outputs, missing), f"{read.name}_by_ia"[:64]
    if profile:
        send_to_slurm([(name, Resources(), directories)], execution, site=profile, outputs=outputs, aggregate=None)
        print("run this command again when they are done")
        raise typer.Exit()
    if run_here(directories, execution, name=name, cluster=cluster, outputs=outputs, slots=slots, wait=True):
        raise typer.Exit(1)


def _select_values(
    read: Grid, by: str, keep: int, wanted: dict[Any, list[RunConfig]], path: Path, outputs: Path
) -> None:
    from dc_hpc.report.ia_selection import rank, regret, rewritten, saving

    ranked = rank(read, by, wanted, outputs)
    _print_ranking(by, ranked, keep)
    print(saving(read, by, ranked, keep))
    print(regret(by, ranked, keep))
    best = {one.value for one in ranked[:keep]}
    comment = (
        f"{read.path.name} with the {keep} values of {by} whose median IA above chance is highest "
        f"(n = {min(len(one.corrected) for one in ranked)} seeds each)."
    )
    _write(path, rewritten(read, {by: [value for value in wanted if value in best]}, comment))


def _print_ranking(by: str, ranked: list, keep: int) -> None:
    from statistics import median

    from dc_hpc.report.ia_selection import word

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
        atomic_files.write_text(path, text)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}); give another file with --write") from None
    print(f"wrote {path}; run it: python -m dc_hpc.submit --grid {path}")


if __name__ == "__main__":
    from dc_hpc.cli import run_cli

    run_cli(app)
