"""A file that changed after it was written is never read as if it were unchanged."""

import json
import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from support.commands import run_command
from support.kill_runs import results_without_quarantine
from support.small_runs import new_run, results, small_config

from dc_hpc.experiment.execution import Execution
from dc_hpc.experiment.run import run
from dc_hpc.scheduler import submissions
from dc_hpc.scheduler.submissions import Submission
from dc_hpc.storage import atomic_files, feature_dumps, metrics_csv, run_directory, serialization
from dc_hpc.storage.atomic_files import DamagedFile
from dc_hpc.storage.integrity import damaged_files, quarantine_damaged

SETTINGS = {"cycles": 3, "features": "every"}


@pytest.fixture(scope="module")
def two_folders(digits_root, tmp_path_factory):
    """Two outputs folders that differ in the seed: each has a finished, a stopped and an IA run, and a submission."""
    places = []
    for seed in (1, 2):
        outputs = tmp_path_factory.mktemp("two") / "outputs"
        done, stopped, ia = (
            new_run(outputs, digits_root, seed=seed, **changes)
            for changes in (SETTINGS, {**SETTINGS, "cycles": 4}, {"cycles": 0, "probe": ()})
        )
        phases = iter(range(9))
        run(stopped, Execution(str(digits_root), save_seconds=0), stop=lambda p=phases: next(p) == 3)
        assert [run(one, Execution(str(digits_root))) for one in (done, ia)] == ["done", "done"]
        packs = ((done.name,), (stopped.name,))
        submissions.write(outputs, Submission(f"grid-{seed}", "/slurm", packs, minutes=10 * seed, job="7"))
        places.append((outputs, {"done": done, "stopped": stopped, "ia": ia}))
    return places


def _checkpoint(directory, path):
    one = run_directory.read_checkpoint(path, directory.name)
    return one.cycle, one.phase, one.history, one.tensors


def readers(outputs, runs):
    """(file, function that reads it) for every file that a program reads again."""
    done, stopped, ia = runs["done"], runs["stopped"], runs["ia"]
    (first,), (submission,) = ia.glob("first-*"), submissions.folder_of(outputs).glob("*.json")
    yield done / "config.json", lambda: run_directory.read_config(done)
    yield done / "result.json", lambda: run_directory.read_result(done)
    yield done / "metrics.csv", lambda: metrics_csv.read_metrics(done)
    yield stopped / "metrics.csv", lambda: metrics_csv.read_metrics(stopped)
    yield done / "trunk.safetensors", lambda: feature_dumps.read_trunk(done)
    for cycle in (0, 2):
        yield done / "features" / f"c{cycle:04d}.h5", lambda cycle=cycle: feature_dumps.read_features(done, cycle)
    for path in sorted((stopped / "checkpoints").iterdir()):
        yield path, lambda path=path: _checkpoint(stopped, path)
    yield first, lambda: _first(ia, first)
    for directory in (done, stopped):
        path = directory / "attempts" / "0001.json"
        yield path, lambda path=path: run_directory.read_attempt(path)
    yield submission, lambda: _submission(outputs)


def _first(ia, path):
    found = feature_dumps.read_first_clustering(ia)
    if found is None:
        raise DamagedFile(path, "left out")
    return found


def _submission(outputs):
    warnings: list[str] = []
    found = submissions.read_all(outputs, warnings)
    if warnings:
        raise DamagedFile(outputs, warnings[0])
    return found


def same(one, other):
    """Whether two values are equal, with the arrays in them."""
    if isinstance(one, np.ndarray):
        return isinstance(other, np.ndarray) and one.dtype == other.dtype and np.array_equal(one, other)
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, tuple | list):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    return one == other


def mutated(data, others, rng):
    """(kind of change, changed bytes): flipped, cut, longer, overwritten, or the bytes of another file."""
    kind = rng.choice(["flip", "flip", "flips", "cut", "longer", "block", "digit", "other", "empty"])
    bad = bytearray(data)
    if kind in ("flip", "flips"):
        for _ in range(1 if kind == "flip" else rng.randrange(2, 9)):
            bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
    elif kind == "cut":
        del bad[rng.randrange(len(bad)) :]
    elif kind == "longer":
        bad += rng.choice([b"\0", b" ", b"\n", b"0", bytes(512), data])
    elif kind == "block":  # a page that was never written to the disk
        start = rng.randrange(len(bad))
        bad[start : start + 4096] = bytes(len(bad[start : start + 4096]))
    elif kind == "digit":
        places = [place for place, byte in enumerate(data) if 48 <= byte <= 57]
        bad[rng.choice(places)] = rng.choice(b"0123456789") if places else 0
    elif kind == "other":
        bad = bytearray(rng.choice(others))
    else:
        bad.clear()
    return kind, bytes(bad)


@pytest.mark.parametrize("count", [1000, pytest.param(10_000, marks=pytest.mark.crash)])
def test_mutations_are_never_read_silently(two_folders, count):
    rng, (outputs, runs), (_, others) = random.Random(count), *two_folders
    watched = [(path, read, path.read_bytes(), read()) for path, read in readers(outputs, runs)]
    foreign = {}
    for (path, _, data, _), (counterpart, _) in zip(watched, readers(two_folders[1][0], others)):
        inside = [other.read_bytes() for other in path.parent.iterdir() if other.is_file() and other != path]
        foreign[path] = [counterpart.read_bytes(), *(one for one in inside if one != data)]
    found = harmless = 0
    while found + harmless < count:
        path, read, data, truth = watched[(found + harmless) % len(watched)]
        kind, bad = mutated(data, foreign[path], rng)
        if bad == data:
            continue
        path.write_bytes(bad)
        try:
            assert same(read(), truth), f"{path.name} was read silently after {kind}"
            harmless += 1  # a change of white space or padding: the values read are the original ones
        except DamagedFile:
            found += 1
        finally:
            path.write_bytes(data)
    print(f"{count} mutations of {len(watched)} files: {found} refused, {harmless} read as what was written")
    assert harmless < count / 20


@pytest.mark.parametrize("name", ["config.json", "result.json"])
def test_a_json_file_of_a_future_format_is_refused(two_folders, name):
    directory = two_folders[0][1]["done"]
    path, before = directory / name, (directory / name).read_bytes()
    content = {key: value for key, value in json.loads(before).items() if key != "sha256"}
    atomic_files.write_checksummed(path, content | {"format": 2})
    with pytest.raises(DamagedFile, match="format 1"):
        (run_directory.read_config if name == "config.json" else run_directory.read_result)(directory)
    path.write_bytes(before)


def test_arrays_of_a_future_format_are_refused(two_folders, tmp_path):
    """The file is complete and its digests are right, but a later version wrote it."""
    directory = shutil.copytree(two_folders[0][1]["stopped"], tmp_path / two_folders[0][1]["stopped"].name)
    path = sorted((directory / "checkpoints").iterdir())[-1]
    tensors, metadata = serialization.parse_safetensors(path.read_bytes(), path)
    future = serialization.safetensors_bytes(tensors, metadata | {"format": "2"})
    newer = atomic_files.write_digested(path.parent, "c000009-trained", ".safetensors", future)
    checkpoint, warnings = run_directory.load_checkpoint(directory)
    assert "format 2" in warnings[0] and checkpoint.cycle < 9 and not newer.exists()
    dump = feature_dumps.features_path(directory, 0)
    found = feature_dumps.read_features(directory, 0)
    atomic_files.replace_bytes(
        dump, serialization.hdf5_bytes(found, {"format": 2, "run_id": directory.name, "cycle": 0, "k": 6})
    )
    with pytest.raises(DamagedFile, match="format 2"):
        feature_dumps.read_features(directory, 0)


@pytest.mark.parametrize(
    "name",
    [
        "features/c0000.h5",
        "metrics.csv",
        "attempts/0001.json",
        "checkpoints",
        "config.json",
        *[pytest.param(one, marks=pytest.mark.crash) for one in ("features/c0001.h5", "newest", "features gone")],
    ],
)
def test_a_stopped_run_with_a_damaged_file_ends_with_the_same_results(two_folders, digits_root, tmp_path, name):
    changes = {**SETTINGS, "cycles": 4, "seed": 1}
    directory = shutil.copytree(two_folders[0][1]["stopped"], tmp_path / "runs" / two_folders[0][1]["stopped"].name)
    if name in ("checkpoints", "newest"):
        spoilt = sorted((directory / "checkpoints").iterdir())[-1 if name == "newest" else 0 :]
    else:
        spoilt = [directory / name.removesuffix(" gone")] if name != "features gone" else []
    for path in spoilt:
        path.write_bytes(path.read_bytes()[:-9] + b"damaged!\n")
    if name == "features gone":
        (directory / "features" / "c0000.h5").unlink()
    elif name not in ("checkpoints", "newest"):
        assert {error.path for error in damaged_files(directory)} == set(spoilt)
    assert run_directory.create(tmp_path, small_config(digits_root, **changes)) == directory  # as submit does
    assert run(directory, Execution(str(digits_root))) == "done"
    assert results_without_quarantine(directory) == _results_of_a_run_alone(digits_root, tmp_path, changes)
    assert [error.path for error in damaged_files(directory)] == ([spoilt[0]] if "attempts" in name else [])


@pytest.mark.parametrize(
    "name",
    [
        "result.json",
        "trunk.safetensors",
        *[pytest.param(one, marks=pytest.mark.crash) for one in ("metrics.csv", "features/c0001.h5", "config.json")],
    ],
)
def test_a_finished_run_with_a_damaged_file_is_computed_again(two_folders, digits_root, tmp_path, name):
    changes = {**SETTINGS, "seed": 1}
    directory = shutil.copytree(two_folders[0][1]["done"], tmp_path / "runs" / two_folders[0][1]["done"].name)
    content = bytearray((directory / name).read_bytes())
    content[len(content) // 2] ^= 4
    (directory / name).write_bytes(content)
    damaged = list(damaged_files(directory))
    assert [error.path.name for error in damaged] == [Path(name).name]
    status = run_command("status", "check", "--outputs", tmp_path, cwd=tmp_path)
    assert status.returncode == 1 and Path(name).name in status.stdout and "1 of 1 runs are damaged" in status.stdout
    if name == "result.json":  # the state of a run checks this file
        assert (
            run_directory.state_of(directory).name == "resumable"
            and "result.json" in run_directory.state_of(directory).reason
        )
    else:
        quarantine_damaged(directory, damaged)
    run_directory.create(tmp_path, small_config(digits_root, **changes))
    assert run(directory, Execution(str(digits_root))) == "done"
    assert results_without_quarantine(directory) == _results_of_a_run_alone(digits_root, tmp_path, changes)
    assert list(damaged_files(directory)) == []


def test_a_damaged_record_of_an_attempt_costs_no_result(two_folders, tmp_path):
    done = two_folders[0][1]["done"]
    directory = shutil.copytree(done, tmp_path / "runs" / done.name)
    (directory / "attempts" / "0001.json").write_text("damaged")
    status = run_command("status", "check", "--quarantine", "--outputs", tmp_path, cwd=tmp_path)
    assert status.stdout.endswith("1 of 1 runs are damaged and now in quarantine/\n"), status.stdout
    assert run_directory.state_of(directory).name == "done" and list(damaged_files(directory)) == []
    assert len(list((directory / "attempts" / "quarantine").iterdir())) == 1


def _results_of_a_run_alone(root, tmp_path, changes):
    directory = new_run(tmp_path / "alone", root, **changes)
    assert run(directory, Execution(str(root))) == "done"
    return results(directory)


@pytest.mark.parametrize("name", ["config.json", "result.json", "attempts/0001.json"])
def test_a_record_without_its_digest_is_damage(two_folders, tmp_path, name):
    directory = shutil.copytree(two_folders[0][1]["done"], tmp_path / two_folders[0][1]["done"].name)
    content = json.loads((directory / name).read_text())
    del content["sha256"]
    os.chmod(directory / name, 0o600)
    (directory / name).write_text(json.dumps(content))
    assert directory / name in [error.path for error in damaged_files(directory)]


def test_a_digest_whose_name_was_damaged_is_damage(tmp_path):
    atomic_files.write_checksummed(tmp_path / "a.json", {"accuracy": 81.5})
    text = (tmp_path / "a.json").read_text()
    (tmp_path / "a.json").write_text(text.replace('"sha256"', '"shb256"').replace("81.5", "91.5"))
    with pytest.raises(DamagedFile, match="digest"):
        atomic_files.read_checksummed(tmp_path / "a.json")
