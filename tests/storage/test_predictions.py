"""predictions.h5: what the probe says of each test image, from which the accuracies follow."""

import json
import shutil

import numpy as np
import pytest
from support.recorded_runs import config_of, record
from support.small_runs import new_run

import dc_hpc
from dc_hpc.data.official import load
from dc_hpc.errors import InputError
from dc_hpc.experiment.execution import Execution
from dc_hpc.experiment.run import run as compute
from dc_hpc.storage import run_directory
from dc_hpc.storage.atomic_files import DamagedFile
from dc_hpc.storage.disk_usage import size_of_run
from dc_hpc.storage.integrity import damaged_files
from dc_hpc.storage.predictions import LayerPredictions, read_predictions, write_predictions


@pytest.fixture(scope="module")
def done(tmp_path_factory, digits_root):
    directory = new_run(tmp_path_factory.mktemp("outputs"), digits_root, probe=("conv2", "fc1"), probe_epochs=4)
    assert compute(directory, Execution(str(digits_root))) == "done"
    return directory


def test_the_accuracies_follow_from_the_predictions(done, digits_root):
    run = dc_hpc.load_run(done)
    found, result = run.predictions, run.result
    assert list(found) == ["conv2", "fc1"]
    truth = load("digits", digits_root).test_labels.numpy()
    for layer, one in found.items():
        assert one.last.dtype == one.best.dtype == np.int64 and np.array_equal(one.labels, truth)
        assert 100 * (one.last == one.labels).mean() == result[f"accuracy_{layer}"]
        assert (one.best == one.labels).mean() >= (one.last == one.labels).mean()
    assert result["accuracy"] == result["accuracy_conv2"] != result["accuracy_fc1"]
    assert 100 * (found["conv2"].best == truth).mean() == result["accuracy_best"]
    assert result["test_images"] == len(truth) == 297
    assert "predictions_sha256" not in result and size_of_run(done)["predictions"] == (
        (done / "predictions.h5").stat().st_size
    )


def test_another_file_in_its_place_is_damage(done, tmp_path, digits_root):
    path = done / "predictions.h5"
    before = path.read_bytes()
    assert list(damaged_files(done)) == []
    other = {layer: one._replace(last=one.best) for layer, one in read_predictions(done).items()}
    try:
        write_predictions(done, {"fc1": other["fc1"], "conv2": other["conv2"]._replace(last=other["conv2"].labels)})
        with pytest.raises(DamagedFile, match="it is not the one that result.json names"):
            _ = dc_hpc.load_run(done).predictions
        assert [error.path for error in damaged_files(done)] == [path]
        path.unlink()
        assert [(error.path, error.why) for error in damaged_files(done)] == [(path, "it is gone")]
    finally:
        path.write_bytes(before)


def test_damaged_settings_are_named_once(done, tmp_path):
    """The predictions are read with them."""
    directory = shutil.copytree(done, tmp_path / done.name)
    for damage in (lambda path: path.write_text("{"), lambda path: path.unlink()):
        damage(directory / "config.json")
        assert [error.path for error in damaged_files(directory)] == [directory / "config.json"]


def test_a_run_of_an_earlier_version_stays_readable(tmp_path):
    directory = record(tmp_path, config_of("fmnist", seed=1, cycles=2), accuracy=80.0)
    run = dc_hpc.load_run(directory)
    assert run.result["accuracy"] == 80.0 and read_predictions(directory) == {} and not list(_damage_of(directory))
    with pytest.raises(InputError, match="has no predictions, an earlier version made it; compute them"):
        _ = run.predictions
    unprobed = record(tmp_path, config_of("fmnist", seed=1, cycles=2, probe=()))
    with pytest.raises(InputError, match="has no predictions, it probes nothing"):
        _ = dc_hpc.load_run(unprobed).predictions
    row = dc_hpc.load_runs(tmp_path).set_index("run_id").test_images
    assert row[directory.name] == 10_000, "the official test set"
    assert row.isna()[unprobed.name]


@pytest.mark.parametrize("classes, dtype", [(256, "uint8"), (257, "uint16")])
def test_a_class_takes_a_byte_where_it_can(tmp_path, classes, dtype):
    import h5py

    directory = run_directory.create(tmp_path, config_of("fmnist", seed=1, cycles=2))
    labels = np.arange(classes)
    digest = write_predictions(directory, {"conv2": LayerPredictions(labels[::-1], labels, labels)})
    with h5py.File(directory / "predictions.h5") as file:
        assert {name: str(one.dtype) for name, one in file.items()} == dict.fromkeys(
            ("conv2.best", "conv2.last", "labels"), dtype
        )
    run_directory.finish(directory, {"predictions_sha256": digest})
    assert json.loads((directory / "result.json").read_text())["predictions_sha256"] == digest
    assert np.array_equal(read_predictions(directory)["conv2"].last, labels[::-1])


def _damage_of(directory):
    """The damage of a recorded run, without the trunk that it does not have."""
    return [error for error in damaged_files(directory) if error.path.name != "trunk.safetensors"]
