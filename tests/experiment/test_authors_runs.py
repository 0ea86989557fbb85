"""Runs with the authors' draws, whole: their numbers, their identity, and what they share with other runs."""

import sys

import numpy as np
import pytest
from support.small_runs import new_run, results, small_config

from dc_hpc.config.baselines import BASELINES, PROTOCOLS
from dc_hpc.config.run_config import make_config, run_id
from dc_hpc.experiment.execution import Execution
from dc_hpc.experiment.reuse import first_pass, ia_donor
from dc_hpc.experiment.run import run
from dc_hpc.storage import feature_dumps, run_directory, serialization

SCHEMA = {"features": ("f", 2), "pseudo_labels": ("u", 1)}


def test_fashion_mnist_has_the_initial_alignment_of_the_authors_program(fmnist_root, tmp_path):
    """Seed 6 of Figure 3a. Their code, run with the random numbers of its scikit-learn, gives .3988."""
    settings = BASELINES["fmnist"] | PROTOCOLS["fmnist"]["code"]
    config = make_config(settings | {"seed": 6, "cycles": 0, "probe": (), "features": "none", "draws": "authors"})
    directory = run_directory.create(tmp_path, config)
    assert run(directory, Execution(str(fmnist_root))) == "done"
    assert run_directory.read_result(directory)["ia"] == pytest.approx(0.3988, abs=0.0005)


def test_the_draws_are_a_part_of_the_name_and_of_the_first_pass(digits_root):
    ours, authors = small_config(digits_root), small_config(digits_root, draws="authors")
    assert run_id(ours) == run_id(small_config(digits_root, draws="ours")) != run_id(authors)
    assert first_pass(ours) != first_pass(authors) and ia_donor(ours) != ia_donor(authors)


@pytest.mark.parametrize("changes", [{}, {"pca": 8}, {"kmeans_init": "random"}])
def test_a_run_is_the_same_whether_its_first_clustering_is_computed_or_copied(digits_root, tmp_path, changes):
    if "kmeans_init" in changes:
        pytest.importorskip("faiss")
    changes = {"draws": "authors", **changes}
    alone = new_run(tmp_path / "alone", digits_root, **changes)
    donor = new_run(tmp_path / "pair", digits_root, cycles=0, probe=(), **changes)
    copied = new_run(tmp_path / "pair", digits_root, **changes)
    for directory in (alone, donor, copied):
        assert run(directory, Execution(str(digits_root))) == "done"
    assert run_directory.attempts(copied)[0]["first_clustering_from"] == donor.name
    assert results(alone) == results(copied)
    assert run_directory.read_result(alone)["ia"] == run_directory.read_result(donor)["ia"]
    dumped, _ = serialization.read_hdf5(alone / "features" / "c0000.h5", SCHEMA)
    assert np.array_equal(dumped["pseudo_labels"], feature_dumps.read_first_clustering(donor)[0])


def test_only_the_filters_and_the_first_clustering_are_the_authors(digits_root, tmp_path):
    """The k-means backend, which computes the later clusterings, does not change the first."""
    found = {}
    for draws, backend in (("ours", "torch"), ("authors", "torch"), ("authors", "sklearn")):
        directory = new_run(tmp_path / draws / backend, digits_root, draws=draws, cycles=2)
        assert run(directory, Execution(str(digits_root), kmeans_backend=backend)) == "done"
        found[draws, backend] = run_directory.read_result(directory)["ia"]
    assert found["authors", "torch"] == found["authors", "sklearn"] != found["ours", "torch"]


@pytest.mark.parametrize("init", ["k-means++", "random"])
def test_several_starts_of_the_first_clustering_have_the_least_inertia(digits_root, tmp_path, init):
    if init == "random":
        pytest.importorskip("faiss")
    changes = {"draws": "authors", "kmeans_init": init, "cycles": 0, "probe": (), "k": 12}
    inertia = []
    for starts in (1, 6):
        directory = new_run(tmp_path, digits_root, kmeans_n_init=starts, **changes)
        assert run(directory, Execution(str(digits_root))) == "done"
        inertia.append(feature_dumps.read_first_clustering(directory).inertia)
    assert inertia[1] < inertia[0]


def test_without_faiss_a_run_fails_with_the_reason(digits_root, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    directory = new_run(tmp_path, digits_root, draws="authors", kmeans_init="random")
    assert run(directory, Execution(str(digits_root))) == "failed"
    assert "draws authors with kmeans_init random calls faiss" in run_directory.state_of(directory).reason
