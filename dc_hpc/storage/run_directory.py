"""The layout of one run directory, its state, and the collection of all of them. Files are the truth.

    <outputs>/runs/<run_id>/
      config.json            the whole RunConfig, written once, before the run is submitted
      attempts/0001.json     one per start: where and with what it ran, its times, how it ended
      attempts/0001.error    the traceback of an attempt that failed
      attempts/0001.progress where a living attempt is, see run_progress.py; removed when it ends
      checkpoints/           the State after a phase; the last three; removed when the run is done
      metrics.csv            one row a cycle, rewritten whole
      features/c0000.h5      one immutable file per dumped cycle
      trunk.safetensors      the final weights
      first-*.safetensors    instead of them, in a run that trains nothing: its only clustering
      predictions.h5         the classes that the probe gave the test images, see predictions.py
      result.json            the final numbers; one that is whole means done

The JSON files carry a digest of their content, result.json also those of metrics.csv, the trunk and the predictions,
the names of checkpoints their own. Damage is never read as a number: a run with a damaged result is not done and is
computed again.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dc_hpc.algorithm import NUMERICS
from dc_hpc.config.run_config import RunConfig, make_config, run_id
from dc_hpc.errors import InputError
from dc_hpc.storage import atomic_files, serialization
from dc_hpc.storage.atomic_files import DamagedFile
from dc_hpc.storage.processes import process_start

FORMAT = 1
STATES = ("done", "running", "resumable", "failed", "new")
KEPT_CHECKPOINTS = 3
# A run on another host cannot be asked whether it lives; its progress file is renewed all the time (progress_writer).
_SILENT_SECONDS = 900

# How the error of a run begins whose training diverged. It is tried again only when a person asks for it.
DIVERGED = "DivergenceError"
PROBE_DIVERGED = "probe_diverged"  # in result.json: the layers whose probe diverged, with a space between them
# The settings that are younger than this format of config.json.
_YOUNGER = (
    "net_digest", "train_digest", "test_digest", "kmeans_n_init", "probe_crop", "draws",
    "halt_rule", "halt_patience", "halt_tolerance", "soft_reset", "teacher_seed",
)  # fmt: skip


@dataclass(frozen=True)
class RunState:
    """The state of a run by its directory: one of STATES, how many cycles are finished, and why, in one line.

    result: the numbers of result.json, of a run that is done.
    """

    name: str
    cycles_done: int = 0
    reason: str = ""
    result: dict[str, Any] | None = None


def runs_folder(outputs: Path) -> Path:
    """Where the run directories of an outputs folder lie."""
    return outputs / "runs"


def create(outputs: Path, config: RunConfig) -> Path:
    """The directory of a run, made with its config.json if it is new."""
    directory = runs_folder(outputs) / run_id(config)
    atomic_files.make_directory(directory)
    # without the younger settings that say nothing here, so that older versions read the file
    unused = {name for name in _YOUNGER if getattr(config, name) == RunConfig.model_fields[name].default}
    content = {"format": FORMAT, "config": config.model_dump(mode="json", exclude=unused)}
    path = directory / "config.json"
    if not atomic_files.write_checksummed(path, content, once=True) and _is_damaged(read_config, directory):
        quarantine_file(path, directory)
        atomic_files.write_checksummed(path, content, once=True)
    return directory


def read_config(directory: Path) -> RunConfig:
    """The RunConfig of a directory; DamagedFile when it is not the one that the directory is named after."""
    path = directory / "config.json"
    content = atomic_files.read_checksummed(path)
    if content.get("format") != FORMAT:
        raise DamagedFile(path, f"not a config of format {FORMAT}")
    try:
        config = make_config({k: tuple(v) if isinstance(v, list) else v for k, v in content["config"].items()})
    except (InputError, KeyError, AttributeError) as error:
        raise DamagedFile(path, f"not a run's settings: {error}") from None
    if run_id(config) != directory.name:
        raise DamagedFile(path, f"holds the settings of {run_id(config)}")
    return config


def state_of(directory: Path) -> RunState:
    """The state of a run by its files; opens at most its result and its last attempt.

    A damaged result is a run that is not done, and the reason: the same submit command computes it again.
    """
    try:
        result = read_result(directory)
        return RunState("done", reason=_diverged_probes(result), result=result)
    except FileNotFoundError:
        pass
    except (DamagedFile, OSError) as error:
        return RunState("resumable", reason=str(error))
    try:
        number = _last_attempt(directory)
    except OSError as error:  # it is another person's, or the disk fails
        return RunState("resumable", reason=str(error))
    if number == 0:
        return RunState("new")
    try:
        attempt = read_attempt(_attempt_path(directory, number))
    except (DamagedFile, OSError) as error:
        return RunState("resumable", reason=str(error))
    cycles_done = attempt["cycles_done"]
    if attempt["ended"] == "failed":
        return RunState("failed", cycles_done, str(attempt.get("error", "")))
    if attempt["ended"] is None and _lives(attempt, _attempt_path(directory, number)):
        return RunState("running", cycles_done, f"{attempt['host']} pid {attempt['pid']}")
    return RunState("resumable", cycles_done)


def is_diverged(state: str, reason: str) -> bool:
    """Whether the state of a run, with its reason, says that its training or a probe of it diverged."""
    return (state == "failed" and reason.startswith(DIVERGED)) or (state == "done" and reason.startswith("diverged"))


def _diverged_probes(result: dict[str, Any]) -> str:
    layers = str(result.get(PROBE_DIVERGED) or "").split()
    return f"diverged: the probe of {', '.join(layers)} has no accuracy; lower probe_lr" if layers else ""


def start_attempt(directory: Path, entries: dict[str, Any]) -> int:
    """Claim the next attempt number by writing its record, and return it."""
    atomic_files.make_directory(directory / "attempts")
    number = _last_attempt(directory) + 1
    while not atomic_files.write_checksummed(
        _attempt_path(directory, number), _new_record(directory, number) | entries, once=True
    ):
        number += 1
    return number


def update_attempt(directory: Path, number: int, entries: dict[str, Any]) -> None:
    """Renew the record of a living attempt. A damaged record is begun anew, so that it never ends a run."""
    path = _attempt_path(directory, number)
    try:
        record = read_attempt(path)
    except (DamagedFile, FileNotFoundError):
        record = _new_record(directory, number)
    atomic_files.write_checksummed(path, record | entries)


def fail_attempt(directory: Path, number: int, error: BaseException, traceback: str) -> None:
    """Record that an attempt ended with an error, and keep its traceback beside it."""
    atomic_files.write_text(_attempt_path(directory, number).with_suffix(".error"), traceback)
    first_line = (str(error).splitlines() or [""])[0]
    entries = {"ended": "failed", "error": f"{type(error).__name__}: {first_line}"}
    update_attempt(directory, number, entries | {"finished": time.time()})


def attempts(directory: Path) -> list[dict[str, Any]]:
    """The readable attempt records, oldest first; `renewed` is when each was last written."""
    return look_at_attempts(directory)[0]


def look_at_attempts(directory: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """`attempts`, and a line for each record that is damaged, or that cannot be read."""
    records, warnings = [], []
    try:
        paths = attempt_paths(directory)
    except OSError as error:
        return [], [f"attempts: cannot be read ({error.strerror})"]
    for path in paths:
        try:
            records.append(read_attempt(path) | {"renewed": path.stat().st_mtime})
        except DamagedFile as error:
            warnings.append(f"{path.relative_to(directory)}: {error.why}")
        except FileNotFoundError:
            continue
        except OSError as error:
            warnings.append(f"{path.relative_to(directory)}: cannot be read ({error.strerror})")
    return records, warnings


def attempt_paths(directory: Path) -> list[Path]:
    """The records of attempts, oldest first, without what other programs put beside them, such as `._0001.json`."""
    try:
        names = os.listdir(directory / "attempts")
    except FileNotFoundError:
        return []
    numbers = sorted(int(name[:-5]) for name in names if re.fullmatch(r"\d{4,}\.json", name))
    return [_attempt_path(directory, number) for number in numbers]


def is_on_this_host(directory: Path) -> bool:
    """Whether the last attempt of a run was made on this machine, so that its process can be looked for."""
    records = attempts(directory)
    return bool(records) and records[-1].get("host") == socket.gethostname()


def save_checkpoint(
    directory: Path,
    *,
    cycle: int,
    phase: str,
    tensors: dict[str, np.ndarray],
    history: list[dict[str, Any]],
    copied_from: str = "",
) -> None:
    """Write the State after a phase, with the metrics so far; keep the last three.

    copied_from: the run that computed it, where that is another one.
    """
    folder = directory / "checkpoints"
    atomic_files.make_directory(folder)
    metadata = {
        "format": str(FORMAT),
        "run_id": directory.name,
        "cycle": str(cycle),
        "phase": phase,
        "numerics": str(NUMERICS),
        "history": json.dumps(history),
        **({"given_by": copied_from} if copied_from else {}),
    }
    # "clustered" sorts before "trained", so the order of names is the order of phases.
    atomic_files.write_digested(
        folder, f"c{cycle:06d}-{phase}", ".safetensors", serialization.safetensors_bytes(tensors, metadata)
    )
    for old in checkpoints(directory)[:-KEPT_CHECKPOINTS]:
        old.unlink(missing_ok=True)


@dataclass(frozen=True)
class Checkpoint:
    """A State read back: the finished phase, its tensors as numpy arrays, the metric rows so far, who computed it."""

    cycle: int
    phase: str
    tensors: dict[str, np.ndarray]
    history: list[dict[str, Any]]
    copied_from: str = ""


def load_checkpoint(directory: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint that is whole and this run's, and a line for each one that was not.

    A bad one is moved to quarantine/; with none left the run starts from its beginning.
    """
    warnings: list[str] = []
    for path in reversed(checkpoints(directory)):
        try:
            return read_checkpoint(path, directory.name), warnings
        except DamagedFile as error:
            warnings.append(f"{error}; {quarantine_file(path, directory)}")
        except FileNotFoundError:
            continue  # another living attempt of this run tidied it away
    return None, warnings


def quarantine_checkpoints(directory: Path, cycle: int) -> None:
    """Move the checkpoints of this cycle and of later ones to quarantine/."""
    for path in checkpoints(directory):
        if path.name >= f"c{cycle:06d}":
            quarantine_file(path, directory)


def finish(directory: Path, result: dict[str, Any]) -> None:
    """Write result.json, which makes the run done, then tidy up.

    result: the final numbers, and the SHA-256 of files that belong to them: `metrics_sha256`, `trunk_sha256` and
    `predictions_sha256`, where the run has such a file.
    """
    content = {"format": FORMAT, "run_id": directory.name, **result}
    atomic_files.write_checksummed(directory / "result.json", content, once=True)
    tidy(directory)


def tidy(directory: Path) -> None:
    """Remove what a finished run no longer needs: its checkpoints, and what killed attempts left half written.

    A file that cannot be removed now costs nothing but its place; the next call tries again.
    """
    with contextlib.suppress(OSError):
        for path in checkpoints(directory):
            path.unlink(missing_ok=True)
        atomic_files.sweep(directory)


def is_done(directory: Path) -> bool:
    """Whether a run has a whole result. `state_of` says more and reads more."""
    try:
        whole_result(directory)
    except (DamagedFile, OSError):
        return False
    return True


def quarantine_damaged_result(directory: Path) -> list[str]:
    """Move a result.json that is not whole to quarantine/, so that the run can be done; a line if there was one."""
    try:
        whole_result(directory)
    except DamagedFile as error:
        return [f"{error}; {quarantine_file(error.path, directory)}"]
    except FileNotFoundError:
        pass
    return []


def read_result(directory: Path) -> dict[str, Any]:
    """result.json of a finished run; DamagedFile when it is not whole or another run's."""
    inside = ("format", "run_id", "metrics_sha256", "predictions_sha256")
    return {name: value for name, value in whole_result(directory).items() if name not in inside}


def whole_result(directory: Path) -> dict[str, Any]:
    """`read_result` with what it says of itself: format, run_id, the SHA-256 of metrics.csv and of predictions.h5."""
    path = directory / "result.json"
    result = atomic_files.read_checksummed(path)
    if result.get("format") != FORMAT or result.get("run_id") != directory.name:
        raise DamagedFile(path, f"not a result of format {FORMAT} of this run")
    return result


def check_outputs_exist(outputs: Path) -> None:
    """Refuse an outputs folder that is not there; the default one, `outputs`, is empty until the first submit."""
    if outputs.exists() and not outputs.is_dir():
        raise InputError(f"--outputs {outputs} is not a folder; give the one that `python -m dc_hpc.submit` wrote to")
    if not outputs.exists() and outputs != Path("outputs"):
        raise InputError(f"--outputs {outputs} is not there; give the folder that `python -m dc_hpc.submit` wrote to")


def run_directories(outputs: Path) -> Iterator[Path]:
    """Every run directory of an outputs folder, sorted by name; none that is hidden, such as .ipynb_checkpoints."""
    folder = runs_folder(outputs)
    if folder.is_dir():
        found = (entry for entry in os.scandir(folder) if not entry.name.startswith("."))
        yield from sorted(Path(entry.path) for entry in found if entry.is_dir(follow_symlinks=False))


def read_checkpoint(path: Path, name: str) -> Checkpoint:
    """A checkpoint of the run of this name; DamagedFile when it is not whole or another run's."""
    tensors, metadata = serialization.parse_safetensors(atomic_files.read_digested(path), path)
    if metadata.get("format") != str(FORMAT) or metadata.get("run_id") != name:
        raise DamagedFile(path, f"belongs to {metadata.get('run_id')}, format {metadata.get('format')}")
    try:
        cycle, phase, history = int(metadata["cycle"]), metadata["phase"], json.loads(metadata["history"])
    except (KeyError, ValueError) as error:
        raise DamagedFile(path, f"its metadata are not those of a checkpoint ({error})") from None
    return Checkpoint(cycle, phase, tensors, history, metadata.get("given_by", ""))


def quarantine_file(path: Path, directory: Path) -> str:
    """Move a bad file to quarantine/ beside it; says where it is now."""
    try:
        return f"moved to {atomic_files.quarantine(path).relative_to(directory)}"
    except FileNotFoundError:
        return "moved away by another attempt"


def checkpoints(directory: Path) -> list[Path]:
    """The checkpoints of a run, the newest last."""
    folder = directory / "checkpoints"
    # what is read here is also removed here, so never through a link
    return [] if folder.is_symlink() else sorted(folder.glob("c*.safetensors"))


def _attempt_path(directory: Path, number: int) -> Path:
    return directory / "attempts" / f"{number:04d}.json"


def _last_attempt(directory: Path) -> int:
    return max((int(path.stem) for path in attempt_paths(directory)), default=0)


def _new_record(directory: Path, number: int) -> dict[str, Any]:
    return {
        "run_id": directory.name,
        "attempt": number,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "process_start": process_start(os.getpid()),
        "started": time.time(),
        "ended": None,
        "cycles_done": 0,
    }


def read_attempt(path: Path) -> dict[str, Any]:
    """The record of an attempt; DamagedFile unless it has what every record has and is of this run and number."""
    own: dict[str, Any] = {"run_id": path.parents[1].name, "attempt": int(path.stem)}
    record = own | {"ended": None, "cycles_done": 0, "seconds": []} | atomic_files.read_checksummed(path)
    kinds: dict[str, Any] = {
        "host": str,
        "pid": int,
        "started": int | float,
        "ended": str | None,
        "cycles_done": int,
        "seconds": list,
    }
    wrong = [name for name, kind in kinds.items() if not isinstance(record.get(name), kind)]
    wrong += [name for name in own if record[name] != own[name]]
    if wrong or not all(isinstance(one, dict) for one in record["seconds"]):
        raise DamagedFile(path, f"its {(wrong or ['seconds'])[0]} is not what an attempt has")
    return record


def _is_damaged(read: Callable[[Path], Any], directory: Path) -> bool:
    try:
        read(directory)
    except DamagedFile:
        return True
    return False


def _lives(attempt: dict[str, Any], path: Path) -> bool:
    if attempt.get("host") != socket.gethostname():
        return time.time() - _last_sign(path) < _SILENT_SECONDS
    start = process_start(attempt["pid"])
    return start is not None and start == attempt.get("process_start")


def _last_sign(path: Path) -> float:
    """When a living attempt was last heard of: its record is renewed after every phase, its progress in between."""
    signs = [path.stat().st_mtime]
    with contextlib.suppress(OSError):
        signs.append(path.with_suffix(".progress").stat().st_mtime)
    return max(signs)
