"""Official data sets: read pixel by pixel, and refused when a file is not the official one."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from support import official_formats as true
from support.small_datasets import GREY_TEST, GREY_TRAIN, TEST, TRAIN, WRITERS, assert_holds

from dc_hpc.data.catalog import DATASETS
from dc_hpc.data.fetching import fetch
from dc_hpc.data.official import load, verify
from dc_hpc.errors import InputError

# ---- the known sets, against what was written


@pytest.mark.parametrize("name", DATASETS)
def test_known_set_pixel_by_pixel(small: Path, name: str) -> None:
    train, test = (GREY_TRAIN, GREY_TEST) if "mnist" in name else (TRAIN, TEST)
    dataset = load(name, small)
    assert (dataset.name, dataset.classes) == (name, 10)
    assert_holds(dataset, train, test)
    assert 0 in dataset.train_labels and 10 not in dataset.train_labels  # SVHN's files call the digit zero 10


@pytest.mark.parametrize("archive", [False, True])
def test_cifar10_binary_equals_the_python_version(small: Path, tmp_path: Path, archive: bool) -> None:
    true.write_cifar10_binary(tmp_path / "data", TRAIN, TEST, archive=archive)
    assert_holds(load("cifar10", tmp_path / "data"), TRAIN, TEST)
    assert len(list((tmp_path / "data").iterdir())) == 1  # loading writes nothing


def test_old_processed_files_do_not_shadow_the_verified_ones(small: Path) -> None:
    processed = small / "MNIST/processed"
    processed.mkdir()
    for name in ("training.pt", "test.pt"):
        torch.save((torch.zeros(3, 28, 28, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64)), processed / name)
    assert_holds(load("mnist", small), GREY_TRAIN, GREY_TEST)


def test_official_sums_are_those_of_torchvision() -> None:
    cifar10 = torchvision.datasets.CIFAR10
    batches = [*cifar10.train_list, *cifar10.test_list, [cifar10.meta["filename"], cifar10.meta["md5"]]]
    assert true.official_form("cifar10").files == {f"{cifar10.base_folder}/{file}": md5 for file, md5 in batches}
    splits = [torchvision.datasets.SVHN.split_list[part] for part in ("train", "test")]
    assert true.official_form("svhn").files == {f"SVHN/{file}": md5 for _, file, md5 in splits}


@pytest.mark.parametrize("damage", ["missing", "cut", "changed", "empty", "a folder"])
@pytest.mark.parametrize("form", WRITERS)
def test_damaged_known_set_names_the_file_and_the_command(small: Path, form: str, damage: str) -> None:
    name = form.removesuffix("-binary")
    if name == "cifar10":  # of two forms the whole one is read
        shutil.rmtree(small / ("cifar-10-batches-bin" if form == "cifar10" else "cifar-10-batches-py"))
    for file in true.official_form(form).files:
        path = small / file
        content = path.read_bytes()
        path.unlink()
        if damage == "a folder":
            path.mkdir()
        elif damage != "missing":
            flipped = content[:-1] + bytes([content[-1] ^ 1])
            path.write_bytes({"cut": content[:-7], "changed": flipped, "empty": b""}[damage])
        with pytest.raises(InputError, match=f"{path}.*; run: python -m dc_hpc.fetch {name} --data {small}"):
            load(name, small)
        with pytest.raises(InputError, match=f"{path}.*; run: python -m dc_hpc.fetch {name} --data {small}"):
            verify(name, small)
        path.rmdir() if damage == "a folder" else path.unlink(missing_ok=True)
        path.write_bytes(content)
    load(name, small)


def test_damaged_cifar10_archive(small: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    true.write_cifar10_binary(root, TRAIN, TEST, archive=True)
    archive = root / "cifar-10-binary.tar.gz"
    whole = archive.read_bytes()
    true.write_cifar10_binary(root, TEST, TRAIN, archive=True)
    other = archive.read_bytes()
    true.write_cifar10_python(root, TRAIN, TEST, archive=True)
    lacking = (root / "cifar-10-python.tar.gz").read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"nonsense", other, lacking):
        archive.write_bytes(content)
        for look in (load, verify):
            with pytest.raises(InputError, match=f"{archive} .*; run: python -m dc_hpc.fetch cifar10"):
                look("cifar10", root)


def test_nothing_there_names_the_command(tmp_path: Path) -> None:
    for name in DATASETS:
        for look in (load, verify):
            with pytest.raises(InputError, match=f"is missing; run: python -m dc_hpc.fetch {name} --data {tmp_path}"):
                look(name, tmp_path)
    for look in (load, verify):
        with pytest.raises(InputError, match=r"'cifar' \(did you mean cifar10\?\).*NAME.npz with train_images"):
            look("cifar", tmp_path)


def test_verify_says_channels_and_training_images(small: Path, tmp_path: Path) -> None:
    known = {name: verify(name, small) for name in DATASETS}
    assert known == {"fmnist": (1, 60_000), "mnist": (1, 60_000), "svhn": (3, 73_257), "cifar10": (3, 50_000)}
    for archive in (False, True):
        true.write_cifar10_binary(tmp_path / f"data-{archive}", TRAIN, TEST, archive=archive)
        assert verify("cifar10", tmp_path / f"data-{archive}") == (3, 50_000)
    true.write_npz(tmp_path / "own.npz", TRAIN, TEST)
    assert verify("own", tmp_path) == (3, 25)


# ---- the real Fashion-MNIST (Debian's package dataset-fashion-mnist, which the tests need)


def test_real_fashion_mnist(tmp_path: Path) -> None:
    assert DATASETS["fmnist"].package.is_dir(), "apt-get install dataset-fashion-mnist"
    said: list[str] = []
    fetch("fmnist", tmp_path, report=said.append)
    assert "fetched from /usr/share/datasets/fashion-mnist" in said[-1]
    fetch("fmnist", tmp_path, report=said.append)
    assert "is there and verified" in said[-1]
    real = load("fmnist", tmp_path)
    assert real.train_images.shape == (60_000, 1, 28, 28) and real.test_images.shape == (10_000, 1, 28, 28)
    assert real.train_labels[:5].tolist() == [9, 0, 0, 3, 0]
    assert torch.bincount(real.train_labels).tolist() == [6000] * 10
    assert torch.bincount(real.test_labels).tolist() == [1000] * 10
    pixels = real.train_images.numpy() / np.float32(255)
    assert pixels.mean() == pytest.approx(0.2860, abs=1e-4) and pixels.std() == pytest.approx(0.3530, abs=1e-4)
