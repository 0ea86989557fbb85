"""The data sets: fetched once (on a login node) and loaded as uint8 tensors.

What is read, below the data root:

    fmnist    FashionMNIST/raw/{train,t10k}-{images-idx3,labels-idx1}-ubyte
    mnist     MNIST/raw/{train,t10k}-{images-idx3,labels-idx1}-ubyte
    svhn      SVHN/train_32x32.mat, SVHN/test_32x32.mat (no `extra`: section 4.1 of the paper)
    cifar10   cifar-10-batches-py/*, else cifar-10-batches-bin/*.bin, else cifar-10-binary.tar.gz
    others    a person's own images: see own_data.py

Every file of the first four is held against the MD5 sum of the official one before it is parsed; so the pickles
of CIFAR10 are only ever read when they are the official ones. torch and torchvision are imported in functions.
"""

from __future__ import annotations

import difflib
import gzip
import hashlib
import http.client
import io
import os
import shlex
import shutil
import socket
import tarfile
import tempfile
import warnings
import zlib
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dc_hpc.data.catalog import DATASETS
from dc_hpc.data.custom import FORMS as OWN_FORMS
from dc_hpc.data.custom import KNOWN, find_custom_data, read_custom_data
from dc_hpc.errors import InputError

if TYPE_CHECKING:
    import torch

# The MD5 sums of the official files, as they are read. Of the idx sets: of the uncompressed files, since Debian's
# package and the authors' server hold the same bytes under different gzip headers.
OFFICIAL = {
    "fmnist": {
        "FashionMNIST/raw/train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "FashionMNIST/raw/train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
        "FashionMNIST/raw/t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
        "FashionMNIST/raw/t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
    },
    "mnist": {
        "MNIST/raw/train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "MNIST/raw/train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "MNIST/raw/t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "MNIST/raw/t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    },
    "svhn": {
        "SVHN/train_32x32.mat": "e26dedcc434d2e4c54c9b2d4a06d8373",
        "SVHN/test_32x32.mat": "eb5a983be6a315427106f1b164d9cef3",
    },
    "cifar10": {
        "cifar-10-batches-py/data_batch_1": "c99cafc152244af753f735de768cd75f",
        "cifar-10-batches-py/data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "cifar-10-batches-py/data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "cifar-10-batches-py/data_batch_4": "634d18415352ddfa80567beed471001a",
        "cifar-10-batches-py/data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        "cifar-10-batches-py/test_batch": "40351d587109b95175f43aff81a1287e",
        "cifar-10-batches-py/batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
    },
    "cifar10-binary": {
        "cifar-10-batches-bin/data_batch_1.bin": "5dd7e06a14cb22eb9f671a540d1b7c25",
        "cifar-10-batches-bin/data_batch_2.bin": "5ea93a67294ea407fff1d09f752e9692",
        "cifar-10-batches-bin/data_batch_3.bin": "942cd6a4bcdd0dd3c604fbe906cb4421",
        "cifar-10-batches-bin/data_batch_4.bin": "ae636b3ba5c66a11e91e8cb52e771fcb",
        "cifar-10-batches-bin/data_batch_5.bin": "53f37980c15c3d472c316c40844f3f0d",
        "cifar-10-batches-bin/test_batch.bin": "803d5f7f4d78ea53de84dbe85f74fb6d",
    },
}
ARCHIVES = {"cifar10": "cifar-10-python.tar.gz", "cifar10-binary": "cifar-10-binary.tar.gz"}
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
BY_HAND = {
    "fmnist": "install Debian's package (apt-get install dataset-fashion-mnist), "
    "put the four *-ubyte.gz files into {root}/FashionMNIST/raw",
    "mnist": "put the four *-ubyte.gz files into {root}/MNIST/raw",
    "svhn": "put train_32x32.mat and test_32x32.mat into {root}/SVHN",
    "cifar10": "put cifar-10-python.tar.gz or cifar-10-binary.tar.gz into {root}",
}
MEMBER_LIMIT = 64 * 2**20
STALL_SECONDS = 60.0
# What gzip, tarfile, urllib and torchvision raise when a source is damaged or out of reach.
FAILURES = (OSError, EOFError, RuntimeError, ValueError, zlib.error, tarfile.TarError, http.client.HTTPException)


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
    """Return one of `KNOWN` or a person's own images. Reads only; raises InputError if missing or damaged."""
    root = Path(root)
    if name in KNOWN:
        return _load_known(name, root)
    path = find_custom_data(name, root)
    if path is None:
        raise _no_such_set(name, root)
    own = read_custom_data(path)
    train, test = (own.train_images, own.train_labels), (own.test_images, own.test_labels)
    return _dataset(name, train, test, len(own.classes))


def verify(name: str, root: str | Path) -> tuple[int, int]:
    """Whether a data set is whole, without torch: (channels, training images), or InputError."""
    root = Path(root)
    if name in KNOWN:
        if name != "cifar10" or (root / "cifar-10-batches-py").is_dir() or not _has_cifar10_binary(root):
            _refuse(faults(OFFICIAL[name], root), name, root)
        else:
            _cifar10_binary_files(root)
        return DATASETS[name]
    path = find_custom_data(name, root)
    if path is None:
        raise _no_such_set(name, root)
    images = read_custom_data(path).train_images
    return images.shape[1], len(images)


def faults(sums: dict[str, str], root: Path) -> list[str]:
    """Say what is wrong with each file of {relative path: MD5} that is not there or not as it should be."""
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


# ---- loading


def _load_known(name: str, root: Path) -> Dataset:
    if name == "cifar10" and not (root / "cifar-10-batches-py").is_dir() and _has_cifar10_binary(root):
        return _load_cifar10_binary(root)
    _refuse(faults(OFFICIAL[name], root), name, root)
    if name == "svhn":
        return _load_svhn(root)
    if name == "cifar10":
        return _load_cifar10(root)
    return _load_idx(name, root)


def _refuse(found: list[str], name: str, root: Path) -> None:
    if found:
        raise _refusal(found[0], name, root)


def _refusal(found: str, name: str, root: Path) -> InputError:
    return InputError(f"{found}; run: python -m dc_hpc.fetch {name} --data {shlex.quote(str(root))}")


def _load_idx(name: str, root: Path) -> Dataset:
    # Not torchvision's MNIST: importing it costs every run more than a second, and the class prefers the `processed`
    # folder of its old versions, if there is one, to the files whose sums have just been verified.
    train_images, train_labels, test_images, test_labels = (_read_idx(root / file) for file in OFFICIAL[name])
    return _dataset(name, (train_images[:, None], train_labels), (test_images[:, None], test_labels), 10)


def _read_idx(path: Path) -> np.ndarray:
    """The uint8 array of a verified file: the fourth byte is the number of axes, then each length, big-endian."""
    content = np.fromfile(path, np.uint8)
    axes = int(content[3])
    shape = content[4 : 4 + 4 * axes].view(">i4")
    return content[4 + 4 * axes :].reshape(shape)


def _load_svhn(root: Path) -> Dataset:
    from torchvision.datasets import SVHN

    train, test = (SVHN(root / "SVHN", split=split, download=False) for split in ("train", "test"))
    return _dataset("svhn", (train.data, train.labels), (test.data, test.labels), 10)


def _load_cifar10(root: Path) -> Dataset:
    from torchvision.datasets import CIFAR10

    with warnings.catch_warnings():
        # The official pickles spell a dtype in an old way that numpy 2.4.0 to 2.4.4 warn about.
        warnings.filterwarnings("ignore", message=".*align", category=Warning)
        train, test = (CIFAR10(root, train=part, download=False) for part in (True, False))
    train, test = ((part.data.transpose(0, 3, 1, 2), np.array(part.targets)) for part in (train, test))
    return _dataset("cifar10", train, test, 10)


def _no_such_set(name: str, root: Path) -> InputError:
    near = difflib.get_close_matches(name, KNOWN, n=1)
    return InputError(
        f"data set {name!r}{f' (did you mean {near[0]}?)' if near else ''} is not in {root}; allowed are "
        f"{', '.join(KNOWN)} or own images there: {OWN_FORMS}"
    )


def _has_cifar10_binary(root: Path) -> bool:
    return (root / "cifar-10-batches-bin").is_dir() or (root / ARCHIVES["cifar10-binary"]).is_file()


def _cifar10_binary_files(root: Path) -> dict[str, bytes]:
    """The six official files, from the folder or else from the archive, verified."""
    sums, archive = OFFICIAL["cifar10-binary"], root / ARCHIVES["cifar10-binary"]
    if (root / "cifar-10-batches-bin").is_dir():
        _refuse(faults(sums, root), "cifar10", root)
        return {file: (root / file).read_bytes() for file in sums}
    try:
        files = _archive_members(archive, list(sums))
    except FAILURES as error:
        raise _refusal(f"{archive} is damaged ({error})", "cifar10", root) from None
    digests = {file: hashlib.md5(content, usedforsecurity=False).hexdigest() for file, content in files.items()}
    wrong = [file for file, md5 in sums.items() if digests[file] != md5]
    _refuse([f"{file} in {archive} is damaged or not the official file" for file in wrong], "cifar10", root)
    return files


def _load_cifar10_binary(root: Path) -> Dataset:
    files = _cifar10_binary_files(root)
    # One record: a byte with the label, then the red, green and blue plane, 32 rows of 32 each.
    batches = [np.frombuffer(content, np.uint8).reshape(-1, 3073) for content in files.values()]
    parts = np.concatenate(batches[:5]), batches[5]
    train, test = ((part[:, 1:].reshape(-1, 3, 32, 32), part[:, 0]) for part in parts)
    return _dataset("cifar10", train, test, 10)


def _dataset(
    name: str, train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray], classes: int
) -> Dataset:
    import torch

    # The copies where needed ("C", "W") make one contiguous tensor of a transposed or read-only array.
    images = [torch.from_numpy(np.require(part[0], np.uint8, "CW")) for part in (train, test)]
    labels = [torch.from_numpy(np.require(part[1], np.int64, "CW")) for part in (train, test)]
    return Dataset(name, images[0], labels[0], images[1], labels[1], classes)


# ---- fetching


def fetch(name: str, root: str | Path, *, report: Callable[[str], None] = print) -> None:
    """Have the official files of one of `KNOWN` in the data root, verified; fetch them if they are not there.

    Files that verify are left alone. Otherwise the sources are tried in order: compressed files put there by
    hand, Debian's package (fmnist), torchvision's download. What arrives is complete and verified before it is
    moved to its place, file by file. Raises InputError that tells what to do by hand when no source works.
    """
    if name not in KNOWN:
        raise InputError(f"data set {name!r} cannot be fetched; allowed are {', '.join(KNOWN)}; own images need none")
    root = Path(root)
    for form in [form for form in OFFICIAL if form in (name, f"{name}-binary")]:
        if not faults(OFFICIAL[form], root):
            report(f"{name}: is there and verified ({_place(form, root)})")
            return
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=root) as temporary:
            stage, form, source = _fill(name, root, Path(temporary), report)
            for file in OFFICIAL[form]:
                (root / file).parent.mkdir(parents=True, exist_ok=True)
                os.replace(stage / file, root / file)
    except OSError as error:
        raise InputError(f"{root}: cannot be written ({error}); give another folder with --data") from error
    report(f"{name}: fetched from {source} and verified ({_place(form, root)})")


def _place(form: str, root: Path) -> Path:
    return (root / next(iter(OFFICIAL[form]))).parent


def _fill(name: str, root: Path, temporary: Path, report: Callable[[str], None]) -> tuple[Path, str, str]:
    """Try the sources until one gives files that verify; return their folder, their form, the source's name."""
    reasons = []
    for source, form, fill in _sources(name, root):
        stage = temporary / str(len(reasons))
        stage.mkdir()
        report(f"{name}: trying {source}")
        try:
            fill(stage)
        except FAILURES as error:
            reasons.append(f"{source}: {error}")
            continue
        wrong = faults(OFFICIAL[form], stage)
        if not wrong:
            return stage, form, source
        reasons.append(f"{source}: {wrong[0]}")
    raise InputError(
        f"{name} could not be fetched: {BY_HAND[name].format(root=root)}, or run this command on a machine with "
        f"internet; what was tried: {'; '.join(reasons)}"
    )


def _sources(name: str, root: Path) -> list[tuple[str, str, Callable[[Path], None]]]:
    """(its name, key in OFFICIAL, function that fills a folder) of each source that may have the files."""
    sources: list[tuple[str, str, Callable[[Path], None]]] = []
    if name in ("fmnist", "mnist"):
        for folder in [_place(name, root)] + [DEBIAN] * (name == "fmnist"):
            if any(folder.glob("*-ubyte.gz")):
                sources.append((f"{folder}/*.gz", name, partial(_gunzip, name, folder)))
    for form in [form for form in ARCHIVES if name == "cifar10"]:
        archive = root / ARCHIVES[form]
        if archive.is_file():
            sources.append((str(archive), form, partial(_untar, form, archive)))
    return [*sources, ("torchvision's download", name, partial(_download, name))]


def _gunzip(name: str, folder: Path, stage: Path) -> None:
    for file in map(Path, OFFICIAL[name]):
        (stage / file).parent.mkdir(parents=True, exist_ok=True)
        with gzip.open(folder / f"{file.name}.gz") as source, (stage / file).open("wb") as target:
            shutil.copyfileobj(source, target)


def _untar(form: str, archive: Path, stage: Path) -> None:
    for file, content in _archive_members(archive, list(OFFICIAL[form])).items():
        (stage / file).parent.mkdir(parents=True, exist_ok=True)
        (stage / file).write_bytes(content)


def _archive_members(archive: Path, names: list[str]) -> dict[str, bytes]:
    """Read the named plain files of a tar.gz in one pass, in the order of `names`, writing nothing."""
    contents = {}
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar:
            if member.name in names and member.isreg() and member.size <= MEMBER_LIMIT:
                contents[member.name] = tar.extractfile(member).read()
    missing = [name for name in names if name not in contents]
    if missing:
        raise tarfile.TarError(f"lacks {missing[0]}")
    return {name: contents[name] for name in names}


def _download(name: str, stage: Path) -> None:
    """Have torchvision download one set into `stage`, without its progress bars and with an end to waiting."""
    from torchvision.datasets import CIFAR10, MNIST, SVHN, FashionMNIST

    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(STALL_SECONDS)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if name == "svhn":
                for split in ("train", "test"):
                    SVHN(stage / "SVHN", split=split, download=True)
            else:
                {"fmnist": FashionMNIST, "mnist": MNIST, "cifar10": CIFAR10}[name](stage, download=True)
    finally:
        socket.setdefaulttimeout(before)
