"""Small data sets in the formats of the official ones, byte for byte, so that the real reading code runs.

Images are uint8 (n, c, h, w) and labels (n,) everywhere here, whatever the order of the format is.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import struct
import tarfile
import zipfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import scipy.io
from PIL import Image

from dc_hpc.data.catalog import DATASETS, Form

Split = tuple[np.ndarray, np.ndarray]  # images, labels

IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
CIFAR10_CLASSES = "airplane automobile bird cat deer dog frog horse ship truck".split()


def random_split(n: int, shape: tuple[int, int, int], seed: int, classes: int = 10) -> Split:
    """n random images (c, h, w) and their labels; each class occurs if n >= classes."""
    draw = np.random.default_rng(seed)
    labels = draw.permutation(np.arange(n) % classes)
    return draw.integers(0, 256, (n, *shape), dtype=np.uint8), labels


def idx_bytes(array: np.ndarray) -> bytes:
    """The idx format of MNIST: two zero bytes, 8 for uint8, the number of dimensions, big-endian sizes, the data."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def write_idx(folder: Path, train: Split, test: Split, *, compressed: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    arrays = (train[0][:, 0], train[1], test[0][:, 0], test[1])
    for name, array in zip(IDX_FILES, arrays):
        content = idx_bytes(array)
        if compressed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)


def write_svhn(folder: Path, train: Split, test: Split) -> None:
    """MATLAB files with X uint8 (32, 32, 3, n) and y uint8 (n, 1), where the digit zero has label 10."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, (images, labels) in (("train", train), ("test", test)):
        y = np.where(labels == 0, 10, labels).astype(np.uint8)[:, None]
        content = {"X": images.transpose(2, 3, 1, 0), "y": y}
        scipy.io.savemat(folder / f"{part}_32x32.mat", content, do_compression=True)


def write_cifar10_python(root: Path, train: Split, test: Split, *, archive: bool = False) -> None:
    files = {name: _python2_batch(*part) for name, part in _batches(train, test).items()}
    names = b"".join(_python2_string(name.encode()) for name in CIFAR10_CLASSES)
    files["batches.meta"] = b"\x80\x02}" + _python2_string(b"label_names") + b"](" + names + b"es."
    _write(root, "cifar-10-batches-py", files, "cifar-10-python.tar.gz" if archive else None)


def write_cifar10_binary(root: Path, train: Split, test: Split, *, archive: bool = False) -> None:
    """Records of 3,073 bytes: the label, then the three planes."""
    files = {}
    for name, (images, labels) in _batches(train, test).items():
        records = np.concatenate([labels[:, None].astype(np.uint8), images.reshape(len(images), -1)], axis=1)
        files[f"{name}.bin"] = records.tobytes()
    files["batches.meta.txt"] = "\n".join([*CIFAR10_CLASSES, ""]).encode()
    _write(root, "cifar-10-batches-bin", files, "cifar-10-binary.tar.gz" if archive else None)


def _batches(train: Split, test: Split) -> dict[str, Split]:
    images, labels = (np.array_split(array, 5) for array in train)
    parts = {f"data_batch_{i + 1}": part for i, part in enumerate(zip(images, labels))}
    return {**parts, "test_batch": test}


def _python2_batch(images: np.ndarray, labels: np.ndarray) -> bytes:
    """The pickle that Python 2 and its numpy wrote: byte strings, `numpy.core`, a dtype whose flags are 0 and 1.

    Python 3 can no longer write these opcodes, and a modern pickle would not show how readers handle the old ones.
    """
    n, width = len(images), images[0].size
    dtype = b"cnumpy\ndtype\n" + _python2_string(b"u1") + b"K\x00K\x01\x87R"
    dtype += b"(K\x03" + _python2_string(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    shape = b"J" + struct.pack("<i", n) + b"J" + struct.pack("<i", width) + b"\x86"
    data = b"T" + struct.pack("<i", images.size) + images.tobytes()
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + _python2_string(b"b") + b"\x87R"
    array += b"(K\x01" + shape + dtype + b"\x89" + data + b"tb"
    numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return b"\x80\x02}(" + _python2_string(b"data") + array + _python2_string(b"labels") + numbers + b"u."


def _python2_string(text: bytes) -> bytes:
    return b"U" + bytes([len(text)]) + text


def _write(root: Path, folder: str, files: dict[str, bytes], archive: str | None) -> None:
    root.mkdir(parents=True, exist_ok=True)
    if archive is None:
        (root / folder).mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (root / folder / name).write_bytes(content)
        return
    with tarfile.open(root / archive, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def md5_of(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


# ---- custom data sets


def write_npz(path: Path, train: Split, test: Split) -> None:
    """Channels last; grey images as (n, h, w)."""
    images = [part[0][:, 0] if part[0].shape[1] == 1 else part[0].transpose(0, 2, 3, 1) for part in (train, test)]
    np.savez(path, train_images=images[0], train_labels=train[1], test_images=images[1], test_labels=test[1])


def png_files(train: Split, test: Split, classes: list[str]) -> dict[str, bytes]:
    """{train/CLASS/00007.png: content}; the files of a class are in the order of the images."""
    files = {}
    for part, (images, labels) in (("train", train), ("test", test)):
        for i, (image, label) in enumerate(zip(images, labels)):
            files[f"{part}/{classes[label]}/{i:05d}.png"] = image_bytes(image)
    return files


def image_bytes(image: np.ndarray, kind: str = "PNG") -> bytes:
    """uint8 (c, h, w) with c = 1 (grey), 3 (RGB) or 4 (RGBA)."""
    buffer = io.BytesIO()
    Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0)).save(buffer, kind)
    return buffer.getvalue()


def write_folder(path: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)


def write_zip(path: Path, files: dict[str, bytes], prefix: str = "") -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(prefix + name, content)


def count_as_official(monkeypatch, root: Path, forms: Iterable[str]) -> None:
    """Make the checksum tables of dc_hpc and torchvision accept the small files below `root` as the official ones."""
    import torchvision

    sums = {name: {file: md5_of(root / file) for file in official_form(name).files} for name in forms}
    for name, dataset in DATASETS.items():
        changed = tuple(
            replace(form, files=sums[_form_name(name, form)]) if _form_name(name, form) in sums else form
            for form in dataset.forms
        )
        monkeypatch.setitem(DATASETS, name, replace(dataset, forms=changed))
    if "svhn" in sums:
        split_list = {
            part: ["nowhere", f"{part}_32x32.mat", sums["svhn"][f"SVHN/{part}_32x32.mat"]] for part in ("train", "test")
        }
        monkeypatch.setattr(torchvision.datasets.SVHN, "split_list", split_list)
    if "cifar10" in sums:
        batches = [[Path(file).name, md5] for file, md5 in sums["cifar10"].items()]
        monkeypatch.setattr(torchvision.datasets.CIFAR10, "train_list", batches[:5])
        monkeypatch.setattr(torchvision.datasets.CIFAR10, "test_list", batches[5:6])
        meta = {"filename": "batches.meta", "key": "label_names", "md5": batches[6][1]}
        monkeypatch.setattr(torchvision.datasets.CIFAR10, "meta", meta)


def official_form(name: str) -> Form:
    """The form of a data set's official files: `cifar10-binary` is the second one of CIFAR10."""
    found = {_form_name(one, form): form for one, dataset in DATASETS.items() for form in dataset.forms}
    return found[name]


def without_system_package(monkeypatch) -> None:
    """Let no package of the system have any of the data sets."""
    for name, dataset in DATASETS.items():
        monkeypatch.setitem(DATASETS, name, replace(dataset, package=None))


def _form_name(name: str, form: Form) -> str:
    return form.reader if form.reader.startswith(name) else name
