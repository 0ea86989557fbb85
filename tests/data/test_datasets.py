"""The data sets and a person's own images, read by the real code from small files in the true formats."""

from __future__ import annotations

import functools
import http.server
import io
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from support import official_formats as true
from typer.testing import CliRunner

from dc_hpc.data import custom, fetching
from dc_hpc.data.catalog import DATASETS
from dc_hpc.data.custom import data_digest, find_custom_data, read_custom_data
from dc_hpc.data.fetching import fetch
from dc_hpc.data.official import Dataset, load, verify
from dc_hpc.errors import InputError
from dc_hpc.fetch import app

TRAIN, TEST = true.random_split(25, (3, 32, 32), seed=1), true.random_split(12, (3, 32, 32), seed=2)
GREY_TRAIN, GREY_TEST = true.random_split(25, (1, 28, 28), seed=3), true.random_split(12, (1, 28, 28), seed=4)

WRITERS: dict[str, Callable[[Path], None]] = {
    "fmnist": lambda root: true.write_idx(root / "FashionMNIST/raw", GREY_TRAIN, GREY_TEST),
    "mnist": lambda root: true.write_idx(root / "MNIST/raw", GREY_TRAIN, GREY_TEST),
    "svhn": lambda root: true.write_svhn(root / "SVHN", TRAIN, TEST),
    "cifar10": lambda root: true.write_cifar10_python(root, TRAIN, TEST),
    "cifar10-binary": lambda root: true.write_cifar10_binary(root, TRAIN, TEST),
}


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with every known set, small, whose files count as the official ones; the data root is elsewhere."""
    reference = tmp_path / "reference"
    for write in WRITERS.values():
        write(reference)
    true.count_as_official(monkeypatch, reference, WRITERS)
    true.without_system_package(monkeypatch)
    return reference


def assert_holds(dataset: Dataset, train: true.Split, test: true.Split) -> None:
    """Pixel by pixel and label by label; shapes, dtypes and contiguity too."""
    for images, labels, expected in (
        (dataset.train_images, dataset.train_labels, train),
        (dataset.test_images, dataset.test_labels, test),
    ):
        assert images.dtype == torch.uint8 and labels.dtype == torch.int64
        assert images.is_contiguous() and labels.is_contiguous()
        assert images.shape == expected[0].shape and labels.shape == expected[1].shape
        assert np.array_equal(images.numpy(), expected[0]) and np.array_equal(labels.numpy(), expected[1])


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
    if form == "cifar10-binary":
        shutil.rmtree(small / "cifar-10-batches-py")
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


# ---- fetching


def contents(root: Path) -> dict[str, tuple[str, int]]:
    """{file: (MD5, time of change)}: what must stay the same."""
    files = [path for path in sorted(root.rglob("*")) if path.is_file()]
    return {str(path.relative_to(root)): (true.md5_of(path), path.stat().st_mtime_ns) for path in files}


@pytest.mark.parametrize("name", DATASETS)
def test_fetch_leaves_verified_files_alone(small: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "_download", lambda name, stage: pytest.fail("downloaded"))
    before, said = contents(small), []
    fetch(name, small, report=said.append)
    assert contents(small) == before and len(said) == 1 and "is there and verified" in said[0]


@pytest.mark.parametrize("name", ["fmnist", "mnist", "cifar10", "cifar10-binary"])
def test_fetch_unpacks_what_was_put_there(small: Path, tmp_path: Path, name: str) -> None:
    root = tmp_path / "data"
    {
        "fmnist": lambda: true.write_idx(root / "FashionMNIST/raw", GREY_TRAIN, GREY_TEST, compressed=True),
        "mnist": lambda: true.write_idx(root / "MNIST/raw", GREY_TRAIN, GREY_TEST, compressed=True),
        "cifar10": lambda: true.write_cifar10_python(root, TRAIN, TEST, archive=True),
        "cifar10-binary": lambda: true.write_cifar10_binary(root, TRAIN, TEST, archive=True),
    }[name]()
    short = name.removesuffix("-binary")
    fetch(short, root, report=lambda line: None)
    assert {file: contents(root)[file][0] for file in true.official_form(name).files} == true.official_form(name).files
    assert_holds(load(short, root), *((GREY_TRAIN, GREY_TEST) if "mnist" in name else (TRAIN, TEST)))
    assert not list(root.glob(".fetch-*"))


def test_fetch_repairs_a_damaged_set(small: Path) -> None:
    true.write_idx(small / "MNIST/raw", GREY_TRAIN, GREY_TEST, compressed=True)
    (small / "MNIST/raw/train-labels-idx1-ubyte").write_bytes(b"half")
    fetch("mnist", small, report=lambda line: None)
    assert_holds(load("mnist", small), GREY_TRAIN, GREY_TEST)


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError("disk full"), RuntimeError("no route")])
def test_interrupted_fetch_leaves_everything_as_it_was(
    small: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    (small / "SVHN/train_32x32.mat").write_bytes(b"damaged")
    before = contents(small)

    def half_a_download(name: str, stage: Path) -> None:
        (stage / "SVHN").mkdir()
        (stage / "SVHN/train_32x32.mat").write_bytes(b"half")
        raise error

    monkeypatch.setattr(fetching, "_download", half_a_download)
    with pytest.raises(KeyboardInterrupt if error is KeyboardInterrupt else InputError):
        fetch("svhn", small, report=lambda line: None)
    assert contents(small) == before and not list(small.glob(".fetch-*"))


def test_damaged_gz_is_not_put_in_place(small: Path, tmp_path: Path, unreachable: None) -> None:
    raw = tmp_path / "data/FashionMNIST/raw"
    true.write_idx(raw, GREY_TRAIN, GREY_TEST, compressed=True)
    whole = (raw / "train-images-idx3-ubyte.gz").read_bytes()
    for content in (whole[:-300], b"no gzip", b"", whole[:100] + b"xxxx" + whole[104:]):
        (raw / "train-images-idx3-ubyte.gz").write_bytes(content)
        before = contents(tmp_path / "data")
        with pytest.raises(InputError, match=f"what was tried: {raw}/.*; torchvision's download: "):
            fetch("fmnist", tmp_path / "data", report=lambda line: None)
        assert contents(tmp_path / "data") == before


def test_root_that_cannot_be_written(small: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=f"{tmp_path}/file.*cannot be written.*--data"):
        fetch("mnist", tmp_path / "file", report=lambda line: None)
    with pytest.raises(InputError, match="'imagenet' cannot be fetched; allowed are fmnist, mnist, svhn, cifar10"):
        fetch("imagenet", tmp_path)


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


class QuietServer(http.server.ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """torchvision hangs up on some answers: no word of it, since a test below wants nothing printed."""


@pytest.fixture
def server(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder served over HTTP that torchvision takes for the official servers, with the small sets in it."""
    folder = tmp_path / "served"
    true.write_idx(folder, GREY_TRAIN, GREY_TEST, compressed=True)
    true.write_svhn(folder, TRAIN, TEST)
    true.write_cifar10_python(folder, TRAIN, TEST, archive=True)
    handler = functools.partial(QuietHandler, directory=str(folder))
    with QuietServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        point_torchvision_at(f"http://127.0.0.1:{running.server_port}/", folder, monkeypatch)
        yield folder
        running.shutdown()
        thread.join()


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    point_torchvision_at(f"http://127.0.0.1:{port}/", None, monkeypatch)


def point_torchvision_at(url: str, folder: Path | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    sets = torchvision.datasets
    for kind in (sets.MNIST, sets.FashionMNIST):
        monkeypatch.setattr(kind, "mirrors", [url])
        if folder:
            sums = [(f"{name}.gz", true.md5_of(folder / f"{name}.gz")) for name in true.IDX_FILES]
            monkeypatch.setattr(kind, "resources", sums)
    split_list = {part: [f"{url}{file}", file, md5] for part, (_, file, md5) in sets.SVHN.split_list.items()}
    monkeypatch.setattr(sets.SVHN, "split_list", split_list)
    monkeypatch.setattr(sets.CIFAR10, "url", f"{url}cifar-10-python.tar.gz")
    if folder:
        monkeypatch.setattr(sets.CIFAR10, "tgz_md5", true.md5_of(folder / "cifar-10-python.tar.gz"))


@pytest.mark.parametrize("name", DATASETS)
def test_torchvisions_download_over_http(
    small: Path, server: Path, tmp_path: Path, name: str, capfd: pytest.CaptureFixture
) -> None:
    root, said = tmp_path / "data", []
    if name == "svhn":  # savemat writes the time into its header: serve the very files whose sums are official
        shutil.copytree(small / "SVHN", server, dirs_exist_ok=True)
    fetch(name, root, report=said.append)
    assert said[-1].startswith(f"{name}: fetched from torchvision's download and verified")
    assert_holds(load(name, root), *((GREY_TRAIN, GREY_TEST) if "mnist" in name else (TRAIN, TEST)))
    assert capfd.readouterr() == ("", "")
    assert socket.getdefaulttimeout() is None


@pytest.mark.parametrize("name", DATASETS)
def test_server_with_other_files(small: Path, server: Path, tmp_path: Path, name: str) -> None:
    for path in server.iterdir():
        path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(InputError, match=f"{name} could not be fetched: .*{tmp_path}/data.*torchvision's download: "):
        fetch(name, tmp_path / "data", report=lambda line: None)
    assert contents(tmp_path / "data") == {}


def test_no_source_says_what_to_do_in_one_line(small: Path, unreachable: None, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        fetch("fmnist", tmp_path / "data", report=lambda line: None)
    message = str(caught.value)
    assert "\n" not in message
    assert "apt-get install dataset-fashion-mnist" in message and f"{tmp_path}/data/FashionMNIST/raw" in message
    assert "on a machine with internet" in message


# ---- the command


def test_command_fetches_all_and_goes_on_after_a_failure(small: Path, unreachable: None) -> None:
    shutil.rmtree(small / "MNIST")
    (small / "SVHN/test_32x32.mat").unlink()
    run = CliRunner().invoke(app, ["all"], env={"DC_HPC_DATA": str(small)})
    assert isinstance(run.exception, InputError)
    assert str(run.exception) == "2 of 4 not fetched: mnist, svhn; see the lines above"
    assert "fmnist: is there and verified" in run.stdout and "cifar10: is there and verified" in run.stdout
    assert run.stderr.count("\n") == 2 and "svhn could not be fetched: put train_32x32.mat" in run.stderr


def test_command_with_names(small: Path, unreachable: None) -> None:
    run = CliRunner().invoke(app, ["svhn", "fmnist", "--data", str(small)])
    assert run.exit_code == 0 and run.stdout.count("verified") == 2
    shutil.rmtree(small / "SVHN")
    run = CliRunner().invoke(app, ["svhn", "--data", str(small)])
    assert isinstance(run.exception, InputError) and str(run.exception).startswith("svhn could not be fetched")
    run = CliRunner().invoke(app, ["fmnist", "imagenet", "--data", str(small)])
    assert isinstance(run.exception, InputError) and "'imagenet' cannot be fetched; allowed are" in str(run.exception)
    assert CliRunner().invoke(app, []).exit_code == 2


def test_names_and_help_need_no_torch() -> None:
    code = (
        "import sys; import dc_hpc.data.custom, dc_hpc.data.official; from dc_hpc.fetch import app\n"
        "try:\n    app(['--help'])\nexcept SystemExit:\n    sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


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


# ---- a person's own images

CLASSES = ["ant", "bee", "cat"]


def own_splits(channels: int) -> tuple[true.Split, true.Split]:
    """In the order of the labels, which is the order that a folder has."""
    parts = [true.random_split(n, (channels, 5, 7), seed=n, classes=3) for n in (8, 5)]
    return tuple((images[np.argsort(labels, kind="stable")], np.sort(labels)) for images, labels in parts)


@pytest.mark.parametrize("channels", [1, 3])
def test_folder_zip_and_npz_give_the_same_arrays(tmp_path: Path, channels: int) -> None:
    train, test = own_splits(channels)
    files = true.png_files(train, test, CLASSES)
    true.write_npz(tmp_path / "a.npz", train, test)
    true.write_folder(tmp_path / "b", files)
    true.write_zip(tmp_path / "c.zip", files)
    true.write_zip(tmp_path / "d.zip", files, prefix="d/")
    for name, classes in (("a", ("0", "1", "2")), ("b", tuple(CLASSES)), ("c", tuple(CLASSES)), ("d", tuple(CLASSES))):
        path = find_custom_data(name, tmp_path)
        arrays = read_custom_data(path)
        assert arrays.classes == classes
        assert np.array_equal(arrays.train_images, train[0]) and np.array_equal(arrays.test_images, test[0])
        assert np.array_equal(arrays.train_labels, train[1]) and np.array_equal(arrays.test_labels, test[1])
        assert arrays.train_images.dtype == np.uint8 and arrays.train_labels.dtype == np.int64
        dataset = load(name, tmp_path)
        assert (dataset.name, dataset.classes) == (name, 3)
        assert_holds(dataset, train, test)


def test_one_colour_image_makes_all_colour_and_a_palette_is_colour(tmp_path: Path) -> None:
    train, test = own_splits(1)
    files = true.png_files(train, test, CLASSES)
    true.write_folder(tmp_path / "own", files)
    Image.fromarray(train[0][0, 0]).convert("RGB").quantize(256).save(tmp_path / "own/train/ant/00000.png")
    arrays = read_custom_data(tmp_path / "own")
    assert arrays.train_images.shape == (8, 3, 5, 7) and arrays.test_images.shape == (5, 3, 5, 7)
    assert np.array_equal(arrays.train_images, np.repeat(train[0], 3, axis=1))


def test_jpeg_capital_suffixes_and_dot_files(tmp_path: Path) -> None:
    flat = np.full((3, 5, 7), 128, np.uint8)
    files = {f"{part}/a/1.JPEG": true.image_bytes(flat, "JPEG") for part in ("train", "test")}
    files |= {"train/a/2.Jpg": true.image_bytes(flat, "JPEG"), "train/.DS_Store": b"", "test/a/._1.JPEG": b""}
    true.write_folder(tmp_path / "own", files)
    true.write_zip(tmp_path / "zipped.zip", files | {"__MACOSX/train/a/1.JPEG": b"", "README.txt": b"hello"})
    for name in ("own", "zipped.zip"):
        arrays = read_custom_data(tmp_path / name)
        assert len(arrays.train_images) == 2 and (arrays.train_images == 128).all()


@settings(max_examples=40, deadline=None)
@given(
    n=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    shape=st.sampled_from([(4, 4), (3, 5, 1), (5, 3, 3)]),
    dtype=st.sampled_from(["uint8", "int32", "uint64", ">i8"]),
    top=st.integers(0, 100),
    seed=st.integers(0, 9),
)
def test_npz_labels_become_indices_into_the_classes(
    n: tuple[int, int], shape: tuple[int, ...], dtype: str, top: int, seed: int
) -> None:
    draw = np.random.default_rng(seed)
    images = [draw.integers(0, 256, (count, *shape), dtype=np.uint8) for count in n]
    labels = [draw.integers(0, top + 1, count).astype(dtype) for count in n]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "own.npz"
        np.savez(
            path,
            train_images=np.asfortranarray(images[0]),
            train_labels=labels[0],
            test_images=images[1],
            test_labels=labels[1],
        )
        arrays = read_custom_data(path)
    for given_images, given_labels, read_images, read_labels in (
        (images[0], labels[0], arrays.train_images, arrays.train_labels),
        (images[1], labels[1], arrays.test_images, arrays.test_labels),
    ):
        assert [int(arrays.classes[i]) for i in read_labels] == given_labels.tolist()
        assert np.array_equal(read_images.transpose(0, 2, 3, 1).reshape(given_images.shape), given_images)
    assert set(arrays.train_labels) | set(arrays.test_labels) == set(range(len(arrays.classes)))


def test_digest_follows_the_content_and_nothing_else(tmp_path: Path) -> None:
    train, test = own_splits(3)
    files = true.png_files(train, test, CLASSES)
    changed = train[0].copy()
    changed[0, 0, 0, 0] ^= 1
    changed_files = true.png_files((changed, train[1]), test, CLASSES)
    true.write_folder(tmp_path / "a", files)
    true.write_folder(tmp_path / "b", dict(reversed(files.items())))
    true.write_folder(tmp_path / "c", changed_files)
    true.write_folder(tmp_path / "d", {name.replace("ant", "asp"): content for name, content in files.items()})
    true.write_npz(tmp_path / "e.npz", train, test)
    true.write_npz(tmp_path / "f.npz", (changed, train[1]), test)
    digests = {path.name: data_digest(path) for path in tmp_path.iterdir()}
    assert digests["a"] == digests["b"] and len(set(digests.values())) == 5
    assert all(len(digest) == 64 for digest in digests.values())
    for path in [tmp_path / "e.npz", *(tmp_path / "a").rglob("*")]:
        os.utime(path, (1, 1))
    (tmp_path / "a/README.txt").write_text("not an image")
    assert data_digest(tmp_path / "a") == digests["a"] and data_digest(tmp_path / "e.npz") == digests["e.npz"]


def test_digest_of_a_folder_keeps_names_and_contents_apart(tmp_path: Path) -> None:
    """Bytes that move from one file to the next, or from a content into a name, are another content."""
    for name, first, second in (("a", b"xy", b"z"), ("b", b"x", b"yz")):
        for part in ("train", "test"):
            true.write_folder(tmp_path / name, {f"{part}/k/1.png": first, f"{part}/k/2.png": second})
    assert data_digest(tmp_path / "a") != data_digest(tmp_path / "b")


def test_data_sets_are_found_in_one_form_only(tmp_path: Path) -> None:
    assert find_custom_data("own", tmp_path) is None and find_custom_data("own", tmp_path / "nowhere") is None
    (tmp_path / "own").mkdir()
    assert find_custom_data("own", tmp_path) == tmp_path / "own"
    (tmp_path / "own.zip").write_bytes(b"")
    with pytest.raises(InputError, match="own.zip and .*/own are there together: only one"):
        find_custom_data("own", tmp_path)
    for name in ("", ".own", "-own", "a/b", "..", "a" * 65, "a b", "a\n", "é"):
        with pytest.raises(InputError, match="allowed are 1 to 64 of A-Z"):
            find_custom_data(name, tmp_path)
    assert find_custom_data("a.b-c_1", tmp_path) is None


NPZ_DAMAGES = {
    "float images": (dict(train_images=np.full((4, 2, 2), np.nan)), "train_images is float64"),
    "channels first": (dict(test_images=np.zeros((2, 3, 9, 9), np.uint8)), r"test_images is uint8 \(2, 3, 9, 9\)"),
    "flat": (dict(train_images=np.zeros((4, 4), np.uint8)), "train_images is uint8"),
    "no images": (dict(test_images=np.zeros((0, 2, 2), np.uint8)), "nothing empty"),
    "float labels": (dict(train_labels=np.zeros(4)), "train_labels is float64"),
    "NaN labels": (dict(train_labels=np.full(4, np.nan)), "allowed are integers"),
    "bool labels": (dict(train_labels=np.zeros(4, bool)), "allowed are integers"),
    "column": (dict(train_labels=np.zeros((4, 1), int)), r"of shape \(4,\)"),
    "too few": (dict(test_labels=np.zeros(1, int)), r"of shape \(2,\)"),
    "negative": (dict(test_labels=np.array([0, -1])), "holds -1; allowed are integers from 0"),
    "huge": (dict(test_labels=np.array([0, 2**63], np.uint64)), "to 2.63-1"),
    "objects": (dict(train_labels=np.array([0, 1, None, 2], object)), "no npz of plain arrays"),
    "other size": (dict(test_images=np.zeros((2, 3, 2), np.uint8)), "must agree"),
    "other channels": (dict(test_images=np.zeros((2, 2, 2, 3), np.uint8)), "must agree"),
    "missing": (dict(train_images=None, test_labels=None), "lacks train_images, test_labels"),
}


@pytest.mark.parametrize("case", NPZ_DAMAGES)
def test_wrong_npz(tmp_path: Path, case: str) -> None:
    good = dict(
        train_images=np.zeros((4, 2, 2), np.uint8),
        train_labels=np.arange(4),
        test_images=np.zeros((2, 2, 2), np.uint8),
        test_labels=np.arange(2),
    )
    change, message = NPZ_DAMAGES[case]
    path = tmp_path / "own.npz"
    np.savez(path, **good)
    read_custom_data(path)
    np.savez(path, **{name: array for name, array in (good | change).items() if array is not None})
    with pytest.raises(InputError, match=f"{path}: .*{message}"):
        read_custom_data(path)


def test_damaged_npz_at_every_length(tmp_path: Path) -> None:
    path = tmp_path / "own.npz"
    true.write_npz(path, *own_splits(3))
    whole = path.read_bytes()
    for length in [0, 1, *range(2, len(whole), 97)]:
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=f"{path}: is damaged or no npz"):
            read_custom_data(path)
    path.write_bytes(whole.replace(b"'descr': '|u1'", b"'descr': '|x1'"))
    with pytest.raises(InputError, match="is damaged"):
        read_custom_data(path)
    np.save(tmp_path / "array.npy", np.zeros(3))
    (tmp_path / "array.npy").rename(path)
    with pytest.raises(InputError, match="is damaged or no npz"):
        read_custom_data(path)


PIXELS = np.arange(12, dtype=np.uint8).reshape(1, 3, 4)
PNG = true.image_bytes(PIXELS)


def png_of(image: Image.Image, **settings: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **settings)
    return buffer.getvalue()


IMAGE_DAMAGES: dict[str, tuple[dict[str, bytes | None], str]] = {
    "not an image": ({"train/a/2.png": b"text"}, r"train/a/2.png cannot be decoded \(not a PNG or JPEG\)"),
    "cut header": ({"train/a/2.png": PNG[:20]}, "train/a/2.png cannot be decoded"),
    "cut data": ({"test/a/1.png": PNG[:-25]}, "test/a/1.png cannot be decoded"),
    "broken chunk": ({"train/a/2.png": PNG[:8] + b"\0\0\0\1IHDR" + PNG[16:]}, "train/a/2.png cannot be decoded"),
    # PIL reports this one, a chunk whose length is too small, as a SyntaxError.
    "wrong length": (
        {"train/a/2.png": PNG[: PNG.index(b"IDAT") - 1] + b"\x0a" + PNG[PNG.index(b"IDAT") :]},
        "train/a/2.png cannot be decoded",
    ),
    "broken data": ({"test/a/1.png": PNG.replace(b"IDAT", b"IDXT")}, "test/a/1.png cannot be decoded"),
    "empty file": ({"train/a/2.png": b""}, "train/a/2.png cannot be decoded"),
    "other size": ({"train/b/0.png": true.image_bytes(PIXELS[:, :2])}, "train/b/0.png is 4x2 and test/a/1.png 4x3"),
    "transparent": ({"train/a/2.png": true.image_bytes(np.zeros((4, 3, 4), np.uint8))}, "train/a/2.png has mode RGBA"),
    "16 bit": ({"train/a/2.png": png_of(Image.fromarray(np.zeros((3, 4), np.uint16)))}, "train/a/2.png has mode I;16"),
    "one transparent grey": (
        {"train/a/2.png": png_of(Image.fromarray(PIXELS[0]), transparency=3)},
        "train/a/2.png has mode L or transparency",
    ),
    "other kind": ({"train/a/2.bmp": PNG}, "train/a/2.bmp is not expected"),
    "too deep": ({"train/a/x/2.png": PNG}, "train/a/x/? ?.* is not expected"),
    "no class": ({"test/2.png": PNG}, "test/2.png is not expected"),
    "class in train only": ({"train/c/1.png": PNG}, "class c has images in train/ and none in test/"),
    "class in test only": ({"test/c/1.png": PNG}, "class c has images in test/ and none in train/"),
    "no test": ({"test/a/1.png": None, "test/b/1.png": None}, "holds no image in test/"),
}


@pytest.mark.parametrize("form", ["folder", "zip"])
@pytest.mark.parametrize("case", IMAGE_DAMAGES)
def test_wrong_images(tmp_path: Path, case: str, form: str) -> None:
    change, message = IMAGE_DAMAGES[case]
    good = {f"{part}/{kind}/1.png": PNG for part in ("train", "test") for kind in "ab"}
    write, path = {"folder": (true.write_folder, tmp_path / "own"), "zip": (true.write_zip, tmp_path / "own.zip")}[form]
    write(tmp_path / f"good-{path.name}", good)
    read_custom_data(tmp_path / f"good-{path.name}")
    write(path, {name: content for name, content in (good | change).items() if content is not None})
    with pytest.raises(InputError, match=f"{path}: {message}") as caught:
        read_custom_data(path)
    assert "\n" not in str(caught.value) and caught.value.__class__ is InputError


def test_empty_class(tmp_path: Path) -> None:
    good = {f"{part}/{kind}/1.png": PNG for part in ("train", "test") for kind in "ab"}
    true.write_folder(tmp_path / "own", good)
    (tmp_path / "own/train/c").mkdir()
    true.write_zip(tmp_path / "zipped.zip", good | {"test/c/": b""})
    with pytest.raises(InputError, match="own/train/c: holds no image"):
        read_custom_data(tmp_path / "own")
    with pytest.raises(InputError, match="zipped.zip: test/c holds no image"):
        read_custom_data(tmp_path / "zipped.zip")


@pytest.mark.parametrize("name", ["/train/a/1.png", "../train/a/1.png", "train/../a.png", "C:/a.png", "train\\a.png"])
def test_zip_that_points_outside(tmp_path: Path, name: str) -> None:
    true.write_zip(tmp_path / "own.zip", {"train/a/1.png": PNG, "test/a/1.png": PNG, name: PNG})
    with pytest.raises(InputError, match="points outside"):
        read_custom_data(tmp_path / "own.zip")


def test_zip_with_a_link_a_name_twice_a_password_or_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "own.zip"
    good = {"train/a/1.png": PNG, "test/a/1.png": PNG}
    true.write_zip(path, good)
    link = zipfile.ZipInfo("train/a/2.png")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(InputError, match="is a symbolic link"):
        read_custom_data(path)

    true.write_zip(path, good)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("train/a/1.png", PNG)
    with pytest.raises(InputError, match="holds train/a/1.png twice"):
        read_custom_data(path)

    true.write_zip(path, good)
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1  # the flag "encrypted" of the first central record
    path.write_bytes(content)
    with pytest.raises(InputError, match="train/a/1.png cannot be decoded .*is encrypted"):
        read_custom_data(path)

    true.write_zip(path, good)
    monkeypatch.setattr(custom, "ZIP_LIMIT", 2 * len(PNG) - 1)
    with pytest.raises(InputError, match="unpacks to more than"):
        read_custom_data(path)
    wide = true.image_bytes(np.zeros((1, 100, 100), np.uint8))
    true.write_zip(path, {name: wide for name in good})
    monkeypatch.setattr(custom, "ZIP_LIMIT", 2 * 100 * 100 - 1)
    with pytest.raises(InputError, match="of pixels; a zip may not"):
        read_custom_data(path)


def test_damaged_zip_at_every_length(tmp_path: Path) -> None:
    path = tmp_path / "own.zip"
    true.write_zip(path, true.png_files(*own_splits(1), CLASSES))
    whole = path.read_bytes()
    for length in range(0, len(whole), 61):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=f"{path}: is no zip or is damaged"):
            read_custom_data(path)
    first = whole.index(b"IHDR") if b"IHDR" in whole else 60
    path.write_bytes(whole[:first] + bytes([whole[first] ^ 255]) + whole[first + 1 :])
    with pytest.raises(InputError, match=r"00000.png cannot be decoded|00\d\d\d.png cannot be decoded"):
        read_custom_data(path)


def test_unreadable_paths(tmp_path: Path) -> None:
    for path in (tmp_path / "gone.npz", tmp_path / "gone.zip", tmp_path / "gone"):
        with pytest.raises(InputError, match=f"{path}: "):
            read_custom_data(path)
        with pytest.raises(InputError, match=f"{path}: cannot be read"):
            data_digest(path)
