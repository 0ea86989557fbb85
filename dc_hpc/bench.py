"""python -m dc_hpc.bench: times each stage of a run and compares it with its peers and with this machine's limits."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from dc_hpc.benchmark.constants import NETWORKS, SIZES, STAGES
from dc_hpc.cli import new_app, run_cli
from dc_hpc.config.yaml_reader import did_you_mean
from dc_hpc.errors import InputError
from dc_hpc.experiment.execution import DEVICES, cores

# torch, pandas, matplotlib and rich are imported where they are used: --help answers at once.

Rows = Sequence[Mapping[str, Any]]
COMPARED = NETWORKS[:2]  # --compare-with knows their jobs of these
FIGURE_FORMS = (".png", ".svg", ".pdf")
BUSY = 0.5  # a load average of other programs beyond which several threads are slowed more than one

_NETWORKS, _STAGES = f"Only these of {', '.join(NETWORKS)}.", f"Only these of {', '.join(STAGES)}."
_JSON = "Write the rows here, and FILE's stem.environment.json beside it."
_FIGURE = "Draw the rows; FILE ends in .png, .svg or .pdf."
_TABLE = "Print the stages as a Markdown table, too."
_FROM = "Instead: measure nothing; make table and figure of a FILE that --json wrote."
_SCALING = "Instead: time and memory against n, k and runs."
_COMPARE_WITH = "Instead: whole runs against a checkout of the authors' code."
_STARTUP = "Instead: from the start of a process to its first training step."
_ROUNDS = "--compare-with: how often each side runs.  [default: by --size]"
_DATA = "--compare-with, --startup: folder of the data sets."

app = new_app()


@app.command()
def bench(
    size: Annotated[
        str, typer.Option(metavar="NAME", help=f"{', '.join(SIZES)}: seconds, minutes, or the paper's sizes.")
    ] = "default",
    quick: Annotated[bool, typer.Option("--quick", help="The same as --size quick.")] = False,
    networks: Annotated[str | None, typer.Option(metavar="A,B", help=_NETWORKS)] = None,
    stages: Annotated[str | None, typer.Option(metavar="A,B", help=_STAGES)] = None,
    threads: Annotated[int, typer.Option(metavar="N", min=1, help="CPU threads of torch and BLAS.")] = 1,
    device: Annotated[str, typer.Option(metavar="NAME", help=f"Compute on: {', '.join(DEVICES)}.")] = "auto",
    json: Annotated[Path | None, typer.Option(metavar="FILE", help=_JSON)] = None,
    figure: Annotated[Path | None, typer.Option(metavar="FILE", help=_FIGURE)] = None,
    table: Annotated[bool, typer.Option("--table", help=_TABLE)] = False,
    from_file: Annotated[Path | None, typer.Option("--from", metavar="FILE", help=_FROM)] = None,
    scaling: Annotated[bool, typer.Option("--scaling", help=_SCALING)] = False,
    compare_with: Annotated[Path | None, typer.Option(metavar="DIR", help=_COMPARE_WITH)] = None,
    startup: Annotated[bool, typer.Option("--startup", help=_STARTUP)] = False,
    slots: Annotated[int, typer.Option(metavar="N", min=1, help="--compare-with: runs at the same time.")] = cores(),
    rounds: Annotated[int | None, typer.Option(metavar="N", min=1, help=_ROUNDS)] = None,
    data: Annotated[Path, typer.Option(metavar="DIR", envvar="DC_HPC_DATA", help=_DATA)] = Path("data"),
    growth: Annotated[bool, typer.Option("--growth", hidden=True)] = False,
    peer: Annotated[Path | None, typer.Option("--peer", metavar="DIR", hidden=True)] = None,
    start: Annotated[bool, typer.Option("--start", hidden=True)] = False,
) -> None:
    """Time every stage of a run on this machine.

    Each has its seconds, rate, share of this machine's limit, and the peer's time. The limits (fp32 GEMM through torch
    and numpy, copying memory) and the peers (scikit-learn, faiss, PIL with torch's DataLoader, torch.save, eager torch)
    are measured in the same process, ours and the peers alternately. The result of a peer is compared with ours first.
    Each row of the JSON list has the keys name, network, size, seconds (median), achieved, limit (GFLOP/s; GB/s for
    views, sampling, agreement, checkpoint, dump), share (achieved / limit), peer, peer_seconds, ratio (peer_seconds /
    seconds); null means "not measured". With --scaling the keys are name, variable, value, seconds, memory (bytes),
    work (the operation count: FLOP or bytes moved) and the exponent of each.
    """
    size = "quick" if quick else size
    scaling, compare_with, startup = scaling or growth, compare_with or peer, startup or start  # their former names
    _one_of("--size", [size], SIZES)
    _one_of("--device", [device], DEVICES)
    chosen_networks = _one_of("--networks", _listed(networks, NETWORKS), NETWORKS)
    chosen_stages = _one_of("--stages", _listed(stages, STAGES), STAGES)
    _check_writable(json, figure)
    if scaling + bool(compare_with) + startup > 1:
        raise InputError("--scaling, --compare-with and --startup are separate benchmarks; give only one of them")
    if from_file:
        if scaling or compare_with or startup or json:
            raise InputError("--from measures nothing; give it with --figure and --table only")
        _again(from_file, figure=figure, table=table)
    elif startup:
        _startup(data, size=size, json=json, figure=figure)
    elif compare_with:
        peers = None if networks is None else chosen_networks
        _compare_with(
            compare_with,
            data,
            peers or COMPARED,
            size=size,
            slots=slots,
            rounds=rounds,
            json=json,
            figure=figure,
        )
    elif scaling:
        _scaling(threads=threads, device=device, quick=size == "quick", json=json, figure=figure)
    else:
        rows, environment = _stages(chosen_networks, chosen_stages, size=size, threads=threads, device=device)
        _print_markdown(rows, environment, table)
        _write(rows, environment, json)
        _draw("speed", rows, environment, figure)


def _again(path: Path, *, figure: Path | None, table: bool) -> None:
    """Table and figure of a benchmark that was measured before."""
    from dc_hpc.benchmark.measured_file import is_scaling, read_measured

    rows, environment = read_measured(path)
    from dc_hpc.benchmark.environment import caption
    from dc_hpc.benchmark.tables import print_scaling, print_stages

    if is_scaling(rows):
        if table:
            raise InputError(f"--table: {path} is of --scaling, which has no Markdown table; leave --table out")
        print_scaling(rows, caption(environment))
    elif table:
        _print_markdown(rows, environment, table)
    else:
        print_stages(rows, caption(environment))
    _draw("scaling" if is_scaling(rows) else "speed", rows, environment, figure)


def _print_markdown(rows: Rows, environment: Mapping[str, Any], table: bool) -> None:
    if table:
        from dc_hpc.benchmark.environment import caption
        from dc_hpc.benchmark.tables import markdown_stages

        print(markdown_stages(rows, caption(environment)))


def _stages(
    networks: Sequence[str],
    stages: Sequence[str],
    *,
    size: str,
    threads: int,
    device: str,
) -> tuple[Rows, dict[str, Any]]:
    """Time the stages and print them; the rows, and the environment."""
    from dc_hpc.benchmark.environment import caption, chosen_device, load_average
    from dc_hpc.benchmark.suite import computing, run_stages
    from dc_hpc.benchmark.tables import print_stages
    from dc_hpc.benchmark.timing import InvalidTiming, as_json, stages_above_limit

    device, load = chosen_device(device), load_average()
    with _progress() as report, computing(threads):
        try:
            found, limits = run_stages(networks, stages, size=size, device=device, report=report)
        except InvalidTiming as error:
            raise InputError(f"{error}; leave the stage out with --stages, and please report it") from None
        environment = _environment(device, threads, load, limits=limits.by_name(), size=size)
    rows = as_json(found)
    print_stages(rows, caption(environment))
    for name in stages_above_limit(rows):
        print(f"! {name} is above the limit: its operation count or the limit is wrong, do not quote it")
    return rows, environment


def _scaling(*, threads: int, device: str, quick: bool, json: Path | None, figure: Path | None) -> None:
    from dc_hpc.benchmark.environment import caption, chosen_device, load_average
    from dc_hpc.benchmark.scaling import TOLERANCE, run_scaling, too_steep
    from dc_hpc.benchmark.tables import print_scaling

    device, load = chosen_device(device), load_average()
    with _measuring() as report:
        rows = run_scaling(quick=quick, threads=threads, device=device, report=report)
    environment = _environment(device, threads, load)
    print_scaling(rows, caption(environment))
    _write(rows, environment, json)
    _draw("scaling", rows, environment, figure)
    if quick:
        print("these sizes are too small to judge how the stages scale; the default sizes are large enough")
        return
    steep = too_steep(rows)
    for row in steep:
        print(
            f"{row['name']} grows faster with {row['variable']} than its operation count: exponent "
            f"{row['exponent']:.2f}, of the count {row['work_exponent']:.2f}"
        )
    if steep:
        raise typer.Exit(1)
    print(f"no stage grows faster than its operation count (exponents within {TOLERANCE})")


def _compare_with(
    checkout: Path,
    data: Path,
    networks: Sequence[str],
    *,
    size: str,
    slots: int,
    rounds: int | None,
    json: Path | None,
    figure: Path | None,
) -> None:
    from dc_hpc.benchmark.authors import DATASETS, check_checkout, compare

    check_checkout(checkout)  # before torch is imported
    chosen = _one_of("--networks of --compare-with", networks, tuple(DATASETS))
    from dc_hpc.benchmark.environment import caption, load_average
    from dc_hpc.benchmark.tables import print_runs_per_hour, print_stages
    from dc_hpc.benchmark.timing import as_json

    load = load_average()
    with _measuring() as report:
        root = data.expanduser()
        found, measured = compare(checkout, root, chosen, size=size, slots=slots, rounds=rounds, report=report)
    rows, environment = as_json(found), _environment("cpu", 1, load, **measured, size=size)
    print_stages(rows, caption(environment))
    print_runs_per_hour(measured["runs_per_hour"], slots)
    threads = max([slots, *(one["theirs_threads"] for one in measured["runs_per_hour"].values())])
    if max(load, environment["load_end"] - threads) > BUSY:
        print(
            "! other programs ran on this machine, which slows several threads more than one: do not quote the ratios"
        )
    print("measured: cycles, their parts, probe epochs, starts; extrapolated: the run and the runs an hour")
    _write(rows, environment, json)
    _draw("speed", rows, environment, figure)


def _startup(data: Path, *, size: str, json: Path | None, figure: Path | None) -> None:
    from dc_hpc.benchmark.startup import time_startup
    from dc_hpc.data.official import verify

    verify("fmnist", data.expanduser())  # before torch is imported
    from dc_hpc.benchmark.environment import caption, load_average
    from dc_hpc.benchmark.tables import print_stages
    from dc_hpc.benchmark.timing import as_json

    load = load_average()
    with _measuring() as report:
        rows = as_json(time_startup(data.expanduser(), size=size, report=report))
    environment = _environment("cpu", 1, load, size=size)
    print_stages(rows, caption(environment))
    _write(rows, environment, json)
    _draw("speed", rows, environment, figure)


def _environment(device: str, threads: int, load_start: float, **more: Any) -> dict[str, Any]:
    """What the environment file says: the machine, `more`, and the load average at both ends of the benchmark."""
    from dc_hpc.benchmark.environment import load_average, machine

    return {**machine(device=device, threads=threads), **more, "load_start": load_start, "load_end": load_average()}


def _listed(text: str | None, known: Sequence[str]) -> list[str]:
    return list(known) if text is None else [part.strip() for part in text.split(",") if part.strip()]


def _one_of(flag: str, values: Sequence[str], allowed: Sequence[str]) -> list[str]:
    for value in values:
        if value not in allowed:
            raise InputError(
                f"{flag} {value!r} is not allowed{did_you_mean(value, allowed)}; allowed: {', '.join(allowed)}"
            )
    if not values:
        raise InputError(f"{flag} names nothing; allowed: {', '.join(allowed)}")
    return [name for name in allowed if name in values]


def _check_writable(json: Path | None, figure: Path | None) -> None:
    """Refuse files that cannot be written, before minutes of timing."""
    if figure and figure.suffix not in FIGURE_FORMS:
        raise InputError(f"--figure {figure} has no known ending; allowed: {', '.join(FIGURE_FORMS)}")
    from dc_hpc.storage import atomic_files

    for flag, path in (("--json", json), ("--figure", figure)):
        if path is None:
            continue
        try:
            atomic_files.make_directory(path.parent)
        except OSError as error:
            raise InputError(
                f"{flag} {path} cannot be written ({error.strerror}); give a file in a folder of your own"
            ) from None
        if path.is_dir() or not os.access(path.parent, os.W_OK):
            raise InputError(f"{flag} {path} cannot be written; give a file in a folder of your own")


def _write(rows: Rows, environment: Mapping[str, Any], json: Path | None) -> None:
    if json is None:
        return
    from dc_hpc.storage import atomic_files

    atomic_files.write_json(json, rows)
    atomic_files.write_json(json.with_name(f"{json.stem}.environment.json"), environment)
    print(f"wrote {json} and {json.stem}.environment.json")


def _draw(kind: str, rows: Rows, environment: Mapping[str, Any], path: Path | None) -> None:
    """Draw the rows as one of the figures of report/figures/speed.py: "speed" or "scaling"."""
    if path is None:
        return
    from dc_hpc.benchmark.environment import caption
    from dc_hpc.report.figures import speed
    from dc_hpc.report.figures.style import figure_bytes, style
    from dc_hpc.storage import atomic_files

    draw = {"speed": speed.speed, "scaling": speed.scaling}[kind]
    form = path.suffix[1:]
    with style():
        content = figure_bytes(draw(rows, caption(environment)), (form,))[form]
    atomic_files.replace_bytes(path, content)
    print(f"wrote {path}")


@contextmanager
def _measuring() -> Iterator[Callable[[str], None]]:
    """`_progress`; a process that fails ends the command with one line."""
    from dc_hpc.benchmark.timing import FailedProcess

    try:
        with _progress() as report:
            yield report
    except FailedProcess as error:
        raise InputError(f"{error}; correct this and run the same command again") from None


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """A function that shows what is timed next: in one changing line on a terminal, and nowhere else."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda text: None
        return
    with console.status("") as status:
        yield lambda text: status.update(f"timing {text}")


if __name__ == "__main__":
    run_cli(app)
