"""A person's own images: one npz file, one folder or one zip in the data root. Imports no torch.

    ROOT/NAME.npz    train_images, train_labels, test_images, test_labels
    ROOT/NAME/       train/CLASS/*.png|jpg|jpeg and test/CLASS/*.png|jpg|jpeg
    ROOT/NAME.zip    the same folder, zipped (its content, or the folder itself)

All problems are `InputError`s of one line that name the file and what is allowed. Nothing is unpacked to disk and
no pickle is read.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dc_hpc.data.image_files import DAMAGE, is_turned, pixels, size_and_channels, undecodable
from dc_hpc.data.zip_files import PARTS, folders_of, image_members, is_litter
from dc_hpc.errors import InputError

ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")
SUFFIXES = (".png", ".jpg", ".jpeg")
ZIP_LIMIT = 4 * 2**30
NPZ_RATIO = 20  # images pack ten to one at best; a bomb a thousand to one
LAYOUT = "train/CLASS/*.png|jpg|jpeg and test/CLASS/*.png|jpg|jpeg"
FORMS = f"NAME.npz with {', '.join(ARRAYS)}, or NAME/ or NAME.zip with {LAYOUT}"

_NO_TIME = (1980, 1, 1, 0, 0, 0)  # the first one that a zip can hold


@dataclass(frozen=True)
class Arrays:
    """Images uint8 (n, c, h, w) with c = 1 or 3; labels int64 (n,), each an index into `classes`."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    classes: tuple[str, ...]


def find_custom_data(name: str, root: str | Path) -> Path | None:
    """Return the npz, folder or zip called `name` in the data root, None if there is none.

    Raises InputError for a name that is not a plain file name and when more than one form is there.
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}", name):
        raise InputError(
            f"data set name {name!r}: allowed are 1 to 64 of A-Z a-z 0-9 . _ - with no leading dot or dash; "
            "rename the file or folder"
        )
    root = Path(root)
    files = [path for path in (root / f"{name}.npz", root / f"{name}.zip") if path.is_file()]
    found = files + [root / name] * (root / name).is_dir()
    if len(found) > 1:
        forms = " and ".join(map(str, found))
        raise InputError(f"{forms} are there together: only one form is allowed; move the others away")
    return found[0] if found else None


def data_digest(path: str | Path) -> str:
    """Return the SHA-256 (64 hex digits) of names and contents, which no time stamp, order or compression changes.

    Of a folder or zip: of the names PART/CLASS/FILE and the bytes of its images, so both have the same one. Of an npz:
    of the file as numpy.savez writes it. Raises InputError: the data cannot be read.
    """
    path = Path(path)
    try:
        return _npz_digest(path) if path.suffix == ".npz" and not path.is_dir() else _images_digest(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error}); allowed: {FORMS}") from error


def is_digest_of(path: str | Path, digest: str) -> bool:
    """Whether a digest is that of the data, or the one that version 0.1 gave a file: the SHA-256 of its bytes."""
    path = Path(path)
    if digest == data_digest(path):
        return True
    return path.is_file() and digest == _sha256(path) and not (path.suffix == ".zip" and _holds_turned(path))


def _holds_turned(path: Path) -> bool:
    with image_files(path) as (names, read):
        return any(is_turned(f"{path}: {name}", _content(path, name, read)) for name in names)


def _images_digest(path: Path) -> str:
    whole = hashlib.sha256()
    with image_files(path) as (names, read):
        for name in names:
            content = _content(path, name, read)
            # The name's length and a digest of fixed size: no two folders give the same stream.
            whole.update(f"{len(name.encode())}:{name}".encode())
            whole.update(hashlib.sha256(content).digest())
            if is_turned(f"{path}: {name}", content):
                whole.update(b"turned")  # version 0.1 read the file as it is stored
    return whole.hexdigest()


def _npz_digest(path: Path) -> str:
    if all(one.compress_type == zipfile.ZIP_STORED and one.date_time == _NO_TIME for one in _members(path)):
        return _sha256(path)  # numpy.savez has written it, or it is no npz
    arrays: Any = npz_arrays(path)
    with tempfile.TemporaryFile() as file:
        np.savez(file, **arrays)
        file.seek(0)
        return hashlib.file_digest(file, "sha256").hexdigest()


def _members(path: Path) -> list[zipfile.ZipInfo]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError):
        return []


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_custom_data(path: str | Path) -> Arrays:
    """Return the images and labels in a npz, folder or zip that `find_custom_data` found.

    npz: images uint8 (n, h, w) or (n, h, w, c), labels any non-negative integers (n,); the distinct labels in
    ascending order become the classes. Folder and zip: the classes are the sorted folder names; images are grey
    (c = 1) if all files are, else RGB. Raises InputError for everything else.
    """
    path = Path(path)
    if path.suffix == ".npz" and not path.is_dir():
        return _read_npz(path)
    with image_files(path) as (names, read):
        return _read_images(path, names, read)


# ---- npz


def _read_npz(path: Path) -> Arrays:
    arrays = npz_arrays(path)
    images = {}
    for part in ("train", "test"):
        pixels, labels = arrays[f"{part}_images"], arrays[f"{part}_labels"]
        _check_images(path, f"{part}_images", pixels)
        _check_labels(path, f"{part}_labels", labels, len(pixels))
        channels_last = pixels[..., None] if pixels.ndim == 3 else pixels
        images[part] = np.ascontiguousarray(channels_last.transpose(0, 3, 1, 2))
    sizes = [images[part].shape[1:] for part in ("train", "test")]
    if sizes[0] != sizes[1]:
        raise InputError(
            f"{path}: train_images are (c, h, w) = {sizes[0]} and test_images {sizes[1]}; they must agree; resize one"
        )
    given = {part: arrays[f"{part}_labels"].astype(np.int64) for part in ("train", "test")}
    values = np.union1d(given["train"], given["test"])
    numbers = {part: np.searchsorted(values, each).astype(np.int64) for part, each in given.items()}
    return Arrays(images["train"], numbers["train"], images["test"], numbers["test"], tuple(map(str, values)))


def npz_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an npz, by the names of ARRAYS; InputError where they are not there or damaged."""
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("not a zip archive, or cut short")
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > max(ZIP_LIMIT, NPZ_RATIO * path.stat().st_size):
            raise ValueError(f"it unpacks to {unpacked / 2**30:.0f} GiB, more than {NPZ_RATIO} times its size")
        with np.load(path, allow_pickle=False) as archive:
            missing = [name for name in ARRAYS if name not in archive.files]
            if missing:
                raise InputError(f"{path}: lacks {', '.join(missing)}; needed are {', '.join(ARRAYS)}")
            found: dict[str, Any] = {name: archive[name] for name in ARRAYS}
        for name, array in found.items():
            if not isinstance(array, np.ndarray):  # numpy returns the bytes of a member that has no array's header
                raise ValueError(f"{name} is no array")
        return found
    except DAMAGE as error:
        raise InputError(
            f"{path}: is damaged or no npz of plain arrays ({error}); write it again with "
            f"numpy.savez({', '.join(f'{name}=...' for name in ARRAYS)})"
        ) from error


def _check_images(path: Path, name: str, images: np.ndarray) -> None:
    shaped = images.ndim == 3 or (images.ndim == 4 and images.shape[3] in (1, 3))
    if images.dtype != np.uint8 or not shaped or 0 in images.shape:
        raise InputError(
            f"{path}: {name} is {images.dtype} {images.shape}; allowed is uint8 (n, h, w) or (n, h, w, c) with "
            "c = 1 or 3 and nothing empty; convert it, pixel values 0..255"
        )


def _check_labels(path: Path, name: str, labels: np.ndarray, images: int) -> None:
    if labels.dtype.kind not in "iu" or labels.shape != (images,):
        raise InputError(
            f"{path}: {name} is {labels.dtype} {labels.shape}; allowed are integers of shape ({images},), "
            "one for each image; convert it"
        )
    for value in (int(labels.min()), int(labels.max())):
        if not 0 <= value < 2**63:
            raise InputError(
                f"{path}: {name} holds {value}; allowed are integers from 0 to 2^63-1; renumber the classes"
            )


# ---- folder and zip


@contextmanager
def image_files(path: Path) -> Iterator[tuple[list[str], Callable[[str], bytes]]]:
    """Return the sorted names PART/CLASS/FILE of a folder or zip and a function that reads one."""
    if path.is_dir():
        yield _folder_names(path), lambda name: (path / name).read_bytes()
        return
    try:
        archive = zipfile.ZipFile(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error}); allowed: {FORMS}") from error
    except DAMAGE as error:
        raise InputError(f"{path}: is no zip or is damaged ({error}); zip {LAYOUT} again") from error
    with archive:
        members = image_members(path, archive, ZIP_LIMIT)
        yield _checked_names(path, list(members), folders_of(archive)), lambda name: archive.read(members[name])


def _folder_names(path: Path) -> list[str]:
    names = []
    try:
        for kind in [kind for part in PARTS for kind in _visible(path / part)]:
            files = _visible(kind) if kind.is_dir() else [kind]
            if not files:
                raise InputError(f"{kind}: holds no image; a class needs one or more; add one or remove the folder")
            # A folder where a file should be keeps a "/" at its end, so that it is refused with its name.
            for file in files:
                if not file.is_file() and not file.is_dir():
                    raise InputError(f"{file}: is no plain file; allowed are {LAYOUT}; move it away")
            names += [file.relative_to(path).as_posix() + "/" * file.is_dir() for file in files]
    except OSError as error:
        raise InputError(f"{path}: cannot be listed ({error}); it must hold {LAYOUT}") from error
    folders = [one for one in _visible(path) if one.is_dir()]
    inner = [each for one in folders for each in _visible(one) if each.is_dir()]
    return _checked_names(path, names, [f"{each.relative_to(path)}/" for each in inner or folders])


def _visible(folder: Path) -> list[Path]:
    """The entries of a folder (none if it is not there) without the files that systems leave about."""
    return [entry for entry in folder.iterdir() if not is_litter(entry.name)] if folder.is_dir() else []


def _checked_names(path: Path, names: list[str], there: Iterable[str]) -> list[str]:
    """Sorted, if all are PART/CLASS/FILE.png|jpg|jpeg and train and test hold the same classes.

    there: the folders that are there, to name them where train/ or test/ is not.
    """
    for name in sorted(names):
        if not _is_utf8(name):
            raise InputError(f"{path}: the name {name} is not UTF-8, the only encoding allowed; rename it")
        if len(name.split("/")) != 3 or not name.lower().endswith(SUFFIXES):
            raise InputError(f"{path}: {name} is not expected; allowed are {LAYOUT}; move it away or convert it")
    classes = {part: {name.split("/")[1] for name in names if name.startswith(part)} for part in ("train", "test")}
    for part in classes:
        if not classes[part]:
            others = sorted({name for name in there if name.split("/")[0] not in PARTS})[:3]
            found = f" (but {', '.join(others)})" if others else ""
            raise InputError(f"{path}: holds no image in {part}/{found}; it must hold {LAYOUT}")
    for part, other in (("train", "test"), ("test", "train")):
        odd = sorted(classes[part] - classes[other])
        if odd:
            raise InputError(
                f"{path}: class {odd[0]} has images in {part}/ and none in {other}/; both need every class; add some"
            )
    return sorted(names)


def _is_utf8(name: str) -> bool:
    """Whether a name can be digested: Python keeps bytes of a file name that are not UTF-8 as lone surrogates."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _read_images(path: Path, names: list[str], read: Callable[[str], bytes]) -> Arrays:
    size, channels = _survey(path, names, read)
    if not path.is_dir() and len(names) * size[0] * size[1] * channels > ZIP_LIMIT:
        raise InputError(
            f"{path}: holds more than {ZIP_LIMIT / 2**30:g} GiB of pixels; a zip may not; unpack it into {path.stem}/"
        )
    classes = sorted({name.split("/")[1] for name in names})
    number = {kind: i for i, kind in enumerate(classes)}
    images: dict[str, np.ndarray] = {}
    labels: dict[str, np.ndarray] = {}
    for part in ("train", "test"):
        files = [name for name in names if name.startswith(f"{part}/")]
        images[part] = np.empty((len(files), channels, size[1], size[0]), np.uint8)
        for i, name in enumerate(files):
            images[part][i] = pixels(f"{path}: {name}", _content(path, name, read), channels)
        labels[part] = np.array([number[name.split("/")[1]] for name in files], np.int64)
    return Arrays(images["train"], labels["train"], images["test"], labels["test"], tuple(classes))


def _survey(path: Path, names: list[str], read: Callable[[str], bytes]) -> tuple[tuple[int, int], int]:
    """Read every header before any pixel; return the one (width, height) and the channels, 1 or 3."""
    first: tuple[int, int] | None = None
    channels = 1
    for name in names:
        size, has = size_and_channels(f"{path}: {name}", _content(path, name, read))
        first = first or size
        if size != first:
            raise InputError(
                f"{path}: {name} is {size[0]}x{size[1]} and {names[0]} {first[0]}x{first[1]}; all "
                "images must have one size; resize them "
                f"(for example: mogrify -auto-orient -resize '{first[0]}x{first[1]}!' FILE)"
            )
        channels = max(channels, has)
    assert first is not None, "a data set has at least one image"
    return first, channels


def _content(path: Path, name: str, read: Callable[[str], bytes]) -> bytes:
    try:
        return read(name)
    except DAMAGE as error:
        raise undecodable(f"{path}: {name}", error) from error
