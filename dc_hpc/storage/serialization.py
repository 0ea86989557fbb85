"""Arrays to bytes and back: HDF5 and safetensors in memory, so that atomic_files.py writes them like all others.

On a full disk HDF5 crashes Python; it also reads flipped bits silently and follows the links of a hostile
file. Therefore a file is built and parsed in memory, with checksums, and only plain data sets of the expected kind are
accepted. What cannot be trusted is a `DamagedFile`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from dc_hpc.storage.atomic_files import MAX_ARRAY_BYTES, AnyPath, DamagedFile, read_bytes, strict_json

# numpy, h5py and safetensors are imported where they are used: a login node reads no array.
if TYPE_CHECKING:
    import h5py
    import numpy as np

CHUNK_BYTES = 1 << 20
MAX_HEADER_BYTES = 100_000_000  # safetensors itself reads no longer header
MAX_ATTRIBUTES, MAX_ATTRIBUTE_BYTES = 64, 1 << 15  # HDF5 keeps a header message below 64 KiB
# What h5py and safetensors raise on hostile bytes; these are in memory by then, so the file is to blame.
_PARSER_ERRORS = (OSError, RuntimeError, ValueError, TypeError, LookupError, AttributeError, OverflowError)


def hdf5_bytes(datasets: Mapping[str, np.ndarray], attributes: Mapping[str, str | float]) -> bytes:
    """An HDF5 file as bytes; equal content gives equal bytes. Arrays: integers or floats, not empty.

    Built in memory, because HDF5 crashes Python when the disk is full. Every chunk has a checksum
    (fletcher32) and so has every header of the 1.10 format; HDF5 1.14 cannot read "latest" of 2.0. Raises
    ValueError for other arrays, names with a slash, and text attributes with a NUL or over 32 KiB.
    """
    import h5py
    import numpy as np

    with h5py.File.in_memory(libver=("v110", "v110")) as file:
        for name, given in sorted(datasets.items()):
            array = np.asarray(given)
            plain = array.dtype.kind in "iuf" and array.itemsize <= 8
            if not plain or array.ndim == 0 or array.size == 0 or name in ("", ".") or "/" in name:
                raise ValueError(f"cannot store dataset {name!r}, {array.dtype} of shape {array.shape}")
            chunks = math.ceil(array.nbytes / CHUNK_BYTES)
            rows = math.ceil(len(array) / chunks)  # equal chunks: the last is stored whole even if half empty
            array = array.astype(array.dtype.newbyteorder("<"), copy=False)
            layout = {"chunks": (rows, *array.shape[1:]), "fletcher32": True, "track_times": False}
            file.create_dataset(name, data=array, **layout)
        for name, value in sorted(attributes.items()):
            file.attrs.create(name, _attribute(value))
        file.flush()
        return bytes(file.id.get_file_image())


def _attribute(value: str | float) -> np.ndarray:
    """Fixed in length, because a variable-length string would lie in a heap that has no checksum."""
    import h5py
    import numpy as np

    if not isinstance(value, str):
        return np.asarray(value, dtype=np.int64 if isinstance(value, int) else np.float64)
    encoded = value.encode("utf-8")
    if b"\0" in encoded or len(encoded) > MAX_ATTRIBUTE_BYTES:
        raise ValueError(f"a text attribute has no NUL and at most {MAX_ATTRIBUTE_BYTES} bytes")
    return np.asarray(encoded, dtype=h5py.string_dtype("utf-8", max(1, len(encoded))))


def read_hdf5(
    path: AnyPath, schema: Mapping[str, tuple[str, int]]
) -> tuple[dict[str, np.ndarray], dict[str, str | float]]:
    """The arrays and attributes of a file that `hdf5_bytes` could have made; else DamagedFile.

    `schema` names every dataset with its dtype kinds and number of dimensions: {"features": ("f", 2), ...}.
    Links elsewhere, external and virtual data, other filters and claims beyond the file are refused unread.
    """
    import h5py

    image = read_bytes(path, MAX_ARRAY_BYTES)
    try:
        with h5py.File.in_memory(file_image=image) as file:
            if len(file) != len(schema):
                raise ValueError(f"it holds {len(file)} datasets, not {len(schema)}")
            found = {name: _checked_dataset(file, name, *schema[name], len(image)) for name in schema}
            return {name: dataset[()] for name, dataset in found.items()}, _checked_attributes(file)
    except _PARSER_ERRORS as error:
        raise DamagedFile(path, f"not the HDF5 file expected here ({error})") from None


def _checked_dataset(file: h5py.File, name: str, kinds: str, ndim: int, file_bytes: int) -> h5py.Dataset:
    """The dataset, not yet read. Raises ValueError where it is not as `hdf5_bytes` writes it."""
    import h5py

    here = isinstance(file.get(name, getlink=True), h5py.HardLink)
    if not here or file.get(name, getclass=True) is not h5py.Dataset:
        raise ValueError(f"{name!r} is no dataset of this file")
    dataset = file[name]
    if dataset.dtype.kind not in kinds or dataset.ndim != ndim:
        raise ValueError(f"{name!r} is {dataset.dtype} of shape {dataset.shape}, not {kinds} in {ndim}-d")
    made = dataset.id.get_create_plist()
    filters = [made.get_filter(i)[0] for i in range(made.get_nfilters())]
    # External and virtual data have other layouts, and a number format of its own could have any size.
    chunked = made.get_layout() == h5py.h5d.CHUNKED and filters == [h5py.h5z.FILTER_FLETCHER32]
    if not chunked or dataset.id.get_type() != h5py.h5t.py_create(dataset.dtype):
        raise ValueError(f"{name!r} is not stored as plain numbers in checked chunks")
    # Without compression nothing is larger than the file. Less storage than data means missing chunks, which
    # HDF5 would silently fill with zeros.
    claimed = max(dataset.nbytes, math.prod(dataset.chunks) * dataset.dtype.itemsize)
    if claimed > file_bytes or dataset.id.get_storage_size() < dataset.nbytes:
        raise ValueError(f"{name!r} claims more data than the file holds")
    return dataset


def _checked_attributes(file: h5py.File) -> dict[str, str | float]:
    if len(file.attrs) > MAX_ATTRIBUTES:
        raise ValueError(f"it has more than {MAX_ATTRIBUTES} attributes")
    values: dict[str, str | float] = {}
    for name in file.attrs:
        stored = file.attrs.get_id(name)
        small = stored.get_storage_size() <= MAX_ATTRIBUTE_BYTES
        if not small or stored.shape != () or stored.dtype.kind not in "Sif":
            raise ValueError(f"attribute {name!r} is not one text or number")
        value = file.attrs[name]
        values[name] = value.decode("utf-8") if isinstance(value, bytes) else value.item()
    return values


def safetensors_bytes(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> bytes:
    """A safetensors file as bytes; equal content gives equal bytes."""
    import numpy as np
    from safetensors.numpy import save

    # `save` copies memory as it lies, so a transposed array would be stored in the wrong order ...
    raw = save({name: np.asarray(array, order="C") for name, array in tensors.items()}, dict(metadata))
    end = 8 + int.from_bytes(raw[:8], "little")
    # ... and it writes the metadata in a random order. Sorting the header moves no tensor.
    header = json.dumps(json.loads(raw[8:end]), sort_keys=True, separators=(",", ":")).encode("ascii")
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + raw[end:]


def safetensors_metadata(path: AnyPath) -> dict[str, str]:
    """The metadata of a file without its tensors, which are neither read nor checked; DamagedFile on any error."""
    try:
        length = int.from_bytes(read_bytes(path, MAX_ARRAY_BYTES, first=8), "little")
        header = strict_json(read_bytes(path, MAX_ARRAY_BYTES, first=8 + min(length, MAX_HEADER_BYTES))[8:])
        metadata = dict(header.get("__metadata__") or {})
        if not all(isinstance(value, str) for value in metadata.values()):
            raise ValueError("its metadata are not all texts")
        return metadata
    except _PARSER_ERRORS as error:
        raise DamagedFile(path, f"not a safetensors file ({error})") from None


def parse_safetensors(data: bytes, path: AnyPath) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The tensors and metadata in `data`, the content of the file `path`; DamagedFile on any error."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        tensors = load(data)
        header = strict_json(data[8 : 8 + int.from_bytes(data[:8], "little")])
        return dict(sorted(tensors.items())), dict(header.get("__metadata__") or {})
    except (SafetensorError, *_PARSER_ERRORS) as error:
        raise DamagedFile(path, f"not a safetensors file ({error})") from None
