"""Digests of a person's own images, of the training part and of the test part apart. Imports no torch.

What a run computes before its probe depends on the training part alone. So a run that only measures the Initial
Alignment stays the same run when the test part changes, and a probed run names the test part of its accuracy.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dc_hpc.data.custom import DAMAGE, FORMS, image_files, npz_arrays
from dc_hpc.errors import InputError


class PartDigests(NamedTuple):
    """The SHA-256 (64 hex digits) of the two parts of a data set."""

    train: str
    test: str

    def settings(self, *, probed: bool) -> dict[str, str]:
        """The settings of a run on these images: the test part belongs to runs that are probed."""
        return {"train_digest": self.train} | ({"test_digest": self.test} if probed else {})


def part_digests(path: str | Path) -> PartDigests:
    """The digests of the npz, folder or zip that `find_custom_data` found; no time stamp or file order changes them.

    Of an npz: of the shapes, types and values of the arrays of a part, however they are packed. Of a folder or zip: of
    the names (CLASS/FILE, sorted) and bytes of the images of a part, so that a folder and its zip have the same.
    Raises InputError where the files cannot be read.
    """
    path = Path(path)
    if path.suffix == ".npz" and not path.is_dir():
        arrays = npz_arrays(path)
        return PartDigests(*(_of_arrays(part, arrays) for part in ("train", "test")))
    try:
        with image_files(path) as (names, read):
            content = [(name, hashlib.sha256(read(name)).digest()) for name in names]
    except DAMAGE as error:
        raise InputError(f"{path}: cannot be read ({error}); allowed: {FORMS}") from error
    return PartDigests(*(_of_files(part, content) for part in ("train", "test")))


def _of_arrays(part: str, arrays: dict[str, np.ndarray[Any, Any]]) -> str:
    whole = hashlib.sha256()
    for name in ("images", "labels"):
        array = np.ascontiguousarray(arrays[f"{part}_{name}"])
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
        whole.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        whole.update(array.reshape(-1).view(np.uint8).data)
    return whole.hexdigest()


def _of_files(part: str, content: list[tuple[str, bytes]]) -> str:
    whole = hashlib.sha256()
    for name, digest in content:
        if name.startswith(f"{part}/"):
            inside = name.removeprefix(f"{part}/").encode()
            # The name's length and a digest of fixed size: no two folders give the same stream.
            whole.update(b"%d:%b" % (len(inside), inside) + digest)
    return whole.hexdigest()
