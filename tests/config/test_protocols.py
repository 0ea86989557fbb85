"""Every baseline in both protocols, end to end: small files in the true formats, two cycles, halted, probed."""

import math

import pandas as pd
import pytest
from support import official_formats as true

from dc_hpc.config.baselines import BASELINES, PROTOCOLS, protocol_of
from dc_hpc.config.run_config import make_config
from dc_hpc.experiment.execution import Execution
from dc_hpc.experiment.run import run
from dc_hpc.storage import run_directory

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


@pytest.mark.parametrize("protocol", ["text", "code"])
@pytest.mark.parametrize("base", BASELINES)
def test_two_cycles_of_every_baseline(base, protocol, official, tmp_path):
    small = {"k": 4, "pca": 8, "cycles": 2, "halt_cycle": 1, "seed": 1, "probe_epochs": 2, "batch_size": 32}
    settings = BASELINES[base] | PROTOCOLS[base][protocol] | small
    config = make_config(settings | {"protocol": protocol_of(base, settings)})
    directory = run_directory.create(tmp_path, config)
    assert run(directory, Execution(str(official))) == "done", run_directory.state_of(directory).reason
    result, metrics = run_directory.read_result(directory), pd.read_csv(directory / "metrics.csv")
    assert config.protocol == protocol
    assert result["clusterings"] == 1 and result["epochs"] == (2 if protocol == "text" else 1)
    assert 0 < result["ia"] < 1 and result["ia_chance"] > 0 and abs(result["ia_ami"]) < 0.5
    assert 0 <= result["accuracy"] <= 100 and result[f"accuracy_{config.probe[0]}"] == result["accuracy"]
    assert math.isfinite(result["loss_last"]) and metrics.nmi_true[0] == result["ia"]
    assert (directory / "features" / "c0000.h5").exists() and (directory / "trunk.safetensors").exists()


def test_the_three_sobel_settings_give_three_alignments(official, tmp_path):
    settings = BASELINES["svhn"] | PROTOCOLS["svhn"]["code"] | {"k": 4, "pca": 8, "cycles": 0, "seed": 1, "probe": ()}
    found = {}
    for sobel in ("off", "fixed", "random"):
        directory = run_directory.create(tmp_path, make_config(settings | {"sobel": sobel}))
        assert run(directory, Execution(str(official))) == "done"
        found[sobel] = run_directory.read_result(directory)["ia"]
    assert len(set(found.values())) == 3
