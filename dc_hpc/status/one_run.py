"""`status show RUN` and `status logs RUN`: the subcommands about one run."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dc_hpc.cli import OutputsOption
from dc_hpc.status.chosen import RunArgument, one_run
from dc_hpc.storage import run_directory, run_progress
from dc_hpc.storage.atomic_files import DamagedFile

if TYPE_CHECKING:
    from dc_hpc.config.run_config import RunConfig
    from dc_hpc.scheduler.estimates import RunTotals

_CYCLES_SHOWN = 5
_FILES_SHOWN = 12
_NUMBERS = ("nmi_true", "nmi_prev", "ami_true", "loss")


def logs(run: RunArgument, outputs: OutputsOption = Path("outputs")) -> None:
    """Print the logs of one run: the output of its job, and the traceback if its last attempt failed."""
    name = one_run(run, outputs)
    directory = run_directory.runs_folder(outputs) / name
    paths = [*_logs_of(name, directory, outputs), *sorted((directory / "attempts").glob("*.error"))[-1:]]
    existing = [path for path in dict.fromkeys(paths) if path.is_file()]
    for path in existing:
        text = path.read_text("utf-8", "replace")
        print(f"== {path}\n{text}", end="" if text.endswith("\n") or not text else "\n")
    if not existing:
        print(f"{name} has no log and no error; it has not been computed, or its logs in {outputs / 'slurm'} are gone")


def show(run: RunArgument, outputs: OutputsOption = Path("outputs")) -> None:
    """Show one run: its settings, state, attempts, times, last cycles, results and files."""
    from dc_hpc.scheduler import run_status
    from dc_hpc.scheduler.estimates import totals_of

    name = one_run(run, outputs)
    directory = run_directory.runs_folder(outputs) / name
    (status,) = run_status.collect(outputs, [name]).runs.values()
    records, damaged = run_directory.look_at_attempts(directory)
    print(name)
    print(f"state: {status.state}{f' ({status.reason})' if status.reason else ''}")
    for lines in (
        _now(directory) if status.state == "running" else [],
        _settings(directory),
        _attempts(records, damaged),
        _seconds(totals_of(records)),
        _last_cycles(directory),
        _results(status.result or {}),
        _files(directory, outputs),
    ):
        print("\n".join(lines), end="\n" if lines else "")


def _now(directory: Path) -> list[str]:
    """Where a running run is, with the newest numbers."""
    progress = run_progress.read(directory)
    if progress is None:
        return []
    numbers = {"NMI": progress.nmi, "loss": progress.loss}
    words = [f"{name} {value:.3f}" for name, value in numbers.items() if value is not None]
    return [", ".join([f"now: cycle {progress.cycle + 1}, {progress.phase}", *words])]


def _logs_of(name: str, directory: Path, outputs: Path) -> Iterator[Path]:
    """The logs of the newest job of a run on a cluster, and those of its newest job on this machine."""
    from dc_hpc.scheduler import run_status, submissions
    from dc_hpc.scheduler.tasks.logs import local_logs, log_of

    found = run_status.task_of(name, submissions.read_all(outputs))
    if found:
        yield from (log_of(*found, ending) for ending in ("out", "err"))
    yield from local_logs(directory, outputs)


def _settings(directory: Path) -> list[str]:
    from dc_hpc.config.baselines import nearest_baseline

    try:
        config = run_directory.read_config(directory)
    except (DamagedFile, OSError) as error:
        return [f"settings: {error}"]
    base, protocol, settings = nearest_baseline(dict(config))
    lines = [f"settings that differ from the baseline {base}, protocol {protocol}:"]
    for key, one in type(config).declared.items():
        field = type(config).model_fields[key]
        usual = settings.get(key, ... if field.is_required() else field.default)
        value = getattr(config, key)
        if value != usual and one.in_grids and key != "protocol":
            of_base = "" if usual is ... else f"   (baseline {_word(config, key, usual)})"
            lines.append(f"  {key:<18} {_word(config, key, value)}{of_base}")
    return lines


def _word(config: RunConfig, key: str, value: Any) -> str:
    """A value as a grid would write it."""
    if value is None or value == ():
        return type(config).declared[key].none_word or "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"[{', '.join(map(str, value))}]" if isinstance(value, tuple) else str(value)


def _attempts(records: list[dict[str, Any]], damaged: list[str]) -> list[str]:
    from dc_hpc.scheduler.tasks.words import duration

    lines = [f"attempts: {len(records) or 'none'}", *(f"  ! {line}" for line in damaged)]
    for one in records:
        begun = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one["started"]))
        took = duration(max(0.0, (one.get("finished") or one["renewed"]) - one["started"]))
        resumed = f", from {one['resumed_from']}" if one.get("resumed_from") else ""
        error = f": {one['error']}" if one.get("error") else ""
        lines.append(
            f"  {one['attempt']}  {begun}  {one['host']} pid {one['pid']}  {one['ended'] or 'no end recorded'} after "
            f"{took}{resumed}{error}"
        )
    return lines


def _seconds(totals: RunTotals) -> list[str]:
    if not totals.stages:
        return ["seconds by stage: none measured"]
    stages = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in totals.stages.items())
    cpu = "" if totals.cpu_seconds is None else f"; CPU seconds {totals.cpu_seconds:.1f}"
    return [f"seconds by stage: {stages}; of all attempts {totals.seconds:.1f}{cpu}"]


def _last_cycles(directory: Path) -> list[str]:
    from dc_hpc.storage import metrics_csv

    try:
        rows = metrics_csv.read_metrics(directory)
    except (DamagedFile, OSError) as error:
        return [f"cycles: {error}"]
    if not rows:
        return ["cycles: none"]
    lines = [f"last of {len(rows)} cycles:", f"  {'cycle':>5}  " + "  ".join(f"{key:>8}" for key in _NUMBERS)]
    for row in rows[-_CYCLES_SHOWN:]:
        numbers = [f"{float(row[key]):8.4f}" if row[key] else f"{'-':>8}" for key in _NUMBERS]
        lines.append(f"  {row['cycle']:>5}  " + "  ".join(numbers))
    return lines


def _results(result: dict[str, Any]) -> list[str]:
    if not result:
        return ["results: none yet"]
    lines = ["results:"]
    if result.get("ia") is not None:
        lines.append(f"  IA {result['ia']:.4f}")
    accuracies = {key: value for key, value in result.items() if key.startswith("accuracy") and value is not None}
    return lines + [f"  {key} {value:.2f} %" for key, value in accuracies.items()]


def _files(directory: Path, outputs: Path) -> list[str]:
    """The first files of a run by name, each with its size, and how to read its logs."""
    sizes: dict[Path, int] = {}
    for path in sorted(path for path in directory.rglob("*") if not path.name.endswith(".tmp")):
        with suppress(FileNotFoundError):  # a run that computes has removed it
            if path.is_file():
                sizes[path] = path.stat().st_size
    lines = [f"files in {directory}:"]
    shown = list(sizes.items())[:_FILES_SHOWN]
    lines += [f"  {size:>12,} bytes  {path.relative_to(directory)}" for path, size in shown]
    if len(sizes) > _FILES_SHOWN:
        lines.append(f"  and {len(sizes) - _FILES_SHOWN} more")
    return [*lines, f"logs: python -m dc_hpc.status logs {directory.name} --outputs {shlex.quote(str(outputs))}"]
