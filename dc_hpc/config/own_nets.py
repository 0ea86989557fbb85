"""Nets of one's own in a grid, `net: module:function`: where their file is, and its digest. No line of it is executed.

The file is `module.py` in the folder where the command runs (`folder/module.py` for `folder.module:function`). It is
one file by itself: only this file is part of the run's identity. `function` takes no argument and returns an nn.Module
from images, float32 (n, c, crop, crop), to features (n, D). `experiment/build.py` executes it, where that is allowed.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from dc_hpc.errors import InputError

# pydantic's $ matches only at the very end
PATTERN = r"^[A-Za-z_][A-Za-z0-9_]{0,40}(\.[A-Za-z_][A-Za-z0-9_]{0,40}){0,3}:[A-Za-z_][A-Za-z0-9_]{0,40}$"
_LARGEST = 1 << 20


def is_own_net(net: str) -> bool:
    """Whether the value of `net` names a function of a person's own file."""
    return ":" in net


def source_path(net: str, folder: Path) -> Path:
    """The file of a net of one's own."""
    return folder.joinpath(*net.partition(":")[0].split(".")).with_suffix(".py")


def read_source(net: str, folder: Path) -> bytes:
    """The text of the file of a net; InputError where it is missing or no plain file of at most 1 MiB."""
    path = source_path(net, folder)
    if not path.is_file():
        raise InputError(
            f"net {net}: there is no file {path}; a net of your own is a function of a Python file in the folder where "
            "you start the command",
            key="net",
        )
    if path.stat().st_size > _LARGEST:
        raise InputError(f"net {net}: {path} is larger than 1 MiB; keep only the net in it", key="net")
    return path.read_bytes()


def net_digest(net: str, folder: Path) -> str:
    """SHA-256 of the file of a net of one's own."""
    return hashlib.sha256(read_source(net, folder)).hexdigest()
