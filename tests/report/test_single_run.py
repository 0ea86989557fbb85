"""dc_hpc.load_run: one run as Python objects, and what it says where something is not there."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from support.small_runs import new_run

import dc_hpc
from dc_hpc.errors import InputError
from dc_hpc.experiment.execution import Execution
from dc_hpc.experiment.run import run as compute
from dc_hpc.storage.atomic_files import DamagedFile


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture(scope="module")
def done(outputs, digits_root):
    directory = new_run(outputs, digits_root, features="every")
    assert compute(directory, Execution(str(digits_root))) == "done"
    return directory


@pytest.fixture(scope="module")
def new(outputs, digits_root):
    return new_run(outputs, digits_root, seed=2)


@pytest.fixture(scope="module")
def only_ia(outputs, digits_root):
    directory = new_run(outputs, digits_root, cycles=0, probe=())
    assert compute(directory, Execution(str(digits_root))) == "done"
    return directory


def test_a_finished_run_is_all_there(done, digits_root):
    run = dc_hpc.load_run(str(done))
    assert repr(run) == f"Run('{done.name}', done)"
    assert (run.state, run.config.k, run.config.seed, run.run_id) == ("done", 6, 1, done.name)
    assert run.metrics.cycle.tolist() == [0, 1, 2] and run.metrics.loss.notna().tolist() == [True, True, False]
    assert run.metrics.dtypes["reassign"] == "boolean" and run.metrics.dtypes["nmi_true"] == "float64"
    assert run.result["ia"] == run.metrics.nmi_true[0] and 0 < run.result["accuracy"] <= 100
    row = dc_hpc.load_runs(done.parents[1]).set_index("run_id").loc[done.name]
    assert row.ia == run.result["ia"] and row.accuracy == run.result["accuracy"]


def test_features_are_those_that_were_clustered(done):
    from dc_hpc.algorithm.agreement import agreement

    run = dc_hpc.load_run(done)
    assert run.feature_cycles == (0, 1, 2)
    features, pseudo_labels = run.features(1)
    assert features.dtype == np.float32 and features.shape == (1500, 84) and pseudo_labels.dtype == np.int64
    assert np.allclose(np.linalg.norm(features, axis=1), 1, atol=1e-2), "after L2"
    assert agreement(run.features(0).pseudo_labels, pseudo_labels).nmi == run.metrics.nmi_prev[1]
    with pytest.raises(
        InputError, match="has no features of cycle 3; it has those of 0, 1, 2; a run with `features: ev"
    ):
        run.features(3)


def test_the_trunk_is_the_trained_net(done, digits_root):
    """Its probe gives the accuracy of the result, so these are the weights."""
    import torch

    from dc_hpc.data.official import load
    from dc_hpc.experiment.build import views_of
    from dc_hpc.experiment.probing import probe_layers

    run = dc_hpc.load_run(done)
    trunk = run.trunk()
    assert not trunk.training
    dataset = load("digits", digits_root)
    images = dc_hpc.algorithm.ImageViews(dataset.train_images, views_of(run.config))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found = probe_layers(trunk, run.config, images, dataset).numbers
    finally:
        torch.set_num_threads(before)
    assert found["accuracy"] == run.result["accuracy"]


def test_a_run_that_trains_nothing_has_the_net_of_its_seed(only_ia):
    from dc_hpc.algorithm import init_state, lenet5

    trunk = dc_hpc.load_run(only_ia).trunk()
    expected = init_state(lenet5(), seed=1, lr=1.0, momentum=0.0, weight_decay=0.0).trunk
    assert all((value == expected.state_dict()[name]).all() for name, value in trunk.state_dict().items())


def test_a_run_that_is_not_done_says_so(new):
    run = dc_hpc.load_run(new)
    assert run.state == "new" and run.feature_cycles == ()
    assert isinstance(run.metrics, pd.DataFrame) and len(run.metrics) == 0 and "nmi_true" in run.metrics
    for ask in (lambda: run.result, run.trunk, lambda: run.predictions):
        with pytest.raises(InputError, match=f"run {new.name} is new and has no"):
            ask()
    with pytest.raises(InputError, match="has no features of cycle 0; it has none; a run with `features: every` keeps"):
        run.features(0)


def test_a_path_that_is_no_run_says_what_it_is(outputs, done, tmp_path):
    with pytest.raises(InputError, match="nowhere is not a folder; give a run directory, outputs/runs/<run_id>"):
        dc_hpc.load_run(tmp_path / "nowhere")
    for place in (outputs, outputs / "runs"):
        with pytest.raises(InputError, match=r"has no config.json; it holds \d runs, which dc_hpc.load_runs\('"):
            dc_hpc.load_run(place)
    with pytest.raises(InputError, match="it has no config.json$"):
        dc_hpc.load_run(tmp_path)
    renamed = tmp_path / "another-name"
    renamed.mkdir()
    (renamed / "config.json").write_bytes((done / "config.json").read_bytes())
    with pytest.raises(DamagedFile, match=f"holds the settings of {done.name}"):
        dc_hpc.load_run(renamed)


def test_a_damaged_trunk_is_never_taken(done, tmp_path):
    import shutil

    copied = tmp_path / done.name
    shutil.copytree(done, copied)
    path = copied / "trunk.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedFile, match="it is not the trunk that result.json names"):
        dc_hpc.load_run(copied).trunk()


def test_no_torch_until_a_net_is_asked_for(done):
    code = (
        "import sys, dc_hpc\n"
        "assert not {'pandas', 'numpy', 'pydantic', 'h5py'} & set(sys.modules)\n"
        "run = dc_hpc.load_run(sys.argv[1])\n"
        "run.metrics, run.result, run.features(0), dc_hpc.load_runs(run.path.parents[1])\n"
        "assert 'torch' not in sys.modules\n"
        "run.trunk()"
    )
    subprocess.run([sys.executable, "-c", code, str(done)], check=True)


def test_the_public_names():
    assert set(dc_hpc.__all__) <= set(dir(dc_hpc)) and dc_hpc.__version__[0].isdigit()
    with pytest.raises(AttributeError, match="module 'dc_hpc' has no attribute 'load_rnu'"):
        dc_hpc.load_rnu  # noqa: B018
