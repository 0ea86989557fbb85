"""python -m dc_hpc.bench: how fast each stage of a run is, against its peers and against this machine's limits."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from dc_hpc.benchmark.constants import NETWORKS, SIZES, STAGES
from dc_hpc.errors import InputError
from dc_hpc.experiment.execution import DEVICES, cores

# torch, matplotlib and rich are imported where they are used: --help answers at once.
if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIGURE_FORMS = (".png", ".svg", ".pdf")
MOST_SHARE = 1.1
BUSY = 0.5  # load average that is not ours, beyond which a program of several threads is slowed more than ours

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def bench(
    size: Annotated[str, typer.Option(help=f"{', '.join(SIZES)}: seconds, minutes, or the paper's sizes.")] = "default",
    quick: Annotated[bool, typer.Option("--quick", help="The same as --size quick.")] = False,
    networks: Annotated[
        Optional[str],  # noqa: UP045  typer reads it at run time, on python 3.10 too
        typer.Option(metavar="A,B", help=f"Only these of {', '.join(NETWORKS)}."),
    ] = None,
    stages: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="A,B", help=f"Only these of {', '.join(STAGES)}."),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of torch and every BLAS.")] = 1,
    device: Annotated[str, typer.Option(help=f"{', '.join(DEVICES)}.")] = "auto",
    json: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="FILE", help="Write the rows here, and FILE's stem.environment.json beside it."),
    ] = None,
    figure: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="FILE", help="Draw them; FILE ends in .png, .svg or .pdf."),
    ] = None,
    growth: Annotated[bool, typer.Option("--growth", help="Instead: time and memory against n, k and runs.")] = False,
    peer: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="DIR", help="Instead: whole runs against a checkout of the authors' code."),
    ] = None,
    start: Annotated[bool, typer.Option("--start", help="Instead: from a process's start to its first step.")] = False,
    slots: Annotated[int, typer.Option(min=1, help="--peer: our runs at the same time.")] = cores(),
    data: Annotated[Path, typer.Option(envvar="DC_HPC_DATA", help="--peer, --start: folder of the data sets.")] = Path(
        "data"
    ),
) -> None:
    """Time every stage of a run: seconds, work a second, share of this machine's limit, and the peer's time.

    The limits (fp32 GEMM through torch and numpy, copying memory) and the peers (scikit-learn, faiss, PIL with
    torch's DataLoader, torch.save, eager torch) are measured in the same process, ours and the peers in turn, and
    what a peer computes is checked against ours first. Each row of the JSON list has the keys name, network, size,
    seconds (median), achieved, limit (GFLOP/s; GB/s for views, sampling, agreement, checkpoint, dump), share
    (achieved / limit), peer, peer_seconds, ratio (peer_seconds / seconds); null is "not measured". With --growth the
    keys are name, variable, value, seconds, memory (bytes), work and the exponent of each.
    """
    size = "quick" if quick else size
    _one_of("--size", [size], SIZES)
    _one_of("--device", [device], DEVICES)
    wanted_networks = _one_of("--networks", _listed(networks, NETWORKS), NETWORKS)
    wanted_stages = _one_of("--stages", _listed(stages, STAGES), STAGES)
    _check_outlets(json, figure)
    if growth + bool(peer) + start > 1:
        raise InputError("--growth, --peer and --start are benchmarks of their own; give one of them in a call")
    if start:
        _starts(data, size=size, json=json, figure=figure)
    elif peer:
        _against_authors(peer, data, size=size, slots=slots, json=json, figure=figure)
    elif growth:
        _growth(threads=threads, device=device, quick=size == "quick", json=json, figure=figure)
    else:
        _stages(wanted_networks, wanted_stages, size=size, threads=threads, device=device, json=json, figure=figure)


def _stages(
    networks: Sequence[str],
    stages: Sequence[str],
    *,
    size: str,
    threads: int,
    device: str,
    json: Path | None,
    figure: Path | None,
) -> None:
    from dc_hpc.benchmark import environment as about
    from dc_hpc.benchmark.suite import computing, run_stages
    from dc_hpc.benchmark.tables import print_stages
    from dc_hpc.benchmark.timing import Invalid, as_json

    place, load = about.chosen_device(device), about.load_average()
    with _progress() as report, computing(threads):
        try:
            rows, limits = run_stages(networks, stages, size=size, device=place, report=report)
        except Invalid as error:
            raise InputError(f"{error}; leave the stage out with --stages, and please report it") from None
        facts = {
            **about.machine(device=place, threads=threads),
            "limits": limits.facts(),
            "size": size,
            "load_start": load,
            "load_end": about.load_average(),
        }
    found = as_json(rows)
    print_stages(found, about.caption(facts))
    for name in impossible(found):
        print(f"! {name} is above the limit: its work or the limit is wrong, do not quote it")
    _write(found, facts, json)
    if figure:
        from dc_hpc.report.figures.speed import speed

        _draw(lambda: speed(found, about.caption(facts)), figure)


def impossible(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The stages that reach more than the limit, beyond what a noisy measurement of either explains."""
    return list(
        dict.fromkeys(
            f"{row['name']} of {row['network']}"
            for row in rows
            if row["share"] is not None and row["share"] > MOST_SHARE
        )
    )


def _growth(*, threads: int, device: str, quick: bool, json: Path | None, figure: Path | None) -> None:
    from dc_hpc.benchmark import environment as about
    from dc_hpc.benchmark.scaling import TOLERANCE, run_growth, too_fast
    from dc_hpc.benchmark.tables import print_growth

    place, load = about.chosen_device(device), about.load_average()
    with _progress() as report:
        rows = run_growth(quick=quick, threads=threads, device=place, report=report)
    facts = {**about.machine(device=place, threads=threads), "load_start": load, "load_end": about.load_average()}
    print_growth(rows, about.caption(facts))
    _write(rows, facts, json)
    if figure:
        from dc_hpc.report.figures.speed import growth

        _draw(lambda: growth(rows, about.caption(facts)), figure)
    if quick:
        print("too small to judge; the default sizes do")
        return
    faster = too_fast(rows)
    for row in faster:
        print(
            f"{row['name']} grows faster with {row['variable']} than its work: exponent {row['exponent']:.2f}, of "
            f"the work {row['work_exponent']:.2f}"
        )
    if faster:
        raise typer.Exit(1)
    print(f"no stage grows faster than its work (exponents within {TOLERANCE})")


def _against_authors(peer: Path, data: Path, *, size: str, slots: int, json: Path | None, figure: Path | None) -> None:
    from dc_hpc.benchmark.authors import check_checkout, compare

    check_checkout(peer)  # before torch is imported
    from dc_hpc.benchmark import environment as about
    from dc_hpc.benchmark.tables import print_stages
    from dc_hpc.benchmark.timing import as_json

    load = about.load_average()
    with _progress() as report:
        rows, found = compare(peer, data.expanduser(), size=size, slots=slots, report=report)
    facts = {
        **about.machine(device="cpu", threads=1),
        **found,
        "size": size,
        "load_start": load,
        "load_end": about.load_average(),
    }
    print_stages(as_json(rows), about.caption(facts))
    print(
        f"runs an hour: ours {found['runs_per_hour']:.1f} ({slots} at a time, one thread each), the authors' code "
        f"{found['peer_runs_per_hour']:.1f} (one at a time, its default of {found['peer_threads']} threads)"
    )
    if max(load, facts["load_end"] - max(slots, found["peer_threads"])) > BUSY:
        print("! other work ran on this machine, which slows several threads more than one: do not quote the ratios")
    print("measured: cycles, their parts, probe epochs, starts; extrapolated: the run and the runs an hour")
    _write(as_json(rows), facts, json)
    if figure:
        from dc_hpc.report.figures.speed import speed

        _draw(lambda: speed(as_json(rows), about.caption(facts)), figure)


def _starts(data: Path, *, size: str, json: Path | None, figure: Path | None) -> None:
    from dc_hpc.benchmark.startup import time_starts
    from dc_hpc.data.official import verify

    verify("fmnist", data.expanduser())  # before torch is imported
    from dc_hpc.benchmark import environment as about
    from dc_hpc.benchmark.tables import print_stages
    from dc_hpc.benchmark.timing import as_json

    load = about.load_average()
    with _progress() as report:
        rows = as_json(time_starts(data.expanduser(), size=size, report=report))
    facts = {
        **about.machine(device="cpu", threads=1),
        "size": size,
        "load_start": load,
        "load_end": about.load_average(),
    }
    print_stages(rows, about.caption(facts))
    _write(rows, facts, json)
    if figure:
        from dc_hpc.report.figures.speed import speed

        _draw(lambda: speed(rows, about.caption(facts)), figure)


def _listed(text: str | None, known: Sequence[str]) -> list[str]:
    return list(known) if text is None else [part.strip() for part in text.split(",") if part.strip()]


def _one_of(flag: str, values: Sequence[str], allowed: Sequence[str]) -> list[str]:
    for value in values:
        if value not in allowed:
            raise InputError(f"{flag} {value!r} is not allowed; allowed: {', '.join(allowed)}")
    if not values:
        raise InputError(f"{flag} names nothing; allowed: {', '.join(allowed)}")
    return [name for name in allowed if name in values]


def _check_outlets(json: Path | None, figure: Path | None) -> None:
    """Refuse, before minutes of timing, files that could not be written at their end."""
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


def _write(rows: Any, facts: Mapping[str, Any], json: Path | None) -> None:
    if json is None:
        return
    from dc_hpc.storage import atomic_files

    atomic_files.write_json(json, rows)
    atomic_files.write_json(json.with_name(f"{json.stem}.environment.json"), facts)
    print(f"wrote {json} and {json.stem}.environment.json")


def _draw(make: Callable[[], Figure], path: Path) -> None:
    from dc_hpc.report.figures.style import figure_bytes, style
    from dc_hpc.storage import atomic_files

    form = path.suffix[1:]
    with style():
        content = figure_bytes(make(), (form,))[form]
    atomic_files.replace_bytes(path, content)
    print(f"wrote {path}")


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Says what is being timed: in one line that changes on a terminal, not at all elsewhere."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda text: None
        return
    with console.status("") as status:
        yield lambda text: status.update(f"timing {text}")


if __name__ == "__main__":
    from dc_hpc.cli import run_cli

    run_cli(app)
