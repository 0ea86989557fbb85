"""What cannot be computed is refused in one line before any run is made."""

import os

import numpy as np
import pytest
from support.commands import GRID, run_command, submit_grid

SLURM = ("--cluster", "slurm", "--site", "site.yaml", "--yes", "--no-aggregate")


@pytest.fixture
def place(tmp_path):
    (tmp_path / "grid.yaml").write_text(GRID)
    return tmp_path


def refused(out, *words):
    """Check that a command was refused in one line with these words, and wrote nothing."""
    assert out.returncode == 2 and len(out.stderr.strip().splitlines()) == 1, out.stdout + out.stderr
    assert all(word in out.stderr for word in words), out.stderr


def few_images(place, shape, count):
    """A data set of random images, which is named `few`."""
    draw = np.random.default_rng(0)
    images, labels = draw.integers(0, 256, (2 * count, *shape), dtype=np.uint8), np.arange(2 * count) % 5
    train, test = slice(0, count), slice(count, None)
    np.savez(
        place / "few.npz",
        train_images=images[train],
        train_labels=labels[train],
        test_images=images[test],
        test_labels=labels[test],
    )


def test_more_components_than_images(place):
    few_images(place, (32, 32, 3), 20)
    grid = "base: svhn\nprotocol: code\nfixed: {dataset: few, cycles: 0}\nsweep: {k: [5], seed: [1]}\n"
    (place / "grid.yaml").write_text(grid)
    out = submit_grid(place, place)
    refused(out, "pca 256 is larger than the 20 training images of few; allowed: 1 to 20, or off")
    assert not (place / "outputs").exists()
    done = submit_grid(place, place, "--set", "pca=20", check=0)
    assert "1 of 1 runs done" in done.stdout


def test_a_pool_beyond_the_layer(place, digits_root):
    out = submit_grid(place, digits_root, "--set", "probe_average_pool=100")
    refused(out, "grid.yaml", "probe_average_pool 100 is larger than layer", "pixels; allowed: 1 to ")
    assert not (place / "outputs").exists()


OWN_NET = """
from torch import nn

def build():
    return nn.Sequential(nn.Conv2d(1, 4, 5, stride=2), nn.ReLU(), nn.Flatten())
"""


def test_a_pool_beyond_the_layer_of_a_net_of_ones_own_fails_before_the_training(place, digits_root):
    (place / "mine.py").write_text(OWN_NET)
    own = ("--allow-own-nets", "--limit", 1, "--set", "net=mine:build", "--set", "probe=['0']")
    out = submit_grid(place, digits_root, *own, "--set", "probe_average_pool=15")
    assert out.returncode == 1 and "average_pool 15 is larger than layer '0', whose maps are 14 x 14" in out.stdout
    (directory,) = (place / "outputs" / "runs").iterdir()
    assert not (directory / "metrics.csv").exists()
    submit_grid(place, digits_root, *own, "--set", "probe_average_pool=14", check=0)


@pytest.fixture
def broken(tmp_path, monkeypatch):
    """backend, text -> a library on PYTHONPATH whose import executes the text."""

    def write(library, text):
        folder = tmp_path / "broken"
        folder.mkdir(exist_ok=True)
        (folder / f"{library}.py").write_text(text)
        monkeypatch.setenv("PYTHONPATH", f"{folder}:{os.environ.get('PYTHONPATH', '')}")

    return write


@pytest.mark.parametrize("error", ["ImportError('No module named faiss')", "SystemError('bad')", "OSError('libgomp')"])
@pytest.mark.parametrize("cluster", ["local", "slurm"])
def test_a_kmeans_backend_whose_library_cannot_be_imported(place, digits_root, broken, stand_in, cluster, error):
    broken("faiss", f"raise {error}")
    more = SLURM if cluster == "slurm" else ()
    out = submit_grid(place, digits_root, *more, "--kmeans-backend", "faiss")
    refused(out, f"k-means backend faiss cannot be used here ({error.split('(')[0]}: ", 'pip install "dc-hpc[cpu]"')
    assert not (place / "outputs").exists()


def test_the_environment_of_a_container_is_not_known_here(place, digits_root, broken, stand_in):
    broken("faiss", "raise ImportError('no faiss')")
    (place / "site.yaml").write_text("partition: low\ncontainer: apptainer exec image.sif\n")
    assert "submitted job 77" in submit_grid(place, digits_root, *SLURM, "--kmeans-backend", "faiss", check=0).stdout


def test_a_run_whose_library_is_missing_fails_once_with_one_line(place, digits_root, broken):
    """On the node, where submit could not look."""
    submit_grid(place, digits_root, "--limit", 1, "--set", "cycles=0", check=0)
    (directory,) = (place / "outputs" / "runs").iterdir()
    (directory / "result.json").unlink()
    broken("faiss", "raise ImportError('no faiss')")
    command = ("experiment.run", directory, "--data", digits_root, "--kmeans-backend", "faiss")
    out = run_command(*command, cwd=place, check=1)
    assert out.stderr.startswith("InputError: k-means backend faiss cannot be used here (ImportError: no faiss)")
    assert len(out.stderr.splitlines()) == 1


@pytest.fixture
def stand_in(place, monkeypatch):
    """An sbatch that answers 77 and keeps its script, and commands of SLURM that say nothing."""
    tools = place / "tools"
    tools.mkdir()
    for name, text in {
        "sbatch": 'for last; do :; done\ncp "$last" "$SEEN"\necho Submitted batch job 77',
        "squeue": "",
        "srun": "",
    }.items():
        (tools / name).write_text(f"#!/bin/sh\n{text}\n")
        (tools / name).chmod(0o700)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.setenv("SEEN", str(place / "script"))
    (place / "site.yaml").write_text("partition: low\n")
    return tools
