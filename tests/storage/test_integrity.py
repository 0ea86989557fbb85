"""`status check` on runs that compute meanwhile, and on whole files of other runs. Damage is tested in tests/crash."""

import shutil

import numpy as np
import pytest
from support.small_runs import small_config

from dc_hpc.storage import atomic_files, feature_dumps, run_directory
from dc_hpc.storage.integrity import damaged_files

ROW = {"cycle": 0, "reassign": True}
MEASURED = dict.fromkeys(feature_dumps.MEASURED, 0.5)


@pytest.fixture
def runs(tmp_path, digits_root):
    """Two runs, each with checkpoints and a first clustering."""
    found = [run_directory.create(tmp_path, small_config(digits_root, seed=seed)) for seed in (1, 2)]
    for directory in found:
        for cycle in (0, 1):
            tensors = {"pseudo_labels": np.arange(4, dtype=np.int32)}
            run_directory.save_checkpoint(directory, cycle=cycle, phase="trained", tensors=tensors, history=[ROW])
        feature_dumps.write_first_clustering(directory, pseudo_labels=np.arange(4), k=6, **MEASURED)
    return found


def test_a_run_that_ends_while_it_is_checked_is_not_damaged(runs, monkeypatch):
    """Its end removes its checkpoints, which are in the list already."""
    directory, read = runs[0], atomic_files.read_digested

    def read_while_the_run_ends(path):
        if not (directory / "result.json").exists():
            run_directory.finish(directory, {"ia": 0.5})
        return read(path)

    assert len(run_directory.checkpoints(directory)) == 2
    next(directory.glob("first-*")).unlink()
    monkeypatch.setattr(atomic_files, "read_digested", read_while_the_run_ends)
    assert list(damaged_files(directory)) == []
    assert run_directory.is_done(directory) and run_directory.checkpoints(directory) == []


def test_what_other_programs_put_beside_the_records_of_attempts_is_no_damage(runs):
    run_directory.start_attempt(runs[0], {})
    (runs[0] / "attempts" / "._0001.json").write_bytes(b"\0\5\x16\7Mac OS X")
    assert list(damaged_files(runs[0])) == []


@pytest.mark.parametrize("pattern", ["checkpoints/*.safetensors", "first-*.safetensors"])
def test_a_whole_file_of_another_run_is_damage(runs, pattern):
    mine, other = runs
    assert list(damaged_files(mine)) == []
    (theirs, *_), (old, *_) = sorted(other.glob(pattern)), sorted(mine.glob(pattern))
    shutil.copy(theirs, old.with_name(theirs.name))
    (damaged,) = damaged_files(mine)
    assert damaged.path == old.with_name(theirs.name) and f"belongs to {other.name}" in damaged.why
