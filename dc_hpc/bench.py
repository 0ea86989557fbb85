"""python -m dc_hpc.bench: how fast each stage of a run is, against its peers and against this machine's limits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from dc_hpc.benchmark.names import NETWORKS, SIZES, STAGES
from dc_hpc.experiment.errors import InputError
from dc_hpc.experiment.execution import DEVICES, cores

# torch, matplotlib and rich are imported where they are used: --help answers at once.
if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIGURE_FORMS = (".png", ".svg", ".pdf")

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
    slots: Annotated[int, typer.Option(min=1, help="--peer: our runs at the same time, one thread each.")] = cores(),
    data: Annotated[Path, typer.Option(envvar="DC_HPC_DATA", help="--peer: folder of the data sets.")] = Path("data"),
) -> None:
    """Time every stage of a run: seconds, work a second, share of this machine's limit, and the peer's time.

    The limits (fp32 GEMM through torch and numpy, copying memory) and the peers (scikit-learn, faiss, PIL with
    torch's DataLoader, torch.save, eager torch) are measured in the same process, ours and the peers in turn, and
    what a peer computes is checked against ours first. Each row of the JSON list has the keys name, network, size,
    seconds (median), achieved, limit (GFLOP/s; GB/s for views, sampling, agreement, checkpoint, dump), share
    (achieved / limit), peer, peer_seconds, ratio (peer_seconds / seconds); null is "not measured".
    """
    size = "quick" if quick else size
    _one_of("--size", [size], SIZES)
    _one_of("--device", [device], DEVICES)
    wanted_networks = _one_of("--networks", _listed(networks, NETWORKS), NETWORKS)
    wanted_stages = _one_of("--stages", _listed(stages, STAGES), STAGES)
    _check_outlets(json, figure)
    if growth and peer:
        raise InputError("--growth and --peer are two benchmarks; give one of them, and the other in a second call")
    if peer:
        _against_authors(peer, data, slots=slots, quick=size == "quick", json=json, figure=figure)
    elif growth:
        _growth(threads=threads, device=device, quick=size == "quick", json=json, figure=figure)
    else:
        _stages(wanted_networks, wanted_stages, size=size, threads=threads, device=device, json=json, figure=figure)


def _stages(networks: Sequence[str], stages: Sequence[str], *, size: str, threads: int, device: str,
            json: Path | None, figure: Path | None) -> None:
    from dc_hpc.benchmark import facts as about
    from dc_hpc.benchmark.stages import computing, run_stages
    from dc_hpc.benchmark.timing import Differs, as_json

    place, load = about.chosen_device(device), about.load_average()
    with _progress() as report, computing(threads):
        try:
            rows, limits = run_stages(networks, stages, size=size, device=place, report=report)
        except Differs as error:
            raise InputError(f"{error}; leave the stage out with --stages, and please report it") from None
        facts = {**about.machine(device=place, threads=threads), "limits": limits.facts(), "size": size,
                 "load_start": load, "load_end": about.load_average()}  # fmt: skip
    found = as_json(rows)
    print_stages(found, about.caption(facts))
    _write(found, facts, json)
    if figure:
        from dc_hpc.report.speed_figures import speed

        _draw(lambda: speed(found, about.caption(facts)), figure)


def print_stages(rows: Sequence[Mapping[str, Any]], caption: Sequence[str]) -> None:
    """A table for people; what was not measured says so."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, caption="\n".join(caption), caption_justify="left", pad_edge=False)
    for name in ("stage", "size"):
        table.add_column(name, overflow="fold")
    for name in ("ours", "achieved", "of limit"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("peer", overflow="fold")
    for name in ("peer's", "ratio"):
        table.add_column(name, justify="right", no_wrap=True)
    before: tuple[str, str] = ("", "")
    for row in rows:
        if row["network"] != before[0]:
            table.add_section()
            table.add_row(f"[bold]{row['network']}[/bold]")
        again = (row["network"], row["name"]) == before
        before = row["network"], row["name"]
        table.add_row(*_cells(row, again=again))
    Console(width=None if Console().is_terminal else 130, highlight=False).print(table)
    print("ratio = peer's time / ours: above 1 ours is faster")


def _cells(row: Mapping[str, Any], *, again: bool) -> list[str]:
    unit = "GB/s" if row["name"] in ("views", "sampling", "agreement", "checkpoint", "dump") else "GFLOP/s"
    achieved = "" if row["achieved"] is None else f"{_figures(row['achieved'])} {unit}"
    share = "" if row["share"] is None else f"{100 * row['share']:.1f} %"
    ours = [row["name"], row["size"], _time(row["seconds"]), achieved, share]
    ratio = "" if row["ratio"] is None else f"{_figures(row['ratio'])}x"
    other = ["", "", ""] if row["peer"] is None else [row["peer"], _time(row["peer_seconds"]), ratio]
    return ([""] * 5 if again else ours) + other


def _figures(value: float) -> str:
    """Three figures, never a power of ten."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}" if value >= 0.001 else f"{value:.6f}"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "not measured"
    return f"{seconds:.3g} s" if seconds >= 1 else f"{_figures(1e3 * seconds)} ms"


def _growth(*, threads: int, device: str, quick: bool, json: Path | None, figure: Path | None) -> None:
    raise InputError("--growth is not there yet")


def _against_authors(peer: Path, data: Path, *, slots: int, quick: bool, json: Path | None,
                     figure: Path | None) -> None:
    raise InputError("--peer is not there yet")


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
    for flag, path in (("--json", json), ("--figure", figure)):
        if path and (path.is_dir() or not _writable(path.parent)):
            raise InputError(f"{flag} {path} cannot be written; give a file in a folder of your own")


def _writable(folder: Path) -> bool:
    import os

    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK)


def _write(rows: Any, facts: Mapping[str, Any], json: Path | None) -> None:
    if json is None:
        return
    from dc_hpc.experiment import files

    files.make_directory(json.parent)
    files.write_json(json, rows)
    files.write_json(json.with_name(f"{json.stem}.environment.json"), facts)
    print(f"wrote {json} and {json.stem}.environment.json")


def _draw(make: Callable[[], Figure], path: Path) -> None:
    from dc_hpc.experiment import files
    from dc_hpc.report.figure_style import figure_bytes, style

    form = path.suffix[1:]
    with style():
        content = figure_bytes(make(), (form,))[form]
    files.make_directory(path.parent)
    files.replace_bytes(path, content)
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
    from dc_hpc.door import run_door

    run_door(app)
