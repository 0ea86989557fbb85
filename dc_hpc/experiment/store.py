"""The layout of one run directory, its state, and the collection of all of them. Files are the truth.

    <outputs>/runs/<run_id>/
      config.json            the whole RunConfig, written once, before the run is submitted
      attempts/0001.json     one per start: where and with what it ran, its times, how it ended
      attempts/0001.error    the traceback of an attempt that failed
      checkpoints/           the State after a phase; the last three; removed when the run is done
      metrics.csv            one row a cycle, rewritten whole
      features/c0000.h5      one immutable file per dumped cycle
      trunk.safetensors      the final weights
      first-*.safetensors    instead of them, in a run that trains nothing: its only clustering
      result.json            the final numbers; its existence means done
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dc_hpc.experiment import arrays, files
from dc_hpc.experiment.config import RunConfig, make_config, run_id
from dc_hpc.experiment.errors import InputError
from dc_hpc.experiment.files import DamagedFile

FORMAT = 1
STATES = ("done", "running", "resumable", "failed", "new")
KEPT_CHECKPOINTS = 3
# A run on another host cannot be asked whether it lives; its attempt file is renewed after every phase.
_SILENT_SECONDS = 900

METRICS = (
    "cycle", "reassign", "nmi_prev", "nmi_true", "ami_prev", "ami_true", "nmi_true_chance", "label_entropy",
    "clusters_empty", "cluster_size_min", "cluster_size_median", "cluster_size_max", "inertia", "loss",
)  # fmt: skip


@dataclass(frozen=True)
class RunState:
    """What looking at a run directory says: one of STATES, how many cycles are finished, and why, in one line."""

    name: str
    cycles_done: int = 0
    reason: str = ""


def runs_folder(outputs: Path) -> Path:
    """Where the run directories of an outputs folder lie."""
    return outputs / "runs"


def create(outputs: Path, config: RunConfig) -> Path:
    """The directory of a run, made with its config.json if it is new."""
    directory = runs_folder(outputs) / run_id(config)
    files.make_directory(directory)
    content = {"format": FORMAT, "config": config.model_dump(mode="json")}
    files.write_json(directory / "config.json", content, once=True)
    return directory


def read_config(directory: Path) -> RunConfig:
    """The RunConfig of a directory; DamagedFile when it is not the one that the directory is named after."""
    path = directory / "config.json"
    content = files.read_json(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise DamagedFile(path, f"not a config of format {FORMAT}")
    try:
        config = make_config({k: tuple(v) if isinstance(v, list) else v for k, v in content["config"].items()})
    except (InputError, KeyError, AttributeError) as error:
        raise DamagedFile(path, f"not a run's settings: {error}") from None
    if run_id(config) != directory.name:
        raise DamagedFile(path, f"holds the settings of {run_id(config)}")
    return config


def state_of(directory: Path) -> RunState:
    """The state of a run, read by looking; opens at most its last attempt."""
    if (directory / "result.json").exists():
        return RunState("done")
    number = _last_attempt(directory)
    if number == 0:
        return RunState("new")
    try:
        attempt = files.read_json(_attempt_path(directory, number))
    except (DamagedFile, OSError) as error:
        return RunState("resumable", reason=str(error))
    cycles_done = int(attempt.get("cycles_done", 0))
    if attempt.get("ended") == "failed":
        return RunState("failed", cycles_done, attempt.get("error", ""))
    if attempt.get("ended") is None and _lives(attempt, _attempt_path(directory, number)):
        return RunState("running", cycles_done, f"{attempt['host']} pid {attempt['pid']}")
    return RunState("resumable", cycles_done)


def start_attempt(directory: Path, facts: dict[str, Any]) -> int:
    """Claim the next attempt number by writing its record, and return it."""
    files.make_directory(directory / "attempts")
    number = _last_attempt(directory) + 1
    record = {"host": socket.gethostname(), "pid": os.getpid(), "process_start": _process_start(os.getpid()),
              "started": time.time(), "ended": None, "cycles_done": 0, **facts}  # fmt: skip
    while not files.write_json(_attempt_path(directory, number), record, once=True):
        number += 1
    return number


def update_attempt(directory: Path, number: int, facts: dict[str, Any]) -> None:
    """Renew the record of a living attempt."""
    path = _attempt_path(directory, number)
    files.write_json(path, files.read_json(path) | facts)


def fail_attempt(directory: Path, number: int, error: BaseException, traceback: str) -> None:
    """Record that an attempt ended with an error, and keep its traceback beside it."""
    files.write_text(_attempt_path(directory, number).with_suffix(".error"), traceback)
    first_line = (str(error).splitlines() or [""])[0]
    facts = {"ended": "failed", "error": f"{type(error).__name__}: {first_line}"}
    update_attempt(directory, number, facts | {"finished": time.time()})


def attempts(directory: Path) -> list[dict[str, Any]]:
    """The readable attempt records, oldest first; `renewed` is when each was last written."""
    records = []
    for number in range(1, _last_attempt(directory) + 1):
        path = _attempt_path(directory, number)
        try:
            record, renewed = files.read_json(path), path.stat().st_mtime
        except (DamagedFile, FileNotFoundError):
            continue
        if isinstance(record, dict):
            records.append(record | {"renewed": renewed})
    return records


def is_on_this_host(directory: Path) -> bool:
    """Whether the last attempt of a run was made on this machine, so that its process can be looked for."""
    records = attempts(directory)
    return bool(records) and records[-1].get("host") == socket.gethostname()


def save_checkpoint(directory: Path, *, cycle: int, phase: str, tensors: dict[str, np.ndarray],
                    history: list[dict[str, Any]], given_by: str = "") -> None:
    """Write the State after a phase, with the metrics so far; keep the last three.

    given_by: the run that computed it, where that is another one.
    """
    folder = directory / "checkpoints"
    files.make_directory(folder)
    metadata = {"format": str(FORMAT), "run_id": directory.name, "cycle": str(cycle), "phase": phase,
                "history": json.dumps(history), **({"given_by": given_by} if given_by else {})}  # fmt: skip
    # "clustered" sorts before "trained", so the order of names is the order of phases.
    files.write_digested(folder, f"c{cycle:06d}-{phase}", ".safetensors", arrays.safetensors_bytes(tensors, metadata))
    for old in _checkpoints(directory)[:-KEPT_CHECKPOINTS]:
        old.unlink(missing_ok=True)


@dataclass(frozen=True)
class Checkpoint:
    """A State read back: the finished phase, its tensors as numpy arrays, the metric rows so far, who computed it."""

    cycle: int
    phase: str
    tensors: dict[str, np.ndarray]
    history: list[dict[str, Any]]
    given_by: str = ""


def load_checkpoint(directory: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint that is whole and this run's, and a line for each one that was not.

    A bad one is moved to quarantine/; with none left the run starts from its beginning.
    """
    complaints = []
    for path in reversed(_checkpoints(directory)):
        try:
            return _read_checkpoint(path, directory.name), complaints
        except DamagedFile as error:
            complaints.append(f"{error}; {_put_aside(path, directory)}")
        except FileNotFoundError:
            continue  # another living attempt of this run tidied it away
    return None, complaints


def write_metrics(directory: Path, history: list[dict[str, Any]]) -> None:
    """metrics.csv: one row a cycle, the columns of METRICS, empty where a cycle has no such number."""
    text = io.StringIO()
    writer = csv.DictWriter(text, METRICS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(row.get(name)) for name in METRICS} for row in history)
    files.write_text(directory / "metrics.csv", text.getvalue())


def dump_features(directory: Path, *, cycle: int, features: np.ndarray, pseudo_labels: np.ndarray, k: int) -> None:
    """features/cNNNN.h5: features float16 (n, q) as they were clustered, pseudo_labels uint16 or uint32 (n,)."""
    files.make_directory(directory / "features")
    labels = pseudo_labels.astype(_label_type(k))
    data = arrays.hdf5_bytes({"features": features.astype(np.float16), "pseudo_labels": labels},
                            {"format": FORMAT, "run_id": directory.name, "cycle": cycle, "k": k})  # fmt: skip
    files.write_once(directory / "features" / f"c{cycle:04d}.h5", data)


def copy_features(source: Path, target: Path, *, cycle: int, k: int) -> None:
    """Dump in `target` what `source` has dumped of a cycle that is the same in both runs."""
    schema = {"features": ("f", 2), "pseudo_labels": ("u", 1)}
    found, _ = arrays.read_hdf5(source / "features" / f"c{cycle:04d}.h5", schema)
    dump_features(target, cycle=cycle, k=k, **found)


def write_first_clustering(directory: Path, *, pseudo_labels: np.ndarray, k: int, inertia: float) -> None:
    """first-<digest>.safetensors, what an IA run leaves for longer runs: pseudo_labels uint16 or uint32 (n,)."""
    metadata = {"format": str(FORMAT), "run_id": directory.name, "inertia": json.dumps(inertia)}
    data = arrays.safetensors_bytes({"pseudo_labels": pseudo_labels.astype(_label_type(k))}, metadata)
    files.write_digested(directory, "first", ".safetensors", data)


def read_first_clustering(directory: Path) -> tuple[np.ndarray, float] | None:
    """(pseudo_labels, inertia) of a finished IA run; None where there is none that is whole and its own."""
    for path in directory.glob("first-*.safetensors") if (directory / "result.json").exists() else ():
        try:
            tensors, metadata = arrays.parse_safetensors(files.read_digested(path), path)
            if metadata["format"] == str(FORMAT) and metadata["run_id"] == directory.name:
                return tensors["pseudo_labels"], float(json.loads(metadata["inertia"]))
        except (DamagedFile, KeyError, ValueError):
            continue  # it can be computed again
    return None


def write_trunk(directory: Path, tensors: dict[str, np.ndarray]) -> str:
    """trunk.safetensors, the final weights; returns the SHA-256 of the file."""
    data = arrays.safetensors_bytes(tensors, {"format": str(FORMAT), "run_id": directory.name})
    files.replace_bytes(directory / "trunk.safetensors", data)
    return files.sha256_hex(data)


def finish(directory: Path, result: dict[str, Any]) -> None:
    """Write result.json, which makes the run done, then tidy up."""
    files.write_json(directory / "result.json", {"format": FORMAT, "run_id": directory.name, **result}, once=True)
    tidy(directory)


def tidy(directory: Path) -> None:
    """Remove what a finished run no longer needs: its checkpoints, and what killed attempts left half written."""
    for path in _checkpoints(directory):
        path.unlink(missing_ok=True)
    files.sweep(directory)


def read_result(directory: Path) -> dict[str, Any]:
    """result.json of a finished run; DamagedFile when it is not whole or another run's."""
    path = directory / "result.json"
    result = files.read_json(path)
    if not isinstance(result, dict) or result.get("format") != FORMAT or result.get("run_id") != directory.name:
        raise DamagedFile(path, f"not a result of format {FORMAT} of this run")
    return {name: value for name, value in result.items() if name not in ("format", "run_id")}


def read_metrics(directory: Path) -> list[dict[str, str]]:
    """The rows of metrics.csv as strings; DamagedFile when the columns are not METRICS."""
    path = directory / "metrics.csv"
    if not path.exists():
        return []
    try:
        text = files.read_bytes(path, files.MAX_JSON_BYTES).decode("utf-8")
        rows = list(csv.DictReader(io.StringIO(text), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DamagedFile(path, str(error)) from None
    if any(tuple(row) != METRICS or None in row.values() for row in rows):
        raise DamagedFile(path, "its columns are not those of a metrics.csv")
    return rows


def run_directories(outputs: Path) -> Iterator[Path]:
    """Every run directory of an outputs folder, sorted by name."""
    folder = runs_folder(outputs)
    if folder.is_dir():
        yield from sorted(Path(entry.path) for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False))


def _read_checkpoint(path: Path, name: str) -> Checkpoint:
    tensors, metadata = arrays.parse_safetensors(files.read_digested(path), path)
    if metadata.get("format") != str(FORMAT) or metadata.get("run_id") != name:
        raise DamagedFile(path, f"belongs to {metadata.get('run_id')}, format {metadata.get('format')}")
    return Checkpoint(int(metadata["cycle"]), metadata["phase"], tensors, json.loads(metadata["history"]),
                      metadata.get("given_by", ""))  # fmt: skip


def _label_type(k: int) -> type[np.unsignedinteger]:
    return np.uint16 if k <= 2**16 else np.uint32


def _put_aside(path: Path, directory: Path) -> str:
    try:
        return f"moved to {files.quarantine(path).relative_to(directory)}"
    except FileNotFoundError:
        return "moved away by another attempt"


def _checkpoints(directory: Path) -> list[Path]:
    folder = directory / "checkpoints"
    # what is read here is also removed here, so never through a link
    return [] if folder.is_symlink() else sorted(folder.glob("c*.safetensors"))


def _attempt_path(directory: Path, number: int) -> Path:
    return directory / "attempts" / f"{number:04d}.json"


def _last_attempt(directory: Path) -> int:
    try:
        names = os.listdir(directory / "attempts")
    except FileNotFoundError:
        return 0
    return max((int(name[:-5]) for name in names if re.fullmatch(r"\d{4,}\.json", name)), default=0)


def _lives(attempt: dict[str, Any], path: Path) -> bool:
    if attempt.get("host") != socket.gethostname():
        return time.time() - path.stat().st_mtime < _SILENT_SECONDS
    start = _process_start(attempt["pid"])
    return start is not None and start == attempt.get("process_start")


def _process_start(pid: int) -> str | None:
    """When a process of this host started, as the kernel counts; None when there is no such process.

    A pid alone may have been given to another process since.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] == "Z" else fields[19]
    except FileNotFoundError:
        return None if Path("/proc/self").exists() else _process_exists(pid)


def _process_exists(pid: int) -> str | None:
    """For systems without /proc."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return "unknown"


def _cell(value: Any) -> str:
    return "" if value is None else repr(value) if isinstance(value, float) else str(value)
