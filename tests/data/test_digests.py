"""The digests of own images: each part has its own, which follows its names and contents and nothing else."""

import os

import numpy as np
import pytest
from support import official_formats as true

from dc_hpc.data.digests import part_digests
from dc_hpc.errors import InputError

CLASSES = ("ant", "bee", "cat")


def splits():
    """A training and a test part of three classes, in the order of the labels, which is that of a folder."""
    parts = [true.random_split(n, (3, 5, 7), seed=n, classes=3) for n in (8, 5)]
    return [(images[np.argsort(labels, kind="stable")], np.sort(labels)) for images, labels in parts]


def with_another_pixel(part):
    images = part[0].copy()
    images[0, 0, 0, 0] ^= 1
    return images, part[1]


@pytest.mark.parametrize("form", ["npz", "folder", "zip"])
def test_a_change_of_a_part_changes_its_digest_alone(form, tmp_path):
    train, test = splits()

    def digests_of(name, *parts):
        if form == "npz":
            true.write_npz(tmp_path / f"{name}.npz", *parts)
        elif form == "zip":
            true.write_zip(tmp_path / f"{name}.zip", true.png_files(*parts, CLASSES))
        else:
            true.write_folder(tmp_path / name, true.png_files(*parts, CLASSES))
        return part_digests(next(path for path in tmp_path.iterdir() if path.stem == name))

    plain, again = digests_of("a", train, test), digests_of("b", train, test)
    other_train, other_test = (
        digests_of("c", with_another_pixel(train), test),
        digests_of("d", train, with_another_pixel(test)),
    )
    assert plain == again and plain.train != plain.test and all(len(one) == 64 for one in plain)
    assert other_train.test == plain.test and other_train.train != plain.train
    assert other_test.train == plain.train and other_test.test != plain.test


def test_packing_time_and_order_do_not_count(tmp_path):
    train, test = splits()
    files = true.png_files(train, test, CLASSES)
    true.write_folder(tmp_path / "a", files)
    true.write_zip(tmp_path / "b.zip", dict(reversed(files.items())))
    true.write_npz(tmp_path / "c.npz", train, test)
    with np.load(tmp_path / "c.npz") as arrays:
        np.savez_compressed(tmp_path / "d.npz", **dict(arrays))
    first = part_digests(tmp_path / "a")
    for path in (tmp_path / "a").rglob("*"):
        os.utime(path, (1, 1))
    assert part_digests(tmp_path / "a") == first == part_digests(tmp_path / "b.zip")
    assert part_digests(tmp_path / "c.npz") == part_digests(tmp_path / "d.npz")


def test_labels_and_names_of_classes_count(tmp_path):
    train, test = splits()
    true.write_npz(tmp_path / "a.npz", train, test)
    true.write_npz(tmp_path / "b.npz", (train[0], train[1][::-1].copy()), test)
    true.write_folder(tmp_path / "c", true.png_files(train, test, CLASSES))
    true.write_folder(tmp_path / "d", true.png_files(train, test, ("asp", "bee", "cat")))
    assert part_digests(tmp_path / "a.npz").train != part_digests(tmp_path / "b.npz").train
    assert len({*part_digests(tmp_path / "c"), *part_digests(tmp_path / "d")}) == 4


def test_files_that_cannot_be_read_are_named(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"not an archive")
    (tmp_path / "b.zip").write_bytes(b"not an archive")
    for name in ("a.npz", "b.zip", "gone"):
        with pytest.raises(InputError, match=name):
            part_digests(tmp_path / name)
