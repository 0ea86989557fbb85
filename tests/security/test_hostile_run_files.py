"""Files of a run that somebody changed, linked or replaced by a pipe, and a write that fails at its end."""

from __future__ import annotations

import errno
import os
import stat

import h5py
import numpy as np
import pytest
from support.hostile_text import promptly
from support.small_runs import new_run

from dc_hpc.report.frames.runs import load_runs, records
from dc_hpc.storage import atomic_files, feature_dumps, metrics_csv, run_directory
from dc_hpc.storage.atomic_files import DamagedFile


def test_hostile_features_in_a_run_folder_are_damage(tmp_path, digits_root):
    """One kind of hostile HDF5, found by `copy_features`; tests/storage/test_atomic_files.py has every kind."""

    directory = new_run(tmp_path / "outputs", digits_root)
    (directory / "features").mkdir()
    with h5py.File(directory / "features" / "c0000.h5", "w") as file:
        file.create_dataset("features", (4, 16), "<f4", external=[("/etc/passwd", 0, 256)])
        file.create_dataset("pseudo_labels", data=np.zeros(4, np.uint16))
    copied_run = new_run(tmp_path / "outputs", digits_root, seed=2)
    with pytest.raises(DamagedFile):
        feature_dumps.copy_features(directory, copied_run, cycle=0, k=6)
    assert not (copied_run / "features").exists()


@pytest.mark.parametrize("name", ["config.json", "result.json", "metrics.csv", "attempts/0001.json"])
@pytest.mark.parametrize("kind", ["pipe", "link"])
def test_a_link_or_a_pipe_in_a_run_folder_is_damage_and_not_waited_for(tmp_path, digits_root, name, kind):
    directory = new_run(tmp_path / "outputs", digits_root)
    run_directory.start_attempt(directory, {})
    metrics_csv.write_metrics(directory, [])
    run_directory.finish(directory, {"ia": 0.5})
    (directory / name).rename(tmp_path / "true")
    os.mkfifo(directory / name) if kind == "pipe" else (directory / name).symlink_to(tmp_path / "true")
    with promptly():
        (row,) = records(load_runs(tmp_path / "outputs"))
    if name.startswith("attempts"):  # records where a run was computed, not its result
        assert row["state"] == "done" and row["attempts"] == 0
    else:
        assert row["state"] == "damaged" and row["state_reason"].startswith(name)


@pytest.mark.parametrize("write", [atomic_files.replace_bytes, atomic_files.write_once])
def test_a_full_quota_that_shows_only_at_close_is_an_error(tmp_path, monkeypatch, write):
    """NFS may accept every write and report only at close that the quota is full."""
    real = os.close

    def full(handle):
        regular = stat.S_ISREG(os.fstat(handle).st_mode)
        real(handle)
        if regular:
            raise OSError(errno.EDQUOT, "Disk quota exceeded")

    (tmp_path / "outputs").mkdir()
    monkeypatch.setattr(os, "close", full)
    with pytest.raises(OSError, match="quota"):
        write(tmp_path / "outputs" / "a", b"new")
    monkeypatch.undo()
    assert not list((tmp_path / "outputs").iterdir())
