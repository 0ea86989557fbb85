import errno
import json
import multiprocessing
import os
import socket

import numpy as np
import pytest
from support.small_runs import small_config

from dc_hpc.config.run_config import run_id
from dc_hpc.storage import atomic_files, metrics_csv, run_directory, run_progress, serialization
from dc_hpc.storage.atomic_files import DamagedFile

ROW = {"cycle": 0, "reassign": True, "nmi_true": 0.25, "clusters_empty": 0, "loss": 1.5}


@pytest.fixture
def directory(tmp_path, digits_root):
    return run_directory.create(tmp_path, small_config(digits_root))


def save(directory, cycle, phase, value=0.0):
    tensors = {"trunk.w": np.full(3, value, np.float32), "pseudo_labels": np.arange(4, dtype=np.int32)}
    run_directory.save_checkpoint(directory, cycle=cycle, phase=phase, tensors=tensors, history=[ROW])


def test_creating_a_run_twice_is_creating_it_once(directory, tmp_path, digits_root):
    before = (directory / "config.json").stat().st_mtime_ns
    assert run_directory.create(tmp_path, small_config(digits_root)) == directory
    assert (directory / "config.json").stat().st_mtime_ns == before
    assert run_directory.read_config(directory) == small_config(digits_root)
    assert directory.name == run_id(small_config(digits_root))


def test_the_states_of_a_run(directory):
    assert run_directory.state_of(directory).name == "new"
    number = run_directory.start_attempt(directory, {})
    assert run_directory.state_of(directory).name == "running"
    run_directory.update_attempt(directory, number, {"cycles_done": 2, "ended": "stopped"})
    assert run_directory.state_of(directory) == run_directory.RunState("resumable", 2)
    number = run_directory.start_attempt(directory, {})
    run_directory.fail_attempt(directory, number, ValueError("no\nmore"), "Traceback ...")
    assert run_directory.state_of(directory) == run_directory.RunState("failed", 0, "ValueError: no")
    assert (directory / "attempts" / "0002.error").read_text() == "Traceback ..."
    run_directory.finish(directory, {"ia": 0.5})
    assert run_directory.state_of(directory).name == "done"


@pytest.mark.parametrize(
    "record, expected",
    [
        ({"pid": 2**22 + 1}, "resumable"),  # no such process
        ({"process_start": "1"}, "resumable"),  # the number was given to another process
        ({"host": "node17"}, "running"),  # elsewhere, and its file was just written
    ],
)
def test_a_run_lives_only_while_its_own_process_does(directory, record, expected):
    run_directory.start_attempt(directory, record)
    assert run_directory.state_of(directory).name == expected


def test_a_run_on_a_silent_host_is_taken_for_dead(directory):
    number = run_directory.start_attempt(directory, {"host": "node17"})
    path = directory / "attempts" / f"{number:04d}.json"
    os.utime(path, (path.stat().st_atime, path.stat().st_mtime - 1000))
    assert run_directory.state_of(directory).name == "resumable"


def test_a_run_on_another_host_lives_through_a_long_phase(directory):
    """Its record is renewed after every phase; meanwhile its progress is."""
    number = run_directory.start_attempt(directory, {"host": "node17"})
    run_progress.write(directory, number, run_progress.RunProgress("clustering"))
    record, progress = (directory / "attempts" / f"{number:04d}{ending}" for ending in (".json", ".progress"))
    for path in (record, progress):
        os.utime(path, (path.stat().st_atime, path.stat().st_mtime - 1000))
    assert run_directory.state_of(directory).name == "resumable"
    run_progress.renew(directory, number)
    assert run_directory.state_of(directory).name == "running"


def test_an_unreadable_attempt_does_not_hide_the_run(directory):
    number = run_directory.start_attempt(directory, {})
    (directory / "attempts" / f"{number:04d}.json").write_text("{")
    state = run_directory.state_of(directory)
    assert state.name == "resumable" and "0001.json" in state.reason
    assert run_directory.start_attempt(directory, {}) == 2 and len(run_directory.attempts(directory)) == 1


def _claim(directory, queue):
    queue.put(run_directory.start_attempt(directory, {}))


def test_attempts_that_start_together_get_numbers_of_their_own(directory):
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    workers = [context.Process(target=_claim, args=(directory, queue)) for _ in range(6)]
    for worker in workers:
        worker.start()
    assert sorted(queue.get(timeout=60) for _ in workers) == [1, 2, 3, 4, 5, 6]
    for worker in workers:
        worker.join()


def test_a_checkpoint_comes_back_as_it_was(directory):
    save(directory, 3, "clustered", 0.5)
    checkpoint, warnings = run_directory.load_checkpoint(directory)
    assert (checkpoint.cycle, checkpoint.phase, checkpoint.history, warnings) == (3, "clustered", [ROW], [])
    assert np.array_equal(checkpoint.tensors["trunk.w"], np.full(3, 0.5, np.float32))
    assert checkpoint.tensors["pseudo_labels"].dtype == np.int32


def test_the_last_three_are_kept_and_the_newest_is_taken(directory):
    for cycle, phase in ((0, "clustered"), (0, "trained"), (1, "clustered"), (9, "trained"), (10, "clustered")):
        save(directory, cycle, phase)
    assert len(list((directory / "checkpoints").iterdir())) == 3
    checkpoint, _ = run_directory.load_checkpoint(directory)
    assert (checkpoint.cycle, checkpoint.phase) == (10, "clustered")


def test_bad_checkpoints_are_quarantined_one_by_one(directory, tmp_path, digits_root):
    for cycle in range(3):
        save(directory, cycle, "trained")
    newest, middle = sorted((directory / "checkpoints").iterdir())[:0:-1]
    newest.write_bytes(newest.read_bytes()[:-7])
    other = run_directory.create(tmp_path, small_config(digits_root, seed=9))
    save(other, 1, "trained")
    foreign = next((other / "checkpoints").iterdir())
    middle.unlink()
    (directory / "checkpoints" / foreign.name).write_bytes(foreign.read_bytes())
    checkpoint, warnings = run_directory.load_checkpoint(directory)
    assert checkpoint.cycle == 0 and len(warnings) == 2
    assert "belongs to digits-k6-seed9-" in warnings[1] and all("quarantine" in line for line in warnings)
    assert len(list((directory / "checkpoints").glob("c*"))) == 1


def test_with_no_checkpoint_left_a_run_starts_from_its_beginning(directory):
    assert run_directory.load_checkpoint(directory) == (None, [])
    save(directory, 0, "trained")
    path = next((directory / "checkpoints").iterdir())
    path.write_bytes(b"")
    checkpoint, warnings = run_directory.load_checkpoint(directory)
    assert checkpoint is None and len(warnings) == 1


def test_metrics_have_one_row_a_cycle_and_read_back(directory):
    metrics_csv.write_metrics(directory, [ROW, {"cycle": 1, "reassign": False, "loss": 0.1 + 0.2}])
    text = (directory / "metrics.csv").read_text()
    assert text.splitlines()[0].split(",") == list(metrics_csv.METRICS)
    rows = metrics_csv.read_metrics(directory)
    assert rows[1]["loss"] == "0.30000000000000004" and rows[1]["nmi_true"] == "" and rows[0]["reassign"] == "True"
    (directory / "metrics.csv").write_text(text.replace("inertia", "inertla"))
    with pytest.raises(DamagedFile, match="metrics.csv"):
        metrics_csv.read_metrics(directory)


def test_a_result_is_written_once_and_ends_the_checkpoints(directory):
    save(directory, 2, "trained")
    run_directory.finish(directory, {"ia": 0.5, "accuracy": 80.0})
    run_directory.finish(directory, {"ia": 0.6})
    assert run_directory.read_result(directory) == {"ia": 0.5, "accuracy": 80.0}
    assert not list((directory / "checkpoints").iterdir())


def test_what_a_killed_attempt_left_half_written_is_swept_at_the_end(directory):
    killed = directory / f".metrics.csv.{2**22 + 1}.{'0' * 16}.tmp"
    living = directory / f".metrics.csv.{os.getpid()}.{'0' * 16}.tmp"
    for path in (killed, living):
        path.write_text("cycle,")
    run_directory.tidy(directory)
    assert not killed.exists() and living.exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content | {"format": 2},
        lambda content: content | {"run_id": "other"},
        lambda content: [content],
    ],
)
def test_a_result_of_another_format_or_run_is_damaged(directory, change):
    run_directory.finish(directory, {"ia": 0.5})
    path = directory / "result.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(DamagedFile, match="result.json"):
        run_directory.read_result(directory)


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content | {"format": 2},
        lambda content: content | {"config": content["config"] | {"k": 7}},  # another run's settings
        lambda content: content | {"config": content["config"] | {"colour": 7}},
        lambda content: content | {"config": 3},
        lambda content: {"format": 1},
    ],
)
def test_a_config_that_is_not_this_runs_is_damaged(directory, change):
    path = directory / "config.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(DamagedFile, match="config.json"):
        run_directory.read_config(directory)


@pytest.mark.parametrize("closed", ["directory", "attempts", "record"])
def test_what_this_user_may_not_read_is_said_and_stops_nothing(directory, monkeypatch, closed):
    """`status` of a folder that several people share. The tests may run as root, who may read everything."""
    number = run_directory.start_attempt(directory, {})
    place = {"directory": directory, "attempts": directory / "attempts"}.get(
        closed, directory / "attempts" / "0001.json"
    )

    def refused(call):
        def inside(path, *rest, **more):
            if str(path).startswith(str(place)):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            return call(path, *rest, **more)

        return inside

    for name in ("open", "listdir"):
        monkeypatch.setattr(os, name, refused(getattr(os, name)))
    found = run_directory.state_of(directory)
    assert number == 1 and found.name == "resumable" and "Permission denied" in found.reason
    records, warnings = run_directory.look_at_attempts(directory)
    named = "attempts/0001.json" if closed == "record" else "attempts"
    assert records == [] and warnings == [f"{named}: cannot be read (Permission denied)"]


def test_a_disk_that_fails_below_one_run_is_said_and_stops_nothing(directory, monkeypatch):
    run_directory.start_attempt(directory, {})

    def fails(path="."):
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(path))

    monkeypatch.setattr(os, "listdir", fails)
    found = run_directory.state_of(directory)
    assert found.name == "resumable" and "Stale file handle" in found.reason
    assert run_directory.look_at_attempts(directory) == ([], ["attempts: cannot be read (Stale file handle)"])


def test_what_other_programs_put_beside_the_records_is_no_attempt(directory):
    """macOS leaves `._0001.json` on a shared disk; a far number must not be counted up to."""
    run_directory.start_attempt(directory, {})
    for name in ("._0001.json", "0001 copy.json", "999999999999.json"):
        (directory / "attempts" / name).write_text("x")
    assert [path.name for path in run_directory.attempt_paths(directory)] == ["0001.json", "999999999999.json"]
    records, warnings = run_directory.look_at_attempts(directory)
    assert len(records) == 1 and len(warnings) == 1 and "999999999999.json" in warnings[0]


@pytest.mark.parametrize("metadata", [{}, {"cycle": "x", "phase": "trained", "history": "[]"}])
def test_a_checkpoint_without_its_metadata_is_quarantined(directory, metadata):
    own = {"format": "1", "run_id": directory.name} | metadata
    (directory / "checkpoints").mkdir()
    data = serialization.safetensors_bytes({"w": np.zeros(2, np.float32)}, own)
    atomic_files.write_digested(directory / "checkpoints", "c000000-trained", ".safetensors", data)
    checkpoint, (warning,) = run_directory.load_checkpoint(directory)
    assert checkpoint is None and "its metadata are not those of a checkpoint" in warning and "quarantine" in warning


def test_the_attempt_says_where(directory):
    run_directory.start_attempt(directory, {"device": "cpu"})
    attempt = run_directory.attempts(directory)[0]
    assert attempt["host"] == socket.gethostname() and attempt["pid"] == os.getpid() and attempt["device"] == "cpu"


def test_run_directories_are_found_in_order(tmp_path, digits_root):
    made = {run_directory.create(tmp_path, small_config(digits_root, seed=seed)) for seed in (3, 1, 2)}
    (tmp_path / "runs" / "stray.txt").write_text("")
    (tmp_path / "runs" / ".ipynb_checkpoints").mkdir()  # a person has opened a file in JupyterLab
    assert list(run_directory.run_directories(tmp_path)) == sorted(made)
    assert list(run_directory.run_directories(tmp_path / "nothing")) == []
