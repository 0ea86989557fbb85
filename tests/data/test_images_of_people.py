"""Images as cameras, systems and zip tools leave them: shown the right way round, found, or named."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import official_formats as true

from dc_hpc.data.custom import data_digest, find_custom_data, is_digest_of, read_custom_data
from dc_hpc.data.digests import part_digests
from dc_hpc.data.official import verify
from dc_hpc.errors import InputError

STORED = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20  # 4 wide, 3 high
# How a viewer shows it, by the orientation of EXIF.
SHOWN = {
    1: STORED,
    2: STORED[:, ::-1],
    3: STORED[::-1, ::-1],
    4: STORED[::-1],
    5: STORED.T,
    6: np.rot90(STORED, -1),
    7: STORED[::-1, ::-1].T,
    8: np.rot90(STORED),
    9: STORED,
}
GOOD = {f"{part}/{kind}/0.png": true.image_bytes(STORED[None]) for part in ("train", "test") for kind in "ab"}


def with_orientation(orientation: int, kind: str = "PNG") -> bytes:
    exif = Image.Exif()
    exif[274] = orientation
    stream = io.BytesIO()
    Image.fromarray(STORED).save(stream, kind, exif=exif, **({"quality": 100} if kind == "JPEG" else {}))
    return stream.getvalue()


@pytest.mark.parametrize("orientation", SHOWN)
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_an_image_is_turned_as_its_exif_says(tmp_path: Path, orientation: int, kind: str) -> None:
    image, expected = with_orientation(orientation, kind), SHOWN[orientation]
    suffix = {"PNG": "png", "JPEG": "jpg"}[kind]
    true.write_folder(tmp_path / "own", {f"{part}/a/0.{suffix}": image for part in ("train", "test")})
    found = read_custom_data(tmp_path / "own").train_images
    assert found.shape[2:] == expected.shape
    assert abs(found[0, 0].astype(int) - expected).max() <= (0 if kind == "PNG" else 8)


def test_the_size_of_a_turned_image_is_the_one_that_is_shown(tmp_path: Path) -> None:
    true.write_folder(tmp_path / "own", GOOD | {"train/a/0.png": with_orientation(6)})
    with pytest.raises(InputError, match="train/a/0.png is 3x4 and test/a/0.png 4x3; .*mogrify -auto-orient"):
        read_custom_data(tmp_path / "own")


def test_exif_behind_the_pixels_of_a_png_counts(tmp_path: Path) -> None:
    whole = with_orientation(3)
    start = whole.index(b"eXIf") - 4
    chunk = whole[start : start + 12 + int.from_bytes(whole[start : start + 4])]
    end = len(whole) - 12  # of the chunk IEND
    late = whole[:start] + whole[start + len(chunk) : end] + chunk + whole[end:]
    true.write_folder(tmp_path / "own", GOOD | {"train/a/0.png": late})
    assert np.array_equal(read_custom_data(tmp_path / "own").train_images[0, 0], SHOWN[3])


def test_a_broken_exif_turns_nothing(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    whole = with_orientation(6, "JPEG")
    broken = whole.replace(b"Exif\0\0MM\0*\0\0\0\x08", b"Exif\0\0MM\0*\xff\xff\xff\xf8")
    assert broken != whole
    true.write_folder(tmp_path / "own", {f"{part}/a/0.jpg": broken for part in ("train", "test")})
    assert read_custom_data(tmp_path / "own").train_images.shape == (1, 1, 3, 4)
    assert not recwarn.list


def test_runs_of_images_that_were_read_unturned_have_another_name(tmp_path: Path) -> None:
    """Version 0.1 read them as they are stored, under the digest of names and bytes alone."""
    files = GOOD | {"train/a/0.png": with_orientation(3)}
    true.write_folder(tmp_path / "own", files)
    true.write_zip(tmp_path / "zipped.zip", files)
    old = hashlib.sha256()
    for name in sorted(files):
        old.update(f"{len(name)}:{name}".encode() + hashlib.sha256(files[name]).digest())
    assert data_digest(tmp_path / "own") != old.hexdigest() and not is_digest_of(tmp_path / "own", old.hexdigest())
    of_file = hashlib.sha256((tmp_path / "zipped.zip").read_bytes()).hexdigest()
    assert not is_digest_of(tmp_path / "zipped.zip", of_file)


def sixteen_bit_colour(values: np.ndarray) -> bytes:
    """A PNG of values (h, w, 3), which PIL cannot write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, 2, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return start + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_sixteen_bits_are_refused_in_colour_as_in_grey(tmp_path: Path) -> None:
    deep = sixteen_bit_colour(np.full((3, 4, 3), 4095, ">u2"))
    grey = io.BytesIO()
    Image.fromarray(np.full((3, 4), 4095, np.uint16)).save(grey, "PNG")
    for content in (deep, grey.getvalue()):
        true.write_folder(tmp_path / "own", GOOD | {"train/a/0.png": content})
        with pytest.raises(InputError, match=r"own: train/a/0.png has mode .* of 16 bits; allowed are 8-bit grey and"):
            verify("own", tmp_path)


# ---- zips


def rezipped(path: Path, files: dict[str, bytes], *, day: int = 1, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, (2024, 1, day, 0, 0, 0)), content, method)
    return path


LITTER = {
    "__MACOSX/mine/train/a/._0.png": b"",
    "mine/.DS_Store": b"",
    "mine/train/a/Thumbs.db": b"thumbs",
    "mine/train/desktop.ini": b"[.ShellClassInfo]",
    "mine/README.txt": b"by hand",
}
ZIPS = {
    "another name": {f"mydata/{name}": content for name, content in GOOD.items()},
    "two folders down": {f"export/v2/{name}": content for name, content in GOOD.items()},
    "folders as members": {"mydata/": b"", "mydata/train/": b"", **{f"mydata/{n}": c for n, c in GOOD.items()}},
    "backslashes": {name.replace("/", "\\"): content for name, content in GOOD.items()},
    "backslashes below a folder": {f"mydata\\{name}".replace("/", "\\"): content for name, content in GOOD.items()},
    "litter": {f"mine/{name}": content for name, content in GOOD.items()} | LITTER,
    "a class named test": {f"mine/{name}".replace("/b/", "/test/"): content for name, content in GOOD.items()},
}


@pytest.mark.parametrize("case", ZIPS)
def test_zips_of_others_are_read(tmp_path: Path, case: str) -> None:
    path = rezipped(tmp_path / "own.zip", ZIPS[case])
    arrays = read_custom_data(path)
    assert arrays.classes == (("a", "test") if "class" in case else ("a", "b"))
    assert arrays.train_images.shape == arrays.test_images.shape == (2, 1, 3, 4)


REFUSED = {
    "two of them": (
        {f"{top}/{name}": content for top in ("old", "new") for name, content in GOOD.items()},
        r"holds train/ or test/ in old/ and in new/; one folder must hold both; zip that one alone",
    ),
    "other parts": (
        {name.replace("train/", "Training/").replace("test/", "Validation/"): c for name, c in GOOD.items()},
        r"holds no image in train/ \(but Training/a/, Training/b/, Validation/a/\); it must hold train/CLASS",
    ),
    "no parts": (
        {name.removeprefix("train/"): content for name, content in GOOD.items() if "train" in name},
        r"holds no image in train/ \(but a/, b/\)",
    ),
    "both slashes": (GOOD | {"train\\a\\0.png": b""}, "holds train/a/0.png twice"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_zips_that_mean_two_things_or_nothing_are_named(tmp_path: Path, case: str) -> None:
    files, message = REFUSED[case]
    with pytest.raises(InputError, match=f"own.zip: {message}"):
        read_custom_data(rezipped(tmp_path / "own.zip", files))


def test_a_folder_says_what_it_holds_instead_of_train(tmp_path: Path) -> None:
    true.write_folder(tmp_path / "own", {f"mydata/{name}": content for name, content in GOOD.items()})
    with pytest.raises(InputError, match=r"own: holds no image in train/ \(but mydata/test/, mydata/train/\)"):
        read_custom_data(tmp_path / "own")
    names = {f"{part}ing/{name[-7:]}": content for name, content in GOOD.items() for part in ("train", "test")}
    true.write_folder(tmp_path / "ing", names)  # training/ and testing/ begin with the words that are meant
    with pytest.raises(InputError, match=r"ing: holds no image in train/ \(but testing/a/, testing/b/, training/a/\)"):
        read_custom_data(tmp_path / "ing")


@pytest.mark.parametrize("read", [read_custom_data, data_digest, part_digests])
def test_a_file_name_that_is_no_utf8_is_named(tmp_path: Path, read) -> None:
    true.write_folder(tmp_path / "own", GOOD)
    (tmp_path / "own/train/a" / os.fsdecode(b"caf\xe9.png")).write_bytes(GOOD["train/a/0.png"])
    with pytest.raises(InputError, match=r"own: the name train/a/caf\?.png is not UTF-8, the only .*; rename it"):
        read(tmp_path / "own")


def test_what_systems_leave_in_a_folder_is_no_image(tmp_path: Path) -> None:
    true.write_folder(tmp_path / "plain", GOOD)
    litter = {"train/Thumbs.db": b"", "train/a/Thumbs.db": b"", "test/b/desktop.ini": b"", "test/@eaDir/x.png": b""}
    true.write_folder(tmp_path / "own", GOOD | litter)
    assert len(read_custom_data(tmp_path / "own").train_images) == 2
    assert data_digest(tmp_path / "own") == data_digest(tmp_path / "plain")


@pytest.mark.parametrize(
    ("at", "change", "message"),
    [
        (8, 1, "train/a/0.png is encrypted; zip the images again without a password"),
        (
            10,
            9,
            "train/a/0.png is compressed by deflate64; allowed: stored, deflate, bzip2, lzma; zip the images again",
        ),
        (10, 93, "train/a/0.png is compressed by zstd; "),
        (10, 77, "train/a/0.png is compressed by method 77; "),
    ],
)
@pytest.mark.parametrize("read", [read_custom_data, data_digest])
def test_members_that_cannot_be_read_are_named(tmp_path: Path, at: int, change: int, message: str, read) -> None:
    path = rezipped(tmp_path / "own.zip", GOOD, method=zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + at] = change  # of the first central record
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read(path)


@pytest.mark.parametrize("read", [read_custom_data, data_digest, part_digests])
def test_a_damaged_member_of_any_compression_is_named(tmp_path: Path, read) -> None:
    path = rezipped(tmp_path / "own.zip", GOOD, method=zipfile.ZIP_LZMA)
    content = bytearray(path.read_bytes())
    start = content.index(b"a/0.png") + len("a/0.png") + 9  # behind the header of LZMA
    content[start : start + 40] = b"\xff" * 40
    path.write_bytes(content)
    with pytest.raises(InputError, match="own.zip.* cannot be "):
        read(path)


@pytest.mark.parametrize("read", [read_custom_data, data_digest, part_digests])
def test_an_npz_whose_members_are_no_arrays_is_named(tmp_path: Path, read) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\n"
    names = ("train_images", "train_labels", "test_images", "test_labels")
    path = rezipped(tmp_path / "own.npz", {f"{name}.npy": pointer for name in names})
    with pytest.raises(InputError, match="own.npz: is damaged or no npz of plain arrays .train_images is no array"):
        read(path)


def test_an_npz_of_a_zip_that_python_cannot_read_has_a_digest_as_any_other_file_has(tmp_path: Path) -> None:
    path = rezipped(tmp_path / "own.npz", {"train_images.npy": b""})
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 6] = 99  # the version that is needed to read it
    path.write_bytes(content)
    assert data_digest(path) == hashlib.sha256(content).hexdigest()
    with pytest.raises(InputError, match="own.npz: is damaged or no npz of plain arrays"):
        read_custom_data(path)


# ---- digests


def test_the_same_images_have_one_digest_however_they_are_packed(tmp_path: Path) -> None:
    true.write_folder(tmp_path / "folder", GOOD)
    paths = [
        tmp_path / "folder",
        rezipped(tmp_path / "one.zip", GOOD),
        rezipped(tmp_path / "two.zip", dict(reversed(GOOD.items())), day=2, method=zipfile.ZIP_STORED),
        *(rezipped(tmp_path / f"{n}.zip", ZIPS[case]) for n, case in enumerate(ZIPS) if "class" not in case),
    ]
    assert {path.name: data_digest(path) for path in paths} == {path.name: data_digest(paths[0]) for path in paths}
    other = rezipped(tmp_path / "other.zip", GOOD | {"train/a/0.png": GOOD["train/a/0.png"] + b"\0"})
    assert data_digest(other) != data_digest(paths[0])


def test_an_npz_has_the_digest_of_its_arrays_and_keeps_the_one_that_it_had(tmp_path: Path) -> None:
    images, labels = np.stack([STORED, STORED + 1]), np.arange(2)
    arrays = dict(train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    np.savez(tmp_path / "plain.npz", **arrays)
    np.savez_compressed(tmp_path / "packed.npz", **dict(reversed(arrays.items())))
    with zipfile.ZipFile(tmp_path / "plain.npz") as plain:
        rezipped(tmp_path / "again.npz", {name: plain.read(name) for name in plain.namelist()})
    of_file = hashlib.sha256((tmp_path / "plain.npz").read_bytes()).hexdigest()
    assert {data_digest(tmp_path / f"{name}.npz") for name in ("plain", "packed", "again")} == {of_file}


@pytest.mark.parametrize("name", ["own.zip", "own.npz"])
def test_runs_that_were_made_with_the_digest_of_a_file_keep_their_data(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "own.zip":
        rezipped(path, GOOD)
    else:
        images = np.stack([STORED, STORED])
        np.savez_compressed(path, train_images=images, train_labels=[0, 1], test_images=images, test_labels=[0, 1])
    old = hashlib.sha256(path.read_bytes()).hexdigest()
    assert old != data_digest(path) and is_digest_of(path, old) and is_digest_of(path, data_digest(path))
    assert not is_digest_of(path, "0" * 64) and find_custom_data("own", tmp_path) == path
