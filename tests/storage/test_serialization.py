"""HDF5 files and safetensors as bytes: what is written is read, and nothing bad is read silently."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as drawn
from support.stored_files import ATTRIBUTES, SCHEMA, features, python, read_safetensors, same

from dc_hpc.storage import atomic_files, serialization
from dc_hpc.storage.atomic_files import DamagedFile

# ---- HDF5


def test_hdf5_round_trip_and_equal_bytes(tmp_path: Path) -> None:
    data = features(3000, 200)  # more than one chunk
    content = serialization.hdf5_bytes(data, ATTRIBUTES)
    atomic_files.replace_bytes(tmp_path / "c0000.h5", content)
    found, attributes = serialization.read_hdf5(tmp_path / "c0000.h5", SCHEMA)
    assert same(found, data)
    assert attributes == ATTRIBUTES
    assert {name: type(value) for name, value in attributes.items()} == {
        name: type(value) for name, value in ATTRIBUTES.items()
    }
    assert len(content) < 1.01 * sum(array.nbytes for array in data.values()) + 4096
    time.sleep(1.1)  # a time stamp of whole seconds would show
    other_order = [dict(reversed(each.items())) for each in (data, ATTRIBUTES)]
    assert serialization.hdf5_bytes(*other_order) == content


def test_hdf5_is_the_same_for_an_ordinary_reader(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_bytes(serialization.hdf5_bytes(features(), ATTRIBUTES))
    with h5py.File(tmp_path / "a.h5") as file:
        assert same({name: file[name][()] for name in file}, features())
        assert file.attrs["net"].decode() == "lenet5"
        assert file["features"].fletcher32
        assert file["features"].chunks is not None


@settings(max_examples=60, deadline=None, database=None)
@given(
    array=drawn.arrays(
        st.sampled_from(["<f2", "<f4", ">f8", "u1", "<i2", ">u4", "<i8"]),
        drawn.array_shapes(min_dims=1, max_dims=3, max_side=9),
        elements={"allow_nan": False},
    ),
    attributes=st.dictionaries(
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=9),
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=50)
        | st.integers(-(2**63), 2**63 - 1)
        | st.floats(allow_nan=False),
        max_size=12,
    ),
)
def test_hdf5_gives_back_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, array: np.ndarray, attributes: dict[str, str | float]
) -> None:
    path = tmp_path_factory.getbasetemp() / "property.h5"
    path.write_bytes(serialization.hdf5_bytes({"x": array.T}, attributes))
    found, found_attributes = serialization.read_hdf5(path, {"x": (array.dtype.kind, array.ndim)})
    assert found_attributes == attributes
    assert np.array_equal(found["x"], array.T)
    assert found["x"].dtype == array.dtype.newbyteorder("<")


@pytest.mark.parametrize(
    ("datasets", "attributes"),
    [
        ({"x": np.array(["text"])}, {}),
        ({"x": np.array([None])}, {}),
        ({"x": np.array([1j])}, {}),
        ({"x": np.array([True])}, {}),
        ({"x": np.float64(1)}, {}),
        ({"x": np.zeros((0, 3))}, {}),
        ({"a/b": np.ones(3)}, {}),
        ({".": np.ones(3)}, {}),
        ({}, {"a": "x\0y"}),
        ({}, {"a": "x" * 40_000}),
    ],
)
def test_hdf5_refuses_what_it_could_not_check(datasets: dict, attributes: dict) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        serialization.hdf5_bytes(datasets, attributes)


def test_hdf5_bit_flips_are_never_read_silently(tmp_path: Path) -> None:
    chance, data = random.Random(0), features()
    content, path = serialization.hdf5_bytes(data, ATTRIBUTES), tmp_path / "a.h5"
    start = content.index(data["features"].tobytes())
    # Half the flips in the data itself, where HDF5 alone would notice nothing.
    places = [chance.randrange(start, start + data["features"].nbytes) for _ in range(200)]
    places += [chance.randrange(len(content)) for _ in range(200)]
    found = 0
    for place in places:
        bad = bytearray(content)
        bad[place] ^= 1 << chance.randrange(8)
        path.write_bytes(bad)
        try:
            read, attributes = serialization.read_hdf5(path, SCHEMA)
            assert same(read, data), place  # the flip was in a gap between the parts
            assert attributes == ATTRIBUTES, place
        except DamagedFile:
            found += 1
    assert found >= 250


def test_hdf5_truncations_are_damaged(tmp_path: Path) -> None:
    content = serialization.hdf5_bytes(features(), ATTRIBUTES)
    for size in range(0, len(content), 37):
        (tmp_path / "a.h5").write_bytes(content[:size])
        with pytest.raises(DamagedFile):
            serialization.read_hdf5(tmp_path / "a.h5", SCHEMA)


def virtual(file: h5py.File, other: Path) -> None:
    layout = h5py.VirtualLayout((8,), "<f8")
    layout[:] = h5py.VirtualSource(str(other), "y", (8,))
    file.create_virtual_dataset("x", layout)


def own_format(file: h5py.File, _: Path) -> None:
    strange = h5py.h5t.IEEE_F64LE.copy()
    strange.set_fields(31, 20, 11, 0, 20)
    made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    made.set_chunk((4,))
    made.set_fletcher32()
    dataset = h5py.h5d.create(file.id, b"x", strange, h5py.h5s.create_simple((8,)), made)
    dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, np.zeros(8))  # HDF5 converts, and that code is not to be reached


def huge_chunk(file: h5py.File, _: Path) -> None:
    dataset = file.create_dataset("x", (8,), "<f8", chunks=(1 << 28,), maxshape=(None,), fletcher32=True)
    dataset.id.write_direct_chunk((0,), bytes(100))  # a chunk of 2 GiB, it says


CHECKED = {"chunks": (4,), "fletcher32": True}


def honest(file: h5py.File, _: Path | None = None) -> h5py.Dataset:
    return file.create_dataset("x", data=np.zeros(8), **CHECKED)


# Each puts into a file what `hdf5_bytes` would never write, mostly an `x` that is not 8 honest numbers.
# The path is that of another file.
HOSTILE_HDF5 = {
    "external data": lambda file, other: file.create_dataset("x", (8,), "<f8", external=[(str(other), 0, 64)]),
    "virtual data": virtual,
    "soft link": lambda file, _: file.update({"x": h5py.SoftLink("/x2"), "x2": np.zeros(8)}),
    "external link": lambda file, other: file.update({"x": h5py.ExternalLink(str(other), "y")}),
    "huge claim": lambda file, _: file.create_dataset("x", (1 << 39,), "<f8", **CHECKED),
    "huge chunk": huge_chunk,
    "missing chunks": lambda file, _: file.create_dataset("x", (8,), "<f8", **CHECKED),
    "compressed": lambda file, _: file.create_dataset("x", data=np.zeros(8), compression="gzip", **CHECKED),
    "no checksum": lambda file, _: file.create_dataset("x", data=np.zeros(8), chunks=(4,)),
    "contiguous": lambda file, _: file.create_dataset("x", data=np.zeros(8)),
    "group": lambda file, _: file.create_group("x"),
    "text": lambda file, _: file.create_dataset("x", data=["a"] * 8, chunks=(4,)),
    "references": lambda file, _: file.create_dataset("x", (8,), h5py.ref_dtype, chunks=(4,)),
    "own number format": own_format,
    "wrong dtype": lambda file, _: file.create_dataset("x", data=np.zeros(8, np.int64), **CHECKED),
    "wrong dimensions": lambda file, _: file.create_dataset("x", data=np.zeros((8, 1)), chunks=(4, 1), fletcher32=True),
    "wrong name": lambda file, _: file.create_dataset("y", data=np.zeros(8), **CHECKED),
    "one too many": lambda file, _: file.create_dataset("z", data=honest(file)[()], **CHECKED),
    "array attribute": lambda file, _: honest(file).parent.attrs.update({"a": np.zeros(1)}),
    "truth attribute": lambda file, _: honest(file).parent.attrs.update({"a": True}),
    "variable text": lambda file, _: honest(file).parent.attrs.update({"a": "text"}),
    "many attributes": lambda file, _: honest(file).parent.attrs.update({str(i): i for i in range(100)}),
}


def write_hostile(path: Path, put: Callable[[h5py.File, Path], object]) -> None:
    other = path.parent / "other.h5"
    with h5py.File(other, "w") as file:
        file.create_dataset("y", data=np.arange(8.0), **CHECKED)
    with h5py.File(path, "w", libver=("v110", "v110")) as file:
        put(file, other)


@pytest.mark.parametrize("kind", HOSTILE_HDF5)
def test_hostile_hdf5_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.h5"
    write_hostile(path, honest)
    assert serialization.read_hdf5(path, {"x": ("f", 1)})[0]["x"].tolist() == [0] * 8
    path.unlink()
    write_hostile(path, HOSTILE_HDF5[kind])
    with pytest.raises(DamagedFile, match="not the HDF5 file expected here") as caught:
        serialization.read_hdf5(path, {"x": ("f", 1)})
    assert str(caught.value).isprintable()
    if kind in ("group", "wrong name", "external link"):
        assert "'x' is no dataset of this file" in caught.value.why


# ---- safetensors


TENSORS = {
    "transposed": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    "scalar": np.array(3, dtype=np.int64),
    "empty": np.zeros((0, 4), np.float16),
    "flags": np.array([True, False]),
    "big_endian": np.arange(3, dtype=">u4"),
}
METADATA = {letter: f"é{letter}" for letter in "hgfedcba"}


def test_safetensors_round_trip_and_equal_bytes(tmp_path: Path) -> None:
    content = serialization.safetensors_bytes(TENSORS, METADATA)
    atomic_files.replace_bytes(tmp_path / "a.safetensors", content)
    found, metadata = read_safetensors(tmp_path / "a.safetensors")
    assert metadata == METADATA
    assert list(found) == sorted(TENSORS)
    for name, array in TENSORS.items():
        assert np.array_equal(found[name], array), name
        assert found[name].shape == array.shape
        assert found[name].dtype == array.dtype.newbyteorder("<")
        assert found[name].flags.writeable
    assert int.from_bytes(content[:8], "little") % 8 == 0  # the format asks for aligned data
    for _ in range(20):  # safetensors alone puts the metadata in another order each time
        again = [dict(reversed(each.items())) for each in (TENSORS, METADATA)]
        assert serialization.safetensors_bytes(*again) == content


def test_damaged_safetensors(tmp_path: Path) -> None:
    content, path = serialization.safetensors_bytes(TENSORS, METADATA), tmp_path / "a.safetensors"
    chance = random.Random(0)
    cases = [b"", b"\xff" * 8, b"\x80\x04pickle", (1 << 40).to_bytes(8, "little") + b"{}"]
    cases += [content[:size] for size in range(0, len(content), 11)]
    for case in cases:
        path.write_bytes(case)
        with pytest.raises(DamagedFile, match="not a safetensors file"):
            read_safetensors(path)
    for _ in range(1000):  # without a digest a flip may pass, but nothing else than DamagedFile may come out
        bad = bytearray(content)
        bad[chance.randrange(len(bad))] ^= 1 << chance.randrange(8)
        path.write_bytes(bad)
        try:
            read_safetensors(path)
        except DamagedFile as error:
            assert str(error).isprintable()


def test_importing_files_loads_no_array_library() -> None:
    heavy = {"torch", "numpy", "h5py", "safetensors"}
    code = f"import sys, dc_hpc.storage.atomic_files; print({heavy} & {{*sys.modules}})"
    assert python(code).communicate(timeout=60)[0] == "set()\n"


def test_metadata_that_are_no_texts_are_damage(tmp_path: Path) -> None:
    """`submit` reads the metadata of checkpoints alone, without the library that would refuse such a file."""
    header = b'{"__metadata__":{"numerics":[1]}}'
    path = tmp_path / "c.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(DamagedFile, match="its metadata are not all texts"):
        serialization.safetensors_metadata(path)
