"""Real data for the tests: scikit-learn's digits as a person's own images, and Fashion-MNIST."""

from __future__ import annotations

import os
from pathlib import Path

# One thread, said before anything starts a pool of them: the bits of a sum depend on their number, and threads that
# share cores with other work are many times slower than one.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np  # noqa: E402
import pytest  # noqa: E402

from dc_hpc.experiment.datasets import fetch  # noqa: E402

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def digits_root(tmp_path_factory) -> Path:
    """A data root with `digits`: 1,797 real handwritten digits of 8 x 8 pixels, as digits.npz."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = (digits.images * 255 / 16).round().astype(np.uint8)
    root = tmp_path_factory.mktemp("digits")
    np.savez(root / "digits.npz", train_images=images[:1500], train_labels=digits.target[:1500],
             test_images=images[1500:], test_labels=digits.target[1500:])  # fmt: skip
    return root


@pytest.fixture(scope="session")
def fmnist_root() -> Path:
    """The data root with the real Fashion-MNIST; fetched if it is not there, and an error if that cannot be done."""
    root = Path(os.environ.get("DC_HPC_DATA", REPOSITORY / "data"))
    fetch("fmnist", root, report=lambda line: None)
    return root
