"""`status check`, `status du` and `status prune`: the subcommands about the files of runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from dc_hpc.cli import DataOption, OutputsOption, ask_consent
from dc_hpc.config.grid import read_grid
from dc_hpc.errors import InputError
from dc_hpc.status.chosen import GridOption, YesOption, run_names
from dc_hpc.storage import run_directory


def check(
    grid: GridOption = None,
    quarantine: Annotated[
        bool,
        typer.Option(
            "--quarantine", help="Move damaged files to quarantine/; submit then computes again what they held."
        ),
    ] = False,
    put_aside: Annotated[bool, typer.Option("--put-aside", hidden=True)] = False,  # the name that --quarantine had
    outputs: OutputsOption = Path("outputs"),
    data: DataOption = Path("data"),
) -> None:
    """Read every file of these runs and name the damaged ones. The exit code is 1 if there is one."""
    from dc_hpc.storage.integrity import damaged_files, quarantine_damaged

    names, count, again = dict.fromkeys(run_names(grid, outputs, data)), 0, 0
    quarantine = quarantine or put_aside
    for directory in (run_directory.runs_folder(outputs) / name for name in names):
        damaged = list(damaged_files(directory)) if directory.is_dir() else []
        for error in damaged:
            print(error)
        if damaged and quarantine:
            again += quarantine_damaged(directory, damaged)
        count += bool(damaged)
    print(
        f"{count} of {len(names)} runs are damaged"
        + (" and now in quarantine/" if count and quarantine else "")
        + (": submit them again" if again else "")
    )
    raise typer.Exit(1 if count else 0)


def du(
    grid: GridOption = None,
    by_run: Annotated[bool, typer.Option("--by-run", help="A line for each run instead, the largest first.")] = False,
    outputs: OutputsOption = Path("outputs"),
    data: DataOption = Path("data"),
) -> None:
    """Show how much disk the runs take: by kind of file, by grid where --grid is given, and in total."""
    from dc_hpc.storage.disk_usage import size_beside_runs, size_of_run

    folder = run_directory.runs_folder(outputs)
    names = [name for name in dict.fromkeys(run_names(grid, outputs, data)) if (folder / name).is_dir()]
    sizes = {name: size_of_run(folder / name) for name in names}
    if by_run:
        _print_sizes(dict(sorted(sizes.items(), key=lambda one: -one[1].total())))
    elif grid:
        grids = {path.name: read_grid(path, data_root=data.expanduser().resolve()).runs for path in grid}
        _print_sizes({name: _sum(sizes.get(run, Counter()) for run in runs) for name, runs in grids.items()})
    else:
        for kind, size in sorted(_sum(sizes.values()).items(), key=lambda one: -one[1]):
            print(f"{_bytes(size):>9}  {kind}")
    runs_size = _sum(sizes.values()).total()
    print(f"{_bytes(runs_size):>9}  {len(names)} runs in {folder}")
    if not grid:
        beside = size_beside_runs(outputs)
        for name, size in sorted(beside.items(), key=lambda one: -one[1]):
            print(f"{_bytes(size):>9}  {outputs / name}")
        print(f"{_bytes(runs_size + beside.total()):>9}  total of {outputs}")


def prune(
    features: Annotated[bool, typer.Option("--features", help="Remove feature dumps of finished runs.")] = False,
    grid: GridOption = None,
    yes: YesOption = False,
    outputs: OutputsOption = Path("outputs"),
    data: DataOption = Path("data"),
) -> None:
    """Remove files that nothing needs any more. Results, weights and curves stay.

    Runs that are not done keep their feature dumps, because they resume with them. Runs that only measure IA keep
    theirs, because Figure 2 draws them.
    """
    from dc_hpc.storage.disk_usage import remove, unneeded_features

    if not features:
        raise InputError("nothing to remove was named; allowed: --features")
    folder = run_directory.runs_folder(outputs)
    names = dict.fromkeys(run_names(grid, outputs, data))
    found = {name: paths for name in names if (paths := unneeded_features(folder / name))}
    paths = [path for dumps in found.values() for path in dumps]
    if not paths:
        print(f"no feature dump in {outputs} can be removed")
        return
    size = _bytes(sum(path.lstat().st_size for path in paths))
    what = f"{len(paths)} feature dumps of {len(found)} finished runs, {size}"
    ask_consent(f"remove {what}", yes)
    for name in found:
        remove(unneeded_features(folder / name))  # a run that was begun again meanwhile keeps its dumps
    print(f"removed {what}")


def _print_sizes(sizes: dict[str, Counter[str]]) -> None:
    """A line for each run or grid: its size, and the kinds that take most of it."""
    for name, kinds in sizes.items():
        most = ", ".join(f"{kind} {_bytes(size)}" for kind, size in kinds.most_common(2))
        print(f"{_bytes(kinds.total()):>9}  {name}  ({most})" if most else f"{_bytes(0):>9}  {name}")


def _sum(sizes: Iterable[Counter[str]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for one in sizes:
        total.update(one)
    return total


def _bytes(size: float) -> str:
    """Bytes as text, in powers of 1024."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
