"""An Initial Alignment depends on the training images alone; a probed run names the test images of its accuracy."""

import numpy as np
import pytest

from dc_hpc.config.grid import read_grid
from dc_hpc.experiment.execution import Execution
from dc_hpc.experiment.run import run
from dc_hpc.storage import run_directory

GRID = """base: fmnist
protocol: code
fixed: {dataset: digits, k: 6, cycles: CYCLES, probe: PROBE, probe_epochs: 1, features: none}
sweep: {seed: [1]}
"""


@pytest.fixture
def shorter(digits_root, tmp_path):
    """The digits with fewer test images."""
    with np.load(digits_root / "digits.npz") as arrays:
        parts = dict(arrays)
    parts |= {name: parts[name][:100] for name in ("test_images", "test_labels")}
    (tmp_path / "data").mkdir()
    np.savez(tmp_path / "data" / "digits.npz", **parts)
    return tmp_path / "data"


def only_run(root, tmp_path, cycles, probe):
    """(name, config) of the run of the grid."""
    path = tmp_path / "grid.yaml"
    path.write_text(GRID.replace("CYCLES", str(cycles)).replace("PROBE", probe))
    return next(iter(read_grid(path, data_root=root).runs.items()))


def test_a_run_without_a_probe_is_the_same_on_other_test_images(digits_root, shorter, tmp_path):
    for cycles in (0, 2):
        (name, config), (same, _) = (only_run(root, tmp_path, cycles, "off") for root in (digits_root, shorter))
        assert name == same and config.train_digest and config.test_digest is None
    (name, config), (other, shortened) = (only_run(root, tmp_path, 2, "conv2") for root in (digits_root, shorter))
    assert name != other and config.train_digest == shortened.train_digest
    assert config.test_digest != shortened.test_digest


def test_the_ia_run_of_one_test_set_gives_its_clustering_to_the_other(digits_root, shorter, tmp_path):
    outputs = tmp_path / "outputs"
    name, config = only_run(digits_root, tmp_path, 0, "off")
    assert run(run_directory.create(outputs, config), Execution(str(digits_root))) == "done"
    accuracies = {}
    for root in (digits_root, shorter):
        directory = run_directory.create(outputs, only_run(root, tmp_path, 2, "conv2")[1])
        assert run(directory, Execution(str(root))) == "done", run_directory.state_of(directory).reason
        assert run_directory.attempts(directory)[-1]["first_clustering_from"] == name
        result = run_directory.read_result(directory)
        accuracies[result["test_images"]] = result["accuracy"]
        trunk = result["trunk_sha256"]
    assert set(accuracies) == {297, 100} and trunk
    assert run(run_directory.create(outputs, config), Execution(str(shorter))) == "done"


@pytest.mark.parametrize("changed", ["train", "test"])
def test_images_that_are_not_those_of_the_run_are_refused(changed, digits_root, shorter, tmp_path):
    config = only_run(digits_root, tmp_path, 2, "conv2")[1]
    directory = run_directory.create(tmp_path / "outputs", config)
    if changed == "train":
        with np.load(digits_root / "digits.npz") as arrays:
            parts = dict(arrays)
        parts["train_images"] = parts["train_images"][::-1]
        np.savez(shorter / "digits.npz", **parts)
    assert run(directory, Execution(str(shorter))) == "failed"
    assert "is missing or not the one this run was made for" in run_directory.state_of(directory).reason


def test_a_run_that_names_the_whole_file_can_still_be_computed(digits_root, tmp_path):
    """As earlier versions made them."""
    from dc_hpc.data.custom import data_digest

    whole = {"data_digest": data_digest(digits_root / "digits.npz"), "train_digest": None, "test_digest": None}
    config = only_run(digits_root, tmp_path, 0, "conv2")[1].model_copy(update=whole)
    directory = run_directory.create(tmp_path / "outputs", config)
    assert run(directory, Execution(str(digits_root))) == "done"
    assert run_directory.read_config(directory) == config
