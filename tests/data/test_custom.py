"""Images of one's own: npz, folder and zip give the same arrays, and anything else is refused in one line."""

from __future__ import annotations

import io
import os
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from support import official_formats as true
from support.small_datasets import assert_holds

from dc_hpc.data import custom
from dc_hpc.data.custom import data_digest, find_custom_data, read_custom_data
from dc_hpc.data.official import load
from dc_hpc.errors import InputError

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


@pytest.mark.parametrize("name", ["/train/a/1.png", "../train/a/1.png", "train/../a.png", "C:/a.png", "..\\a.png"])
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
    with pytest.raises(
        InputError, match="own.zip: train/a/1.png is encrypted; zip the images again without a password"
    ):
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
