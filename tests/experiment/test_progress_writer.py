"""A run that is watched shows its stages and has the bytes of one that is not."""

import errno
import os
import time

import pytest
from support.small_runs import new_run, results

from dc_hpc.experiment import progress_writer
from dc_hpc.experiment.execution import Execution
from dc_hpc.experiment.run import run
from dc_hpc.storage import run_progress


@pytest.fixture
def written(monkeypatch):
    """The progress that a run writes, every millisecond instead of every second."""
    found, write = [], run_progress.write

    def noted(directory, number, progress):
        write(directory, number, progress)
        assert run_progress.read(directory) == progress
        found.append(progress)

    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.setattr(progress_writer, "_LOCAL_SECONDS", 0.001)
    monkeypatch.setattr(run_progress, "write", noted)
    return found


def test_the_stages_of_a_run_are_shown_and_nothing_else_changes(digits_root, tmp_path, written, monkeypatch):
    watched = new_run(tmp_path / "watched", digits_root)
    assert run(watched, Execution(str(digits_root))) == "done"
    assert {one.stage for one in written} >= {"features", "clustering", "training", "probe"}
    assert {one.cycle for one in written if one.stage == "training"} >= {0, 1}
    training = [one for one in written if one.stage == "training"]
    assert {one.total for one in training} == {12} and len({one.done for one in training}) > 3
    assert {one.total for one in written if one.stage == "probe"} == {0, 2}
    last = written[-1]
    assert last.stage == "probe" and 0 < last.nmi < 1 and last.loss > 0 and written[0].loss is None
    assert not list(watched.glob("attempts/*.progress"))
    monkeypatch.setattr(progress_writer, "_LOCAL_SECONDS", 1e6)
    unwatched = new_run(tmp_path / "unwatched", digits_root)
    assert run(unwatched, Execution(str(digits_root))) == "done"
    assert results(watched) == results(unwatched)


def test_a_file_that_cannot_be_written_is_no_error_of_the_run(digits_root, tmp_path, written, monkeypatch):
    tries = []

    def full(*arguments):
        tries.append(arguments)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(run_progress, "write", full)
    assert run(new_run(tmp_path, digits_root, cycles=1, probe=()), Execution(str(digits_root))) == "done" and tries


def test_a_failed_run_leaves_no_progress(digits_root, tmp_path, written):
    directory = new_run(tmp_path, digits_root, lr=1e5)
    assert run(directory, Execution(str(digits_root))) == "failed" and written
    assert not list(directory.glob("attempts/*.progress"))


def test_a_cluster_is_written_to_less_often(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    assert progress_writer.ProgressWriter(tmp_path, 1).seconds >= 30


def test_progress_that_does_not_change_counts_as_new(tmp_path, written):
    """During a long k-means other hosts see that the run lives; a file that was removed is written again."""
    (tmp_path / "attempts").mkdir()
    path = tmp_path / "attempts" / "0001.progress"
    with progress_writer.ProgressWriter(tmp_path, 1) as progress:
        progress("clustering")
        _wait_until(lambda: written and written[-1].stage == "clustering")
        os.utime(path, (1, 1))
        _wait_until(lambda: path.stat().st_mtime > 1)
        count = len(written)
        path.unlink()
        _wait_until(path.exists)
        assert len(written) > count


def _wait_until(true, seconds=30):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.002)
