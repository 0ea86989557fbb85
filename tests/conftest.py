"""Real data for the tests: scikit-learn's digits as a custom data set, and Fashion-MNIST; and a real SLURM."""

from __future__ import annotations

import os
from pathlib import Path

# One thread, set before any library starts its pool: the bits of a sum depend on the number of threads, and threads
# that share their cores with other programs are many times slower than one.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np  # noqa: E402
import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402
from support.one_cluster import running_cluster  # noqa: E402

from dc_hpc.data.fetching import fetch  # noqa: E402

REPOSITORY = Path(__file__).parents[1]

# No deadline: the time of an example depends on the load of the machine. (In CI hypothesis has no deadline by itself.)
settings.register_profile("here", deadline=None)
if not os.environ.get("CI"):
    settings.load_profile("here")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tests of the cluster begin first: they wait more than they compute, and others use the cores meanwhile."""
    items.sort(key=lambda item: item.path.parent.name != "slurm")


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_make_scheduler(config, log):
    """Keep a file's tests in one worker, and all tests of the one SLURM in one."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "slurm" if nodeid.startswith("tests/slurm/") else nodeid.split("::")[0]

    return Scheduling(config, log)


@pytest.fixture(autouse=True)
def _no_cluster_but_in_its_tests(request, monkeypatch):
    """A test of another folder does not see the cluster that was started before in the same process."""
    if request.path.parent.name != "slurm":
        monkeypatch.delenv("SLURM_CONF", raising=False)


@pytest.fixture(scope="session")
def digits_root(tmp_path_factory) -> Path:
    """A data root with `digits`: 1,797 real handwritten digits of 8 x 8 pixels, as digits.npz."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = (digits.images * 255 / 16).round().astype(np.uint8)
    root = tmp_path_factory.mktemp("digits")
    np.savez(
        root / "digits.npz",
        train_images=images[:1500],
        train_labels=digits.target[:1500],
        test_images=images[1500:],
        test_labels=digits.target[1500:],
    )
    return root


@pytest.fixture(scope="session")
def fmnist_root() -> Path:
    """The data root with the real Fashion-MNIST, which is fetched if it is missing; fails if that is not possible."""
    root = Path(os.environ.get("DC_HPC_DATA", REPOSITORY / "data"))
    fetch("fmnist", root, report=lambda line: None)
    return root


@pytest.fixture(scope="session")
def cluster():
    """The module slurm/one_machine.py, with a real SLURM of two nodes running for the whole session; see SLURM_CONF."""
    with running_cluster() as one_machine:
        environment = {name: os.environ[name] for name in ("SLURM_CONF", "PYTHONPATH")}
        one_machine.of_the_session = one_machine.state, environment
        yield one_machine
