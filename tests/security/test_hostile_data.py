"""A data set made by somebody else: an npz file, a zip archive or a folder of images that attacks its reader."""

from __future__ import annotations

import io
import os
import stat
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.canary import Canary
from support.hostile_text import promptly

from dc_hpc.data.custom import data_digest, read_custom_data
from dc_hpc.errors import InputError


def arrays_of(**changes) -> dict[str, np.ndarray]:
    images = np.zeros((4, 8, 8), np.uint8)
    return {
        "train_images": images,
        "train_labels": np.arange(4),
        "test_images": images,
        "test_labels": np.arange(4),
    } | changes


@pytest.mark.parametrize("name", ["train_images", "test_labels"])
def test_a_pickle_in_an_npz_is_refused_unread(tmp_path, name):
    hostile = np.array([Canary(tmp_path / "canary")] * 4, dtype=object)
    np.savez(tmp_path / "mine.npz", **arrays_of(**{name: hostile}))
    with pytest.raises(InputError, match=r"mine\.npz"):
        read_custom_data(tmp_path / "mine.npz")
    assert not (tmp_path / "canary").exists()


def member(shape: str) -> bytes:
    """The header of an npy file that claims a shape, without any data."""
    head = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_an_npz_that_claims_four_tebibytes_is_refused(tmp_path):
    content = member("(4398046511104, 8, 8)")
    path = zipped(tmp_path / "mine.npz", {f"{name}.npy": content for name in arrays_of()})
    with promptly(), pytest.raises(InputError, match=r"mine\.npz"):
        read_custom_data(path)


def test_an_npz_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr("dc_hpc.data.custom.ZIP_LIMIT", 1 << 20)
    np.savez_compressed(tmp_path / "mine.npz", **arrays_of(train_images=np.zeros((200_000, 8, 8), np.uint8)))
    monkeypatch.setattr(np, "load", None)
    with pytest.raises(InputError, match="more than 20 times its size"):
        read_custom_data(tmp_path / "mine.npz")


def png(size: tuple[int, int] = (8, 8)) -> bytes:
    stream = io.BytesIO()
    Image.new("L", size).save(stream, "PNG")
    return stream.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few hundred bytes whose header claims this width and height."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("sides", [(10_000, 10_000), (60_000, 60_000), (2**31 - 1, 2**31 - 1)])
@pytest.mark.parametrize("form", ["folder", "zip"])
def test_a_png_bomb_is_refused_before_it_is_decoded(tmp_path, sides, form):
    members = {"train/a/1.png": png(), "train/a/2.png": bomb(*sides), "test/a/1.png": png()}
    path = tmp_path / "mine.zip"
    zipped(path, members)
    if form == "folder":
        path = tmp_path / "mine"
        with zipfile.ZipFile(tmp_path / "mine.zip") as archive:
            archive.extractall(path)
    with promptly(), pytest.raises(InputError, match="2.png cannot be decoded"):
        read_custom_data(path)


@pytest.mark.parametrize(
    "name", ["../train/a/x.png", "/train/a/x.png", "train/../../x.png", "C:/x.png", "train\\..\\x.png"]
)
def test_a_zip_that_points_outside_is_refused_and_nothing_unpacked(tmp_path, name):
    (tmp_path / "in").mkdir()
    path = zipped(tmp_path / "in" / "mine.zip", {"train/a/1.png": png(), "test/a/1.png": png(), name: png()})
    with pytest.raises(InputError, match="points outside"):
        read_custom_data(path)
    assert [one.name for one in tmp_path.rglob("*") if one.is_file()] == ["mine.zip"]


def test_a_zip_with_a_link_is_refused(tmp_path):
    link = zipfile.ZipInfo("train/a/2.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    path = tmp_path / "mine.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(InputError, match="symbolic link"):
        read_custom_data(path)


@pytest.mark.parametrize("kind", ["pipe", "device", "dangling"])
@pytest.mark.parametrize("read", [read_custom_data, data_digest])
def test_a_folder_with_a_pipe_or_a_device_is_refused_and_not_waited_for(tmp_path, kind, read):
    for name in ("train/a/1.png", "test/a/1.png"):
        (tmp_path / "mine" / name).parent.mkdir(parents=True)
        (tmp_path / "mine" / name).write_bytes(png())
    odd = tmp_path / "mine" / "train" / "a" / "2.png"
    os.mkfifo(odd) if kind == "pipe" else odd.symlink_to("/dev/zero" if kind == "device" else "/nowhere")
    with promptly(), pytest.raises(InputError, match=r"2\.png"):
        read(tmp_path / "mine")
