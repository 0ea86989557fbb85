"""Loads official data sets, and a person's own images, as uint8 tensors.

What is read, below the data root:

    fmnist    FashionMNIST/raw/{train,t10k}-{images-idx3,labels-idx1}-ubyte
    mnist     MNIST/raw/{train,t10k}-{images-idx3,labels-idx1}-ubyte
    svhn      SVHN/train_32x32.mat, SVHN/test_32x32.mat (no `extra`: section 4.1 of the paper)
    cifar10   cifar-10-batches-py/*, else cifar-10-batches-bin/*.bin, else cifar-10-binary.tar.gz: the first whole one
    others    a person's own images: see custom.py

Every file of an official set is checked against the MD5 sum in the catalogue before it is parsed; so the pickles of
CIFAR10 are read only when they are the official ones. torch and torchvision are imported in functions.
"""

from __future__ import annotations

import difflib
import hashlib
import http.client
import shlex
import tarfile
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from dc_hpc.data.catalog import DATASETS, Form
from dc_hpc.data.custom import FORMS as CUSTOM_FORMS
from dc_hpc.data.custom import find_custom_data, read_custom_data
from dc_hpc.errors import InputError

if TYPE_CHECKING:
    import torch

MEMBER_LIMIT = 64 * 2**20
# What gzip, tarfile, urllib and torchvision raise when a source is damaged or out of reach.
FAILURES = (OSError, EOFError, RuntimeError, ValueError, zlib.error, tarfile.TarError, http.client.HTTPException)

_Part = tuple[npt.NDArray[np.generic], npt.NDArray[np.generic]]  # images (n, c, h, w), labels (n,)


@dataclass(frozen=True)
class Dataset:
    """Images uint8 (n, c, h, w), labels int64 (n,) in 0..classes-1; all tensors contiguous, on the CPU."""

    name: str
    train_images: torch.Tensor
    train_labels: torch.Tensor
    test_images: torch.Tensor
    test_labels: torch.Tensor
    classes: int


def load(name: str, root: str | Path) -> Dataset:
    """Return an official data set or a person's own images. Reads only; raises InputError if missing or damaged."""
    root = Path(root)
    if name in DATASETS:
        files = _files_at_hand(name, root)
        train, test = READERS[files.form.reader](files)
        return _dataset(name, train, test, DATASETS[name].classes)
    own = read_custom_data(_own_path(name, root))
    train, test = (own.train_images, own.train_labels), (own.test_images, own.test_labels)
    return _dataset(name, train, test, len(own.classes))


def verify(name: str, root: str | Path) -> tuple[int, int]:
    """Whether a data set is whole, without torch: (channels, training images), or InputError."""
    root = Path(root)
    if name in DATASETS:
        _files_at_hand(name, root)
        return DATASETS[name].channels, DATASETS[name].train_images
    images = read_custom_data(_own_path(name, root)).train_images
    return images.shape[1], len(images)


def faults(sums: dict[str, str], root: Path) -> list[str]:
    """What is wrong with each file of {relative path: MD5} that is missing or has another sum."""
    found = []
    for file, md5 in sums.items():
        try:
            with (root / file).open("rb") as content:
                digest = hashlib.md5(usedforsecurity=False)
                while chunk := content.read(2**20):
                    digest.update(chunk)
        except FileNotFoundError:
            found.append(f"{root / file} is missing")
        except OSError as error:
            found.append(f"{root / file} cannot be read ({error.strerror})")
        else:
            if digest.hexdigest() != md5:
                found.append(f"{root / file} is damaged or not the official file (its MD5 sum is not {md5})")
    return found


def archive_members(archive: Path, names: list[str]) -> dict[str, bytes]:
    """Read the named plain files of a tar.gz in one pass, in the order of `names`, writing nothing."""
    contents = {}
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar:
            if member.name in names and member.isreg() and member.size <= MEMBER_LIMIT:
                file = tar.extractfile(member)
                assert file is not None, "a regular member has content"
                contents[member.name] = file.read()
    missing = [name for name in names if name not in contents]
    if missing:
        raise tarfile.TarError(f"lacks {missing[0]}")
    return {name: contents[name] for name in names}


@dataclass(frozen=True)
class _Files:
    """The verified files of a form: their paths, or their bytes where they came out of an archive."""

    root: Path
    form: Form
    contents: dict[str, bytes] | None = None

    def read(self) -> list[npt.NDArray[np.uint8]]:
        """The bytes of every file, in the order of the catalogue."""
        if self.contents is None:
            return [np.fromfile(self.root / file, np.uint8) for file in self.form.files]
        return [np.frombuffer(content, np.uint8) for content in self.contents.values()]


def _files_at_hand(name: str, root: Path) -> _Files:
    """The files of the first form that is whole, which `fetch` leaves alone; else of the form that is there."""
    for form in DATASETS[name].forms:
        if not faults(form.files, root):
            return _Files(root, form)
    return _verified(_form_at_hand(name, root), name, root)


def _form_at_hand(name: str, root: Path) -> Form:
    """The form whose folder is there, else that whose archive is read as it is; the first where there is neither."""
    forms = DATASETS[name].forms
    unpacked = [form for form in forms if (root / form.folder).is_dir()]
    packed = [form for form in forms[1:] if form.archive and (root / form.archive).is_file()]
    return (unpacked or packed or list(forms))[0]


def _verified(form: Form, name: str, root: Path) -> _Files:
    """The files of a form, each the official one, or InputError."""
    if form is DATASETS[name].forms[0] or (root / form.folder).is_dir():
        _refuse(faults(form.files, root), name, root)
        return _Files(root, form)
    archive = root / form.archive
    try:
        contents = archive_members(archive, list(form.files))
    except FAILURES as error:
        raise _refusal(f"{archive} is damaged ({error})", name, root) from None
    digests = {file: hashlib.md5(content, usedforsecurity=False).hexdigest() for file, content in contents.items()}
    wrong = [file for file, md5 in form.files.items() if digests[file] != md5]
    _refuse([f"{file} in {archive} is damaged or not the official file" for file in wrong], name, root)
    return _Files(root, form, contents)


def _refuse(found: list[str], name: str, root: Path) -> None:
    if found:
        raise _refusal(found[0], name, root)


def _refusal(found: str, name: str, root: Path) -> InputError:
    return InputError(f"{found}; run: python -m dc_hpc.fetch {name} --data {shlex.quote(str(root))}")


def _own_path(name: str, root: Path) -> Path:
    path = find_custom_data(name, root)
    if path is None:
        near = difflib.get_close_matches(name, DATASETS, n=1)
        raise InputError(
            f"data set {name!r}{f' (did you mean {near[0]}?)' if near else ''} is not in {root}; allowed are "
            f"{', '.join(DATASETS)} or own images there: {CUSTOM_FORMS}"
        )
    return path


def _read_idx_files(files: _Files) -> tuple[_Part, _Part]:
    # Not torchvision's MNIST: importing it costs every run more than a second, and the class prefers the `processed`
    # folder of its old versions, if there is one, to the files whose sums have just been verified.
    train_images, train_labels, test_images, test_labels = map(_parse_idx, files.read())
    return (train_images[:, None], train_labels), (test_images[:, None], test_labels)


def _parse_idx(content: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The array of an idx file: the fourth byte is the number of axes, then each length, big-endian."""
    axes = int(content[3])
    shape = content[4 : 4 + 4 * axes].view(">i4")
    return content[4 + 4 * axes :].reshape(shape)


def _read_svhn(files: _Files) -> tuple[_Part, _Part]:
    from torchvision.datasets import SVHN

    train, test = (SVHN(files.root / "SVHN", split=split, download=False) for split in ("train", "test"))
    return (train.data, train.labels), (test.data, test.labels)


def _read_cifar10(files: _Files) -> tuple[_Part, _Part]:
    from torchvision.datasets import CIFAR10

    with warnings.catch_warnings():
        # The official pickles spell a dtype in an old way that numpy 2.4.0 to 2.4.4 warn about.
        warnings.filterwarnings("ignore", message=".*align", category=Warning)
        parts = [CIFAR10(files.root, train=part, download=False) for part in (True, False)]
    train, test = ((part.data.transpose(0, 3, 1, 2), np.array(part.targets)) for part in parts)
    return train, test


def _read_cifar10_binary(files: _Files) -> tuple[_Part, _Part]:
    # One record: a byte with the label, then the red, green and blue plane, 32 rows of 32 each.
    batches = [content.reshape(-1, 3073) for content in files.read()]
    parts = np.concatenate(batches[:5]), batches[5]
    train, test = ((part[:, 1:].reshape(-1, 3, 32, 32), part[:, 0]) for part in parts)
    return train, test


READERS: dict[str, Callable[[_Files], tuple[_Part, _Part]]] = {
    "idx": _read_idx_files,
    "svhn": _read_svhn,
    "cifar10": _read_cifar10,
    "cifar10-binary": _read_cifar10_binary,
}


def _dataset(name: str, train: _Part, test: _Part, classes: int) -> Dataset:
    import torch

    # The copies where needed (C, W) make one contiguous tensor of a transposed or read-only array.
    images = [torch.from_numpy(np.require(part[0], np.uint8, ["C", "W"])) for part in (train, test)]
    labels = [torch.from_numpy(np.require(part[1], np.int64, ["C", "W"])) for part in (train, test)]
    return Dataset(name, images[0], labels[0], images[1], labels[1], classes)
