"""Every baseline in both protocols, end to end: small files in the true formats, two cycles, halted, probed."""

import math

import pandas as pd
import pytest
from support import official_formats as true

from dc_hpc.config.baselines import BASELINES, PROTOCOLS, protocol_of
from dc_hpc.config.run_config import make_config
from dc_hpc.experiment.execution import Execution
from dc_hpc.experiment.run import run
from dc_hpc.storage import feature_dumps, run_directory

IMAGES = {"mnist": (1, 28, 28), "fmnist": (1, 28, 28), "svhn": (3, 32, 32), "cifar10": (3, 32, 32)}
WRITE = {
    "fmnist": lambda root, *splits: true.write_idx(root / "FashionMNIST/raw", *splits),
    "mnist": lambda root, *splits: true.write_idx(root / "MNIST/raw", *splits),
    "svhn": lambda root, *splits: true.write_svhn(root / "SVHN", *splits),
    "cifar10": true.write_cifar10_python,
}


@pytest.fixture(scope="module")
def small_sets(tmp_path_factory):
    """A data root with 50 + 20 random images in each true format, and the checksums that go with them."""
    root = tmp_path_factory.mktemp("small_sets")
    for name, shape in IMAGES.items():
        WRITE[name](root, true.random_split(50, shape, seed=1), true.random_split(20, shape, seed=2))
    return root


@pytest.fixture
def official(small_sets, monkeypatch):
    true.count_as_official(monkeypatch, small_sets, IMAGES)
    return small_sets


@pytest.mark.parametrize("protocol", ["text", "code", "code_2021"])
@pytest.mark.parametrize("base", BASELINES)
def test_two_cycles_of_every_baseline(base, protocol, official, tmp_path):
    small = {"k": 4, "pca": 8, "cycles": 2, "halt_cycle": 1, "seed": 1, "probe_epochs": 2, "batch_size": 32}
    settings = BASELINES[base] | PROTOCOLS[base][protocol] | small
    config = make_config(settings | {"protocol": protocol_of(base, settings)})
    directory = run_directory.create(tmp_path, config)
    assert run(directory, Execution(str(official))) == "done", run_directory.state_of(directory).reason
    result, metrics = run_directory.read_result(directory), pd.read_csv(directory / "metrics.csv")
    assert config.protocol == protocol
    assert result["clusterings"] == 1 and result["epochs"] == (1 if protocol == "code" else 2)
    assert 0 < result["ia"] < 1 and result["ia_chance"] > 0 and abs(result["ia_ami"]) < 0.5
    assert 0 <= result["accuracy"] <= 100 and result[f"accuracy_{config.probe[0]}"] == result["accuracy"]
    assert math.isfinite(result["loss_last"]) and metrics.nmi_true[0] == result["ia"]
    assert (directory / "features" / "c0000.h5").exists() and (directory / "trunk.safetensors").exists()


def test_the_last_cycle_may_be_left_out_as_the_authors_break_does(official, tmp_path):
    """The same net as `skip`, without the clustering that nothing is trained on."""
    settings = BASELINES["fmnist"] | PROTOCOLS["fmnist"]["code"] | {"k": 4, "cycles": 3, "seed": 1, "probe_epochs": 1}
    found = {}
    for last_cycle in ("skip", "stop"):
        directory = run_directory.create(tmp_path, make_config(settings | {"last_cycle": last_cycle}))
        assert run(directory, Execution(str(official))) == "done"
        rows = len(pd.read_csv(directory / "metrics.csv"))
        dumped = sorted(path.stem for path in (directory / "features").iterdir())
        trunk = {name: array.tobytes() for name, array in feature_dumps.read_trunk(directory).items()}
        found[last_cycle] = run_directory.read_result(directory) | {"rows": rows, "dumped": dumped, "trunk": trunk}
    skip, stop = found["skip"], found["stop"]
    assert (skip["clusterings"], skip["epochs"], skip["rows"], skip["dumped"]) == (3, 2, 3, ["c0000", "c0002"])
    assert (stop["clusterings"], stop["epochs"], stop["rows"], stop["dumped"]) == (2, 2, 2, ["c0000", "c0001"])
    assert skip["trunk"] == stop["trunk"] and skip["accuracy"] == stop["accuracy"]


def test_a_probe_on_images_that_are_cut_at_random_is_another_one(official, tmp_path):
    settings = BASELINES["svhn"] | PROTOCOLS["svhn"]["code"] | {"k": 4, "pca": 8, "cycles": 0, "seed": 1}
    losses = {}
    for crop, flip in ((False, False), (True, False), (True, True)):
        views = {"probe_crop": crop, "probe_flip": flip, "probe": ("relu5", "relu3"), "probe_epochs": 2}
        directory = run_directory.create(tmp_path, make_config(settings | views))
        assert run(directory, Execution(str(official))) == "done", run_directory.state_of(directory).reason
        losses[crop, flip] = run_directory.read_result(directory)["probe_loss"]
    assert len(set(losses.values())) == 3 and all(map(math.isfinite, losses.values()))


def test_the_three_sobel_settings_give_three_alignments(official, tmp_path):
    settings = BASELINES["svhn"] | PROTOCOLS["svhn"]["code"] | {"k": 4, "pca": 8, "cycles": 0, "seed": 1, "probe": ()}
    found = {}
    for sobel in ("off", "fixed", "random"):
        directory = run_directory.create(tmp_path, make_config(settings | {"sobel": sobel}))
        assert run(directory, Execution(str(official))) == "done"
        found[sobel] = run_directory.read_result(directory)["ia"]
    assert len(set(found.values())) == 3
