"""A person's own images: one npz file, one folder or one zip in the data root. Imports no torch.

    ROOT/NAME.npz    train_images, train_labels, test_images, test_labels
    ROOT/NAME/       train/CLASS/*.png|jpg|jpeg and test/CLASS/*.png|jpg|jpeg
    ROOT/NAME.zip    the same folder, zipped (its content, or the folder itself)

All problems are `InputError`s of one line that name the file and what is allowed. Nothing is unpacked to disk and
no pickle is read.
"""

from __future__ import annotations

import hashlib
import io
import re
import stat
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image, UnidentifiedImageError

from dc_hpc.errors import InputError

ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")
SUFFIXES = (".png", ".jpg", ".jpeg")
PARTS = (("train",), ("test",))
ZIP_LIMIT = 4 * 2**30
NPZ_RATIO = 20  # images pack ten to one at best; a bomb a thousand to one
LAYOUT = "train/CLASS/*.png|jpg|jpeg and test/CLASS/*.png|jpg|jpeg"
FORMS = f"NAME.npz with {', '.join(ARRAYS)}, or NAME/ or NAME.zip with {LAYOUT}"

GREY_MODES = ("L", "1")
COLOUR_MODES = ("RGB", "P")
# What zipfile, numpy and PIL raise on damaged bytes; PIL reports a broken PNG as a SyntaxError.
DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    SyntaxError,
    KeyError,
    RuntimeError,
    MemoryError,
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


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
    """Return the SHA-256 (64 hex digits) of the content, which no time stamp or file order changes.

    Of an npz or zip: of the file's bytes. Of a folder: of the names (relative, sorted) and bytes of its images.
    """
    path = Path(path)
    whole = hashlib.sha256()
    try:
        if path.is_dir():
            for name in _folder_names(path):
                # The name's length and a digest of fixed size: no two folders give the same stream.
                whole.update(f"{len(name.encode())}:{name}".encode())
                whole.update(hashlib.sha256((path / name).read_bytes()).digest())
        else:
            with path.open("rb") as file:
                while chunk := file.read(2**20):
                    whole.update(chunk)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error}); allowed: {FORMS}") from error
    return whole.hexdigest()


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
            return {name: archive[name] for name in ARRAYS}
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
    except DAMAGE as error:
        raise InputError(f"{path}: is no zip or is damaged ({error}); zip {LAYOUT} again") from error
    with archive:
        members = _zip_members(path, archive)
        yield sorted(members), lambda name: archive.read(members[name])


def _folder_names(path: Path) -> list[str]:
    names = []
    try:
        for kind in [kind for part in ("train", "test") for kind in _visible(path / part)]:
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
    return _checked_names(path, names)


def _visible(folder: Path) -> list[Path]:
    """The entries of a folder (none if it is not there) without the dot files that systems leave about."""
    return [entry for entry in folder.iterdir() if not entry.name.startswith(".")] if folder.is_dir() else []


def _zip_members(path: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Return {PART/CLASS/FILE: member}, refusing every kind of member that a zip of images does not need."""
    members: dict[str, zipfile.ZipInfo] = {}
    empty: dict[str, None] = {}
    for member in archive.infolist():
        _refuse_hostile(path, member)
        parts = PurePosixPath(member.filename).parts
        if any(part.startswith(".") for part in parts):
            continue
        # A zip of the folder itself has the set's name in front of every member.
        if parts[:1] == (path.stem,) and parts[1:2] in PARTS:
            parts = parts[1:]
        if parts[:1] not in PARTS:
            continue
        name = "/".join(parts)
        if name in members:
            raise InputError(f"{path}: holds {name} twice; zip it again")
        if member.is_dir():
            empty[name] = None
        else:
            members[name] = member
    if sum(member.file_size for member in members.values()) > ZIP_LIMIT:
        raise InputError(
            f"{path}: unpacks to more than {ZIP_LIMIT / 2**30:g} GiB; a zip may not; unpack it into {path.stem}/"
        )
    for name in empty:
        if name.count("/") == 1 and not any(other.startswith(f"{name}/") for other in members):
            raise InputError(f"{path}: {name} holds no image; a class needs at least one; zip it again")
    _checked_names(path, list(members))
    return members


def _refuse_hostile(path: Path, member: zipfile.ZipInfo) -> None:
    name = member.filename
    if name.startswith("/") or "\\" in name or ".." in name.split("/") or re.match(r"[A-Za-z]:", name):
        raise InputError(f"{path}: member {name!r} points outside; allowed are names like train/CLASS/FILE.png")
    if stat.S_ISLNK(member.external_attr >> 16):
        raise InputError(f"{path}: member {name!r} is a symbolic link; allowed are plain files; zip it without")


def _checked_names(path: Path, names: list[str]) -> list[str]:
    """Sorted, if all are PART/CLASS/FILE.png|jpg|jpeg and train and test hold the same classes."""
    for name in sorted(names):
        if len(name.split("/")) != 3 or not name.lower().endswith(SUFFIXES):
            raise InputError(f"{path}: {name} is not expected; allowed are {LAYOUT}; move it away or convert it")
    classes = {part: {name.split("/")[1] for name in names if name.startswith(part)} for part in ("train", "test")}
    for part in classes:
        if not classes[part]:
            raise InputError(f"{path}: holds no image in {part}/; it must hold {LAYOUT}")
    for part, other in (("train", "test"), ("test", "train")):
        odd = sorted(classes[part] - classes[other])
        if odd:
            raise InputError(
                f"{path}: class {odd[0]} has images in {part}/ and none in {other}/; both need every class; add some"
            )
    return sorted(names)


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
            images[part][i] = _pixels(path, name, read, channels)
        labels[part] = np.array([number[name.split("/")[1]] for name in files], np.int64)
    return Arrays(images["train"], labels["train"], images["test"], labels["test"], tuple(classes))


def _survey(path: Path, names: list[str], read: Callable[[str], bytes]) -> tuple[tuple[int, int], int]:
    """Read every header before any pixel; return the one (width, height) and the channels, 1 or 3."""
    first: tuple[int, int] | None = None
    channels = 1
    for name in names:
        with _opened(path, name, read) as image:
            if image.mode not in GREY_MODES + COLOUR_MODES or "transparency" in image.info:
                raise InputError(
                    f"{path}: {name} has mode {image.mode} or transparency; allowed are 8-bit grey and RGB; "
                    "convert it (for example: mogrify -alpha off -depth 8 -colorspace sRGB FILE)"
                )
            first = first or image.size
            if image.size != first:
                raise InputError(
                    f"{path}: {name} is {image.width}x{image.height} and {names[0]} {first[0]}x{first[1]}; all "
                    "images must have one size; resize them "
                    f"(for example: mogrify -resize '{first[0]}x{first[1]}!' FILE)"
                )
            channels = 3 if image.mode in COLOUR_MODES else channels
    assert first is not None, "a data set has at least one image"
    return first, channels


@contextmanager
def _opened(path: Path, name: str, read: Callable[[str], bytes]) -> Iterator[Image.Image]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)  # 89 million pixels are no data point
            image = Image.open(io.BytesIO(read(name)), formats=("PNG", "JPEG"))
    except DAMAGE as error:
        raise InputError(_damaged(path, name, error)) from error
    with image:
        yield image


def _pixels(path: Path, name: str, read: Callable[[str], bytes], channels: int) -> np.ndarray:
    """Decode one file to uint8 (c, h, w)."""
    with _opened(path, name, read) as image:
        try:
            array = np.asarray(image.convert("L" if channels == 1 else "RGB"))
        except DAMAGE as error:
            raise InputError(_damaged(path, name, error)) from error
    return array[None] if channels == 1 else array.transpose(2, 0, 1)


def _damaged(path: Path, name: str, error: Exception) -> str:
    reason = "not a PNG or JPEG" if isinstance(error, UnidentifiedImageError) else error
    return f"{path}: {name} cannot be decoded ({reason}); allowed are PNG and JPEG images; replace it"
